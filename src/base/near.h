/* SPDX-License-Identifier: Apache-2.0 */
/* What somebody who mistyped a word may have meant. */
#pragma once

#include "base/mem.h"

/* The nearest of @words (borrowed), or NULL when none is near. */
const char *near_word(const char *given, const struct strv *words);

/* SPDX-License-Identifier: Apache-2.0 */
/* The key of the install cache. */
#pragma once

#include "base/err.h"
#include "wire/spec.h"

/* @box_dir holds the copied file trees of @s. */
int cache_key(const char *box_dir, const struct box_spec *s, char ret[static 65], struct err *err);

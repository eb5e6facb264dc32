/* SPDX-License-Identifier: Apache-2.0 */
/* JSON Schema of what a table reads. */
#pragma once

#include <jansson.h>

#include "kit/fields.h"

/* A document of its own. */
json_t *schema_of(const struct shape *s, const char *title);

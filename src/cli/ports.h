/* SPDX-License-Identifier: Apache-2.0 */
/* Published ports as they are shown. */
#pragma once

#include <jansson.h>

#include "wire/spec.h"

/* Where @p is now on this machine, 0: nowhere. @live: what the supervisor answers, or NULL. */
unsigned ports_where(const json_t *live, const struct spec_port *p);
/* All of them (a new reference). */
json_t *ports_list(const struct box_spec *s, const json_t *live);

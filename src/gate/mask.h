/* SPDX-License-Identifier: Apache-2.0 */
/* The forms in which a server may send a secret value back: as it is, as Base64 (also inside
 * something longer), percent-encoded, and as a string of JSON or text of HTML. A form that a filter
 * masks never reaches the guest. It is a guard against servers that echo what they get, not against
 * one that works for the guest: there are more encodings than anyone can list. */
#pragma once

#include <stddef.h>

#include "gate/filter.h"

#define MASK_MIN 8u /* a shorter value is not masked: it would be found everywhere */

/* Mask all forms of the value in @f. */
void mask_value(struct filter *f, const void *value, size_t len);
/* Append @n bytes as Base64 with padding. */
void mask_base64(struct buf *out, const void *p, size_t n);

/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 (RFC 4648), with padding. */
#pragma once

#include "base/buf.h"

extern const char base64_std[], base64_url[];

/* @digits: one of the two above. */
void base64_put(struct buf *b, const uint8_t *p, size_t n, const char *digits);

/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel module without what only costs time at its insertion. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Append module @ko to @to without those parts. -1 when it is none of a 64-bit little-endian kernel,
 * or @to has no room: @ko itself will have to do. */
int module_slim(const uint8_t *ko, size_t len, struct buf *to);

/* SPDX-License-Identifier: Apache-2.0 */
/* Files into guest memory, read by several threads while their owner goes on. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* [@off, @off + @len) of @fd (borrowed) to @to, which is new memory: zero where the file has a hole. */
struct place_part {
	int fd;
	uint64_t off, len;
	uint8_t *to;
};

struct placer;

/* Begin. The threads end by themselves; place_finish() waits for them. */
struct placer *place_begin(const struct place_part *parts, unsigned n);

/* Help, wait until everything lies in its place, and free @p (taken; NULL is harmless). */
int place_finish(struct placer *p, struct err *err);

/* SPDX-License-Identifier: Apache-2.0 */
/* An address space of the machine (I/O ports, or memory that is not RAM): which device answers where.
 *
 * Filled before the first vCPU runs and only read afterwards, so look-ups need no lock. Handlers run on
 * the vCPU thread that made the access, several at once; each device locks what it shares. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define BUS_DEVS_MAX 64u

struct bus_dev {
	const char *name; /* for the statistics; borrowed, NULL: "?" */
	uint64_t base, len;
	/* @len is 1, 2, 4 or 8, and [@off, @off + @len) lies inside the device. */
	void (*read)(struct bus_dev *d, uint64_t off, void *to, unsigned len);
	void (*write)(struct bus_dev *d, uint64_t off, const void *from, unsigned len);
	_Atomic uint64_t accesses; /* the bus counts: each was an exit of a vCPU */
};

struct bus {
	struct bus_dev *devs[BUS_DEVS_MAX]; /* borrowed; by address, disjoint */
	unsigned n;
};

/* @d must outlive @b. ERR_BUG: the table is full, or @d overlaps another device. */
int bus_add(struct bus *b, struct bus_dev *d, struct err *err);
/* Nobody there: a read gives all ones and a write is lost, as on real hardware. False then. */
bool bus_read(const struct bus *b, uint64_t addr, void *to, unsigned len);
bool bus_write(const struct bus *b, uint64_t addr, const void *from, unsigned len);
/* Who was accessed how often, as " serial=12 power=1", cut to fit. Returns @to. */
char *bus_text(const struct bus *b, char *to, size_t size);

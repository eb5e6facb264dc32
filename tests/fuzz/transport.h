/* SPDX-License-Identifier: Apache-2.0 */
/* What fuzz_mmio.c and fuzz_pci.c share: the drivers' assertions, and what must always be true of a
 * device's negotiation. */
#pragma once

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "virtio/regs.h"

#define assert_true(x)                                                                             \
	do {                                                                                       \
		if (!(x))                                                                          \
			abort();                                                                   \
	} while (0)
#define assert_false(x)              assert_true(!(x))
#define assert_non_null(x)           assert_true((x) != NULL)
#define assert_int_equal(a, b)       assert_true((uint64_t)(a) == (uint64_t)(b))
#define assert_int_not_equal(a, b)   assert_true((uint64_t)(a) != (uint64_t)(b))
#define assert_memory_equal(a, b, n) assert_true(memcmp(a, b, n) == 0)
#define fail()                       abort()

/* Input, consumed from the front; zeros behind its end. */
struct in {
	const uint8_t *p;
	size_t n;
};

static inline uint64_t take(struct in *in, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes && in->n; i++, in->n--)
		v |= (uint64_t)*in->p++ << (8 * i);
	return v;
}

/* The status machine, seen from outside. @was is the status at the last look. */
static inline void check_negotiation(const struct vdev *d, uint8_t *was)
{
	const struct vregs *r = d->transport;
	uint8_t s = r->status;
	bool gone = *was & ~s;

	assert_true(!(s & ~(1 | 2 | 4 | 8 | 64 | 128)));
	assert_true(!(s & 2) || s & 1);
	assert_true(!(s & 8) || s & 2);
	assert_true(!(s & 4) || s & 8);
	assert_int_equal(!!(s & 64), d->broken);
	/* Bits go only in a reset, which is of everything. */
	if (gone)
		assert_int_equal(s, 0);
	if (s & 8)
		assert_true(d->features == r->features && d->features >> 32 == 1);
	else
		assert_int_equal(d->features, 0);
	for (unsigned q = 0; q < d->ops->n_queues; q++) {
		assert_true(!d->vq[q].ready || (s & 4 && r->queues[q].enabled));
		if (s & 4 && !d->broken)
			assert_int_equal(d->vq[q].ready, r->queues[q].enabled);
	}
	*was = s;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Address decoding. */
#include "vmm/bus.h"

#include <stdio.h>
#include <string.h>

int bus_add(struct bus *b, struct bus_dev *d, struct err *err)
{
	unsigned at = 0;

	if (b->n == BUS_DEVS_MAX)
		return err_set(err, ERR_BUG, "too many devices on one bus");
	if (d->len == 0 || d->base + (d->len - 1) < d->base)
		return err_set(err, ERR_BUG, "device at 0x%llx has no extent",
			(unsigned long long)d->base);
	while (at < b->n && b->devs[at]->base < d->base)
		at++;
	if ((at > 0 && d->base - b->devs[at - 1]->base < b->devs[at - 1]->len) ||
		(at < b->n && b->devs[at]->base - d->base < d->len))
		return err_set(err, ERR_BUG, "device at 0x%llx overlaps another",
			(unsigned long long)d->base);
	memmove(&b->devs[at + 1], &b->devs[at], (b->n - at) * sizeof(b->devs[0]));
	b->devs[at] = d;
	b->n++;
	return 0;
}

static struct bus_dev *find(const struct bus *b, uint64_t addr, unsigned len)
{
	unsigned lo = 0, hi = b->n;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (b->devs[mid]->base <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo == 0)
		return NULL;
	/* The whole access belongs to one device or to none. */
	if (addr - b->devs[lo - 1]->base >= b->devs[lo - 1]->len ||
		len > b->devs[lo - 1]->len - (addr - b->devs[lo - 1]->base))
		return NULL;
	atomic_fetch_add_explicit(&b->devs[lo - 1]->accesses, 1, memory_order_relaxed);
	return b->devs[lo - 1];
}

static bool good_width(unsigned len)
{
	return len == 1 || len == 2 || len == 4 || len == 8;
}

bool bus_read(const struct bus *b, uint64_t addr, void *to, unsigned len)
{
	struct bus_dev *d = good_width(len) ? find(b, addr, len) : NULL;

	if (!d) {
		memset(to, 0xff, len);
		return false;
	}
	d->read(d, addr - d->base, to, len);
	return true;
}

bool bus_write(const struct bus *b, uint64_t addr, const void *from, unsigned len)
{
	struct bus_dev *d = good_width(len) ? find(b, addr, len) : NULL;

	if (!d)
		return false;
	d->write(d, addr - d->base, from, len);
	return true;
}

char *bus_text(const struct bus *b, char *to, size_t size)
{
	size_t n = 0;

	to[0] = '\0';
	for (unsigned i = 0; i < b->n; i++) {
		const struct bus_dev *d = b->devs[i];
		uint64_t count = atomic_load_explicit(&d->accesses, memory_order_relaxed);

		if (count && n < size)
			n += (size_t)snprintf(to + n, size - n, " %s=%llu", d->name ? d->name : "?",
				(unsigned long long)count);
	}
	return to;
}

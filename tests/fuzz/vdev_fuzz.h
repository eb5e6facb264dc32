/* SPDX-License-Identifier: Apache-2.0 */
/* A virtio device whose guest memory is the input: rings, descriptors and buffers. First flags, the
 * features that the driver wants, and 4 KiB of memory; then steps that change memory, write the
 * configuration space, stop a queue or reset, with kicks in between, as a guest would do while the
 * device looks on.
 *
 * Queue q has its rings at q * 512: descriptors, then avail (+256) and used (+320), of 16 entries.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/rd.h"
#include "virtio/vdev.h"

#define FUZZ_GPA   0x10000u
#define FUZZ_BYTES (128u << 10)
#define FUZZ_RING  16u

enum { FUZZ_RESET = 0xffff, FUZZ_CONFIG = 0xfffe, FUZZ_STOP = 0xfffd };

struct vdev_fuzz {
	struct vdev *d;
	uint8_t *mem;
	struct gmem gmem;
	bool event_idx;
};

static void fuzz_interrupt(struct vdev *d, unsigned q)
{
}

static void fuzz_start(struct vdev_fuzz *z, unsigned q, uint16_t at)
{
	uint8_t *m = z->mem + q * 512;

	if (!virtq_start(&z->d->vq[q], &z->gmem, FUZZ_RING, m, m + 256, m + 320, at, z->event_idx))
		abort();
}

static void fuzz_kick(struct vdev_fuzz *z)
{
	for (unsigned q = 0; q < z->d->ops->n_queues; q++)
		if (!z->d->broken)
			z->d->ops->kick(z->d, q);
}

static void fuzz_config(struct vdev_fuzz *z, const uint8_t *p, size_t n)
{
	uint8_t got[256];

	if (n < 2)
		return;
	z->d->ops->config_read(z->d, p[0], got, n);
	if (z->d->ops->config_write)
		z->d->ops->config_write(z->d, p[0], p + 1, n - 1);
}

/* Serve @d with the input @in; @after is called after every step. */
static void vdev_fuzz(
	struct vdev *d, struct rd *in, void (*after)(struct vdev *d, void *arg), void *arg)
{
	struct vdev_fuzz z = {.d = d, .mem = aligned_alloc(4096, FUZZ_BYTES)};
	uint64_t features;

	log_init("fuzz", d->ops->name, LOG_ERROR + 1);
	z.event_idx = rd_u8(in) & 1;
	features = d->ops->features & rd_le32(in);
	memset(z.mem, 0, FUZZ_BYTES);
	rd_copy(in, z.mem, MIN(rd_left(in), (size_t)4096));
	if (gmem_add_host(&z.gmem, FUZZ_GPA, FUZZ_BYTES, z.mem, NULL) < 0)
		abort();
	d->interrupt = fuzz_interrupt;
	d->features = features;
	for (unsigned q = 0; q < d->ops->n_queues; q++)
		fuzz_start(&z, q, 0);
	for (unsigned i = 0; i < 100; i++) {
		unsigned at = rd_be16(in), n = rd_u8(in), q = n % d->ops->n_queues;
		const uint8_t *p = rd_bytes(in, n);

		fuzz_kick(&z);
		after(d, arg);
		if (!p)
			break;
		if (at == FUZZ_RESET) {
			vdev_reset(d);
			d->features = features;
			for (q = 0; q < d->ops->n_queues; q++)
				fuzz_start(&z, q, 0);
		} else if (at == FUZZ_STOP && !d->broken) {
			fuzz_start(&z, q, vdev_stop_queue(d, q));
		} else if (at == FUZZ_CONFIG) {
			fuzz_config(&z, p, n);
		} else {
			memcpy(z.mem + at % (FUZZ_BYTES - 256), p, n);
		}
	}
	vdev_reset(d);
	gmem_clear(&z.gmem);
	free(z.mem);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng (virtio 1.2, 5.4): the host's random numbers, at a bounded rate.
 *
 * A guest that asks without end must not keep a CPU of the host busy. A bucket of RNG_BURST bytes
 * fills at RNG_RATE; each request takes what it gets, and COST at least. When the bucket is empty,
 * the queue waits, with kicks off, for a timer. A request may be answered with less than it has
 * room for. */
#include "dev/rng.h"

#include <errno.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"

#define COST    256u /* of the smallest request */
#define WAIT_MS 16u  /* for a quarter of the bucket */

struct rngdev {
	struct vdev dev;
	struct loop *loop; /* borrowed */
	struct loop_timer refill;
	uint64_t bytes;     /* in the bucket */
	uint64_t filled_ns; /* when it was filled last */
	struct virtq_chain chain;
};

static void fill_bucket(struct rngdev *r)
{
	uint64_t now = loop_now(r->loop), ns = MIN(now - r->filled_ns, 1000000000ull);

	r->bytes = MIN(r->bytes + ns * RNG_RATE / 1000000000, (uint64_t)RNG_BURST);
	r->filled_ns = now;
}

/* Fill @len bytes of the chain; returns how many it were. */
static uint32_t fill_chain(const struct virtq_chain *c, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < c->n_in && done < len; i++) {
		size_t part = MIN(c->iov[i].iov_len, len - done), got = 0;

		while (got < part) {
			ssize_t n = getrandom((uint8_t *)c->iov[i].iov_base + got, part - got, 0);

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return (uint32_t)(done + got);
			got += (size_t)n;
		}
		done += part;
	}
	return (uint32_t)done;
}

static void serve_again(struct loop *l, struct loop_timer *t);

static void serve(struct rngdev *r)
{
	struct virtq *vq = &r->dev.vq[0];
	struct virtq_chain *c = &r->chain;

	fill_bucket(r);
	virtq_kicks_off(vq);
	while (r->bytes >= COST) {
		enum virtq_next got = virtq_pop(vq, c);
		uint32_t n;

		if (got == VIRTQ_EMPTY && virtq_kicks_on(vq)) {
			virtq_kicks_off(vq);
			continue;
		}
		if (got == VIRTQ_EMPTY)
			break;
		if (got == VIRTQ_BAD || c->n_out) {
			vdev_break(&r->dev, "malformed request");
			return;
		}
		n = fill_chain(c, MIN(c->in_len, r->bytes));
		r->bytes -= MIN(r->bytes, MAX(n, COST));
		virtq_push(vq, c->head, n);
	}
	if (r->bytes < COST)
		loop_timer_start(r->loop, &r->refill, WAIT_MS, serve_again);
	vdev_flush(&r->dev, 0);
}

static void serve_again(struct loop *l, struct loop_timer *t)
{
	serve(container_of(t, struct rngdev, refill));
}

static void rng_kick(struct vdev *d, unsigned q)
{
	struct rngdev *r = container_of(d, struct rngdev, dev);

	if (!r->refill.due_ns)
		serve(r);
}

static void rng_config_read(struct vdev *d, size_t off, void *to, size_t len)
{
	memset(to, 0, len);
}

static void rng_reset(struct vdev *d)
{
	struct rngdev *r = container_of(d, struct rngdev, dev);

	/* What is left in the bucket stays: a reset is no way to more. */
	loop_timer_stop(r->loop, &r->refill);
}

static const struct vdev_ops rng_ops = {
	.name = "rng",
	.id = VIRTIO_ID_RNG,
	.n_queues = 1,
	.config_read = rng_config_read,
	.kick = rng_kick,
	.reset = rng_reset,
};

struct rngdev *rngdev_new(struct loop *loop)
{
	struct rngdev *r = xcalloc(1, sizeof(*r));

	r->dev.ops = &rng_ops;
	r->loop = loop;
	r->bytes = RNG_BURST;
	r->filled_ns = loop_now(loop);
	return r;
}

void rngdev_free(struct rngdev *r)
{
	if (!r)
		return;
	loop_timer_stop(r->loop, &r->refill);
	free(r);
}

struct vdev *rngdev_vdev(struct rngdev *r)
{
	return &r->dev;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon (virtio 1.2, 5.5): memory that the guest does not need goes back to the host.
 *
 * Inflating lists pages of 4 KiB by number; reporting has free ranges as writable buffers. Both end
 * in gmem_discard(), which takes whole host pages inside one region of guest memory; everything
 * else that the guest names is passed over, since no promise is broken by keeping memory. Deflating
 * costs nothing: a page comes back when it is touched.
 *
 * Queues. The specification numbers them inflate, deflate, statistics, hints, reporting. Linux
 * leaves out those whose feature it has not acknowledged and moves the others up. Hints are not
 * offered, so number 3 can only be reporting, and number 2 is that when there are no statistics. */
#include "dev/balloon.h"

#include <endian.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define F(bit)     (1ull << (bit))
#define PAGE       (1ull << VIRTIO_BALLOON_PFN_SHIFT)
#define LIST_MAX   (16u << 10)  /* bytes of one list of pages; Linux sends 1 KiB */
#define REPORT_MAX (1ull << 40) /* bytes that one report names; Linux: 32 blocks of a few MiB */
#define BURST      4096u        /* pages, or blocks of 64, of one turn */

enum { Q_INFLATE, Q_DEFLATE, Q_STATS, Q_HINT, Q_REPORT, QUEUES };

struct run { /* neighbouring pages */
	uint64_t gpa, len;
};

struct balloon {
	struct vdev dev;
	struct loop *loop; /* borrowed */
	struct loop_timer again;
	_Atomic uint32_t target, actual; /* pages */
	_Atomic uint64_t returned;
	_Atomic uint64_t stats[VIRTIO_BALLOON_S_NR];
	bool stats_held; /* the guest's buffer; giving it back asks for the next one */
	uint16_t stats_head;
	struct virtq_chain chain; /* scratch */
};

/* ---- inflate, deflate, report ---- */

static void discard(struct balloon *b, const struct gmem *m, struct run r)
{
	if (r.len == 0)
		return;
	if (gmem_discard(m, r.gpa, r.len)) {
		b->returned += r.len;
		return;
	}
	/* Not all of it is memory, or it spans regions. */
	for (uint64_t off = 0; r.len > PAGE && off < r.len; off += PAGE)
		if (gmem_discard(m, r.gpa + off, PAGE))
			b->returned += PAGE;
}

/* Add a page to the run, or discard that and begin the next. */
static void add_page(struct balloon *b, const struct gmem *m, struct run *r, uint64_t gpa)
{
	if (gpa == r->gpa + r->len) {
		r->len += PAGE;
	} else if (gpa + PAGE == r->gpa) {
		r->gpa = gpa;
		r->len += PAGE;
	} else {
		discard(b, m, *r);
		*r = (struct run){gpa, PAGE};
	}
}

static bool inflate(struct balloon *b, const struct gmem *m)
{
	const struct virtq_chain *c = &b->chain;
	struct run run = {0};
	uint32_t pfn[256];

	if (c->n_in || c->out_len % sizeof(pfn[0]) || c->out_len > LIST_MAX)
		return false;
	for (size_t off = 0, n; off < c->out_len; off += n) {
		n = virtq_chain_read(c, off, pfn, sizeof(pfn));
		for (size_t i = 0; i < n / sizeof(pfn[0]); i++)
			add_page(b, m, &run, (uint64_t)le32toh(pfn[i]) * PAGE);
	}
	discard(b, m, run);
	return true;
}

static bool deflate(const struct virtq_chain *c)
{
	return !c->n_in && c->out_len % sizeof(uint32_t) == 0 && c->out_len <= LIST_MAX;
}

static bool report(struct balloon *b, const struct gmem *m)
{
	const struct virtq_chain *c = &b->chain;

	if (c->n_out)
		return false;
	for (unsigned i = 0; i < c->n_in; i++)
		if (gmem_discard_ptr(m, c->iov[i].iov_base, c->iov[i].iov_len))
			b->returned += c->iov[i].iov_len;
	return true;
}

static void serve_again(struct loop *l, struct loop_timer *t);

/* A queue whose requests are answered at once. */
static void serve(struct balloon *b, unsigned q)
{
	struct virtq *vq = &b->dev.vq[q];
	size_t work = 0;

	virtq_kicks_off(vq);
	while (work < BURST) {
		enum virtq_next got = virtq_pop(vq, &b->chain);

		if (got == VIRTQ_EMPTY) {
			if (virtq_kicks_on(vq)) {
				virtq_kicks_off(vq);
				continue;
			}
			vdev_flush(&b->dev, q);
			return;
		}
		if (got == VIRTQ_BAD || !(q == Q_INFLATE         ? inflate(b, vq->mem)
						: q == Q_DEFLATE ? deflate(&b->chain)
								 : report(b, vq->mem))) {
			vdev_break(&b->dev, "malformed page list");
			return;
		}
		virtq_push(vq, b->chain.head, 0);
		work += 16 + b->chain.out_len / sizeof(uint32_t) + b->chain.in_len / (64 * PAGE);
	}
	vdev_flush(&b->dev, q);
	loop_timer_start(b->loop, &b->again, 0, serve_again);
}

/* ---- statistics ---- */

static void take_stats(struct balloon *b)
{
	struct virtq *vq = &b->dev.vq[Q_STATS];
	struct virtq_chain *c = &b->chain;
	struct virtio_balloon_stat s;
	enum virtq_next got = b->stats_held ? VIRTQ_EMPTY : virtq_pop(vq, c);

	if (got == VIRTQ_EMPTY)
		return;
	if (got == VIRTQ_BAD || c->n_in || c->out_len > PAGE) {
		vdev_break(&b->dev, "malformed statistics");
		return;
	}
	for (size_t off = 0; virtq_chain_read(c, off, &s, sizeof(s)) == sizeof(s); off += sizeof(s))
		if (le16toh(s.tag) < VIRTIO_BALLOON_S_NR)
			b->stats[le16toh(s.tag)] = le64toh(s.val);
	b->stats_head = c->head;
	b->stats_held = true;
	virtq_kicks_on(vq);
}

void balloon_poll_stats(struct balloon *b)
{
	if (!b->stats_held || b->dev.broken)
		return;
	b->stats_held = false;
	virtq_push(&b->dev.vq[Q_STATS], b->stats_head, 0);
	vdev_flush(&b->dev, Q_STATS);
}

uint64_t balloon_stat(const struct balloon *b, unsigned tag)
{
	return tag < VIRTIO_BALLOON_S_NR ? b->stats[tag] : UINT64_MAX;
}

/* ---- device ---- */

static void balloon_kick(struct vdev *d, unsigned q)
{
	struct balloon *b = container_of(d, struct balloon, dev);

	if (q == Q_STATS && d->features & F(VIRTIO_BALLOON_F_STATS_VQ)) {
		take_stats(b);
		return;
	}
	if (q > Q_DEFLATE) {
		if (!(d->features & F(VIRTIO_BALLOON_F_REPORTING)))
			return;
		d->vq[q].bytes_max = REPORT_MAX;
	}
	serve(b, q);
}

static void serve_again(struct loop *l, struct loop_timer *t)
{
	struct balloon *b = container_of(t, struct balloon, again);

	for (unsigned q = 0; q < QUEUES && !b->dev.broken; q++)
		if (b->dev.vq[q].ready)
			balloon_kick(&b->dev, q);
}

static void balloon_reset(struct vdev *d)
{
	struct balloon *b = container_of(d, struct balloon, dev);

	loop_timer_stop(b->loop, &b->again);
	if (b->stats_held)
		virtq_unpop(&d->vq[Q_STATS]);
	b->stats_held = false;
	for (unsigned q = 0; q < QUEUES; q++)
		d->vq[q].bytes_max = 0;
	/* The guest that begins anew has all of its memory. */
	if (!d->features)
		b->actual = 0;
}

static void balloon_config_read(struct vdev *d, size_t off, void *to, size_t len)
{
	struct balloon *b = container_of(d, struct balloon, dev);
	struct virtio_balloon_config c = {
		.num_pages = htole32(b->target), .actual = htole32(b->actual)};

	memset(to, 0, len);
	if (off < sizeof(c))
		memcpy(to, (const uint8_t *)&c + off, MIN(len, sizeof(c) - off));
}

static void balloon_config_write(struct vdev *d, size_t off, const void *from, size_t len)
{
	const size_t start = offsetof(struct virtio_balloon_config, actual), end = start + 4;
	struct balloon *b = container_of(d, struct balloon, dev);
	uint32_t actual = htole32(b->actual);

	/* Only `actual` is the driver's, in whatever pieces. */
	for (size_t i = start; i < end; i++)
		if (i >= off && i - off < len)
			((uint8_t *)&actual)[i - start] = ((const uint8_t *)from)[i - off];
	b->actual = le32toh(actual);
}

static const struct vdev_ops balloon_ops = {
	.name = "balloon",
	.id = VIRTIO_ID_BALLOON,
	.n_queues = QUEUES,
	.features = F(VIRTIO_BALLOON_F_STATS_VQ) | F(VIRTIO_BALLOON_F_DEFLATE_ON_OOM) |
		    F(VIRTIO_BALLOON_F_REPORTING),
	.config_read = balloon_config_read,
	.config_write = balloon_config_write,
	.kick = balloon_kick,
	.reset = balloon_reset,
};

struct balloon *balloon_new(struct loop *loop)
{
	struct balloon *b = xcalloc(1, sizeof(*b));

	b->dev.ops = &balloon_ops;
	b->loop = loop;
	for (unsigned i = 0; i < VIRTIO_BALLOON_S_NR; i++)
		b->stats[i] = UINT64_MAX;
	return b;
}

void balloon_free(struct balloon *b)
{
	if (!b)
		return;
	loop_timer_stop(b->loop, &b->again);
	free(b);
}

struct vdev *balloon_vdev(struct balloon *b)
{
	return &b->dev;
}

void balloon_set_target(struct balloon *b, uint64_t bytes)
{
	b->target = (uint32_t)MIN(bytes / PAGE, (uint64_t)UINT32_MAX);
	vdev_config_changed(&b->dev);
}

uint64_t balloon_actual(const struct balloon *b)
{
	return b->actual * PAGE;
}

uint64_t balloon_returned(const struct balloon *b)
{
	return b->returned;
}

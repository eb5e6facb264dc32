/* SPDX-License-Identifier: Apache-2.0 */
/* Split virtqueues, device side (virtio 1.2, 2.7).
 *
 * Three arrays in guest memory: descriptors and the avail ring are written by the guest, the used
 * ring by us. The guest runs on while we look, so every ring field is loaded exactly once with an
 * atomic load and only that copy is checked and used.
 *
 * Order. The guest fills descriptors, then publishes avail->idx: our load of it is an acquire. We
 * fill used elements (and the request's data), then publish used->idx: our store is a release.
 *
 * Notifications both ways are the Dekker pattern: "store mine, fence, load theirs". Kicks: we store
 * avail_event (or the flag), then look at avail->idx again. Interrupts: we store used->idx, then
 * look at used_event. Both need a sequentially consistent fence between store and load, or both
 * sides may decide to stay silent.
 *
 * Anything that cannot come from a correct driver makes the queue bad: from then on nothing is
 * popped or pushed until the transport starts it anew. */
#include "virtio/virtq.h"

#include <endian.h>
#include <string.h>

#include "base/mem.h"

#define DESC_F_NEXT          1u
#define DESC_F_WRITE         2u
#define DESC_F_INDIRECT      4u
#define AVAIL_F_NO_INTERRUPT 1u
#define USED_F_NO_NOTIFY     1u

struct desc { /* 2.7.5, all little-endian */
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};
struct avail { /* 2.7.6; after the ring: used_event */
	uint16_t flags, idx, ring[];
};
struct used_elem {
	uint32_t id, len;
};
struct used { /* 2.7.8; after the ring: avail_event */
	uint16_t flags, idx;
	struct used_elem ring[];
};

static uint16_t load16(const uint16_t *p)
{
	return le16toh(__atomic_load_n(p, __ATOMIC_RELAXED));
}

static void store16(uint16_t *p, uint16_t v)
{
	__atomic_store_n(p, htole16(v), __ATOMIC_RELAXED);
}

static uint16_t avail_idx(const struct virtq *q)
{
	const struct avail *a = q->avail;

	return le16toh(__atomic_load_n(&a->idx, __ATOMIC_ACQUIRE));
}

static uint16_t *avail_event(const struct virtq *q)
{
	struct used *u = q->used;

	return (uint16_t *)(void *)&u->ring[q->size];
}

static struct desc load_desc(const struct desc *d)
{
	return (struct desc){
		.addr = le64toh(__atomic_load_n(&d->addr, __ATOMIC_RELAXED)),
		.len = le32toh(__atomic_load_n(&d->len, __ATOMIC_RELAXED)),
		.flags = load16(&d->flags),
		.next = load16(&d->next),
	};
}

static bool misaligned(const void *p, uintptr_t align)
{
	return !p || (uintptr_t)p % align;
}

bool virtq_start(struct virtq *q, const struct gmem *mem, uint16_t size, void *desc, void *avail,
	void *used, uint16_t last_avail, bool event_idx)
{
	if (size == 0 || size > VIRTQ_SIZE_MAX || (size & (size - 1)) || misaligned(desc, 16) ||
		misaligned(avail, 2) || misaligned(used, 4))
		return false;
	q->mem = mem;
	q->size = size;
	q->desc = desc;
	q->avail = avail;
	q->used = used;
	q->last_avail = q->used_idx = q->signalled_used = last_avail;
	q->signalled_valid = false;
	q->event_idx = event_idx;
	q->bad = false;
	q->kicks_wanted = true;
	q->ready = true;
	store16(&((struct used *)used)->flags, 0);
	return true;
}

void virtq_stop(struct virtq *q)
{
	q->ready = false;
	q->bad = false;
	q->mem = NULL;
	q->desc = q->avail = q->used = NULL;
}

static enum virtq_next bad(struct virtq *q)
{
	q->bad = true;
	return VIRTQ_BAD;
}

/* Add one buffer to the chain, or return false when the chain goes over a limit. */
static bool add_segment(const struct virtq *q, struct virtq_chain *c, const struct desc *d)
{
	bool in = d->flags & DESC_F_WRITE;
	size_t *total = in ? &c->in_len : &c->out_len;
	size_t max = q->bytes_max ? q->bytes_max : VIRTQ_BYTES_MAX;
	void *p = gmem_ptr(q->mem, d->addr, d->len);

	if (!p || c->n_out + c->n_in == VIRTQ_IOV_MAX || d->len > max - *total)
		return false;
	/* Readable parts come first (2.7.4.2). */
	if (!in && c->n_in)
		return false;
	c->iov[c->n_out + c->n_in] = (struct iovec){.iov_base = p, .iov_len = d->len};
	if (in)
		c->n_in++;
	else
		c->n_out++;
	*total += d->len;
	return true;
}

/* Follow one descriptor table from @at. An indirect descriptor ends the main table's part and is
 * returned through *ret_indirect (length 0: none); inside an indirect table it is an error. */
static bool walk(const struct virtq *q, struct virtq_chain *c, const struct desc *table, uint32_t n,
	uint32_t at, struct desc *ret_indirect)
{
	/* A chain visits each descriptor once at most: more steps mean a loop. */
	for (uint32_t steps = 0; steps < n; steps++) {
		struct desc d;

		if (at >= n)
			return false;
		d = load_desc(&table[at]);
		if (d.flags & DESC_F_INDIRECT) {
			if (!ret_indirect || (d.flags & DESC_F_NEXT) || d.len == 0)
				return false;
			*ret_indirect = d;
			return true;
		}
		if (!add_segment(q, c, &d))
			return false;
		if (!(d.flags & DESC_F_NEXT))
			return true;
		at = d.next;
	}
	return false;
}

static bool collect(const struct virtq *q, struct virtq_chain *c)
{
	struct desc ind = {0};
	const struct desc *table;

	if (!walk(q, c, q->desc, q->size, c->head, &ind))
		return false;
	if (ind.len == 0)
		return true;
	if (ind.len % sizeof(struct desc) || ind.len / sizeof(struct desc) > UINT16_MAX + 1u)
		return false;
	table = gmem_ptr(q->mem, ind.addr, ind.len);
	/* Linux aligns tables; an odd address would be undefined behaviour here, not in the spec.
	 */
	if (misaligned(table, 8))
		return false;
	return walk(q, c, table, ind.len / sizeof(struct desc), 0, NULL);
}

/* Nothing there: ask for a kick and look once more. True: something came in between. */
static bool rearm(struct virtq *q)
{
	struct used *u = q->used;

	if (q->event_idx)
		store16(avail_event(q), q->last_avail);
	else
		store16(&u->flags, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return avail_idx(q) != q->last_avail;
}

enum virtq_next virtq_pop(struct virtq *q, struct virtq_chain *ret)
{
	const struct avail *a = q->avail;
	uint16_t pending;

	if (q->bad)
		return VIRTQ_BAD;
	if (!q->ready)
		return VIRTQ_EMPTY;
	pending = (uint16_t)(avail_idx(q) - q->last_avail);
	if (pending == 0) {
		if (!q->kicks_wanted || !q->event_idx || !rearm(q))
			return VIRTQ_EMPTY;
		pending = (uint16_t)(avail_idx(q) - q->last_avail);
	}
	if (pending > q->size)
		return bad(q);
	ret->n_out = ret->n_in = 0;
	ret->out_len = ret->in_len = 0;
	ret->head = load16(&a->ring[q->last_avail & (q->size - 1)]);
	if (ret->head >= q->size || !collect(q, ret))
		return bad(q);
	q->last_avail++;
	return VIRTQ_CHAIN;
}

void virtq_unpop(struct virtq *q)
{
	if (q->ready && !q->bad)
		q->last_avail--;
}

void virtq_push_all(struct virtq *q, const uint16_t *heads, const uint32_t *written, unsigned n)
{
	struct used *u = q->used;

	if (!q->ready || q->bad)
		return;
	for (unsigned i = 0; i < n; i++) {
		struct used_elem *e = &u->ring[q->used_idx & (q->size - 1)];

		__atomic_store_n(&e->id, htole32(heads[i]), __ATOMIC_RELAXED);
		__atomic_store_n(&e->len, htole32(written[i]), __ATOMIC_RELAXED);
		q->used_idx++;
	}
	__atomic_store_n(&u->idx, htole16(q->used_idx), __ATOMIC_RELEASE);
	/* After half a lap without a look at used_event the comparison below would be ambiguous. */
	if ((uint16_t)(q->used_idx - q->signalled_used) >= 0x8000)
		q->signalled_valid = false;
}

void virtq_push(struct virtq *q, uint16_t head, uint32_t written)
{
	virtq_push_all(q, &head, &written, 1);
}

bool virtq_should_interrupt(struct virtq *q)
{
	const struct avail *a = q->avail;
	uint16_t old = q->signalled_used, now = q->used_idx, event;
	bool valid = q->signalled_valid;

	if (!q->ready || q->bad)
		return false;
	if (old == now && valid)
		return false;
	q->signalled_used = now;
	q->signalled_valid = true;
	if (old == now)
		return false;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!q->event_idx)
		return !(load16(&a->flags) & AVAIL_F_NO_INTERRUPT);
	event = load16(&a->ring[q->size]);
	/* Did the index pass the one that the guest asked for (2.7.7.2)? */
	return !valid || (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

void virtq_kicks_off(struct virtq *q)
{
	struct used *u = q->used;

	if (!q->ready)
		return;
	q->kicks_wanted = false;
	/* With EVENT_IDX an avail_event left behind is enough. */
	if (!q->event_idx)
		store16(&u->flags, USED_F_NO_NOTIFY);
}

bool virtq_kicks_on(struct virtq *q)
{
	if (!q->ready || q->bad)
		return false;
	q->kicks_wanted = true;
	return rearm(q);
}

/* Copy between @flat and iov[0..n); exactly one of @to and @from is set. */
static size_t copy_iov(const struct iovec *iov, unsigned n, size_t skip, uint8_t *to,
	const uint8_t *from, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		size_t part = iov[i].iov_len;
		uint8_t *seg = iov[i].iov_base;

		if (skip >= part) {
			skip -= part;
			continue;
		}
		part = MIN(part - skip, len - done);
		if (to)
			memcpy(to + done, seg + skip, part);
		else
			memcpy(seg + skip, from + done, part);
		done += part;
		skip = 0;
	}
	return done;
}

size_t virtq_chain_read(const struct virtq_chain *c, size_t skip, void *to, size_t len)
{
	return copy_iov(c->iov, c->n_out, skip, to, NULL, len);
}

size_t virtq_chain_write(const struct virtq_chain *c, size_t skip, const void *from, size_t len)
{
	return copy_iov(c->iov + c->n_out, c->n_in, skip, NULL, from, len);
}

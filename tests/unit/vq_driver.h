/* SPDX-License-Identifier: Apache-2.0 */
/* The driver's side of a split queue, for device tests: fake guest memory and a small virtio
 * driver.
 *
 * Guest physical addresses start at VQD_GPA, so that a host pointer or an offset taken for an
 * address fails at once. */
#pragma once

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/gmem.h"
#include "virtio/virtq.h"

#define VQD_GPA      0x40000000ull
#define VQD_NEXT     1u
#define VQD_WRITE    2u
#define VQD_INDIRECT 4u

struct vqd_mem {
	uint8_t *host; /* owned */
	uint64_t len, used;
	struct gmem gmem;
};

struct vqd_seg {
	uint64_t gpa;
	uint32_t len;
};

struct vqd_desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

struct vqd {
	struct vqd_mem *mem;
	uint16_t size, avail_idx, last_used, n_free;
	uint64_t desc, avail, used; /* guest addresses */
	uint16_t free[VIRTQ_SIZE_MAX];
};

static inline void vqd_mem_init(struct vqd_mem *m, uint64_t len)
{
	*m = (struct vqd_mem){.host = aligned_alloc(4096, len), .len = len};
	memset(m->host, 0, len);
	if (gmem_add_host(&m->gmem, VQD_GPA, len, m->host, NULL) < 0)
		abort();
}

static inline void vqd_mem_done(struct vqd_mem *m)
{
	gmem_clear(&m->gmem);
	free(m->host);
	m->host = NULL;
}

static inline void *vqd_ptr(const struct vqd_mem *m, uint64_t gpa)
{
	return m->host + (gpa - VQD_GPA);
}

/* Guest memory from a bump allocator. */
static inline uint64_t vqd_alloc(struct vqd_mem *m, uint64_t len, uint64_t align)
{
	uint64_t at = (m->used + align - 1) & ~(align - 1);

	if (at + len > m->len)
		abort();
	m->used = at + len;
	return VQD_GPA + at;
}

static inline struct vqd_desc *vqd_desc_at(const struct vqd *d, uint16_t i)
{
	return (struct vqd_desc *)vqd_ptr(d->mem, d->desc) + i;
}

static inline uint16_t *vqd_avail(const struct vqd *d)
{
	return vqd_ptr(d->mem, d->avail); /* flags, idx, ring…, used_event */
}

static inline uint16_t *vqd_used(const struct vqd *d)
{
	return vqd_ptr(d->mem, d->used); /* flags, idx, then pairs of u32 */
}

static inline void vqd_init(struct vqd *d, struct vqd_mem *m, uint16_t size)
{
	*d = (struct vqd){.mem = m, .size = size, .n_free = size};
	d->desc = vqd_alloc(m, virtq_desc_bytes(size), 16);
	d->avail = vqd_alloc(m, virtq_avail_bytes(size), 2);
	d->used = vqd_alloc(m, virtq_used_bytes(size), 4);
	for (uint16_t i = 0; i < size; i++)
		d->free[i] = (uint16_t)(size - 1 - i);
}

/* Start the device's side of the queue on this ring. */
static inline bool vqd_start(struct vqd *d, struct virtq *q, bool event_idx)
{
	const struct vqd_mem *m = d->mem;

	return virtq_start(q, &m->gmem, d->size, vqd_ptr(m, d->desc), vqd_ptr(m, d->avail),
		vqd_ptr(m, d->used), 0, event_idx);
}

/* Make the chain that starts at @head available, whatever it holds. */
static inline void vqd_publish(struct vqd *d, uint16_t head)
{
	uint16_t *a = vqd_avail(d);

	a[2 + (d->avail_idx & (d->size - 1))] = head;
	d->avail_idx++;
	__atomic_store_n(&a[1], d->avail_idx, __ATOMIC_SEQ_CST);
}

/* Queue a request of @n_out readable, then @n_in writable segments. The head, or -1 when the queue
 * is full. */
static inline int vqd_add(struct vqd *d, const struct vqd_seg *segs, unsigned n_out, unsigned n_in)
{
	unsigned n = n_out + n_in;
	uint16_t head = 0, at = 0;

	if (n == 0 || n > d->n_free)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		struct vqd_desc *e;

		if (i == 0)
			head = at = d->free[--d->n_free];
		e = vqd_desc_at(d, at);
		*e = (struct vqd_desc){
			.addr = segs[i].gpa,
			.len = segs[i].len,
			.flags = (uint16_t)(i >= n_out ? VQD_WRITE : 0),
		};
		if (i + 1 < n) {
			at = d->free[--d->n_free];
			e->flags |= VQD_NEXT;
			e->next = at;
		}
	}
	vqd_publish(d, head);
	return head;
}

/* The next finished request, or -1. Its descriptors are free again. */
static inline int vqd_get_used(struct vqd *d, uint32_t *ret_len)
{
	uint16_t *u = vqd_used(d);
	uint32_t pair[2];
	uint16_t at;

	if (__atomic_load_n(&u[1], __ATOMIC_SEQ_CST) == d->last_used)
		return -1;
	memcpy(pair, (uint8_t *)u + 4 + 8 * (d->last_used & (d->size - 1)), sizeof(pair));
	d->last_used++;
	if (ret_len)
		*ret_len = pair[1];
	if (pair[0] >= d->size)
		abort();
	at = (uint16_t)pair[0];
	while (vqd_desc_at(d, at)->flags & VQD_NEXT) {
		d->free[d->n_free++] = at;
		at = vqd_desc_at(d, at)->next;
	}
	d->free[d->n_free++] = at;
	return (int)pair[0];
}

/* EVENT_IDX fields: what the driver writes, and what the device wrote. */
static inline void vqd_set_used_event(struct vqd *d, uint16_t v)
{
	__atomic_store_n(&vqd_avail(d)[2 + d->size], v, __ATOMIC_SEQ_CST);
}

static inline uint16_t vqd_avail_event(const struct vqd *d)
{
	return __atomic_load_n(&vqd_used(d)[2 + 4 * d->size], __ATOMIC_SEQ_CST);
}

/* How many descriptors this process has open. */
static inline unsigned vqd_open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	closedir(d);
	return n;
}

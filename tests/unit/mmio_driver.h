/* SPDX-License-Identifier: Apache-2.0 */
/* A driver for virtio-mmio that goes the way of Linux, with the machine that it runs on: one toy
 * device. The assert_ macros are the includer's. */
#pragma once

#include "fake_hv.h"
#include "vmm/mmio.h"

#ifndef RIG_MEM
#define RIG_MEM (4u << 20) /* bytes of guest memory */
#endif
#define BASE 0xd0000000ull
#define LINE 5u

enum {
	R_DEVICE_FEATURES = 0x10,
	R_DEVICE_SEL = 0x14,
	R_DRIVER_FEATURES = 0x20,
	R_DRIVER_SEL = 0x24,
	R_QUEUE_SEL = 0x30,
	R_NUM_MAX = 0x34,
	R_NUM = 0x38,
	R_READY = 0x44,
	R_NOTIFY = 0x50,
	R_INT = 0x60,
	R_ACK = 0x64,
	R_STATUS = 0x70,
	R_DESC = 0x80,
	R_AVAIL = 0x90,
	R_USED = 0xa0,
	R_SHM_LEN = 0xb0,
	R_GENERATION = 0xfc,
	R_CONFIG = 0x100,
};

struct rig {
	struct hv hv;
	struct toy toy;
	struct loop *loop;
	struct loop_caller *caller;
	struct vqd_mem mem;
	struct vqd drv[2];
	struct mmio *m;
};

static inline void rig_init(struct rig *r)
{
	struct vregs_config c = {.dev = &r->toy.dev, .mem = &r->mem.gmem};

	*r = (struct rig){.toy = {.dev = {.ops = &toy_ops}, .config = "Hutch!"}};
	fake_hv_init(&r->hv);
	vqd_mem_init(&r->mem, RIG_MEM);
	c.loop = r->loop = loop_new(NULL);
	c.caller = r->caller = loop_caller_new(r->loop, NULL);
	c.mem = &r->mem.gmem;
	r->m = mmio_new(&r->hv, BASE, LINE, &c, NULL);
	assert_non_null(r->m);
	assert_int_equal(bus_add(&r->hv.memory, mmio_bus_dev(r->m), NULL), 0);
	/* This thread serves the loop, unless a test gives it to another one. */
	assert_int_equal(loop_once(r->loop, 0, NULL), 0);
}

static inline void rig_done(struct rig *r)
{
	mmio_free(r->m);
	assert_int_equal(r->hv.n_bells, 0);
	loop_caller_free(r->caller);
	loop_free(r->loop);
	vqd_mem_done(&r->mem);
	fake_hv_done(&r->hv);
}

static inline uint32_t get(struct rig *r, unsigned reg)
{
	return (uint32_t)guest_read(&r->hv, BASE + reg, 4);
}

static inline void set(struct rig *r, unsigned reg, uint32_t v)
{
	guest_write(&r->hv, BASE + reg, 4, v);
}

static inline void turn(struct rig *r)
{
	for (int i = 0; i < 3; i++)
		assert_int_equal(loop_once(r->loop, 0, NULL), 0);
}

/* ---- the driver, in the order of Linux's virtio core and virtio_mmio.c ---- */

static inline void add_status(struct rig *r, uint8_t bit)
{
	set(r, R_STATUS, get(r, R_STATUS) | bit);
}

static inline void driver_reset(struct rig *r)
{
	set(r, R_STATUS, 0);
	assert_int_equal(get(r, R_STATUS), 0);
}

static inline uint64_t driver_features(struct rig *r)
{
	uint64_t f;

	set(r, R_DEVICE_SEL, 1);
	f = (uint64_t)get(r, R_DEVICE_FEATURES) << 32;
	set(r, R_DEVICE_SEL, 0);
	return f | get(r, R_DEVICE_FEATURES);
}

static inline void driver_accept(struct rig *r, uint64_t f)
{
	set(r, R_DRIVER_SEL, 1);
	set(r, R_DRIVER_FEATURES, (uint32_t)(f >> 32));
	set(r, R_DRIVER_SEL, 0);
	set(r, R_DRIVER_FEATURES, (uint32_t)f);
}

static inline void driver_queue_at(
	struct rig *r, unsigned q, uint32_t size, uint64_t desc, uint64_t avail, uint64_t used)
{
	set(r, R_QUEUE_SEL, q);
	assert_int_equal(get(r, R_READY), 0);
	assert_int_equal(get(r, R_NUM_MAX), 256);
	set(r, R_NUM, size);
	set(r, R_DESC, (uint32_t)desc);
	set(r, R_DESC + 4, (uint32_t)(desc >> 32));
	set(r, R_AVAIL, (uint32_t)avail);
	set(r, R_AVAIL + 4, (uint32_t)(avail >> 32));
	set(r, R_USED, (uint32_t)used);
	set(r, R_USED + 4, (uint32_t)(used >> 32));
	set(r, R_READY, 1);
}

static inline void driver_queue(struct rig *r, unsigned q)
{
	struct vqd *d = &r->drv[q];

	vqd_init(d, &r->mem, 256);
	driver_queue_at(r, q, d->size, d->desc, d->avail, d->used);
}

/* Everything up to FEATURES_OK. */
static inline void driver_begin(struct rig *r, uint64_t drop)
{
	assert_int_equal(get(r, 0), 0x74726976);
	assert_int_equal(get(r, 4), 2);
	assert_int_equal(get(r, 8), 42);
	assert_int_not_equal(get(r, 12), 0);
	driver_reset(r);
	add_status(r, 1);
	add_status(r, 2);
	driver_accept(r, driver_features(r) & ~drop);
	add_status(r, 8);
	assert_int_equal(get(r, R_STATUS), 11);
}

static inline void driver_probe(struct rig *r, uint64_t drop)
{
	driver_begin(r, drop);
	for (unsigned q = 0; q < 2; q++)
		driver_queue(r, q);
	add_status(r, 4);
	assert_int_equal(get(r, R_STATUS), 15);
}

/* The interrupt handler: what INTERRUPT_STATUS said, 0 when no interrupt came. */
static inline uint32_t driver_irq(struct rig *r)
{
	uint32_t why;

	if (!take_event(r->hv.lines[LINE]))
		return 0;
	why = get(r, R_INT);
	set(r, R_ACK, why);
	return why;
}

/* Make one request available; nobody is kicked. */
static inline uint64_t driver_add(struct rig *r, unsigned q, const char *text)
{
	uint32_t n = (uint32_t)strlen(text);
	struct vqd_seg s[2] = {
		{vqd_alloc(&r->mem, n, 1), n},
		{vqd_alloc(&r->mem, n, 1), n},
	};

	memcpy(vqd_ptr(&r->mem, s[0].gpa), text, n);
	assert_int_not_equal(vqd_add(&r->drv[q], s, 1, 1), -1);
	return s[1].gpa;
}

static inline void request(struct rig *r, unsigned q)
{
	uint64_t to = driver_add(r, q, "hello");
	uint32_t len;

	vqd_set_used_event(&r->drv[q], r->drv[q].last_used);
	set(r, R_NOTIFY, q);
	turn(r);
	assert_int_equal(driver_irq(r), 1);
	assert_int_not_equal(vqd_get_used(&r->drv[q], &len), -1);
	assert_int_equal(len, 5);
	assert_memory_equal(vqd_ptr(&r->mem, to), "HELLO", 5);
}

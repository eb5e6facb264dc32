/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory and split queues against a small driver, well-behaved and hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "vq_driver.h"

struct rig {
	struct vqd_mem mem;
	struct vqd drv;
	struct virtq q;
};

static void rig_init(struct rig *r, uint16_t size, bool event_idx)
{
	*r = (struct rig){0};
	vqd_mem_init(&r->mem, 16 << 20);
	vqd_init(&r->drv, &r->mem, size);
	assert_true(vqd_start(&r->drv, &r->q, event_idx));
}

static void rig_done(struct rig *r)
{
	vqd_mem_done(&r->mem);
}

/* ---- guest memory ---- */

static void test_gmem_bounds(void **state)
{
	static uint8_t a[4096], b[4096];
	struct gmem m = {0};
	struct err err;
	const struct {
		uint64_t gpa, len;
		void *want;
	} cases[] = {
		{0x1000, 1, a},
		{0x1000, 4096, a},
		{0x1000, 4097, NULL}, /* runs into the neighbour */
		{0x1fff, 1, a + 0xfff},
		{0x1fff, 2, NULL}, /* crosses regions although they touch */
		{0x2000, 4096, b},
		{0x2fff, 1, b + 0xfff},
		{0x3000, 1, NULL},
		{0xfff, 1, NULL},
		{0xfff, 2, NULL},
		{0x1000, 0, NULL},
		{0x1000, UINT64_MAX, NULL},
		{UINT64_MAX, 2, NULL},
		{UINT64_MAX - 0xfff, 0x2000, NULL}, /* wraps round into the region */
		{0, UINT64_MAX, NULL},
	};

	assert_int_equal(gmem_add_host(&m, 0x1000, 4096, a, &err), 0);
	assert_int_equal(gmem_add_host(&m, 0x2000, 4096, b, &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_ptr_equal(gmem_ptr(&m, cases[i].gpa, cases[i].len), cases[i].want);
	/* No region here has a front-end address. */
	assert_null(gmem_ptr_uva(&m, 0, 1));
	assert_null(gmem_ptr_uva(&m, 0x1000, 1));
	/* Overlap, wrap, emptiness and too many are refused. */
	assert_int_equal(gmem_add_host(&m, 0x2fff, 1, a, &err), -1);
	assert_int_equal(gmem_add_host(&m, 0x800, 0x10000, a, &err), -1);
	assert_int_equal(gmem_add_host(&m, UINT64_MAX, 2, a, &err), -1);
	assert_int_equal(gmem_add_host(&m, 0x9000, 0, a, &err), -1);
	for (uint64_t i = 2; i < GMEM_REGIONS_MAX; i++)
		assert_int_equal(gmem_add_host(&m, 0x100000 * i, 16, a, &err), 0);
	assert_int_equal(gmem_add_host(&m, 0x5000, 16, a, &err), -1);
	gmem_clear(&m);
	assert_null(gmem_ptr(&m, 0x1000, 1));
}

static void test_gmem_fd(void **state)
{
	int fd = memfd_create("guest", MFD_CLOEXEC), other = memfd_create("other", MFD_CLOEXEC);
	struct gmem m = {0}, n = {0};
	struct err err;
	uint8_t *p;

	assert_int_equal(ftruncate(fd, 3 * 4096), 0);
	assert_int_equal(ftruncate(other, 3 * 4096), 0);
	assert_int_equal(pwrite(fd, "hutch", 5, 0x1234), 5);
	/* An offset in the middle of a page works. */
	assert_int_equal(gmem_add_fd(&m, 0x100000, 0x1000, 0x7f0000000000, fd, 0x1230, &err), 0);
	assert_memory_equal(gmem_ptr(&m, 0x100004, 5), "hutch", 5);
	assert_ptr_equal(gmem_ptr_uva(&m, 0x7f0000000004, 5), gmem_ptr(&m, 0x100004, 5));
	assert_null(gmem_ptr_uva(&m, 0x7f0000000fff, 2));
	/* Beyond the end of the file lies SIGBUS. */
	assert_int_equal(gmem_add_fd(&m, 0x200000, 0x1000, 0, fd, 0x2001, &err), -1);
	assert_int_equal(gmem_add_fd(&m, 0x200000, 0x1000, 0, fd, UINT64_MAX - 0x800, &err), -1);
	assert_int_equal(gmem_add_fd(&m, 0x200000, UINT64_MAX / 4, 0, fd, 0, &err), -1);
	/* The same region moves over with its pointer; a different file or offset does not. */
	p = gmem_ptr(&m, 0x100000, 1);
	assert_false(gmem_adopt(&n, &m, 0x100000, 0x1000, 0x7f0000000000, other, 0x1230));
	assert_false(gmem_adopt(&n, &m, 0x100000, 0x1000, 0x7f0000000000, fd, 0x1000));
	assert_false(gmem_adopt(&n, &m, 0x100000, 0x800, 0x7f0000000000, fd, 0x1230));
	assert_true(gmem_adopt(&n, &m, 0x100000, 0x1000, 0x7f0000000000, fd, 0x1230));
	assert_int_equal(m.n, 0);
	assert_ptr_equal(gmem_ptr(&n, 0x100000, 1), p);
	gmem_clear(&m);
	assert_memory_equal(gmem_ptr(&n, 0x100004, 5), "hutch", 5);
	gmem_clear(&n);
	close(fd);
	close(other);
}

/* ---- well-behaved driver ---- */

static void test_start(void **state)
{
	static _Alignas(4096) uint8_t ring[65536];
	struct gmem m = {0};
	struct virtq q = {0};

	assert_true(virtq_start(&q, &m, 256, ring, ring + 4096, ring + 8192, 0, false));
	assert_true(virtq_start(&q, &m, 1, ring, ring + 4096, ring + 8192, 0, false));
	assert_true(
		virtq_start(&q, &m, VIRTQ_SIZE_MAX, ring, ring + 32768, ring + 40960, 0, false));
	assert_false(virtq_start(&q, &m, 0, ring, ring + 4096, ring + 8192, 0, false));
	assert_false(virtq_start(&q, &m, 255, ring, ring + 4096, ring + 8192, 0, false));
	assert_false(virtq_start(&q, &m, 2048, ring, ring + 4096, ring + 8192, 0, false));
	assert_false(virtq_start(&q, &m, 256, ring + 8, ring + 4096, ring + 8192, 0, false));
	assert_false(virtq_start(&q, &m, 256, ring, ring + 4097, ring + 8192, 0, false));
	assert_false(virtq_start(&q, &m, 256, ring, ring + 4096, ring + 8194, 0, false));
	assert_false(virtq_start(&q, &m, 256, NULL, ring + 4096, ring + 8192, 0, false));
	virtq_stop(&q);
	assert_int_equal(virtq_pop(&q, &(struct virtq_chain){0}), VIRTQ_EMPTY);
	virtq_push(&q, 0, 0); /* must not touch anything */
	assert_false(virtq_should_interrupt(&q));
	assert_false(virtq_kicks_on(&q));
}

/* Several laps around a small ring with direct chains; data flows both ways. */
static void test_round_trip(void **state)
{
	struct rig r;
	struct virtq_chain c;
	uint64_t out, in;

	rig_init(&r, 8, false);
	out = vqd_alloc(&r.mem, 64, 1);
	in = vqd_alloc(&r.mem, 64, 1);
	for (unsigned i = 0; i < 70000; i++) {
		const struct vqd_seg segs[] = {{out, 3}, {out + 3, 10}, {in, 1}, {in + 1, 20}};
		uint8_t buf[64] = {0};
		uint32_t len = 0;
		int head;

		snprintf(vqd_ptr(&r.mem, out), 64, "%013u", i);
		head = vqd_add(&r.drv, segs, 2, 2);
		assert_true(head >= 0);
		assert_int_equal(virtq_pop(&r.q, &c), VIRTQ_CHAIN);
		assert_int_equal(c.head, head);
		assert_int_equal(c.n_out, 2);
		assert_int_equal(c.n_in, 2);
		assert_int_equal(c.out_len, 13);
		assert_int_equal(c.in_len, 21);
		assert_int_equal(virtq_chain_read(&c, 0, buf, sizeof(buf)), 13);
		assert_int_equal(strtoul((char *)buf, NULL, 10), i);
		assert_int_equal(virtq_chain_read(&c, 2, buf, 4), 4);
		assert_memory_equal(buf, (char *)vqd_ptr(&r.mem, out) + 2, 4);
		assert_int_equal(virtq_chain_read(&c, 13, buf, 4), 0);
		assert_int_equal(virtq_chain_write(&c, 0, "abcde", 5), 5);
		assert_int_equal(virtq_chain_write(&c, 19, "xyz", 3), 2);
		virtq_push(&r.q, c.head, 21);
		assert_int_equal(vqd_get_used(&r.drv, &len), head);
		assert_int_equal(len, 21);
		assert_memory_equal(vqd_ptr(&r.mem, in), "abcde", 5);
		assert_memory_equal((char *)vqd_ptr(&r.mem, in) + 19, "xy", 2);
		assert_int_equal(virtq_pop(&r.q, &c), VIRTQ_EMPTY);
	}
	rig_done(&r);
}

static void test_unpop(void **state)
{
	struct rig r;
	struct virtq_chain c;
	struct vqd_seg seg;
	int a, b;

	rig_init(&r, 4, true);
	seg = (struct vqd_seg){vqd_alloc(&r.mem, 8, 8), 8};
	a = vqd_add(&r.drv, &seg, 1, 0);
	b = vqd_add(&r.drv, &seg, 1, 0);
	assert_int_equal(virtq_pop(&r.q, &c), VIRTQ_CHAIN);
	virtq_unpop(&r.q);
	assert_int_equal(virtq_pop(&r.q, &c), VIRTQ_CHAIN);
	assert_int_equal(c.head, a);
	assert_int_equal(virtq_pop(&r.q, &c), VIRTQ_CHAIN);
	assert_int_equal(c.head, b);
	assert_int_equal(virtq_pop(&r.q, &c), VIRTQ_EMPTY);
	/* Out of order is the device's right. */
	virtq_push(&r.q, (uint16_t)b, 2);
	virtq_push(&r.q, (uint16_t)a, 1);
	assert_int_equal(vqd_get_used(&r.drv, NULL), b);
	assert_int_equal(vqd_get_used(&r.drv, NULL), a);
	rig_done(&r);
}

/* An indirect table of @n descriptors; the last one is writable. Returns its guest address. */
static uint64_t indirect_table(struct rig *r, unsigned n, uint64_t data, uint32_t len)
{
	uint64_t at = vqd_alloc(&r->mem, n * sizeof(struct vqd_desc), 16);
	struct vqd_desc *t = vqd_ptr(&r->mem, at);

	for (unsigned i = 0; i < n; i++)
		t[i] = (struct vqd_desc){
			.addr = data,
			.len = len,
			.flags = (uint16_t)(i + 1 < n ? VQD_NEXT : VQD_WRITE),
			.next = (uint16_t)(i + 1),
		};
	return at;
}

static void test_indirect(void **state)
{
	struct rig r;
	struct virtq_chain c;
	uint64_t data;

	rig_init(&r, 4, true);
	data = vqd_alloc(&r.mem, 64, 8);
	*vqd_desc_at(&r.drv, 0) = (struct vqd_desc){
		.addr = indirect_table(&r, VIRTQ_IOV_MAX, data, 16),
		.len = VIRTQ_IOV_MAX * sizeof(struct vqd_desc),
		.flags = VQD_INDIRECT,
	};
	vqd_publish(&r.drv, 0);
	assert_int_equal(virtq_pop(&r.q, &c), VIRTQ_CHAIN);
	assert_int_equal(c.n_out, VIRTQ_IOV_MAX - 1);
	assert_int_equal(c.n_in, 1);
	assert_int_equal(c.out_len, (VIRTQ_IOV_MAX - 1) * 16);
	virtq_push(&r.q, 0, 0);
	/* A direct descriptor followed by an indirect one (2.7.5.3.2). */
	*vqd_desc_at(&r.drv, 1) =
		(struct vqd_desc){.addr = data, .len = 5, .flags = VQD_NEXT, .next = 2};
	*vqd_desc_at(&r.drv, 2) = (struct vqd_desc){
		.addr = indirect_table(&r, 3, data, 7), .len = 48, .flags = VQD_INDIRECT};
	vqd_publish(&r.drv, 1);
	assert_int_equal(virtq_pop(&r.q, &c), VIRTQ_CHAIN);
	assert_int_equal(c.n_out, 3);
	assert_int_equal(c.out_len, 5 + 7 + 7);
	assert_int_equal(c.in_len, 7);
	rig_done(&r);
}

/* ---- hostile driver ---- */

enum spoil {
	SP_LOOP,
	SP_NEXT_OUTSIDE,
	SP_HEAD_OUTSIDE,
	SP_ADDR_OUTSIDE,
	SP_ADDR_WRAPS,
	SP_LEN_TOO_LONG,
	SP_LEN_ZERO,
	SP_WRITE_THEN_READ,
	SP_INDEX_JUMP,
	SP_INDEX_BACK,
	SP_BYTES,
	SP_IND_NEXT,
	SP_IND_EMPTY,
	SP_IND_ODD_LEN,
	SP_IND_OUTSIDE,
	SP_IND_MISALIGNED,
	SP_IND_NESTED,
	SP_IND_LOOP,
	SP_IND_NEXT_OUTSIDE,
	SP_IND_TOO_MANY,
	SP_IND_HUGE,
	SP_COUNT,
};

static void spoil(struct rig *r, enum spoil how, uint64_t data)
{
	struct vqd_desc *d = vqd_desc_at(&r->drv, 0), *t;
	uint64_t table = indirect_table(r, 4, data, 8);

	t = vqd_ptr(&r->mem, table);
	*d = (struct vqd_desc){.addr = data, .len = 8};
	switch (how) {
	case SP_LOOP:
		*d = (struct vqd_desc){.addr = data, .len = 8, .flags = VQD_NEXT, .next = 1};
		d[1] = (struct vqd_desc){.addr = data, .len = 8, .flags = VQD_NEXT, .next = 0};
		break;
	case SP_NEXT_OUTSIDE:
		*d = (struct vqd_desc){.addr = data, .len = 8, .flags = VQD_NEXT, .next = 8};
		break;
	case SP_HEAD_OUTSIDE:
		vqd_publish(&r->drv, 8);
		return;
	case SP_ADDR_OUTSIDE:
		d->addr = VQD_GPA - 8;
		break;
	case SP_ADDR_WRAPS:
		d->addr = UINT64_MAX - 3;
		break;
	case SP_LEN_TOO_LONG:
		d->addr = VQD_GPA + r->mem.len - 7;
		break;
	case SP_LEN_ZERO:
		d->len = 0;
		break;
	case SP_WRITE_THEN_READ:
		d->flags = VQD_WRITE | VQD_NEXT;
		d->next = 1;
		d[1] = (struct vqd_desc){.addr = data, .len = 8};
		break;
	case SP_INDEX_JUMP:
		vqd_publish(&r->drv, 0);
		vqd_avail(&r->drv)[1] = 9;
		return;
	case SP_INDEX_BACK:
		vqd_avail(&r->drv)[1] = UINT16_MAX;
		return;
	case SP_BYTES:
		d->len = VIRTQ_BYTES_MAX;
		d->addr = VQD_GPA;
		d->flags = VQD_NEXT;
		d->next = 1;
		d[1] = (struct vqd_desc){.addr = data, .len = 1};
		break;
	case SP_IND_NEXT:
		*d = (struct vqd_desc){table, 64, VQD_INDIRECT | VQD_NEXT, 1};
		d[1] = (struct vqd_desc){.addr = data, .len = 8};
		break;
	case SP_IND_EMPTY:
		*d = (struct vqd_desc){table, 0, VQD_INDIRECT, 0};
		break;
	case SP_IND_ODD_LEN:
		*d = (struct vqd_desc){table, 63, VQD_INDIRECT, 0};
		break;
	case SP_IND_OUTSIDE:
		*d = (struct vqd_desc){VQD_GPA + r->mem.len - 48, 64, VQD_INDIRECT, 0};
		break;
	case SP_IND_MISALIGNED:
		*d = (struct vqd_desc){table + 1, 48, VQD_INDIRECT, 0};
		break;
	case SP_IND_NESTED:
		*d = (struct vqd_desc){table, 64, VQD_INDIRECT, 0};
		t[1] = (struct vqd_desc){table, 64, VQD_INDIRECT, 0};
		break;
	case SP_IND_LOOP:
		*d = (struct vqd_desc){table, 64, VQD_INDIRECT, 0};
		t[2].next = 0;
		break;
	case SP_IND_NEXT_OUTSIDE: /* what lies behind the table looks fine */
		t = vqd_ptr(&r->mem, table = indirect_table(r, 5, data, 8));
		*d = (struct vqd_desc){table, 64, VQD_INDIRECT, 0};
		t[2].next = 4;
		break;
	case SP_IND_TOO_MANY:
		table = indirect_table(r, VIRTQ_IOV_MAX + 1, data, 8);
		*d = (struct vqd_desc){table, (VIRTQ_IOV_MAX + 1) * sizeof(*t), VQD_INDIRECT, 0};
		break;
	case SP_IND_HUGE:
		*d = (struct vqd_desc){VQD_GPA, 2u << 20, VQD_INDIRECT, 0};
		break;
	case SP_COUNT:
		break;
	}
	vqd_publish(&r->drv, 0);
}

static void test_hostile(void **state)
{
	for (enum spoil how = 0; how < SP_COUNT; how++) {
		struct rig r;
		struct virtq_chain c;
		uint16_t used;

		rig_init(&r, 8, how & 1);
		spoil(&r, how, vqd_alloc(&r.mem, 64, 8));
		if (virtq_pop(&r.q, &c) != VIRTQ_BAD)
			fail_msg("case %d was accepted", how);
		/* Dead until started anew: nothing is popped, pushed or signalled. */
		assert_int_equal(virtq_pop(&r.q, &c), VIRTQ_BAD);
		used = vqd_used(&r.drv)[1];
		virtq_push(&r.q, 0, 0);
		assert_int_equal(vqd_used(&r.drv)[1], used);
		assert_false(virtq_should_interrupt(&r.q));
		virtq_unpop(&r.q);
		virtq_kicks_off(&r.q);
		assert_false(virtq_kicks_on(&r.q));
		memset(vqd_avail(&r.drv), 0, 4);
		assert_true(vqd_start(&r.drv, &r.q, false));
		assert_int_equal(virtq_pop(&r.q, &c), VIRTQ_EMPTY);
		rig_done(&r);
	}
}

/* ---- notifications ---- */

static void push_one(struct rig *r, const struct vqd_seg *seg)
{
	struct virtq_chain c;

	assert_true(vqd_add(&r->drv, seg, 1, 0) >= 0);
	assert_int_equal(virtq_pop(&r->q, &c), VIRTQ_CHAIN);
	virtq_push(&r->q, c.head, 0);
	assert_true(vqd_get_used(&r->drv, NULL) >= 0);
}

static void test_interrupt_flag(void **state)
{
	struct rig r;
	struct vqd_seg seg;

	rig_init(&r, 8, false);
	seg = (struct vqd_seg){vqd_alloc(&r.mem, 8, 8), 8};
	assert_false(virtq_should_interrupt(&r.q)); /* nothing was pushed */
	push_one(&r, &seg);
	assert_true(virtq_should_interrupt(&r.q));
	assert_false(virtq_should_interrupt(&r.q)); /* said already */
	vqd_avail(&r.drv)[0] = 1;                   /* NO_INTERRUPT */
	push_one(&r, &seg);
	assert_false(virtq_should_interrupt(&r.q));
	vqd_avail(&r.drv)[0] = 0;
	push_one(&r, &seg);
	assert_true(virtq_should_interrupt(&r.q));
	rig_done(&r);
}

static void test_interrupt_event_idx(void **state)
{
	struct rig r;
	struct vqd_seg seg;

	rig_init(&r, 8, true);
	seg = (struct vqd_seg){vqd_alloc(&r.mem, 8, 8), 8};
	push_one(&r, &seg);
	assert_true(virtq_should_interrupt(&r.q)); /* the first is always said */
	vqd_set_used_event(&r.drv, 3);
	push_one(&r, &seg);
	assert_false(virtq_should_interrupt(&r.q)); /* used 2 */
	push_one(&r, &seg);
	assert_false(virtq_should_interrupt(&r.q)); /* used 3: index 2 was the last */
	push_one(&r, &seg);
	assert_true(virtq_should_interrupt(&r.q)); /* index 3 passed */
	push_one(&r, &seg);
	assert_false(virtq_should_interrupt(&r.q));
	/* A batch that passes the event signals once, also across the wrap of the index. */
	while (r.q.used_idx != 65530)
		push_one(&r, &seg);
	virtq_should_interrupt(&r.q);
	vqd_set_used_event(&r.drv, 1);
	for (int i = 0; i < 7; i++)
		push_one(&r, &seg);
	assert_false(virtq_should_interrupt(&r.q)); /* used is 1 now */
	push_one(&r, &seg);
	assert_true(virtq_should_interrupt(&r.q));
	/* More than half a lap without a question: say it rather than guess. */
	vqd_set_used_event(&r.drv, (uint16_t)(r.q.used_idx - 5));
	for (int i = 0; i < 40000; i++)
		push_one(&r, &seg);
	assert_true(virtq_should_interrupt(&r.q));
	rig_done(&r);
}

static void test_kicks(void **state)
{
	struct rig r;
	struct virtq_chain c;
	struct vqd_seg seg;

	rig_init(&r, 8, false);
	seg = (struct vqd_seg){vqd_alloc(&r.mem, 8, 8), 8};
	assert_int_equal(vqd_used(&r.drv)[0], 0);
	virtq_kicks_off(&r.q);
	assert_int_equal(vqd_used(&r.drv)[0], 1);
	assert_false(virtq_kicks_on(&r.q));
	assert_int_equal(vqd_used(&r.drv)[0], 0);
	virtq_kicks_off(&r.q);
	vqd_add(&r.drv, &seg, 1, 0);
	assert_true(virtq_kicks_on(&r.q)); /* something came meanwhile */
	rig_done(&r);

	rig_init(&r, 8, true);
	seg = (struct vqd_seg){vqd_alloc(&r.mem, 8, 8), 8};
	push_one(&r, &seg);
	push_one(&r, &seg);
	/* Running dry re-arms the kick … */
	assert_int_equal(virtq_pop(&r.q, &c), VIRTQ_EMPTY);
	assert_int_equal(vqd_avail_event(&r.drv), 2);
	/* … unless kicks are off. */
	virtq_kicks_off(&r.q);
	push_one(&r, &seg);
	assert_int_equal(virtq_pop(&r.q, &c), VIRTQ_EMPTY);
	assert_int_equal(vqd_avail_event(&r.drv), 2);
	assert_false(virtq_kicks_on(&r.q));
	assert_int_equal(vqd_avail_event(&r.drv), 3);
	rig_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gmem_bounds),
		cmocka_unit_test(test_gmem_fd),
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_unpop),
		cmocka_unit_test(test_indirect),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_interrupt_flag),
		cmocka_unit_test(test_interrupt_event_idx),
		cmocka_unit_test(test_kicks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

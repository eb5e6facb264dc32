/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk with several requests in flight: order, starvation, resets, and random load that loses
 * no kick and no interrupt. */
#include "blk_bed.h"

struct slot {
	uint64_t head, data, status;
	uint32_t type;
	uint64_t sector;
	int chain; /* -1: free */
};

static struct slot slot_new(struct bed *b)
{
	return (struct slot){vqd_alloc(&b->mem, 16, 1), vqd_alloc(&b->mem, 4096, 1),
		vqd_alloc(&b->mem, 1, 1), 0, 0, -1};
}

static void slot_queue(struct bed *b, struct slot *s, uint32_t type, uint64_t sector)
{
	s->type = type;
	s->sector = sector;
	s->chain = queue(b, s->head, s->data, s->status, type, sector,
		type == VIRTIO_BLK_T_FLUSH ? 0 : 4096);
}

static uint8_t slot_status(struct bed *b, const struct slot *s)
{
	return *(uint8_t *)vqd_ptr(&b->mem, s->status);
}

/* Wait for @n answers and nothing more. */
static void wait_used(struct bed *b, unsigned n)
{
	for (int ms = 0; n && ms < 120000; ms++) {
		while (n && vqd_get_used(&b->q, NULL) >= 0)
			n--;
		if (n)
			nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	assert_int_equal(n, 0);
	assert_int_equal(vqd_get_used(&b->q, NULL), -1);
}

/* What is cached is read by the thread that was kicked, before the kick returns. */
static void cached_reads_stay(void **state)
{
	struct bed *b = *state;
	struct slot s[20];

	for (unsigned i = 0; i < 20; i++) {
		s[i] = slot_new(b);
		slot_queue(b, &s[i], VIRTIO_BLK_T_IN, i * 8);
	}
	b->d->ops->kick(b->d, 0);
	assert_int_equal(sys.moves_here, 20);
	assert_int_equal(sys.moves_elsewhere, 0);
	for (unsigned i = 0; i < 20; i++) {
		assert_true(vqd_get_used(&b->q, NULL) == s[i].chain);
		assert_int_equal(slot_status(b, &s[i]), 0);
		assert_memory_equal(vqd_ptr(&b->mem, s[i].data), b->image + i * 4096, 4096);
	}
	/* One interrupt for the first batch, none for what the driver did not ask for. */
	assert_int_equal(b->interrupts, 1);
	/* A file system that does not know RWF_NOWAIT is asked once. */
	sys.no_nowait = true;
	slot_queue(b, &s[0], VIRTIO_BLK_T_IN, 0);
	b->d->ops->kick(b->d, 0);
	wait_used(b, 1);
	assert_int_equal(sys.moves_elsewhere, 1);
	sys.no_nowait = false;
	slot_queue(b, &s[0], VIRTIO_BLK_T_IN, 0);
	b->d->ops->kick(b->d, 0);
	wait_used(b, 1);
	assert_int_equal(sys.moves_elsewhere, 2);
}

/* One request that hangs holds up nothing else: misses, hits, writes and flushes pass it. */
static void slow_one(void **state)
{
	struct bed *b = *state;
	struct slot slow = slot_new(b), s[40];

	hold(0);
	slot_queue(b, &slow, VIRTIO_BLK_T_OUT, 0);
	sys.no_nowait = true; /* writes of ext4 */
	b->d->ops->kick(b->d, 0);
	wait_held(1);
	sys.no_nowait = false;
	for (unsigned round = 0; round < 3; round++) {
		sys.refuse_nowait = round == 1;
		for (unsigned i = 0; i < 40; i++) {
			if (round == 0)
				s[i] = slot_new(b);
			slot_queue(b, &s[i],
				i == 20          ? VIRTIO_BLK_T_FLUSH
				: i & 1 && round ? VIRTIO_BLK_T_OUT
						 : VIRTIO_BLK_T_IN,
				8 + 8 * (i % 30));
			if (round == 2)
				b->d->ops->kick(b->d, 0);
		}
		b->d->ops->kick(b->d, 0);
		wait_used(b, 40);
		for (unsigned i = 0; i < 40; i++)
			assert_int_equal(slot_status(b, &s[i]), 0);
	}
	assert_int_equal(slot_status(b, &slow), 0xee);
	hold(-1);
	wait_used(b, 1);
	assert_int_equal(slot_status(b, &slow), 0);
}

/* More requests than there are threads and places for them. */
static void flood(void **state)
{
	struct bed *b = *state;
	struct slot s[80];

	sys.refuse_nowait = true;
	hold(0);
	for (unsigned i = 0; i < 80; i++) {
		s[i] = slot_new(b);
		slot_queue(b, &s[i], VIRTIO_BLK_T_IN, 0);
	}
	b->d->ops->kick(b->d, 0);
	wait_held(3); /* all threads, and none of the others waits with them */
	assert_int_equal(sys.moves_here, 0);
	assert_int_equal(vqd_get_used(&b->q, NULL), -1);
	hold(-1);
	wait_used(b, 80);
	/* And a burst that ends the kick's turn. */
	sys.refuse_nowait = false;
	b->event_idx = false;
	start(b, RW, 1024);
	for (unsigned i = 0; i < 300; i++) {
		struct slot one = slot_new(b);

		slot_queue(b, &one, VIRTIO_BLK_T_IN, 8 * (i % 32));
	}
	sys.moves_here = sys.moves_elsewhere = 0;
	b->d->ops->kick(b->d, 0);
	assert_true(sys.moves_here < 300);
	wait_used(b, 300);
	assert_true(sys.moves_elsewhere > 0);
	/* Kicks are on again. */
	slot_queue(b, &s[0], VIRTIO_BLK_T_IN, 0);
	b->d->ops->kick(b->d, 0);
	wait_used(b, 1);
}

static void *resetter(void *arg)
{
	vdev_reset(arg);
	return NULL;
}

/* A reset returns when nothing of the old queue is in flight, and the used ring is left alone. */
static void reset_with(struct bed *b, unsigned n, unsigned held)
{
	struct timespec until;
	pthread_t t;
	uint16_t used_idx;

	hold(0);
	for (unsigned i = 0; i < n; i++) {
		struct slot s = slot_new(b);

		slot_queue(b, &s, i & 1 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, 0);
	}
	b->d->ops->kick(b->d, 0);
	wait_held(held);
	assert_int_equal(pthread_create(&t, NULL, resetter, b->d), 0);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += (until.tv_nsec + 50000000) / 1000000000;
	until.tv_nsec = (until.tv_nsec + 50000000) % 1000000000;
	assert_int_equal(pthread_timedjoin_np(t, NULL, &until), ETIMEDOUT);
	hold(-1);
	assert_int_equal(pthread_join(t, NULL), 0);
	used_idx = __atomic_load_n(vqd_used(&b->q) + 1, __ATOMIC_ACQUIRE);
	assert_true(used_idx >= held && used_idx <= MIN(n, 10u)); /* what was popped */
	memset(vqd_ptr(&b->mem, VQD_GPA), 0xa5, b->mem.len);
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	for (uint64_t i = 0; i < b->mem.len; i++)
		if (b->mem.host[i] != 0xa5)
			fail_msg("written after the reset, at %#lx", (unsigned long)i);
	assert_int_equal(b->d->breaks, 0);
	start(b, RW, 256);
}

static void reset_in_flight(void **state)
{
	struct bed *b = *state;
	struct slot s[30];

	sys.refuse_nowait = true;
	reset_with(b, 1, 1); /* none on the list: only what a thread holds */
	reset_with(b, 2, 2);
	reset_with(b, 30, 3);
	/* A stopped queue resumes where it was: what was popped has been answered. */
	hold(0);
	for (unsigned i = 0; i < 30; i++) {
		s[i] = slot_new(b);
		slot_queue(b, &s[i], VIRTIO_BLK_T_IN, 8);
	}
	b->d->ops->kick(b->d, 0);
	{
		uint16_t at = vdev_stop_queue(b->d, 0);

		assert_int_equal(at, __atomic_load_n(vqd_used(&b->q) + 1, __ATOMIC_ACQUIRE));
		assert_true(virtq_start(&b->d->vq[0], &b->mem.gmem, 256,
			vqd_ptr(&b->mem, b->q.desc), vqd_ptr(&b->mem, b->q.avail),
			vqd_ptr(&b->mem, b->q.used), at, true));
		b->d->ops->kick(b->d, 0);
		wait_used(b, 30);
	}
}

/* The guest breaks its queue while requests are in flight. */
static void break_in_flight(void **state)
{
	struct bed *b = *state;
	struct slot s = slot_new(b);
	struct vqd_seg bad[2] = {{0x1000, 16}, {b->status, 1}};

	sys.refuse_nowait = true;
	hold(0);
	slot_queue(b, &s, VIRTIO_BLK_T_IN, 0);
	b->d->ops->kick(b->d, 0);
	wait_held(1);
	assert_true(vqd_add(&b->q, bad, 1, 1) >= 0);
	b->d->ops->kick(b->d, 0);
	assert_true(b->d->broken);
	hold(-1);
	vdev_quiesce(b->d);
	assert_int_equal(vqd_get_used(&b->q, NULL), -1);
	start(b, RW, 256);
	s = slot_new(b);
	slot_queue(b, &s, VIRTIO_BLK_T_IN, 0);
	b->d->ops->kick(b->d, 0);
	wait_used(b, 1);
}

/* Whether a driver would kick after making what follows @old available. */
static bool wants_kick(struct bed *b, uint16_t old)
{
	uint16_t *u = vqd_used(&b->q), event;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!b->event_idx)
		return !(__atomic_load_n(&u[0], __ATOMIC_RELAXED) & 1);
	event = __atomic_load_n(&u[2 + 4 * b->q.size], __ATOMIC_RELAXED);
	return (uint16_t)(b->q.avail_idx - event - 1) < (uint16_t)(b->q.avail_idx - old);
}

/* Sleep until an interrupt that was asked for has come. */
static void await_interrupt(struct bed *b)
{
	uint16_t *a = vqd_avail(&b->q), *u = vqd_used(&b->q);
	unsigned seen = b->interrupts;

	__atomic_store_n(&a[2 + b->q.size], b->q.last_used, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&u[1], __ATOMIC_ACQUIRE) != b->q.last_used)
		return;
	for (int i = 0; b->interrupts == seen; i++) {
		assert_true(i < 1000000); /* a lost kick or a lost interrupt */
		nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
	}
}

/* Reads and writes at random, kicked and interrupted only as asked for; every read must see what
 * was written last. */
static void stress(struct bed *b, unsigned rounds, unsigned depth)
{
	struct slot s[64];
	bool busy[SECTORS / 8] = {false};
	unsigned live = 0, started = 0;
	unsigned long seed = depth + b->event_idx;

	start(b, RW, 256);
	sys.dice = true;
	for (unsigned i = 0; i < depth; i++)
		s[i] = slot_new(b);
	while (started < rounds || live) {
		uint16_t old = b->q.avail_idx;
		int chain;

		for (unsigned i = 0; i < depth && started < rounds; i++) {
			unsigned at;

			seed = seed * 6364136223846793005ul + 1442695040888963407ul;
			at = (unsigned)(seed >> 40) % (SECTORS / 8);
			if (s[i].chain >= 0 || busy[at] || (seed >> 33) % 4 == 0)
				continue;
			busy[at] = true;
			if (seed >> 63)
				memset(vqd_ptr(&b->mem, s[i].data), (int)(seed >> 50), 4096);
			slot_queue(
				b, &s[i], seed >> 63 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN, at * 8);
			started++;
			live++;
		}
		if (b->q.avail_idx != old && wants_kick(b, old))
			b->d->ops->kick(b->d, 0);
		if (live)
			await_interrupt(b);
		while ((chain = vqd_get_used(&b->q, NULL)) >= 0) {
			struct slot *d = s;

			while (d->chain != chain)
				d++;
			assert_int_equal(slot_status(b, d), 0);
			if (d->type == VIRTIO_BLK_T_OUT)
				memcpy(b->image + d->sector * 512, vqd_ptr(&b->mem, d->data), 4096);
			else
				assert_memory_equal(vqd_ptr(&b->mem, d->data),
					b->image + d->sector * 512, 4096);
			busy[d->sector / 8] = false;
			d->chain = -1;
			live--;
		}
	}
	check_image(b);
	assert_int_equal(b->d->breaks, 0);
}

static void stress_all(void **state)
{
	struct bed *b = *state;

	for (int i = 0; i < 2; i++) {
		b->event_idx = i == 0;
		stress(b, 3000, 1);
		stress(b, 6000, 4);
		stress(b, 10000, 24);
	}
}

static bool written_here(struct bed *b, struct slot *s)
{
	unsigned before = sys.moves_here;

	slot_queue(b, s, VIRTIO_BLK_T_OUT, 8);
	b->d->ops->kick(b->d, 0);
	wait_used(b, 1);
	assert_int_equal(slot_status(b, s), 0);
	return sys.moves_here != before;
}

/* A thread of its own: it writes into the page cache, as long as that is fast. */
static void writes_stay(void **state)
{
	struct bed *b = *state;
	struct slot s = slot_new(b);

	sys.clock = 1000000000;
	sys.no_nowait = true; /* ext4 */
	for (int i = 0; i < 10; i++)
		assert_true(written_here(b, &s));
	sys.slow = true;
	assert_true(written_here(b, &s));
	for (int i = 0; i < 10; i++)
		assert_false(written_here(b, &s));
	sys.clock += 300000000;
	assert_true(written_here(b, &s)); /* a try, and then a longer pause */
	sys.slow = false;
	sys.clock += 300000000;
	assert_false(written_here(b, &s));
	sys.clock += 300000000;
	for (int i = 0; i < 10; i++)
		assert_true(written_here(b, &s));
	/* What must be stable waits elsewhere. */
	b->d->ops->config_write(b->d, 32, "", 1);
	assert_false(written_here(b, &s));
}

static _Atomic unsigned begun;

static void begin(void *arg)
{
	begun += arg == &begun;
}

static void threads_begin(void **state)
{
	struct bed *b = *state;
	struct err err;

	begun = 0;
	assert_int_equal(blk_start(b->blk, 5, begin, &begun, &err), 0);
	assert_int_equal(blk_start(b->blk, 5, begin, &begun, &err), -1);
	sys.refuse_nowait = true;
	assert_int_equal(request(b, VIRTIO_BLK_T_FLUSH, 0, 0, NULL) <= 0, 1);
	for (int i = 0; i < 120000 && begun < 5; i++)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	assert_int_equal(begun, 5);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup_threads, teardown)
	const struct CMUnitTest tests[] = {T(cached_reads_stay), T(slow_one), T(flood),
		T(reset_in_flight), T(break_in_flight), T(stress_all),
		cmocka_unit_test_setup_teardown(stress_all, setup_own_loop, teardown),
		cmocka_unit_test_setup_teardown(writes_stay, setup_own_loop, teardown),
		cmocka_unit_test_setup_teardown(threads_begin, setup, teardown)};

	return cmocka_run_group_tests_name("blk_threads", tests, NULL, NULL);
}

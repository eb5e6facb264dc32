/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng: buffers of every shape, and a guest that cannot get enough. */
#include "dev_bed.h"

#include "dev/rng.h"

static struct bed bed;
static struct rngdev *rng;

static int setup(void **state)
{
	bed = (struct bed){.loop = loop_new(NULL)};
	rng = rngdev_new(bed.loop);
	bed_init(&bed, rngdev_vdev(rng));
	bed_start(&bed, 0, true);
	*state = &bed;
	return 0;
}

static int teardown(void **state)
{
	vdev_reset(bed.d);
	rngdev_free(rng);
	bed_done(&bed);
	return 0;
}

static void fills_buffers(void **state)
{
	struct bed *b = *state;
	uint64_t gpa = vqd_alloc(&b->mem, 4096, 4096);
	struct vqd_seg segs[] = {{gpa, 1}, {gpa + 1, 500}, {gpa + 501, 11}};
	uint8_t *p = vqd_ptr(&b->mem, gpa), first[512], cfg[4] = {1, 1, 1, 1};
	unsigned zeros = 0;
	uint32_t used;

	assert_int_equal(b->d->ops->id, 4);
	b->d->ops->config_read(b->d, 0, cfg, 4);
	assert_memory_equal(cfg, "\0\0\0\0", 4);
	for (int i = 0; i < 2; i++) {
		assert_true(vqd_add(&b->q[0], segs, 0, 3) >= 0);
		bed_kick(b, 0);
		assert_true(vqd_get_used(&b->q[0], &used) >= 0);
		assert_int_equal(used, 512);
		assert_int_equal(p[512], 0);
		if (i)
			assert_memory_not_equal(p, first, 512);
		memcpy(first, p, 512);
	}
	for (unsigned i = 0; i < 512; i++)
		zeros += p[i] == 0;
	assert_true(zeros < 20); /* 2 are expected */
	assert_int_equal(b->interrupts[0], 1);
}

/* Whatever is asked for, and however: no more than the burst and the rate. */
static void is_bounded(void **state)
{
	static const struct {
		uint32_t len;
		uint64_t cost;
	} rows[] = {{65536, 65536}, {4096, 4096}, {1, 256}};
	const uint64_t least = RNG_BURST + RNG_BURST / 4;
	struct bed *b = *state;

	for (size_t row = 0; row < ARRAY_SIZE(rows); row++) {
		bool event_idx = row != 1;
		uint64_t gpa, start, got = 0, allowed, ms;
		uint32_t used;

		bed_start(b, 0, event_idx);
		gpa = vqd_alloc(&b->mem, 65536, 1);
		start = now_ms();
		loop_once(b->loop, 0, NULL); /* the loop's clock stands still between wake-ups */
		for (ms = 0; ms < 250 || (got < least && ms < 120000); ms = now_ms() - start) {
			while (b->q[0].n_free)
				bed_add(b, 0, gpa, rows[row].len, true);
			bed_kick(b, 0);
			while (vqd_get_used(&b->q[0], &used) >= 0) {
				assert_true(used >= 1);
				got += MAX(used, rows[row].len == 1 ? 256 : 1);
			}
			loop_once(b->loop, 5, NULL);
			bed_kick(b, 0); /* kicks do not help */
		}
		allowed = RNG_BURST + (ms + 30) * RNG_RATE / 1000;
		print_message("# %u bytes each: %llu in %llu ms, allowed %llu\n", rows[row].len,
			(unsigned long long)got, (unsigned long long)ms,
			(unsigned long long)allowed);
		assert_true(got <= allowed);
		assert_true(got >= least); /* and it goes on */
		/* When the guest has enough, its kicks are wanted again. */
		for (int i = 0; i < 2000 && b->q[0].n_free < 128; i++) {
			loop_once(b->loop, 5, NULL);
			while (vqd_get_used(&b->q[0], NULL) >= 0)
				;
		}
		assert_int_equal(b->q[0].n_free, 128);
		for (int i = 0; i < 40; i++)
			loop_once(b->loop, 2, NULL);
		bed_add(b, 0, gpa, 1, true);
		assert_true(bed_kick_wanted(b, 0, event_idx));
		bed_kick(b, 0);
		assert_true(vqd_get_used(&b->q[0], &used) >= 0);
	}
}

static void reset_while_dry(void **state)
{
	struct bed *b = *state;
	uint64_t gpa = vqd_alloc(&b->mem, 65536, 1);
	unsigned n = 0;

	for (int i = 0; i < 4; i++)
		bed_add(b, 0, gpa, 65536, true);
	bed_kick(b, 0);
	while (vqd_get_used(&b->q[0], NULL) >= 0)
		n++;
	assert_int_equal(n, 1);
	vdev_reset(b->d);
	memset(b->mem.host, 0xa5, b->mem.len);
	for (int i = 0; i < 10; i++)
		loop_once(b->loop, 5, NULL);
	for (uint64_t i = 0; i < b->mem.len; i++)
		if (b->mem.host[i] != 0xa5)
			fail_msg("written after the reset");
}

static void broken_driver(void **state)
{
	struct bed *b = *state;

	for (unsigned i = 0; i < 3; i++) {
		struct vqd_seg s[2] = {{vqd_alloc(&b->mem, 64, 1), 64}, {i == 2 ? 8 : VQD_GPA, 64}};

		assert_true(vqd_add(&b->q[0], s, i == 0 ? 2 : i == 1,
				    i == 0   ? 0
				    : i == 1 ? 1
					     : 2) >= 0);
		bed_kick(b, 0);
		assert_true(b->d->broken);
		assert_int_equal(b->resets_needed, i + 1);
		assert_int_equal(vqd_get_used(&b->q[0], NULL), -1);
		bed_start(b, 0, true);
		bed_add(b, 0, VQD_GPA + 100000, 64, true);
		bed_kick(b, 0);
		assert_true(vqd_get_used(&b->q[0], NULL) >= 0);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(fills_buffers), T(is_bounded), T(reset_while_dry), T(broken_driver)};

	return cmocka_run_group_tests_name("rng", tests, NULL, NULL);
}

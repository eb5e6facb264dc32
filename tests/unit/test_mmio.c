/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-mmio against a driver that negotiates as Linux does, one that does everything wrong, and
 * several vCPUs at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "mmio_driver.h"

static void test_probe(void **state)
{
	struct rig r;
	unsigned probe, one;

	rig_init(&r);
	driver_begin(&r, 0);
	assert_true(driver_features(&r) == (F_TOY | 1ull << 32 | 1ull << 29 | 1ull << 28));
	r.hv.exits = 0;
	driver_probe(&r, 0);
	probe = r.hv.exits;
	assert_int_equal(r.toy.dev.features, driver_features(&r));
	/* The start looks at every queue once. */
	assert_int_equal(r.toy.kicks[0], 1);
	assert_int_equal(r.toy.kicks[1], 1);
	r.hv.exits = 0;
	request(&r, 0);
	one = r.hv.exits;
	assert_int_equal(one, 2);
	request(&r, 1);
	/* One interrupt for a batch. */
	r.hv.exits = 0;
	vqd_set_used_event(&r.drv[0], r.drv[0].last_used);
	for (int i = 0; i < 16; i++)
		driver_add(&r, 0, "batch");
	set(&r, R_NOTIFY, 0);
	turn(&r);
	assert_int_equal(driver_irq(&r), 1);
	assert_int_equal(driver_irq(&r), 0);
	for (int i = 0; i < 16; i++)
		assert_int_not_equal(vqd_get_used(&r.drv[0], NULL), -1);
	assert_int_equal(r.hv.exits, 2);
	print_message("# mmio: %u exits for a probe with 2 queues, %u per request, 2 per interrupt "
		      "(0 per kick)\n",
		probe, one);
	/* No kick that is not wanted, and none for a queue that does not exist. */
	set(&r, R_NOTIFY, 2);
	set(&r, R_NOTIFY, UINT32_MAX);
	turn(&r);
	assert_int_equal(r.toy.requests, 18);
	rig_done(&r);
}

static void test_without_event_idx(void **state)
{
	struct rig r;

	rig_init(&r);
	driver_probe(&r, VIRTIO_F_EVENT_IDX_BIT | VIRTIO_F_INDIRECT_DESC_BIT | F_TOY);
	for (int i = 0; i < 300; i++)
		request(&r, i & 1);
	rig_done(&r);
}

/* Requests queued before DRIVER_OK wait for it, and need no further kick. */
static void test_early_requests(void **state)
{
	struct rig r;

	rig_init(&r);
	driver_begin(&r, 0);
	driver_queue(&r, 0);
	driver_add(&r, 0, "early");
	set(&r, R_NOTIFY, 0);
	turn(&r);
	assert_int_equal(r.toy.requests, 0);
	add_status(&r, 4);
	assert_int_equal(r.toy.requests, 1);
	assert_int_equal(driver_irq(&r), 1);
	assert_int_not_equal(vqd_get_used(&r.drv[0], NULL), -1);
	/* A queue that comes late is served as well, and one can be stopped and set up anew. */
	driver_queue(&r, 1);
	request(&r, 1);
	set(&r, R_READY, 0);
	assert_int_equal(get(&r, R_READY), 0);
	assert_int_equal(r.toy.resets, 2);
	driver_add(&r, 1, "stopped");
	set(&r, R_NOTIFY, 1);
	turn(&r);
	assert_int_equal(r.toy.requests, 2);
	driver_queue(&r, 1);
	request(&r, 1);
	request(&r, 0);
	rig_done(&r);
}

/* A machine without room for doorbells is slower, not broken. */
static void test_kick_by_exit(void **state)
{
	struct rig r;

	rig_init(&r);
	driver_probe(&r, 0);
	while (r.hv.n_bells) {
		struct hv_doorbell d = r.hv.bells[0];

		assert_int_equal(hv_doorbell(&r.hv, &d, false, NULL), 0);
	}
	r.hv.exits = 0;
	request(&r, 1);
	assert_int_equal(r.hv.exits, 3);
	rig_done(&r);
}

/* ---- wrong orders ---- */

static void test_status_orders(void **state)
{
	static const struct {
		uint8_t writes[6]; /* until 0 */
		uint8_t want;
	} cases[] = {
		{{1}, 1}, {{2}, 0},              /* DRIVER without ACKNOWLEDGE */
		{{4}, 0}, {{8}, 0}, {{1, 5}, 1}, /* DRIVER_OK without the rest */
		{{1, 3, 7}, 3},                  /* DRIVER_OK without FEATURES_OK */
		{{1, 9}, 1},                     /* FEATURES_OK without DRIVER */
		{{1, 3, 1}, 3},                  /* a bit taken back */
		{{1, 3, 11, 3}, 11}, {{1, 3, 11, 15}, 15}, {{15}, 15}, /* all at once is in order */
		{{1, 3, 11, 15, 11}, 15}, {{1, 129}, 129},
		{{1, 129, 131}, 129},            /* nothing follows FAILED */
		{{128, 143}, 128}, {{1, 65}, 1}, /* NEEDS_RESET is not the driver's */
		{{64}, 0}, {{1, 3, 0x33}, 3},    /* bits that do not exist */
	};
	struct rig r;

	rig_init(&r);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		driver_reset(&r);
		driver_accept(&r, 1ull << 32);
		for (unsigned k = 0; k < 6 && cases[i].writes[k]; k++)
			set(&r, R_STATUS, cases[i].writes[k]);
		if (get(&r, R_STATUS) != cases[i].want)
			fail_msg("row %zu: status %u", i, get(&r, R_STATUS));
	}
	driver_reset(&r);
	set(&r, R_STATUS, 0x101);
	assert_int_equal(get(&r, R_STATUS), 0);
	driver_probe(&r, 0);
	request(&r, 0);
	rig_done(&r);
}

static void test_features_veto(void **state)
{
	static const struct {
		uint64_t features;
		uint32_t third; /* with selector 2 */
		bool ok;
	} cases[] = {
		{1ull << 32, 0, true},
		{1ull << 32 | F_TOY, 0, true},
		{0, 0, false},
		{F_TOY, 0, false},          /* legacy driver */
		{1ull << 32 | 1, 0, false}, /* not offered */
		{1ull << 32 | 1ull << 33, 0, false},
		{UINT64_MAX, 0, false},
		{1ull << 32, 1, false},
	};
	struct rig r;

	rig_init(&r);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		driver_reset(&r);
		set(&r, R_STATUS, 3);
		set(&r, R_DEVICE_SEL, 2);
		assert_int_equal(get(&r, R_DEVICE_FEATURES), 0);
		set(&r, R_DRIVER_SEL, 2);
		set(&r, R_DRIVER_FEATURES, cases[i].third);
		driver_accept(&r, cases[i].features);
		set(&r, R_STATUS, 11);
		assert_int_equal(get(&r, R_STATUS), cases[i].ok ? 11 : 3);
		/* Settled features cannot be changed. */
		driver_accept(&r, 1ull << 32 | F_TOY);
		set(&r, R_STATUS, 11);
		assert_int_equal(r.toy.dev.features, cases[i].ok      ? cases[i].features
						     : cases[i].third ? 0
								      : (1ull << 32 | F_TOY));
	}
	rig_done(&r);
}

/* A queue that cannot be is the end of the device, until reset. */
static void test_bad_queues(void **state)
{
	const uint64_t at = VQD_GPA, end = VQD_GPA + (4 << 20);
	const struct {
		uint32_t size;
		uint64_t desc, avail, used;
	} cases[] = {
		{0, at, at + 4096, at + 8192},
		{3, at, at + 4096, at + 8192},
		{512, at, at + 8192, at + 16384}, /* more than NUM_MAX */
		{65536, at, at + 4096, at + 8192},
		{256 | 1u << 16, at, at + 4096, at + 8192},
		{256, 0, at + 4096, at + 8192}, /* nothing there */
		{256, at + 8, at + 4096, at + 8192},
		{256, at, at + 4097, at + 8192},
		{256, at, at + 4096, at + 8194},
		{256, end - 4080, at + 4096, at + 8192}, /* one descriptor too far */
		{256, at, end - 516, at + 8192},
		{256, at, at + 4096, end - 2048},
		{256, UINT64_MAX - 15, at + 4096, at + 8192},
		{256, at, UINT64_MAX - 1, at + 8192},
		{256, at, at + 4096, UINT64_MAX - 3},
		{256, at | 1ull << 63, at + 4096, at + 8192},
	};
	struct rig r;

	rig_init(&r);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		for (int late = 0; late < 2; late++) {
			driver_begin(&r, 0);
			if (late)
				add_status(&r, 4);
			take_event(r.hv.lines[LINE]);
			driver_queue_at(
				&r, 0, cases[i].size, cases[i].desc, cases[i].avail, cases[i].used);
			assert_int_equal(get(&r, R_READY), 0);
			assert_int_equal(get(&r, R_STATUS), late ? 79 : 75);
			/* Told only once it runs. */
			assert_int_equal(driver_irq(&r), late ? 2 : 0);
			add_status(&r, 4);
			set(&r, R_NOTIFY, 0);
			turn(&r);
			assert_int_equal(r.toy.kicks[0], 0);
		}
	}
	/* The last byte of memory is memory. */
	driver_begin(&r, 0);
	driver_queue_at(&r, 0, 256, end - 4096, at, at + 4096);
	assert_int_equal(get(&r, R_READY), 1);
	driver_probe(&r, 0);
	request(&r, 0);
	rig_done(&r);
}

static void test_locked_queue(void **state)
{
	struct rig r;

	rig_init(&r);
	driver_probe(&r, 0);
	set(&r, R_QUEUE_SEL, 0);
	set(&r, R_NUM, 8);
	set(&r, R_DESC, 0);
	set(&r, R_USED + 4, 7);
	set(&r, R_READY, 1);
	request(&r, 0);
	/* No such queue. */
	set(&r, R_QUEUE_SEL, 2);
	assert_int_equal(get(&r, R_NUM_MAX), 0);
	set(&r, R_NUM, 8);
	set(&r, R_DESC, 0);
	set(&r, R_READY, 1);
	assert_int_equal(get(&r, R_READY), 0);
	set(&r, R_READY, 0);
	set(&r, R_QUEUE_SEL, UINT32_MAX);
	assert_int_equal(get(&r, R_NUM_MAX), 0);
	set(&r, R_READY, 1);
	assert_int_equal(get(&r, R_STATUS), 15);
	request(&r, 1);
	rig_done(&r);
}

/* ---- breaking and healing ---- */

static void test_break_and_heal(void **state)
{
	struct rig r;

	rig_init(&r);
	driver_probe(&r, 0);
	request(&r, 0);
	vqd_publish(&r.drv[0], 999); /* no such descriptor */
	set(&r, R_NOTIFY, 0);
	turn(&r);
	assert_int_equal(get(&r, R_STATUS), 79);
	assert_int_equal(driver_irq(&r), 2);
	assert_int_equal(r.toy.dev.breaks, 1);
	set(&r, R_NOTIFY, 1);
	driver_add(&r, 1, "no more");
	turn(&r);
	assert_int_equal(r.toy.requests, 1);
	/* Writing the status back does not heal; reset does. */
	set(&r, R_STATUS, 15);
	assert_int_equal(get(&r, R_STATUS), 79);
	driver_probe(&r, 0);
	request(&r, 0);
	request(&r, 1);
	rig_done(&r);
}

static void test_reset(void **state)
{
	struct rig r;
	unsigned resets;

	rig_init(&r);
	driver_probe(&r, 0);
	driver_add(&r, 0, "lost");
	set(&r, R_NOTIFY, 0);
	resets = r.toy.resets;
	driver_reset(&r);
	assert_int_equal(r.toy.resets, resets + 1);
	assert_int_equal(r.toy.dev.features, 0);
	assert_int_equal(get(&r, R_INT), 0);
	for (unsigned q = 0; q < 2; q++) {
		set(&r, R_QUEUE_SEL, q);
		assert_int_equal(get(&r, R_READY), 0);
		assert_false(r.toy.dev.vq[q].ready);
	}
	turn(&r); /* the kick from before arrives */
	assert_int_equal(r.toy.requests, 0);
	driver_probe(&r, 0);
	request(&r, 0);
	rig_done(&r);
}

/* ---- configuration space, widths ---- */

static void test_config(void **state)
{
	struct rig r;
	uint32_t gen;

	rig_init(&r);
	assert_int_equal(guest_read(&r.hv, BASE + R_CONFIG, 1), 'H');
	assert_int_equal(guest_read(&r.hv, BASE + R_CONFIG + 1, 1), 'u');
	assert_int_equal(guest_read(&r.hv, BASE + R_CONFIG, 2), 'H' | 'u' << 8);
	assert_memory_equal(&(uint64_t){guest_read(&r.hv, BASE + R_CONFIG, 8)}, "Hutch!\0", 8);
	assert_int_equal(guest_read(&r.hv, BASE + R_CONFIG + 4, 8), 'h' | '!' << 8);
	assert_int_equal(guest_read(&r.hv, BASE + R_CONFIG + 8, 4), 0);
	assert_int_equal(guest_read(&r.hv, BASE + MMIO_BYTES - 8, 8), 0);
	guest_write(&r.hv, BASE + R_CONFIG + 6, 2, 0x6261);
	guest_write(&r.hv, BASE + R_CONFIG + 7, 8, UINT64_MAX);
	assert_memory_equal(r.toy.config, "Hutch!a\xff", 8);
	/* A change is counted, and told to a driver that runs. */
	gen = get(&r, R_GENERATION);
	vdev_config_changed(&r.toy.dev);
	assert_int_equal(get(&r, R_GENERATION), gen + 1);
	assert_int_equal(driver_irq(&r), 0);
	driver_probe(&r, 0);
	vdev_config_changed(&r.toy.dev);
	assert_int_equal(get(&r, R_GENERATION), gen + 2);
	assert_int_equal(get(&r, R_INT), 2);
	assert_int_equal(driver_irq(&r), 2);
	assert_int_equal(get(&r, R_INT), 0);
	rig_done(&r);
}

static void test_widths(void **state)
{
	struct rig r;

	rig_init(&r);
	driver_probe(&r, 0);
	for (unsigned off = 0; off < 0x100; off++) {
		for (unsigned len = 1; len <= 8; len *= 2) {
			if (len == 4 && off % 4 == 0)
				continue;
			assert_int_equal(guest_read(&r.hv, BASE + off, len), 0);
			guest_write(&r.hv, BASE + off, len, 0);
			guest_write(&r.hv, BASE + off, len, UINT64_MAX);
		}
	}
	assert_int_equal(get(&r, R_STATUS), 15);
	/* No shared memory regions: all ones (4.2.2). */
	for (unsigned off = 0; off < 16; off += 4)
		assert_int_equal(get(&r, R_SHM_LEN + off), UINT32_MAX);
	request(&r, 0);
	request(&r, 1);
	rig_done(&r);
}

/* ---- several vCPUs ---- */

struct vcpu {
	struct rig *r;
	unsigned seed;
	bool rude;
	_Atomic bool *done;
};

/* Reads everything; a rude one writes everything, too. */
static void *hammer(void *arg)
{
	struct vcpu *v = arg;
	struct rig *r = v->r;

	while (!atomic_load(v->done)) {
		unsigned off = (unsigned)rand_r(&v->seed) % 0x48 * 4;

		if (v->rude && rand_r(&v->seed) % 2) {
			static const uint32_t values[] = {0, 1, 2, 3, 11, 15, 1u << 29, 256};

			set(r, off, values[(unsigned)rand_r(&v->seed) % ARRAY_SIZE(values)]);
		} else {
			get(r, off);
		}
	}
	return NULL;
}

/* Wait for the interrupt of @q, as a guest's idle loop would. */
static void wait_used(struct rig *r, unsigned q)
{
	struct vqd *d = &r->drv[q];

	for (int i = 0; i < 1000000; i++) {
		driver_irq(r);
		vqd_set_used_event(d, d->last_used);
		if (vqd_get_used(d, NULL) >= 0)
			return;
		usleep(100);
	}
	fail_msg("no answer");
}

static void threads(bool rude)
{
	static struct rig r;
	_Atomic bool done = false;
	pthread_t loop_thread, t[3];
	struct vcpu v[3];

	rig_init(&r);
	if (rude)
		driver_probe(&r, 0);
	for (int i = 0; i < 8 && rude; i++)
		driver_add(&r, i & 1, "again and again");
	loop_thread = fake_loop_start(r.loop);
	if (!rude)
		driver_probe(&r, 0);
	for (unsigned i = 0; i < 3; i++) {
		v[i] = (struct vcpu){.r = &r, .seed = i + 1, .rude = rude, .done = &done};
		pthread_create(&t[i], NULL, hammer, &v[i]);
	}
	for (int i = 0; i < 2000; i++) {
		if (rude) {
			/* Set up whatever can be, on top of what the others do. */
			set(&r, R_STATUS, i % 16 ? 15 : 0);
			driver_accept(&r, 1ull << 32 | 1ull << 29);
			set(&r, R_QUEUE_SEL, i & 1);
			set(&r, R_DESC, (uint32_t)r.drv[i & 1].desc);
			set(&r, R_AVAIL, (uint32_t)r.drv[i & 1].avail);
			set(&r, R_USED, (uint32_t)r.drv[i & 1].used);
			set(&r, R_READY, 1);
			set(&r, R_NOTIFY, i & 1);
			driver_irq(&r);
		} else {
			driver_add(&r, i & 1, "concurrent");
			set(&r, R_NOTIFY, i & 1);
			wait_used(&r, i & 1);
		}
	}
	atomic_store(&done, true);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	fake_loop_join(r.loop, r.caller, loop_thread);
	if (!rude)
		assert_int_equal(r.toy.requests, 2000);
	/* Whatever happened, a reset heals. */
	turn(&r);
	driver_probe(&r, 0);
	request(&r, 0);
	rig_done(&r);
}

static void test_vcpus(void **state)
{
	threads(false);
}

static void test_rude_vcpus(void **state)
{
	threads(true);
}

/* The loop ends: vCPUs that still come are answered, not stuck. */
static void test_closed(void **state)
{
	static struct rig r;
	pthread_t loop_thread;

	rig_init(&r);
	loop_thread = fake_loop_start(r.loop);
	driver_probe(&r, 0);
	fake_loop_join(r.loop, r.caller, loop_thread);
	loop_caller_close(r.caller);
	guest_read(&r.hv, BASE + R_CONFIG, 4); /* needs no loop */
	set(&r, R_STATUS, 0);
	assert_int_equal(get(&r, R_STATUS), 15);
	rig_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_probe),
		cmocka_unit_test(test_without_event_idx),
		cmocka_unit_test(test_early_requests),
		cmocka_unit_test(test_kick_by_exit),
		cmocka_unit_test(test_status_orders),
		cmocka_unit_test(test_features_veto),
		cmocka_unit_test(test_bad_queues),
		cmocka_unit_test(test_locked_queue),
		cmocka_unit_test(test_break_and_heal),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_widths),
		cmocka_unit_test(test_vcpus),
		cmocka_unit_test(test_rude_vcpus),
		cmocka_unit_test(test_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

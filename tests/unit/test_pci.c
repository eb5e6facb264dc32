/* SPDX-License-Identifier: Apache-2.0 */
/* virtio over PCI against a driver that goes the way of Linux: enumeration, BAR sizing,
 * capabilities, MSI-X, negotiation; then one that scribbles, and several vCPUs at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "pci_driver.h"

static void test_probe(void **state)
{
	for (int ports = 0; ports < 2; ports++) {
		struct rig r;
		unsigned find, probe;

		rig_init(&r);
		discover(&r, &r.f, 1, ports);
		find = r.hv.exits;
		driver_begin(&r);
		assert_true(driver_features(&r) == (F_TOY | 1ull << 32 | 1ull << 29 | 1ull << 28));
		assert_int_equal(get(&r, C_NUM_QUEUES, 2), 2);
		r.hv.exits = 0;
		driver_probe(&r);
		probe = r.hv.exits;
		assert_int_equal(r.toy[0].kicks[0], 1);
		for (unsigned i = 0; i < 3; i++) {
			assert_int_equal(r.hv.msis[i].addr, MSG);
			assert_int_equal(r.hv.msis[i].data, 0x4020 + i);
		}
		r.hv.exits = 0;
		request(&r, 0);
		request(&r, 1);
		assert_int_equal(r.hv.exits, 0);
		print_message("# pci (%s): %u exits to find, %u for a probe with 2 queues, "
			      "0 per request, 0 per interrupt\n",
			ports ? "ports" : "memory", find, probe);
		/* The second function is its own. */
		discover(&r, &r.f, 2, ports);
		driver_probe(&r);
		request(&r, 1);
		assert_int_equal(r.toy[0].requests, 2);
		assert_int_equal(r.toy[1].requests, 1);
		rig_done(&r);
	}
}

static void test_bus(void **state)
{
	struct rig r;
	struct fn f;

	rig_init(&r);
	for (int ports = 0; ports < 2; ports++) {
		for (unsigned slot = 0; slot < 32; slot++) {
			f = (struct fn){.hv = &r.hv, .slot = slot, .ports = ports};
			assert_int_equal(conf_get(&f, PCI_VENDOR, 4) == UINT32_MAX, slot > 2);
		}
		f.slot = 0;
		assert_int_equal(conf_get(&f, PCI_CLASS, 2) | conf_get(&f, 0xb, 1) << 16, 0x60000);
		for (unsigned reg = 0; reg < 256; reg++) {
			uint32_t old = conf_get(&f, reg, 1);

			conf_set(&f, reg, 1, ~old);
			assert_int_equal(conf_get(&f, reg, 1), old);
		}
	}
	/* Other functions, other buses, a disabled address, odd widths. */
	f = (struct fn){.hv = &r.hv, .slot = 1};
	assert_int_equal(guest_read(&r.hv, ECAM + 0x9000, 4), UINT32_MAX);
	guest_out(&r.hv, 0xcf8, 4, 1u << 31 | 1 << 16 | 1 << 11);
	assert_int_equal(guest_in(&r.hv, 0xcfc, 4), UINT32_MAX);
	guest_out(&r.hv, 0xcf8, 4, 1 << 11);
	assert_int_equal(guest_in(&r.hv, 0xcfc, 4), UINT32_MAX);
	guest_out(&r.hv, 0xcf8, 4, 1u << 31 | 1 << 11);
	guest_out(&r.hv, 0xcf8, 2, 0);
	guest_out(&r.hv, 0xcf9, 1, 6);
	assert_int_equal(guest_in(&r.hv, 0xcf8, 4), 1u << 31 | 1 << 11);
	assert_int_equal(guest_in(&r.hv, 0xcfe, 2), 0x1040 + 42);
	/* No extended capabilities; no interrupt pin. */
	assert_int_equal(conf_get(&f, 0x100, 4), 0);
	assert_int_equal(conf_get(&f, 0xffc, 4), 0);
	assert_int_equal(conf_get(&f, 0x3d, 1), 0);
	conf_set(&f, 0x100, 4, UINT32_MAX);
	assert_int_equal(guest_read(&r.hv, ECAM + 0x80fc, 8), 0);
	assert_int_equal(guest_read(&r.hv, ECAM + 0x80f8, 8), 0);
	rig_done(&r);
}

/* ---- the BAR moves ---- */

static void test_move(void **state)
{
	static const uint64_t nowhere[] = {0, WINDOW - BAR_LEN, WINDOW + WINDOW_LEN, ECAM,
		WINDOW | 1ull << 32, UINT64_MAX, 0xfee00000, VQD_GPA};
	struct rig r;
	uint64_t home;

	rig_init(&r);
	discover(&r, &r.f, 1, false);
	driver_probe(&r);
	assert_int_equal(r.hv.n_bells, 2);
	home = r.f.bar;
	move_bar(&r.f, WINDOW + WINDOW_LEN - BAR_LEN);
	assert_int_equal(guest_read(&r.hv, r.f.common + C_STATUS, 1), 0xff);
	assert_int_equal(r.hv.n_bells, 2);
	for (unsigned i = 0; i < 2; i++)
		assert_true(r.hv.bells[i].gpa >= WINDOW + WINDOW_LEN - BAR_LEN);
	size_bar(&r.f);
	walk_caps(&r.f);
	assert_int_equal(r.f.bar, WINDOW + WINDOW_LEN - BAR_LEN);
	assert_int_equal(get(&r, C_STATUS, 1), 15);
	request(&r, 0);
	for (size_t i = 0; i < ARRAY_SIZE(nowhere); i++) {
		move_bar(&r.f, nowhere[i]);
		assert_int_equal(r.hv.n_bells, 0);
		guest_read(&r.hv, nowhere[i], 4);
	}
	/* Memory access off is nowhere as well. */
	move_bar(&r.f, home);
	assert_int_equal(r.hv.n_bells, 2);
	conf_set(&r.f, PCI_COMMAND, 2, 4);
	assert_int_equal(r.hv.n_bells, 0);
	assert_int_equal(guest_read(&r.hv, home + C_STATUS, 1), 0xff);
	conf_set(&r.f, PCI_COMMAND, 2, 6);
	size_bar(&r.f);
	walk_caps(&r.f);
	request(&r, 1);
	/* On top of the other function: the first one answers, nobody's doorbells are lost. */
	discover(&r, &(struct fn){0}, 2, false);
	move_bar(&(struct fn){.hv = &r.hv, .slot = 2}, home);
	assert_int_equal(r.hv.n_bells, 2);
	request(&r, 0);
	move_bar(&r.f, home + BAR_LEN);
	size_bar(&r.f);
	walk_caps(&r.f);
	request(&r, 0);
	rig_done(&r);
}

static void test_kick_by_exit(void **state)
{
	struct rig r;

	rig_init(&r);
	r.hv.no_bells = true;
	discover(&r, &r.f, 1, false);
	driver_probe(&r);
	assert_int_equal(r.hv.n_bells, 0);
	r.hv.exits = 0;
	request(&r, 0);
	request(&r, 1);
	assert_int_equal(r.hv.exits, 2);
	guest_write(&r.hv, r.f.notify + 1, 2, 0); /* between queues, behind queues */
	guest_write(&r.hv, r.f.notify + 8, 4, 0);
	guest_write(&r.hv, r.f.notify + 0xffc, 4, 0);
	turn(&r);
	assert_int_equal(r.toy[0].requests, 2);
	rig_done(&r);
}

/* ---- interrupts ---- */

static void test_vectors(void **state)
{
	static const uint32_t bad[] = {3, 4, 0x7fff, 0xfffe, 0xffff};
	struct rig r;

	rig_init(&r);
	discover(&r, &r.f, 1, false);
	assert_int_equal(get(&r, C_CONFIG_VECTOR, 2), NO_VECTOR);
	driver_probe(&r);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		set(&r, C_CONFIG_VECTOR, 2, bad[i]);
		assert_int_equal(get(&r, C_CONFIG_VECTOR, 2), NO_VECTOR);
		set(&r, C_QUEUE_SEL, 2, 0);
		set(&r, C_VECTOR, 2, bad[i]);
		assert_int_equal(get(&r, C_VECTOR, 2), NO_VECTOR);
	}
	/* Without a vector there is no interrupt, but the answer. */
	driver_add(&r, 0, "quiet");
	kick(&r, 0);
	turn(&r);
	for (unsigned i = 0; i < 3; i++)
		assert_false(irq(&r, i));
	assert_int_not_equal(vqd_get_used(&r.drv[0], NULL), -1);
	/* Shared vectors. */
	set(&r, C_VECTOR, 2, 2);
	set(&r, C_CONFIG_VECTOR, 2, 2);
	driver_add(&r, 0, "shared");
	vqd_set_used_event(&r.drv[0], r.drv[0].last_used);
	kick(&r, 0);
	turn(&r);
	assert_true(irq(&r, 2));
	vdev_config_changed(&r.toy[0].dev);
	assert_true(irq(&r, 2));
	/* No such queue. */
	set(&r, C_QUEUE_SEL, 2, 2);
	set(&r, C_VECTOR, 2, 1);
	assert_int_equal(get(&r, C_VECTOR, 2), NO_VECTOR);
	assert_int_equal(get(&r, C_SIZE, 2), 0);
	set(&r, C_ENABLE, 2, 1);
	set(&r, C_DESC, 4, 1);
	assert_int_equal(get(&r, C_ENABLE, 2), 0);
	assert_int_equal(get(&r, C_STATUS, 1), 15);
	/* Reset forgets them. */
	set(&r, C_STATUS, 1, 0);
	assert_int_equal(get(&r, C_CONFIG_VECTOR, 2), NO_VECTOR);
	set(&r, C_QUEUE_SEL, 2, 1);
	assert_int_equal(get(&r, C_VECTOR, 2), NO_VECTOR);
	driver_probe(&r);
	request(&r, 1);
	rig_done(&r);
}

static void test_masks(void **state)
{
	struct rig r;
	uint64_t e;

	rig_init(&r);
	discover(&r, &r.f, 1, false);
	driver_probe(&r);
	e = r.f.table + 16;
	guest_write(&r.hv, e + 12, 4, 1);
	for (int i = 0; i < 2; i++) {
		driver_add(&r, 0, "masked");
		vqd_set_used_event(&r.drv[0], (uint16_t)i);
		kick(&r, 0);
		turn(&r);
	}
	assert_false(irq(&r, 1));
	assert_int_equal(guest_read(&r.hv, r.f.pba, 8), 2);
	assert_int_equal(guest_read(&r.hv, r.f.pba, 4), 2);
	guest_write(&r.hv, r.f.pba, 8, UINT64_MAX); /* read-only */
	/* A changed entry goes to the hypervisor when it is unmasked. */
	guest_write(&r.hv, e + 8, 4, 0x4055);
	assert_int_equal(r.hv.msis[1].data, 0x4021);
	guest_write(&r.hv, e + 12, 4, 0);
	assert_int_equal(r.hv.msis[1].data, 0x4055);
	assert_true(irq(&r, 1));
	assert_false(irq(&r, 1));
	assert_int_equal(guest_read(&r.hv, r.f.pba, 8), 0);
	/* The function's mask. */
	conf_set(&r.f, r.f.msix + 2, 2, 0xc000);
	vdev_config_changed(&r.toy[0].dev);
	assert_false(irq(&r, 0));
	assert_int_equal(guest_read(&r.hv, r.f.pba, 8), 1);
	conf_set(&r.f, r.f.msix + 3, 1, 0x80);
	assert_true(irq(&r, 0));
	/* Off: what happens is in the ISR, which reading clears. */
	guest_read(&r.hv, r.f.isr, 1);
	conf_set(&r.f, r.f.msix + 2, 2, 0);
	vdev_config_changed(&r.toy[0].dev);
	driver_add(&r, 1, "isr");
	kick(&r, 1);
	turn(&r);
	assert_int_equal(guest_read(&r.hv, r.f.isr, 4), 0);
	assert_int_equal(guest_read(&r.hv, r.f.isr, 1), 3);
	assert_int_equal(guest_read(&r.hv, r.f.isr, 1), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_false(irq(&r, i));
	rig_done(&r);
}

static void test_table_edges(void **state)
{
	struct rig r;

	rig_init(&r);
	discover(&r, &r.f, 1, false);
	driver_probe(&r);
	/* Only whole aligned words; reserved bits stay clear. */
	guest_write(&r.hv, r.f.table + 12, 4, UINT32_MAX);
	assert_int_equal(guest_read(&r.hv, r.f.table + 12, 4), 1);
	guest_write(&r.hv, r.f.table, 8, 0x1122334455667788);
	assert_true(guest_read(&r.hv, r.f.table, 8) == 0x1122334455667788);
	assert_int_equal(guest_read(&r.hv, r.f.table + 4, 4), 0x11223344);
	assert_int_equal(guest_read(&r.hv, r.f.table, 1), 0);
	assert_int_equal(guest_read(&r.hv, r.f.table + 4, 8), 0);
	guest_write(&r.hv, r.f.table, 2, 0);
	guest_write(&r.hv, r.f.table + 4, 8, 0);
	assert_true(guest_read(&r.hv, r.f.table, 8) == 0x1122334455667788);
	/* Behind the last entry. */
	for (unsigned off = 48; off < 0x1000; off += 4) {
		guest_write(&r.hv, r.f.table + off, 4, UINT32_MAX);
		assert_int_equal(guest_read(&r.hv, r.f.table + off, 4), 0);
	}
	assert_int_equal(guest_read(&r.hv, r.f.pba + 8, 8), 0);
	assert_int_equal(guest_read(&r.hv, r.f.pba + 4, 8), 0);
	guest_write(&r.hv, r.f.table + 12, 4, 0);
	assert_true(r.hv.msis[0].addr == 0x1122334455667788);
	request(&r, 0);
	rig_done(&r);
}

/* ---- registers ---- */

static void test_widths(void **state)
{
	struct rig r;

	rig_init(&r);
	discover(&r, &r.f, 1, false);
	driver_probe(&r);
	for (unsigned off = 0; off < 0x1000; off++) {
		for (unsigned len = 1; len <= 8 && off + len <= 0x1000; len *= 2) {
			static const uint8_t width[C_DESC] = {4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 4,
				0, 0, 0, 2, 0, 2, 0, 1, 1, 2, 0, 2, 0, 2, 0, 2, 0, 2, 0};

			if (off < C_DESC ? width[off] == len : off < 0x38 && off % len == 0)
				continue;
			assert_int_equal(guest_read(&r.hv, r.f.common + off, len), 0);
			guest_write(&r.hv, r.f.common + off, len, 0);
			guest_write(&r.hv, r.f.common + off, len, UINT64_MAX);
		}
	}
	/* Across parts, across the end. */
	guest_read(&r.hv, r.f.common + 0xffd, 8);
	guest_write(&r.hv, r.f.device + 0xffc, 8, 0);
	guest_read(&r.hv, r.f.bar + BAR_LEN - 4, 8);
	guest_write(&r.hv, r.f.bar + BAR_LEN - 4, 8, 0);
	assert_int_equal(guest_read(&r.hv, r.f.bar + BAR_LEN - 8, 8), 0);
	assert_int_equal(get(&r, C_STATUS, 1), 15);
	request(&r, 0);
	/* 64-bit fields as a whole; a queue in use cannot be changed or switched off. */
	set(&r, C_QUEUE_SEL, 2, 1);
	assert_true(guest_read(&r.hv, r.f.common + C_DESC, 8) == r.drv[1].desc);
	guest_write(&r.hv, r.f.common + C_DESC, 8, 1);
	set(&r, C_SIZE, 2, 8);
	set(&r, C_ENABLE, 2, 0);
	assert_int_equal(get(&r, C_ENABLE, 2), 1);
	assert_int_equal(get(&r, C_SIZE, 2), 256);
	request(&r, 1);
	rig_done(&r);
}

static void test_config(void **state)
{
	struct rig r;

	rig_init(&r);
	discover(&r, &r.f, 1, false);
	assert_int_equal(guest_read(&r.hv, r.f.device, 4), 0x63747548);
	guest_write(&r.hv, r.f.device + 6, 2, 0x6261);
	assert_memory_equal(r.toy[0].config, "Hutch!ab", 8);
	assert_int_equal(guest_read(&r.hv, r.f.device + 8, 8), 0);
	vdev_config_changed(&r.toy[0].dev);
	assert_int_equal(get(&r, C_GENERATION, 1), 1);
	rig_done(&r);
}

/* The window in configuration space reaches everything, and nothing else (4.1.4.9). */
static void test_cfg_window(void **state)
{
	struct rig r;
	struct fn *f = &r.f;

	rig_init(&r);
	discover(&r, f, 1, false);
	driver_probe(&r);
	conf_set(f, PCI_COMMAND, 2, 0); /* it works without the BAR */
	conf_set(f, f->cfg + 8, 4, C_STATUS);
	conf_set(f, f->cfg + 12, 4, 1);
	assert_int_equal(conf_get(f, f->cfg + 16, 1), 15);
	assert_int_equal(conf_get(f, f->cfg + 16, 4) & 0xff, 15);
	conf_set(f, f->cfg + 8, 4, 0x2000);
	conf_set(f, f->cfg + 12, 4, 4);
	assert_int_equal(conf_get(f, f->cfg + 16, 4), 0x63747548);
	conf_set(f, f->cfg + 16, 4, 0x41414141);
	assert_memory_equal(r.toy[0].config, "AAAAh!", 6);
	/* Any place, any length, any BAR: nothing happens where nothing is. */
	for (uint64_t off = 0; off < 1ull << 32; off = off * 3 + 1) {
		for (uint32_t len = 0; len < 10; len++) {
			conf_set(f, f->cfg + 4, 1, len == 9);
			conf_set(f, f->cfg + 8, 4, (uint32_t)off);
			conf_set(f, f->cfg + 12, 4, len == 8 ? UINT32_MAX : len);
			conf_get(f, f->cfg + 16, 4);
		}
	}
	conf_set(f, f->cfg + 4, 1, 0);
	conf_set(f, f->cfg + 8, 4, C_STATUS);
	conf_set(f, f->cfg + 12, 4, 1);
	conf_set(f, f->cfg + 16, 1, 0);
	assert_int_equal(conf_get(f, f->cfg + 16, 1), 0);
	conf_set(f, PCI_COMMAND, 2, 6);
	driver_probe(&r);
	request(&r, 0);
	rig_done(&r);
}

static void test_break_and_heal(void **state)
{
	struct rig r;

	rig_init(&r);
	discover(&r, &r.f, 1, false);
	driver_probe(&r);
	vqd_publish(&r.drv[0], 999);
	kick(&r, 0);
	turn(&r);
	assert_int_equal(get(&r, C_STATUS, 1), 79);
	assert_true(irq(&r, 0));
	assert_int_equal(guest_read(&r.hv, r.f.isr, 1), 2);
	driver_probe(&r);
	request(&r, 0);
	/* A queue that cannot be. */
	driver_begin(&r);
	driver_queue(&r, 0);
	set(&r, C_DESC + 4, 4, 1);
	set(&r, C_ENABLE, 2, 1);
	assert_int_equal(get(&r, C_ENABLE, 2), 0);
	assert_int_equal(get(&r, C_STATUS, 1), 75);
	driver_probe(&r);
	request(&r, 1);
	rig_done(&r);
}

/* Every register of configuration space with every bit: the function is what it was afterwards. */
static void test_scribble(void **state)
{
	struct rig r;
	unsigned seed = 1;

	rig_init(&r);
	for (int i = 0; i < 20000; i++) {
		static const unsigned lens[] = {1, 2, 4, 8};
		unsigned len = lens[(unsigned)rand_r(&seed) % 4];
		uint64_t v = (uint64_t)rand_r(&seed) << 33 ^ (unsigned)rand_r(&seed);

		guest_write(&r.hv, ECAM + 0x8000 + (unsigned)rand_r(&seed) % (256 - len), len, v);
		guest_out(&r.hv, 0xcf8, 4, 1u << 31 | (uint32_t)v);
		guest_out(&r.hv, (uint16_t)(0xcfc + (unsigned)rand_r(&seed) % 4), 1, i & 0xff);
		turn(&r);
	}
	for (unsigned slot = 1; slot < 3; slot++) {
		struct fn f = {.hv = &r.hv, .slot = slot};

		conf_set(&f, PCI_COMMAND, 2, 0);
		move_bar(&f, WINDOW + slot * BAR_LEN);
		conf_set(&f, 0x42, 2, 0);
		discover(&r, &r.f, slot, false);
		driver_probe(&r);
		request(&r, 0);
	}
	rig_done(&r);
}

/* ---- several vCPUs ---- */

struct vcpu {
	struct rig *r;
	unsigned seed;
	_Atomic bool *done;
};

/* Reads and writes all over the other function and the bridge. */
static void *hammer(void *arg)
{
	struct vcpu *v = arg;
	struct rig *r = v->r;

	while (!atomic_load(v->done)) {
		static const uint32_t values[] = {0, 1, 2, 6, 11, 15, 0x8000, 0xc000, 0xc0008004};
		uint32_t value = values[(unsigned)rand_r(&v->seed) % ARRAY_SIZE(values)];
		unsigned off = (unsigned)rand_r(&v->seed);
		uint64_t at = off & 1 ? ECAM + 0x10000 + (off >> 1) % 0xa0 : /* slot 2 */
				      WINDOW + BAR_LEN + (off >> 1) % BAR_LEN;
		unsigned len = 1u << (unsigned)rand_r(&v->seed) % 3;

		at &= ~(uint64_t)(len - 1);
		if (rand_r(&v->seed) % 2)
			guest_write(&r->hv, at, len, value);
		else
			guest_read(&r->hv, at, len);
		guest_write(&r->hv, ECAM + 0x10000 + PCI_COMMAND, 2, 6);
		guest_read(&r->hv, r->f.common + C_STATUS, 1);
	}
	return NULL;
}

static void wait_used(struct rig *r, unsigned q)
{
	struct vqd *d = &r->drv[q];

	for (int i = 0; i < 1000000; i++) {
		irq(r, q + 1);
		vqd_set_used_event(d, d->last_used);
		if (vqd_get_used(d, NULL) >= 0)
			return;
		usleep(100);
	}
	fail_msg("no answer");
}

static void test_vcpus(void **state)
{
	static struct rig r;
	_Atomic bool done = false;
	pthread_t loop_thread, t[3];
	struct vcpu v[3];

	rig_init(&r);
	discover(&r, &r.f, 2, false);
	discover(&r, &r.f, 1, false);
	loop_thread = fake_loop_start(r.loop);
	driver_probe(&r);
	for (unsigned i = 0; i < 3; i++) {
		v[i] = (struct vcpu){.r = &r, .seed = i + 1, .done = &done};
		pthread_create(&t[i], NULL, hammer, &v[i]);
	}
	for (int i = 0; i < 2000; i++) {
		driver_add(&r, i & 1, "concurrent");
		kick(&r, i & 1);
		wait_used(&r, i & 1);
	}
	atomic_store(&done, true);
	for (unsigned i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	fake_loop_join(r.loop, r.caller, loop_thread);
	assert_int_equal(r.toy[0].requests, 2000);
	turn(&r);
	driver_probe(&r);
	request(&r, 0);
	rig_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_probe),
		cmocka_unit_test(test_bus),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_kick_by_exit),
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_masks),
		cmocka_unit_test(test_table_edges),
		cmocka_unit_test(test_widths),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_cfg_window),
		cmocka_unit_test(test_break_and_heal),
		cmocka_unit_test(test_scribble),
		cmocka_unit_test(test_vcpus),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

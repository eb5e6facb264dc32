/* SPDX-License-Identifier: Apache-2.0 */
/* The kvm engine's buses and what sits on its I/O ports: serial port and power switch. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"
#include "vmm/bus.h"
#include "vmm/layout_x86.h"
#include "vmm/power.h"
#include "vmm/serial.h"

struct fake {
	struct bus_dev d;
	uint64_t off;
	unsigned len, calls;
};

static void fake_read(struct bus_dev *d, uint64_t off, void *to, unsigned len)
{
	struct fake *f = container_of(d, struct fake, d);

	f->off = off;
	f->len = len;
	f->calls++;
	memset(to, 0x5a, len);
}

static void fake_write(struct bus_dev *d, uint64_t off, const void *from, unsigned len)
{
	uint64_t v = 0;

	memcpy(&v, from, len);
	fake_read(d, off, &v, len);
}

static struct fake fake_at(uint64_t base, uint64_t len)
{
	return (struct fake){.d = {.base = base, .len = len, .read = fake_read, .write = fake_write}};
}

static void bus_decodes(void **state)
{
	struct fake a = fake_at(0x1000, 0x100), b = fake_at(0x1100, 8), top = fake_at(UINT64_MAX - 7, 8);
	struct bus bus = {0};
	uint64_t v;

	assert_int_equal(bus_add(&bus, &b.d, NULL), 0);
	assert_int_equal(bus_add(&bus, &a.d, NULL), 0);
	assert_int_equal(bus_add(&bus, &top.d, NULL), 0);
	assert_true(bus_read(&bus, 0x1000, &v, 4));
	assert_true(bus_read(&bus, 0x10ff, &v, 1));
	assert_int_equal(a.off, 0xff);
	assert_true(bus_write(&bus, 0x1104, &v, 4));
	assert_int_equal(b.off, 4);
	assert_true(bus_read(&bus, UINT64_MAX - 7, &v, 8));
	/* An access across an end belongs to nobody, nor does one of an odd width. */
	a.calls = b.calls = 0;
	v = 0;
	assert_false(bus_read(&bus, 0x10fe, &v, 4));
	assert_int_equal(v, 0xffffffff);
	assert_false(bus_read(&bus, 0x1106, &v, 8));
	assert_false(bus_read(&bus, 0x0fff, &v, 1));
	assert_false(bus_read(&bus, 0x1108, &v, 1));
	assert_false(bus_read(&bus, UINT64_MAX, &v, 8));
	assert_false(bus_read(&bus, 0x1000, &v, 3));
	assert_false(bus_write(&bus, 0x10fe, &v, 4));
	assert_false(bus_write(&bus, 0, &v, 4));
	assert_int_equal(a.calls + b.calls, 0);
}

static void bus_refuses(void **state)
{
	struct fake many[BUS_DEVS_MAX + 1], other;
	struct bus bus = {0};
	static const uint64_t overlapping[][2] = {
		{0x1000, 1}, {0xfff, 2}, {0x0, 0x2000}, {0x10ff, 1}, {0x1001, 0x10}};

	many[0] = fake_at(0x1000, 0x100);
	assert_int_equal(bus_add(&bus, &many[0].d, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(overlapping); i++) {
		other = fake_at(overlapping[i][0], overlapping[i][1]);
		assert_int_equal(bus_add(&bus, &other.d, NULL), -1);
	}
	other = fake_at(0x3000, 0);
	assert_int_equal(bus_add(&bus, &other.d, NULL), -1);
	other = fake_at(UINT64_MAX - 1, 4);
	assert_int_equal(bus_add(&bus, &other.d, NULL), -1);
	for (unsigned i = 1; i <= BUS_DEVS_MAX; i++) {
		many[i] = fake_at(0x10000 + i * 16, 16);
		assert_int_equal(bus_add(&bus, &many[i].d, NULL), i < BUS_DEVS_MAX ? 0 : -1);
	}
}

struct uart {
	struct serial *s;
	struct bus bus;
	int out[2], irq;
};

static void uart_open(struct uart *u)
{
	memset(u, 0, sizeof(*u));
	assert_int_equal(pipe(u->out), 0);
	u->irq = eventfd(0, EFD_NONBLOCK);
	u->s = serial_new(LAYOUT_COM1, u->out[1], u->irq);
	assert_int_equal(bus_add(&u->bus, serial_bus_dev(u->s), NULL), 0);
}

static void uart_close(struct uart *u)
{
	serial_free(u->s);
	close(u->out[0]);
	close(u->out[1]);
	close(u->irq);
}

static uint8_t in(struct uart *u, unsigned reg)
{
	uint8_t v;

	assert_true(bus_read(&u->bus, LAYOUT_COM1 + reg, &v, 1));
	return v;
}

static void out(struct uart *u, unsigned reg, uint8_t v)
{
	assert_true(bus_write(&u->bus, LAYOUT_COM1 + reg, &v, 1));
}

static uint64_t interrupts(struct uart *u)
{
	uint64_t n = 0;

	return read(u->irq, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static void serial_prints_lines(void **state)
{
	struct uart u;
	char text[64] = "";

	uart_open(&u);
	for (const char *c = "hello\nrest"; *c; c++)
		out(&u, 0, (uint8_t)*c);
	assert_int_equal(read(u.out[0], text, sizeof(text)), 6);
	assert_string_equal(text, "hello\n");
	serial_free(u.s); /* the rest goes out at the end */
	assert_int_equal(read(u.out[0], text, sizeof(text)), 4);
	u.s = NULL;
	uart_close(&u);
}

/* What drivers do to find out what it is. */
static void serial_is_a_16550a(void **state)
{
	struct uart u;
	uint32_t wide = 0;

	uart_open(&u);
	assert_int_equal(in(&u, 5) & 0x60, 0x60);
	out(&u, 7, 0x42);
	assert_int_equal(in(&u, 7), 0x42);
	out(&u, 4, 0x1a); /* loop-back: RTS and OUT2 show as CTS and DCD */
	assert_int_equal(in(&u, 6) & 0xf0, 0x90);
	out(&u, 0, 'x'); /* and nothing leaves */
	out(&u, 4, 0x0b);
	out(&u, 2, 1);
	assert_int_equal(in(&u, 2) & 0xc0, 0xc0);
	out(&u, 3, 0x83);
	out(&u, 0, 0x12);
	out(&u, 1, 0x34);
	assert_int_equal(in(&u, 0), 0x12);
	assert_int_equal(in(&u, 1), 0x34);
	out(&u, 3, 3);
	assert_int_equal(in(&u, 1), 0);
	assert_true(bus_read(&u.bus, LAYOUT_COM1 + 4, &wide, 4));
	assert_int_equal(wide, 0xffffff0b);
	uart_close(&u);
}

static void serial_interrupts(void **state)
{
	struct uart u;

	uart_open(&u);
	out(&u, 0, 'a');
	assert_int_equal(interrupts(&u), 0);
	out(&u, 1, 2); /* enabling tells that there is room */
	assert_int_equal(interrupts(&u), 1);
	assert_int_equal(in(&u, 2) & 0x0f, 2);
	assert_int_equal(in(&u, 2) & 0x0f, 1); /* acknowledged */
	out(&u, 0, 'b');
	assert_int_equal(interrupts(&u), 1);
	out(&u, 1, 0);
	out(&u, 0, 'c');
	assert_int_equal(interrupts(&u), 0);
	uart_close(&u);
}

/* A console that nobody reads neither stops nor grows anything. */
static void serial_without_reader(void **state)
{
	struct uart u;

	uart_open(&u);
	for (unsigned i = 0; i < 300000; i++)
		out(&u, 0, 'x');
	uart_close(&u);
}

static unsigned n_events;
static enum power_event last_event;

static void on_power(void *arg, enum power_event e)
{
	(void)arg;
	n_events++;
	last_event = e;
}

static void power_switch(void **state)
{
	struct bus bus = {0};
	struct power p;
	uint32_t v;

	assert_int_equal(power_init(&p, &bus, on_power, NULL, NULL), 0);
	n_events = 0;
	for (v = 0; v < 256; v++) {
		unsigned before = n_events;

		assert_true(bus_write(&bus, LAYOUT_POWER, &v, 1));
		assert_int_equal(n_events - before, (v & 0x20) && (v >> 2 & 7) == 5);
	}
	assert_int_equal(last_event, POWER_OFF);
	v = 1;
	bus_write(&bus, LAYOUT_POWER + 2, &v, 1);
	assert_int_equal(last_event, POWER_RESET);
	n_events = 0;
	for (v = 0; v < 256; v++)
		bus_write(&bus, LAYOUT_KEYBOARD + 4, &v, 1);
	assert_int_equal(n_events, 1);
	assert_true(bus_read(&bus, LAYOUT_KEYBOARD + 4, &v, 1));
	assert_int_equal(v & 3, 0); /* no output waits, input is taken at once */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bus_decodes),
		cmocka_unit_test(bus_refuses),
		cmocka_unit_test(serial_prints_lines),
		cmocka_unit_test(serial_is_a_16550a),
		cmocka_unit_test(serial_interrupts),
		cmocka_unit_test(serial_without_reader),
		cmocka_unit_test(power_switch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

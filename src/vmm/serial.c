/* SPDX-License-Identifier: Apache-2.0 */
/* 16550A UART (National Semiconductor PC16550D, 8.0).
 *
 * Transmission takes no time: the holding register is always empty. There is no receiver: nobody types
 * into a sandbox's console. What is printed is handed on by lines, so that a guest that prints does not
 * cost a system call for each character. */
#include "vmm/serial.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

#define LINE_MAX_BYTES 256u

/* Registers by offset; the divisor latch hides the first two while LCR_DLAB is set. */
enum { R_DATA, R_IER, R_IIR_FCR, R_LCR, R_MCR, R_LSR, R_MSR, R_SCRATCH, R_COUNT };

#define IER_THRE 2u
#define IIR_NONE 1u
#define IIR_THRE 2u
#define IIR_FIFO 0xc0u
#define LCR_DLAB 0x80u
#define MCR_LOOP 0x10u
#define LSR_IDLE 0x60u /* holding and shift register empty */
#define MSR_IDLE 0xb0u /* carrier, ready, clear to send */

struct serial {
	struct bus_dev bus;
	int out_fd, irq_fd; /* borrowed */
	pthread_mutex_t lock; /* protects the rest: any vCPU may print */
	uint8_t ier, lcr, mcr, scratch, fifo;
	uint16_t divisor;
	bool thre_pending;
	char line[LINE_MAX_BYTES];
	unsigned n;
};

static void flush_line(struct serial *s)
{
	ssize_t n = write(s->out_fd, s->line, s->n);

	(void)n; /* a console that nobody reads must not stop the guest */
	s->n = 0;
}

static void transmit(struct serial *s, uint8_t c)
{
	if (s->mcr & MCR_LOOP)
		return;
	s->line[s->n++] = (char)c;
	if (c == '\n' || s->n == sizeof(s->line))
		flush_line(s);
}

/* The transmitter has room, which is news that a driver may want to hear. */
static void signal_room(struct serial *s)
{
	uint64_t one = 1;

	s->thre_pending = s->ier & IER_THRE;
	if (s->thre_pending && write(s->irq_fd, &one, sizeof(one)) < 0)
		s->thre_pending = false;
}

/* In loop-back the modem inputs show the modem outputs: drivers look for a UART that way. */
static uint8_t modem_status(const struct serial *s)
{
	uint8_t m = s->mcr;

	if (!(m & MCR_LOOP))
		return MSR_IDLE;
	return (uint8_t)((m & 2) << 3 | (m & 1) << 5 | (m & 4) << 4 | (m & 8) << 4);
}

static uint8_t interrupt_id(struct serial *s)
{
	uint8_t id = s->thre_pending ? IIR_THRE : IIR_NONE;

	s->thre_pending = false; /* reading it is the acknowledgement */
	return id | (s->fifo ? IIR_FIFO : 0);
}

static uint8_t get(struct serial *s, uint64_t reg)
{
	bool dlab = s->lcr & LCR_DLAB;

	switch (reg) {
	case R_DATA:
		return dlab ? (uint8_t)s->divisor : 0;
	case R_IER:
		return dlab ? (uint8_t)(s->divisor >> 8) : s->ier;
	case R_IIR_FCR:
		return interrupt_id(s);
	case R_LCR:
		return s->lcr;
	case R_MCR:
		return s->mcr;
	case R_LSR:
		return LSR_IDLE;
	case R_MSR:
		return modem_status(s);
	default:
		return s->scratch;
	}
}

static void set(struct serial *s, uint64_t reg, uint8_t v)
{
	bool dlab = s->lcr & LCR_DLAB;

	switch (reg) {
	case R_DATA:
		if (dlab) {
			s->divisor = (uint16_t)((s->divisor & 0xff00) | v);
		} else {
			transmit(s, v);
			signal_room(s);
		}
		break;
	case R_IER:
		if (dlab) {
			s->divisor = (uint16_t)((s->divisor & 0xff) | v << 8);
		} else {
			s->ier = v & 0x0f;
			signal_room(s);
		}
		break;
	case R_IIR_FCR:
		s->fifo = v & 1;
		break;
	case R_LCR:
		s->lcr = v;
		break;
	case R_MCR:
		s->mcr = v & 0x1f;
		break;
	case R_SCRATCH:
		s->scratch = v;
		break;
	default: /* line and modem status are read only */
		break;
	}
}

/* Registers are one byte wide; wider accesses touch the first and read ones elsewhere. */
static void serial_read(struct bus_dev *d, uint64_t off, void *to, unsigned len)
{
	struct serial *s = container_of(d, struct serial, bus);

	memset(to, 0xff, len);
	pthread_mutex_lock(&s->lock);
	*(uint8_t *)to = get(s, off);
	pthread_mutex_unlock(&s->lock);
}

static void serial_write(struct bus_dev *d, uint64_t off, const void *from, unsigned len)
{
	struct serial *s = container_of(d, struct serial, bus);

	(void)len;
	pthread_mutex_lock(&s->lock);
	set(s, off, *(const uint8_t *)from);
	pthread_mutex_unlock(&s->lock);
}

struct serial *serial_new(uint64_t port, int out_fd, int irq_fd)
{
	struct serial *s = xcalloc(1, sizeof(*s));

	s->bus = (struct bus_dev){
		.name = "serial", .base = port, .len = R_COUNT, .read = serial_read, .write = serial_write};
	s->out_fd = out_fd;
	s->irq_fd = irq_fd;
	s->divisor = 1;
	fd_set_nonblock(out_fd, true);
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

void serial_free(struct serial *s)
{
	if (!s)
		return;
	if (s->n)
		flush_line(s);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

struct bus_dev *serial_bus_dev(struct serial *s)
{
	return &s->bus;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-mmio, version 2: the layout of registers (virtio 1.2, 4.2.2) over virtio/regs.c.
 *
 * Registers are 32 bits wide and aligned; any other access reads zero and writes nothing. The
 * configuration space from 0x100 takes 1, 2, 4 and 8 bytes.
 *
 * Exits. A kick is a write to QUEUE_NOTIFY, which the hypervisor turns into the queue's eventfd:
 * none. An interrupt is a write to the line's eventfd, but the driver reads INTERRUPT_STATUS and
 * writes INTERRUPT_ACK each time: two, answered here without the device's thread.
 *
 * The line is edge-triggered: every event gives a pulse, also while an earlier one is not yet
 * acknowledged, so a driver that acknowledges before it looks misses nothing. */
#include "vmm/mmio.h"

#include <endian.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/fd.h"
#include "base/mem.h"

enum {
	MAGIC = 0x000,
	VERSION = 0x004,
	DEVICE_ID = 0x008,
	VENDOR_ID = 0x00c,
	DEVICE_FEATURES = 0x010,
	DEVICE_FEATURES_SEL = 0x014,
	DRIVER_FEATURES = 0x020,
	DRIVER_FEATURES_SEL = 0x024,
	QUEUE_SEL = 0x030,
	QUEUE_NUM_MAX = 0x034,
	QUEUE_NUM = 0x038,
	QUEUE_READY = 0x044,
	QUEUE_NOTIFY = 0x050,
	INTERRUPT_STATUS = 0x060,
	INTERRUPT_ACK = 0x064,
	STATUS = 0x070,
	QUEUE_DESC_LOW = 0x080,
	QUEUE_DESC_HIGH = 0x084,
	QUEUE_AVAIL_LOW = 0x090,
	QUEUE_AVAIL_HIGH = 0x094,
	QUEUE_USED_LOW = 0x0a0,
	QUEUE_USED_HIGH = 0x0a4,
	SHM_LEN_LOW = 0x0b0,
	SHM_LEN_HIGH = 0x0b4,
	SHM_BASE_LOW = 0x0b8,
	SHM_BASE_HIGH = 0x0bc,
	CONFIG_GENERATION = 0x0fc,
	CONFIG = 0x100,
};

#define MAGIC_VALUE 0x74726976u /* "virt" */
#define VENDOR      0x48435448u /* "HTCH" */
#define INT_QUEUE   1u
#define INT_CONFIG  2u

struct mmio {
	struct vregs regs;
	struct bus_dev bus;
	struct hv *hv;              /* borrowed */
	int irq_fd;                 /* owned eventfd: the line */
	_Atomic uint32_t interrupt; /* InterruptStatus: the device's threads set, vCPUs clear */
	bool doorbell[VDEV_QUEUES_MAX];
};

/* ---- interrupts ---- */

static void raise_line(struct mmio *m, uint32_t why)
{
	uint64_t one = 1;

	atomic_fetch_or(&m->interrupt, why);
	/* A counter that is full is an interrupt that is pending already. */
	if (write(m->irq_fd, &one, sizeof(one)) < 0)
		return;
}

static void queue_interrupt(struct vregs *r, unsigned q)
{
	raise_line(container_of(r, struct mmio, regs), INT_QUEUE);
}

static void config_interrupt(struct vregs *r)
{
	raise_line(container_of(r, struct mmio, regs), INT_CONFIG);
}

static void on_reset(struct vregs *r)
{
	atomic_store(&container_of(r, struct mmio, regs)->interrupt, 0);
}

static const struct vregs_ops regs_ops = {
	.queue_interrupt = queue_interrupt,
	.config_interrupt = config_interrupt,
	.reset = on_reset,
};

/* ---- registers ---- */

static uint32_t read_register(struct mmio *m, uint64_t off)
{
	struct vregs *r = &m->regs;
	const struct vregs_queue *q;

	switch (off) {
	case MAGIC:
		return MAGIC_VALUE;
	case VERSION:
		return 2;
	case DEVICE_ID:
		return r->dev->ops->id;
	case VENDOR_ID:
		return VENDOR;
	case DEVICE_FEATURES:
		return vregs_device_features(r);
	case QUEUE_NUM_MAX:
		return vregs_queue_get(r) ? VREGS_QUEUE_SIZE : 0;
	case QUEUE_READY:
		q = vregs_queue_get(r);
		return q && q->enabled;
	case STATUS:
		return atomic_load(&r->status);
	case SHM_LEN_LOW:
	case SHM_LEN_HIGH:
	case SHM_BASE_LOW:
	case SHM_BASE_HIGH:
		return UINT32_MAX; /* no such region (4.2.2) */
	case CONFIG_GENERATION:
		return atomic_load(&r->generation);
	default:
		return 0;
	}
}

/* Registers of the selected queue; without effect when there is none or it is in use. */
static void write_queue(struct mmio *m, uint64_t off, uint32_t v)
{
	struct vregs_queue *q = vregs_queue_idle(&m->regs);

	if (!q)
		return;
	switch (off) {
	case QUEUE_NUM:
		q->size = v <= UINT16_MAX ? (uint16_t)v : 0;
		break;
	case QUEUE_DESC_LOW:
	case QUEUE_DESC_HIGH:
		vregs_set_half(&q->desc, off == QUEUE_DESC_HIGH, v);
		break;
	case QUEUE_AVAIL_LOW:
	case QUEUE_AVAIL_HIGH:
		vregs_set_half(&q->avail, off == QUEUE_AVAIL_HIGH, v);
		break;
	case QUEUE_USED_LOW:
	case QUEUE_USED_HIGH:
		vregs_set_half(&q->used, off == QUEUE_USED_HIGH, v);
		break;
	default:
		break;
	}
}

static void write_register(struct mmio *m, uint64_t off, uint32_t v)
{
	struct vregs *r = &m->regs;

	switch (off) {
	case DEVICE_FEATURES_SEL:
		r->device_sel = v;
		break;
	case DRIVER_FEATURES:
		vregs_set_driver_features(r, v);
		break;
	case DRIVER_FEATURES_SEL:
		r->driver_sel = v;
		break;
	case QUEUE_SEL:
		r->queue_sel = v;
		break;
	case QUEUE_READY:
		if (v & 1)
			vregs_queue_enable(r);
		else
			vregs_queue_disable(r);
		break;
	case STATUS:
		vregs_set_status(r, v);
		break;
	default:
		write_queue(m, off, v);
	}
}

static void bus_reads(struct bus_dev *b, uint64_t off, void *to, unsigned len)
{
	struct mmio *m = container_of(b, struct mmio, bus);
	uint32_t v;

	memset(to, 0, len);
	if (off < CONFIG && (len != 4 || off % 4))
		return;
	if (off == INTERRUPT_STATUS) {
		v = htole32(atomic_load(&m->interrupt));
		memcpy(to, &v, sizeof(v));
		return;
	}
	pthread_mutex_lock(&m->regs.lock);
	if (off >= CONFIG) {
		vregs_config_read(&m->regs, off - CONFIG, to, len);
	} else {
		v = htole32(read_register(m, off));
		memcpy(to, &v, sizeof(v));
	}
	pthread_mutex_unlock(&m->regs.lock);
}

static void bus_writes(struct bus_dev *b, uint64_t off, const void *from, unsigned len)
{
	struct mmio *m = container_of(b, struct mmio, bus);
	uint32_t v = 0;

	if (off < CONFIG) {
		if (len != 4 || off % 4)
			return;
		memcpy(&v, from, sizeof(v));
		v = le32toh(v);
	}
	if (off == INTERRUPT_ACK) {
		atomic_fetch_and(&m->interrupt, ~v);
		return;
	}
	if (off == QUEUE_NOTIFY) {
		vregs_kick(&m->regs, v);
		return;
	}
	pthread_mutex_lock(&m->regs.lock);
	if (off >= CONFIG)
		vregs_config_write(&m->regs, off - CONFIG, from, len);
	else
		write_register(m, off, v);
	pthread_mutex_unlock(&m->regs.lock);
}

/* ---- life ---- */

static struct hv_doorbell doorbell(const struct mmio *m, unsigned q)
{
	return (struct hv_doorbell){
		.gpa = m->bus.base + QUEUE_NOTIFY,
		.len = 4,
		.match = true,
		.value = q,
		.eventfd = vregs_kick_fd(&m->regs, q),
	};
}

static int connect(struct mmio *m, unsigned line, struct err *err)
{
	m->irq_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->irq_fd < 0)
		return err_errno(err, "interrupt of %s", m->regs.dev->ops->name);
	if (hv_line(m->hv, line, m->irq_fd, err) < 0)
		return -1;
	for (unsigned q = 0; q < m->regs.dev->ops->n_queues; q++) {
		struct hv_doorbell d = doorbell(m, q);

		if (hv_doorbell(m->hv, &d, true, err) < 0)
			return -1;
		m->doorbell[q] = true;
	}
	return 0;
}

struct mmio *mmio_new(
	struct hv *hv, uint64_t base, unsigned line, const struct vregs_config *c, struct err *err)
{
	struct mmio *m = xcalloc(1, sizeof(*m));

	m->hv = hv;
	m->irq_fd = -1;
	m->bus = (struct bus_dev){
		.name = c->dev->ops->name,
		.base = base, .len = MMIO_BYTES, .read = bus_reads, .write = bus_writes};
	if (vregs_init(&m->regs, c, &regs_ops, err) < 0) {
		free(m);
		return NULL;
	}
	if (connect(m, line, err) < 0) {
		mmio_free(m);
		return NULL;
	}
	return m;
}

void mmio_free(struct mmio *m)
{
	if (!m)
		return;
	for (unsigned q = 0; q < VDEV_QUEUES_MAX; q++) {
		struct hv_doorbell d = doorbell(m, q);

		if (m->doorbell[q])
			hv_doorbell(m->hv, &d, false, NULL);
	}
	vregs_done(&m->regs);
	close_and_reset(&m->irq_fd);
	free(m);
}

struct bus_dev *mmio_bus_dev(struct mmio *m)
{
	return &m->bus;
}

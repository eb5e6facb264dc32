/* SPDX-License-Identifier: Apache-2.0 */
/* virtio over PCI: the layout of registers (virtio 1.2, 4.1) over virtio/regs.c.
 *
 * BAR 0 has a page for each part: common configuration, ISR status, device configuration,
 * notifications, MSI-X table, MSI-X pending bits. Fields are accessed in their own width (64-bit
 * ones also as halves); any other access reads zero and writes nothing.
 *
 * Exits. A kick is a write to the queue's own notification address, which the hypervisor turns into
 * the queue's eventfd; an interrupt is a message. None of either needs an exit. Doorbells follow
 * the BAR; where one cannot be had, the write arrives here and kicks all the same.
 *
 * There is no INTx: a guest that cannot do MSI-X has no interrupts, as the empty interrupt pin
 * says, and Linux then leaves the device alone. */
#include "vmm/virtio_pci.h"

#include <endian.h>
#include <string.h>

#include "base/mem.h"
#include "vmm/msix.h"

#define VENDOR_VIRTIO 0x1af4u
#define DEVICE_BASE   0x1040u /* plus the virtio device id */
#define SUB_DEVICE    0x1100u /* anything from 0x40 on says modern */
#define CLASS_OTHER   0xff0000u
#define NO_VECTOR     0xffffu
#define ISR_QUEUE     1u
#define ISR_CONFIG    2u

/* Pages of BAR 0. */
#define PAGE 0x1000u
enum { PAGE_COMMON, PAGE_ISR, PAGE_DEVICE, PAGE_NOTIFY, PAGE_TABLE, PAGE_PENDING };
#define BAR_BYTES         0x8000u
#define COMMON_BYTES      0x38u
#define NOTIFY_MULTIPLIER 4u

/* Capabilities in configuration space. */
enum {
	CAP_MSIX = 0x40, /* 12 bytes */
	CAP_COMMON = 0x4c,
	CAP_ISR = 0x5c,
	CAP_DEVICE = 0x6c,
	CAP_NOTIFY = 0x7c, /* 20 bytes */
	CAP_CFG = 0x90,    /* 20 bytes */
	CAP_CFG_BAR = CAP_CFG + 4,
	CAP_CFG_OFFSET = CAP_CFG + 8,
	CAP_CFG_LENGTH = CAP_CFG + 12,
	CAP_CFG_DATA = CAP_CFG + 16,
};
#define CAP_ID_VENDOR 0x09u
#define CAP_ID_MSIX   0x11u
enum { CFG_COMMON = 1, CFG_NOTIFY, CFG_ISR, CFG_DEVICE, CFG_PCI };

enum { /* common configuration, 4.1.4.3 */
	DEVICE_FEATURE_SELECT = 0x00,
	DEVICE_FEATURE = 0x04,
	DRIVER_FEATURE_SELECT = 0x08,
	DRIVER_FEATURE = 0x0c,
	CONFIG_VECTOR = 0x10,
	NUM_QUEUES = 0x12,
	DEVICE_STATUS = 0x14,
	CONFIG_GENERATION = 0x15,
	QUEUE_SELECT = 0x16,
	QUEUE_SIZE = 0x18,
	QUEUE_VECTOR = 0x1a,
	QUEUE_ENABLE = 0x1c,
	QUEUE_NOTIFY_OFF = 0x1e,
	QUEUE_DESC = 0x20,
	QUEUE_DRIVER = 0x28,
	QUEUE_DEVICE = 0x30,
};

_Static_assert(VDEV_QUEUES_MAX + 1 <= MSIX_VECTORS_MAX, "a vector for each queue, and one");

struct virtio_pci {
	struct vregs regs;
	struct pci_fn fn;
	struct msix msix;
	struct hv *hv; /* borrowed */
	/* vCPUs write, the device's threads read */
	_Atomic uint16_t config_vector, vectors[VDEV_QUEUES_MAX];
	_Atomic uint8_t isr;            /* the device's threads set, vCPUs clear */
	bool doorbell[VDEV_QUEUES_MAX]; /* under the bridge's lock */
};

/* ---- interrupts ---- */

static void queue_interrupt(struct vregs *r, unsigned q)
{
	struct virtio_pci *v = container_of(r, struct virtio_pci, regs);

	if (!msix_notify(&v->msix, atomic_load(&v->vectors[q])))
		atomic_fetch_or(&v->isr, ISR_QUEUE);
}

static void config_interrupt(struct vregs *r)
{
	struct virtio_pci *v = container_of(r, struct virtio_pci, regs);

	atomic_fetch_or(&v->isr, ISR_CONFIG);
	msix_notify(&v->msix, atomic_load(&v->config_vector));
}

static void forget_vectors(struct virtio_pci *v)
{
	atomic_store(&v->config_vector, NO_VECTOR);
	for (unsigned q = 0; q < VDEV_QUEUES_MAX; q++)
		atomic_store(&v->vectors[q], NO_VECTOR);
	atomic_store(&v->isr, 0);
}

static void on_reset(struct vregs *r)
{
	struct virtio_pci *v = container_of(r, struct virtio_pci, regs);

	forget_vectors(v);
	msix_clear_pending(&v->msix);
}

static const struct vregs_ops regs_ops = {
	.queue_interrupt = queue_interrupt,
	.config_interrupt = config_interrupt,
	.reset = on_reset,
};

/* ---- common configuration ---- */

/* Width of the field that starts at @off, 0: none does. */
static unsigned field_bytes(uint64_t off)
{
	if (off >= QUEUE_DESC)
		return off < COMMON_BYTES && off % 4 == 0 ? 4 : 0;
	if (off >= CONFIG_VECTOR)
		return off == DEVICE_STATUS || off == CONFIG_GENERATION ? 1 : off % 2 == 0 ? 2 : 0;
	return off % 4 == 0 ? 4 : 0;
}

static uint32_t queue_read(const struct virtio_pci *v, const struct vregs_queue *q, uint64_t off)
{
	const unsigned i = v->regs.queue_sel;

	switch (off) {
	case QUEUE_SIZE:
		return q->size;
	case QUEUE_VECTOR:
		return atomic_load(&v->vectors[i]);
	case QUEUE_ENABLE:
		return q->enabled;
	case QUEUE_NOTIFY_OFF:
		return i;
	case QUEUE_DESC:
		return (uint32_t)q->desc;
	case QUEUE_DESC + 4:
		return (uint32_t)(q->desc >> 32);
	case QUEUE_DRIVER:
		return (uint32_t)q->avail;
	case QUEUE_DRIVER + 4:
		return (uint32_t)(q->avail >> 32);
	case QUEUE_DEVICE:
		return (uint32_t)q->used;
	case QUEUE_DEVICE + 4:
		return (uint32_t)(q->used >> 32);
	default:
		return 0;
	}
}

static uint32_t common_read(struct virtio_pci *v, uint64_t off)
{
	struct vregs *r = &v->regs;
	const struct vregs_queue *q;

	switch (off) {
	case DEVICE_FEATURE_SELECT:
		return r->device_sel;
	case DEVICE_FEATURE:
		return vregs_device_features(r);
	case DRIVER_FEATURE_SELECT:
		return r->driver_sel;
	case DRIVER_FEATURE:
		return vregs_driver_features(r);
	case CONFIG_VECTOR:
		return atomic_load(&v->config_vector);
	case NUM_QUEUES:
		return r->dev->ops->n_queues;
	case DEVICE_STATUS:
		return atomic_load(&r->status);
	case CONFIG_GENERATION:
		return atomic_load(&r->generation) & 0xff;
	case QUEUE_SELECT:
		return r->queue_sel;
	default:
		q = vregs_queue_get(r);
		if (q)
			return queue_read(v, q, off);
		return off == QUEUE_VECTOR ? NO_VECTOR : 0;
	}
}

/* What is read back after a vector was written says whether it exists. */
static uint16_t vector(const struct virtio_pci *v, uint32_t n)
{
	return n < v->msix.n ? (uint16_t)n : NO_VECTOR;
}

static void queue_write(struct virtio_pci *v, uint64_t off, uint32_t value)
{
	struct vregs *r = &v->regs;
	struct vregs_queue *q = vregs_queue_get(r);

	if (!q)
		return;
	if (off == QUEUE_VECTOR) {
		atomic_store(&v->vectors[r->queue_sel], vector(v, value));
		return;
	}
	if (off == QUEUE_ENABLE) {
		/* Nothing but 1 may be written (4.1.4.3.2). */
		if (value == 1)
			vregs_queue_enable(r);
		return;
	}
	if (q->enabled)
		return;
	if (off == QUEUE_SIZE)
		q->size = (uint16_t)value;
	else if (off >= QUEUE_DEVICE)
		vregs_set_half(&q->used, off != QUEUE_DEVICE, value);
	else if (off >= QUEUE_DRIVER)
		vregs_set_half(&q->avail, off != QUEUE_DRIVER, value);
	else if (off >= QUEUE_DESC)
		vregs_set_half(&q->desc, off != QUEUE_DESC, value);
}

static void common_write(struct virtio_pci *v, uint64_t off, uint32_t value)
{
	struct vregs *r = &v->regs;

	switch (off) {
	case DEVICE_FEATURE_SELECT:
		r->device_sel = value;
		break;
	case DRIVER_FEATURE_SELECT:
		r->driver_sel = value;
		break;
	case DRIVER_FEATURE:
		vregs_set_driver_features(r, value);
		break;
	case CONFIG_VECTOR:
		atomic_store(&v->config_vector, vector(v, value));
		break;
	case DEVICE_STATUS:
		vregs_set_status(r, value);
		break;
	case QUEUE_SELECT:
		r->queue_sel = value;
		break;
	default:
		queue_write(v, off, value);
	}
}

/* Accesses of 8 bytes to a 64-bit field are two of 4. */
static bool common_access(uint64_t off, unsigned len, unsigned *ret_step)
{
	unsigned bytes = off < COMMON_BYTES ? field_bytes(off) : 0;

	*ret_step = len == 8 ? 4 : len;
	if (len == 8)
		return bytes && off >= QUEUE_DESC && off % 8 == 0;
	return bytes == len;
}

static void common_reads(struct virtio_pci *v, uint64_t off, void *to, unsigned len)
{
	unsigned step;

	if (!common_access(off, len, &step))
		return;
	for (unsigned i = 0; i < len; i += step) {
		uint32_t value = htole32(common_read(v, off + i));

		memcpy((uint8_t *)to + i, &value, step);
	}
}

static void common_writes(struct virtio_pci *v, uint64_t off, const void *from, unsigned len)
{
	unsigned step;

	if (!common_access(off, len, &step))
		return;
	for (unsigned i = 0; i < len; i += step) {
		uint32_t value = 0;

		memcpy(&value, (const uint8_t *)from + i, step);
		common_write(v, off + i, le32toh(value));
	}
}

/* ---- BAR 0 ---- */

static void bar_read(struct pci_fn *f, uint64_t off, void *to, unsigned len)
{
	struct virtio_pci *v = container_of(f, struct virtio_pci, fn);
	const uint64_t page = off / PAGE;

	memset(to, 0, len);
	off %= PAGE;
	if (off > PAGE - len)
		return;
	switch (page) {
	case PAGE_COMMON:
		pthread_mutex_lock(&v->regs.lock);
		common_reads(v, off, to, len);
		pthread_mutex_unlock(&v->regs.lock);
		break;
	case PAGE_ISR:
		if (off == 0 && len == 1)
			*(uint8_t *)to = atomic_exchange(&v->isr, 0);
		break;
	case PAGE_DEVICE:
		pthread_mutex_lock(&v->regs.lock);
		vregs_config_read(&v->regs, off, to, len);
		pthread_mutex_unlock(&v->regs.lock);
		break;
	case PAGE_TABLE:
		msix_table_read(&v->msix, off, to, len);
		break;
	case PAGE_PENDING:
		msix_pending_read(&v->msix, off, to, len);
		break;
	default:
		break;
	}
}

static void bar_write(struct pci_fn *f, uint64_t off, const void *from, unsigned len)
{
	struct virtio_pci *v = container_of(f, struct virtio_pci, fn);
	const uint64_t page = off / PAGE;

	off %= PAGE;
	if (off > PAGE - len)
		return;
	switch (page) {
	case PAGE_COMMON:
		pthread_mutex_lock(&v->regs.lock);
		common_writes(v, off, from, len);
		pthread_mutex_unlock(&v->regs.lock);
		break;
	case PAGE_DEVICE:
		pthread_mutex_lock(&v->regs.lock);
		vregs_config_write(&v->regs, off, from, len);
		pthread_mutex_unlock(&v->regs.lock);
		break;
	case PAGE_NOTIFY:
		if (off % NOTIFY_MULTIPLIER == 0)
			vregs_kick(&v->regs, (uint32_t)(off / NOTIFY_MULTIPLIER));
		break;
	case PAGE_TABLE:
		msix_table_write(&v->msix, off, from, len);
		break;
	default:
		break;
	}
}

static void moved(struct pci_fn *f, uint64_t from, uint64_t to)
{
	struct virtio_pci *v = container_of(f, struct virtio_pci, fn);

	for (unsigned q = 0; q < v->regs.dev->ops->n_queues; q++) {
		struct hv_doorbell d = {.eventfd = vregs_kick_fd(&v->regs, q)};
		const uint64_t off = PAGE_NOTIFY * PAGE + q * NOTIFY_MULTIPLIER;

		d.gpa = from + off;
		if (v->doorbell[q])
			hv_doorbell(v->hv, &d, false, NULL);
		d.gpa = to + off;
		v->doorbell[q] = to && hv_doorbell(v->hv, &d, true, NULL) == 0;
	}
}

/* ---- configuration space ---- */

static bool touches(unsigned reg, unsigned len, unsigned at, unsigned n)
{
	return reg < at + n && at < reg + len;
}

/* What the window in configuration space points at (4.1.4.9). False: nothing. */
static bool cfg_window(const struct pci_fn *f, uint32_t *ret_off, uint32_t *ret_len)
{
	*ret_off = pci_get(f, CAP_CFG_OFFSET, 4);
	*ret_len = pci_get(f, CAP_CFG_LENGTH, 4);
	return f->config[CAP_CFG_BAR] == 0 && (*ret_len == 1 || *ret_len == 2 || *ret_len == 4) &&
	       *ret_off <= BAR_BYTES - *ret_len && *ret_off % *ret_len == 0;
}

static void config_read(struct pci_fn *f, unsigned reg, unsigned len)
{
	uint32_t off, n;

	if (touches(reg, len, CAP_CFG_DATA, 4) && cfg_window(f, &off, &n))
		bar_read(f, off, f->config + CAP_CFG_DATA, n);
}

static void config_written(struct pci_fn *f, unsigned reg, unsigned len)
{
	struct virtio_pci *v = container_of(f, struct virtio_pci, fn);
	uint32_t off, n;

	if (touches(reg, len, CAP_MSIX + 2, 2))
		msix_control(&v->msix, (uint16_t)pci_get(f, CAP_MSIX + 2, 2));
	if (touches(reg, len, CAP_CFG_DATA, 4) && cfg_window(f, &off, &n))
		bar_write(f, off, f->config + CAP_CFG_DATA, n);
}

static const struct pci_ops pci_ops = {
	.bar_read = bar_read,
	.bar_write = bar_write,
	.config_read = config_read,
	.config_written = config_written,
	.moved = moved,
};

/* A capability that says where in BAR 0 a part lies. */
static void add_cap(struct pci_fn *f, unsigned at, unsigned next, unsigned bytes, unsigned type,
	unsigned page, uint32_t len)
{
	f->config[at] = CAP_ID_VENDOR;
	f->config[at + 1] = (uint8_t)next;
	f->config[at + 2] = (uint8_t)bytes;
	f->config[at + 3] = (uint8_t)type;
	pci_set(f, at + 8, 4, page * PAGE);
	pci_set(f, at + 12, 4, len);
}

static void fill_config(struct virtio_pci *v)
{
	struct pci_fn *f = &v->fn;
	const struct vdev_ops *ops = v->regs.dev->ops;

	pci_set(f, PCI_VENDOR, 2, VENDOR_VIRTIO);
	pci_set(f, PCI_DEVICE, 2, DEVICE_BASE + ops->id);
	f->config[PCI_REVISION] = 1;
	pci_set(f, PCI_CLASS, 3, CLASS_OTHER);
	pci_set(f, PCI_SUB_VENDOR, 2, VENDOR_VIRTIO);
	pci_set(f, PCI_SUB_DEVICE, 2, SUB_DEVICE);
	f->config[PCI_CAPS] = CAP_MSIX;

	f->config[CAP_MSIX] = CAP_ID_MSIX;
	f->config[CAP_MSIX + 1] = CAP_COMMON;
	pci_set(f, CAP_MSIX + 2, 2, v->msix.n - 1);
	f->writable[CAP_MSIX + 3] = (MSIX_ENABLE | MSIX_MASK_ALL) >> 8;
	pci_set(f, CAP_MSIX + 4, 4, PAGE_TABLE * PAGE);
	pci_set(f, CAP_MSIX + 8, 4, PAGE_PENDING * PAGE);

	add_cap(f, CAP_COMMON, CAP_ISR, 16, CFG_COMMON, PAGE_COMMON, COMMON_BYTES);
	add_cap(f, CAP_ISR, CAP_DEVICE, 16, CFG_ISR, PAGE_ISR, 1);
	add_cap(f, CAP_DEVICE, CAP_NOTIFY, 16, CFG_DEVICE, PAGE_DEVICE, PAGE);
	add_cap(f, CAP_NOTIFY, CAP_CFG, 20, CFG_NOTIFY, PAGE_NOTIFY,
		ops->n_queues * NOTIFY_MULTIPLIER);
	pci_set(f, CAP_NOTIFY + 16, 4, NOTIFY_MULTIPLIER);
	add_cap(f, CAP_CFG, 0, 20, CFG_PCI, 0, 0);
	f->writable[CAP_CFG_BAR] = 0xff;
	memset(f->writable + CAP_CFG_OFFSET, 0xff, 12); /* offset, length, data */
}

/* ---- life ---- */

struct virtio_pci *virtio_pci_new(struct hv *hv, struct pci_host *host, unsigned first_msi,
	const struct vregs_config *c, unsigned *ret_msis, struct err *err)
{
	struct virtio_pci *v = xcalloc(1, sizeof(*v));

	v->hv = hv;
	v->fn.ops = &pci_ops;
	v->fn.bar_len = BAR_BYTES;
	forget_vectors(v);
	/* A vector for each queue and one for changes of the configuration. */
	if (msix_init(&v->msix, hv, first_msi, c->dev->ops->n_queues + 1, err) < 0) {
		free(v);
		return NULL;
	}
	if (vregs_init(&v->regs, c, &regs_ops, err) < 0) {
		msix_done(&v->msix);
		free(v);
		return NULL;
	}
	fill_config(v);
	if (pci_add(host, &v->fn, err) < 0) {
		virtio_pci_free(v);
		return NULL;
	}
	*ret_msis = v->msix.n;
	return v;
}

void virtio_pci_free(struct virtio_pci *v)
{
	if (!v)
		return;
	if (v->fn.at)
		moved(&v->fn, v->fn.at, 0);
	vregs_done(&v->regs);
	msix_done(&v->msix);
	free(v);
}

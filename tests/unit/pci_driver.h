/* SPDX-License-Identifier: Apache-2.0 */
/* A driver for virtio over PCI that goes the way of Linux: enumeration, BAR sizing, capabilities,
 * MSI-X, negotiation, requests. With the machine that it runs on: two toy devices behind a bridge.
 */
#pragma once

#include "fake_hv.h"
#include "vmm/virtio_pci.h"

#ifndef RIG_MEM
#define RIG_MEM (4u << 20) /* bytes of guest memory */
#endif
#define ECAM       0xe0000000ull
#define WINDOW     0xc0000000ull
#define WINDOW_LEN 0x100000ull
#define BAR_LEN    0x8000u
#define NO_VECTOR  0xffffu
#define MSG        0xfee00000u

enum {
	C_DEVICE_SEL = 0x00,
	C_DEVICE_FEATURES = 0x04,
	C_DRIVER_SEL = 0x08,
	C_DRIVER_FEATURES = 0x0c,
	C_CONFIG_VECTOR = 0x10,
	C_NUM_QUEUES = 0x12,
	C_STATUS = 0x14,
	C_GENERATION = 0x15,
	C_QUEUE_SEL = 0x16,
	C_SIZE = 0x18,
	C_VECTOR = 0x1a,
	C_ENABLE = 0x1c,
	C_NOTIFY_OFF = 0x1e,
	C_DESC = 0x20,
	C_DRIVER = 0x28,
	C_DEVICE = 0x30,
};

/* What the driver found out about one function. */
struct fn {
	struct hv *hv;
	unsigned slot;
	bool ports; /* by 0xcf8 and 0xcfc rather than by memory */
	uint64_t bar, common, isr, device, notify, table, pba;
	uint32_t multiplier;
	unsigned msix, cfg; /* capabilities */
};

struct rig {
	struct hv hv;
	struct toy toy[2];
	struct loop *loop;
	struct loop_caller *caller;
	struct pci_host *host;
	struct virtio_pci *v[2];
	struct vqd_mem mem;
	struct vqd drv[2];
	struct fn f;
};

/* ---- configuration space ---- */

static inline uint32_t conf_get(struct fn *f, unsigned reg, unsigned len)
{
	if (!f->ports)
		return (uint32_t)guest_read(f->hv, ECAM + f->slot * 0x8000ull + reg, len);
	guest_out(f->hv, 0xcf8, 4, 1u << 31 | f->slot << 11 | (reg & 0xfc));
	return guest_in(f->hv, (uint16_t)(0xcfc + (reg & 3)), len);
}

static inline void conf_set(struct fn *f, unsigned reg, unsigned len, uint32_t v)
{
	if (!f->ports) {
		guest_write(f->hv, ECAM + f->slot * 0x8000ull + reg, len, v);
		return;
	}
	guest_out(f->hv, 0xcf8, 4, 1u << 31 | f->slot << 11 | (reg & 0xfc));
	guest_out(f->hv, (uint16_t)(0xcfc + (reg & 3)), len, v);
}

/* Size and address of BAR 0, as pci_read_bases() finds them. */
static inline void size_bar(struct fn *f)
{
	uint32_t command = conf_get(f, PCI_COMMAND, 2), low, high, low_mask, high_mask;
	uint64_t mask;

	conf_set(f, PCI_COMMAND, 2, command & ~3u);
	low = conf_get(f, PCI_BAR0, 4);
	conf_set(f, PCI_BAR0, 4, UINT32_MAX);
	low_mask = conf_get(f, PCI_BAR0, 4);
	conf_set(f, PCI_BAR0, 4, low);
	high = conf_get(f, PCI_BAR0 + 4, 4);
	conf_set(f, PCI_BAR0 + 4, 4, UINT32_MAX);
	high_mask = conf_get(f, PCI_BAR0 + 4, 4);
	conf_set(f, PCI_BAR0 + 4, 4, high);
	for (unsigned bar = 2; bar < 6; bar++) {
		conf_set(f, PCI_BAR0 + 4 * bar, 4, UINT32_MAX);
		assert_int_equal(conf_get(f, PCI_BAR0 + 4 * bar, 4), 0);
	}
	conf_set(f, PCI_COMMAND, 2, command);
	assert_int_equal(low & 15, 4);
	mask = (uint64_t)high_mask << 32 | (low_mask & ~15u);
	assert_int_equal(~mask + 1, BAR_LEN);
	f->bar = (uint64_t)high << 32 | (low & ~15u);
}

static inline void move_bar(struct fn *f, uint64_t to)
{
	conf_set(f, PCI_BAR0, 4, (uint32_t)to);
	conf_set(f, PCI_BAR0 + 4, 4, (uint32_t)(to >> 32));
}

static inline void place(struct fn *f, unsigned type, unsigned at, unsigned bytes)
{
	uint64_t off = f->bar + conf_get(f, at + 8, 4);

	if (type == 5) { /* its registers are the guest's */
		f->cfg = at;
		assert_int_equal(bytes, 20);
		return;
	}
	assert_int_equal(conf_get(f, at + 4, 1), 0);
	assert_true(off + conf_get(f, at + 12, 4) <= f->bar + BAR_LEN);
	switch (type) {
	case 1:
		f->common = off;
		break;
	case 2:
		f->notify = off;
		f->multiplier = conf_get(f, at + 16, 4);
		assert_int_equal(bytes, 20);
		break;
	case 3:
		f->isr = off;
		break;
	case 4:
		f->device = off;
		break;
	default:
		fail();
	}
}

static inline void walk_caps(struct fn *f)
{
	unsigned at = conf_get(f, PCI_CAPS, 1), n = 0;

	assert_true(conf_get(f, PCI_STATUS, 2) & 0x10);
	for (; at; at = conf_get(f, at + 1, 1), n++) {
		assert_true(at % 4 == 0 && at >= 0x40 && n < 8);
		if (conf_get(f, at, 1) == 0x11) {
			f->msix = at;
			f->table = f->bar + conf_get(f, at + 4, 4);
			f->pba = f->bar + conf_get(f, at + 8, 4);
		} else {
			assert_int_equal(conf_get(f, at, 1), 9);
			place(f, conf_get(f, at + 3, 1), at, conf_get(f, at + 2, 1));
		}
	}
	assert_int_equal(n, 6);
}

/* Everything about the function in @slot, which is then switched on. */
static inline void discover(struct rig *r, struct fn *f, unsigned slot, bool ports)
{
	*f = (struct fn){.hv = &r->hv, .slot = slot, .ports = ports};
	assert_int_equal(conf_get(f, PCI_VENDOR, 4), 0x1af4 | (0x1040 + 42) << 16);
	size_bar(f);
	walk_caps(f);
	conf_set(f, PCI_COMMAND, 2, 6);
	assert_int_equal(conf_get(f, PCI_COMMAND, 2), 6);
}

static inline void rig_init(struct rig *r)
{
	struct vregs_config c = {.mem = &r->mem.gmem};
	unsigned msi = 0, n;

	*r = (struct rig){0};
	fake_hv_init(&r->hv);
	vqd_mem_init(&r->mem, RIG_MEM);
	c.loop = r->loop = loop_new(NULL);
	c.caller = r->caller = loop_caller_new(r->loop, NULL);
	r->host = pci_host_new(ECAM, WINDOW, WINDOW_LEN);
	for (unsigned i = 0; i < 2; i++) {
		r->toy[i] = (struct toy){.dev = {.ops = &toy_ops}, .config = "Hutch!"};
		c.dev = &r->toy[i].dev;
		r->v[i] = virtio_pci_new(&r->hv, r->host, msi, &c, &n, NULL);
		assert_non_null(r->v[i]);
		assert_int_equal(n, 3);
		msi += n;
	}
	assert_int_equal(bus_add(&r->hv.ports, pci_host_ports(r->host), NULL), 0);
	assert_int_equal(bus_add(&r->hv.memory, pci_host_ecam(r->host), NULL), 0);
	assert_int_equal(bus_add(&r->hv.memory, pci_host_window(r->host), NULL), 0);
	assert_int_equal(loop_once(r->loop, 0, NULL), 0);
}

static inline void rig_done(struct rig *r)
{
	for (unsigned i = 0; i < 2; i++)
		virtio_pci_free(r->v[i]);
	assert_int_equal(r->hv.n_bells, 0);
	for (unsigned i = 0; i < HV_MSIS_MAX; i++)
		assert_int_equal(r->hv.msis[i].fd, 0);
	pci_host_free(r->host);
	loop_caller_free(r->caller);
	loop_free(r->loop);
	vqd_mem_done(&r->mem);
	fake_hv_done(&r->hv);
}

static inline uint32_t get(struct rig *r, unsigned reg, unsigned len)
{
	return (uint32_t)guest_read(&r->hv, r->f.common + reg, len);
}

static inline void set(struct rig *r, unsigned reg, unsigned len, uint32_t v)
{
	guest_write(&r->hv, r->f.common + reg, len, v);
}

static inline void turn(struct rig *r)
{
	for (int i = 0; i < 3; i++)
		assert_int_equal(loop_once(r->loop, 0, NULL), 0);
}

/* ---- the driver, in the order of Linux's virtio core and virtio_pci_modern.c ---- */

static inline void add_status(struct rig *r, uint8_t bit)
{
	set(r, C_STATUS, 1, get(r, C_STATUS, 1) | bit);
}

static inline void driver_accept(struct rig *r, uint64_t f)
{
	set(r, C_DRIVER_SEL, 4, 0);
	set(r, C_DRIVER_FEATURES, 4, (uint32_t)f);
	set(r, C_DRIVER_SEL, 4, 1);
	set(r, C_DRIVER_FEATURES, 4, (uint32_t)(f >> 32));
}

static inline uint64_t driver_features(struct rig *r)
{
	uint64_t f;

	set(r, C_DEVICE_SEL, 4, 0);
	f = get(r, C_DEVICE_FEATURES, 4);
	set(r, C_DEVICE_SEL, 4, 1);
	return f | (uint64_t)get(r, C_DEVICE_FEATURES, 4) << 32;
}

static inline void driver_begin(struct rig *r)
{
	set(r, C_STATUS, 1, 0);
	assert_int_equal(get(r, C_STATUS, 1), 0);
	add_status(r, 1);
	add_status(r, 2);
	driver_accept(r, driver_features(r));
	add_status(r, 8);
	assert_int_equal(get(r, C_STATUS, 1), 11);
}

/* Entry @i: masked, filled, unmasked. */
static inline void driver_vector(struct rig *r, unsigned i, uint32_t data)
{
	uint64_t e = r->f.table + 16 * i;

	guest_write(&r->hv, e + 12, 4, 1);
	guest_write(&r->hv, e, 4, MSG);
	guest_write(&r->hv, e + 4, 4, 0);
	guest_write(&r->hv, e + 8, 4, data);
	guest_write(&r->hv, e + 12, 4, 0);
}

static inline void driver_msix(struct rig *r)
{
	conf_set(&r->f, r->f.msix + 2, 2, conf_get(&r->f, r->f.msix + 2, 2) | 0xc000);
	for (unsigned i = 0; i < 3; i++)
		driver_vector(r, i, 0x4020 + i);
	conf_set(&r->f, r->f.msix + 2, 2, conf_get(&r->f, r->f.msix + 2, 2) & ~0x4000u);
	set(r, C_CONFIG_VECTOR, 2, 0);
	assert_int_equal(get(r, C_CONFIG_VECTOR, 2), 0);
}

static inline void driver_queue(struct rig *r, unsigned q)
{
	struct vqd *d = &r->drv[q];

	vqd_init(d, &r->mem, 256);
	set(r, C_QUEUE_SEL, 2, q);
	assert_int_equal(get(r, C_SIZE, 2), 256);
	assert_int_equal(get(r, C_ENABLE, 2), 0);
	set(r, C_SIZE, 2, 256);
	set(r, C_DESC, 4, (uint32_t)d->desc);
	set(r, C_DESC + 4, 4, (uint32_t)(d->desc >> 32));
	set(r, C_DRIVER, 4, (uint32_t)d->avail);
	set(r, C_DRIVER + 4, 4, (uint32_t)(d->avail >> 32));
	set(r, C_DEVICE, 4, (uint32_t)d->used);
	set(r, C_DEVICE + 4, 4, (uint32_t)(d->used >> 32));
	assert_int_equal(get(r, C_NOTIFY_OFF, 2), q);
	set(r, C_VECTOR, 2, q + 1);
	assert_int_equal(get(r, C_VECTOR, 2), q + 1);
}

static inline void driver_probe(struct rig *r)
{
	driver_begin(r);
	driver_msix(r);
	for (unsigned q = 0; q < 2; q++)
		driver_queue(r, q);
	for (unsigned q = 0; q < 2; q++) {
		set(r, C_QUEUE_SEL, 2, q);
		set(r, C_ENABLE, 2, 1);
	}
	add_status(r, 4);
	assert_int_equal(get(r, C_STATUS, 1), 15);
}

static inline void kick(struct rig *r, unsigned q)
{
	guest_write(&r->hv, r->f.notify + q * r->f.multiplier, 2, q);
}

/* Whether message @i arrived; the second function's begin at 3. */
static inline bool irq(struct rig *r, unsigned i)
{
	i += 3 * (r->f.slot - 1);
	return take_event(r->hv.msis[i].fd);
}

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

	vqd_set_used_event(&r->drv[q], r->drv[q].last_used);
	kick(r, q);
	turn(r);
	assert_true(irq(r, q + 1));
	assert_int_not_equal(vqd_get_used(&r->drv[q], NULL), -1);
	assert_memory_equal(vqd_ptr(&r->mem, to), "HELLO", 5);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile driver in PCI configuration space, in the BARs of two functions, and in their queues.
 * Whatever it does, the status machines stay in order, doorbells stay in the window, and both
 * functions can be had back. */
#include <stddef.h>
#include <stdint.h>

#include "transport.h"

#define RIG_MEM 0x20000u

#include "../unit/pci_driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t conf[] = {PCI_COMMAND, PCI_BAR0, PCI_BAR0 + 4, 0x40, 0x42, 0x43, 0x94, 0x98,
	0x9c, 0xa0, PCI_IRQ_LINE, PCI_VENDOR};

static const uint8_t common[] = {C_DEVICE_SEL, C_DEVICE_FEATURES, C_DRIVER_SEL, C_DRIVER_FEATURES,
	C_CONFIG_VECTOR, C_NUM_QUEUES, C_STATUS, C_GENERATION, C_QUEUE_SEL, C_SIZE, C_VECTOR,
	C_ENABLE, C_NOTIFY_OFF, C_DESC, C_DESC + 4, C_DRIVER, C_DRIVER + 4, C_DEVICE, C_DEVICE + 4};

/* A field of the common configuration in its own width. */
static void field(struct rig *r, struct in *in, uint16_t which, bool write)
{
	unsigned off = common[which % ARRAY_SIZE(common)];
	unsigned len = off >= C_DESC || off < C_CONFIG_VECTOR   ? 4
		       : off == C_STATUS || off == C_GENERATION ? 1
								: 2;
	uint64_t at = WINDOW + (which >> 8 & 1) * BAR_LEN + off;

	if (write)
		guest_write(&r->hv, at, len, take(in, len));
	else
		guest_read(&r->hv, at, len);
}

static void step(struct rig *r, struct in *in)
{
	uint8_t op = (uint8_t)take(in, 1);
	uint16_t at = (uint16_t)take(in, 2);
	unsigned len = 1u << (op >> 4 & 3);
	struct fn f = {.hv = &r->hv, .slot = 1 + (at >> 8 & 1), .ports = op & 0x80};

	switch (op & 15) {
	case 0: /* the BARs in their first places */
		guest_write(&r->hv, WINDOW + at, len, take(in, len));
		break;
	case 1:
		guest_read(&r->hv, WINDOW + at, len);
		break;
	case 2: /* anywhere in the window */
		guest_write(&r->hv, WINDOW + (uint64_t)at * 16, len, take(in, len));
		break;
	case 3:
		guest_write(&r->hv, ECAM + (at & 0x1ffff), len, take(in, len));
		break;
	case 4:
		guest_read(&r->hv, ECAM + (at & 0x1ffff), len);
		break;
	case 5:
		guest_out(&r->hv, (uint16_t)(0xcf8 + at % 8), MIN(len, 4), (uint32_t)take(in, 4));
		break;
	case 6:
		guest_in(&r->hv, (uint16_t)(0xcf8 + at % 8), MIN(len, 4));
		break;
	case 7:
	case 8:
		conf_set(&f, conf[at % ARRAY_SIZE(conf)], MIN(len, 4), (uint32_t)take(in, len));
		break;
	case 9:
		conf_get(&f, conf[at % ARRAY_SIZE(conf)], MIN(len, 4));
		break;
	case 10:
	case 11:
		field(r, in, at, true);
		break;
	case 12:
		field(r, in, at, false);
		break;
	case 13: /* queue memory */
		for (unsigned i = 0; i < 16; i++)
			r->mem.host[at % 0x4000 + i] = (uint8_t)take(in, 1);
		break;
	case 14:
		vdev_config_changed(&r->toy[at & 1].dev);
		break;
	default:
		kick(r, at % 4);
		turn(r);
	}
}

static void check(struct rig *r, uint8_t was[2])
{
	for (unsigned i = 0; i < 2; i++)
		check_negotiation(&r->toy[i].dev, &was[i]);
	for (unsigned i = 0; i < r->hv.n_bells; i++)
		assert_true(
			r->hv.bells[i].gpa >= WINDOW && r->hv.bells[i].gpa < WINDOW + WINDOW_LEN);
}

/* What firmware would do after a reset of the machine. */
static void have_back(struct rig *r)
{
	memset(r->mem.host, 0, r->mem.len);
	r->mem.used = 0x10000;
	for (unsigned slot = 1; slot < 3; slot++) {
		struct fn f = {.hv = &r->hv, .slot = slot};

		conf_set(&f, PCI_COMMAND, 2, 0);
		move_bar(&f, WINDOW + (slot - 1) * BAR_LEN);
		conf_set(&f, 0x42, 2, 0);
	}
	for (unsigned slot = 1; slot < 3; slot++) {
		discover(r, &r->f, slot, false);
		driver_probe(r);
		turn(r);
		for (unsigned i = 0; i < 3; i++)
			irq(r, i);
		request(r, 0);
		request(r, 1);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rig r;
	struct in in = {data, size};
	uint8_t flags = (uint8_t)take(&in, 1), was[2] = {0};

	log_init("fuzz", "-", LOG_ERROR);
	rig_init(&r);
	r.hv.no_bells = flags & 4;
	discover(&r, &r.f, 2, false);
	discover(&r, &r.f, 1, flags & 2);
	if (flags & 1)
		driver_probe(&r);
	for (unsigned i = 0; i < 256 && in.n; i++) {
		step(&r, &in);
		check(&r, was);
	}
	turn(&r);
	check(&r, was);
	have_back(&r);
	rig_done(&r);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile driver at the registers of virtio-mmio, with hostile queues behind them. Whatever it
 * does, the status machine stays in order, and a reset heals. */
#include <stddef.h>
#include <stdint.h>

#include "transport.h"

#define RIG_MEM 0x20000u

#include "../unit/mmio_driver.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The registers that a driver uses, so that few bytes lead far. */
static const uint16_t registers[] = {R_DEVICE_FEATURES, R_DEVICE_SEL, R_DRIVER_FEATURES,
	R_DRIVER_SEL, R_QUEUE_SEL, R_NUM_MAX, R_NUM, R_READY, R_NOTIFY, R_INT, R_ACK, R_STATUS,
	R_DESC, R_DESC + 4, R_AVAIL, R_AVAIL + 4, R_USED, R_USED + 4, R_SHM_LEN, R_GENERATION,
	R_CONFIG, R_CONFIG + 4};

static void step(struct rig *r, struct in *in)
{
	uint8_t op = (uint8_t)take(in, 1);
	uint64_t at = VQD_GPA + take(in, 2) % 0x4000;
	unsigned len = 1u << (op >> 3 & 3);

	switch (op & 7) {
	case 0: /* anywhere in the window */
		guest_read(&r->hv, BASE + (at & 0x1fff), len);
		break;
	case 1:
		guest_write(&r->hv, BASE + (at & 0x1fff), len, take(in, len));
		break;
	case 2: /* a register as it should be */
	case 3:
		set(r, registers[at % ARRAY_SIZE(registers)], (uint32_t)take(in, op >> 6 ? 1 : 4));
		break;
	case 4:
		get(r, registers[at % ARRAY_SIZE(registers)]);
		break;
	case 5: /* queue memory */
		for (unsigned i = 0; i < 16; i++)
			*((uint8_t *)vqd_ptr(&r->mem, at) + i) = (uint8_t)take(in, 1);
		break;
	case 6:
		vdev_config_changed(&r->toy.dev);
		driver_irq(r);
		break;
	default:
		turn(r);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct rig r;
	struct in in = {data, size};
	uint8_t flags = (uint8_t)take(&in, 1), was = 0;

	log_init("fuzz", "-", LOG_ERROR);
	rig_init(&r);
	if (flags & 1)
		driver_probe(&r, flags & 2 ? VIRTIO_F_EVENT_IDX_BIT : 0);
	for (unsigned i = 0; i < 256 && in.n; i++) {
		step(&r, &in);
		check_negotiation(&r.toy.dev, &was);
	}
	turn(&r);
	check_negotiation(&r.toy.dev, &was);
	r.mem.used = 0x10000;
	memset(r.mem.host, 0, r.mem.len);
	driver_irq(&r);
	driver_reset(&r);
	assert_int_equal(get(&r, R_INT), 0);
	driver_probe(&r, 0);
	turn(&r);
	take_event(r.hv.lines[LINE]);
	request(&r, 0);
	request(&r, 1);
	rig_done(&r);
	return 0;
}

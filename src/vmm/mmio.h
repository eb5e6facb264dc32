/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-mmio, version 2 (virtio 1.2, 4.2): one device behind one window of registers and one
 * interrupt line. */
#pragma once

#include "virtio/regs.h"
#include "vmm/bus.h"
#include "vmm/hv.h"

#define MMIO_BYTES 0x1000u /* of a window: a page of its own */

struct mmio;

/* @dev at guest address @base, on its loop's thread. Kicks come through hv_doorbell, interrupts
 * leave through hv_line: line @line, which must be described to the guest as edge-triggered (two
 * devices may not share it). Before the loop and the vCPUs run. */
struct mmio *mmio_new(
	struct hv *hv, uint64_t base, unsigned line, const struct vregs_config *c, struct err *err);
/* After the vCPU threads and the loop. NULL is harmless. */
void mmio_free(struct mmio *m);
/* For bus_add. */
struct bus_dev *mmio_bus_dev(struct mmio *m);

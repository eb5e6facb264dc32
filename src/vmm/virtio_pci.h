/* SPDX-License-Identifier: Apache-2.0 */
/* virtio over PCI (virtio 1.2, 4.1), modern only: one device as one PCI function with MSI-X. */
#pragma once

#include "virtio/regs.h"
#include "vmm/hv.h"
#include "vmm/pci.h"

struct virtio_pci;

/* @dev on @host, on its loop's thread. Kicks come through hv_doorbell, interrupts leave through
 * hv_msi with numbers from @first_msi on; *ret_msis says how many are taken. Before the loop and
 * the vCPUs run. */
struct virtio_pci *virtio_pci_new(struct hv *hv, struct pci_host *host, unsigned first_msi,
	const struct vregs_config *c, unsigned *ret_msis, struct err *err);
/* After the vCPU threads and the loop. NULL is harmless. */
void virtio_pci_free(struct virtio_pci *v);

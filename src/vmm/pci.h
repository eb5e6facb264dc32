/* SPDX-License-Identifier: Apache-2.0 */
/* One PCI bus behind a host bridge: configuration space, and one memory BAR for each function. */
#pragma once

#include <pthread.h>

#include "vmm/bus.h"

#define PCI_ECAM_BYTES 0x100000u /* bus 0, the only one */
#define PCI_SLOTS      32u       /* slot 0 is the bridge */

/* Registers of a function's header. */
enum {
	PCI_VENDOR = 0x00,
	PCI_DEVICE = 0x02,
	PCI_COMMAND = 0x04,
	PCI_STATUS = 0x06,
	PCI_REVISION = 0x08,
	PCI_CLASS = 0x09,
	PCI_BAR0 = 0x10,
	PCI_SUB_VENDOR = 0x2c,
	PCI_SUB_DEVICE = 0x2e,
	PCI_CAPS = 0x34,
	PCI_IRQ_LINE = 0x3c,
};

struct pci_fn;

/* On vCPU threads. The config calls run under the bridge's lock, the bar calls with or without it.
 */
struct pci_ops {
	/* @len is 1, 2, 4 or 8, inside the BAR, of any alignment. */
	void (*bar_read)(struct pci_fn *f, uint64_t off, void *to, unsigned len);
	void (*bar_write)(struct pci_fn *f, uint64_t off, const void *from, unsigned len);
	/* Registers [reg, reg + len) are about to be read, or have just been written. */
	void (*config_read)(struct pci_fn *f, unsigned reg, unsigned len);
	void (*config_written)(struct pci_fn *f, unsigned reg, unsigned len);
	/* The BAR answers at @to now instead of @from; 0: nowhere. */
	void (*moved)(struct pci_fn *f, uint64_t from, uint64_t to);
};

/* A function, embedded in its device, which fills ops, bar_len and the registers that pci_add
 * leaves alone. Configuration space belongs to the bridge's lock. */
struct pci_fn {
	const struct pci_ops *ops;
	uint64_t bar_len; /* power of two */
	uint8_t config[256];
	uint8_t writable[256]; /* bits that the guest may change */
	uint64_t at;           /* where the BAR answers; 0: nowhere */
};

struct pci_host;

/* @window_base, @window_len: addresses that BARs may have; nothing else lives there. */
struct pci_host *pci_host_new(uint64_t ecam_base, uint64_t window_base, uint64_t window_len);
/* The functions are their devices' and are freed before. NULL is harmless. */
void pci_host_free(struct pci_host *h);
/* For bus_add: ports 0xcf8 to 0xcff; the enhanced configuration area; the window. */
struct bus_dev *pci_host_ports(struct pci_host *h);
struct bus_dev *pci_host_ecam(struct pci_host *h);
struct bus_dev *pci_host_window(struct pci_host *h);

/* Put @f (borrowed) into the next free slot and give its BAR an address. Before the vCPUs run. */
int pci_add(struct pci_host *h, struct pci_fn *f, struct err *err);

static inline uint32_t pci_get(const struct pci_fn *f, unsigned reg, unsigned len)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < len; i++)
		v |= (uint32_t)f->config[reg + i] << (8 * i);
	return v;
}

static inline void pci_set(struct pci_fn *f, unsigned reg, unsigned len, uint32_t v)
{
	for (unsigned i = 0; i < len; i++)
		f->config[reg + i] = (uint8_t)(v >> (8 * i));
}

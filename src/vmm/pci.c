/* SPDX-License-Identifier: Apache-2.0 */
/* One PCI bus behind a host bridge.
 *
 * Configuration space is an array of bytes with an array of masks: what the guest may change, it
 * may change to anything. Everything that follows from a register (where a BAR answers, what MSI-X
 * does) is worked out from the array after each write, so no order of writes can lead to a state of
 * its own.
 *
 * BARs come with addresses, and a guest may move them. All of them lie in one window, which is on
 * the memory bus once and for all; whose BAR an access in it meets is looked up at the access. A
 * BAR outside the window, or with memory access off, answers nowhere.
 *
 * One lock covers configuration spaces and BAR addresses. It is taken before a device's own locks,
 * by vCPU threads only. */
#include "vmm/pci.h"

#include <string.h>

#include "base/mem.h"

#define COMMAND_MEMORY    0x0002u
#define COMMAND_MASTER    0x0004u
#define COMMAND_NO_INTX   0x0400u
#define STATUS_CAPS       0x0010u
#define BAR_64            0x4u
#define BAR_FLAGS         0xfull
#define ADDRESS_ENABLE    0x80000000u
#define BRIDGE_VENDOR     0x1b36u /* the generic PCI Express host bridge */
#define BRIDGE_DEVICE     0x0008u
#define CLASS_BRIDGE_HOST 0x060000u

struct pci_host {
	struct bus_dev ports, ecam, window;
	uint64_t next; /* free address in the window */
	struct pci_fn bridge;
	pthread_mutex_t lock;
	struct pci_fn *slots[PCI_SLOTS]; /* borrowed; constant while vCPUs run */
	uint32_t address;                /* port 0xcf8; under the lock */
};

/* ---- configuration space ---- */

/* Where the BAR answers by what the registers say now; 0: nowhere. */
static uint64_t decode(const struct pci_host *h, const struct pci_fn *f)
{
	uint64_t at = pci_get(f, PCI_BAR0, 4) | (uint64_t)pci_get(f, PCI_BAR0 + 4, 4) << 32;

	at &= ~BAR_FLAGS;
	if (!f->bar_len || !(pci_get(f, PCI_COMMAND, 2) & COMMAND_MEMORY) || at < h->window.base ||
		f->bar_len > h->window.len || at - h->window.base > h->window.len - f->bar_len)
		return 0;
	return at;
}

static void config_read(struct pci_host *h, unsigned slot, unsigned reg, uint8_t *to, unsigned len)
{
	struct pci_fn *f = slot < PCI_SLOTS ? h->slots[slot] : NULL;

	memset(to, f ? 0 : 0xff, len);
	/* The extended space behind the first 256 bytes is empty. */
	if (!f || reg > sizeof(f->config) - len)
		return;
	if (f->ops)
		f->ops->config_read(f, reg, len);
	memcpy(to, f->config + reg, len);
}

static void config_write(
	struct pci_host *h, unsigned slot, unsigned reg, const uint8_t *from, unsigned len)
{
	struct pci_fn *f = slot < PCI_SLOTS ? h->slots[slot] : NULL;
	uint64_t old, now;

	if (!f || reg > sizeof(f->config) - len)
		return;
	for (unsigned i = 0; i < len; i++) {
		uint8_t mask = f->writable[reg + i], *c = &f->config[reg + i];

		*c = (uint8_t)((*c & ~mask) | (from[i] & mask));
	}
	if (!f->ops)
		return;
	old = f->at;
	now = decode(h, f);
	if (now != old) {
		f->at = now;
		f->ops->moved(f, old, now);
	}
	f->ops->config_written(f, reg, len);
}

/* Slot of a bus number, device and function packed as in an address; PCI_SLOTS: nobody. */
static unsigned slot_of(uint32_t bdf)
{
	return bdf & 0xff07 ? PCI_SLOTS : bdf >> 3 & 0x1f;
}

static void ports_read(struct bus_dev *b, uint64_t off, void *to, unsigned len)
{
	struct pci_host *h = container_of(b, struct pci_host, ports);

	memset(to, 0xff, len);
	pthread_mutex_lock(&h->lock);
	if (off == 0 && len == 4)
		memcpy(to, &h->address, 4);
	else if (off >= 4 && len <= 4 && h->address & ADDRESS_ENABLE)
		config_read(h, slot_of(h->address >> 8 & 0xffff),
			(h->address & 0xfc) + (unsigned)(off - 4), to, len);
	pthread_mutex_unlock(&h->lock);
}

static void ports_write(struct bus_dev *b, uint64_t off, const void *from, unsigned len)
{
	struct pci_host *h = container_of(b, struct pci_host, ports);

	pthread_mutex_lock(&h->lock);
	if (off == 0 && len == 4)
		memcpy(&h->address, from, 4);
	else if (off >= 4 && len <= 4 && h->address & ADDRESS_ENABLE)
		config_write(h, slot_of(h->address >> 8 & 0xffff),
			(h->address & 0xfc) + (unsigned)(off - 4), from, len);
	pthread_mutex_unlock(&h->lock);
}

static void ecam_read(struct bus_dev *b, uint64_t off, void *to, unsigned len)
{
	struct pci_host *h = container_of(b, struct pci_host, ecam);

	pthread_mutex_lock(&h->lock);
	config_read(h, slot_of((uint32_t)(off >> 12)), off & 0xfff, to, len);
	pthread_mutex_unlock(&h->lock);
}

static void ecam_write(struct bus_dev *b, uint64_t off, const void *from, unsigned len)
{
	struct pci_host *h = container_of(b, struct pci_host, ecam);

	pthread_mutex_lock(&h->lock);
	config_write(h, slot_of((uint32_t)(off >> 12)), off & 0xfff, from, len);
	pthread_mutex_unlock(&h->lock);
}

/* ---- BARs ---- */

/* The function whose BAR holds [off, off + len) of the window, and where in it. */
static struct pci_fn *bar_at(struct pci_host *h, uint64_t off, unsigned len, uint64_t *ret_off)
{
	uint64_t gpa = h->window.base + off;
	struct pci_fn *found = NULL;

	pthread_mutex_lock(&h->lock);
	for (unsigned i = 0; i < PCI_SLOTS && !found; i++) {
		struct pci_fn *f = h->slots[i];

		if (f && f->at && gpa >= f->at && gpa - f->at <= f->bar_len - len) {
			*ret_off = gpa - f->at;
			found = f;
		}
	}
	pthread_mutex_unlock(&h->lock);
	return found;
}

static void window_read(struct bus_dev *b, uint64_t off, void *to, unsigned len)
{
	struct pci_host *h = container_of(b, struct pci_host, window);
	struct pci_fn *f = bar_at(h, off, len, &off);

	if (f)
		f->ops->bar_read(f, off, to, len);
	else
		memset(to, 0xff, len);
}

static void window_write(struct bus_dev *b, uint64_t off, const void *from, unsigned len)
{
	struct pci_host *h = container_of(b, struct pci_host, window);
	struct pci_fn *f = bar_at(h, off, len, &off);

	if (f)
		f->ops->bar_write(f, off, from, len);
}

/* ---- life ---- */

int pci_add(struct pci_host *h, struct pci_fn *f, struct err *err)
{
	uint64_t at = (h->next + f->bar_len - 1) & ~(f->bar_len - 1);
	unsigned slot = 1;

	while (slot < PCI_SLOTS && h->slots[slot])
		slot++;
	if (slot == PCI_SLOTS || at - h->window.base > h->window.len ||
		h->window.len - (at - h->window.base) < f->bar_len)
		return err_set(err, ERR_BUG, "no room on the PCI bus");
	h->next = at + f->bar_len;
	pci_set(f, PCI_STATUS, 2, f->config[PCI_CAPS] ? STATUS_CAPS : 0);
	pci_set(f, PCI_BAR0, 4, (uint32_t)at | BAR_64);
	pci_set(f, PCI_BAR0 + 4, 4, (uint32_t)(at >> 32));
	for (unsigned i = 0; i < 8; i++)
		f->writable[PCI_BAR0 + i] = (uint8_t)(~(f->bar_len - 1) >> (8 * i));
	f->writable[PCI_COMMAND] = COMMAND_MEMORY | COMMAND_MASTER;
	f->writable[PCI_COMMAND + 1] = COMMAND_NO_INTX >> 8;
	f->writable[PCI_IRQ_LINE] = 0xff;
	h->slots[slot] = f;
	return 0;
}

struct pci_host *pci_host_new(uint64_t ecam_base, uint64_t window_base, uint64_t window_len)
{
	struct pci_host *h = xcalloc(1, sizeof(*h));

	*h = (struct pci_host){
		.ports = {.name = "pci-ports", .base = 0xcf8, .len = 8, .read = ports_read, .write = ports_write},
		.ecam = {.name = "pci-config", .base = ecam_base,
			.len = PCI_ECAM_BYTES,
			.read = ecam_read,
			.write = ecam_write},
		.window = {.name = "pci-bar", .base = window_base,
			.len = window_len,
			.read = window_read,
			.write = window_write},
		.next = window_base,
	};
	pthread_mutex_init(&h->lock, NULL);
	pci_set(&h->bridge, PCI_VENDOR, 2, BRIDGE_VENDOR);
	pci_set(&h->bridge, PCI_DEVICE, 2, BRIDGE_DEVICE);
	pci_set(&h->bridge, PCI_CLASS, 3, CLASS_BRIDGE_HOST);
	h->slots[0] = &h->bridge;
	return h;
}

void pci_host_free(struct pci_host *h)
{
	if (!h)
		return;
	pthread_mutex_destroy(&h->lock);
	free(h);
}

struct bus_dev *pci_host_ports(struct pci_host *h)
{
	return &h->ports;
}

struct bus_dev *pci_host_ecam(struct pci_host *h)
{
	return &h->ecam;
}

struct bus_dev *pci_host_window(struct pci_host *h)
{
	return &h->window;
}

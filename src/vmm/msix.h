/* SPDX-License-Identifier: Apache-2.0 */
/* MSI-X of one PCI function (PCI Local Bus 3.0, 6.8.2): vector table, pending bits, masks. An
 * interrupt is a write to the vector's eventfd, from which the hypervisor sends the message. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/hv.h"

#define MSIX_VECTORS_MAX 8u
#define MSIX_ENTRY_BYTES 16u
#define MSIX_ENABLE      0x8000u /* of the control word in configuration space */
#define MSIX_MASK_ALL    0x4000u

struct msix_entry { /* as in the table */
	uint32_t addr_low, addr_high, data, control;
};

struct msix {
	struct hv *hv;  /* borrowed */
	unsigned first; /* message number of vector 0 */
	unsigned n;
	int fds[MSIX_VECTORS_MAX]; /* owned eventfds */

	/* Everything below: written by vCPU threads, read by the device's. Innermost of all locks.
	 */
	pthread_mutex_t lock;
	struct msix_entry table[MSIX_VECTORS_MAX];
	bool routed[MSIX_VECTORS_MAX]; /* the hypervisor has the entry as it is now */
	bool enabled, masked;
	uint64_t pending;
};

/* @n vectors with messages @first, @first + 1, … */
int msix_init(struct msix *m, struct hv *hv, unsigned first, unsigned n, struct err *err);
void msix_done(struct msix *m);

/* From any thread. False: MSI-X is not enabled. A vector that does not exist is silent. */
bool msix_notify(struct msix *m, unsigned vector);
/* The driver reset the function: nothing is pending. */
void msix_clear_pending(struct msix *m);

/* vCPU threads. @off is relative to the table or the pending bits; other accesses than whole
 * aligned words of 4 or 8 bytes read zero and write nothing. */
void msix_control(struct msix *m, uint16_t control);
void msix_table_read(struct msix *m, uint64_t off, void *to, unsigned len);
void msix_table_write(struct msix *m, uint64_t off, const void *from, unsigned len);
void msix_pending_read(struct msix *m, uint64_t off, void *to, unsigned len);

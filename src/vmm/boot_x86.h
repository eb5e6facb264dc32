/* SPDX-License-Identifier: Apache-2.0 */
/* From files to a guest that is ready to run: memory contents and the first vCPU's registers. */
#pragma once

#include "base/buf.h"
#include "virtio/gmem.h"
#include "vmm/hv_x86.h"

struct boot_config {
	int kernel_fd, initrd_fd; /* borrowed; initrd_fd -1: none */
	const char *cmdline;
	uint64_t memory; /* bytes of RAM, a multiple of 2 MiB */
};

struct boot;

/* Where RAM lies: one region, or two around the device windows. Returns how many. */
unsigned boot_regions(uint64_t memory, uint64_t gpa[2], uint64_t len[2]);

/* Check kernel and initramfs and begin to load them into @mem, on threads of their own. @c and @mem are
 * borrowed until boot_finish(). NULL: failure. */
struct boot *boot_begin(const struct boot_config *c, const struct gmem *mem, struct err *err);

/* Write the tables that the entry protocol wants, and @acpi for LAYOUT_ACPI, wait until all is loaded,
 * and say where the first vCPU begins. Takes @b. */
int boot_finish(struct boot *b, const struct buf *acpi, struct x86_start *ret, struct err *err);

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
	const struct buf *acpi; /* tables for LAYOUT_ACPI */
};

/* Where RAM lies: one region, or two around the device windows. Returns how many. */
unsigned boot_regions(uint64_t memory, uint64_t gpa[2], uint64_t len[2]);

/* Load kernel and initramfs, write the tables that the entry protocol wants, and say where the first
 * vCPU begins. Both are read into guest memory, which is in large pages: mapping the files instead saves
 * the copy, but costs the guest a fault for each small page. */
int boot_load(const struct boot_config *c, const struct gmem *mem, struct x86_start *ret, struct err *err);

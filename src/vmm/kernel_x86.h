/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel files: what is to be loaded where, and how it is entered. Pure: bytes in, plan out. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum kernel_entry {
	KERNEL_PVH,     /* 32-bit protected mode, EBX = start info (Xen's PVH boot ABI) */
	KERNEL_LINUX64, /* long mode, RSI = boot_params (Documentation/arch/x86/boot.rst) */
};

#define KERNEL_SEGMENTS_MAX 8u

struct kernel_segment {
	uint64_t offset, file_len; /* in the file */
	uint64_t addr, mem_len;    /* in the guest; what the file does not fill is zero */
};

struct kernel_image {
	enum kernel_entry entry_kind;
	uint64_t entry;
	struct kernel_segment seg[KERNEL_SEGMENTS_MAX];
	unsigned n_segs;
	uint64_t end;          /* first address behind what the kernel needs for itself at its start */
	uint64_t initrd_max;   /* highest address that the initramfs may occupy */
	uint32_t cmdline_max;  /* bytes, without the NUL */
	uint64_t header_off;   /* bzImage: setup header within the file; 0: none */
	uint32_t header_len;
};

/* @file holds the whole kernel file. ERR_USER: it is none that can be started here. The segments lie
 * inside the file, below @ram_end, above 1 MiB and do not overlap. */
int kernel_parse(const void *file, size_t len, uint64_t ram_end, struct kernel_image *ret,
	struct err *err);

/* SPDX-License-Identifier: Apache-2.0 */
/* The virtual machine of the kvm engine: memory, devices, vCPUs, put together. */
#pragma once

#include <stdint.h>

#include "vmm/hv.h"
#include "vmm/vmm.h"

struct machine_config {
	unsigned cpus;
	uint64_t memory;     /* bytes, rounded down to 2 MiB */
	const char *cmdline; /* borrowed */
	uint64_t begin_ns;   /* CLOCK_MONOTONIC of the process's first instructions, for the log */
};

/* Make the guest's memory and begin to load the kernel into it, on threads that machine_start() waits for.
 * @c is borrowed as long as the process. */
int machine_load(const struct machine_config *c, struct err *err);
/* Build the machine on @hv (takes) around the devices of @v and the descriptors of the table, and start
 * its threads. The process ends with the machine: status 0 when the guest powered off or reset itself, 1
 * otherwise. */
int machine_start(struct vmm *v, struct hv *hv, struct err *err);
/* Let the vCPUs run: every thread, the caller's included, has confined itself. */
void machine_go(void);

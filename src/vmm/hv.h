/* SPDX-License-Identifier: Apache-2.0 */
/* The hypervisor seam: the only door to whatever runs vCPUs. hv_kvm.c implements it on Linux; another
 * hypervisor arrives as another file.
 *
 * A struct hv is one virtual machine with its interrupt controllers; it lives as long as the process, and
 * so do its vCPUs. Set-up calls come from one thread, before the first vCPU runs; hv_msi and hv_doorbell
 * also later, from any thread. hv_vcpu_run is called on the thread that owns the vCPU. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct hv;
struct hv_vcpu;

#define HV_VCPUS_MAX 32u

/* Interrupt inputs: 0 to HV_LINES - 1 are pins of the I/O APIC, the rest are message-signalled. */
#define HV_LINES    24u
#define HV_MSIS_MAX 256u

/* Open the hypervisor. Needs the file system (before the jail). ERR_ENV says in words why this
 * machine cannot, with the remedy. */
struct hv *hv_open(struct err *err);
/* Make the machine in it: memory map, interrupt controllers, timer. */
int hv_create(struct hv *hv, unsigned n_vcpus, struct err *err);
/* Show @host (borrowed) to the guest at @gpa. Page-aligned, disjoint. */
int hv_map(struct hv *hv, uint64_t gpa, uint64_t len, void *host, struct err *err);

/* A write to @eventfd (borrowed) raises pin @line once (edge-triggered). */
int hv_line(struct hv *hv, unsigned line, int eventfd, struct err *err);
/* A write to @eventfd sends message (@addr, @data). @msi < HV_MSIS_MAX is the caller's number for it;
 * again with the same number changes the message, with eventfd -1 it takes it away. */
int hv_msi(struct hv *hv, unsigned msi, int eventfd, uint64_t addr, uint32_t data, struct err *err);

/* A guest write of @len bytes (0: any width) at @gpa is a write to @eventfd and no exit; @match: only
 * when the value is @value. @on false takes it away again. */
struct hv_doorbell {
	uint64_t gpa;
	unsigned len;
	bool match;
	uint64_t value;
	int eventfd; /* borrowed */
};
int hv_doorbell(struct hv *hv, const struct hv_doorbell *d, bool on, struct err *err);

/* vCPU number @id, in reset state; its registers are set through hv_x86.h. */
struct hv_vcpu *hv_vcpu_new(struct hv *hv, unsigned id, struct err *err);

enum hv_exit_reason {
	HV_EXIT_PORT,      /* I/O port access: .port, .count items of .len bytes at .data */
	HV_EXIT_MEMORY,    /* access to memory that is not mapped */
	HV_EXIT_SHUTDOWN,  /* triple fault: the machine resets */
	HV_EXIT_SIGNAL,    /* a signal for this thread; nothing to do */
	HV_EXIT_FAILED,    /* the vCPU cannot go on: .detail */
	HV_EXIT_REASONS,
};

struct hv_exit {
	enum hv_exit_reason reason;
	bool write;
	unsigned len;
	unsigned count; /* HV_EXIT_PORT: repetitions (string instructions) */
	uint64_t addr;  /* port or guest physical address */
	uint8_t *data;  /* write: the bytes; read: where the answer goes before the next run */
	uint64_t detail;
};

/* Run until something needs attention. -1: the hypervisor itself failed. */
int hv_vcpu_run(struct hv_vcpu *v, struct hv_exit *ret, struct err *err);

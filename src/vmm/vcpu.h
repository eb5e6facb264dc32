/* SPDX-License-Identifier: Apache-2.0 */
/* vCPU threads: run, decode the exit, ask the bus, run again. Nothing else happens on them. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "vmm/bus.h"
#include "vmm/hv.h"

/* Why the machine cannot go on. */
enum vcpu_end {
	VCPU_RESET,  /* triple fault */
	VCPU_FAILED, /* the hypervisor gave up; the reason is in the log */
};

struct vcpus;

struct vcpus_config {
	const struct bus *ports, *memory; /* borrowed, constant from now on */
	/* On a vCPU thread, before its first guest instruction: gives up what it does not need. */
	void (*thread_start)(void *arg);
	/* A vCPU has ended; its thread does not come back. May run on several threads. */
	void (*on_end)(void *arg, enum vcpu_end end);
	void *arg;
};

/* What all vCPU threads share with the rest of the process: counters, read at any time. */
struct vcpu_stats {
	uint64_t exits[HV_EXIT_REASONS];
	uint64_t lost; /* accesses to where nothing is */
};

/* One thread for each of @v[0..n) (borrowed). They never end by themselves: the process does. */
struct vcpus *vcpus_start(struct hv_vcpu *const *v, unsigned n, const struct vcpus_config *c,
	struct err *err);
void vcpus_stats(const struct vcpus *v, struct vcpu_stats *ret);

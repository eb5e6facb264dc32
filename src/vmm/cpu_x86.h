/* SPDX-License-Identifier: Apache-2.0 */
/* What the guest is shown of the CPU. */
#pragma once

#include "vmm/hv_x86.h"

/* The table for vCPU @id of @n_cpus, from what the hypervisor supports: topology is ours, and features
 * that a sandbox has no use for are taken away (nested virtualization, enclaves, performance
 * counters, processor trace), so that less of the host can be reached. @n entries at @t, in place. */
void cpu_x86_filter(struct x86_cpuid *t, unsigned n, unsigned id, unsigned n_cpus);

/* Set CPUID, then MSRs, of a new vCPU. @supported as hv_x86_cpuid_supported gave it. */
int cpu_x86_setup(struct hv_vcpu *v, const struct x86_cpuid *supported, unsigned n, unsigned id,
	unsigned n_cpus, struct err *err);

/* SPDX-License-Identifier: Apache-2.0 */
/* The part of the hypervisor seam that is x86's own. */
#pragma once

#include "vmm/hv.h"

struct x86_cpuid {
	uint32_t leaf, subleaf;
	bool has_subleaves;
	uint32_t eax, ebx, ecx, edx;
};
#define X86_CPUID_MAX 256u

struct x86_msr {
	uint32_t index;
	uint64_t value;
};

struct x86_segment {
	uint64_t base;
	uint32_t limit;
	uint16_t selector;
	uint8_t type; /* code 11, data 3, busy TSS 11 */
	bool present, system, long_mode, big, granular;
};

/* What a vCPU starts with; everything else is as after a reset. */
struct x86_start {
	uint64_t rip, rsp, rbx, rsi;
	uint64_t cr0, cr3, cr4, efer;
	struct x86_segment code, data, tss;
	uint64_t gdt_base;
	uint16_t gdt_limit;
};

/* What the hypervisor can show of this machine's CPU. At most X86_CPUID_MAX entries. */
int hv_x86_cpuid_supported(struct hv *hv, struct x86_cpuid *to, unsigned *ret_n, struct err *err);
/* Before anything else is set on @v: later calls are checked against it. */
int hv_x86_set_cpuid(struct hv_vcpu *v, const struct x86_cpuid *from, unsigned n, struct err *err);
/* An MSR that this host does not know is skipped. */
int hv_x86_set_msrs(struct hv_vcpu *v, const struct x86_msr *from, unsigned n, struct err *err);
int hv_x86_set_start(struct hv_vcpu *v, const struct x86_start *s, struct err *err);

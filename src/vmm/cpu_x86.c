/* SPDX-License-Identifier: Apache-2.0 */
/* CPUID and MSRs (Intel SDM volume 2A "CPUID", AMD APM volume 3 appendix E). */
#include "vmm/cpu_x86.h"

#include <string.h>

#include "base/mem.h"

#define MSR_MISC_ENABLE   0x1a0u
#define MSR_MTRR_DEF_TYPE 0x2ffu
#define FAST_STRINGS      1u
#define MTRR_WRITE_BACK   (1u << 11 | 6u) /* enabled, everything write-back */

/* Which bits of a register of a leaf are taken away. */
static const struct {
	uint32_t leaf, subleaf;
	uint32_t eax, ebx, ecx, edx;
} hidden[] = {
	/* DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, PDCM | DS, TM, PBE */
	{0x1, 0, 0, 0, 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 7 | 1u << 8 | 1u << 15,
		1u << 21 | 1u << 22 | 1u << 29 | 1u << 31},
	/* TSC_ADJUST, which an idle kernel looks at each second, SGX, TSX (HLE, RTM), PQM, MPX, PQE, PT | LA57,
	 * WAITPKG, SGX_LC, ENQCMD | ARCH_LBR */
	{0x7, 0, 0, 1u << 1 | 1u << 2 | 1u << 4 | 1u << 11 | 1u << 12 | 1u << 14 | 1u << 15 | 1u << 25,
		1u << 5 | 1u << 16 | 1u << 29 | 1u << 30, 1u << 19},
	/* performance counters, SGX, processor trace, key locker, LBR, perf monitoring v2 */
	{0xa, 0, ~0u, ~0u, ~0u, ~0u},
	{0x12, 0, ~0u, ~0u, ~0u, ~0u},
	{0x12, 1, ~0u, ~0u, ~0u, ~0u},
	{0x14, 0, ~0u, ~0u, ~0u, ~0u},
	{0x14, 1, ~0u, ~0u, ~0u, ~0u},
	{0x19, 0, ~0u, ~0u, ~0u, ~0u},
	{0x1c, 0, ~0u, ~0u, ~0u, ~0u},
	{0x80000022, 0, ~0u, ~0u, ~0u, ~0u},
	/* SVM, IBS, SKINIT, LWP, performance counter extensions, MONITORX */
	{0x80000001, 0, 0, 0,
		1u << 2 | 1u << 10 | 1u << 12 | 1u << 15 | 1u << 23 | 1u << 24 | 1u << 28 | 1u << 29, 0},
	{0x8000000a, 0, ~0u, ~0u, ~0u, ~0u},
	{0x8000001b, 0, ~0u, ~0u, ~0u, ~0u},
	/* memory encryption of guests */
	{0x8000001f, 0, ~0u, ~0u, ~0u, ~0u},
};

static void hide(struct x86_cpuid *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(hidden); i++)
		if (hidden[i].leaf == e->leaf && hidden[i].subleaf == e->subleaf) {
			e->eax &= ~hidden[i].eax;
			e->ebx &= ~hidden[i].ebx;
			e->ecx &= ~hidden[i].ecx;
			e->edx &= ~hidden[i].edx;
		}
}

static unsigned bits_for(unsigned n)
{
	unsigned bits = 0;

	while (1u << bits < n)
		bits++;
	return bits;
}

/* One package, one thread a core, every core an APIC id of its own. */
static void topology(struct x86_cpuid *e, unsigned id, unsigned n_cpus)
{
	unsigned bits = bits_for(n_cpus);

	switch (e->leaf) {
	case 0x1:
		e->ebx = (e->ebx & 0xffff) | (1u << bits) << 16 | id << 24;
		e->ecx |= 1u << 31; /* a hypervisor runs here */
		if (n_cpus > 1)
			e->edx |= 1u << 28;
		else
			e->edx &= ~(1u << 28);
		break;
	case 0x4: /* caches: cores of the package, and who shares this one */
		if (!(e->eax & 31))
			break;
		e->eax = (e->eax & 0x3fff) | ((1u << bits) - 1) << 26;
		if ((e->eax >> 5 & 7) >= 3)
			e->eax |= ((1u << bits) - 1) << 14;
		break;
	case 0xb:
	case 0x1f:
		e->edx = id;
		e->eax = e->ebx = 0;
		e->ecx = e->subleaf & 0xff;
		if (e->subleaf == 0) {
			e->ebx = 1;
			e->ecx |= 1u << 8; /* threads of a core */
		} else if (e->subleaf == 1) {
			e->eax = bits;
			e->ebx = n_cpus;
			e->ecx |= 2u << 8; /* cores of the package */
		}
		break;
	case 0x80000008:
		e->ecx = (e->ecx & ~0xf0ffu) | (n_cpus - 1) | bits << 12;
		break;
	case 0x8000001d: /* as leaf 4 */
		if (e->eax & 31)
			e->eax = (e->eax & 0x3fff) |
				((e->eax >> 5 & 7) >= 3 ? (n_cpus - 1) << 14 : 0);
		break;
	case 0x8000001e:
		e->eax = id;
		e->ebx = id; /* one thread a core */
		e->ecx = 0;
		break;
	default:
		break;
	}
}

void cpu_x86_filter(struct x86_cpuid *t, unsigned n, unsigned id, unsigned n_cpus)
{
	for (unsigned i = 0; i < n; i++) {
		hide(&t[i]);
		topology(&t[i], id, n_cpus);
	}
}

int cpu_x86_setup(struct hv_vcpu *v, const struct x86_cpuid *supported, unsigned n, unsigned id,
	unsigned n_cpus, struct err *err)
{
	static const struct x86_msr msrs[] = {
		{MSR_MISC_ENABLE, FAST_STRINGS},
		{MSR_MTRR_DEF_TYPE, MTRR_WRITE_BACK},
	};
	_free_ struct x86_cpuid *t = xcalloc(X86_CPUID_MAX, sizeof(*t));

	memcpy(t, supported, n * sizeof(*t));
	cpu_x86_filter(t, n, id, n_cpus);
	if (hv_x86_set_cpuid(v, t, n, err) < 0)
		return -1;
	return hv_x86_set_msrs(v, msrs, ARRAY_SIZE(msrs), err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The kvm engine: hutch-vmm runs the virtual machine on the kernel's KVM interface. What it is told
 * here is all that it decides by; files come as descriptors (see ARCHITECTURE.md for the table). */
#include "box/box.h"

/* Kernel parameters. The clock is the host's, so nothing is calibrated; the initcalls left out are
 * self-checks that nothing here uses, as in the qemu engine. */
/* tsc=reliable and nowatchdog: no timer looks twice a second at clocks that KVM keeps, or for processors
 * that hang. For the rest see engine_qemu.c. */
#define CMDLINE                                                                                    \
	"console=ttyS0 quiet loglevel=3 panic=-1 reboot=t audit=0 no_timer_check "                  \
	"tsc=reliable nowatchdog swiotlb=noforce cryptomgr.notests 8250.nr_uarts=1 "               \
	"rcupdate.rcu_expedited=1 psi=1 "                                                                \
	"initcall_blacklist=init_kprobe_trace,crypto_kdf108_init,load_system_certificate_list"

void engine_kvm_argv(const struct box_spec *s, const char *kernel_args, struct strv *argv)
{
	strv_add(argv, "hutch-vmm");
	strv_add(argv, "--kvm");
	strv_add(argv, s->name);
	strv_addf(argv, "%u", s->cpus);
	strv_addf(argv, "%llu", (unsigned long long)s->memory_bytes);
	strv_addf(argv, CMDLINE " %s", kernel_args);
}

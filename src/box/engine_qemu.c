/* SPDX-License-Identifier: Apache-2.0 */
/* The qemu engine: qemu-system-x86_64 runs the vCPUs and the two disks, nothing else. Devices are
 * hutch-vmm's, reached over vhost-user sockets that qemu inherits (see ARCHITECTURE.md for the
 * descriptor table). */
#include <time.h>
#include <x86intrin.h>

#include "box/box.h"

/* Long enough for a precision of some parts per million. */
#define CLOCK_NS 3000000u

enum { FD_FS = 3, FD_VSOCK, FD_ROOT, FD_DISK };

/* The kernel command line. tsc_early_khz is what makes the guest boot every time: calibrating the TSC
 * against an emulated timer on a busy host fails in one boot of four, for good. norandmaps is for
 * QEMU before 8, which translates a library anew for each address it is seen at (fork and exec four
 * times as fast); the sandbox's boundary does not rest on address randomisation inside it.
 * swiotlb=noforce spares a guest of more than 3 GiB 64 MiB of bounce buffers, which would be cleared
 * at boot and which no virtio device needs. nowatchdog: nothing looks for hung processors. psi is
 * for src/guest/pressure.c, hutch.few for src/guest/modules.c: no balloon, console or entropy device. The
 * blacklisted initcalls are certificate and key-derivation self-checks that nothing here uses. */
#define CMDLINE                                                                                    \
	"console=ttyS0 quiet loglevel=3 panic=-1 reboot=t audit=0 pci=off tsc=reliable "           \
	"no_timer_check nowatchdog norandmaps swiotlb=noforce cryptomgr.notests "                  \
	"8250.nr_uarts=1 rcupdate.rcu_expedited=1 psi=1 hutch.few "                                      \
	"initcall_blacklist=init_kprobe_trace,crypto_kdf108_init,load_system_certificate_list"

static uint64_t raw_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void engine_qemu_clock_start(struct engine_clock *c)
{
	c->tsc = __rdtsc();
	c->ns = raw_ns();
}

uint64_t engine_qemu_clock_khz(const struct engine_clock *c)
{
	struct timespec rest = {0};
	uint64_t ns = raw_ns() - c->ns;

	if (ns < CLOCK_NS) {
		rest.tv_nsec = (long)(CLOCK_NS - ns);
		nanosleep(&rest, NULL);
	}
	return (__rdtsc() - c->tsc) * 1000000u / (raw_ns() - c->ns);
}

int engine_qemu_argv(const struct box_spec *s, const struct engine_files *f, struct strv *argv)
{
	unsigned long long mib = s->memory_bytes >> 20;

	strv_add(argv, f->program);
	strv_add(argv, "-name");
	strv_addf(argv, "hutch-%s", s->name);
	for (const char *const *a = (const char *const[]){"-nodefaults", "-no-user-config",
		     "-display", "none", "-no-reboot", "-sandbox",
		     "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		     "-accel", "tcg,thread=multi",
		     "-cpu", "max,la57=off", "-serial", "stdio", "-monitor",
		     "none", "-global", "virtio-mmio.force-legacy=false", NULL};
		*a; a++)
		strv_add(argv, *a);
	strv_add(argv, "-M");
	/* Without the old timer: from power-on it ticks, and QEMU's main thread wakes up 37 times a second for
	 * it as long as nobody sets it to something else, which no kernel does that has the local APIC's. */
	strv_add(argv, "microvm,pcie=off,pic=off,pit=off,memory-backend=ram");
	strv_add(argv, "-m");
	strv_addf(argv, "%lluM", mib);
	strv_add(argv, "-smp");
	strv_addf(argv, "%u", s->cpus);
	strv_add(argv, "-object");
	strv_addf(argv, "memory-backend-memfd,id=ram,size=%lluM,share=on", mib);
	strv_add(argv, "-kernel");
	strv_add(argv, f->kernel);
	strv_add(argv, "-initrd");
	strv_add(argv, f->initrd);
	strv_add(argv, "-append");
	strv_addf(argv, CMDLINE " tsc_early_khz=%llu %s", (unsigned long long)f->tsc_khz,
		f->kernel_args);

	strv_add(argv, "-add-fd");
	strv_addf(argv, "fd=%d,set=%d", FD_ROOT, FD_ROOT);
	strv_add(argv, "-drive");
	strv_addf(argv,
		"id=root,if=none,format=raw,readonly=on,file.driver=file,file.locking=off,"
		"file.filename=/dev/fdset/%d",
		FD_ROOT);
	strv_add(argv, "-device");
	strv_add(argv, "virtio-blk-device,drive=root");
	strv_add(argv, "-add-fd");
	strv_addf(argv, "fd=%d,set=%d", FD_DISK, FD_DISK);
	strv_add(argv, "-drive");
	strv_addf(argv,
		"id=disk,if=none,format=raw,discard=unmap,readonly=off,auto-read-only=off,"
		"file.driver=file,file.locking=off,file.auto-read-only=off,"
		"file.filename=/dev/fdset/%d",
		FD_DISK);
	strv_add(argv, "-device");
	/* A full disk of the host is an error of the guest's, as with our own device. What qemu does
	 * else, pausing the machine, ends it: its agent falls silent. */
	strv_add(argv, "virtio-blk-device,drive=disk,werror=report,rerror=report");

	strv_add(argv, "-chardev");
	strv_addf(argv, "socket,id=fs,fd=%d", FD_FS);
	strv_add(argv, "-device");
	strv_add(argv, "vhost-user-fs-device,chardev=fs,tag=hutch");
	strv_add(argv, "-chardev");
	/* This netdev insists on a chardev that was opened by path. */
	strv_addf(argv, "socket,id=net,path=%s", f->net_socket);
	strv_add(argv, "-netdev");
	strv_add(argv, "vhost-user,id=n0,chardev=net");
	strv_add(argv, "-device");
	/* qemu answers for this device's configuration space: what dev/net.c would say there. */
	strv_add(argv, "virtio-net-device,netdev=n0,mac=02:48:00:00:00:15,host_mtu=65520");
	strv_add(argv, "-chardev");
	strv_addf(argv, "socket,id=vsock,fd=%d", FD_VSOCK);
	strv_add(argv, "-device");
	strv_add(argv, "vhost-user-vsock-device,chardev=vsock");
	return 0;
}

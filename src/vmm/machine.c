/* SPDX-License-Identifier: Apache-2.0 */
/* The virtual machine of the kvm engine.
 *
 * Threads. Each vCPU has one, which runs the guest and decodes exits. Devices live on loops:
 *   main    network, vsock, console, rng, balloon, and the links to box and gate
 *   files   the file server
 *   disk    both block devices
 * so that neither a slow disk nor a slow file stalls the rest. Those that load the kernel end before a vCPU
 * runs (place.c). What threads share: guest memory (fixed
 * before the first of them starts), the buses (constant), each register window (its own lock, see
 * virtio/regs.h), the exit counters, and the end of the machine below.
 *
 * The end. A guest that powers off, resets itself or dies by triple fault ends the process: the disk is
 * flushed first, because the next start may come at once. Only hutch-box decides what follows. */
#include "vmm/machine.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/loop_call.h"
#include "base/mem.h"
#include "dev/balloon.h"
#include "dev/blk.h"
#include "dev/console.h"
#include "dev/fs.h"
#include "dev/net.h"
#include "dev/rng.h"
#include "dev/vsock.h"
#include "vmm/acpi_x86.h"
#include "vmm/boot_x86.h"
#include "vmm/cpu_x86.h"
#include "vmm/layout_x86.h"
#include "vmm/mmio.h"
#include "vmm/netgate.h"
#include "vmm/power.h"
#include "vmm/seal.h"
#include "vmm/serial.h"
#include "vmm/virtio_pci.h"
#include "vmm/vcpu.h"

#define DISK_THREADS 4u /* requests of one disk that wait for storage at the same time */

/* Why the machine ended; the first reason wins. */
enum end { END_NONE, END_OFF, END_RESET, END_FAILED };
static const char *const end_names[] = {"running", "power off", "reset", "failure"};

/* A thread that serves devices. */
struct dev_thread {
	const char *name;
	struct loop *loop;
	struct loop_caller *caller;
	void (*seal)(const struct vmm *v);
	const struct vmm *v; /* borrowed */
	pthread_t thread;
};

struct machine {
	struct vmm *v; /* borrowed */
	struct hv *hv; /* owned */
	struct gmem mem;
	struct bus ports, memory;
	struct power power;
	struct dev_thread main, files, disk;
	struct acpi_config acpi;
	struct pci_host *pci;
	unsigned n_msis;
	struct hv_vcpu *vcpu[HV_VCPUS_MAX];
	struct vcpus *vcpus;
	pthread_barrier_t go; /* the vCPUs and the main thread, when all are confined */
	const struct machine_config *config; /* borrowed */
	struct boot_config boot_config;
	struct boot *boot; /* taken when it is finished */

	/* Written by any thread. */
	_Atomic int end;
	int end_fd; /* eventfd: end has been set */
	struct loop_watch end_w;
};

static uint64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- the end ---- */

static void end_machine(struct machine *m, enum end why)
{
	int none = END_NONE;
	uint64_t one = 1;

	if (atomic_compare_exchange_strong(&m->end, &none, (int)why) &&
		write(m->end_fd, &one, sizeof(one)) < 0)
		_exit(1);
}

static void on_power(void *arg, enum power_event event)
{
	end_machine(arg, event == POWER_OFF ? END_OFF : END_RESET);
}

static void on_vcpu_end(void *arg, enum vcpu_end end)
{
	end_machine(arg, end == VCPU_RESET ? END_RESET : END_FAILED);
}

static void log_stats(const struct machine *m)
{
	struct vcpu_stats s;
	char ports[256], memory[512];

	vcpus_stats(m->vcpus, &s);
	log_info("exits port=%llu memory=%llu signal=%llu lost=%llu by-device:%s%s",
		(unsigned long long)s.exits[HV_EXIT_PORT], (unsigned long long)s.exits[HV_EXIT_MEMORY],
		(unsigned long long)s.exits[HV_EXIT_SIGNAL], (unsigned long long)s.lost,
		bus_text(&m->ports, ports, sizeof(ports)), bus_text(&m->memory, memory, sizeof(memory)));
}

static void on_end(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct machine *m = container_of(w, struct machine, end_w);
	int end = atomic_load(&m->end);

	log_stats(m);
	log_info("machine ended: %s", end_names[end]);
	/* What the guest was told is on the disk is there already; this is for the rest. */
	if (fdatasync(VMM_FD_DISK) < 0)
		log_warn("disk: flush failed");
	_exit(end == END_FAILED);
}

/* ---- parts ---- */

/* ThreadSanitizer cannot see how the guest orders what it hands from one queue to another, so two of our
 * threads seem to race for a page that the guest has used again. */
#ifdef __SANITIZE_THREAD__
void AnnotateBenignRaceSized(
	const char *file, int line, const volatile void *mem, unsigned long size, const char *why);
#define GUEST_ORDERS(mem, size) AnnotateBenignRaceSized(__FILE__, __LINE__, mem, size, "guest memory")
#else
#define GUEST_ORDERS(mem, size) ((void)0)
#endif

static int make_memory(struct machine *m, uint64_t bytes, struct err *err)
{
	uint64_t gpa[2], len[2];
	unsigned n = boot_regions(bytes, gpa, len);
	/* Huge pages need an aligned start. */
	uint8_t *p = mmap(NULL, bytes + LAYOUT_HUGE, PROT_NONE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return err_errno(err, "memory for the sandbox");
	p += (LAYOUT_HUGE - (uintptr_t)p % LAYOUT_HUGE) % LAYOUT_HUGE;
	if (mprotect(p, bytes, PROT_READ | PROT_WRITE) < 0)
		return err_errno(err, "memory for the sandbox");
	madvise(p, bytes, MADV_HUGEPAGE);
	madvise(p, bytes, MADV_DONTDUMP);
	GUEST_ORDERS(p, bytes);
	for (unsigned i = 0; i < n; i++) {
		if (gmem_add_host(&m->mem, gpa[i], len[i], p, err) < 0)
			return -1;
		p += len[i];
	}
	return 0;
}

static int map_memory(struct machine *m, struct err *err)
{
	for (unsigned i = 0; i < m->mem.n; i++) {
		const struct gmem_region *r = &m->mem.regions[i];

		if (hv_map(m->hv, r->gpa, r->len, r->host, err) < 0)
			return -1;
	}
	return 0;
}

static void *serve_thread(void *arg)
{
	struct dev_thread *t = arg;
	struct err err;

	prctl(PR_SET_NAME, t->name);
	t->seal(t->v);
	if (loop_run(t->loop, &err) < 0)
		log_error("%s: %s", t->name, err.msg);
	_exit(1);
}

static int make_thread(struct dev_thread *t, const char *name, struct loop *loop, struct err *err)
{
	t->name = name;
	t->loop = loop ? loop : loop_new(err);
	if (!t->loop)
		return -1;
	t->caller = loop_caller_new(t->loop, err);
	return t->caller ? 0 : -1;
}

static void confine_files(const struct vmm *v)
{
	seal_files(v->exports, v->n_exports);
}

static void confine_disk(const struct vmm *v)
{
	seal_disk();
}

/* Threads of the disk that only do I/O. */
static void on_disk_start(void *arg)
{
	seal_disk();
}

static void on_vcpu_start(void *arg)
{
	struct machine *m = arg;

	seal_vcpu();
	pthread_barrier_wait(&m->go);
}

static int start_thread(struct dev_thread *t, const struct vmm *v, void (*seal)(const struct vmm *v),
	struct err *err)
{
	t->v = v;
	t->seal = seal;
	if (pthread_create(&t->thread, NULL, serve_thread, t) != 0)
		return err_errno(err, "thread");
	return 0;
}

static int attach_mmio(struct machine *m, const struct vregs_config *c, struct err *err)
{
	unsigned i = m->acpi.n_mmio;
	struct acpi_mmio *a = &m->acpi.mmio[i];
	struct mmio *window;

	if (i == ACPI_MMIO_MAX)
		return err_set(err, ERR_BUG, "too many devices");
	*a = (struct acpi_mmio){.base = LAYOUT_MMIO + i * LAYOUT_MMIO_STEP,
		.len = LAYOUT_MMIO_STEP,
		.irq = LAYOUT_IRQ_DEVICE + i};
	window = mmio_new(m->hv, a->base, a->irq, c, err);
	if (!window)
		return -1;
	m->acpi.n_mmio++;
	return bus_add(&m->memory, mmio_bus_dev(window), err);
}

/* One more device, served by @t. */
static int attach(struct machine *m, struct vdev *d, struct dev_thread *t, struct err *err)
{
	struct vregs_config c = {.dev = d, .mem = &m->mem, .loop = t->loop, .caller = t->caller};
	unsigned msis;

	if (!m->acpi.pci)
		return attach_mmio(m, &c, err);
	if (!virtio_pci_new(m->hv, m->pci, m->n_msis, &c, &msis, err))
		return -1;
	m->n_msis += msis;
	return 0;
}

/* A kernel that is told not to use PCI gets its devices as virtio-mmio. */
static bool wants_pci(const char *cmdline)
{
	static const char word[] = "pci=off";
	const char *at = cmdline;

	while ((at = strstr(at, word))) {
		const char *end = at + sizeof(word) - 1;

		if ((at == cmdline || at[-1] == ' ') && (*end == ' ' || *end == '\0'))
			return false;
		at = end;
	}
	return true;
}

static int make_pci(struct machine *m, struct err *err)
{
	if (!m->acpi.pci)
		return 0;
	m->pci = pci_host_new(LAYOUT_ECAM, LAYOUT_BAR, LAYOUT_BAR_LEN);
	if (bus_add(&m->ports, pci_host_ports(m->pci), err) < 0 ||
		bus_add(&m->memory, pci_host_ecam(m->pci), err) < 0 ||
		bus_add(&m->memory, pci_host_window(m->pci), err) < 0)
		return -1;
	return 0;
}

static int make_disk(struct machine *m, int fd, bool read_only, const char *serial, struct err *err)
{
	/* The disk thread's two devices are one sandbox's: they may wait for each other's writes. */
	struct blk_config c = {
		.fd = fd, .read_only = read_only, .own_loop = true, .serial = serial};
	struct blk *b = blk_new(&c, err);

	if (!b || blk_start(b, DISK_THREADS, on_disk_start, NULL, err) < 0)
		return -1;
	return attach(m, blk_vdev(b), &m->disk, err);
}

static int make_devices(struct machine *m, struct err *err)
{
	struct vmm *v = m->v;
	struct console *console = console_new(v->loop, VMM_FD_CONSOLE, -1, err);

	if (!console || make_pci(m, err) < 0 || make_thread(&m->main, "main", v->loop, err) < 0 ||
		make_thread(&m->files, "files", NULL, err) < 0 ||
		make_thread(&m->disk, "disk", NULL, err) < 0)
		return -1;
	/* hutch-init finds root and disk as the first and the second block device. */
	if (make_disk(m, VMM_FD_ROOT, true, "root", err) < 0 ||
		make_disk(m, VMM_FD_DISK, false, "disk", err) < 0 ||
		attach(m, fsdev_vdev(fsdev_new(v->files)), &m->files, err) < 0 ||
		attach(m, netdev_vdev(netgate_device(v->netgate)), &m->main, err) < 0 ||
		attach(m, vsock_vdev(v->vsock), &m->main, err) < 0 ||
		attach(m, rngdev_vdev(rngdev_new(v->loop)), &m->main, err) < 0 ||
		attach(m, console_vdev(console), &m->main, err) < 0 ||
		attach(m, balloon_vdev(balloon_new(v->loop)), &m->main, err) < 0)
		return -1;
	return 0;
}

static int make_ports(struct machine *m, struct err *err)
{
	int irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct serial *serial;

	if (irq < 0)
		return err_errno(err, "eventfd");
	if (hv_line(m->hv, LAYOUT_IRQ_COM1, irq, err) < 0)
		return -1;
	serial = serial_new(LAYOUT_COM1, VMM_FD_CONSOLE, irq);
	if (bus_add(&m->ports, serial_bus_dev(serial), err) < 0)
		return -1;
	return power_init(&m->power, &m->ports, on_power, m, err);
}

static int make_vcpus(struct machine *m, unsigned n, struct err *err)
{
	_free_ struct x86_cpuid *cpuid = xcalloc(X86_CPUID_MAX, sizeof(*cpuid));
	unsigned n_cpuid;

	if (hv_x86_cpuid_supported(m->hv, cpuid, &n_cpuid, err) < 0)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		m->vcpu[i] = hv_vcpu_new(m->hv, i, err);
		if (!m->vcpu[i] || cpu_x86_setup(m->vcpu[i], cpuid, n_cpuid, i, n, err) < 0)
			return -1;
	}
	return 0;
}

/* What was begun has to be in its place before the first vCPU can know where it starts. */
static int finish_boot(struct machine *m, struct err *err)
{
	_buf_ struct buf acpi;
	struct x86_start start;

	buf_init(&acpi, LAYOUT_ACPI_MAX);
	m->acpi.cpus = m->config->cpus;
	if (!acpi_build(&m->acpi, LAYOUT_ACPI, &acpi))
		return err_set(err, ERR_BUG, "ACPI tables do not fit");
	if (boot_finish(m->boot, &acpi, &start, err) < 0)
		return -1;
	/* The others wait for the first to start them. */
	return hv_x86_set_start(m->vcpu[0], &start, err);
}

static struct machine machine; /* as long as the process */

void machine_go(void)
{
	const struct machine_config *c = machine.config;

	pthread_barrier_wait(&machine.go);
	/* Now each vCPU's first run begins. The processor time includes the program's loading. */
	log_info("machine cpus=%u memory=%llu MiB first-run=%llu us cpu-time=%llu us", c->cpus,
		(unsigned long long)(c->memory >> 20),
		(unsigned long long)(now_ns(CLOCK_MONOTONIC) - c->begin_ns) / 1000,
		(unsigned long long)now_ns(CLOCK_PROCESS_CPUTIME_ID) / 1000);
}

int machine_load(const struct machine_config *c, struct err *err)
{
	struct machine *m = &machine;
	uint64_t memory = c->memory & ~(uint64_t)(LAYOUT_HUGE - 1);

	*m = (struct machine){.config = c, .acpi.pci = wants_pci(c->cmdline)};
	m->boot_config = (struct boot_config){.kernel_fd = VMM_FD_KERNEL,
		.initrd_fd = VMM_FD_INITRD,
		.cmdline = c->cmdline,
		.memory = memory};
	if (make_memory(m, memory, err) < 0)
		return -1;
	m->boot = boot_begin(&m->boot_config, &m->mem, err);
	return m->boot ? 0 : -1;
}

int machine_start(struct vmm *v, struct hv *hv, struct err *err)
{
	struct machine *m = &machine;
	unsigned cpus = m->config->cpus;
	struct vcpus_config vc = {
		.ports = &m->ports,
		.memory = &m->memory,
		.thread_start = on_vcpu_start,
		.on_end = on_vcpu_end,
		.arg = m};

	m->v = v;
	m->hv = hv;
	m->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->end_fd < 0 || loop_add(v->loop, &m->end_w, m->end_fd, EPOLLIN, on_end) < 0)
		return err_errno(err, "eventfd");
	if (hv_create(hv, cpus, err) < 0 || map_memory(m, err) < 0 || make_devices(m, err) < 0 ||
		make_ports(m, err) < 0 || make_vcpus(m, cpus, err) < 0 || finish_boot(m, err) < 0)
		return -1;
	if (start_thread(&m->files, v, confine_files, err) < 0 ||
		start_thread(&m->disk, v, confine_disk, err) < 0)
		return -1;
	if (pthread_barrier_init(&m->go, NULL, cpus + 1) != 0)
		return err_set(err, ERR_BUG, "no barrier for the virtual CPUs");
	m->vcpus = vcpus_start(m->vcpu, cpus, &vc, err);
	return m->vcpus ? 0 : -1;
}

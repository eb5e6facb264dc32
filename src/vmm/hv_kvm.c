/* SPDX-License-Identifier: Apache-2.0 */
/* The hypervisor seam on Linux: the kernel's KVM interface (Documentation/virt/kvm/api.rst).
 *
 * Interrupt controllers are the kernel's own (PIC, I/O APIC, local APICs), and so is the timer that an
 * old kernel calibrates against: no interrupt ever needs this process. The routing table is replaced
 * as a whole (KVM has no other way), under a lock, because MSI messages change while vCPUs run. */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "vmm/hv_x86.h"

/* Three pages below 4 GiB that Intel's real-mode emulation needs; nothing else lies there. */
#define IDENTITY_MAP 0xfffbc000ull
#define TSS_PAGES    0xfffbd000ull

/* PIC pins come first in the table, then the I/O APIC's, then messages. */
#define PIC_PINS 16u

#define TSC_DEADLINE (1u << 24) /* CPUID leaf 1, ECX */

struct msi {
	bool used;
	int eventfd; /* borrowed */
	uint64_t addr;
	uint32_t data;
};

/* What running threads do: run a virtual CPU, and, when the guest sets up its interrupts and queues,
 * connect them. */
/* syscalls(hv-run): ioctl(KVM_RUN|KVM_IRQFD|KVM_IOEVENTFD|KVM_SET_GSI_ROUTING) */

struct hv {
	int kvm_fd, vm_fd;     /* owned */
	unsigned n_slots;
	size_t run_size;       /* of a vCPU's shared page */
	pthread_mutex_t lock;  /* protects msis and the routing table */
	struct msi msis[HV_MSIS_MAX];
};

struct hv_vcpu {
	struct hv *hv; /* borrowed */
	int fd;        /* owned */
	struct kvm_run *run;
};

/* ---- machine ---- */

struct hv *hv_open(struct err *err)
{
	struct hv *hv;
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		err_errno(err, "/dev/kvm");
		if (err->errnum == EACCES || err->errnum == EPERM)
			err_hint(err, "sudo usermod -aG kvm $USER, then log in again");
		else if (err->errnum == ENOENT)
			err_hint(err, "load the module kvm_intel or kvm_amd, or use --engine qemu");
		return NULL;
	}
	if (ioctl(fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		close(fd);
		err_set(err, ERR_ENV, "/dev/kvm speaks another version of the KVM interface");
		return NULL;
	}
	hv = xcalloc(1, sizeof(*hv));
	hv->kvm_fd = fd;
	hv->vm_fd = -1;
	pthread_mutex_init(&hv->lock, NULL);
	for (unsigned i = 0; i < HV_MSIS_MAX; i++)
		hv->msis[i].eventfd = -1;
	return hv;
}

static int check_extensions(struct hv *hv, struct err *err)
{
	static const struct {
		int number;
		const char *name;
	} needed[] = {
		{KVM_CAP_IRQCHIP, "in-kernel interrupt controllers"},
		{KVM_CAP_USER_MEMORY, "user memory"},
		{KVM_CAP_IRQFD, "irqfd"},
		{KVM_CAP_IOEVENTFD, "ioeventfd"},
		{KVM_CAP_IRQ_ROUTING, "interrupt routing"},
		{KVM_CAP_EXT_CPUID, "CPUID"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (ioctl(hv->vm_fd, KVM_CHECK_EXTENSION, needed[i].number) <= 0)
			return err_set(err, ERR_ENV, "this kernel's KVM has no %s", needed[i].name);
	return 0;
}

int hv_create(struct hv *hv, unsigned n_vcpus, struct err *err)
{
	uint64_t identity = IDENTITY_MAP;
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};
	int max, size;

	do
		hv->vm_fd = ioctl(hv->kvm_fd, KVM_CREATE_VM, 0);
	while (hv->vm_fd < 0 && errno == EINTR);
	if (hv->vm_fd < 0)
		return err_errno(err, "KVM: create a virtual machine");
	if (check_extensions(hv, err) < 0)
		return -1;
	max = ioctl(hv->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	if (max > 0 && n_vcpus > (unsigned)max)
		return err_set(err, ERR_USER, "%u CPUs: this kernel's KVM has %d at most", n_vcpus, max);
	size = ioctl(hv->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(struct kvm_run))
		return err_errno(err, "KVM: size of a vCPU");
	hv->run_size = (size_t)size;
	if (ioctl(hv->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0 ||
		ioctl(hv->vm_fd, KVM_SET_TSS_ADDR, TSS_PAGES) < 0)
		return err_errno(err, "KVM: real-mode pages");
	if (ioctl(hv->vm_fd, KVM_CREATE_IRQCHIP, 0) < 0)
		return err_errno(err, "KVM: interrupt controllers");
	if (ioctl(hv->vm_fd, KVM_CREATE_PIT2, &pit) < 0)
		return err_errno(err, "KVM: timer");
	return 0;
}

int hv_map(struct hv *hv, uint64_t gpa, uint64_t len, void *host, struct err *err)
{
	struct kvm_userspace_memory_region r = {
		.slot = hv->n_slots,
		.guest_phys_addr = gpa,
		.memory_size = len,
		.userspace_addr = (uintptr_t)host,
	};

	if (ioctl(hv->vm_fd, KVM_SET_USER_MEMORY_REGION, &r) < 0)
		return err_errno(err, "KVM: memory at 0x%llx", (unsigned long long)gpa);
	hv->n_slots++;
	return 0;
}

/* ---- interrupts in, doorbells out ---- */

static int irqfd(struct hv *hv, unsigned gsi, int eventfd, bool on)
{
	struct kvm_irqfd i = {
		.fd = (uint32_t)eventfd, .gsi = gsi, .flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN};

	return ioctl(hv->vm_fd, KVM_IRQFD, &i);
}

int hv_line(struct hv *hv, unsigned line, int eventfd, struct err *err)
{
	if (line >= HV_LINES)
		return err_set(err, ERR_BUG, "no interrupt line %u", line);
	if (irqfd(hv, line, eventfd, true) < 0)
		return err_errno(err, "KVM: interrupt line %u", line);
	return 0;
}

static struct kvm_irq_routing_entry chip_route(unsigned gsi, unsigned chip, unsigned pin)
{
	return (struct kvm_irq_routing_entry){.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = {.irqchip = chip, .pin = pin}};
}

static int set_routes(struct hv *hv)
{
	struct kvm_irq_routing_entry *e;
	_free_ struct kvm_irq_routing *t =
		xcalloc(1, sizeof(*t) + (PIC_PINS + HV_LINES + HV_MSIS_MAX) * sizeof(*e));

	e = t->entries;
	for (unsigned i = 0; i < PIC_PINS; i++)
		*e++ = i < 8 ? chip_route(i, KVM_IRQCHIP_PIC_MASTER, i) :
			       chip_route(i, KVM_IRQCHIP_PIC_SLAVE, i - 8);
	for (unsigned i = 0; i < HV_LINES; i++)
		/* The timer's line 0 is wired to pin 2, as in every PC. */
		*e++ = chip_route(i, KVM_IRQCHIP_IOAPIC, i == 0 ? 2 : i);
	for (unsigned i = 0; i < HV_MSIS_MAX; i++) {
		const struct msi *m = &hv->msis[i];

		if (m->used)
			*e++ = (struct kvm_irq_routing_entry){.gsi = HV_LINES + i,
				.type = KVM_IRQ_ROUTING_MSI,
				.u.msi = {.address_lo = (uint32_t)m->addr,
					.address_hi = (uint32_t)(m->addr >> 32),
					.data = m->data}};
	}
	t->nr = (uint32_t)(e - t->entries);
	return ioctl(hv->vm_fd, KVM_SET_GSI_ROUTING, t);
}

static int set_msi(struct hv *hv, unsigned msi, int eventfd, uint64_t addr, uint32_t data)
{
	struct msi *m = &hv->msis[msi];

	if (m->eventfd >= 0 && m->eventfd != eventfd) {
		irqfd(hv, HV_LINES + msi, m->eventfd, false);
		m->eventfd = -1;
	}
	m->used = eventfd >= 0;
	m->addr = addr;
	m->data = data;
	if (set_routes(hv) < 0)
		return -1;
	if (eventfd >= 0 && m->eventfd < 0) {
		if (irqfd(hv, HV_LINES + msi, eventfd, true) < 0)
			return -1;
		m->eventfd = eventfd;
	}
	return 0;
}

int hv_msi(struct hv *hv, unsigned msi, int eventfd, uint64_t addr, uint32_t data, struct err *err)
{
	int result;

	if (msi >= HV_MSIS_MAX)
		return err_set(err, ERR_BUG, "no message-signalled interrupt %u", msi);
	pthread_mutex_lock(&hv->lock);
	result = set_msi(hv, msi, eventfd, addr, data);
	if (result < 0)
		err_errno(err, "KVM: message-signalled interrupt %u", msi);
	pthread_mutex_unlock(&hv->lock);
	return result;
}

int hv_doorbell(struct hv *hv, const struct hv_doorbell *d, bool on, struct err *err)
{
	struct kvm_ioeventfd e = {
		.addr = d->gpa,
		.len = d->len,
		.datamatch = d->value,
		.fd = d->eventfd,
		.flags = (d->match ? (uint32_t)KVM_IOEVENTFD_FLAG_DATAMATCH : 0u) |
			(on ? 0u : (uint32_t)KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	if (ioctl(hv->vm_fd, KVM_IOEVENTFD, &e) < 0)
		return err_errno(err, "KVM: doorbell at 0x%llx", (unsigned long long)d->gpa);
	return 0;
}

/* ---- vCPUs ---- */

struct hv_vcpu *hv_vcpu_new(struct hv *hv, unsigned id, struct err *err)
{
	struct hv_vcpu *v = xcalloc(1, sizeof(*v));

	v->hv = hv;
	v->fd = ioctl(hv->vm_fd, KVM_CREATE_VCPU, id);
	if (v->fd < 0) {
		err_errno(err, "KVM: create vCPU %u", id);
		free(v);
		return NULL;
	}
	v->run = mmap(NULL, hv->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		err_errno(err, "KVM: map vCPU %u", id);
		close(v->fd);
		free(v);
		return NULL;
	}
	return v;
}

/* Port data lies inside the shared page; the kernel says where, and nothing else writes there. */
static void port_exit(struct kvm_run *r, struct hv_exit *x)
{
	x->reason = HV_EXIT_PORT;
	x->write = r->io.direction == KVM_EXIT_IO_OUT;
	x->len = r->io.size;
	x->count = r->io.count;
	x->addr = r->io.port;
	x->data = (uint8_t *)r + r->io.data_offset;
}

static void memory_exit(struct kvm_run *r, struct hv_exit *x)
{
	x->reason = HV_EXIT_MEMORY;
	x->write = r->mmio.is_write;
	x->len = r->mmio.len;
	x->addr = r->mmio.phys_addr;
	x->data = r->mmio.data;
}

int hv_vcpu_run(struct hv_vcpu *v, struct hv_exit *ret, struct err *err)
{
	struct kvm_run *r = v->run;
	int result = ioctl(v->fd, KVM_RUN, 0);

	*ret = (struct hv_exit){.count = 1};
	if (result < 0 && (errno == EINTR || errno == EAGAIN)) {
		ret->reason = HV_EXIT_SIGNAL;
		return 0;
	}
	if (result < 0)
		return err_errno(err, "KVM: run");
	switch (r->exit_reason) {
	case KVM_EXIT_IO:
		port_exit(r, ret);
		break;
	case KVM_EXIT_MMIO:
		memory_exit(r, ret);
		break;
	case KVM_EXIT_SHUTDOWN:
		ret->reason = HV_EXIT_SHUTDOWN;
		break;
	case KVM_EXIT_INTR:
		ret->reason = HV_EXIT_SIGNAL;
		break;
	case KVM_EXIT_FAIL_ENTRY:
		ret->reason = HV_EXIT_FAILED;
		ret->detail = r->fail_entry.hardware_entry_failure_reason;
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		ret->reason = HV_EXIT_FAILED;
		ret->detail = r->internal.suberror;
		break;
	default:
		ret->reason = HV_EXIT_FAILED;
		ret->detail = (uint64_t)r->exit_reason << 32;
	}
	return 0;
}

/* ---- x86 ---- */

static struct kvm_cpuid2 *cpuid_table(void)
{
	struct kvm_cpuid2 *t = xcalloc(1, sizeof(*t) + X86_CPUID_MAX * sizeof(t->entries[0]));

	t->nent = X86_CPUID_MAX;
	return t;
}

int hv_x86_cpuid_supported(struct hv *hv, struct x86_cpuid *to, unsigned *ret_n, struct err *err)
{
	_free_ struct kvm_cpuid2 *t = cpuid_table();

	if (ioctl(hv->kvm_fd, KVM_GET_SUPPORTED_CPUID, t) < 0)
		return err_errno(err, "KVM: CPUID");
	for (unsigned i = 0; i < t->nent; i++)
		to[i] = (struct x86_cpuid){
			.leaf = t->entries[i].function,
			.subleaf = t->entries[i].index,
			.has_subleaves = t->entries[i].flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			.eax = t->entries[i].eax,
			.ebx = t->entries[i].ebx,
			.ecx = t->entries[i].ecx,
			.edx = t->entries[i].edx,
		};
	/* One write arms this timer, where the other kind takes up to three; KVM tells of it apart, because only
	 * its own interrupt controller has it. */
	if (ioctl(hv->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
		for (unsigned i = 0; i < t->nent; i++)
			if (to[i].leaf == 1)
				to[i].ecx |= TSC_DEADLINE;
	*ret_n = t->nent;
	return 0;
}

int hv_x86_set_cpuid(struct hv_vcpu *v, const struct x86_cpuid *from, unsigned n, struct err *err)
{
	_free_ struct kvm_cpuid2 *t = cpuid_table();

	if (n > X86_CPUID_MAX)
		return err_set(err, ERR_BUG, "too many CPUID entries");
	t->nent = n;
	for (unsigned i = 0; i < n; i++)
		t->entries[i] = (struct kvm_cpuid_entry2){
			.function = from[i].leaf,
			.index = from[i].subleaf,
			.flags = from[i].has_subleaves ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
			.eax = from[i].eax,
			.ebx = from[i].ebx,
			.ecx = from[i].ecx,
			.edx = from[i].edx,
		};
	if (ioctl(v->fd, KVM_SET_CPUID2, t) < 0)
		return err_errno(err, "KVM: set CPUID");
	return 0;
}

int hv_x86_set_msrs(struct hv_vcpu *v, const struct x86_msr *from, unsigned n, struct err *err)
{
	_free_ struct kvm_msrs *m = xcalloc(1, sizeof(*m) + sizeof(m->entries[0]));

	m->nmsrs = 1;
	for (unsigned i = 0; i < n; i++) {
		m->entries[0] = (struct kvm_msr_entry){.index = from[i].index, .data = from[i].value};
		/* One at a time: the kernel stops at the first it does not know. */
		if (ioctl(v->fd, KVM_SET_MSRS, m) < 0)
			return err_errno(err, "KVM: set MSR 0x%x", from[i].index);
	}
	return 0;
}

static struct kvm_segment segment(const struct x86_segment *s)
{
	return (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.type = s->type,
		.present = s->present,
		.s = !s->system,
		.l = s->long_mode,
		.db = s->big,
		.g = s->granular,
	};
}

int hv_x86_set_start(struct hv_vcpu *v, const struct x86_start *s, struct err *err)
{
	struct kvm_regs regs = {.rflags = 2};
	struct kvm_sregs sregs;

	if (ioctl(v->fd, KVM_GET_SREGS, &sregs) < 0)
		return err_errno(err, "KVM: get registers");
	sregs.cs = segment(&s->code);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment(&s->data);
	sregs.tr = segment(&s->tss);
	sregs.gdt.base = s->gdt_base;
	sregs.gdt.limit = s->gdt_limit;
	sregs.idt.base = 0;
	sregs.idt.limit = 0;
	sregs.cr0 = s->cr0;
	sregs.cr3 = s->cr3;
	sregs.cr4 = s->cr4;
	sregs.efer = s->efer;
	if (ioctl(v->fd, KVM_SET_SREGS, &sregs) < 0)
		return err_errno(err, "KVM: set registers");
	regs.rip = s->rip;
	regs.rsp = s->rsp;
	regs.rbx = s->rbx;
	regs.rsi = s->rsi;
	if (ioctl(v->fd, KVM_SET_REGS, &regs) < 0)
		return err_errno(err, "KVM: set registers");
	return 0;
}

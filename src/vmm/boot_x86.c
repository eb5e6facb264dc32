/* SPDX-License-Identifier: Apache-2.0 */
/* Loading and entering a Linux kernel on x86-64.
 *
 * Two protocols, both without firmware: Xen's PVH ABI for an ELF kernel that has the note for it
 * (xen/include/public/arch-x86/hvm/start_info.h), Linux's own 64-bit entry otherwise
 * (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"). Both get the same memory map. */
#include "vmm/boot_x86.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "vmm/kernel_x86.h"
#include "vmm/layout_x86.h"

#define PVH_MAGIC   0x336ec578u
#define RAM         1u
#define RESERVED    2u
#define MAP_ENTRIES 8u

#define CR0_PE   (1ull << 0)
#define CR0_ET   (1ull << 4)
#define CR0_PG   (1ull << 31)
#define CR4_PAE  (1ull << 5)
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)
#define PTE_PRESENT_WRITE 3ull
#define PTE_HUGE          (1ull << 7)

struct pvh_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist, cmdline, rsdp, memmap;
	uint32_t memmap_entries, reserved;
};
struct pvh_module {
	uint64_t addr, size, cmdline, reserved;
};
struct pvh_map_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};

struct memory_map {
	struct pvh_map_entry e[MAP_ENTRIES];
	unsigned n;
};

/* A kernel file in our address space, and its initramfs. */
struct load {
	const struct boot_config *c;
	const struct gmem *mem;
	struct kernel_image k;
	const uint8_t *file; /* mapped */
	size_t file_len;
	uint64_t initrd, initrd_len;
	struct memory_map map;
	struct err *err;
};

unsigned boot_regions(uint64_t memory, uint64_t gpa[2], uint64_t len[2])
{
	gpa[0] = 0;
	len[0] = MIN(memory, LAYOUT_LOW_END);
	gpa[1] = LAYOUT_4G;
	len[1] = memory - len[0];
	return len[1] ? 2 : 1;
}

static void map_add(struct memory_map *m, uint64_t addr, uint64_t end, uint32_t type)
{
	if (end > addr)
		m->e[m->n++] = (struct pvh_map_entry){.addr = addr, .size = end - addr, .type = type};
}

static void make_map(struct load *l)
{
	uint64_t gpa[2], len[2];
	unsigned n = boot_regions(l->c->memory, gpa, len);

	map_add(&l->map, 0, LAYOUT_EBDA, RAM);
	map_add(&l->map, LAYOUT_EBDA, LAYOUT_HIGH_START, RESERVED);
	map_add(&l->map, LAYOUT_HIGH_START, len[0], RAM);
	map_add(&l->map, LAYOUT_ECAM, LAYOUT_ECAM + LAYOUT_ECAM_LEN, RESERVED);
	if (n > 1)
		map_add(&l->map, gpa[1], gpa[1] + len[1], RAM);
}

/* [@off, @off + @len) of @fd, which a hole does not begin, to @to. */
static int read_all(struct load *l, int fd, uint64_t off, uint64_t len, uint8_t *to)
{
	while (len) {
		ssize_t n = pread(fd, to, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(l->err, "read kernel");
		if (n == 0)
			return err_set(l->err, ERR_ENV, "kernel: the file is cut short");
		off += (uint64_t)n;
		to += n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* [@off, @off + @len) of @fd to guest address @addr. Read, although mapping the file copy-on-write would
 * cost nothing here: file pages are of 4 KiB, and the guest then faults on each of ten thousand, while
 * what is read lies in the memory's own 2 MiB pages. Holes of the file, a fifth of a stock kernel, are
 * left out: this memory is new and zero. */
static int place(struct load *l, int fd, uint64_t off, uint64_t len, uint64_t addr)
{
	uint8_t *to = gmem_ptr(l->mem, addr, len);
	uint64_t end = off + len, start = off;

	if (len == 0)
		return 0;
	if (!to)
		return err_set(l->err, ERR_USER, "the sandbox's memory is too small for the kernel");
	while (off < end) {
		off_t data = lseek(fd, (off_t)off, SEEK_DATA), hole = -1;

		if (data < 0 && errno == ENXIO)
			break;
		if (data >= 0)
			hole = lseek(fd, data, SEEK_HOLE);
		if (data < 0 || hole <= data) /* no such thing here */
			data = (off_t)off, hole = (off_t)end;
		if ((uint64_t)data >= end)
			break;
		if (read_all(l, fd, (uint64_t)data, MIN((uint64_t)hole, end) - (uint64_t)data,
			    to + ((uint64_t)data - start)) < 0)
			return -1;
		off = (uint64_t)hole;
	}
	return 0;
}

static int load_kernel(struct load *l)
{
	if (kernel_parse(l->file, l->file_len, l->c->memory, &l->k, l->err) < 0)
		return -1;
	for (unsigned i = 0; i < l->k.n_segs; i++) {
		const struct kernel_segment *s = &l->k.seg[i];

		/* What the file does not fill is zero already: this memory is new. */
		if (place(l, l->c->kernel_fd, s->offset, s->file_len, s->addr) < 0)
			return -1;
	}
	return 0;
}

/* As high as it may lie, out of the way of the kernel's own early memory. */
static int load_initrd(struct load *l)
{
	uint64_t top = MIN(MIN(l->c->memory, LAYOUT_LOW_END), l->k.initrd_max + 1), start;
	struct stat st;

	if (l->c->initrd_fd < 0)
		return 0;
	if (fstat(l->c->initrd_fd, &st) < 0)
		return err_errno(l->err, "initramfs");
	l->initrd_len = (uint64_t)st.st_size;
	if (l->initrd_len > top)
		return err_set(l->err, ERR_USER, "the sandbox's memory is too small for the initramfs");
	start = (top - l->initrd_len) & ~(uint64_t)(LAYOUT_PAGE - 1);
	if (start < l->k.end)
		return err_set(l->err, ERR_USER, "the sandbox's memory is too small for the initramfs");
	l->initrd = start;
	return place(l, l->c->initrd_fd, 0, l->initrd_len, start);
}

/* @len bytes at @addr below 1 MiB. These addresses are ours, so failure is our bug. */
static void *low(struct load *l, uint64_t addr, uint64_t len)
{
	void *p = gmem_ptr(l->mem, addr, len);

	if (!p)
		abort();
	return p;
}

static void write_gdt(struct load *l)
{
	/* null, 64-bit code or 32-bit code, data, TSS */
	uint64_t code = l->k.entry_kind == KERNEL_PVH ? 0x00cf9b000000ffffull : 0x00af9b000000ffffull;
	uint64_t gdt[] = {0, 0, code, 0x00cf93000000ffffull, 0x00008b0000000067ull};

	memcpy(low(l, LAYOUT_GDT, sizeof(gdt)), gdt, sizeof(gdt));
}

/* The first 4 GiB, each at its own address, in 2 MiB pages. */
static void write_page_tables(struct load *l)
{
	uint64_t *pml4 = low(l, LAYOUT_PAGE_TABLES, 6 * LAYOUT_PAGE);
	uint64_t *pdpt = pml4 + 512, *pd = pdpt + 512;

	pml4[0] = (LAYOUT_PAGE_TABLES + LAYOUT_PAGE) | PTE_PRESENT_WRITE;
	for (uint64_t i = 0; i < 4; i++)
		pdpt[i] = (LAYOUT_PAGE_TABLES + (2 + i) * LAYOUT_PAGE) | PTE_PRESENT_WRITE;
	for (uint64_t i = 0; i < 4ull * 512; i++)
		pd[i] = i * LAYOUT_HUGE | PTE_PRESENT_WRITE | PTE_HUGE;
}

static void write_pvh(struct load *l)
{
	struct {
		struct pvh_start_info info;
		struct pvh_module initrd;
		struct pvh_map_entry map[MAP_ENTRIES];
	} *p = low(l, LAYOUT_START_INFO, sizeof(*p));

	p->info = (struct pvh_start_info){
		.magic = PVH_MAGIC,
		.version = 1,
		.nr_modules = l->initrd_len ? 1 : 0,
		.modlist = LAYOUT_START_INFO + offsetof(__typeof__(*p), initrd),
		.cmdline = LAYOUT_CMDLINE,
		.rsdp = LAYOUT_ACPI,
		.memmap = LAYOUT_START_INFO + offsetof(__typeof__(*p), map),
		.memmap_entries = l->map.n,
	};
	p->initrd = (struct pvh_module){.addr = l->initrd, .size = l->initrd_len};
	memcpy(p->map, l->map.e, sizeof(p->map));
}

static void write_boot_params(struct load *l)
{
	struct boot_params *p = low(l, LAYOUT_BOOT_PARAMS, sizeof(*p));

	if (l->k.header_len)
		memcpy(&p->hdr, l->file + l->k.header_off, MIN(l->k.header_len, sizeof(p->hdr)));
	p->hdr.boot_flag = 0xaa55;
	p->hdr.header = 0x53726448; /* "HdrS" */
	p->hdr.type_of_loader = 0xff;
	p->hdr.cmd_line_ptr = LAYOUT_CMDLINE;
	p->hdr.cmdline_size = (uint32_t)strlen(l->c->cmdline);
	p->hdr.ramdisk_image = (uint32_t)l->initrd;
	p->hdr.ramdisk_size = (uint32_t)l->initrd_len;
	p->acpi_rsdp_addr = LAYOUT_ACPI;
	p->e820_entries = (uint8_t)l->map.n;
	for (unsigned i = 0; i < l->map.n; i++)
		p->e820_table[i] = (struct boot_e820_entry){.addr = l->map.e[i].addr,
			.size = l->map.e[i].size,
			.type = l->map.e[i].type};
}

static struct x86_start start_state(const struct load *l)
{
	bool pvh = l->k.entry_kind == KERNEL_PVH;

	return (struct x86_start){
		.rip = l->k.entry,
		.rsp = LAYOUT_STACK,
		.rbx = pvh ? LAYOUT_START_INFO : 0,
		.rsi = pvh ? 0 : LAYOUT_BOOT_PARAMS,
		.cr0 = CR0_PE | CR0_ET | (pvh ? 0 : CR0_PG),
		.cr3 = pvh ? 0 : LAYOUT_PAGE_TABLES,
		.cr4 = pvh ? 0 : CR4_PAE,
		.efer = pvh ? 0 : EFER_LME | EFER_LMA,
		.code = {.limit = 0xffffffff,
			.selector = 0x10,
			.type = 11,
			.present = true,
			.long_mode = !pvh,
			.big = pvh,
			.granular = true},
		.data = {.limit = 0xffffffff,
			.selector = 0x18,
			.type = 3,
			.present = true,
			.big = true,
			.granular = true},
		.tss = {.limit = 0x67, .selector = 0x20, .type = 11, .present = true, .system = true},
		.gdt_base = LAYOUT_GDT,
		.gdt_limit = 5 * 8 - 1,
	};
}

static int write_cmdline(struct load *l)
{
	size_t n = strlen(l->c->cmdline);

	if (n > l->k.cmdline_max)
		return err_set(l->err, ERR_USER, "the kernel's command line is too long: %zu bytes, %u at most",
			n, l->k.cmdline_max);
	memcpy(low(l, LAYOUT_CMDLINE, n + 1), l->c->cmdline, n + 1);
	return 0;
}

static int load_all(struct load *l)
{
	if (load_kernel(l) < 0 || load_initrd(l) < 0 || write_cmdline(l) < 0)
		return -1;
	if (buf_len(l->c->acpi) > LAYOUT_ACPI_MAX)
		return err_set(l->err, ERR_BUG, "ACPI tables are too long");
	memcpy(low(l, LAYOUT_ACPI, buf_len(l->c->acpi)), buf_head(l->c->acpi), buf_len(l->c->acpi));
	make_map(l);
	write_gdt(l);
	if (l->k.entry_kind == KERNEL_PVH) {
		write_pvh(l);
	} else {
		write_page_tables(l);
		write_boot_params(l);
	}
	return 0;
}

int boot_load(const struct boot_config *c, const struct gmem *mem, struct x86_start *ret, struct err *err)
{
	struct load l = {.c = c, .mem = mem, .err = err};
	struct stat st;
	void *file;
	int result;

	if (c->memory < LAYOUT_HIGH_START + LAYOUT_HUGE)
		return err_set(err, ERR_USER, "the sandbox's memory is too small for a kernel");
	if (fstat(c->kernel_fd, &st) < 0)
		return err_errno(err, "kernel");
	if (st.st_size <= 0)
		return err_set(err, ERR_USER, "kernel: the file is empty");
	l.file_len = (size_t)st.st_size;
	file = mmap(NULL, l.file_len, PROT_READ, MAP_PRIVATE, c->kernel_fd, 0);
	if (file == MAP_FAILED)
		return err_errno(err, "map kernel");
	l.file = file;
	result = load_all(&l);
	if (result == 0)
		*ret = start_state(&l);
	munmap(file, l.file_len);
	return result;
}

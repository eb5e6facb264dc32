/* SPDX-License-Identifier: Apache-2.0 */
/* Loading and entering a Linux kernel on x86-64.
 *
 * Two protocols, both without firmware: Xen's PVH ABI for an ELF kernel that has the note for it
 * (xen/include/public/arch-x86/hvm/start_info.h), Linux's own 64-bit entry otherwise
 * (Documentation/arch/x86/boot.rst, "64-bit Boot Protocol"). Both get the same memory map. */
#include "vmm/boot_x86.h"

#include <asm/bootparam.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "vmm/kernel_x86.h"
#include "vmm/layout_x86.h"
#include "vmm/place.h"

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
struct boot {
	const struct boot_config *c; /* borrowed */
	const struct gmem *mem;      /* borrowed */
	struct kernel_image k;
	const uint8_t *file; /* mapped */
	size_t file_len;
	uint64_t initrd, initrd_len;
	struct place_part part[KERNEL_SEGMENTS_MAX + 1];
	unsigned n_parts;
	struct placer *placer; /* owned */
	struct memory_map map;
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

static void make_map(struct boot *b)
{
	uint64_t gpa[2], len[2];
	unsigned n = boot_regions(b->c->memory, gpa, len);

	map_add(&b->map, 0, LAYOUT_EBDA, RAM);
	map_add(&b->map, LAYOUT_EBDA, LAYOUT_HIGH_START, RESERVED);
	map_add(&b->map, LAYOUT_HIGH_START, len[0], RAM);
	map_add(&b->map, LAYOUT_ECAM, LAYOUT_ECAM + LAYOUT_ECAM_LEN, RESERVED);
	if (n > 1)
		map_add(&b->map, gpa[1], gpa[1] + len[1], RAM);
}

/* One more part: [@off, @off + @len) of @fd to guest address @addr. */
static int place(struct boot *b, int fd, uint64_t off, uint64_t len, uint64_t addr, struct err *err)
{
	uint8_t *to = gmem_ptr(b->mem, addr, len);

	if (len == 0)
		return 0;
	if (!to)
		return err_set(err, ERR_USER, "the sandbox's memory is too small for the kernel");
	b->part[b->n_parts++] = (struct place_part){.fd = fd, .off = off, .len = len, .to = to};
	return 0;
}

static int plan_kernel(struct boot *b, struct err *err)
{
	if (kernel_parse(b->file, b->file_len, b->c->memory, &b->k, err) < 0)
		return -1;
	for (unsigned i = 0; i < b->k.n_segs; i++) {
		const struct kernel_segment *s = &b->k.seg[i];

		/* What the file does not fill is zero already: this memory is new. */
		if (place(b, b->c->kernel_fd, s->offset, s->file_len, s->addr, err) < 0)
			return -1;
	}
	return 0;
}

/* As high as it may lie, out of the way of the kernel's own early memory. */
static int plan_initrd(struct boot *b, struct err *err)
{
	uint64_t top = MIN(MIN(b->c->memory, LAYOUT_LOW_END), b->k.initrd_max + 1), start;
	struct stat st;

	if (b->c->initrd_fd < 0)
		return 0;
	if (fstat(b->c->initrd_fd, &st) < 0)
		return err_errno(err, "initramfs");
	b->initrd_len = (uint64_t)st.st_size;
	if (b->initrd_len > top)
		return err_set(err, ERR_USER, "the sandbox's memory is too small for the initramfs");
	start = (top - b->initrd_len) & ~(uint64_t)(LAYOUT_PAGE - 1);
	if (start < b->k.end)
		return err_set(err, ERR_USER, "the sandbox's memory is too small for the initramfs");
	b->initrd = start;
	return place(b, b->c->initrd_fd, 0, b->initrd_len, start, err);
}

/* @len bytes at @addr below 1 MiB. These addresses are ours, so failure is our bug. */
static void *low(struct boot *b, uint64_t addr, uint64_t len)
{
	void *p = gmem_ptr(b->mem, addr, len);

	if (!p)
		abort();
	return p;
}

static void write_gdt(struct boot *b)
{
	/* null, 64-bit code or 32-bit code, data, TSS */
	uint64_t code = b->k.entry_kind == KERNEL_PVH ? 0x00cf9b000000ffffull : 0x00af9b000000ffffull;
	uint64_t gdt[] = {0, 0, code, 0x00cf93000000ffffull, 0x00008b0000000067ull};

	memcpy(low(b, LAYOUT_GDT, sizeof(gdt)), gdt, sizeof(gdt));
}

/* The first 4 GiB, each at its own address, in 2 MiB pages. */
static void write_page_tables(struct boot *b)
{
	uint64_t *pml4 = low(b, LAYOUT_PAGE_TABLES, 6 * LAYOUT_PAGE);
	uint64_t *pdpt = pml4 + 512, *pd = pdpt + 512;

	pml4[0] = (LAYOUT_PAGE_TABLES + LAYOUT_PAGE) | PTE_PRESENT_WRITE;
	for (uint64_t i = 0; i < 4; i++)
		pdpt[i] = (LAYOUT_PAGE_TABLES + (2 + i) * LAYOUT_PAGE) | PTE_PRESENT_WRITE;
	for (uint64_t i = 0; i < 4ull * 512; i++)
		pd[i] = i * LAYOUT_HUGE | PTE_PRESENT_WRITE | PTE_HUGE;
}

static void write_pvh(struct boot *b)
{
	struct {
		struct pvh_start_info info;
		struct pvh_module initrd;
		struct pvh_map_entry map[MAP_ENTRIES];
	} *p = low(b, LAYOUT_START_INFO, sizeof(*p));

	p->info = (struct pvh_start_info){
		.magic = PVH_MAGIC,
		.version = 1,
		.nr_modules = b->initrd_len ? 1 : 0,
		.modlist = LAYOUT_START_INFO + offsetof(__typeof__(*p), initrd),
		.cmdline = LAYOUT_CMDLINE,
		.rsdp = LAYOUT_ACPI,
		.memmap = LAYOUT_START_INFO + offsetof(__typeof__(*p), map),
		.memmap_entries = b->map.n,
	};
	p->initrd = (struct pvh_module){.addr = b->initrd, .size = b->initrd_len};
	memcpy(p->map, b->map.e, sizeof(p->map));
}

static void write_boot_params(struct boot *b)
{
	struct boot_params *p = low(b, LAYOUT_BOOT_PARAMS, sizeof(*p));

	if (b->k.header_len)
		memcpy(&p->hdr, b->file + b->k.header_off, MIN(b->k.header_len, sizeof(p->hdr)));
	p->hdr.boot_flag = 0xaa55;
	p->hdr.header = 0x53726448; /* "HdrS" */
	p->hdr.type_of_loader = 0xff;
	p->hdr.cmd_line_ptr = LAYOUT_CMDLINE;
	p->hdr.cmdline_size = (uint32_t)strlen(b->c->cmdline);
	p->hdr.ramdisk_image = (uint32_t)b->initrd;
	p->hdr.ramdisk_size = (uint32_t)b->initrd_len;
	p->acpi_rsdp_addr = LAYOUT_ACPI;
	p->e820_entries = (uint8_t)b->map.n;
	for (unsigned i = 0; i < b->map.n; i++)
		p->e820_table[i] = (struct boot_e820_entry){.addr = b->map.e[i].addr,
			.size = b->map.e[i].size,
			.type = b->map.e[i].type};
}

static struct x86_start start_state(const struct boot *b)
{
	bool pvh = b->k.entry_kind == KERNEL_PVH;

	return (struct x86_start){
		.rip = b->k.entry,
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

static int plan_cmdline(const struct boot *b, struct err *err)
{
	size_t n = strlen(b->c->cmdline);

	if (n > b->k.cmdline_max)
		return err_set(err, ERR_USER, "the kernel's command line is too long: %zu bytes, %u at most",
			n, b->k.cmdline_max);
	return 0;
}

static void boot_free(struct boot *b)
{
	munmap((void *)b->file, b->file_len);
	free(b);
}

static int open_kernel(struct boot *b, struct err *err)
{
	struct stat st;
	void *file;

	if (fstat(b->c->kernel_fd, &st) < 0)
		return err_errno(err, "kernel");
	if (st.st_size <= 0)
		return err_set(err, ERR_USER, "kernel: the file is empty");
	file = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, b->c->kernel_fd, 0);
	if (file == MAP_FAILED)
		return err_errno(err, "map kernel");
	b->file = file;
	b->file_len = (size_t)st.st_size;
	return 0;
}

struct boot *boot_begin(const struct boot_config *c, const struct gmem *mem, struct err *err)
{
	struct boot *b = xcalloc(1, sizeof(*b));

	b->c = c;
	b->mem = mem;
	if (c->memory < LAYOUT_HIGH_START + LAYOUT_HUGE) {
		err_set(err, ERR_USER, "the sandbox's memory is too small for a kernel");
		goto fail;
	}
	if (open_kernel(b, err) < 0)
		goto fail;
	if (plan_kernel(b, err) < 0 || plan_initrd(b, err) < 0 || plan_cmdline(b, err) < 0) {
		boot_free(b);
		return NULL;
	}
	b->placer = place_begin(b->part, b->n_parts);
	return b;
fail:
	free(b);
	return NULL;
}

static void write_tables(struct boot *b, const struct buf *acpi)
{
	size_t n = strlen(b->c->cmdline) + 1;

	memcpy(low(b, LAYOUT_CMDLINE, n), b->c->cmdline, n);
	memcpy(low(b, LAYOUT_ACPI, buf_len(acpi)), buf_head(acpi), buf_len(acpi));
	make_map(b);
	write_gdt(b);
	if (b->k.entry_kind == KERNEL_PVH) {
		write_pvh(b);
	} else {
		write_page_tables(b);
		write_boot_params(b);
	}
}

int boot_finish(struct boot *b, const struct buf *acpi, struct x86_start *ret, struct err *err)
{
	int result;

	if (buf_len(acpi) <= LAYOUT_ACPI_MAX)
		write_tables(b, acpi);
	result = place_finish(b->placer, err);
	if (buf_len(acpi) > LAYOUT_ACPI_MAX)
		result = err_set(err, ERR_BUG, "ACPI tables are too long");
	if (result == 0)
		*ret = start_state(b);
	boot_free(b);
	return result;
}

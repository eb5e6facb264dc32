/* SPDX-License-Identifier: Apache-2.0 */
/* How the kvm engine starts a guest: kernel files, memory map, tables, CPUID. No hypervisor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <asm/bootparam.h>
#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "vmm/acpi_x86.h"
#include "vmm/boot_x86.h"
#include "vmm/cpu_x86.h"
#include "vmm/kernel_x86.h"
#include "vmm/layout_x86.h"

/* boot_x86.c and cpu_x86.c call these on the way; nothing here gets so far. */
int hv_x86_set_cpuid(struct hv_vcpu *v, const struct x86_cpuid *from, unsigned n, struct err *err)
{
	(void)v, (void)from, (void)n;
	return err_set(err, ERR_BUG, "no hypervisor");
}
int hv_x86_set_msrs(struct hv_vcpu *v, const struct x86_msr *from, unsigned n, struct err *err)
{
	(void)v, (void)from, (void)n;
	return err_set(err, ERR_BUG, "no hypervisor");
}

#define RAM (64u << 20)

/* An ELF kernel with two segments and, when asked for, a PVH note. */
struct elf {
	Elf64_Ehdr e;
	Elf64_Phdr p[3];
	struct {
		Elf64_Nhdr n;
		char name[4];
		uint64_t entry;
	} note;
	uint8_t pad[4096 - sizeof(Elf64_Ehdr) - 3 * sizeof(Elf64_Phdr) - 24];
	uint8_t text[8192]; /* page-aligned: mapped and read */
	uint8_t data[100];  /* not aligned: read */
};

static struct elf elf_make(bool pvh)
{
	struct elf f = {
		.e = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB},
			.e_machine = EM_X86_64,
			.e_phoff = offsetof(struct elf, p),
			.e_phentsize = sizeof(Elf64_Phdr),
			.e_phnum = pvh ? 3 : 2,
			.e_entry = 0x1000010},
		.p = {{.p_type = PT_LOAD,
			      .p_offset = offsetof(struct elf, text),
			      .p_paddr = 0x1000000,
			      .p_filesz = sizeof(f.text) - 10,
			      .p_memsz = sizeof(f.text)},
			{.p_type = PT_LOAD,
				.p_offset = offsetof(struct elf, data),
				.p_paddr = 0x1200020,
				.p_filesz = sizeof(f.data),
				.p_memsz = 5000},
			{.p_type = PT_NOTE,
				.p_offset = offsetof(struct elf, note),
				.p_filesz = sizeof(f.note)}},
		.note = {.n = {.n_namesz = 4, .n_descsz = 8, .n_type = 18}, .name = "Xen",
			.entry = 0x1000100},
	};

	memset(f.text, 0x11, sizeof(f.text));
	memset(f.data, 0x22, sizeof(f.data));
	return f;
}

static int parse(const void *file, size_t len, struct kernel_image *k)
{
	/* An exact-size copy, so that the sanitizer sees one byte too far. */
	uint8_t *exact = xmalloc(len ? len : 1);
	struct err err;
	int r;

	memcpy(exact, file, len);
	r = kernel_parse(exact, len, RAM, k, &err);
	free(exact);
	return r;
}

static void elf_kernels(void **state)
{
	struct elf f = elf_make(true);
	struct kernel_image k;

	assert_int_equal(parse(&f, sizeof(f), &k), 0);
	assert_int_equal(k.entry_kind, KERNEL_PVH);
	assert_int_equal(k.entry, 0x1000100);
	assert_int_equal(k.n_segs, 2);
	assert_int_equal(k.end, 0x1200020 + 5000);
	f = elf_make(false);
	assert_int_equal(parse(&f, sizeof(f), &k), 0);
	assert_int_equal(k.entry_kind, KERNEL_LINUX64);
	assert_int_equal(k.entry, 0x1000010);
	/* Every truncation is refused: something of each segment is at the end. */
	f = elf_make(true);
	for (size_t n = 0; n < sizeof(f); n += n < 400 ? 1 : 97)
		assert_int_equal(parse(&f, n, &k), -1);
}

static void hostile_elf_kernels(void **state)
{
	struct elf good = elf_make(true), f;
	struct kernel_image k;

#define REFUSED(change)                                                                            \
	do {                                                                                       \
		f = good;                                                                          \
		change;                                                                            \
		assert_int_equal(parse(&f, sizeof(f), &k), -1);                                    \
	} while (0)
	REFUSED(f.e.e_ident[EI_CLASS] = ELFCLASS32);
	REFUSED(f.e.e_ident[EI_DATA] = ELFDATA2MSB);
	REFUSED(f.e.e_machine = EM_AARCH64);
	REFUSED(f.e.e_phnum = 65);
	REFUSED(f.e.e_phnum = 0);
	REFUSED(f.e.e_phoff = UINT64_MAX);
	REFUSED(f.e.e_phoff = sizeof(f) - 1);
	REFUSED(f.e.e_phentsize = 1);
	REFUSED(f.p[0].p_offset = UINT64_MAX - 5);
	REFUSED(f.p[0].p_filesz = UINT64_MAX);
	REFUSED(f.p[0].p_filesz = sizeof(f.text) + 1); /* more than in memory */
	REFUSED(f.p[0].p_paddr = 0x1000);
	REFUSED(f.p[0].p_paddr = UINT64_MAX - 100);
	REFUSED(f.p[0].p_paddr = RAM - 4096);
	REFUSED(f.p[0].p_memsz = UINT64_MAX);
	REFUSED(f.p[1].p_paddr = 0x1000000 + sizeof(f.text) - 1);
	REFUSED(f.p[1].p_paddr = 0x1000000 - 4999);
	REFUSED(f.note.entry = 0);
	REFUSED(f.note.entry = 0x1000000 + sizeof(f.text)); /* in memory, not in the file */
	REFUSED(f.note.n.n_descsz = 0xfffffffe; f.e.e_entry = 0);
	REFUSED(f.note.n.n_namesz = 0xffffffff; f.e.e_entry = 0);
	REFUSED(memset(&f, 0, sizeof(f)));
}

static uint8_t *bz_make(size_t len)
{
	uint8_t *f = xcalloc(1, len);
	uint64_t pref = 0x1000000;
	uint32_t init_size = 0x400000, initrd_max = 0x7fffffff, cmdline = 2047;

	f[0x1f1] = 4;
	memcpy(f + 0x1fe, "\x55\xaa\xeb\x66HdrS\x0f\x02", 10);
	f[0x211] = 1;
	memcpy(f + 0x22c, &initrd_max, 4);
	f[0x236] = 1;
	memcpy(f + 0x238, &cmdline, 4);
	memcpy(f + 0x258, &pref, 8);
	memcpy(f + 0x260, &init_size, 4);
	return f;
}

static void bz_images(void **state)
{
	size_t len = 5 * 512 + 4096;
	uint8_t *f = bz_make(len);
	struct kernel_image k;

	assert_int_equal(parse(f, len, &k), 0);
	assert_int_equal(k.entry_kind, KERNEL_LINUX64);
	assert_int_equal(k.entry, 0x1000200);
	assert_int_equal(k.seg[0].offset, 5 * 512);
	assert_int_equal(k.seg[0].file_len, 4096);
	assert_int_equal(k.end, 0x1400000);
	assert_int_equal(k.initrd_max, 0x7fffffff);
	assert_int_equal(k.header_off, 0x1f1);
	assert_int_equal(k.header_len, 0x202 + 0x66 - 0x1f1);
	assert_int_equal(parse(f, 5 * 512 + 0x200, &k), -1);
	assert_int_equal(parse(f, 5 * 512 + 0x201, &k), 0);
	f[0x236] = 0; /* no 64-bit entry */
	assert_int_equal(parse(f, len, &k), -1);
	f[0x236] = 1;
	f[0x207] = 1; /* an old protocol */
	assert_int_equal(parse(f, len, &k), -1);
	f[0x207] = 2;
	memset(f + 0x258, 0xff, 8);
	assert_int_equal(parse(f, len, &k), -1);
	memset(f + 0x258, 0, 8);
	assert_int_equal(parse(f, len, &k), -1);
	free(f);
	for (unsigned sects = 0; sects < 256; sects++) {
		f = bz_make(4096);
		f[0x1f1] = (uint8_t)sects;
		assert_int_equal(parse(f, 4096, &k), (sects ? sects : 4) * 512 + 512 + 512 < 4096 ? 0 : -1);
		free(f);
	}
}

static void memory_regions(void **state)
{
	uint64_t gpa[2], len[2];

	assert_int_equal(boot_regions(512u << 20, gpa, len), 1);
	assert_int_equal(len[0], 512u << 20);
	assert_int_equal(boot_regions(LAYOUT_LOW_END, gpa, len), 1);
	assert_int_equal(boot_regions(8ull << 30, gpa, len), 2);
	assert_int_equal(gpa[1], LAYOUT_4G);
	assert_int_equal(len[0] + len[1], 8ull << 30);
}

static int memfd_with(const void *data, size_t len)
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, data, len), 0);
	return fd;
}

struct world {
	uint8_t *ram;
	struct gmem mem;
	struct buf acpi;
	struct boot_config c;
};

static void world_make(struct world *w, int kernel_fd, int initrd_fd)
{
	w->ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(w->ram, MAP_FAILED);
	w->mem = (struct gmem){0};
	assert_int_equal(gmem_add_host(&w->mem, 0, RAM, w->ram, NULL), 0);
	buf_init(&w->acpi, LAYOUT_ACPI_MAX);
	assert_true(acpi_build(&(struct acpi_config){.cpus = 1}, LAYOUT_ACPI, &w->acpi));
	w->c = (struct boot_config){.kernel_fd = kernel_fd,
		.initrd_fd = initrd_fd,
		.cmdline = "quiet hutch",
		.memory = RAM};
}

static int load(struct world *w, struct x86_start *ret, struct err *err)
{
	struct boot *b = boot_begin(&w->c, &w->mem, err);

	return b ? boot_finish(b, &w->acpi, ret, err) : -1;
}

static void world_done(struct world *w)
{
	close(w->c.kernel_fd);
	if (w->c.initrd_fd >= 0)
		close(w->c.initrd_fd);
	gmem_clear(&w->mem);
	buf_done(&w->acpi);
	munmap(w->ram, RAM);
}

static uint32_t le32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, 4);
	return v;
}
static uint64_t le64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, 8);
	return v;
}

/* What a PVH kernel finds: its segments, the start info, the initramfs, the command line. */
static void pvh_memory(void **state)
{
	struct elf f = elf_make(true);
	uint8_t initrd[10000];
	struct world w;
	struct x86_start s;
	const uint8_t *info;
	uint64_t at;

	memset(initrd, 0x33, sizeof(initrd));
	world_make(&w, memfd_with(&f, sizeof(f)), memfd_with(initrd, sizeof(initrd)));
	assert_int_equal(load(&w, &s, NULL), 0);
	assert_int_equal(s.rip, 0x1000100);
	assert_int_equal(s.rbx, LAYOUT_START_INFO);
	assert_int_equal(s.cr0 & 0x80000001u, 1); /* protected mode, no paging */
	assert_false(s.code.long_mode);
	assert_memory_equal(w.ram + 0x1000000, f.text, sizeof(f.text) - 10);
	assert_memory_equal(w.ram + 0x1200020, f.data, sizeof(f.data));
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(w.ram[0x1000000 + sizeof(f.text) - 10 + i], 0);
	info = w.ram + LAYOUT_START_INFO;
	assert_int_equal(le32(info), 0x336ec578);
	assert_int_equal(le32(info + 12), 1);
	at = le64(w.ram + le64(info + 16));
	assert_int_equal(at % 4096, 0);
	assert_int_equal(le64(w.ram + le64(info + 16) + 8), sizeof(initrd));
	assert_memory_equal(w.ram + at, initrd, sizeof(initrd));
	assert_string_equal((char *)w.ram + le64(info + 24), "quiet hutch");
	assert_memory_equal(w.ram + le64(info + 32), "RSD PTR ", 8);
	/* The guest writes to its copy, not to the file. */
	w.ram[0x1000000] = 0x99;
	assert_int_equal(pread(w.c.kernel_fd, initrd, 1, offsetof(struct elf, text)), 1);
	assert_int_equal(initrd[0], 0x11);
	world_done(&w);
}

/* Memory is not even touched where the file has nothing. */
static void holes_are_left_out(void **state)
{
	struct elf f = elf_make(true);
	int fd = memfd_with(&f, sizeof(f));
	struct x86_start s;
	struct world w;

	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 offsetof(struct elf, text), 4096),
		0);
	world_make(&w, fd, -1);
	memset(w.ram + 0x1000000, 0xaa, sizeof(f.text));
	assert_int_equal(load(&w, &s, NULL), 0);
	for (unsigned i = 0; i < 4096; i++)
		assert_int_equal(w.ram[0x1000000 + i], 0xaa);
	assert_memory_equal(w.ram + 0x1000000 + 4096, f.text, 4096 - 10);
	assert_memory_equal(w.ram + 0x1200020, f.data, sizeof(f.data));
	world_done(&w);
}

static void linux64_memory(void **state)
{
	size_t len = 5 * 512 + 4096;
	uint8_t *f = bz_make(len);
	const struct boot_params *p;
	struct world w;
	struct x86_start s;

	memset(f + 5 * 512, 0x44, 4096);
	world_make(&w, memfd_with(f, len), memfd_with("initrd", 6));
	assert_int_equal(load(&w, &s, NULL), 0);
	p = (const void *)(w.ram + LAYOUT_BOOT_PARAMS);
	assert_int_equal(s.rsi, LAYOUT_BOOT_PARAMS);
	assert_int_equal(s.rip, 0x1000200);
	assert_int_equal(s.efer, 0x500);
	assert_true(s.code.long_mode);
	assert_int_equal(w.ram[0x1000000], 0x44);
	assert_int_equal(p->hdr.header, 0x53726448);
	assert_int_equal(p->hdr.type_of_loader, 0xff);
	assert_int_equal(p->hdr.ramdisk_size, 6);
	assert_memory_equal(w.ram + p->hdr.ramdisk_image, "initrd", 6);
	assert_string_equal((char *)w.ram + p->hdr.cmd_line_ptr, "quiet hutch");
	assert_int_equal(p->acpi_rsdp_addr, LAYOUT_ACPI);
	assert_true(p->e820_entries >= 3);
	assert_int_equal(p->e820_table[2].addr, LAYOUT_HIGH_START);
	assert_int_equal(p->e820_table[2].addr + p->e820_table[2].size, RAM);
	/* The page tables map the kernel to itself. */
	assert_int_equal(le64(w.ram + s.cr3) & ~0xfffull, s.cr3 + 4096);
	assert_int_equal(le64(w.ram + s.cr3 + 2 * 4096 + 8 * 8), 0x1000083);
	free(f);
	world_done(&w);
}

static void too_little_memory(void **state)
{
	struct elf f = elf_make(true);
	uint8_t *big = xcalloc(1, RAM);
	struct world w;
	struct x86_start s;
	struct err err;
	char line[3000];

	world_make(&w, memfd_with(&f, sizeof(f)), memfd_with(big, RAM - (16u << 20)));
	assert_int_equal(load(&w, &s, &err), -1);
	assert_non_null(strstr(err.msg, "initramfs"));
	world_done(&w);
	world_make(&w, memfd_with(&f, sizeof(f)), -1);
	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 1] = '\0';
	w.c.cmdline = line;
	assert_int_equal(load(&w, &s, &err), -1);
	assert_non_null(strstr(err.msg, "command line"));
	w.c.memory = 1u << 20;
	assert_int_equal(load(&w, &s, &err), -1);
	world_done(&w);
	world_make(&w, memfd_with("", 0), -1);
	assert_int_equal(load(&w, &s, &err), -1);
	world_done(&w);
	free(big);
}

static uint8_t sum(const uint8_t *p, size_t n)
{
	uint8_t s = 0;

	for (size_t i = 0; i < n; i++)
		s = (uint8_t)(s + p[i]);
	return s;
}

static const uint8_t *table(const struct buf *b, uint64_t addr, const char *signature)
{
	const uint8_t *t = buf_head(b) + (addr - LAYOUT_ACPI);

	assert_true(addr >= LAYOUT_ACPI && addr - LAYOUT_ACPI + 36 <= buf_len(b));
	assert_memory_equal(t, signature, 4);
	assert_true(addr - LAYOUT_ACPI + le32(t + 4) <= buf_len(b));
	assert_int_equal(sum(t, le32(t + 4)), 0);
	return t;
}

static void acpi_tables(void **state)
{
	for (unsigned pci = 0; pci < 2; pci++) {
		struct acpi_config c = {.cpus = 32, .pci = pci};
		const uint8_t *rsdp, *xsdt, *fadt, *madt;
		_buf_ struct buf b;

		for (unsigned i = 0; i < ACPI_MMIO_MAX && !pci; i++)
			c.mmio[c.n_mmio++] = (struct acpi_mmio){
				.base = LAYOUT_MMIO + i * LAYOUT_MMIO_STEP, .len = 4096, .irq = 5 + i};
		buf_init(&b, LAYOUT_ACPI_MAX);
		assert_true(acpi_build(&c, LAYOUT_ACPI, &b));
		rsdp = buf_head(&b);
		assert_int_equal(sum(rsdp, 20), 0);
		assert_int_equal(sum(rsdp, 36), 0);
		xsdt = table(&b, le64(rsdp + 24), "XSDT");
		assert_int_equal(le32(xsdt + 4), 36 + 8 * (pci ? 3 : 2));
		fadt = table(&b, le64(xsdt + 36), "FACP");
		assert_int_equal(le32(fadt + 4), 276);
		assert_true(le32(fadt + 112) & 1u << 20); /* hardware-reduced */
		table(&b, le64(fadt + 140), "DSDT");
		madt = table(&b, le64(xsdt + 44), "APIC");
		assert_int_equal(le32(madt + 4), 44 + 32 * 8 + 12);
		if (pci)
			table(&b, le64(xsdt + 52), "MCFG");
	}
	/* A buffer that is too small is noticed. */
	for (size_t max = 0; max < 700; max += 13) {
		_buf_ struct buf b;

		buf_init(&b, max);
		assert_false(acpi_build(&(struct acpi_config){.cpus = 32, .pci = true}, LAYOUT_ACPI, &b));
	}
}

static void cpuid_filter(void **state)
{
	struct x86_cpuid t[] = {
		{.leaf = 1, .ebx = ~0u, .ecx = ~0u, .edx = ~0u},
		{.leaf = 4, .subleaf = 0, .has_subleaves = true, .eax = ~0u}, /* L1..: level 7 here */
		{.leaf = 7, .ebx = ~0u, .ecx = ~0u, .edx = ~0u},
		{.leaf = 0xa, .eax = ~0u},
		{.leaf = 0xb, .subleaf = 0},
		{.leaf = 0xb, .subleaf = 1},
		{.leaf = 0x80000001, .ecx = ~0u},
		{.leaf = 0x80000008, .ecx = ~0u},
		{.leaf = 0x8000000a, .eax = ~0u},
	};

	cpu_x86_filter(t, ARRAY_SIZE(t), 5, 6);
	assert_int_equal(t[0].ebx >> 24, 5);
	assert_int_equal(t[0].ebx >> 16 & 0xff, 8);
	assert_false(t[0].ecx & 1u << 5); /* VMX */
	assert_true(t[0].ecx & 1u << 31); /* hypervisor */
	assert_int_equal(t[1].eax >> 26, 7);
	assert_false(t[2].ebx & (1u << 2 | 1u << 25)); /* SGX, PT */
	assert_false(t[2].ebx & 1u << 1);	       /* TSC_ADJUST */
	assert_false(t[2].ecx & 1u << 16);	       /* LA57 */
	assert_int_equal(t[3].eax, 0);
	assert_int_equal(t[4].edx, 5);
	assert_int_equal(t[5].eax, 3);
	assert_int_equal(t[5].ebx, 6);
	assert_false(t[6].ecx & 1u << 2); /* SVM */
	assert_int_equal(t[7].ecx & 0xff, 5);
	assert_int_equal(t[8].eax, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(elf_kernels),
		cmocka_unit_test(hostile_elf_kernels),
		cmocka_unit_test(bz_images),
		cmocka_unit_test(memory_regions),
		cmocka_unit_test(pvh_memory),
		cmocka_unit_test(holes_are_left_out),
		cmocka_unit_test(linux64_memory),
		cmocka_unit_test(too_little_memory),
		cmocka_unit_test(acpi_tables),
		cmocka_unit_test(cpuid_filter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* vmlinux (ELF) and bzImage files.
 *
 * A kernel file comes from the user's kernel pack, but is parsed as if it came from anybody: every
 * number is checked against the file and against guest memory before it is used, in 64 bits and
 * without sums that can wrap. */
#include "vmm/kernel_x86.h"

#include <elf.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "vmm/layout_x86.h"

#define NOTE_PVH 18u /* XEN_ELFNOTE_PHYS32_ENTRY */

/* The setup header (boot.rst, "Details of header fields"). */
#define SETUP_SECTS    0x1f1u
#define BOOT_FLAG      0x1feu
#define JUMP_LEN       0x201u
#define HEADER_MAGIC   0x202u
#define VERSION        0x206u
#define LOADFLAGS      0x211u
#define INITRD_MAX     0x22cu
#define XLOADFLAGS     0x236u
#define CMDLINE_SIZE   0x238u
#define PREF_ADDRESS   0x258u
#define INIT_SIZE      0x260u
#define HEADER_END     0x268u
#define HEADER_END_MAX 0x290u /* the e820 table begins behind it in boot_params */

#define ENTRY64 0x200u /* of the 64-bit entry behind the start of the protected-mode part */

static bool inside(uint64_t off, uint64_t len, uint64_t total)
{
	return off <= total && len <= total - off;
}

static int bad(struct err *err, const char *why)
{
	return err_set(err, ERR_USER, "not a kernel that can be started: %s", why);
}

/* ---- ELF ---- */

static int add_segment(struct kernel_image *k, const Elf64_Phdr *p, uint64_t ram_end, struct err *err)
{
	struct kernel_segment *s = &k->seg[k->n_segs];

	if (p->p_memsz == 0)
		return 0;
	if (k->n_segs == KERNEL_SEGMENTS_MAX)
		return bad(err, "too many segments");
	if (p->p_filesz > p->p_memsz)
		return bad(err, "a segment is larger in the file than in memory");
	if (p->p_paddr < LAYOUT_HIGH_START || !inside(p->p_paddr, p->p_memsz, ram_end))
		return bad(err, "a segment lies outside of the sandbox's memory");
	for (unsigned i = 0; i < k->n_segs; i++)
		if (p->p_paddr < k->seg[i].addr + k->seg[i].mem_len &&
			k->seg[i].addr < p->p_paddr + p->p_memsz)
			return bad(err, "segments overlap");
	*s = (struct kernel_segment){.offset = p->p_offset,
		.file_len = p->p_filesz,
		.addr = p->p_paddr,
		.mem_len = p->p_memsz};
	k->end = MAX(k->end, s->addr + s->mem_len);
	k->n_segs++;
	return 0;
}

/* Look for the PVH entry in one note segment. Notes are name size, descriptor size, type, and both
 * parts padded to 4 bytes. */
static bool find_pvh(const uint8_t *p, uint64_t len, uint64_t *ret_entry)
{
	while (len >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr n;
		uint64_t name_len, desc_len;

		memcpy(&n, p, sizeof(n));
		p += sizeof(n);
		len -= sizeof(n);
		name_len = ((uint64_t)n.n_namesz + 3) & ~3ull;
		desc_len = ((uint64_t)n.n_descsz + 3) & ~3ull;
		if (name_len > len || desc_len > len - name_len)
			return false;
		if (n.n_type == NOTE_PVH && n.n_namesz == 4 && memcmp(p, "Xen", 4) == 0 &&
			(n.n_descsz == 4 || n.n_descsz == 8)) {
			*ret_entry = 0;
			memcpy(ret_entry, p + name_len, n.n_descsz);
			return true;
		}
		p += name_len + desc_len;
		len -= name_len + desc_len;
	}
	return false;
}

static bool in_segments(const struct kernel_image *k, uint64_t addr)
{
	for (unsigned i = 0; i < k->n_segs; i++)
		if (addr >= k->seg[i].addr && addr - k->seg[i].addr < k->seg[i].file_len)
			return true;
	return false;
}

static int parse_elf(const uint8_t *file, size_t len, uint64_t ram_end, struct kernel_image *k,
	struct err *err)
{
	Elf64_Ehdr e;
	uint64_t pvh = 0;
	bool has_pvh = false;

	if (len < sizeof(e))
		return bad(err, "the file is cut short");
	memcpy(&e, file, sizeof(e));
	if (e.e_ident[EI_CLASS] != ELFCLASS64 || e.e_ident[EI_DATA] != ELFDATA2LSB ||
		e.e_machine != EM_X86_64)
		return bad(err, "an ELF file, but not for x86-64");
	if (e.e_phentsize != sizeof(Elf64_Phdr) || e.e_phnum > 64 ||
		!inside(e.e_phoff, (uint64_t)e.e_phnum * sizeof(Elf64_Phdr), len))
		return bad(err, "broken program headers");
	for (unsigned i = 0; i < e.e_phnum; i++) {
		Elf64_Phdr p;

		memcpy(&p, file + e.e_phoff + i * sizeof(p), sizeof(p));
		if (p.p_type != PT_LOAD && p.p_type != PT_NOTE)
			continue;
		if (!inside(p.p_offset, p.p_filesz, len))
			return bad(err, "the file is cut short");
		if (p.p_type == PT_LOAD && add_segment(k, &p, ram_end, err) < 0)
			return -1;
		if (p.p_type == PT_NOTE && !has_pvh)
			has_pvh = find_pvh(file + p.p_offset, p.p_filesz, &pvh);
	}
	k->entry_kind = has_pvh ? KERNEL_PVH : KERNEL_LINUX64;
	k->entry = has_pvh ? pvh : e.e_entry;
	if (!in_segments(k, k->entry))
		return bad(err, "its entry lies outside of its segments");
	k->initrd_max = LAYOUT_LOW_END - 1;
	k->cmdline_max = 2047;
	return 0;
}

/* ---- bzImage ---- */

static uint64_t field(const uint8_t *file, unsigned off, unsigned size)
{
	uint64_t v = 0;

	memcpy(&v, file + off, size);
	return v;
}

static int parse_bzimage(const uint8_t *file, size_t len, uint64_t ram_end, struct kernel_image *k,
	struct err *err)
{
	uint64_t sects, start, addr, init_size, header_end;

	if (len < HEADER_END_MAX || field(file, BOOT_FLAG, 2) != 0xaa55 ||
		memcmp(file + HEADER_MAGIC, "HdrS", 4) != 0)
		return bad(err, "neither an ELF file nor a bzImage");
	if (field(file, VERSION, 2) < 0x020c || !(field(file, XLOADFLAGS, 2) & 1) ||
		!(file[LOADFLAGS] & 1))
		return bad(err, "a bzImage without 64-bit entry");
	sects = file[SETUP_SECTS] ? file[SETUP_SECTS] : 4;
	start = (sects + 1) * 512;
	if (start >= len || len - start <= ENTRY64)
		return bad(err, "the file is cut short");
	addr = field(file, PREF_ADDRESS, 8);
	init_size = MAX(field(file, INIT_SIZE, 4), (uint64_t)len - start);
	if (addr < LAYOUT_HIGH_START || addr % LAYOUT_PAGE || !inside(addr, init_size, ram_end))
		return bad(err, "it needs more memory than the sandbox has");
	header_end = MIN((uint64_t)HEADER_MAGIC + file[JUMP_LEN], (uint64_t)HEADER_END_MAX);
	if (header_end < HEADER_END)
		return bad(err, "broken setup header");
	k->entry_kind = KERNEL_LINUX64;
	k->entry = addr + ENTRY64;
	k->seg[k->n_segs++] = (struct kernel_segment){
		.offset = start, .file_len = len - start, .addr = addr, .mem_len = init_size};
	k->end = addr + init_size;
	k->initrd_max = MIN(field(file, INITRD_MAX, 4), LAYOUT_LOW_END - 1);
	k->cmdline_max = (uint32_t)MIN(field(file, CMDLINE_SIZE, 4), LAYOUT_CMDLINE_MAX - 1ull);
	k->header_off = SETUP_SECTS;
	k->header_len = (uint32_t)header_end - SETUP_SECTS;
	return 0;
}

int kernel_parse(
	const void *file, size_t len, uint64_t ram_end, struct kernel_image *ret, struct err *err)
{
	struct kernel_image k = {0};
	bool elf = len >= SELFMAG && memcmp(file, ELFMAG, SELFMAG) == 0;

	ram_end = MIN(ram_end, LAYOUT_LOW_END);
	if ((elf ? parse_elf(file, len, ram_end, &k, err) :
		   parse_bzimage(file, len, ram_end, &k, err)) < 0)
		return -1;
	*ret = k;
	return 0;
}

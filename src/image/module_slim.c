/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel modules are relocatable ELF files. Their insertion takes an emulated CPU long, most of it
 * for sections that a sandbox does without:
 *
 * - .static_call_sites: where the module calls through a trampoline that the kernel would have it
 *   bypass. Each of these calls is patched on its own, and for each all virtual CPUs have to stop
 *   three times: half of all their interrupts until the guest is ready. Without the list the calls
 *   go through the trampoline, as those of a kernel that cannot patch them do.
 * - .orc_unwind: sorted at insertion, for exact backtraces. Those of an oops have question marks.
 * - .BTF: types for BPF programs that attach to the module.
 * - the signature, behind the last section: our kernels are told to load no certificate
 *   (src/box/engine_qemu.c), so hashing the whole module ends in "key missing" and nothing else.
 *
 * Only the copies in the initramfs are made so; what modprobe takes from the pack is whole. A
 * section that goes keeps its number: symbols and other sections refer to each by that. */
#include "image/module_slim.h"

#include <elf.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"

#define SECTIONS_MAX 4096
#define ALIGN_MAX    4096

struct module {
	const uint8_t *bytes; /* borrowed */
	size_t len;
	Elf64_Ehdr head;
	Elf64_Shdr *sections; /* owned, head.e_shnum of them */
	Elf64_Shdr names;     /* the one of them with their names, as it was */
};

static bool inside(const struct module *m, uint64_t off, uint64_t len)
{
	return off <= m->len && len <= m->len - off;
}

static bool read_head(struct module *m)
{
	const Elf64_Ehdr *h = &m->head;

	if (m->len < sizeof(m->head))
		return false;
	memcpy(&m->head, m->bytes, sizeof(m->head));
	return memcmp(h->e_ident, ELFMAG, SELFMAG) == 0 && h->e_ident[EI_CLASS] == ELFCLASS64 &&
	       h->e_ident[EI_DATA] == ELFDATA2LSB && h->e_type == ET_REL && h->e_phnum == 0 &&
	       h->e_shentsize == sizeof(Elf64_Shdr) && h->e_shnum > 0 &&
	       h->e_shnum <= SECTIONS_MAX && h->e_shstrndx < h->e_shnum &&
	       inside(m, h->e_shoff, h->e_shnum * sizeof(Elf64_Shdr));
}

static bool read_sections(struct module *m)
{
	m->sections = xcalloc(m->head.e_shnum, sizeof(*m->sections));
	memcpy(m->sections, m->bytes + m->head.e_shoff, m->head.e_shnum * sizeof(*m->sections));
	for (size_t i = 0; i < m->head.e_shnum; i++) {
		const Elf64_Shdr *s = &m->sections[i];

		if (s->sh_addralign > ALIGN_MAX || (s->sh_addralign & (s->sh_addralign - 1)))
			return false;
		if (s->sh_type != SHT_NOBITS && !inside(m, s->sh_offset, s->sh_size))
			return false;
	}
	m->names = m->sections[m->head.e_shstrndx];
	return m->names.sh_type == SHT_STRTAB;
}

/* What is no string is no name that anybody looks for. */
static const char *section_name(const struct module *m, const Elf64_Shdr *s)
{
	const char *text = (const char *)m->bytes + m->names.sh_offset;

	if (s->sh_name >= m->names.sh_size ||
		!memchr(text + s->sh_name, '\0', m->names.sh_size - s->sh_name))
		return "";
	return text + s->sh_name;
}

static bool is_needless(const char *name)
{
	static const char *const needless[] = {
		".static_call_sites", ".orc_unwind", ".orc_unwind_ip", ".BTF"};

	if (strncmp(name, ".rela.", strlen(".rela.")) == 0)
		name += strlen(".rela");
	for (size_t i = 0; i < ARRAY_SIZE(needless); i++)
		if (strcmp(name, needless[i]) == 0)
			return true;
	return false;
}

static void pad(struct buf *to, size_t start, uint64_t align)
{
	static const char zeros[ALIGN_MAX];

	if (align > 1)
		buf_put(to, zeros, -(buf_len(to) - start) & (align - 1));
}

int module_slim(const uint8_t *ko, size_t len, struct buf *to)
{
	struct module m = {.bytes = ko, .len = len};
	size_t start = buf_len(to);

	if (!read_head(&m) || !read_sections(&m)) {
		free(m.sections);
		return -1;
	}
	buf_put(to, &m.head, sizeof(m.head)); /* once more below, with the place of the sections */
	for (size_t i = 0; i < m.head.e_shnum; i++) {
		Elf64_Shdr *s = &m.sections[i];
		const uint8_t *content = ko + s->sh_offset;

		if (i != m.head.e_shstrndx && is_needless(section_name(&m, s)))
			s->sh_type = SHT_NULL;
		if (s->sh_type == SHT_NULL) {
			*s = (Elf64_Shdr){0};
		} else if (s->sh_type != SHT_NOBITS) {
			pad(to, start, s->sh_addralign);
			s->sh_offset = buf_len(to) - start;
			buf_put(to, content, s->sh_size);
		}
	}
	pad(to, start, sizeof(uint64_t));
	m.head.e_shoff = buf_len(to) - start;
	buf_put(to, m.sections, m.head.e_shnum * sizeof(*m.sections));
	free(m.sections);
	if (to->failed)
		return -1;
	memcpy(buf_head(to) + start, &m.head, sizeof(m.head));
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Modules without what their insertion takes long for: what goes, what stays, and where. */
#include <elf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "image/module_slim.h"

#define SIGNATURE "~Module signature appended~\n"

/* A module like a compiler's: every name that goes, and neighbours that only look like them. */
static const struct {
	const char *name;
	uint32_t type;
	uint64_t align;
	const char *content;
	bool goes;
} table[] = {
	{"", SHT_NULL, 0, "", false},
	{".text", SHT_PROGBITS, 16, "the code", false},
	{".rela.text", SHT_RELA, 8, "relocations of the code", false},
	{".static_call_sites", SHT_PROGBITS, 4, "list of calls", true},
	{".rela.static_call_sites", SHT_RELA, 8, "relocations of that list", true},
	{".orc_unwind", SHT_PROGBITS, 1, "frames", true},
	{".orc_unwind_ip", SHT_PROGBITS, 1, "their places", true},
	{".rela.orc_unwind_ip", SHT_RELA, 8, "relocations of their places", true},
	{".orc_unwind_x", SHT_PROGBITS, 64, "not quite", false},
	{".bss", SHT_NOBITS, 32, "", false},
	{".BTF", SHT_PROGBITS, 1, "types", true},
	{".symtab", SHT_SYMTAB, 8, "symbols", false},
	{".shstrtab", SHT_STRTAB, 1, "", false},
};

#define N	   ARRAY_SIZE(table)
#define NAMES	   (N - 1)
#define BSS_BYTES 4096

static void make(struct buf *b, Elf64_Shdr sections[static N])
{
	Elf64_Ehdr h = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
				EV_CURRENT},
		.e_type = ET_REL,
		.e_machine = EM_X86_64,
		.e_shentsize = sizeof(Elf64_Shdr),
		.e_shnum = N,
		.e_shstrndx = NAMES};
	_buf_ struct buf names;

	buf_init(&names, 4096);
	buf_init(b, 1 << 16);
	buf_put(b, &h, sizeof(h));
	for (size_t i = 0; i < N; i++) {
		sections[i] = (Elf64_Shdr){.sh_name = (uint32_t)buf_len(&names),
			.sh_type = table[i].type,
			.sh_addralign = table[i].align};
		buf_put(&names, table[i].name, strlen(table[i].name) + 1);
	}
	for (size_t i = 1; i < N; i++) {
		while (table[i].align && buf_len(b) % table[i].align)
			buf_put_u8(b, 0xee);
		sections[i].sh_offset = buf_len(b);
		sections[i].sh_size = i == NAMES ? buf_len(&names) : strlen(table[i].content);
		buf_put(b, i == NAMES ? (char *)buf_head(&names) : table[i].content, sections[i].sh_size);
		if (table[i].type == SHT_NOBITS)
			sections[i].sh_size = BSS_BYTES;
	}
	h.e_shoff = buf_len(b);
	buf_put(b, sections, N * sizeof(*sections));
	buf_puts(b, SIGNATURE);
	memcpy(buf_head(b), &h, sizeof(h));
	assert_false(b->failed);
}

static void what_goes_and_what_stays(void **state)
{
	_buf_ struct buf ko, slim;
	Elf64_Shdr before[N], after[N];
	Elf64_Ehdr h;

	make(&ko, before);
	buf_init(&slim, 1 << 16);
	assert_int_equal(module_slim(buf_head(&ko), buf_len(&ko), &slim), 0);
	memcpy(&h, buf_head(&slim), sizeof(h));
	assert_int_equal(h.e_shnum, N);
	assert_int_equal(h.e_shoff % 8, 0);
	assert_int_equal(h.e_shoff + sizeof(after), buf_len(&slim)); /* and no signature */
	memcpy(after, buf_head(&slim) + h.e_shoff, sizeof(after));
	for (size_t i = 0; i < N; i++) {
		if (table[i].goes) {
			assert_memory_equal(&after[i], &(Elf64_Shdr){0}, sizeof(after[i]));
			assert_null(memmem(buf_head(&slim), h.e_shoff, table[i].content,
				strlen(table[i].content)));
			continue;
		}
		assert_int_equal(after[i].sh_name, before[i].sh_name);
		assert_int_equal(after[i].sh_type, table[i].type);
		assert_int_equal(after[i].sh_size, before[i].sh_size);
		if (table[i].type != SHT_NULL && table[i].type != SHT_NOBITS) {
			assert_int_equal(after[i].sh_offset % table[i].align, 0);
			assert_memory_equal(buf_head(&slim) + after[i].sh_offset,
				buf_head(&ko) + before[i].sh_offset, before[i].sh_size);
		}
	}
}

static void refuse(const struct buf *ko, size_t len)
{
	_buf_ struct buf slim;

	buf_init(&slim, 1 << 16);
	assert_int_equal(module_slim(buf_head(ko), len, &slim), -1);
}

static void truncated(void **state)
{
	_buf_ struct buf ko;
	Elf64_Shdr sections[N];

	make(&ko, sections);
	for (size_t len = 0; len < buf_len(&ko) - strlen(SIGNATURE); len++)
		refuse(&ko, len);
}

static void patched_refused(size_t offset, const void *value, size_t len)
{
	_buf_ struct buf ko;
	Elf64_Shdr sections[N];

	make(&ko, sections);
	memcpy(buf_head(&ko) + offset, value, len);
	refuse(&ko, buf_len(&ko));
}

#define REFUSE_HEAD(field, v)                                                                      \
	patched_refused(offsetof(Elf64_Ehdr, field), &(__typeof__(((Elf64_Ehdr *)0)->field)){v},   \
		sizeof(((Elf64_Ehdr *)0)->field))

static void hostile_heads(void **state)
{
	patched_refused(0, "\x7f" "ELG", 4);
	patched_refused(EI_CLASS, &(uint8_t){ELFCLASS32}, 1);
	patched_refused(EI_DATA, &(uint8_t){ELFDATA2MSB}, 1);
	REFUSE_HEAD(e_type, ET_DYN);
	REFUSE_HEAD(e_phnum, 1);
	REFUSE_HEAD(e_shentsize, 63);
	REFUSE_HEAD(e_shnum, 0);
	REFUSE_HEAD(e_shnum, 0xffff);
	REFUSE_HEAD(e_shnum, N + 1); /* the signature is no section */
	REFUSE_HEAD(e_shstrndx, N);
	REFUSE_HEAD(e_shstrndx, 1); /* the code is no table of names */
	REFUSE_HEAD(e_shoff, UINT64_MAX);
	REFUSE_HEAD(e_shoff, UINT64_MAX - sizeof(Elf64_Shdr));
}

static void hostile_section(size_t field, uint64_t value)
{
	_buf_ struct buf ko;
	Elf64_Shdr sections[N];
	Elf64_Ehdr h;

	make(&ko, sections);
	memcpy(&h, buf_head(&ko), sizeof(h));
	memcpy(buf_head(&ko) + h.e_shoff + sizeof(Elf64_Shdr) + field, &value, sizeof(value));
	refuse(&ko, buf_len(&ko));
}

static void hostile_sections(void **state)
{
	hostile_section(offsetof(Elf64_Shdr, sh_offset), UINT64_MAX);
	hostile_section(offsetof(Elf64_Shdr, sh_offset), 1 << 16);
	hostile_section(offsetof(Elf64_Shdr, sh_size), UINT64_MAX);
	hostile_section(offsetof(Elf64_Shdr, sh_size), 1 << 16);
	hostile_section(offsetof(Elf64_Shdr, sh_addralign), 3);
	hostile_section(offsetof(Elf64_Shdr, sh_addralign), 8192);
	hostile_section(offsetof(Elf64_Shdr, sh_addralign), 1ull << 63);
}

static void no_room(void **state)
{
	_buf_ struct buf ko, slim;
	Elf64_Shdr sections[N];

	make(&ko, sections);
	buf_init(&slim, 128);
	assert_int_equal(module_slim(buf_head(&ko), buf_len(&ko), &slim), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_goes_and_what_stays),
		cmocka_unit_test(truncated),
		cmocka_unit_test(hostile_heads),
		cmocka_unit_test(hostile_sections),
		cmocka_unit_test(no_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

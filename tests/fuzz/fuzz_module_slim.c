/* SPDX-License-Identifier: Apache-2.0 */
/* Any module of a kernel pack. Properties: what comes out is a module from which nothing more can be
 * taken, and each section that is still there has the content it had. */
#include <elf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "image/module_slim.h"

#define OUT_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

static Elf64_Shdr section(const uint8_t *ko, size_t i)
{
	Elf64_Ehdr head;
	Elf64_Shdr s;

	memcpy(&head, ko, sizeof(head));
	memcpy(&s, ko + head.e_shoff + i * sizeof(s), sizeof(s));
	return s;
}

static void check_sections(const uint8_t *before, const struct buf *slim)
{
	const uint8_t *after = buf_head(slim);
	Elf64_Ehdr head;

	memcpy(&head, after, sizeof(head));
	require(head.e_shoff <= buf_len(slim));
	require(head.e_shnum * sizeof(Elf64_Shdr) == buf_len(slim) - head.e_shoff);
	for (size_t i = 0; i < head.e_shnum; i++) {
		Elf64_Shdr a = section(before, i), b = section(after, i);

		require(b.sh_type == a.sh_type || b.sh_type == SHT_NULL);
		if (b.sh_type == SHT_NULL || b.sh_type == SHT_NOBITS)
			continue;
		require(b.sh_size == a.sh_size && b.sh_offset <= head.e_shoff);
		require(b.sh_size <= head.e_shoff - b.sh_offset);
		require(memcmp(after + b.sh_offset, before + a.sh_offset, b.sh_size) == 0);
		require(b.sh_addralign < 2 || b.sh_offset % b.sh_addralign == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_buf_ struct buf once, twice;

	buf_init(&once, OUT_MAX);
	buf_init(&twice, OUT_MAX);
	if (module_slim(data, size, &once) < 0)
		return 0;
	check_sections(data, &once);
	require(module_slim(buf_head(&once), buf_len(&once), &twice) == 0);
	require(buf_len(&once) == buf_len(&twice));
	require(memcmp(buf_head(&once), buf_head(&twice), buf_len(&once)) == 0);
	return 0;
}

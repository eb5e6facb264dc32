/* SPDX-License-Identifier: Apache-2.0 */
/* Any kernel file. Properties: what is accepted can be loaded without another check. */
#include <stdbool.h>
#include <stdlib.h>

#include "base/mem.h"
#include "vmm/kernel_x86.h"
#include "vmm/layout_x86.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void check(const struct kernel_image *k, size_t size, uint64_t ram_end)
{
	bool entered = false;

	require(k->n_segs > 0 && k->n_segs <= KERNEL_SEGMENTS_MAX);
	for (unsigned i = 0; i < k->n_segs; i++) {
		const struct kernel_segment *s = &k->seg[i];

		require(s->mem_len > 0 && s->file_len <= s->mem_len);
		require(s->offset <= size && s->file_len <= size - s->offset);
		require(s->addr >= LAYOUT_HIGH_START && s->addr < ram_end);
		require(s->mem_len <= ram_end - s->addr && s->addr + s->mem_len <= k->end);
		for (unsigned j = 0; j < i; j++)
			require(s->addr >= k->seg[j].addr + k->seg[j].mem_len ||
				k->seg[j].addr >= s->addr + s->mem_len);
		entered |= k->entry >= s->addr && k->entry - s->addr < s->file_len;
	}
	require(entered);
	require(k->end <= ram_end && k->initrd_max < LAYOUT_LOW_END);
	require(k->cmdline_max < LAYOUT_CMDLINE_MAX);
	require(k->header_off + k->header_len <= size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint64_t sizes[] = {4u << 20, 64u << 20, 1u << 30, 8ull << 30};
	bool accepted = false;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		struct kernel_image k;
		bool ok = kernel_parse(data, size, sizes[i], &k, NULL) == 0;

		/* More memory never makes a kernel worse. */
		require(ok || !accepted);
		accepted = ok;
		if (ok)
			check(&k, size, MIN(sizes[i], LAYOUT_LOW_END));
	}
	return 0;
}

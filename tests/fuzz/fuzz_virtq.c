/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile driver: the input is guest memory and a script of what happens when. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "virtio/gmem.h"
#include "virtio/virtq.h"

#define HALF 16384u /* two regions that touch in guest addresses, and lie apart here */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every byte that a chain promises must be there. */
static void touch(const struct virtq_chain *c)
{
	static uint8_t flat[2 * VIRTQ_BYTES_MAX / 8];
	size_t out = 0, in = 0;

	if (c->n_out + c->n_in > VIRTQ_IOV_MAX || c->out_len > VIRTQ_BYTES_MAX ||
		c->in_len > VIRTQ_BYTES_MAX)
		abort();
	for (unsigned i = 0; i < c->n_out; i++)
		out += c->iov[i].iov_len;
	for (unsigned i = 0; i < c->n_in; i++)
		in += c->iov[c->n_out + i].iov_len;
	if (out != c->out_len || in != c->in_len)
		abort();
	if (virtq_chain_read(c, 0, flat, sizeof(flat)) != (out < sizeof(flat) ? out : sizeof(flat)))
		abort();
	if (c->n_out)
		virtq_chain_read(c, out - 1, flat, 2);
	virtq_chain_write(c, in / 2, flat, 100);
}

static void play(struct virtq *q, uint8_t *lo, uint8_t *hi, const uint8_t *s, size_t n)
{
	struct virtq_chain c = {0};

	for (size_t i = 0; i + 3 < n; i += 4) {
		uint16_t at = (uint16_t)(s[i + 1] | s[i + 2] << 8);

		switch (s[i] % 8) {
		case 0:
		case 1:
		case 2:
			if (virtq_pop(q, &c) == VIRTQ_CHAIN)
				touch(&c);
			break;
		case 3:
			virtq_push(q, c.head, s[i + 3]);
			virtq_should_interrupt(q);
			break;
		case 4:
			if (virtq_pop(q, &c) == VIRTQ_CHAIN)
				virtq_unpop(q);
			break;
		case 5:
			virtq_kicks_off(q);
			break;
		case 6:
			virtq_kicks_on(q);
			break;
		case 7: /* the guest changes its mind */
			(at & 0x4000 ? hi : lo)[at % HALF] = s[i + 3];
			break;
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gmem m = {0};
	struct virtq q = {0};
	uint8_t *lo, *hi;
	size_t script, image;
	uint16_t n;

	if (size < 4)
		return 0;
	n = (uint16_t)(1u << (data[0] % 8));
	script = data[2] * 4u < size - 3 ? data[2] * 4u : size - 3;
	lo = aligned_alloc(4096, HALF);
	hi = aligned_alloc(4096, HALF);
	memset(lo, 0, HALF);
	memset(hi, 0, HALF);
	image = size - 3 - script;
	memcpy(lo, data + 3 + script, image < HALF ? image : HALF);
	if (gmem_add_host(&m, 0, HALF, lo, NULL) < 0 || gmem_add_host(&m, HALF, HALF, hi, NULL) < 0)
		abort();
	/* Descriptors first, then avail, then used: a small input reaches all of them. */
	if (!virtq_start(&q, &m, n, lo, lo + 16 * n, lo + (18 * n + 9) / 4 * 4, data[1] & 2,
		    data[1] & 1))
		abort();
	play(&q, lo, hi, data + 3, script);
	virtq_stop(&q);
	free(lo);
	free(hi);
	return 0;
}

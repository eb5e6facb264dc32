/* SPDX-License-Identifier: Apache-2.0 */
/* An audit log as verification reads it. First byte: whether an older file may have been rotated
 * away (bit 0), whether the first line of the input is the head (bit 1). A line break doubled
 * begins a new file. Properties: what verifies is one chain and ends where the head says; what is
 * sealed onto it verifies, too; a head parses back. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "wire/chain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

static bool read_head(const char *line, size_t len, struct chain *ret)
{
	char text[CHAIN_HEAD_SIZE + 1];

	/* As in the file, with its line break. */
	if (len + 1 != CHAIN_HEAD_SIZE)
		return false;
	memcpy(text, line, len);
	text[len] = '\n';
	if (chain_head_parse(text, CHAIN_HEAD_SIZE, ret) < 0)
		return false;
	chain_head_text(ret, text);
	require(memcmp(text, line, len) == 0);
	return true;
}

/* Whatever the input was, the chain goes on from where it ended. */
static void check_sealed(struct chain_check *c)
{
	struct chain next = c->at;
	struct chain_line l;
	_buf_ struct buf line;
	struct err err;

	buf_init(&line, 4096);
	buf_puts(&line, "{\"x\":\"y\"");
	chain_seal(&next, c->lines == 0, &line);
	require(chain_parse((char *)buf_head(&line), buf_len(&line) - 1, &l) == 0);
	require(chain_follows(&c->at, &l));
	require(chain_check_line(
			c, (char *)buf_head(&line), buf_len(&line) - 1, c->lines == 0, &err) == 0);
	require(chain_check_end(c, &next, &err) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct chain_check c = {0};
	struct chain head;
	bool has_head = false, start = true, ok = true;
	const char *at = (const char *)data + 1, *end = (const char *)data + size;
	struct err err;

	if (size < 1 || size > 65536)
		return 0;
	chain_init(&c.at);
	c.older = data[0] & 1;
	for (bool first = data[0] & 2; at < end; first = false) {
		const char *nl = memchr(at, '\n', (size_t)(end - at));
		size_t len = (size_t)((nl ? nl : end) - at);
		struct chain_line l;

		if (first)
			has_head = read_head(at, len, &head);
		else if (len == 0)
			start = true;
		else if (chain_check_line(&c, at, len, start, &err) == 0) {
			require(chain_parse(at, len, &l) == 0);
			require(chain_follows(&c.last[(l.seq - 1) % ARRAY_SIZE(c.last)], &l) ||
				(c.lines == 1 && c.older));
			start = false;
		} else {
			ok = false;
			break;
		}
		at += len + 1;
	}
	if (ok && chain_check_end(&c, has_head ? &head : NULL, &err) == 0 && has_head)
		require(head.seq == c.at.seq || head.seq + 1 == c.at.seq);
	if (ok && c.lines > 0 && c.at.seq < 1000000000)
		check_sealed(&c);
	return 0;
}

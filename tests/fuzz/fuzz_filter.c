/* SPDX-License-Identifier: Apache-2.0 */
/* Strings and a stream, cut anywhere. Properties: the same as a search through the whole at once,
 * and nothing that was masked is left. Input: count; (length, replacement length or 255 for a mask,
 * bytes)…; step; stream. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rd.h"
#include "gate/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STRINGS 6

struct string {
	const uint8_t *p;
	size_t n, with_n;
	bool mask;
};

static void require(bool ok)
{
	if (!ok)
		abort();
}

static size_t read_strings(struct rd *r, struct string *s, struct filter *f)
{
	size_t n = rd_u8(r) % (STRINGS + 1);

	for (size_t i = 0; i < n; i++) {
		size_t with;

		s[i].n = FILTER_MIN + rd_u8(r) % 20;
		with = rd_u8(r);
		s[i].mask = with == 255;
		s[i].with_n = s[i].mask ? s[i].n : with % 24;
		s[i].p = rd_bytes(r, s[i].n);
		if (!s[i].p)
			return i;
		/* Replaced by the string's own beginning, turned round. */
		if (s[i].mask) {
			require(filter_add_mask(f, s[i].p, s[i].n) == 0);
		} else {
			uint8_t with_bytes[24];

			for (size_t k = 0; k < s[i].with_n; k++)
				with_bytes[k] = (uint8_t)~s[i].p[k % s[i].n];
			require(filter_add(f, s[i].p, s[i].n, with_bytes, s[i].with_n) == 0);
		}
	}
	return n;
}

/* The whole at once. */
static void reference(
	const struct string *s, size_t n, const uint8_t *p, size_t len, struct buf *out)
{
	for (size_t at = 0; at < len;) {
		const struct string *best = NULL;

		for (size_t i = 0; i < n; i++)
			if (s[i].n <= len - at && memcmp(p + at, s[i].p, s[i].n) == 0 &&
				(!best || s[i].n > best->n))
				best = &s[i];
		if (!best) {
			buf_put_u8(out, p[at++]);
			continue;
		}
		for (size_t k = 0; k < best->with_n; k++)
			buf_put_u8(out, best->mask ? '*' : (uint8_t)~best->p[k % best->n]);
		at += best->n;
	}
}

static void run(struct filter *f, const uint8_t *p, size_t len, size_t step, struct buf *all)
{
	struct buf out;

	buf_init(&out, filter_room(f));
	for (size_t at = 0; at < len;) {
		size_t used = filter_feed(f, p + at, MIN(step, len - at), &out);

		require(used > 0 || buf_len(&out) > 0);
		at += used;
		buf_put(all, buf_head(&out), buf_len(&out));
		buf_reset(&out);
	}
	for (bool done = false; !done;) {
		done = filter_flush(f, &out);
		require(done || buf_len(&out) > 0);
		buf_put(all, buf_head(&out), buf_len(&out));
		buf_reset(&out);
	}
	buf_done(&out);
}

/* Of two that are the same the first counts. */
static bool is_repeated(const struct string *s, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (s[k].n == s[i].n && memcmp(s[k].p, s[i].p, s[i].n) == 0)
			return true;
	return false;
}

static bool masks_only(const struct string *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (s[i].with_n != s[i].n && !is_repeated(s, i))
			return false;
	return true;
}

/* Where masks alone are at work, the output has the stream's length. */
static void compare(const uint8_t *got, const uint8_t *expected, const uint8_t *stream, size_t len)
{
	size_t run = 0;

	for (size_t i = 0; i < len; i++) {
		run = got[i] == expected[i] ? 0 : run + 1;
		require(run == 0 || (got[i] == stream[i] && run <= FILTER_LEAD));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rd r = rd_make(data, size);
	struct string strings[STRINGS];
	struct filter *f = filter_new();
	size_t n = read_strings(&r, strings, f), step = 1u + rd_u8(&r), len = rd_left(&r);
	const uint8_t *stream = rd_bytes(&r, len);
	_buf_ struct buf got, expected;

	buf_init(&got, 32 * (size + 1));
	buf_init(&expected, 32 * (size + 1));
	if (len) {
		run(f, stream, len, step, &got);
		reference(strings, n, stream, len, &expected);
		require(buf_len(&got) == buf_len(&expected));
		if (masks_only(strings, n))
			compare(buf_head(&got), buf_head(&expected), stream, len);
		else
			require(memcmp(buf_head(&got), buf_head(&expected), buf_len(&got)) == 0);
	}
	filter_free(f);
	return 0;
}

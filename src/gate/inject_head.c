/* SPDX-License-Identifier: Apache-2.0 */
/* A placeholder of a credential's own, anywhere in a request's head. */
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "gate/escape.h"
#include "gate/inject_int.h"
#include "gate/mask.h"

static const char basic[] = "Basic ";
#define BASIC_LEN (sizeof(basic) - 1)

/* Decode as far as it goes. */
static void get_base64(struct buf *b, const char *p, size_t n)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t v = 0;
	int bits = 0;

	for (; n > 0; p++, n--) {
		const char *digit = *p ? strchr(digits, *p) : NULL;

		if (!digit)
			return;
		v = v << 6 | (uint32_t)(digit - digits);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			buf_put_u8(b, (uint8_t)(v >> bits));
		}
	}
}

static bool is_basic(struct http1_slice value)
{
	return value.n > BASIC_LEN && strncasecmp(value.p, basic, BASIC_LEN) == 0;
}

static bool has(const void *p, size_t n, const char *word)
{
	return n > 0 && memmem(p, n, word, strlen(word));
}

bool inject_has_word(struct http1_slice value, const char *word)
{
	_buf_ struct buf plain = {.max = HTTP1_HEAD_MAX};

	if (has(value.p, value.n, word))
		return true;
	if (!is_basic(value))
		return false;
	get_base64(&plain, value.p + BASIC_LEN, value.n - BASIC_LEN);
	return has(buf_head(&plain), buf_len(&plain), word);
}

/* @p with the word replaced. */
static void put_replaced(
	struct buf *out, const void *p, size_t n, const char *word, const void *with, size_t with_n)
{
	const char *at = p, *found;

	while (n > 0 && (found = memmem(at, n, word, strlen(word)))) {
		buf_put(out, at, (size_t)(found - at));
		buf_put(out, with, with_n);
		n -= (size_t)(found - at) + strlen(word);
		at = found + strlen(word);
	}
	buf_put(out, at, n);
}

static void replace_field(
	struct inject *in, struct http1_slice *value, const char *word, struct secret *with)
{
	struct buf *out = inject_text(in, 4 * SECRET_VALUE_MAX), *plain, *again;

	if (has(value->p, value->n, word)) {
		put_replaced(out, value->p, value->n, word, secret_bytes(with), secret_len(with));
	} else {
		plain = inject_text(in, HTTP1_HEAD_MAX);
		again = inject_text(in, 2 * SECRET_VALUE_MAX);
		get_base64(plain, value->p + BASIC_LEN, value->n - BASIC_LEN);
		put_replaced(again, buf_head(plain), buf_len(plain), word, secret_bytes(with),
			secret_len(with));
		buf_put(out, value->p, BASIC_LEN);
		/* What is looked for in the answer is the value and nothing around it: the guest
		 * could choose that so that a match ends within another copy, whose rest would pass. */
		mask_base64(out, buf_head(again), buf_len(again));
	}
	/* A value that no field may have, or that does not fit, leaves the placeholder. */
	if (!out->failed && http1_header_valid("a", (const char *)buf_head(out), buf_len(out)))
		*value = inject_slice(out);
}

/* In a part of the target the value is escaped. */
static bool replace_part(struct inject *in, struct http1_slice part, struct http1_slice *send,
	const char *word, struct secret *with)
{
	struct buf *escaped, *out;

	if (send->p)
		part = *send;
	if (!has(part.p, part.n, word))
		return false;
	escaped = inject_text(in, 3 * SECRET_VALUE_MAX);
	out = inject_text(in, HTTP1_LINE_MAX + 3 * SECRET_VALUE_MAX);
	escape_put(escaped, secret_bytes(with), secret_len(with));
	put_replaced(out, part.p, part.n, word, buf_head(escaped), buf_len(escaped));
	if (!out->failed)
		*send = inject_slice(out);
	return !out->failed;
}

bool inject_replace_field(struct inject *in, struct http1_head *h, const char *name,
	const char *word, struct secret *value)
{
	bool used = false;

	for (size_t i = 0; i < h->n_headers; i++) {
		if (http1_slice_is_nocase(h->headers[i].name, "host") ||
			(name && !http1_slice_is_nocase(h->headers[i].name, name)) ||
			!inject_has_word(h->headers[i].value, word))
			continue;
		replace_field(in, &h->headers[i].value, word, value);
		used = true;
	}
	return used;
}

bool inject_replace(struct inject *in, struct http1_head *h, const char *word, struct secret *value)
{
	bool used = false;

	if (h->form == HTTP1_ORIGIN || h->form == HTTP1_ABSOLUTE) {
		used = replace_part(in, h->path, &h->send_path, word, value);
		used = replace_part(in, h->query, &h->send_query, word, value) || used;
	}
	return inject_replace_field(in, h, NULL, word, value) || used;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Percent-encoding, and parameters of a query. */
#include "gate/escape.h"

#include <string.h>

bool escape_is_unreserved(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_' || c == '~';
}

void escape_put_byte(struct buf *b, uint8_t c)
{
	static const char digits[] = "0123456789ABCDEF";

	buf_put_u8(b, '%');
	buf_put_u8(b, (uint8_t)digits[c >> 4]);
	buf_put_u8(b, (uint8_t)digits[c & 15]);
}

void escape_put(struct buf *b, const void *p, size_t n)
{
	for (const uint8_t *c = p; n > 0; c++, n--) {
		if (escape_is_unreserved(*c))
			buf_put_u8(b, *c);
		else
			escape_put_byte(b, *c);
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int escape_at(struct http1_slice s, size_t at)
{
	int hi, lo;

	if (at + 2 >= s.n || s.p[at] != '%')
		return -1;
	hi = hex_digit(s.p[at + 1]);
	lo = hex_digit(s.p[at + 2]);
	return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

bool query_is(struct http1_slice s, const char *text)
{
	size_t i = 0;

	for (; *text; text++) {
		int c = escape_at(s, i);

		if (i >= s.n || (c >= 0 ? c != (uint8_t)*text : s.p[i] != *text))
			return false;
		i += c >= 0 ? 3 : 1;
	}
	return i == s.n;
}

bool query_next(
	struct http1_slice *rest, struct http1_slice *ret_name, struct http1_slice *ret_value)
{
	const char *end, *eq;
	size_t n;

	if (!rest->n)
		return false;
	end = memchr(rest->p, '&', rest->n);
	n = end ? (size_t)(end - rest->p) : rest->n;
	eq = n ? memchr(rest->p, '=', n) : NULL;
	*ret_name = (struct http1_slice){rest->p, eq ? (size_t)(eq - rest->p) : n};
	*ret_value = (struct http1_slice){eq ? eq + 1 : rest->p + n, eq ? n - ret_name->n - 1 : 0};
	n += end ? 1 : 0;
	rest->p += n;
	rest->n -= n;
	return true;
}

/* Parameters as they are, but for those called @name (and having the value @word, unless NULL). */
static void put_others(
	struct buf *out, struct http1_slice query, const char *name, const char *word)
{
	struct http1_slice key, value;
	size_t begin = buf_len(out);

	while (query_next(&query, &key, &value)) {
		if (query_is(key, name) && (!word || query_is(value, word)))
			continue;
		buf_puts(out, buf_len(out) > begin ? "&" : "");
		buf_put(out, key.p, (size_t)(value.p + value.n - key.p));
	}
}

void query_set(struct buf *out, struct http1_slice query, const char *name, const void *value,
	size_t value_len)
{
	size_t begin = buf_len(out);

	put_others(out, query, name, NULL);
	buf_puts(out, buf_len(out) > begin ? "&" : "");
	escape_put(out, name, strlen(name));
	buf_puts(out, "=");
	escape_put(out, value, value_len);
}

void query_drop(struct buf *out, struct http1_slice query, const char *name, const char *word)
{
	put_others(out, query, name, word);
}

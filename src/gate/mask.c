/* SPDX-License-Identifier: Apache-2.0 */
/* The forms of a secret value. */
#include "gate/mask.h"

#include <string.h>

#include "base/base64.h"
#include "base/mem.h"
#include "gate/escape.h"

void mask_base64(struct buf *out, const void *p, size_t n)
{
	base64_put(out, p, n, base64_std);
}

static void add(struct filter *f, const struct buf *b, size_t skip, size_t len)
{
	if (!b->failed && len >= MASK_MIN)
		filter_add_mask(f, buf_head(b) + skip, len);
}

/* The digits that depend on the value alone, when @before bytes stand in front of it (of 3). */
static void mask_digits(
	struct filter *f, const uint8_t *p, size_t n, unsigned before, const char *digits)
{
	/* Digit i covers the bits 6i to 6i+5 of all. */
	size_t first = (8u * before + 5) / 6, end = 8u * (before + n) / 6;
	struct buf in, out;

	buf_init(&in, FILTER_MAX);
	buf_init(&out, FILTER_MAX);
	buf_put(&in, "\0\0", before);
	buf_put(&in, p, n);
	if (!in.failed)
		base64_put(&out, buf_head(&in), buf_len(&in), digits);
	if (end > first)
		add(f, &out, first, end - first);
	buf_wipe(&in);
	buf_wipe(&out);
}

/* Percent-encoded; @keep: further characters that the encoder leaves alone. */
static void mask_percent(
	struct filter *f, const uint8_t *p, size_t n, const char *keep, const char *digits)
{
	struct buf out;

	buf_init(&out, FILTER_MAX);
	for (size_t i = 0; i < n; i++) {
		if (escape_is_unreserved(p[i]) || (p[i] && strchr(keep, p[i]))) {
			buf_put_u8(&out, p[i]);
			continue;
		}
		buf_put_u8(&out, '%');
		buf_put_u8(&out, (uint8_t)digits[p[i] >> 4]);
		buf_put_u8(&out, (uint8_t)digits[p[i] & 15]);
	}
	add(f, &out, 0, buf_len(&out));
	buf_wipe(&out);
}

/* As it stands in a JSON string; @slash: with "/" escaped as well, as some encoders do. */
static void mask_json(struct filter *f, const uint8_t *p, size_t n, bool slash)
{
	struct buf out;

	buf_init(&out, FILTER_MAX);
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '"' || p[i] == '\\' || (p[i] == '/' && slash))
			buf_puts(&out, "\\");
		if (p[i] == '\n')
			buf_puts(&out, "\\n");
		else if (p[i] == '\t')
			buf_puts(&out, "\\t");
		else
			buf_put_u8(&out, p[i]);
	}
	add(f, &out, 0, buf_len(&out));
	buf_wipe(&out);
}

/* @numbered: further characters that JSON encoders escape by number, so that their text can stand
 * in HTML. */
static void mask_json_numbered(
	struct filter *f, const uint8_t *p, size_t n, const char *numbered, const char *digits)
{
	struct buf out;

	buf_init(&out, FILTER_MAX);
	for (size_t i = 0; i < n; i++) {
		if (p[i] && strchr(numbered, p[i])) {
			buf_puts(&out, "\\u00");
			buf_put_u8(&out, (uint8_t)digits[p[i] >> 4]);
			buf_put_u8(&out, (uint8_t)digits[p[i] & 15]);
			continue;
		}
		if (p[i] == '"' || p[i] == '\\')
			buf_puts(&out, "\\");
		buf_put_u8(&out, p[i]);
	}
	add(f, &out, 0, buf_len(&out));
	buf_wipe(&out);
}

/* As it stands in HTML; @quote and @apostrophe: what these become, which differs. */
static void mask_html(
	struct filter *f, const uint8_t *p, size_t n, const char *quote, const char *apostrophe)
{
	struct buf out;

	buf_init(&out, FILTER_MAX);
	for (size_t i = 0; i < n; i++) {
		const char *as = p[i] == '&'    ? "&amp;"
				 : p[i] == '<'  ? "&lt;"
				 : p[i] == '>'  ? "&gt;"
				 : p[i] == '"'  ? quote
				 : p[i] == '\'' ? apostrophe
						: NULL;

		if (as)
			buf_puts(&out, as);
		else
			buf_put_u8(&out, p[i]);
	}
	add(f, &out, 0, buf_len(&out));
	buf_wipe(&out);
}

void mask_value(struct filter *f, const void *value, size_t len)
{
	static const char *const keeps[] = {"", "/", ":/@!$&'()*+,;=", "!'()*"};
	static const char *const cases[] = {"0123456789ABCDEF", "0123456789abcdef"};
	static const char *const quotes[][2] = {{"\"", "'"}, {"&#34;", "&#39;"},
		{"&quot;", "'"}, {"&quot;", "&#39;"}, {"&quot;", "&#x27;"}, {"&quot;", "&#039;"}};

	if (len < MASK_MIN || len > FILTER_MAX)
		return;
	filter_add_mask(f, value, len);
	for (unsigned before = 0; before < 3; before++) {
		mask_digits(f, value, len, before, base64_std);
		mask_digits(f, value, len, before, base64_url);
	}
	for (size_t i = 0; i < ARRAY_SIZE(keeps); i++)
		for (size_t k = 0; k < ARRAY_SIZE(cases); k++)
			mask_percent(f, value, len, keeps[i], cases[k]);
	mask_json(f, value, len, false);
	mask_json(f, value, len, true);
	mask_json_numbered(f, value, len, "<>&", cases[1]);
	mask_json_numbered(f, value, len, "\"<>&'+`", cases[0]);
	for (size_t i = 0; i < ARRAY_SIZE(quotes); i++)
		mask_html(f, value, len, quotes[i][0], quotes[i][1]);
}

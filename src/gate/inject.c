/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials on their way out. */
#include "gate/inject.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

/* A value of 64 KiB in Basic form, and what surrounds it. */
#define VALUE_MAX (2u * SECRET_VALUE_MAX)

static const char base64_digits[] =
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void put_base64(struct buf *b, const uint8_t *p, size_t n)
{
	for (; n > 0; p += MIN(n, (size_t)3), n -= MIN(n, (size_t)3)) {
		uint32_t v = (uint32_t)p[0] << 16 | (n > 1 ? (uint32_t)p[1] << 8 : 0) |
			     (n > 2 ? p[2] : 0u);

		buf_put_u8(b, (uint8_t)base64_digits[v >> 18]);
		buf_put_u8(b, (uint8_t)base64_digits[v >> 12 & 63]);
		buf_put_u8(b, n > 1 ? (uint8_t)base64_digits[v >> 6 & 63] : '=');
		buf_put_u8(b, n > 2 ? (uint8_t)base64_digits[v & 63] : '=');
	}
}

/* Decode as far as it goes; good enough to look for a word. */
static void get_base64(struct buf *b, const char *p, size_t n)
{
	uint32_t v = 0;
	int bits = 0;

	for (; n > 0; p++, n--) {
		const char *digit = *p ? strchr(base64_digits, *p) : NULL;

		if (!digit)
			return;
		v = v << 6 | (uint32_t)(digit - base64_digits);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			buf_put_u8(b, (uint8_t)(v >> bits));
		}
	}
}

static bool has_placeholder(struct http1_slice value)
{
	static const char word[] = INJECT_PLACEHOLDER;
	_buf_ struct buf plain;

	if (memmem(value.p, value.n, word, sizeof(word) - 1))
		return true;
	if (value.n < 6 || strncasecmp(value.p, "Basic ", 6) != 0)
		return false;
	buf_init(&plain, HTTP1_HEAD_MAX);
	get_base64(&plain, value.p + 6, value.n - 6);
	return buf_len(&plain) > 0 &&
	       memmem(buf_head(&plain), buf_len(&plain), word, sizeof(word) - 1);
}

static bool guest_sent_placeholder(const struct http1_head *h, const char *header)
{
	for (size_t i = 0; i < h->n_headers; i++)
		if (http1_slice_is_nocase(h->headers[i].name, header) &&
			has_placeholder(h->headers[i].value))
			return true;
	return false;
}

static void format_value(struct buf *b, const struct spec_inject *in, struct secret *value)
{
	const char *percent = strchr(in->format, '%');

	if (in->username) {
		struct buf pair;

		buf_init(&pair, VALUE_MAX);
		buf_puts(&pair, in->username);
		buf_puts(&pair, ":");
		buf_put(&pair, secret_bytes(value), secret_len(value));
		buf_puts(b, "Basic ");
		put_base64(b, buf_head(&pair), buf_len(&pair));
		buf_wipe(&pair);
		return;
	}
	/* config.c has checked: exactly one %s. */
	buf_put(b, in->format, (size_t)(percent - in->format));
	buf_put(b, secret_bytes(value), secret_len(value));
	buf_puts(b, percent + 2);
}

static struct http1_edit *find_edit(struct inject *ret, const char *header)
{
	for (size_t i = 0; i < ret->n; i++)
		if (strcasecmp(ret->edits[i].name, header) == 0)
			return &ret->edits[i];
	return NULL;
}

static int set_value(struct inject *ret, struct http1_edit *e, const struct config_inject *ci,
	struct secret *value, struct err *err)
{
	struct buf *b = &ret->values[e - ret->edits];
	const char *service = ci->credential->service;
	size_t used = strlen(ret->services);

	format_value(b, ci->inject, value);
	if (b->failed || !http1_header_valid(e->name, (char *)buf_head(b), buf_len(b)))
		return err_set(err, ERR_USER,
			"the stored value of credential %s cannot be sent in a header: it is too "
			"long or has line breaks or control characters in it",
			service);
	e->value = (char *)buf_head(b);
	e->value_len = buf_len(b);
	snprintf(ret->services + used, sizeof(ret->services) - used, "%s%s", used ? ", " : "",
		service);
	return 0;
}

/* Where several credentials want one header, the first that has a value gets it. */
static int add(struct inject *ret, const struct config_inject *ci, struct values_set *values,
	const struct http1_head *h, struct err *err)
{
	const char *service = ci->credential->service, *header = ci->inject->header;
	struct http1_edit *e = find_edit(ret, header);
	_secret_ struct secret *value = NULL;

	if (e && e->value)
		return 0;
	if (values_get(values, service, &value, err) < 0)
		return -1;
	if (!value && ci->credential->required) {
		err_set(err, ERR_USER, "no value is stored for credential %s", service);
		return err_hint(err, "hutch secret set %s", service);
	}
	if (!value && !guest_sent_placeholder(h, header))
		return 0;
	if (!e) {
		if (ret->n == INJECT_MAX)
			return err_set(err, ERR_USER, "more than %d credentials for one request",
				INJECT_MAX);
		e = &ret->edits[ret->n];
		buf_init(&ret->values[ret->n], VALUE_MAX);
		ret->n++;
		*e = (struct http1_edit){.name = header};
	}
	return value ? set_value(ret, e, ci, value, err) : 0;
}

void inject_want(
	struct values_set *values, const struct config *c, const char *name, uint16_t port)
{
	struct policy_query q = {.name = name, .port = port};

	for (size_t i = 0; i < c->n_injects; i++)
		if (policy_rule_matches(&c->injects[i].target, &q))
			values_want(values, c->injects[i].credential->service);
}

int inject_prepare(struct inject *ret, const struct config *c, struct values_set *values,
	const char *name, uint16_t port, const struct http1_head *h, struct err *err)
{
	struct policy_query q = {.name = name, .port = port};

	*ret = (struct inject){0};
	for (size_t i = 0; i < c->n_injects; i++)
		if (policy_rule_matches(&c->injects[i].target, &q) &&
			add(ret, &c->injects[i], values, h, err) < 0)
			return -1;
	return 0;
}

void inject_done(struct inject *in)
{
	for (size_t i = 0; i < in->n; i++)
		buf_wipe(&in->values[i]);
	in->n = 0;
}

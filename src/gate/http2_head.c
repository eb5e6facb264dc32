/* SPDX-License-Identifier: Apache-2.0 */
/* Heads between HTTP/2's fields and `struct http1_head`.
 *
 * A received head is written down as an HTTP/1 message and given to http1_parse: what the one
 * version refuses the other refuses, too. nghttp2 has checked before that pseudo fields are
 * complete, come first and once, that names are lower-case tokens, and that no field of HTTP/1's
 * framing is there. */
#include "gate/http2_int.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "gate/http1_int.h"

#define SCHEME_MAX 16u

/* ---- collecting ---- */

void http2_block_init(struct http2_block *b)
{
	*b = (struct http2_block){.bad = NULL};
	buf_init(&b->method, HTTP1_LINE_MAX);
	buf_init(&b->path, HTTP1_LINE_MAX);
	buf_init(&b->authority, HTTP1_LINE_MAX);
	buf_init(&b->scheme, SCHEME_MAX);
	buf_init(&b->status, SCHEME_MAX);
	buf_init(&b->fields, HTTP1_HEAD_MAX);
}

void http2_block_done(struct http2_block *b)
{
	struct buf *all[] = {
		&b->method, &b->path, &b->authority, &b->scheme, &b->status, &b->fields};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		buf_done(all[i]);
}

void http2_block_reset(struct http2_block *b)
{
	http2_block_done(b);
	http2_block_init(b);
}

static struct buf *find_pseudo(struct http2_block *b, const uint8_t *name, size_t len)
{
	const struct {
		const char *name;
		struct buf *to;
	} all[] = {{":method", &b->method}, {":path", &b->path}, {":authority", &b->authority},
		{":scheme", &b->scheme}, {":status", &b->status}};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (strlen(all[i].name) == len && memcmp(name, all[i].name, len) == 0)
			return all[i].to;
	return NULL;
}

/* Nothing that would end a line or a word of an HTTP/1 head. */
static bool is_clean(const uint8_t *s, size_t len, uint8_t lowest)
{
	for (size_t i = 0; i < len; i++)
		if ((s[i] < lowest && s[i] != '\t') || s[i] == 0x7f ||
			(s[i] == '\t' && lowest > ' '))
			return false;
	return true;
}

int http2_block_add(struct http2_block *b, const uint8_t *name, size_t name_len,
	const uint8_t *value, size_t value_len, bool no_index)
{
	bool pseudo = name_len > 0 && name[0] == ':';
	struct buf *to = pseudo ? find_pseudo(b, name, name_len) : &b->fields;

	b->size += name_len + value_len + 32;
	if (b->size > 4u * HTTP1_HEAD_MAX)
		return -1;
	if (!is_clean(name, name_len, '!') || !is_clean(value, value_len, pseudo ? '!' : ' '))
		b->bad = "a field has a character that is not allowed";
	else if (!to)
		b->bad = "a pseudo field is unknown";
	else if (!pseudo && b->n_fields == HTTP1_HEADERS_MAX)
		b->bad = "there are too many fields";
	if (b->bad)
		return 0;
	if (pseudo) {
		buf_put(to, value, value_len);
		return 0;
	}
	b->no_index[b->n_fields++] = no_index;
	buf_put(to, name, name_len);
	buf_puts(to, ": ");
	buf_put(to, value, value_len);
	buf_puts(to, "\r\n");
	return 0;
}

static void put(struct buf *to, const struct buf *from)
{
	buf_put(to, buf_head(from), buf_len(from));
}

static bool equals(const struct buf *b, const char *text)
{
	return buf_len(b) == strlen(text) && memcmp(buf_head(b), text, buf_len(b)) == 0;
}

static int check_block(const struct http2_block *b, struct err *err)
{
	if (b->bad)
		return http1_refuse(
			err, b->n_fields == HTTP1_HEADERS_MAX ? 431 : 400, "%s", b->bad);
	if (b->path.failed)
		return http1_refuse(err, 414, "the path is too long");
	if (b->method.failed || b->authority.failed || b->scheme.failed || b->status.failed ||
		b->fields.failed)
		return http1_refuse(err, 431, "the head is longer than %u bytes", HTTP1_HEAD_MAX);
	return 0;
}

/* ---- reading ---- */

/* The request as text. The authority becomes Host; a Host field has to say the same. */
static void write_request(struct buf *text, const struct http2_block *b, size_t host_fields)
{
	put(text, &b->method);
	buf_puts(text, " ");
	put(text, equals(&b->method, "CONNECT") ? &b->authority : &b->path);
	buf_puts(text, " HTTP/1.1\r\n");
	if (host_fields == 0 && buf_len(&b->authority) > 0) {
		buf_puts(text, "host: ");
		put(text, &b->authority);
		buf_puts(text, "\r\n");
	}
	put(text, &b->fields);
	buf_puts(text, "\r\n");
}

static size_t count_host(const struct http2_block *b)
{
	const char *s = (const char *)buf_head(&b->fields), *end = s + buf_len(&b->fields);
	size_t n = 0;

	while (s < end) {
		n += end - s > 5 && memcmp(s, "host:", 5) == 0;
		s = (const char *)memchr(s, '\n', (size_t)(end - s)) + 1;
	}
	return n;
}

static int check_request(
	struct http2_stream *s, const struct http2_block *b, bool ended, struct err *err)
{
	struct http1_head *h = s->head;
	const struct http1_header *host = http1_find(h, "host");

	if (h->form == HTTP1_ABSOLUTE)
		return http1_refuse(err, 400, "the path is not a path");
	if (host && buf_len(&b->authority) > 0 &&
		(host->value.n != buf_len(&b->authority) ||
			strncasecmp(host->value.p, (char *)buf_head(&b->authority),
				host->value.n) != 0))
		return http1_refuse(err, 400, "Host differs from the authority");
	if (!ended && h->framing == HTTP1_NO_BODY)
		h->framing = HTTP1_CHUNKED;
	else if (ended)
		h->framing = HTTP1_NO_BODY;
	return 0;
}

int http2_read_request(
	struct http2_stream *s, const struct http2_block *b, bool ended, struct err *err)
{
	struct http2_private *p = s->private_;
	size_t host_fields;

	if (check_block(b, err) < 0)
		return -1;
	host_fields = count_host(b);
	/* Otherwise the field that is added in front moves the others. */
	memcpy(p->no_index + (host_fields == 0), b->no_index, b->n_fields);
	buf_init(&p->text, HTTP1_HEAD_MAX + HTTP1_LINE_MAX);
	write_request(&p->text, b, host_fields);
	s->https = equals(&b->scheme, "https");
	s->head = xcalloc(1, sizeof(*s->head));
	http1_request_init(s->head);
	if (http1_parse(s->head, buf_head(&p->text), buf_len(&p->text), err) != 1 ||
		check_request(s, b, ended, err) < 0) {
		if (!err->errnum)
			http1_refuse(err, 400, "the head cannot be read");
		free(s->head);
		s->head = NULL;
		buf_done(&p->text);
		return -1;
	}
	s->head->https = s->https;
	p->to_head = http1_slice_is(s->head->method, "HEAD");
	return 0;
}

int http2_read_trailer(struct buf *ret, const struct http2_block *b, struct err *err)
{
	const char *s, *end;

	if (check_block(b, err) < 0)
		return -1;
	s = (const char *)buf_head(&b->fields);
	end = s + buf_len(&b->fields);
	while (s < end) {
		const char *cr = memchr(s, '\r', (size_t)(end - s));
		struct http1_header f;

		if (http1_field(s, (size_t)(cr - s), &f, err) < 0)
			return -1;
		if (http1_trailer_forbidden(f.name))
			return http1_refuse(err, 400, "a field that may not be in a trailer");
		s = cr + 2;
	}
	buf_init(ret, HTTP1_HEAD_MAX);
	put(ret, &b->fields);
	return 0;
}

int http2_read_response(const struct http2_stream *s, const struct http2_block *b, bool ended,
	struct buf *text, struct http1_head *ret, struct err *err)
{
	const char *method = s->private_->to_head ? "HEAD" : "GET";
	struct http1_head request = {.method = {method, strlen(method)}};

	if (check_block(b, err) < 0)
		return -1;
	buf_puts(text, "HTTP/1.1 ");
	put(text, &b->status);
	buf_puts(text, " \r\n");
	put(text, &b->fields);
	buf_puts(text, "\r\n");
	http1_response_init(ret, &request);
	if (http1_parse(ret, buf_head(text), buf_len(text), err) != 1)
		return err->errnum ? -1 : http1_refuse(err, 400, "the head cannot be read");
	if (ended)
		ret->framing = HTTP1_NO_BODY;
	return 0;
}

/* ---- writing ---- */

struct fields {
	nghttp2_nv nv[HTTP2_FIELDS_MAX + 64];
	size_t n, size;
	bool failed;
};

static void add(struct fields *f, const void *name, size_t name_len, const void *value, size_t len,
	bool no_index)
{
	f->size += name_len + len + 32;
	if (f->n == ARRAY_SIZE(f->nv) || f->size > HTTP2_SEND_MAX) {
		f->failed = true;
		return;
	}
	/* nghttp2 copies both, and puts names into lower case. */
	f->nv[f->n++] = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
		.value = (uint8_t *)(uintptr_t)value,
		.namelen = name_len,
		.valuelen = len,
		.flags = no_index ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE};
}

static void add_text(struct fields *f, const char *name, const char *value)
{
	add(f, name, strlen(name), value, strlen(value), false);
}

/* @skip: a field that stands among the pseudo fields, or NULL. */
static void add_head(struct fields *f, const struct http1_head *h, const uint8_t *no_index,
	const char *skip, const struct http1_edit *edits, size_t n)
{
	for (size_t i = 0; i < h->n_headers; i++) {
		const struct http1_header *one = &h->headers[i];

		if ((skip && http1_slice_is_nocase(one->name, skip)) ||
			http1_is_edited(one->name, edits, n))
			continue;
		add(f, one->name.p, one->name.n, one->value.p, one->value.n, no_index[i]);
	}
	for (size_t i = 0; i < n; i++) {
		if (!edits[i].value)
			continue;
		if (!http1_header_valid(edits[i].name, edits[i].value, edits[i].value_len))
			f->failed = true;
		else
			add(f, edits[i].name, strlen(edits[i].name), edits[i].value,
				edits[i].value_len, true);
	}
}

int http2_submit_request(struct http2_stream *s, const struct http1_edit *edits, size_t n,
	nghttp2_data_provider *body)
{
	nghttp2_session *to = s->http2->peer[HTTP2_SERVER].session;
	const struct http1_header *host = http1_find(s->head, "host");
	_free_ struct fields *f = xcalloc(1, sizeof(*f));
	struct buf target;
	int32_t id = -1;

	buf_init(&target, HTTP2_SEND_MAX);
	http1_put_target(s->head, &target);
	add(f, ":method", 7, s->head->method.p, s->head->method.n, false);
	add_text(f, ":scheme", s->https ? "https" : "http");
	if (host)
		add(f, ":authority", 10, host->value.p, host->value.n, false);
	add(f, ":path", 5, buf_head(&target), buf_len(&target), true);
	add_head(f, s->head, s->private_->no_index, "host", edits, n);
	if (!f->failed && !target.failed)
		id = nghttp2_submit_request(to, NULL, f->nv, f->n, body, s);
	buf_wipe(&target);
	return id;
}

int http2_submit_response(struct http2_stream *s, const struct http1_head *h,
	const uint8_t *no_index, const struct http1_edit *edits, size_t n,
	nghttp2_data_provider *body)
{
	nghttp2_session *to = s->http2->peer[HTTP2_GUEST].session;
	_free_ struct fields *f = xcalloc(1, sizeof(*f));
	int32_t id = s->private_->id[HTTP2_GUEST];
	char status[16];

	snprintf(status, sizeof(status), "%03u", h->status);
	add_text(f, ":status", status);
	add_head(f, h, no_index, NULL, edits, n);
	if (f->failed)
		return -1;
	if (h->status < 200)
		return nghttp2_submit_headers(to, NGHTTP2_FLAG_NONE, id, NULL, f->nv, f->n, NULL);
	return nghttp2_submit_response(to, id, f->nv, f->n, body);
}

int http2_submit_trailer(struct http2_stream *s, enum http2_side to, const struct buf *trailer)
{
	const char *at = (const char *)buf_head(trailer), *end = at + buf_len(trailer);
	_free_ struct fields *f = xcalloc(1, sizeof(*f));

	while (at < end) {
		const char *cr = memchr(at, '\r', (size_t)(end - at));
		struct http1_header one;

		if (http1_field(at, (size_t)(cr - at), &one, NULL) < 0)
			return -1;
		add(f, one.name.p, one.name.n, one.value.p, one.value.n, true);
		at = cr + 2;
	}
	if (f->failed)
		return -1;
	return nghttp2_submit_trailer(s->http2->peer[to].session, s->private_->id[to], f->nv, f->n);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1 heads on their way out, and paths for the log. */
#include "gate/http1_int.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "policy/path.h"

bool http1_header_valid(const char *name, const char *value, size_t value_len)
{
	for (const char *s = name; *s; s++) {
		if (!http1_is_tchar((uint8_t)*s))
			return false;
	}
	for (size_t i = 0; i < value_len; i++) {
		uint8_t c = (uint8_t)value[i];

		if ((c < ' ' && c != '\t') || c == 0x7f)
			return false;
	}
	return *name != '\0';
}

static char fold(char c)
{
	return c == '_' ? '-' : (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

bool http1_is_edited(struct http1_slice name, const struct http1_edit *edits, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t at = 0;

		while (at < name.n && fold(name.p[at]) == fold(edits[i].name[at]))
			at++;
		if (at == name.n && !edits[i].name[at])
			return true;
	}
	return false;
}

/* Whether a field ends at this hop. */
static bool is_hop_by_hop(const struct http1_head *h, struct http1_slice name)
{
	if (http1_slice_is_nocase(name, "connection") ||
		http1_slice_is_nocase(name, "proxy-connection") ||
		http1_slice_is_nocase(name, "keep-alive") ||
		http1_slice_is_nocase(name, "http2-settings"))
		return true;
	if (http1_slice_is_nocase(name, "upgrade"))
		return h->response ? h->status != 101 : !h->upgrade;
	for (size_t i = 0; i < h->n_headers; i++) {
		struct http1_slice rest = h->headers[i].value, t;

		if (!http1_slice_is_nocase(h->headers[i].name, "connection"))
			continue;
		while (http1_next_token(&rest, &t)) {
			if (t.n == name.n && strncasecmp(t.p, name.p, t.n) == 0)
				return true;
		}
	}
	return false;
}

static void put_slice(struct buf *out, struct http1_slice s)
{
	buf_put(out, s.p, s.n);
}

static void put_field(struct buf *out, struct http1_slice name, struct http1_slice value)
{
	put_slice(out, name);
	buf_puts(out, ": ");
	put_slice(out, value);
	buf_puts(out, "\r\n");
}

void http1_put_target(const struct http1_head *h, struct buf *out)
{
	if (h->form == HTTP1_ORIGIN || h->form == HTTP1_ABSOLUTE) {
		const char *rest = h->path.p + h->path.n; /* with the '?' even if nothing follows it */

		/* RFC 9112 3.2.4: OPTIONS of a whole server. */
		if (h->path.n == 0 && http1_slice_is(h->method, "OPTIONS") && h->query.n == 0)
			buf_puts(out, "*");
		else if (h->path.n == 0 && h->send_path.n == 0)
			buf_puts(out, "/");
		else
			put_slice(out, h->send_path.n ? h->send_path : h->path);
		if (h->send_query.p) {
			buf_puts(out, h->send_query.n ? "?" : "");
			put_slice(out, h->send_query);
		} else {
			buf_put(out, rest, (size_t)(h->target.p + h->target.n - rest));
		}
	} else {
		put_slice(out, h->target);
	}
}

static void put_request_line(const struct http1_head *h, struct buf *out)
{
	put_slice(out, h->method);
	buf_puts(out, " ");
	http1_put_target(h, out);
	buf_puts(out, h->minor ? " HTTP/1.1\r\n" : " HTTP/1.0\r\n");
}

static void put_status_line(const struct http1_head *h, struct buf *out)
{
	char code[16];

	snprintf(code, sizeof(code), "HTTP/1.%u %03u ", h->minor, h->status);
	buf_puts(out, code);
	put_slice(out, h->reason);
	buf_puts(out, "\r\n");
}

static void put_connection(const struct http1_head *h, struct buf *out)
{
	if (h->upgrade || (h->response && h->status == 101))
		buf_puts(out, "Connection: upgrade\r\n");
	else if (!h->keep_alive && h->minor == 1 && h->framing != HTTP1_TUNNEL)
		buf_puts(out, "Connection: close\r\n");
	else if (h->keep_alive && h->minor == 0)
		buf_puts(out, "Connection: keep-alive\r\n");
}

/* The most that http1_write can append. */
static size_t write_bound(const struct http1_head *h, const struct http1_edit *edits, size_t n)
{
	size_t bound = h->method.n + h->target.n + h->send_path.n + h->send_query.n + h->reason.n +
		       POLICY_NAME_MAX + 96;

	/* Their owner may have replaced values. */
	for (size_t i = 0; i < h->n_headers; i++)
		bound += h->headers[i].name.n + h->headers[i].value.n + 4;
	for (size_t i = 0; i < n; i++)
		bound += strlen(edits[i].name) + edits[i].value_len + 4;
	return bound;
}

int http1_write(
	const struct http1_head *h, const struct http1_edit *edits, size_t n, struct buf *out)
{
	const struct http1_slice connection = {"connection", 10}, host = {"Host", 4};

	for (size_t i = 0; i < n; i++) {
		if (!http1_header_valid(
			    edits[i].name, edits[i].value, edits[i].value ? edits[i].value_len : 0))
			return -1;
	}
	if (out->failed || buf_room(out) < write_bound(h, edits, n))
		return -1;
	if (h->response)
		put_status_line(h, out);
	else
		put_request_line(h, out);
	for (size_t i = 0; i < h->n_headers; i++) {
		const struct http1_header *f = &h->headers[i];

		if (!http1_is_edited(f->name, edits, n) && !is_hop_by_hop(h, f->name))
			put_field(out, f->name, f->value);
	}
	/* An HTTP/1.0 proxy request may name its host in the target alone. */
	if (!h->response && h->form == HTTP1_ABSOLUTE && !http1_find(h, "host") &&
		!http1_is_edited(host, edits, n))
		put_field(out, host, (struct http1_slice){h->host.name, strlen(h->host.name)});
	if (!http1_is_edited(connection, edits, n))
		put_connection(h, out);
	for (size_t i = 0; i < n; i++) {
		if (edits[i].value)
			put_field(out, (struct http1_slice){edits[i].name, strlen(edits[i].name)},
				(struct http1_slice){edits[i].value, edits[i].value_len});
	}
	buf_puts(out, "\r\n");
	return 0;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool is_unreserved(int c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_' || c == '~';
}

/* RFC 3986 6.2.2: escapes in one spelling. @out: room for @len. Returns the new length. */
static size_t normalise_escapes(const char *s, size_t len, char *out)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		int hi = i + 2 < len ? hex_value(s[i + 1]) : -1;
		int lo = i + 2 < len ? hex_value(s[i + 2]) : -1;

		if (s[i] != '%' || hi < 0 || lo < 0) {
			out[n++] = s[i];
			continue;
		}
		if (is_unreserved(hi * 16 + lo)) {
			out[n++] = (char)(hi * 16 + lo);
		} else {
			out[n++] = '%';
			out[n++] = digits[hi];
			out[n++] = digits[lo];
		}
		i += 2;
	}
	return n;
}

const char *http1_log_path(const struct http1_head *h, char *buf, size_t size)
{
	_free_ char *path = xmalloc(h->path.n + 2);
	size_t n = 0;

	switch (h->form) {
	case HTTP1_ASTERISK:
		path[n++] = '*';
		break;
	case HTTP1_AUTHORITY:
		break;
	case HTTP1_ORIGIN:
	case HTTP1_ABSOLUTE:
		n = normalise_escapes(h->path.p, h->path.n, path);
		n = policy_path_remove_dots(path, n);
		if (n == 0)
			path[n++] = '/';
		break;
	}
	if (n < size) {
		memcpy(buf, path, n);
		buf[n] = '\0';
	} else {
		memcpy(buf, path, size - 4);
		memcpy(buf + size - 4, "...", 4);
	}
	return buf;
}

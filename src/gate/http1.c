/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1 heads: finding the end, fields, first lines, and what they mean for the body.
 *
 * Three passes. The scan walks each byte once, as it arrives, and knows only line structure: CRLF
 * line ends and nothing else, no control bytes, ceilings. When the empty line is there, the head is
 * split into first line and fields. Then the fields are judged: framing, host, connection. A
 * message whose meaning depends on who reads it never gets through; the response side is as strict
 * as the request side, since a server's answer may have been chosen by the guest too. */
#include "gate/http1_int.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define METHOD_MAX 64

int http1_refuse(struct err *err, int status, const char *fmt, ...)
{
	char msg[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	err_set(err, ERR_PEER, "HTTP: %s", msg);
	if (err)
		err->errnum = status;
	return -1;
}

bool http1_is_tchar(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_token(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (!http1_is_tchar((uint8_t)s[i]))
			return false;
	}
	return len > 0;
}

static struct http1_slice trim(const char *s, size_t len)
{
	while (len > 0 && (s[0] == ' ' || s[0] == '\t')) {
		s++;
		len--;
	}
	while (len > 0 && (s[len - 1] == ' ' || s[len - 1] == '\t'))
		len--;
	return (struct http1_slice){s, len};
}

static bool slice_equal_nocase(struct http1_slice a, struct http1_slice b)
{
	return a.n == b.n && strncasecmp(a.p, b.p, a.n) == 0;
}

bool http1_slice_is(struct http1_slice s, const char *text)
{
	return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

bool http1_slice_is_nocase(struct http1_slice s, const char *text)
{
	return slice_equal_nocase(s, (struct http1_slice){text, strlen(text)});
}

const struct http1_header *http1_find(const struct http1_head *h, const char *name)
{
	for (size_t i = 0; i < h->n_headers; i++) {
		if (http1_slice_is_nocase(h->headers[i].name, name))
			return &h->headers[i];
	}
	return NULL;
}

bool http1_next_token(struct http1_slice *rest, struct http1_slice *ret)
{
	while (rest->n > 0) {
		const char *comma = memchr(rest->p, ',', rest->n);
		size_t n = comma ? (size_t)(comma - rest->p) : rest->n;

		*ret = trim(rest->p, n);
		n = MIN(n + 1, rest->n);
		rest->p += n;
		rest->n -= n;
		if (ret->n > 0)
			return true;
	}
	return false;
}

bool http1_has_token(const struct http1_head *h, const char *name, const char *token)
{
	for (size_t i = 0; i < h->n_headers; i++) {
		struct http1_slice rest = h->headers[i].value, t;

		if (!http1_slice_is_nocase(h->headers[i].name, name))
			continue;
		while (http1_next_token(&rest, &t)) {
			if (http1_slice_is_nocase(t, token))
				return true;
		}
	}
	return false;
}

void http1_request_init(struct http1_head *h)
{
	*h = (struct http1_head){0};
}

void http1_response_init(struct http1_head *h, const struct http1_head *request)
{
	bool to_head = http1_slice_is(request->method, "HEAD");
	bool to_connect = http1_slice_is(request->method, "CONNECT");
	bool to_upgrade = request->upgrade;

	*h = (struct http1_head){.response = true,
		.to_head_ = to_head,
		.to_connect_ = to_connect,
		.to_upgrade_ = to_upgrade};
}

/* Look at bytes not seen before. Returns 1 with h->size set when the head is complete. */
static int scan(struct http1_head *h, const uint8_t *s, size_t len, struct err *err)
{
	for (size_t i = h->scanned_; i < len; i++) {
		uint8_t c = s[i];
		bool after_cr = i > 0 && s[i - 1] == '\r';

		if (i >= HTTP1_HEAD_MAX)
			return http1_refuse(
				err, 431, "head is longer than %u bytes", HTTP1_HEAD_MAX);
		if (h->line_start_ == 0 && i >= HTTP1_LINE_MAX)
			return http1_refuse(
				err, 414, "first line is longer than %u bytes", HTTP1_LINE_MAX);
		if (after_cr != (c == '\n'))
			return http1_refuse(err, 400, "line end is not CR LF");
		if ((c < ' ' && c != '\t' && c != '\r' && c != '\n') || c == 0x7f)
			return http1_refuse(err, 400, "control byte 0x%02x in the head", c);
		if (c == '\n') {
			if (i == 1)
				return http1_refuse(err, 400, "empty first line");
			if (i == h->line_start_ + 1) {
				h->size = i + 1;
				return 1;
			}
			h->line_start_ = i + 1;
		}
		h->scanned_ = i + 1;
	}
	return 0;
}

int http1_field(const char *line, size_t len, struct http1_header *ret, struct err *err)
{
	const char *colon = len ? memchr(line, ':', len) : NULL;
	size_t n = colon ? (size_t)(colon - line) : 0;

	if (len > 0 && (line[0] == ' ' || line[0] == '\t'))
		return http1_refuse(err, 400, "folded field line");
	if (!colon)
		return http1_refuse(err, 400, "field line without a colon");
	if (!is_token(line, n))
		return http1_refuse(err, 400,
			"field name is empty or has a character that is not "
			"allowed");
	ret->name = (struct http1_slice){line, n};
	ret->value = trim(colon + 1, len - n - 1);
	return 0;
}

/* Fields of which one is the most that makes sense. Two of them are two opinions. */
static const struct {
	const char *name;
	bool requests_only;
} singles[] = {
	{"content-length", false},
	{"transfer-encoding", false},
	{"content-range", false},
	{"host", true},
	{"authorization", true},
	{"proxy-authorization", true},
	{"content-type", true},
	{"expect", true},
	{"max-forwards", true},
	{"range", true},
	{"upgrade", true},
};

static int check_singles(const struct http1_head *h, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(singles); i++) {
		unsigned n = 0;

		if (singles[i].requests_only && h->response)
			continue;
		for (size_t j = 0; j < h->n_headers; j++)
			n += http1_slice_is_nocase(h->headers[j].name, singles[i].name);
		if (n > 1)
			return http1_refuse(err, 400, "more than one %s field", singles[i].name);
	}
	return 0;
}

/* Whether a field that is not @framing could be taken for it: gateways of the CGI kind read '_' as
 * '-', and there are parsers that stop comparing when the known name ends. */
static bool looks_like(struct http1_slice name, const char *framing)
{
	size_t len = strlen(framing);

	if (name.n < len)
		return false;
	for (size_t i = 0; i < len; i++) {
		char c = name.p[i] == '_' ? '-' : name.p[i];

		if (strncasecmp(&c, framing + i, 1) != 0)
			return false;
	}
	return !http1_slice_is_nocase(name, framing);
}

static int parse_fields(struct http1_head *h, const char *s, const char *end, struct err *err)
{
	while (s < end) {
		const char *cr = memchr(s, '\r', (size_t)(end - s));
		struct http1_header *f = &h->headers[h->n_headers];

		if (h->n_headers == HTTP1_HEADERS_MAX)
			return http1_refuse(err, 431, "more than %d fields", HTTP1_HEADERS_MAX);
		if (http1_field(s, (size_t)(cr - s), f, err) < 0)
			return -1;
		if (looks_like(f->name, "content-length") ||
			looks_like(f->name, "transfer-encoding"))
			return http1_refuse(err, 400, "misspelt framing field");
		h->n_headers++;
		s = cr + 2;
	}
	return check_singles(h, err);
}

/* "HTTP/1.0" or "HTTP/1.1". */
static int parse_version(struct http1_head *h, const char *s, size_t len, struct err *err)
{
	if (len != 8 || memcmp(s, "HTTP/", 5) != 0 || s[5] < '0' || s[5] > '9' || s[6] != '.' ||
		s[7] < '0' || s[7] > '9')
		return http1_refuse(err, 400, "first line has no HTTP version");
	if (s[5] != '1' || s[7] > '1')
		return http1_refuse(err, 505, "version is not HTTP/1.0 or HTTP/1.1");
	h->minor = (unsigned)(s[7] - '0');
	return 0;
}

static int parse_method(struct http1_head *h, struct err *err)
{
	if (!is_token(h->method.p, h->method.n) || h->method.n > METHOD_MAX)
		return http1_refuse(err, 400, "method is not a token");
	for (size_t i = 0; i < h->method.n; i++) {
		if (h->method.p[i] >= 'a' && h->method.p[i] <= 'z')
			return http1_refuse(err, 400, "method is not in upper case");
	}
	/* They send the request back, and with it what was added on the way. */
	if (http1_slice_is(h->method, "TRACE") || http1_slice_is(h->method, "TRACK"))
		return http1_refuse(err, 501, "method TRACE is not supported");
	return 0;
}

static void split_path(struct http1_head *h, const char *s, size_t len)
{
	const char *q = len ? memchr(s, '?', len) : NULL;
	size_t n = q ? (size_t)(q - s) : len;

	h->path = (struct http1_slice){s, n};
	h->query = q ? (struct http1_slice){q + 1, len - n - 1} : (struct http1_slice){s + len, 0};
}

static int parse_authority(struct http1_head *h, const char *s, size_t len, struct err *err)
{
	struct err why = {0};

	if (policy_authority_parse(s, len, &h->host, &h->port, &why) < 0)
		return http1_refuse(err, 400, "%s", why.msg);
	h->has_host = true;
	return 0;
}

static int parse_target(struct http1_head *h, struct err *err)
{
	const char *s = h->target.p;
	size_t len = h->target.n, skip, n;

	for (size_t i = 0; i < len; i++) {
		if (s[i] <= ' ' || s[i] == 0x7f || (uint8_t)s[i] >= 0x80 || s[i] == '#')
			return http1_refuse(err, 400, "target has a character that is not allowed");
	}
	if (http1_slice_is(h->method, "CONNECT")) {
		h->form = HTTP1_AUTHORITY;
		if (parse_authority(h, s, len, err) < 0)
			return -1;
		return h->port ? 0 : http1_refuse(err, 400, "CONNECT without a port");
	}
	if (len == 1 && s[0] == '*') {
		h->form = HTTP1_ASTERISK;
		if (!http1_slice_is(h->method, "OPTIONS"))
			return http1_refuse(err, 400, "target * with a method other than OPTIONS");
		return 0;
	}
	if (len > 0 && s[0] == '/') {
		h->form = HTTP1_ORIGIN;
		split_path(h, s, len);
		return 0;
	}
	h->https = len >= 8 && strncasecmp(s, "https://", 8) == 0;
	skip = h->https ? 8 : 7;
	if (!h->https && (len < 7 || strncasecmp(s, "http://", 7) != 0))
		return http1_refuse(err, 400, "target is neither a path nor an http URL");
	h->form = HTTP1_ABSOLUTE;
	for (n = skip; n < len && s[n] != '/' && s[n] != '?'; n++)
		;
	split_path(h, s + n, len - n);
	return parse_authority(h, s + skip, n - skip, err);
}

static int parse_request_line(struct http1_head *h, const char *s, size_t len, struct err *err)
{
	const char *sp1 = memchr(s, ' ', len), *sp2 = memrchr(s, ' ', len);

	if (!sp1 || sp1 == sp2)
		return http1_refuse(err, 400, "request line is not METHOD TARGET VERSION");
	h->method = (struct http1_slice){s, (size_t)(sp1 - s)};
	h->target = (struct http1_slice){sp1 + 1, (size_t)(sp2 - sp1 - 1)};
	if (parse_version(h, sp2 + 1, len - (size_t)(sp2 + 1 - s), err) < 0)
		return -1;
	if (parse_method(h, err) < 0)
		return -1;
	return parse_target(h, err);
}

static int parse_status_line(struct http1_head *h, const char *s, size_t len, struct err *err)
{
	if (len < 12 || s[8] != ' ' || (len > 12 && s[12] != ' '))
		return http1_refuse(err, 400, "status line is not VERSION CODE REASON");
	if (parse_version(h, s, 8, err) < 0)
		return -1;
	for (int i = 9; i < 12; i++) {
		if (s[i] < '0' || s[i] > '9')
			return http1_refuse(err, 400, "status code is not a number");
		h->status = h->status * 10 + (unsigned)(s[i] - '0');
	}
	if (h->status < 100)
		return http1_refuse(err, 400, "status code is below 100");
	h->reason = (struct http1_slice){s + len, 0};
	if (len > 13)
		h->reason = (struct http1_slice){s + 13, len - 13};
	return 0;
}

/* Content-Length: plain decimal below 2^63 without leading zeros. */
static int parse_length(struct http1_slice v, uint64_t *ret, struct err *err)
{
	uint64_t n = 0;

	if (v.n < 1 || v.n > 18 || (v.p[0] == '0' && v.n > 1))
		return http1_refuse(err, 400, "Content-Length is not a plain number");
	for (size_t i = 0; i < v.n; i++) {
		if (v.p[i] < '0' || v.p[i] > '9')
			return http1_refuse(err, 400, "Content-Length is not a plain number");
		n = n * 10 + (uint64_t)(v.p[i] - '0');
	}
	*ret = n;
	return 0;
}

/* What the framing fields say, without regard to method and status. */
static int judge_framing_fields(struct http1_head *h, bool *ret_any, struct err *err)
{
	const struct http1_header *cl = http1_find(h, "content-length");
	const struct http1_header *te = http1_find(h, "transfer-encoding");

	*ret_any = cl || te;
	if (cl && te)
		return http1_refuse(err, 400, "both Content-Length and Transfer-Encoding");
	if (te) {
		if (h->minor == 0)
			return http1_refuse(err, 400, "Transfer-Encoding in HTTP/1.0");
		if (!http1_slice_is_nocase(te->value, "chunked"))
			return http1_refuse(err, 501, "Transfer-Encoding is not chunked");
		h->framing = HTTP1_CHUNKED;
	} else if (cl) {
		if (parse_length(cl->value, &h->content_length, err) < 0)
			return -1;
		h->framing = HTTP1_LENGTH;
	}
	return 0;
}

/* RFC 9112 6.3, for responses. */
static int judge_response_framing(struct http1_head *h, bool any, struct err *err)
{
	bool interim = h->status < 200;

	if (interim || h->status == 204) {
		if (h->framing == HTTP1_CHUNKED || h->content_length > 0)
			return http1_refuse(err, 400, "status %u with a body", h->status);
		h->framing = HTTP1_NO_BODY;
	}
	if (h->status == 101) {
		if (!h->to_upgrade_)
			return http1_refuse(err, 400, "status 101 without an upgrade request");
		h->framing = HTTP1_TUNNEL;
	} else if (h->to_connect_ && h->status / 100 == 2) {
		h->framing = HTTP1_TUNNEL;
	} else if (h->to_head_ || h->status == 304) {
		h->framing = HTTP1_NO_BODY;
	} else if (!interim && h->status != 204 && !any) {
		h->framing = HTTP1_UNTIL_CLOSE;
	}
	return 0;
}

/* The Host field against the target. */
static int judge_host(struct http1_head *h, struct err *err)
{
	const struct http1_header *f = http1_find(h, "host");
	struct policy_host target = h->host;
	uint16_t port = h->port, scheme_port = h->https ? 443 : 80;
	bool in_target = h->has_host;

	if (!f)
		return h->minor == 0 ? 0 : http1_refuse(err, 400, "no Host field");
	if (parse_authority(h, f->value.p, f->value.n, err) < 0)
		return -1;
	if (!in_target)
		return 0;
	if (strcmp(target.name, h->host.name) != 0 || target.is_addr != h->host.is_addr)
		return http1_refuse(err, 400, "Host differs from the target");
	if (h->form == HTTP1_AUTHORITY) {
		/* Some clients leave the port out of Host here. */
		if (h->port && h->port != port)
			return http1_refuse(err, 400, "Host differs from the target");
	} else if ((h->port ? h->port : scheme_port) != (port ? port : scheme_port)) {
		return http1_refuse(err, 400, "Host differs from the target");
	}
	h->port = port;
	return 0;
}

/* Fields that every hop needs to see: dropping one at a peer's word would change the message. */
static int judge_connection(struct http1_head *h, struct err *err)
{
	static const char *const fixed[] = {"host", "content-length", "transfer-encoding",
		"content-type", "content-encoding", "content-range", "authorization", "cookie",
		"set-cookie", "expect", "range", "connection"};
	bool close = http1_has_token(h, "connection", "close");
	bool keep = http1_has_token(h, "connection", "keep-alive");

	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++) {
		if (http1_has_token(h, "connection", fixed[i]))
			return http1_refuse(err, 400, "Connection names %s", fixed[i]);
	}
	h->keep_alive = !close && (h->minor == 1 || keep) && h->framing != HTTP1_UNTIL_CLOSE &&
			h->framing != HTTP1_TUNNEL;
	h->upgrade = !h->response && h->minor == 1 && http1_find(h, "upgrade") &&
		     http1_has_token(h, "connection", "upgrade") &&
		     !http1_has_token(h, "upgrade", "h2c");
	return 0;
}

static int judge_request(struct http1_head *h, bool any, struct err *err)
{
	const struct http1_header *expect = http1_find(h, "expect");

	if (judge_host(h, err) < 0)
		return -1;
	if (h->form == HTTP1_AUTHORITY && any)
		return http1_refuse(err, 400, "CONNECT with a body");
	if (expect && !http1_slice_is_nocase(expect->value, "100-continue"))
		return http1_refuse(err, 417, "Expect is not 100-continue");
	h->expect_continue = expect && h->minor == 1 && h->framing != HTTP1_NO_BODY;
	return 0;
}

int http1_parse(struct http1_head *h, const void *data, size_t len, struct err *err)
{
	const char *s = data, *line_end;
	size_t line;
	bool any;
	int r = scan(h, data, len, err);

	if (r <= 0)
		return r;
	line_end = memchr(s, '\r', h->size);
	line = (size_t)(line_end - s);
	r = h->response ? parse_status_line(h, s, line, err) : parse_request_line(h, s, line, err);
	if (r < 0)
		return -1;
	/* The fields, without the empty line. */
	if (parse_fields(h, line_end + 2, s + h->size - 2, err) < 0)
		return -1;
	if (judge_framing_fields(h, &any, err) < 0)
		return -1;
	r = h->response ? judge_response_framing(h, any, err) : judge_request(h, any, err);
	if (r < 0 || judge_connection(h, err) < 0)
		return -1;
	return 1;
}

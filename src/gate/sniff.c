/* SPDX-License-Identifier: Apache-2.0 */
/* First bytes of a client: TLS ClientHello (RFC 8446, 6066, 7301), HTTP request line, or other.
 *
 * The ClientHello is put together from its records first and then parsed as one block, every vector
 * narrowing the reader of the one inside it and being consumed to its end. A hello that another
 * implementation could read differently (repeated extensions, several names) counts as broken. */
#include "gate/sniff.h"

#include <string.h>

#include "base/mem.h"
#include "base/rd.h"

#define REC_HANDSHAKE   0x16
#define HS_CLIENT_HELLO 0x01
#define REC_HEADER      5u
#define REC_MAX         16384u
#define HS_HEADER       4u
#define EXTENSIONS_MAX  128

enum {
	EXT_SERVER_NAME = 0,
	EXT_ALPN = 16,
	EXT_EARLY_DATA = 42,
	EXT_SUPPORTED_VERSIONS = 43,
	EXT_ECH = 0xfe0d,
};

static enum sniff_kind bad(struct sniff *ret, const char *why)
{
	*ret = (struct sniff){.why = why};
	return SNIFF_TLS_BAD;
}

/* RFC 8701: 0x0a0a, 0x1a1a, … mean nothing. */
static bool is_grease(uint16_t v)
{
	return (v & 0x0f0f) == 0x0a0a && v >> 8 == (v & 0xff);
}

static const char *parse_server_name(struct rd *ext, struct sniff *ret)
{
	struct rd list = rd_sub(ext, rd_be16(ext));
	uint8_t type = rd_u8(&list);
	struct rd name = rd_sub(&list, rd_be16(&list));
	size_t len = rd_left(&name);

	if (!rd_done(&list) || !rd_done(ext) || type != 0)
		return "server name extension is malformed or has several names";
	if (policy_name_canon((const char *)name.p, len, ret->sni, NULL) < 0)
		return "server name is not a host name";
	ret->has_sni = true;
	return NULL;
}

static const char *parse_alpn(struct rd *ext, struct sniff *ret)
{
	struct rd list = rd_sub(ext, rd_be16(ext));

	if (rd_left(&list) == 0)
		return "ALPN extension is empty";
	while (rd_left(&list) > 0) {
		uint8_t len = rd_u8(&list);
		const uint8_t *name = rd_bytes(&list, len);

		if (!rd_ok(&list) || len == 0)
			return "ALPN extension is malformed";
		ret->alpn_h2 |= len == 2 && memcmp(name, "h2", 2) == 0;
		ret->alpn_http11 |= len == 8 && memcmp(name, "http/1.1", 8) == 0;
		if (ret->n_alpn == SNIFF_ALPN_MAX)
			continue;
		ret->alpn[ret->n_alpn].len = len;
		memcpy(ret->alpn[ret->n_alpn].name, name, len);
		ret->n_alpn++;
	}
	return rd_done(ext) ? NULL : "ALPN extension is malformed";
}

static const char *parse_versions(struct rd *ext, struct sniff *ret)
{
	struct rd list = rd_sub(ext, rd_u8(ext));
	uint16_t max = 0;

	while (rd_left(&list) > 0) {
		uint16_t v = rd_be16(&list);

		if (!is_grease(v))
			max = MAX(max, v);
	}
	if (!rd_done(&list) || !rd_done(ext) || max == 0)
		return "supported_versions extension is malformed";
	ret->max_version = max;
	return NULL;
}

static const char *parse_extension(uint16_t type, struct rd *ext, struct sniff *ret)
{
	switch (type) {
	case EXT_SERVER_NAME:
		return parse_server_name(ext, ret);
	case EXT_ALPN:
		return parse_alpn(ext, ret);
	case EXT_SUPPORTED_VERSIONS:
		return parse_versions(ext, ret);
	case EXT_EARLY_DATA:
		ret->early_data = true;
		return NULL;
	case EXT_ECH:
		ret->ech = true;
		return NULL;
	default:
		return NULL;
	}
}

static const char *parse_extensions(struct rd *r, struct sniff *ret)
{
	struct rd list = rd_sub(r, rd_be16(r));
	uint16_t seen[EXTENSIONS_MAX];
	size_t n = 0;

	if (!rd_done(r))
		return "ClientHello is malformed";
	while (rd_left(&list) > 0) {
		uint16_t type = rd_be16(&list);
		struct rd ext = rd_sub(&list, rd_be16(&list));
		const char *why;

		if (!rd_ok(&list))
			return "ClientHello has a malformed extension";
		for (size_t i = 0; i < n; i++) {
			if (seen[i] == type)
				return "ClientHello repeats an extension";
		}
		if (n == EXTENSIONS_MAX)
			return "ClientHello has too many extensions";
		seen[n++] = type;
		why = parse_extension(type, &ext, ret);
		if (why)
			return why;
	}
	return rd_ok(&list) ? NULL : "ClientHello is malformed";
}

/* @r: exactly the body of one ClientHello message. */
static enum sniff_kind parse_hello(struct rd *r, struct sniff *ret)
{
	struct rd ciphers, compression;
	const char *why;
	uint8_t session_len;

	ret->max_version = rd_be16(r);
	if (rd_ok(r) && ret->max_version >> 8 != 3)
		return bad(ret, "ClientHello has an unknown version");
	/* Everything above 1.2 is said in supported_versions. */
	ret->max_version = MIN(ret->max_version, 0x0303);
	rd_bytes(r, 32); /* random */
	session_len = rd_u8(r);
	if (session_len > 32)
		return bad(ret, "ClientHello has a session id of more than 32 bytes");
	rd_bytes(r, session_len);
	ciphers = rd_sub(r, rd_be16(r));
	compression = rd_sub(r, rd_u8(r));
	if (!rd_ok(r) || rd_left(&ciphers) < 2 || rd_left(&ciphers) % 2 || !rd_left(&compression))
		return bad(ret, "ClientHello is malformed");
	if (rd_done(r))
		return SNIFF_TLS; /* extensions are optional in TLS 1.2 */
	why = parse_extensions(r, ret);
	return why ? bad(ret, why) : SNIFF_TLS;
}

/* Collect the first handshake message from its records. @hello: room for SNIFF_MAX. */
static enum sniff_kind collect(
	const uint8_t *data, size_t len, uint8_t *hello, size_t *ret_len, struct sniff *ret)
{
	struct rd r = rd_make(data, len);
	size_t have = 0, want = HS_HEADER;

	while (have < want) {
		uint8_t type;
		uint16_t version, n;
		size_t part;

		if (rd_left(&r) > 0 && *r.p != REC_HANDSHAKE)
			return bad(ret, "another TLS record inside the ClientHello");
		if (rd_left(&r) < REC_HEADER)
			break;
		type = rd_u8(&r);
		version = rd_be16(&r);
		n = rd_be16(&r);
		if (type != REC_HANDSHAKE || version >> 8 != 3)
			return bad(ret, "TLS record of an unknown version");
		if (n == 0 || n > REC_MAX)
			return bad(ret, "TLS record has an impossible length");
		part = MIN((size_t)n, rd_left(&r));
		if (have + part > SNIFF_MAX)
			return bad(ret, "ClientHello is too long");
		memcpy(hello + have, r.p, part);
		have += part;
		if (have >= 1 && hello[0] != HS_CLIENT_HELLO)
			return bad(ret, "first TLS message is not a ClientHello");
		if (have >= HS_HEADER)
			want = HS_HEADER +
			       ((size_t)hello[1] << 16 | (size_t)hello[2] << 8 | hello[3]);
		if (want > SNIFF_MAX)
			return bad(ret, "ClientHello is too long");
		rd_bytes(&r, part);
		if (part < n)
			break;
	}
	if (have < want)
		return len >= SNIFF_MAX ? bad(ret, "ClientHello is too long") : SNIFF_MORE;
	/* Nothing may follow before the server has answered, not even in the same record; 0-RTT
	 * data comes in records of its own. */
	if (have > want)
		return bad(ret, "bytes behind the ClientHello in its record");
	*ret_len = have;
	return SNIFF_TLS;
}

static enum sniff_kind sniff_tls(const uint8_t *data, size_t len, struct sniff *ret)
{
	_free_ uint8_t *hello = xmalloc(SNIFF_MAX);
	size_t hello_len = 0;
	enum sniff_kind kind = collect(data, len, hello, &hello_len, ret);
	struct rd r;

	if (kind != SNIFF_TLS)
		return kind;
	r = rd_make(hello + HS_HEADER, hello_len - HS_HEADER);
	return parse_hello(&r, ret);
}

static bool is_tchar(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

/* Methods that leave no doubt as soon as the blank behind them is seen. */
static bool known_method(const uint8_t *s, size_t len)
{
	static const char *const known[] = {
		"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (len == strlen(known[i]) && memcmp(s, known[i], len) == 0)
			return true;
	}
	return false;
}

/* Whether a line (without its end) closes with a blank and HTTP/digit. */
static bool ends_in_version(const uint8_t *s, size_t len)
{
	size_t i = len;

	while (i > 0 && s[i - 1] != ' ' && s[i - 1] != '\t')
		i--;
	return i > 0 && len - i >= 6 && memcmp(s + i, "HTTP/", 5) == 0;
}

/* A request line of any method. Servers also accept odd ones (blank lines before it, a lone LF
 * behind it, lower-case methods, any length): these must not pass as "other", the strict parser
 * shall refuse them. So what still looks like a request line at the limit is one. */
static enum sniff_kind sniff_http(const uint8_t *s, size_t len)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	enum sniff_kind undecided = len < SNIFF_MAX ? SNIFF_MORE : SNIFF_HTTP1;
	size_t blank = 0, n = MIN(len, sizeof(preface) - 1);
	const uint8_t *lf;

	if (memcmp(s, preface, n) == 0)
		return n < sizeof(preface) - 1 ? SNIFF_MORE : SNIFF_HTTP2;
	while (len > 0 && (*s == '\r' || *s == '\n' || *s == ' ' || *s == '\t')) {
		s++;
		len--;
	}
	if (len == 0)
		return undecided;
	while (blank < len && is_tchar(s[blank]))
		blank++;
	if (blank == len)
		return undecided == SNIFF_MORE ? SNIFF_MORE : SNIFF_OTHER;
	if (blank == 0 || (s[blank] != ' ' && s[blank] != '\t'))
		return SNIFF_OTHER;
	if (known_method(s, blank))
		return SNIFF_HTTP1;
	lf = memchr(s, '\n', len);
	if (!lf)
		return undecided;
	len = (size_t)(lf - s);
	if (len > 0 && s[len - 1] == '\r')
		len--;
	return ends_in_version(s, len) ? SNIFF_HTTP1 : SNIFF_OTHER;
}

enum sniff_kind sniff(const void *data, size_t len, struct sniff *ret)
{
	const uint8_t *p = data;

	*ret = (struct sniff){0};
	if (len == 0)
		return SNIFF_MORE;
	if (p[0] == REC_HANDSHAKE) {
		/* 0x16 0x03 is TLS; a lone 0x16 is not decided. */
		if (len == 1)
			return SNIFF_MORE;
		return p[1] == 3 ? sniff_tls(p, len, ret) : SNIFF_OTHER;
	}
	return sniff_http(p, len);
}

bool sniff_http2_settings(const void *data, size_t len)
{
	static const uint8_t rest[6] = {4, 0, 0, 0, 0, 0}; /* type, flags, stream */
	const uint8_t *p = data;
	bool fits = len < 3 || (p[0] == 0 && (p[1] << 8 | p[2]) % 6 == 0);

	return len > 0 && p[0] == 0 && fits && (len <= 3 || memcmp(p + 3, rest, MIN(len - 3, sizeof(rest))) == 0);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* First bytes: real ClientHellos, hand-made hostile ones, request lines, and everything else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"
#include "gate/sniff.h"

/* Taken from OpenSSL 3.0: -servername App.Example.com -alpn h2,http/1.1. */
static const uint8_t hello13[] = {0x16, 0x03, 0x01, 0x01, 0x4e, 0x01, 0x00, 0x01, 0x4a, 0x03, 0x03,
	0x34, 0xcc, 0xd2, 0xf7, 0x64, 0xf4, 0x0e, 0x35, 0xcf, 0x5a, 0xa7, 0x01, 0xdc, 0xea, 0x9d,
	0x28, 0xd0, 0x96, 0xb2, 0x56, 0x66, 0x59, 0xd9, 0xfd, 0xf6, 0xa3, 0x1d, 0x8a, 0x15, 0xc7,
	0x65, 0xc2, 0x20, 0x0d, 0xfe, 0xe3, 0x7a, 0x3b, 0x4b, 0x2a, 0x23, 0x19, 0xeb, 0xa2, 0xe2,
	0xf8, 0x29, 0xab, 0xcb, 0xd7, 0x63, 0x31, 0x42, 0xa4, 0x09, 0x1e, 0xbe, 0x16, 0x0c, 0xe4,
	0x0f, 0x82, 0xe0, 0xa0, 0x0e, 0x00, 0x3e, 0x13, 0x02, 0x13, 0x03, 0x13, 0x01, 0xc0, 0x2c,
	0xc0, 0x30, 0x00, 0x9f, 0xcc, 0xa9, 0xcc, 0xa8, 0xcc, 0xaa, 0xc0, 0x2b, 0xc0, 0x2f, 0x00,
	0x9e, 0xc0, 0x24, 0xc0, 0x28, 0x00, 0x6b, 0xc0, 0x23, 0xc0, 0x27, 0x00, 0x67, 0xc0, 0x0a,
	0xc0, 0x14, 0x00, 0x39, 0xc0, 0x09, 0xc0, 0x13, 0x00, 0x33, 0x00, 0x9d, 0x00, 0x9c, 0x00,
	0x3d, 0x00, 0x3c, 0x00, 0x35, 0x00, 0x2f, 0x00, 0xff, 0x01, 0x00, 0x00, 0xc3, 0x00, 0x00,
	0x00, 0x14, 0x00, 0x12, 0x00, 0x00, 0x0f, 0x41, 0x70, 0x70, 0x2e, 0x45, 0x78, 0x61, 0x6d,
	0x70, 0x6c, 0x65, 0x2e, 0x63, 0x6f, 0x6d, 0x00, 0x0b, 0x00, 0x04, 0x03, 0x00, 0x01, 0x02,
	0x00, 0x0a, 0x00, 0x16, 0x00, 0x14, 0x00, 0x1d, 0x00, 0x17, 0x00, 0x1e, 0x00, 0x19, 0x00,
	0x18, 0x01, 0x00, 0x01, 0x01, 0x01, 0x02, 0x01, 0x03, 0x01, 0x04, 0x00, 0x23, 0x00, 0x00,
	0x00, 0x10, 0x00, 0x0e, 0x00, 0x0c, 0x02, 0x68, 0x32, 0x08, 0x68, 0x74, 0x74, 0x70, 0x2f,
	0x31, 0x2e, 0x31, 0x00, 0x16, 0x00, 0x00, 0x00, 0x17, 0x00, 0x00, 0x00, 0x0d, 0x00, 0x2a,
	0x00, 0x28, 0x04, 0x03, 0x05, 0x03, 0x06, 0x03, 0x08, 0x07, 0x08, 0x08, 0x08, 0x09, 0x08,
	0x0a, 0x08, 0x0b, 0x08, 0x04, 0x08, 0x05, 0x08, 0x06, 0x04, 0x01, 0x05, 0x01, 0x06, 0x01,
	0x03, 0x03, 0x03, 0x01, 0x03, 0x02, 0x04, 0x02, 0x05, 0x02, 0x06, 0x02, 0x00, 0x2b, 0x00,
	0x09, 0x08, 0x03, 0x04, 0x03, 0x03, 0x03, 0x02, 0x03, 0x01, 0x00, 0x2d, 0x00, 0x02, 0x01,
	0x01, 0x00, 0x33, 0x00, 0x26, 0x00, 0x24, 0x00, 0x1d, 0x00, 0x20, 0xbd, 0x42, 0x1b, 0x78,
	0x39, 0x64, 0x50, 0xf8, 0x1a, 0xde, 0xc5, 0xe6, 0xcd, 0x36, 0xba, 0xf3, 0x9f, 0xa3, 0x26,
	0x60, 0x50, 0x13, 0xcf, 0xdb, 0x6e, 0xb2, 0xa8, 0xc9, 0x0f, 0x54, 0x53, 0x55};

/* -tls1_2 -servername old.example.com */
static const uint8_t hello12[] = {0x16, 0x03, 0x01, 0x00, 0xcf, 0x01, 0x00, 0x00, 0xcb, 0x03, 0x03,
	0x91, 0x1b, 0x5a, 0x9c, 0x18, 0x60, 0xf4, 0xf2, 0x42, 0xa5, 0x4c, 0xb3, 0x19, 0xa0, 0x60,
	0x28, 0x56, 0xcc, 0xa8, 0x4a, 0xb6, 0x07, 0xe3, 0x38, 0x6f, 0x8e, 0x4b, 0xc7, 0x7e, 0xe5,
	0x62, 0x35, 0x00, 0x00, 0x38, 0xc0, 0x2c, 0xc0, 0x30, 0x00, 0x9f, 0xcc, 0xa9, 0xcc, 0xa8,
	0xcc, 0xaa, 0xc0, 0x2b, 0xc0, 0x2f, 0x00, 0x9e, 0xc0, 0x24, 0xc0, 0x28, 0x00, 0x6b, 0xc0,
	0x23, 0xc0, 0x27, 0x00, 0x67, 0xc0, 0x0a, 0xc0, 0x14, 0x00, 0x39, 0xc0, 0x09, 0xc0, 0x13,
	0x00, 0x33, 0x00, 0x9d, 0x00, 0x9c, 0x00, 0x3d, 0x00, 0x3c, 0x00, 0x35, 0x00, 0x2f, 0x00,
	0xff, 0x01, 0x00, 0x00, 0x6a, 0x00, 0x00, 0x00, 0x14, 0x00, 0x12, 0x00, 0x00, 0x0f, 0x6f,
	0x6c, 0x64, 0x2e, 0x65, 0x78, 0x61, 0x6d, 0x70, 0x6c, 0x65, 0x2e, 0x63, 0x6f, 0x6d, 0x00,
	0x0b, 0x00, 0x04, 0x03, 0x00, 0x01, 0x02, 0x00, 0x0a, 0x00, 0x0c, 0x00, 0x0a, 0x00, 0x1d,
	0x00, 0x17, 0x00, 0x1e, 0x00, 0x19, 0x00, 0x18, 0x00, 0x23, 0x00, 0x00, 0x00, 0x16, 0x00,
	0x00, 0x00, 0x17, 0x00, 0x00, 0x00, 0x0d, 0x00, 0x2a, 0x00, 0x28, 0x04, 0x03, 0x05, 0x03,
	0x06, 0x03, 0x08, 0x07, 0x08, 0x08, 0x08, 0x09, 0x08, 0x0a, 0x08, 0x0b, 0x08, 0x04, 0x08,
	0x05, 0x08, 0x06, 0x04, 0x01, 0x05, 0x01, 0x06, 0x01, 0x03, 0x03, 0x03, 0x01, 0x03, 0x02,
	0x04, 0x02, 0x05, 0x02, 0x06, 0x02};

/* Sniff growing prefixes from exact-size memory until there is a verdict. Returns it, and in
 * @ret_at how many bytes it took; more bytes must not change it. */
static enum sniff_kind grow(const void *data, size_t len, struct sniff *s, size_t *ret_at)
{
	enum sniff_kind kind = SNIFF_MORE, whole;
	size_t n;

	for (n = 0; n <= len; n++) {
		_free_ uint8_t *exact = xmalloc(n ? n : 1);

		memcpy(exact, data, n);
		kind = sniff(exact, n, s);
		if (kind != SNIFF_MORE)
			break;
	}
	*ret_at = n;
	whole = sniff(data, len, s);
	assert_int_equal(kind, whole);
	return kind;
}

static void test_real_hellos(void **state)
{
	struct sniff s;
	size_t at;

	assert_int_equal(grow(hello13, sizeof(hello13), &s, &at), SNIFF_TLS);
	assert_int_equal(at, sizeof(hello13));
	assert_true(s.has_sni);
	assert_string_equal(s.sni, "app.example.com");
	assert_int_equal(s.max_version, 0x0304);
	assert_int_equal(s.n_alpn, 2);
	assert_int_equal(s.alpn[0].len, 2);
	assert_memory_equal(s.alpn[1].name, "http/1.1", 8);
	assert_true(s.alpn_h2);
	assert_true(s.alpn_http11);
	assert_false(s.ech);
	assert_false(s.early_data);

	assert_int_equal(grow(hello12, sizeof(hello12), &s, &at), SNIFF_TLS);
	assert_string_equal(s.sni, "old.example.com");
	assert_int_equal(s.max_version, 0x0303);
	assert_int_equal(s.n_alpn, 0);
}

/* Whatever single bit a hello has wrong, the verdict is consistent and nothing is read outside. */
static void test_flipped_hellos(void **state)
{
	_free_ uint8_t *copy = xmalloc(sizeof(hello13));
	unsigned verdicts[SNIFF_OTHER + 1] = {0};
	enum sniff_kind kind;
	struct sniff s;

	for (size_t i = 0; i < sizeof(hello13); i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			memcpy(copy, hello13, sizeof(hello13));
			copy[i] ^= (uint8_t)(1u << bit);
			kind = sniff(copy, sizeof(hello13), &s);
			assert_int_equal(s.why != NULL, kind == SNIFF_TLS_BAD);
			assert_int_equal(s.has_sni, *s.sni != '\0');
			verdicts[kind]++;
		}
	}
	/* Most of a hello is random bytes, names and keys; the rest is structure. */
	assert_true(verdicts[SNIFF_TLS] > 1000);
	assert_true(verdicts[SNIFF_TLS_BAD] > 200);
}

/* The same hello cut into records of @size bytes. */
static size_t fragment(const uint8_t *hello, size_t len, size_t size, uint8_t *to)
{
	size_t n = 0;

	for (size_t at = 5; at < len; at += size) {
		size_t part = MIN(size, len - at);

		to[n++] = 0x16;
		to[n++] = 3;
		to[n++] = 1;
		to[n++] = (uint8_t)(part >> 8);
		to[n++] = (uint8_t)part;
		memcpy(to + n, hello + at, part);
		n += part;
	}
	return n;
}

static void test_fragmented(void **state)
{
	static const size_t sizes[] = {1, 2, 3, 5, 50, 333};
	uint8_t data[sizeof(hello13) * 6];
	struct sniff s;
	size_t at, n;

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		n = fragment(hello13, sizeof(hello13), sizes[i], data);
		assert_int_equal(grow(data, n, &s, &at), SNIFF_TLS);
		assert_int_equal(at, n);
		assert_string_equal(s.sni, "app.example.com");
	}
	/* Another record type in the middle; an empty record. */
	n = fragment(hello13, sizeof(hello13), 100, data);
	data[105] = 0x17;
	assert_int_equal(grow(data, n, &s, &at), SNIFF_TLS_BAD);
	assert_int_equal(at, 106);
	data[105] = 0x16;
	assert_int_equal(grow(data, n, &s, &at), SNIFF_TLS);
	memmove(data + 110, data + 105, n - 105);
	data[108] = data[109] = 0;
	assert_int_equal(grow(data, n + 5, &s, &at), SNIFF_TLS_BAD);
	assert_int_equal(at, 110);
}

/* A hello with the given extensions block (already with types and lengths). */
static size_t make_hello(uint8_t *to, const void *ext, size_t ext_len)
{
	static const uint8_t fixed[] = {0x02, 0x13, 0x01, 0x01, 0x00};
	struct buf b;
	size_t n;

	/* version, random, session id, ciphers, compression, extensions */
	n = 2 + 32 + 1 + 1 + sizeof(fixed) + 2 + ext_len;
	buf_init(&b, 65536);
	buf_put_u8(&b, 0x16);
	buf_put_be16(&b, 0x0301);
	buf_put_be16(&b, (uint16_t)(n + 4));
	buf_put_be32(&b, 0x01000000u | (uint32_t)n);
	buf_put_be16(&b, 0x0303);
	for (int i = 0; i < 32; i++)
		buf_put_u8(&b, (uint8_t)i);
	buf_put_be16(&b, 0);
	buf_put(&b, fixed, sizeof(fixed));
	buf_put_be16(&b, (uint16_t)ext_len);
	buf_put(&b, ext, ext_len);
	n = buf_len(&b);
	memcpy(to, buf_head(&b), n);
	buf_done(&b);
	return n;
}

#define SNI_A  "\0\0\0\x0b\0\x09\0\0\6a.test"
#define EXT(e) e, sizeof(e) - 1

static void test_extensions(void **state)
{
	static const struct {
		const char *ext;
		size_t len;
		enum sniff_kind kind;
		const char *sni;
		bool ech, early;
	} t[] = {
		{EXT(""), SNIFF_TLS, ""},
		{EXT(SNI_A), SNIFF_TLS, "a.test"},
		{EXT("\0\0\0\x0b\0\x09\0\0\6A.TEST"), SNIFF_TLS, "a.test"},
		{EXT(SNI_A "\xfe\x0d\0\1\0"), SNIFF_TLS, "a.test", true},
		{EXT(SNI_A "\0\x2a\0\0"), SNIFF_TLS, "a.test", false, true},
		{EXT("\x0a\x0a\0\0" SNI_A "\x1a\x1a\0\1\0"), SNIFF_TLS, "a.test"},
		{EXT(SNI_A SNI_A), SNIFF_TLS_BAD},
		{EXT("\x12\x34\0\0\x12\x34\0\0"), SNIFF_TLS_BAD},
		/* two names, no name, other type, lengths that do not fit */
		{EXT("\0\0\0\x0e\0\x0c\0\0\1a\0\0\1b\0\0\1c"), SNIFF_TLS_BAD},
		{EXT("\0\0\0\2\0\0"), SNIFF_TLS_BAD},
		{EXT("\0\0\0\0"), SNIFF_TLS_BAD},
		{EXT("\0\0\0\5\0\3\0\0\0"), SNIFF_TLS_BAD},
		{EXT("\0\0\0\6\0\4\1\0\1a"), SNIFF_TLS_BAD},
		{EXT("\0\0\0\6\0\3\0\0\1a"), SNIFF_TLS_BAD},
		{EXT("\0\0\0\6\0\5\0\0\1a"), SNIFF_TLS_BAD},
		{EXT("\0\0\0\6\0\4\0\0\2a"), SNIFF_TLS_BAD},
		{EXT("\0\0\0\7\0\4\0\0\1a"), SNIFF_TLS_BAD},
		{EXT("\0\0\0"), SNIFF_TLS_BAD},
		/* not host names */
		{EXT("\0\0\0\x0c\0\x0a\0\0\7"
		     "1.2.3.4"),
			SNIFF_TLS_BAD},
		{EXT("\0\0\0\x08\0\6\0\0\3a\0b"), SNIFF_TLS_BAD},
		{EXT("\0\0\0\x08\0\6\0\0\3a b"), SNIFF_TLS_BAD},
		{EXT("\0\0\0\x08\0\6\0\0\3*.b"), SNIFF_TLS_BAD},
		/* ALPN: empty list, empty name, overrun */
		{EXT("\0\x10\0\2\0\0"), SNIFF_TLS_BAD},
		{EXT("\0\x10\0\3\0\1\0"), SNIFF_TLS_BAD},
		{EXT("\0\x10\0\5\0\3\3h2"), SNIFF_TLS_BAD},
		{EXT("\0\x10\0\6\0\3\2h2!"), SNIFF_TLS_BAD},
		{EXT("\0\x10\0\5\0\3\2h2"), SNIFF_TLS, ""},
		/* supported_versions: odd, empty, GREASE alone */
		{EXT("\0\x2b\0\3\2\3\4"), SNIFF_TLS, ""},
		{EXT("\0\x2b\0\4\3\3\4\3"), SNIFF_TLS_BAD},
		{EXT("\0\x2b\0\1\0"), SNIFF_TLS_BAD},
		{EXT("\0\x2b\0\3\2\x0a\x0a"), SNIFF_TLS_BAD},
	};
	uint8_t data[512];
	struct sniff s;
	size_t at;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		size_t n = make_hello(data, t[i].ext, t[i].len);
		enum sniff_kind kind = grow(data, n, &s, &at);

		if (kind != t[i].kind)
			fail_msg("row %zu: %d %s", i, kind, s.why ? s.why : "");
		if (kind != SNIFF_TLS)
			continue;
		assert_string_equal(s.sni, t[i].sni);
		assert_int_equal(s.has_sni, *t[i].sni != '\0');
		assert_int_equal(s.ech, t[i].ech);
		assert_int_equal(s.early_data, t[i].early);
	}
}

static void test_tls_limits(void **state)
{
	_free_ uint8_t *big = calloc(1, 65536);
	uint8_t data[512];
	struct sniff s;
	size_t n, at;

	/* Many protocols: all are looked at, some are kept. */
	memcpy(big, "\0\x10\0\x67\0\x65", 6);
	for (int i = 0; i < 49; i++)
		memcpy(big + 6 + 2 * i, "\1x", 2);
	memcpy(big + 6 + 98, "\2h2", 3);
	n = make_hello(data, big, 6 + 98 + 3);
	assert_int_equal(sniff(data, n, &s), SNIFF_TLS);
	assert_int_equal(s.n_alpn, SNIFF_ALPN_MAX);
	assert_true(s.alpn_h2);
	/* Bytes behind the hello in its record are refused, in a record of their own they are not
	 * ours. */
	n = make_hello(data, SNI_A, sizeof(SNI_A) - 1);
	memcpy(data + n, "\x14\3\3\0\1\1", 6);
	assert_int_equal(sniff(data, n + 6, &s), SNIFF_TLS);
	data[4]++;
	assert_int_equal(sniff(data, n + 1, &s), SNIFF_TLS_BAD);
	/* No extensions at all: TLS 1.2 without a name. */
	n = make_hello(data, "", 0) - 2;
	data[4] -= 2;
	data[8] -= 2;
	assert_int_equal(grow(data, n, &s, &at), SNIFF_TLS);
	assert_false(s.has_sni);
	/* A hello that announces more than the ceiling is refused at once. */
	assert_int_equal(sniff("\x16\3\1\x40\0\1\0\x40\0", 9, &s), SNIFF_TLS_BAD);
	/* One that never ends is refused at the ceiling. */
	for (size_t i = 0; i < 65536; i += 6)
		memcpy(big + i, "\x16\3\1\0\1\0", 65536 - i < 6 ? 65536 - i : 6);
	memcpy(big, "\x16\3\1\0\1\1", 6);
	big[17] = 0x30;
	assert_int_equal(sniff(big, SNIFF_MAX - 1, &s), SNIFF_MORE);
	assert_int_equal(sniff(big, SNIFF_MAX, &s), SNIFF_TLS_BAD);
	assert_int_equal(sniff("\x16\3\1\x40\1", 5, &s), SNIFF_TLS_BAD);
	assert_int_equal(sniff("\x16\3\1\0\1\2", 6, &s), SNIFF_TLS_BAD);
	assert_int_equal(sniff("\x16\4", 2, &s), SNIFF_OTHER);
	assert_int_equal(sniff("\x16", 1, &s), SNIFF_MORE);
}

static void test_text(void **state)
{
	static const struct {
		const char *text;
		enum sniff_kind kind;
		size_t at; /* bytes it takes */
	} t[] = {
		{"", SNIFF_MORE, 1},
		{"GET / HTTP/1.1\r\n", SNIFF_HTTP1, 4},
		{"CONNECT a.test:443 HTTP/1.1\r\n", SNIFF_HTTP1, 8},
		{"POST", SNIFF_MORE, 5},
		{"PATCH\t/", SNIFF_HTTP1, 6},
		{"PROPFIND / HTTP/1.1\r\n", SNIFF_HTTP1, 21},
		{"get / HTTP/1.1\r\n", SNIFF_HTTP1, 16},
		{"x / HTTP/1.1\n", SNIFF_HTTP1, 13},
		{"\r\n\r\nGET / HTTP/1.1\r\n", SNIFF_HTTP1, 8},
		{" GET / HTTP/1.1\r\n", SNIFF_HTTP1, 5},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", SNIFF_HTTP2, 24},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx", SNIFF_HTTP1, 24},
		{"PRI * HTTP/1.1\r\n", SNIFF_HTTP1, 16},
		{"SSH-2.0-OpenSSH_9.2 Debian\r\n", SNIFF_OTHER, 28},
		{"EHLO a.test\r\n", SNIFF_OTHER, 13},
		{"GETX a b\r\n", SNIFF_OTHER, 10},
		{"USER anonymous\r\n", SNIFF_OTHER, 16},
		{"* OK IMAP\r\n", SNIFF_OTHER, 11},
		{"<xml>", SNIFF_OTHER, 1},
		{"\x80\x2e\x01", SNIFF_OTHER, 1},
		{"abc:def", SNIFF_OTHER, 4},
		{"say HTTP/1.1 twice\r\n", SNIFF_OTHER, 20},
	};
	struct sniff s;
	size_t at;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		enum sniff_kind kind = grow(t[i].text, strlen(t[i].text), &s, &at);

		if (kind != t[i].kind || at != t[i].at)
			fail_msg("%d after %zu: %s", kind, at, t[i].text);
	}
	/* A PostgreSQL start-up message begins with its length. */
	assert_int_equal(sniff("\0\0\0\x08\x04\xd2\x16\x2f", 8, &s), SNIFF_OTHER);
}

/* There is always a verdict at the ceiling. */
static void test_text_limits(void **state)
{
	static const struct {
		const char *start;
		char fill;
		enum sniff_kind kind;
	} t[] = {
		{"", 'a', SNIFF_OTHER},
		{"XYZ /", 'a', SNIFF_HTTP1},
		{"", '\n', SNIFF_HTTP1},
		{"", '\0', SNIFF_OTHER},
	};
	_free_ char *data = xmalloc(SNIFF_MAX);
	struct sniff s;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		memset(data, t[i].fill, SNIFF_MAX);
		memcpy(data, t[i].start, strlen(t[i].start));
		assert_int_equal(sniff(data, SNIFF_MAX, &s), t[i].kind);
	}
}

static void server_settings(void **state)
{
	static const uint8_t settings[] = {0, 0, 12, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100};
	static const uint8_t ack[] = {0, 0, 0, 4, 1, 0, 0, 0, 0};
	static const uint8_t odd[] = {0, 0, 13, 4, 0, 0, 0, 0, 0};

	assert_false(sniff_http2_settings(settings, 0));
	for (size_t n = 1; n <= sizeof(settings); n++)
		assert_true(sniff_http2_settings(settings, n));
	assert_false(sniff_http2_settings(ack, sizeof(ack)));
	assert_false(sniff_http2_settings(odd, sizeof(odd)));
	assert_false(sniff_http2_settings("SSH-2.0-x\r\n", 11));
	assert_false(sniff_http2_settings("\0\1", 3));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(server_settings),
		cmocka_unit_test(test_real_hellos),
		cmocka_unit_test(test_flipped_hellos),
		cmocka_unit_test(test_fragmented),
		cmocka_unit_test(test_extensions),
		cmocka_unit_test(test_tls_limits),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_text_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1 heads and bodies: what is understood, what is refused, and that splitting the input never
 * changes the result. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "gate/http1.h"

/* Parse @text byte by byte from exact-size memory, then at once; both must agree. */
static int parse(struct http1_head *h, const char *text, size_t len, struct err *err)
{
	struct http1_head whole = *h;
	struct err whole_err = {0};
	int r = 0, w;

	for (size_t n = 0; n <= len && r == 0; n++) {
		_free_ char *exact = xmalloc(n ? n : 1);

		memcpy(exact, text, n);
		r = http1_parse(h, exact, n, err);
	}
	w = http1_parse(&whole, text, len, &whole_err);
	assert_int_equal(r, w);
	if (r < 0) {
		assert_string_equal(err->msg, whole_err.msg);
		assert_int_equal(err->errnum, whole_err.errnum);
	}
	*h = whole; /* its slices point into @text */
	return r;
}

static int parse_request(struct http1_head *h, const char *text, struct err *err)
{
	http1_request_init(h);
	return parse(h, text, strlen(text), err);
}

#define H "Host: a.test\r\n"

static void test_request(void **state)
{
	static const char text[] = "POST /a/b?c=d&e HTTP/1.1\r\nHost:  A.Test:8080 "
				   "\r\nX-Empty:\r\ncontent-length:5\r\n"
				   "Accept: a,b\r\nX-Obs: \xe9\r\n\r\nhello";
	struct http1_head h;
	struct err err;

	assert_int_equal(parse_request(&h, text, &err), 1);
	assert_int_equal(h.size, strlen(text) - 5);
	assert_true(http1_slice_is(h.method, "POST"));
	assert_true(http1_slice_is(h.target, "/a/b?c=d&e"));
	assert_true(http1_slice_is(h.path, "/a/b"));
	assert_true(http1_slice_is(h.query, "c=d&e"));
	assert_int_equal(h.form, HTTP1_ORIGIN);
	assert_int_equal(h.minor, 1);
	assert_true(h.has_host);
	assert_string_equal(h.host.name, "a.test");
	assert_int_equal(h.port, 8080);
	assert_int_equal(h.n_headers, 5);
	assert_true(http1_slice_is(h.headers[0].value, "A.Test:8080"));
	assert_true(http1_slice_is(h.headers[1].value, ""));
	assert_int_equal(h.framing, HTTP1_LENGTH);
	assert_int_equal(h.content_length, 5);
	assert_true(h.keep_alive);
	assert_false(h.upgrade);
	assert_ptr_equal(http1_find(&h, "ACCEPT"), &h.headers[3]);
	assert_null(http1_find(&h, "Accep"));
	assert_true(http1_has_token(&h, "accept", "B"));
	assert_false(http1_has_token(&h, "accept", "c"));
}

/* Complete heads that must be refused, with the status to answer. */
static void test_refused_requests(void **state)
{
	static const struct {
		const char *text;
		int status;
	} t[] = {
		/* first line */
		{"\r\nGET / HTTP/1.1\r\n" H "\r\n", 400},
		{"GET /\r\n" H "\r\n", 400},
		{"GET / \r\n" H "\r\n", 400},
		{"GET  / HTTP/1.1\r\n" H "\r\n", 400},
		{"GET /  HTTP/1.1\r\n" H "\r\n", 400},
		{"GET / HTTP/1.1 \r\n" H "\r\n", 400},
		{" GET / HTTP/1.1\r\n" H "\r\n", 400},
		{"GET\t/\tHTTP/1.1\r\n" H "\r\n", 400},
		{"GET / a HTTP/1.1\r\n" H "\r\n", 400},
		{"GET / http/1.1\r\n" H "\r\n", 400},
		{"GET / HTTP/11\r\n" H "\r\n", 400},
		{"GET / HTTP/1.1x\r\n" H "\r\n", 400},
		{"GET / HTTP/+1.1\r\n" H "\r\n", 400},
		{"GET / HTTP/0.9\r\n" H "\r\n", 505},
		{"GET / HTTP/1.2\r\n" H "\r\n", 505},
		{"GET / HTTP/2.0\r\n" H "\r\n", 505},
		{"get / HTTP/1.1\r\n" H "\r\n", 400},
		{"G@T / HTTP/1.1\r\n" H "\r\n", 400},
		{"TRACE / HTTP/1.1\r\n" H "\r\n", 501},
		{"TRACK / HTTP/1.1\r\n" H "\r\n", 501},
		{"GET /#frag HTTP/1.1\r\n" H "\r\n", 400},
		{"GET /\xc3\xbc HTTP/1.1\r\n" H "\r\n", 400},
		{"GET a HTTP/1.1\r\n" H "\r\n", 400},
		{"GET ftp://a.test/ HTTP/1.1\r\n" H "\r\n", 400},
		{"GET * HTTP/1.1\r\n" H "\r\n", 400},
		{"GET a.test:80 HTTP/1.1\r\n" H "\r\n", 400},
		{"CONNECT / HTTP/1.1\r\n" H "\r\n", 400},
		{"CONNECT a.test HTTP/1.1\r\n" H "\r\n", 400},
		{"CONNECT a.test:443 HTTP/1.1\r\nHost: b.test\r\n\r\n", 400},
		{"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:80\r\n\r\n", 400},
		{"CONNECT a.test:443 HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", 400},
		/* line structure */
		{"GET / HTTP/1.1\n" H "\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a.test\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" H "X: a\rb\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" H "\n", 400},
		{"GET / HTTP/1.1\r\r\n" H "\r\n", 400},
		{"GET / HTTP/1.1\r\n" H "X: a\x01\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" H "X: a\x7f\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" H "X: a\x0b\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" H "X: a\r\n\tb\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n Host: a.test\r\n\r\n", 400},
		/* fields */
		{"GET / HTTP/1.1\r\nHost : a.test\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" H ": x\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" H "nocolon\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" H "a b: x\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" H "a\xc3\xa9: x\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" H "a(b): x\r\n\r\n", 400},
		/* host */
		{"GET / HTTP/1.1\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" H H "\r\n", 400},
		{"GET / HTTP/1.0\r\n" H "host: b.test\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a.test b.test\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: u@a.test\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a.test:\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a.test:99999\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: 0x7f.1\r\n\r\n", 400},
		{"GET http://b.test/ HTTP/1.1\r\n" H "\r\n", 400},
		{"GET http://a.test:81/ HTTP/1.1\r\n" H "\r\n", 400},
		{"GET http://a.test/ HTTP/1.1\r\nHost: a.test:443\r\n\r\n", 400},
		{"GET http://u:p@a.test/ HTTP/1.1\r\n" H "\r\n", 400},
		{"GET http:///x HTTP/1.1\r\n" H "\r\n", 400},
		{"GET http://a.test\\@b.test/ HTTP/1.1\r\n" H "\r\n", 400},
		/* framing */
		{"POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
			400},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
			400},
		{"POST / HTTP/1.1\r\n" H "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Content-Length: 5\r\ncontent-length: 6\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Content-Length: 5, 5\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Content-Length: +5\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Content-Length: -5\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Content-Length: 0x5\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Content-Length: 05\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Content-Length: 5 \x0b\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Content-Length: 5 6\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Content-Length: 5.0\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551617\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Content-Length: 9999999999999999999\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Content-Length : 5\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Content_Length: 5\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Transfer_Encoding: chunked\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding_: chunked\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Content-Lengths: 5\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n", 501},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, identity\r\n\r\n", 501},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity, chunked\r\n\r\n", 501},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, chunked\r\n\r\n", 501},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n", 501},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked;q=1\r\n\r\n", 501},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: \"chunked\"\r\n\r\n", 501},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked,\r\n\r\n", 501},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n", 501},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding: \x0b"
		 "chunked\r\n\r\n",
			400},
		{"POST / HTTP/1.1\r\n" H
		 "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
			400},
		{"POST / HTTP/1.1\r\n" H
		 "Transfer-Encoding: chunked\r\ntransfer-encoding: x\r\n\r\n",
			400},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding\r\n : chunked\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n chunked\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "Transfer-Encoding : chunked\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\n" H "X: y\nTransfer-Encoding: chunked\r\n\r\n", 400},
		{"POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n", 400},
		/* others */
		{"GET / HTTP/1.1\r\n" H "Authorization: a\r\nAuthorization: b\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" H "Expect: x\r\n\r\n", 417},
		{"GET / HTTP/1.1\r\n" H "Connection: close, Host\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" H "Connection: content-length\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\n" H "Connection: authorization\r\n\r\n", 400},
	};
	struct http1_head h;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct err err = {0};
		int r = parse_request(&h, t[i].text, &err);

		if (r != -1 || err.errnum != t[i].status)
			fail_msg("%d (%d %s) for: %s", r, err.errnum, err.msg, t[i].text);
		assert_int_equal(err.class, ERR_PEER);
	}
	/* NUL bytes. */
	http1_request_init(&h);
	assert_int_equal(parse(&h, "GET /\0 HTTP/1.1\r\n\r\n", 19, &(struct err){0}), -1);
	http1_request_init(&h);
	assert_int_equal(parse(&h, "GET / HTTP/1.1\r\nX: \0\r\n\r\n", 24, &(struct err){0}), -1);
}

static void test_accepted_requests(void **state)
{
	static const struct {
		const char *text;
		enum http1_form form;
		const char *host, *path;
		unsigned port;
		enum http1_framing framing;
		bool keep, upgrade, expect;
	} t[] = {
		{"GET / HTTP/1.1\r\n" H "\r\n", HTTP1_ORIGIN, "a.test", "/", 0, HTTP1_NO_BODY,
			true},
		{"GET / HTTP/1.0\r\n\r\n", HTTP1_ORIGIN, NULL, "/", 0, HTTP1_NO_BODY, false},
		{"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", HTTP1_ORIGIN, NULL, "/", 0,
			HTTP1_NO_BODY, true},
		{"GET / HTTP/1.1\r\n" H "Connection: x, close\r\n\r\n", HTTP1_ORIGIN, "a.test", "/",
			0, HTTP1_NO_BODY, false},
		{"GET HTTP://A.test HTTP/1.1\r\nHost: a.test:80\r\n\r\n", HTTP1_ABSOLUTE, "a.test",
			"", 0, HTTP1_NO_BODY, true},
		{"GET https://a.test:443/x?y HTTP/1.1\r\nHost: a.test\r\n\r\n", HTTP1_ABSOLUTE,
			"a.test", "/x", 443, HTTP1_NO_BODY, true},
		{"GET http://a.test?y HTTP/1.0\r\n\r\n", HTTP1_ABSOLUTE, "a.test", "", 0,
			HTTP1_NO_BODY, false},
		{"GET / HTTP/1.1\r\nHost: [2001:DB8::1]:80\r\n\r\n", HTTP1_ORIGIN, "2001:db8::1",
			"/", 80, HTTP1_NO_BODY, true},
		{"OPTIONS * HTTP/1.1\r\n" H "\r\n", HTTP1_ASTERISK, "a.test", NULL, 0,
			HTTP1_NO_BODY, true},
		{"CONNECT a.test:443 HTTP/1.1\r\n" H "\r\n", HTTP1_AUTHORITY, "a.test", NULL, 443,
			HTTP1_NO_BODY, true},
		{"PUT / HTTP/1.1\r\n" H "Transfer-Encoding: \tChunked \r\n\r\n", HTTP1_ORIGIN,
			"a.test", "/", 0, HTTP1_CHUNKED, true},
		{"PUT / HTTP/1.1\r\n" H "Content-Length: 0\r\nExpect: 100-Continue\r\n\r\n",
			HTTP1_ORIGIN, "a.test", "/", 0, HTTP1_LENGTH, true, false, true},
		{"GET / HTTP/1.1\r\n" H "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
			HTTP1_ORIGIN, "a.test", "/", 0, HTTP1_NO_BODY, true, true},
		{"GET / HTTP/1.1\r\n" H "Upgrade: websocket\r\n\r\n", HTTP1_ORIGIN, "a.test", "/",
			0, HTTP1_NO_BODY, true, false},
		{"GET / HTTP/1.1\r\n" H "Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
		 "HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
			HTTP1_ORIGIN, "a.test", "/", 0, HTTP1_NO_BODY, true, false},
		{"M-SEARCH /|{}\"\\ HTTP/1.1\r\n" H "\r\n", HTTP1_ORIGIN, "a.test", "/|{}\"\\", 0,
			HTTP1_NO_BODY, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct http1_head h;
		struct err err = {0};

		if (parse_request(&h, t[i].text, &err) != 1)
			fail_msg("%s: %s", err.msg, t[i].text);
		assert_int_equal(h.form, t[i].form);
		assert_int_equal(h.has_host, t[i].host != NULL);
		if (t[i].host)
			assert_string_equal(h.host.name, t[i].host);
		if (t[i].path)
			assert_true(http1_slice_is(h.path, t[i].path));
		assert_int_equal(h.port, t[i].port);
		assert_int_equal(h.framing, t[i].framing);
		assert_int_equal(h.keep_alive, t[i].keep);
		assert_int_equal(h.upgrade, t[i].upgrade);
		assert_int_equal(h.expect_continue, t[i].expect);
	}
}

static int parse_response(
	struct http1_head *h, const char *request, const char *text, struct err *err)
{
	struct http1_head req;

	assert_int_equal(parse_request(&req, request, err), 1);
	http1_response_init(h, &req);
	return parse(h, text, strlen(text), err);
}

#define GET_  "GET / HTTP/1.1\r\n" H "\r\n"
#define HEAD_ "HEAD / HTTP/1.1\r\n" H "\r\n"
#define CONN_ "CONNECT a.test:443 HTTP/1.1\r\n" H "\r\n"
#define UPGR_ "GET / HTTP/1.1\r\n" H "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"

static void test_responses(void **state)
{
	static const struct {
		const char *request, *text;
		unsigned status; /* 0: refused */
		enum http1_framing framing;
		bool keep;
	} t[] = {
		{GET_, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, HTTP1_LENGTH, true},
		{GET_, "HTTP/1.1 200\r\nContent-Length: 5\r\n\r\n", 200, HTTP1_LENGTH, true},
		{GET_, "HTTP/1.1 200 \r\nContent-Length: 5\r\n\r\n", 200, HTTP1_LENGTH, true},
		{GET_, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, HTTP1_CHUNKED,
			true},
		{GET_, "HTTP/1.1 200 OK\r\n\r\n", 200, HTTP1_UNTIL_CLOSE, false},
		{GET_, "HTTP/1.0 200 OK\r\n\r\n", 200, HTTP1_UNTIL_CLOSE, false},
		{GET_, "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", 200, HTTP1_LENGTH, false},
		{GET_, "HTTP/1.1 204 No\r\n\r\n", 204, HTTP1_NO_BODY, true},
		{GET_, "HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", 204, HTTP1_NO_BODY, true},
		{GET_, "HTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\n", 304, HTTP1_NO_BODY, true},
		{GET_, "HTTP/1.1 100 Continue\r\n\r\n", 100, HTTP1_NO_BODY, true},
		{HEAD_, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, HTTP1_NO_BODY, true},
		{HEAD_, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, HTTP1_NO_BODY,
			true},
		{HEAD_, "HTTP/1.1 200 OK\r\n\r\n", 200, HTTP1_NO_BODY, true},
		{CONN_, "HTTP/1.1 200 OK\r\n\r\n", 200, HTTP1_TUNNEL, false},
		{CONN_, "HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\n", 403, HTTP1_LENGTH, true},
		{UPGR_, "HTTP/1.1 101 Switch\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
			101, HTTP1_TUNNEL, false},
		{GET_, "HTTP/1.1 999 \xe9\r\nContent-Length: 0\r\n\r\n", 999, HTTP1_LENGTH, true},
		{GET_, "HTTP/1.1 101 Switch\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", 0},
		{GET_, "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", 0},
		{GET_, "HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n", 0},
		{GET_, "HTTP/1.1 100 Go\r\nContent-Length: 5\r\n\r\n", 0},
		{GET_, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
			0},
		{GET_, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 0},
		{GET_, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0},
		{GET_, "HTTP/1.1 2OO OK\r\n\r\n", 0},
		{GET_, "HTTP/1.1 20 OK\r\n\r\n", 0},
		{GET_, "HTTP/1.1 2000 OK\r\n\r\n", 0},
		{GET_, "HTTP/1.1 099 OK\r\n\r\n", 0},
		{GET_, "HTTP/1.1  200 OK\r\n\r\n", 0},
		{GET_, "HTTP/2.0 200 OK\r\n\r\n", 0},
		{GET_, "ICY 200 OK\r\n\r\n\r\n", 0},
		{GET_, "HTTP/1.1 200 OK\n\n", 0},
		{GET_, "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", 0},
		{HEAD_, "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct http1_head h;
		struct err err = {0};
		int r = parse_response(&h, t[i].request, t[i].text, &err);

		if (r != (t[i].status ? 1 : -1))
			fail_msg("%d (%s) for: %s", r, err.msg, t[i].text);
		if (r < 0)
			continue;
		assert_int_equal(h.status, t[i].status);
		if (h.framing != t[i].framing || h.keep_alive != t[i].keep)
			fail_msg("framing %d keep %d for: %s", h.framing, h.keep_alive, t[i].text);
	}
}

static void test_ceilings(void **state)
{
	const size_t size = HTTP1_HEAD_MAX * 2;
	_free_ char *text = xmalloc(size);
	struct http1_head h;
	struct err err = {0};
	size_t n;

	memset(text, 'A', size);
	http1_request_init(&h);
	assert_int_equal(http1_parse(&h, text, HTTP1_LINE_MAX, &err), 0);
	assert_int_equal(http1_parse(&h, text, HTTP1_LINE_MAX + 1, &err), -1);
	assert_int_equal(err.errnum, 414);

	n = (size_t)snprintf(text, size, "GET / HTTP/1.1\r\n" H "X: ");
	memset(text + n, 'x', HTTP1_HEAD_MAX - n);
	memcpy(text + HTTP1_HEAD_MAX - 4, "\r\n\r\n", 4);
	http1_request_init(&h);
	assert_int_equal(http1_parse(&h, text, HTTP1_HEAD_MAX, &err), 1);
	memcpy(text + HTTP1_HEAD_MAX - 4, "x\r\n\r\n", 5);
	http1_request_init(&h);
	assert_int_equal(http1_parse(&h, text, HTTP1_HEAD_MAX + 1, &err), -1);
	assert_int_equal(err.errnum, 431);

	for (int fields = HTTP1_HEADERS_MAX; fields <= HTTP1_HEADERS_MAX + 1; fields++) {
		n = (size_t)snprintf(text, size, "GET / HTTP/1.1\r\n" H);
		for (int i = 1; i < fields; i++)
			n += (size_t)snprintf(text + n, size - n, "X: y\r\n");
		n += (size_t)snprintf(text + n, size - n, "\r\n");
		http1_request_init(&h);
		assert_int_equal(
			http1_parse(&h, text, n, &err), fields > HTTP1_HEADERS_MAX ? -1 : 1);
	}
	assert_int_equal(err.errnum, 431);
}

static void test_write(void **state)
{
	static const struct {
		const char *in, *out;
	} t[] = {
		{GET_, GET_},
		{"GET /a?b HTTP/1.1\r\nHost:a.test\r\nAccept:  x \r\nA: 1\r\nA: 2\r\n\r\n",
			"GET /a?b HTTP/1.1\r\nHost: a.test\r\nAccept: x\r\nA: 1\r\nA: 2\r\n\r\n"},
		{"GET http://a.test/a? HTTP/1.1\r\n" H "\r\n", "GET /a? HTTP/1.1\r\n" H "\r\n"},
		{"GET http://a.test?b HTTP/1.1\r\n" H "\r\n", "GET /?b HTTP/1.1\r\n" H "\r\n"},
		{"GET http://a.test HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n"},
		{"OPTIONS http://a.test HTTP/1.1\r\n" H "\r\n", "OPTIONS * HTTP/1.1\r\n" H "\r\n"},
		{CONN_, CONN_},
		{"GET / HTTP/1.1\r\nConnection: close, X-Hop\r\n" H "x-hop: 1\r\nKeep-Alive: 5\r\n"
		 "Proxy-Connection: keep-alive\r\nUpgrade: x\r\n\r\n",
			"GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n"},
		{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
			"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"},
		{"GET / HTTP/1.1\r\n" H
		 "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
			"GET / HTTP/1.1\r\n" H "Upgrade: websocket\r\nConnection: upgrade\r\n\r\n"},
		{"GET / HTTP/1.1\r\n" H "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\n"
		 "HTTP2-Settings: x\r\n\r\n",
			"GET / HTTP/1.1\r\n" H "\r\n"},
	};
	struct http1_head h;
	struct err err = {0};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		_buf_ struct buf out;

		buf_init(&out, 4096);
		assert_int_equal(parse_request(&h, t[i].in, &err), 1);
		assert_int_equal(http1_write(&h, NULL, 0, &out), 0);
		assert_string_equal(buf_cstr(&out), t[i].out);
		/* What we send, we would accept, and would send the same way. */
		assert_int_equal(parse_request(&h, t[i].out, &err), 1);
	}
}

static void test_write_edits(void **state)
{
	static const char req[] =
		"GET / HTTP/1.1\r\n" H "authorization: Bearer proxy-managed\r\nX: y\r\n\r\n";
	const struct http1_edit good[] = {
		{"Authorization", "Bearer s3cret", 13},
		{"x", NULL, 0},
		{"Connection", "close", 5},
	};
	const struct http1_edit bad[] = {
		{"Authorization", "a\r\nX: y", 7},
		{"Authorization", "a\0b", 3},
		{"Authoriz ation", "a", 1},
		{"", "a", 1},
	};
	struct http1_head h;
	struct err err = {0};
	_buf_ struct buf out;

	buf_init(&out, 4096);
	assert_int_equal(parse_request(&h, req, &err), 1);
	assert_int_equal(http1_write(&h, good, ARRAY_SIZE(good), &out), 0);
	assert_string_equal(buf_cstr(&out),
		"GET / HTTP/1.1\r\n" H "Authorization: Bearer s3cret\r\n"
		"Connection: close\r\n\r\n");
	buf_reset(&out);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(http1_write(&h, &bad[i], 1, &out), -1);
		assert_int_equal(buf_len(&out), 0);
	}
	/* No room: nothing is written, and the buffer is not spoiled. */
	for (size_t max = 0; max < 400; max++) {
		_buf_ struct buf small;
		int r;

		buf_init(&small, max);
		r = http1_write(&h, good, ARRAY_SIZE(good), &small);
		assert_false(small.failed);
		if (r < 0)
			assert_int_equal(buf_len(&small), 0);
	}
}

static void test_write_response(void **state)
{
	struct http1_head h;
	struct err err = {0};
	_buf_ struct buf out;

	buf_init(&out, 4096);
	assert_int_equal(
		parse_response(&h, GET_, "HTTP/1.1 200\r\nA:b\r\nUpgrade: h2c\r\n\r\n", &err), 1);
	assert_int_equal(http1_write(&h, NULL, 0, &out), 0);
	assert_string_equal(buf_cstr(&out), "HTTP/1.1 200 \r\nA: b\r\nConnection: close\r\n\r\n");
	buf_reset(&out);
	assert_int_equal(parse_response(&h, UPGR_,
				 "HTTP/1.1 101 Go\r\nUpgrade: websocket\r\n"
				 "Connection: Upgrade\r\n\r\n",
				 &err),
		1);
	assert_int_equal(http1_write(&h, NULL, 0, &out), 0);
	assert_string_equal(buf_cstr(&out), "HTTP/1.1 101 Go\r\nUpgrade: websocket\r\n"
					    "Connection: upgrade\r\n\r\n");
	buf_reset(&out);
	assert_int_equal(parse_response(&h, GET_,
				 "HTTP/1.1 103 Hints\r\nConnection: x, close\r\n\r\n", &err),
		1);
	assert_int_equal(http1_write(&h, NULL, 0, &out), 0);
	assert_string_equal(buf_cstr(&out), "HTTP/1.1 103 Hints\r\nConnection: close\r\n\r\n");
}

/* Feed @in in steps of @step bytes into a buffer with @room bytes, drained each time. Returns the
 * last result, *ret_used the bytes consumed. */
static int feed(const struct http1_head *h, const char *in, size_t len, size_t step, size_t room,
	struct buf *all, size_t *ret_used, struct http1_body *b)
{
	_buf_ struct buf out;
	struct err err;
	size_t used = 0, avail = 0, n;
	int r = 0;

	buf_init(&out, room);
	http1_body_init(b, h);
	while (r == 0) {
		size_t left = avail - used;
		_free_ char *exact = xmalloc(left ? left : 1);

		memcpy(exact, in + used, left);
		r = http1_body_feed(b, exact, left, &n, &out, &err);
		assert_true(n <= left);
		assert_false(out.failed);
		used += n;
		buf_put(all, buf_head(&out), buf_len(&out));
		/* Nothing came and nothing went: more input is needed. */
		if (r == 0 && n == 0 && buf_len(&out) == 0) {
			if (avail == len)
				break;
			avail = MIN(avail + step, len);
		}
		buf_reset(&out);
	}
	*ret_used = used;
	return r;
}

static void test_chunked(void **state)
{
	static const struct {
		const char *in, *out; /* out NULL: refused */
		size_t rest;          /* bytes behind the message */
		int result;
	} t[] = {
		{"5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", 0, 1},
		{"5\r\nhello\r\n0\r\n\r\nGET /", "5\r\nhello\r\n0\r\n\r\n", 5, 1},
		{"0\r\n\r\n", "0\r\n\r\n", 0, 1},
		{"0000\r\n\r\n", "0\r\n\r\n", 0, 1},
		{"00A;x=\"y\" z\r\n0123456789\r\n0;q\r\n\r\n", "a\r\n0123456789\r\n0\r\n\r\n", 0,
			1},
		{"1\r\na\r\n1\r\nb\r\n0\r\n\r\n", "1\r\na\r\n1\r\nb\r\n0\r\n\r\n", 0, 1},
		{"1\r\na\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n!", "1\r\na\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n",
			1, 1},
		{"5\r\nhel", "5\r\nhel", 0, 0},
		{"0\r\n", "", 0, 0},
		{"5\r\nhello\r\n0\r\n\r", "5\r\nhello\r\n", 0, 0},
		{"", "", 0, 0},
		{"\r\n", NULL},
		{" 5\r\nhello\r\n0\r\n\r\n", NULL},
		{"5 \r\nhello\r\n0\r\n\r\n", NULL},
		{"5 ;x\r\nhello\r\n0\r\n\r\n", NULL},
		{"+5\r\nhello\r\n0\r\n\r\n", NULL},
		{"-1\r\n", NULL},
		{"0x5\r\nhello\r\n0\r\n\r\n", NULL},
		{"g\r\n", NULL},
		{";x\r\n", NULL},
		{"5\nhello\r\n0\r\n\r\n", NULL},
		{"5\rhello\r\n0\r\n\r\n", NULL},
		{"5;\nhello\r\n0\r\n\r\n", NULL},
		{"5;a\x01\r\nhello\r\n0\r\n\r\n", NULL},
		{"5\r\nhelloX\r\n0\r\n\r\n", NULL},
		{"5\r\nhello\n0\r\n\r\n", NULL},
		{"5\r\nhello0\r\n\r\n", NULL},
		{"10000000000000000\r\n", NULL},
		{"0000000000000005\r\n", NULL},
		{"ffffffffffffffffffff\r\n", NULL},
		{"0\r\nX\r\n\r\n", NULL},
		{"0\r\n X: y\r\n\r\n", NULL},
		{"0\r\nX : y\r\n\r\n", NULL},
		{"0\r\nX: y\n\r\n", NULL},
		{"0\r\nX: y\r\r\n\r\n", NULL},
		{"0\r\n\n", NULL},
		{"0\r\nContent-Length: 5\r\n\r\n", NULL},
		{"0\r\ntransfer-encoding: chunked\r\n\r\n", NULL},
		{"0\r\nHost: b.test\r\n\r\n", NULL},
		{"0\r\nAuthorization: x\r\n\r\n", NULL},
	};
	const struct http1_head h = {.framing = HTTP1_CHUNKED};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		size_t len = strlen(t[i].in);

		for (size_t step = 1; step <= len + 1; step++) {
			_buf_ struct buf all;
			struct http1_body b;
			size_t used;
			int r;

			buf_init(&all, 65536);
			r = feed(&h, t[i].in, len, step, step % 2 ? 24 : 1000, &all, &used, &b);
			if (r != (t[i].out ? t[i].result : -1))
				fail_msg("%d for step %zu of: %s", r, step, t[i].in);
			if (r >= 0) {
				assert_string_equal(buf_cstr(&all), t[i].out);
				assert_int_equal(used, len - t[i].rest);
				assert_int_equal(http1_body_eof(&b), r == 1);
			}
			http1_body_done(&b);
		}
	}
}

static void test_chunked_ceilings(void **state)
{
	const size_t size = 65536;
	const struct http1_head h = {.framing = HTTP1_CHUNKED};
	_free_ char *text = xmalloc(size);

	for (int trailer = 0; trailer < 2; trailer++) {
		for (int long_one = 0; long_one < 2; long_one++) {
			_buf_ struct buf all;
			struct http1_body b;
			size_t used,
				n = long_one ? HTTP1_TRAILER_MAX + 10 : HTTP1_TRAILER_MAX - 100;
			size_t len = (size_t)snprintf(text, size, trailer ? "0\r\nX: " : "1;");

			buf_init(&all, 65536);
			memset(text + len, 'x', n);
			len += n;
			len += (size_t)snprintf(text + len, size - len,
				trailer ? "\r\n\r\n" : "\r\na\r\n0\r\n\r\n");
			assert_int_equal(
				feed(&h, text, len, 100, 1000, &all, &used, &b), long_one ? -1 : 1);
			http1_body_done(&b);
		}
	}
}

static void test_other_bodies(void **state)
{
	static const struct {
		enum http1_framing framing;
		uint64_t length;
		const char *in, *out;
		int result;
		bool eof_fine;
	} t[] = {
		{HTTP1_NO_BODY, 0, "next", "", 1, true},
		{HTTP1_LENGTH, 0, "next", "", 1, true},
		{HTTP1_LENGTH, 4, "bodynext", "body", 1, true},
		{HTTP1_LENGTH, 4, "bod", "bod", 0, false},
		{HTTP1_LENGTH, UINT64_MAX >> 1, "bod", "bod", 0, false},
		{HTTP1_UNTIL_CLOSE, 0, "0\r\n\r\nall", "0\r\n\r\nall", 0, true},
		{HTTP1_TUNNEL, 0, "any", "any", 0, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		const struct http1_head h = {
			.framing = t[i].framing, .content_length = t[i].length};

		for (size_t step = 1; step < 10; step++) {
			_buf_ struct buf all;
			struct http1_body b;
			size_t used;

			buf_init(&all, 4096);
			assert_int_equal(
				feed(&h, t[i].in, strlen(t[i].in), step, 24, &all, &used, &b),
				t[i].result);
			assert_string_equal(buf_cstr(&all), t[i].out);
			assert_int_equal(used, strlen(t[i].out));
			assert_int_equal(b.received, strlen(t[i].out));
			assert_int_equal(http1_body_eof(&b), t[i].eof_fine);
			http1_body_done(&b);
		}
	}
	http1_body_done(&(struct http1_body){0});
}

static void test_log_path(void **state)
{
	static const struct {
		const char *target, *path;
	} t[] = {
		{"/", "/"},
		{"/a/b?token=secret", "/a/b"},
		{"/a/./b/../c", "/a/c"},
		{"/..", "/"},
		{"/../../a", "/a"},
		{"/a/b/..", "/a/"},
		{"/a/.", "/a/"},
		{"/a/%2e%2E/b", "/b"},
		{"/a%2fb/%41%7e%c3%bc", "/a%2Fb/A~%C3%BC"},
		{"/a%", "/a%"},
		{"/a%4", "/a%4"},
		{"/a%zz", "/a%zz"},
		{"//a//", "//a//"},
		{"/...", "/..."},
		{"/.a/..b", "/.a/..b"},
		{"http://a.test", "/"},
		{"http://a.test/x/../y", "/y"},
		{"http://a.test?q", "/"},
	};
	struct http1_head h;
	struct err err = {0};
	char text[256], path[64], small[8];

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\n" H "\r\n", t[i].target);
		assert_int_equal(parse_request(&h, text, &err), 1);
		assert_string_equal(http1_log_path(&h, path, sizeof(path)), t[i].path);
	}
	assert_int_equal(parse_request(&h, "GET /0123456789 HTTP/1.1\r\n" H "\r\n", &err), 1);
	assert_string_equal(http1_log_path(&h, small, sizeof(small)), "/012...");
	assert_int_equal(parse_request(&h, CONN_, &err), 1);
	assert_string_equal(http1_log_path(&h, path, sizeof(path)), "");
	assert_int_equal(parse_request(&h, "OPTIONS * HTTP/1.1\r\n" H "\r\n", &err), 1);
	assert_string_equal(http1_log_path(&h, path, sizeof(path)), "*");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_refused_requests),
		cmocka_unit_test(test_accepted_requests),
		cmocka_unit_test(test_responses),
		cmocka_unit_test(test_ceilings),
		cmocka_unit_test(test_write),
		cmocka_unit_test(test_write_edits),
		cmocka_unit_test(test_write_response),
		cmocka_unit_test(test_chunked),
		cmocka_unit_test(test_chunked_ceilings),
		cmocka_unit_test(test_other_bodies),
		cmocka_unit_test(test_log_path),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as an HTTP/1 conversation. First byte: how to cut the input, and request or response.
 * Properties: cutting never changes the result; what is sent on parses again with the same meaning;
 * a normalised body decodes to itself. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gate/http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define OUT_MAX (1u << 20)

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void init(struct http1_head *h, unsigned mode)
{
	static const char *const requests[] = {
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
		"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
	};
	static struct http1_head request;

	if (!(mode & 0x80)) {
		http1_request_init(h);
		return;
	}
	http1_request_init(&request);
	require(http1_parse(&request, requests[mode >> 5 & 3], strlen(requests[mode >> 5 & 3]),
			NULL) == 1);
	http1_response_init(h, &request);
}

/* Feed a growing prefix from exact-size memory, @step bytes more each time. */
static int parse_cut(
	struct http1_head *h, const uint8_t *p, size_t len, size_t step, struct err *err)
{
	size_t n = 0;

	for (;;) {
		_free_ uint8_t *exact = malloc(n ? n : 1);
		int r;

		memcpy(exact, p, n);
		r = http1_parse(h, exact, n, err);
		if (r != 0 || n == len)
			return r;
		n = MIN(n + step, len);
	}
}

/* Decode a body in cuts; all output to @all. */
static int body_cut_as(const struct http1_head *h, enum http1_written written, struct filter *f,
	const uint8_t *p, size_t len, size_t step, size_t room, struct buf *all, size_t *ret_used,
	bool *ret_eof)
{
	struct http1_body b;
	_buf_ struct buf out;
	size_t used = 0, avail = MIN(step, len), n;
	int r = 0;

	buf_init(&out, room);
	http1_body_init(&b, h);
	b.written = written;
	b.filter = f;
	while (r == 0) {
		r = http1_body_feed(&b, p + used, avail - used, &n, &out, NULL);
		require(n <= avail - used && !out.failed);
		used += n;
		require(buf_put(all, buf_head(&out), buf_len(&out)) == 0);
		if (r == 0 && n == 0 && buf_len(&out) == 0) {
			if (avail == len)
				break;
			avail = MIN(avail + step, len);
		}
		buf_reset(&out);
	}
	*ret_eof = http1_body_eof(&b);
	if (r == 0 && *ret_eof)
		require(http1_body_end(&b, all) == 1);
	http1_body_done(&b);
	*ret_used = used;
	return r;
}

static int body_cut(const struct http1_head *h, const uint8_t *p, size_t len, size_t step,
	size_t room, struct buf *all, size_t *ret_used, bool *ret_eof)
{
	int r = body_cut_as(h, HTTP1_AS_READ, NULL, p, len, step, room, all, ret_used, ret_eof);

	require(buf_len(all) <= *ret_used);
	return r;
}

/* Masked on the way is the same as masked afterwards, whatever the framing becomes. */
static void check_filter(const struct http1_head *h, const uint8_t *p, size_t len, size_t step)
{
	struct filter *f = filter_new();
	struct http1_head chunked = *h;
	_buf_ struct buf bare, masked, again;
	bool eof, eof2;
	size_t used;
	int r;

	buf_init(&bare, OUT_MAX);
	buf_init(&masked, OUT_MAX);
	buf_init(&again, OUT_MAX);
	require(filter_add_mask(f, "secret", 6) == 0 && filter_add_mask(f, "aaaa", 4) == 0);
	r = body_cut_as(h, HTTP1_BARE, NULL, p, len, len + 1, OUT_MAX, &bare, &used, &eof);
	require(body_cut_as(h,
			h->framing == HTTP1_LENGTH && (len & 1) ? HTTP1_AS_READ : HTTP1_IN_CHUNKS,
			f, p, len, step, 100 + step, &masked, &used, &eof2) == r);
	require(eof == eof2);
	if (r == 1 || eof) {
		if (!(h->framing == HTTP1_LENGTH && (len & 1)))
			chunked.framing = HTTP1_CHUNKED;
		if (h->framing == HTTP1_NO_BODY)
			chunked.framing = HTTP1_NO_BODY;
		require(body_cut_as(&chunked, HTTP1_BARE, NULL, buf_head(&masked), buf_len(&masked),
				7, 100, &again, &used, &eof) == 1);
		filter_in_place(f, buf_head(&bare), buf_len(&bare));
		require(buf_len(&bare) == buf_len(&again));
		for (size_t i = 0, run = 0; i < buf_len(&bare); i++) {
			run = buf_head(&bare)[i] == buf_head(&again)[i] ? 0 : run + 1;
			require(run <= FILTER_LEAD);
		}
	}
	filter_free(f);
}

static void check_body(const struct http1_head *h, const uint8_t *p, size_t len, size_t step)
{
	_buf_ struct buf one, two, three;
	size_t used1, used2, used3;
	bool eof1, eof2, eof3;
	int r1, r2;

	buf_init(&one, OUT_MAX);
	buf_init(&two, OUT_MAX);
	buf_init(&three, OUT_MAX);
	r1 = body_cut(h, p, len, len + 1, OUT_MAX, &one, &used1, &eof1);
	r2 = body_cut(h, p, len, step, 24 + step * 3, &two, &used2, &eof2);
	require(r1 == r2 && used1 == used2 && eof1 == eof2);
	require(buf_len(&one) == buf_len(&two));
	require(buf_len(&one) == 0 || memcmp(buf_head(&one), buf_head(&two), buf_len(&one)) == 0);
	if (r1 != 1)
		return;
	/* A complete normalised body is its own normal form. */
	require(body_cut(h, buf_head(&one), buf_len(&one), 7, 100, &three, &used3, &eof3) == 1);
	require(used3 == buf_len(&one) && buf_len(&three) == buf_len(&one));
	require(used3 == 0 || memcmp(buf_head(&one), buf_head(&three), used3) == 0);
}

/* What is written must mean the same to the next reader. */
static void check_write(const struct http1_head *h, unsigned mode)
{
	const struct http1_edit edit = {"X-Added", "v", 1};
	static struct http1_head again;
	_buf_ struct buf out;
	struct err err;

	buf_init(&out, OUT_MAX);
	require(http1_write(h, NULL, 0, &out) == 0);
	init(&again, mode);
	/* One Connection field more may pass the ceiling of fields. */
	if (h->n_headers == HTTP1_HEADERS_MAX || buf_len(&out) > HTTP1_HEAD_MAX)
		return;
	require(http1_parse(&again, buf_head(&out), buf_len(&out), &err) == 1);
	require(again.size == buf_len(&out));
	require(again.framing == h->framing && again.content_length == h->content_length);
	require(again.minor == h->minor && again.status == h->status);
	require(again.keep_alive == h->keep_alive && again.upgrade == h->upgrade);
	if (h->has_host)
		require(again.has_host && strcmp(again.host.name, h->host.name) == 0);
	if (h->form != HTTP1_ABSOLUTE)
		require(again.form == h->form);
	buf_reset(&out);
	require(http1_write(h, &edit, 1, &out) == 0);
	require(memmem(buf_head(&out), buf_len(&out), "X-Added: v\r\n\r\n", 14) != NULL);
}

static void check_path(const struct http1_head *h)
{
	char path[300], small[16];

	http1_log_path(h, path, sizeof(path));
	for (const char *s = path; *s; s++)
		require(*s > ' ' && *s < 0x7f);
	require(!strstr(path, "/../") && !strchr(path, '?'));
	require(strlen(http1_log_path(h, small, sizeof(small))) < sizeof(small));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct http1_head one, two;
	struct err err1 = {0}, err2 = {0};
	unsigned mode = size ? data[0] : 0;
	size_t step = (mode & 0x1f) + 1;
	int r1, r2;

	if (size < 1)
		return 0;
	data++;
	size--;
	if (size > 3000)
		step += 100;
	init(&one, mode);
	init(&two, mode);
	r2 = parse_cut(&two, data, size, step, &err2);
	r1 = http1_parse(&one, data, size, &err1);
	require(r1 == r2 && err1.errnum == err2.errnum && strcmp(err1.msg, err2.msg) == 0);
	if (r1 != 1)
		return 0;
	require(one.size == two.size && one.framing == two.framing &&
		one.n_headers == two.n_headers);
	check_write(&one, mode);
	if (!one.response)
		check_path(&one);
	check_body(&one, data + one.size, size - one.size, step);
	check_filter(&one, data + one.size, size - one.size, step);
	return 0;
}

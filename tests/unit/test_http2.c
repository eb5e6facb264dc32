/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 between two real peers, a client and a server on nghttp2, with the gate's engine in the
 * middle: what passes, what is held back, what ends how. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <nghttp2/nghttp2.h>

#include "base/mem.h"
#include "gate/http2.h"

#define STREAMS 4096
#define FULL    65536u

/* What a peer knows of a stream; by id. */
struct seen {
	char head[1024]; /* "name: value\n" */
	char trailer[512];
	unsigned interim;
	size_t body;
	uint32_t sum;
	bool ended, closed, in_trailer;
	uint32_t code;
	size_t to_send; /* of a body */
	const char *trailer_out;
};

struct peer {
	nghttp2_session *session;
	struct seen *seen;
	bool keeps_window; /* never gives it back */
	bool goaway;
	struct buf in; /* what the engine has sent */
};

static struct world {
	struct http2 *h;
	struct http2_budget budget;
	struct peer guest, server;
	/* What the owner does. */
	bool refuse, wait;
	const char *secret;
	size_t collect;
	struct filter *mask, *replace;
	bool hold, forbid;
	/* What happened. */
	unsigned whole_requests, whole_responses;
	unsigned requests, unreadable, answered, failed, ended;
	enum http2_end last_end;
	uint32_t last_code;
	uint64_t last_bytes[HTTP2_SIDES];
	unsigned last_status;
	int last_errnum;
	struct http2_stream *last;
	/* How. */
	size_t step; /* bytes at a time */
	bool broken; /* the engine has given up a side */
	bool no_server_read;
	uint64_t now;
} w;

/* ---- owner ---- */

static void owner_answer(struct http2_stream *s, unsigned status)
{
	static const char *const fields[] = {
		"content-type", "text/plain", "x-hutch-refused", "x", NULL};

	http2_answer(s, status, fields, "no", 2);
}

static void owner_forward(struct http2_stream *s)
{
	struct http1_edit edits[] = {{.name = "Authorization",
					     .value = w.secret,
					     .value_len = w.secret ? strlen(w.secret) : 0},
		{.name = "X-Drop"}};

	if (http2_forward(s, edits, w.secret ? 2 : 0) < 0)
		owner_answer(s, 431);
}

static void on_request(struct http2_stream *s)
{
	w.requests++;
	w.last = s;
	s->owner = &w;
	assert_non_null(s->head);
	assert_int_equal(
		s->head->has_host, s->head->form != HTTP1_AUTHORITY || s->head->host.name[0]);
	if (w.refuse)
		owner_answer(s, 403);
	else if (w.collect)
		http2_collect(s, w.collect);
	else if (!w.wait) {
		if (w.replace)
			http2_filter(s, HTTP2_GUEST, w.replace);
		owner_forward(s);
	}
}

static void on_unreadable(struct http2_stream *s, const struct err *err)
{
	w.unreadable++;
	w.last_errnum = err->errnum;
	assert_null(s->head);
	owner_answer(s, (unsigned)err->errnum);
}

static void on_whole_request(struct http2_stream *s)
{
	w.whole_requests++;
	if (!http2_body_ended(s)) {
		owner_answer(s, 413);
		return;
	}
	buf_puts(http2_body(s), "+changed");
	owner_forward(s);
}

static int on_response(struct http2_stream *s, struct http1_head *h, struct err *err)
{
	if (h->status < 200)
		return 0;
	w.answered++;
	if (w.mask)
		http2_filter(s, HTTP2_SERVER, w.mask);
	if (w.forbid)
		return err_set(err, ERR_PEER, "not allowed");
	return w.hold;
}

static int on_whole_response(struct http2_stream *s, struct buf *body, struct err *err)
{
	w.whole_responses++;
	buf_reset(body);
	buf_puts(body, "sentinel");
	return 0;
}

static void on_failed(struct http2_stream *s, const char *reason)
{
	w.failed++;
	owner_answer(s, 502);
}

static void on_ended(struct http2_stream *s)
{
	w.ended++;
	w.last_end = s->end;
	w.last_code = s->error;
	w.last_status = s->status;
	memcpy(w.last_bytes, s->bytes, sizeof(w.last_bytes));
}

static const struct http2_ops ops = {on_request, on_unreadable, on_whole_request, on_response,
	on_whole_response, on_failed, on_ended};

/* ---- peers ---- */

static int peer_begin(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct peer *p = arg;
	struct seen *s = &p->seen[frame->hd.stream_id];

	s->in_trailer = strstr(s->head, ":method") || strstr(s->head, ":status: 2");
	return 0;
}

static int peer_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
	size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags, void *arg)
{
	struct peer *p = arg;
	struct seen *s = &p->seen[frame->hd.stream_id];
	char *to = s->in_trailer ? s->trailer : s->head;
	size_t size = s->in_trailer ? sizeof(s->trailer) : sizeof(s->head), n;

	if (name_len == 7 && memcmp(name, ":status", 7) == 0 && value[0] == '1')
		s->interim++;
	n = strlen(to);
	snprintf(to + n, size - n, "%.*s: %.*s%s\n", (int)name_len, name, (int)MIN(value_len, 300u),
		value, flags & NGHTTP2_NV_FLAG_NO_INDEX ? " (never indexed)" : "");
	return 0;
}

static int peer_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
	size_t len, void *arg)
{
	struct peer *p = arg;

	p->seen[id].body += len;
	for (size_t i = 0; i < len; i++)
		p->seen[id].sum = p->seen[id].sum * 31 + data[i];
	if (!p->keeps_window)
		nghttp2_session_consume(session, id, len);
	else
		nghttp2_session_consume_connection(session, len);
	return 0;
}

static ssize_t peer_body(nghttp2_session *session, int32_t id, uint8_t *to, size_t len,
	uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	struct seen *s = source->ptr;
	size_t n = MIN(len, s->to_send);

	for (size_t i = 0; i < n; i++)
		to[i] = (uint8_t)(s->to_send - i);
	s->to_send -= n;
	if (s->to_send > 0)
		return (ssize_t)n;
	*flags |= NGHTTP2_DATA_FLAG_EOF;
	if (s->trailer_out) {
		nghttp2_nv nv = {(uint8_t *)(uintptr_t) "grpc-status",
			(uint8_t *)(uintptr_t)s->trailer_out, 11, strlen(s->trailer_out), 0};

		*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
		nghttp2_submit_trailer(session, id, &nv, 1);
	}
	return (ssize_t)n;
}

static nghttp2_data_provider body_of(struct seen *s)
{
	return (nghttp2_data_provider){.source = {.ptr = s}, .read_callback = peer_body};
}

static int peer_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct peer *p = arg;

	if (frame->hd.type == NGHTTP2_GOAWAY)
		p->goaway = true;
	if ((frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) &&
		frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
		p->seen[frame->hd.stream_id].ended = true;
	return 0;
}

static int peer_closed(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
	struct peer *p = arg;

	p->seen[id].closed = true;
	p->seen[id].code = code;
	return 0;
}

static void peer_init(struct peer *p, bool client, uint32_t window)
{
	nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window}};
	nghttp2_session_callbacks *c;
	nghttp2_option *o;

	p->seen = calloc(STREAMS, sizeof(*p->seen));
	nghttp2_session_callbacks_new(&c);
	nghttp2_session_callbacks_set_on_begin_headers_callback(c, peer_begin);
	nghttp2_session_callbacks_set_on_header_callback(c, peer_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, peer_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(c, peer_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(c, peer_closed);
	nghttp2_option_new(&o);
	nghttp2_option_set_no_auto_window_update(o, 1);
	nghttp2_option_set_max_send_header_block_length(o, 1u << 20);
	nghttp2_option_set_no_http_messaging(o, 1); /* may send what is not right */
	if (client)
		nghttp2_session_client_new2(&p->session, c, p, o);
	else
		nghttp2_session_server_new2(&p->session, c, p, o);
	nghttp2_session_callbacks_del(c);
	nghttp2_option_del(o);
	nghttp2_submit_settings(p->session, 0, settings, 1);
	buf_init(&p->in, 1u << 24);
}

static void peer_done(struct peer *p)
{
	nghttp2_session_del(p->session);
	buf_done(&p->in);
	free(p->seen);
}

static void start(size_t step)
{
	w = (struct world){.budget = {.max = 64u << 20}, .step = step};
	peer_init(&w.guest, true, 65535);
	peer_init(&w.server, false, 65535);
	w.h = http2_new(&ops, &w.budget, &w);
	assert_non_null(w.h);
	assert_int_equal(http2_start_server(w.h), 0);
}

static void finish(void)
{
	http2_free(w.h);
	assert_int_equal(w.budget.used, 0);
	peer_done(&w.guest);
	peer_done(&w.server);
}

/* ---- moving bytes ---- */

static bool to_engine(struct peer *p, enum http2_side side)
{
	const uint8_t *data;
	ssize_t n = nghttp2_session_mem_send(p->session, &data);
	struct err err;
	bool moved = n > 0;

	for (size_t at = 0; n > 0 && at < (size_t)n && !w.broken;) {
		struct buf cut;
		size_t len = MIN(w.step, (size_t)n - at);

		buf_init(&cut, len);
		buf_put(&cut, data + at, len);
		if (http2_feed(w.h, side, &cut, w.now, &err) < 0)
			w.broken = true;
		else
			assert_int_equal(buf_len(&cut), 0); /* these peers never flood */
		buf_done(&cut);
		at += len;
	}
	return moved;
}

static bool from_engine(struct peer *p, enum http2_side side)
{
	_buf_ struct buf out;
	struct err err;

	buf_init(&out, 1u << 22);
	if (w.broken || http2_pull(w.h, side, &out, FULL, &err) < 0) {
		w.broken = true;
		return false;
	}
	if (buf_len(&out) == 0)
		return false;
	assert_int_equal(
		nghttp2_session_mem_recv(p->session, buf_head(&out), buf_len(&out)), buf_len(&out));
	return true;
}

static void pump(void)
{
	bool moved = true;

	while (moved && !w.broken) {
		moved = to_engine(&w.guest, HTTP2_GUEST);
		if (http2_has_server(w.h))
			moved |= to_engine(&w.server, HTTP2_SERVER);
		moved |= from_engine(&w.guest, HTTP2_GUEST);
		moved |= from_engine(&w.server, HTTP2_SERVER);
	}
}

#define NV(n, v)                                                                                   \
	{                                                                                          \
		(uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), strlen(n), strlen(v), 0      \
	}

static int32_t ask(
	const char *method, const char *path, const char *name, const char *value, size_t body)
{
	nghttp2_nv nv[] = {NV(":method", method), NV(":scheme", "https"),
		NV(":authority", "api.test"), NV(":path", path), NV("x-drop", "1"),
		NV("authorization", "mine"), NV(name ? name : "", value ? value : "")};
	int32_t id = (int32_t)nghttp2_session_get_next_stream_id(w.guest.session);
	nghttp2_data_provider data = body_of(&w.guest.seen[id]);

	w.guest.seen[id].to_send = body;
	assert_int_equal(nghttp2_submit_request(w.guest.session, NULL, nv,
				 ARRAY_SIZE(nv) - (name ? 0 : 1), body ? &data : NULL, NULL),
		id);
	pump();
	return id;
}

static void reply(int32_t id, const char *status, size_t body, const char *trailer)
{
	nghttp2_nv nv[] = {NV(":status", status), NV("x-from", "server")};
	nghttp2_data_provider data = body_of(&w.server.seen[id]);

	w.server.seen[id].to_send = body;
	w.server.seen[id].trailer_out = trailer;
	if (status[0] == '1')
		nghttp2_submit_headers(w.server.session, 0, id, NULL, nv, 2, NULL);
	else
		nghttp2_submit_response(
			w.server.session, id, nv, 2, body || trailer ? &data : NULL);
	pump();
}

/* ---- tests ---- */

static void exchange(size_t step)
{
	int32_t id;

	start(step);
	w.secret = "Bearer secret";
	id = ask("POST", "/a/b?c=d", "x-more", "1", 100000);
	assert_string_equal(w.server.seen[id].head,
		":method: POST\n:scheme: https\n:authority: api.test\n"
		":path: /a/b?c=d (never indexed)\nx-more: 1\n"
		"authorization: Bearer secret (never indexed)\n");
	assert_int_equal(w.server.seen[id].body, 100000);
	assert_true(w.server.seen[id].ended);
	reply(id, "103", 0, NULL);
	assert_int_equal(w.guest.seen[id].interim, 1);
	assert_int_equal(w.answered, 0);
	reply(id, "200", 200000, "0");
	assert_int_equal(w.guest.seen[id].body, 200000);
	assert_string_equal(w.guest.seen[id].trailer, "grpc-status: 0 (never indexed)\n");
	assert_true(w.guest.seen[id].ended && w.guest.seen[id].closed);
	assert_int_equal(w.guest.seen[id].code, 0);
	assert_int_equal(w.ended, 1);
	assert_int_equal(w.last_end, HTTP2_COMPLETE);
	assert_int_equal(w.last_bytes[HTTP2_GUEST], 100000);
	assert_int_equal(w.last_bytes[HTTP2_SERVER], 200000);
	assert_int_equal(w.last_status, 200);
	finish();
}

static void test_exchange(void **state)
{
	exchange(65536);
	exchange(1);
	exchange(7);
}

static void test_many_streams(void **state)
{
	start(1000);
	for (int i = 0; i < 50; i++)
		ask("GET", "/", NULL, NULL, 0);
	for (int32_t id = 99; id > 0; id -= 2)
		reply(id, "200", 1000, NULL);
	for (int32_t id = 1; id < 100; id += 2)
		assert_int_equal(w.guest.seen[id].body, 1000);
	assert_int_equal(w.ended, 50);
	finish();
}

/* A receiver that takes nothing holds back its own stream only, and the sender beyond the windows.
 */
static void test_windows(void **state)
{
	int32_t slow, fast;

	start(65536);
	nghttp2_session_set_local_window_size(w.guest.session, 0, 0, 1 << 24);
	w.guest.keeps_window = true;
	slow = ask("GET", "/slow", NULL, NULL, 0);
	reply(slow, "200", 64u << 20, NULL);
	assert_int_equal(w.guest.seen[slow].body, 65535);
	/* What is with the engine is no more than the window; the rest is with the server. */
	assert_true((64u << 20) - w.server.seen[slow].to_send <= 65535 + HTTP2_SERVER_WINDOW);
	assert_true(w.budget.used < HTTP2_SERVER_WINDOW + (256u << 10));
	w.guest.keeps_window = false;
	fast = ask("GET", "/fast", NULL, NULL, 0);
	reply(fast, "200", 300000, NULL);
	assert_int_equal(w.guest.seen[fast].body, 300000);
	nghttp2_submit_rst_stream(w.guest.session, 0, slow, NGHTTP2_CANCEL);
	pump();
	assert_true(w.server.seen[slow].closed);
	assert_int_equal(w.server.seen[slow].code, NGHTTP2_CANCEL);
	assert_true(w.budget.used < 256u << 10);
	/* The other way. */
	nghttp2_session_set_local_window_size(w.server.session, 0, 0, 1 << 24);
	w.server.keeps_window = true;
	slow = ask("POST", "/slow", NULL, NULL, 64u << 20);
	assert_int_equal(w.server.seen[slow].body, 65535);
	assert_true((64u << 20) - w.guest.seen[slow].to_send <= 65535 + HTTP2_GUEST_WINDOW);
	w.server.keeps_window = false;
	fast = ask("POST", "/fast", NULL, NULL, 300000);
	assert_int_equal(w.server.seen[fast].body, 300000);
	finish();
}

static void test_resets(void **state)
{
	static const uint32_t codes[] = {NGHTTP2_CANCEL, NGHTTP2_REFUSED_STREAM,
		NGHTTP2_INTERNAL_ERROR, NGHTTP2_ENHANCE_YOUR_CALM, 0x1234};
	int32_t id;

	start(65536);
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		id = ask("GET", "/", NULL, NULL, 0);
		nghttp2_submit_rst_stream(w.guest.session, 0, id, codes[i]);
		pump();
		assert_int_equal(w.server.seen[id].code, codes[i]);
		assert_int_equal(w.last_end, HTTP2_GUEST_RESET);
		assert_int_equal(w.last_code, codes[i]);
		id = ask("GET", "/", NULL, NULL, 0);
		nghttp2_submit_rst_stream(w.server.session, 0, id, codes[i]);
		pump();
		assert_int_equal(w.guest.seen[id].code, codes[i]);
		assert_false(w.guest.seen[id].ended);
		assert_int_equal(w.last_end, HTTP2_SERVER_RESET);
		assert_int_equal(w.last_code, codes[i]);
	}
	/* An answer before the request has ended, and no wish to hear the rest. */
	w.server.keeps_window = true;
	id = ask("POST", "/", NULL, NULL, 1u << 20);
	reply(id, "413", 10, NULL);
	assert_true(w.guest.seen[id].ended && !w.guest.seen[id].closed);
	nghttp2_submit_rst_stream(w.server.session, 0, id, NGHTTP2_NO_ERROR);
	pump();
	assert_true(w.guest.seen[id].closed);
	assert_int_equal(w.guest.seen[id].code, NGHTTP2_NO_ERROR);
	assert_int_equal(w.last_end, HTTP2_COMPLETE);
	assert_int_equal(w.failed, 0);
	finish();
}

static void test_answers_of_our_own(void **state)
{
	int32_t id;

	start(65536);
	w.refuse = true;
	id = ask("POST", "/", NULL, NULL, 4u << 20);
	assert_non_null(strstr(w.guest.seen[id].head, ":status: 403"));
	assert_int_equal(w.guest.seen[id].body, 2);
	assert_true(w.guest.seen[id].closed);
	assert_int_equal(w.guest.seen[id].code, NGHTTP2_NO_ERROR);
	assert_string_equal(w.server.seen[1].head, "");
	w.refuse = false;
	id = ask("GET", "/", NULL, NULL, 0);
	reply(1, "204", 0, NULL); /* the server's first */
	assert_non_null(strstr(w.guest.seen[id].head, ":status: 204"));
	assert_int_equal(w.ended, 2);
	finish();
}

static void test_unreadable(void **state)
{
	static const struct {
		const char *method, *path, *name, *value;
		int status; /* 0: nghttp2 resets the stream */
	} rows[] = {
		{"GET", "/", "host", "other.test", 400},
		{"GET", "/", "host", "API.test", -1},
		{"TRACE", "/", "x", "y", 501},
		{"get", "/", "x", "y", 400},
		{"GET", "/", "content_length", "1", 400},
		{"GET", "/", "content-length", "1x", 0},
		{"GET", "/", "transfer-encoding", "chunked", 0},
		{"GET", "/", "connection", "close", 0},
		{"GET", "/", "te", "gzip", 0},
		{"GET", "/", "expect", "all", 417},
		{"GET", "/", "x", "a\rb", 400},
		{"GET", "/", "x", "a\nb", 400},
		{"GET", "/", "x y", "a", 400},
		{"GET", "/a b", "x", "y", 0},
		{"GET", "/#a", "x", "y", 400},
		{"GET", "http://other.test/", "x", "y", 0},
		{"GET", "a", "x", "y", 0},
		{"GET", "*", "x", "y", 0},
		{"OPTIONS", "*", "x", "y", -1},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char status[32];
		int32_t id;

		start(65536);
		id = ask(rows[i].method, rows[i].path, rows[i].name, rows[i].value, 0);
		if (rows[i].status < 0) {
			assert_string_not_equal(w.server.seen[id].head, "");
		} else {
			assert_string_equal(w.server.seen[id].head, "");
			snprintf(status, sizeof(status), ":status: %d", rows[i].status);
			if (rows[i].status)
				assert_non_null(strstr(w.guest.seen[id].head, status));
			else
				assert_int_not_equal(w.guest.seen[id].code, 0);
		}
		ask("GET", "/fine", NULL, NULL, 0);
		assert_non_null(strstr(w.server.seen[rows[i].status < 0 ? 3 : 1].head, "/fine"));
		finish();
	}
}

static void test_lost_server(void **state)
{
	int32_t waits, answered, complete;

	start(65536);
	waits = ask("GET", "/", NULL, NULL, 0);
	answered = ask("GET", "/", NULL, NULL, 0);
	nghttp2_session_set_local_window_size(w.guest.session, 0, 0, 1 << 24);
	w.guest.keeps_window = true;
	reply(answered, "200", 64u << 20, NULL);
	complete = ask("GET", "/", NULL, NULL, 0);
	reply(complete, "200", 500000, NULL);
	w.wait = true;
	ask("GET", "/not-forwarded", NULL, NULL, 0);
	w.guest.keeps_window = false;
	http2_lost_server(w.h, "gone");
	pump();
	assert_int_equal(w.failed, 2);
	assert_non_null(strstr(w.guest.seen[waits].head, ":status: 502"));
	assert_int_equal(w.guest.seen[answered].code, NGHTTP2_INTERNAL_ERROR);
	assert_false(w.guest.seen[answered].ended);
	/* What the server has said to the end is delivered. */
	nghttp2_session_consume_stream(w.guest.session, complete, 65535);
	pump();
	assert_int_equal(w.guest.seen[complete].body, 500000);
	assert_true(w.guest.seen[complete].ended);
	assert_true(w.guest.goaway);
	assert_int_equal(w.ended, 4);
	assert_true(http2_over(w.h, HTTP2_GUEST));
	finish();
}

static void test_goaway(void **state)
{
	int32_t first, second;

	start(65536);
	first = ask("GET", "/", NULL, NULL, 0);
	second = ask("GET", "/", NULL, NULL, 0);
	nghttp2_submit_goaway(w.server.session, 0, first, NGHTTP2_NO_ERROR, NULL, 0);
	pump();
	assert_true(w.guest.goaway);
	/* One was not processed: it may be tried again elsewhere. */
	assert_int_equal(w.guest.seen[second].code, NGHTTP2_REFUSED_STREAM);
	reply(first, "200", 1000, NULL);
	assert_int_equal(w.guest.seen[first].body, 1000);
	assert_int_equal(w.failed, 0);
	assert_true(http2_over(w.h, HTTP2_GUEST));
	assert_true(http2_over(w.h, HTTP2_SERVER));
	finish();
}

static void test_server_that_speaks_something_else(void **state)
{
	struct buf in;
	struct err err;
	int32_t id;

	start(65536);
	id = ask("GET", "/", NULL, NULL, 0);
	buf_init(&in, 1000);
	buf_puts(&in, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
	if (http2_feed(w.h, HTTP2_SERVER, &in, 0, &err) < 0)
		http2_lost_server(w.h, err.msg);
	buf_done(&in);
	while (from_engine(&w.server, HTTP2_SERVER)) {
	}
	if (http2_over(w.h, HTTP2_SERVER))
		http2_lost_server(w.h, "x");
	while (from_engine(&w.guest, HTTP2_GUEST)) {
	}
	assert_int_equal(w.failed, 1);
	assert_non_null(strstr(w.guest.seen[id].head, ":status: 502"));
	finish();
}

static void test_rapid_reset(void **state)
{
	unsigned n;

	start(65536);
	for (n = 0; n < 1500 && !w.guest.goaway && !w.broken; n++) {
		int32_t id = ask("GET", "/", NULL, NULL, 0);

		nghttp2_submit_rst_stream(w.guest.session, 0, id, NGHTTP2_CANCEL);
		pump();
	}
	assert_in_range(n, 900, 1100);
	finish();
	/* Spread over time it is ordinary use. */
	start(65536);
	for (n = 0; n < 1500; n++) {
		int32_t id = ask("GET", "/", NULL, NULL, 0);

		w.now += 100000000;
		nghttp2_submit_rst_stream(w.guest.session, 0, id, NGHTTP2_CANCEL);
		pump();
		if (w.guest.goaway)
			break; /* nghttp2's own limit goes by the real clock */
	}
	assert_true(n >= 999);
	finish();
}

static void test_limits(void **state)
{
	static char big[70000];
	int32_t id;

	start(65536);
	memset(big, 'v', sizeof(big) - 1);
	id = ask("GET", "/", "x", big, 0);
	assert_non_null(strstr(w.guest.seen[id].head, ":status: 431"));
	big[30000] = '\0';
	big[0] = '/';
	id = ask("GET", big, NULL, NULL, 0);
	assert_non_null(strstr(w.guest.seen[id].head, ":status: 414"));
	/* A value that is added may be longer than the guest's may. */
	big[30000] = 'v';
	w.secret = big;
	ask("GET", "/", NULL, NULL, 0);
	assert_non_null(strstr(w.server.seen[1].head, "authorization: "));
	finish();
}

/* The owner may decide later, and the server come later. */
static void test_waiting(void **state)
{
	int32_t id;

	w = (struct world){.budget = {.max = 64u << 20}, .step = 65536};
	peer_init(&w.guest, true, 65535);
	peer_init(&w.server, false, 65535);
	w.h = http2_new(&ops, &w.budget, &w);
	w.wait = true;
	id = ask("POST", "/", NULL, NULL, 10u << 20);
	assert_true((10u << 20) - w.guest.seen[id].to_send <= HTTP2_GUEST_WINDOW);
	assert_int_equal(http2_forward(w.last, NULL, 0), -1);
	assert_int_equal(http2_start_server(w.h), 0);
	assert_int_equal(http2_forward(w.last, NULL, 0), 0);
	pump();
	assert_int_equal(w.server.seen[id].body, 10u << 20);
	reply(id, "200", 0, NULL);
	assert_int_equal(w.last_end, HTTP2_COMPLETE);
	ask("POST", "/", NULL, NULL, 1000);
	http2_drop(w.last);
	pump();
	assert_int_equal(w.last_end, HTTP2_DROPPED);
	assert_int_equal(w.ended, 2);
	finish();
}

static void test_filters(void **state)
{
	int32_t id;

	/* The peers' bodies count down by ones: 3 2 1 is where each ends. */
	start(7);
	w.mask = filter_new();
	w.replace = filter_new();
	assert_int_equal(filter_add_mask(w.mask, "\6\5\4\3\2\1", 6), 0);
	assert_int_equal(filter_add_mask(w.mask, "grpc-secret", 11), 0);
	assert_int_equal(filter_add(w.replace, "\4\3\2\1", 4, "longer than it was", 18), 0);
	id = ask("POST", "/", NULL, NULL, 100000);
	/* Every 256 bytes, and at the end. */
	assert_int_equal(w.server.seen[id].body, 100000 + 391 * 14);
	reply(id, "200", 100000, "grpc-secret");
	assert_int_equal(w.guest.seen[id].body, 100000);
	assert_int_equal(filter_hits(w.mask), 392);
	assert_string_equal(w.guest.seen[id].trailer, "grpc-status: *********** (never indexed)\n");
	assert_int_equal(w.last_end, HTTP2_COMPLETE);
	finish();
	filter_free(w.mask);
	filter_free(w.replace);
}

static void test_whole_bodies(void **state)
{
	int32_t id;

	start(100);
	w.collect = 500000;
	id = ask("POST", "/", NULL, NULL, 500000); /* more than the window */
	assert_int_equal(w.whole_requests, 1);
	assert_int_equal(w.server.seen[1].body, 500008);
	w.hold = true;
	reply(id, "200", 5000, "0");
	assert_int_equal(w.whole_responses, 1);
	assert_int_equal(w.guest.seen[id].body, 8);
	assert_non_null(strstr(w.guest.seen[id].head, "content-length: 8"));
	assert_int_equal(w.last_status, 200);
	/* Too long. */
	id = ask("POST", "/", NULL, NULL, 500001);
	assert_non_null(strstr(w.guest.seen[id].head, ":status: 413"));
	id = ask("POST", "/", NULL, NULL, 0);
	reply(3, "200", 100000, NULL);
	assert_non_null(strstr(w.guest.seen[id].head, ":status: 502"));
	/* A head that must not pass. */
	w.hold = false;
	w.forbid = true;
	id = ask("POST", "/", NULL, NULL, 0);
	reply(5, "200", 100000, NULL);
	assert_non_null(strstr(w.guest.seen[id].head, ":status: 502"));
	assert_int_equal(w.whole_responses, 1);
	assert_int_equal(w.ended, 4);
	finish();
}

/* Each allocation of nghttp2's in turn fails. */
static void test_out_of_memory(void **state)
{
	unsigned good = 0;

	for (size_t max = 0; max < 120000; max += 97) {
		w = (struct world){.budget = {.max = max}, .step = 65536};
		peer_init(&w.guest, true, 65535);
		peer_init(&w.server, false, 65535);
		w.h = http2_new(&ops, &w.budget, &w);
		if (w.h && http2_start_server(w.h) == 0) {
			int32_t id = ask("POST", "/", NULL, NULL, 1000);

			if (w.server.seen[id].ended)
				reply(id, "200", 1000, "0");
			good += w.guest.seen[id].ended && w.last_status == 200;
		}
		if (w.h)
			http2_free(w.h);
		assert_int_equal(w.budget.used, 0);
		assert_int_equal(w.ended, w.requests + w.unreadable);
		peer_done(&w.guest);
		peer_done(&w.server);
	}
	assert_in_range(good, 10, 1200);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exchange),
		cmocka_unit_test(test_many_streams),
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_resets),
		cmocka_unit_test(test_answers_of_our_own),
		cmocka_unit_test(test_unreadable),
		cmocka_unit_test(test_lost_server),
		cmocka_unit_test(test_goaway),
		cmocka_unit_test(test_server_that_speaks_something_else),
		cmocka_unit_test(test_rapid_reset),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_filters),
		cmocka_unit_test(test_whole_bodies),
		cmocka_unit_test(test_out_of_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

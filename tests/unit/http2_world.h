/* SPDX-License-Identifier: Apache-2.0 */
/* For test_http2.c: two peers on nghttp2, and an owner of the engine between them that does what it
 * is told. Bytes move in steps of any size. */
#pragma once

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
	s->owner = &w;
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
	if (!s->owner)
		return; /* its head never came to an end */
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

/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 between the guest and a server: the two sessions, and what a peer may cost.
 *
 * nghttp2 has no opinion about how much is too much, so here is: memory of its own by session and
 * in all, acknowledgements that wait, settings and continuations in one frame, resets in a time. A
 * peer whose answers nobody takes is not read any further. */
#include "gate/http2_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define FEED_STEP       16384u
#define QUEUE_MAX       500u  /* frames that wait to be sent */
#define ACKS_MAX        200u  /* answers to PING and SETTINGS among them */
#define STREAMS_KEPT    400u  /* ended ones included that the other side has to hear of */
#define RESETS_BURST    1000u /* streams that the guest resets, or that its mistakes do … */
#define RESETS_A_SECOND 33u   /* … and how many again with time */
#define TABLE_MAX       4096u /* HPACK's memory of what we send */

/* ---- memory ---- */

/* In front of every allocation; keeps the alignment of malloc(). */
union mem_head {
	size_t size;
	max_align_t align;
};

static void *mem_alloc(size_t n, void *arg)
{
	struct http2_peer *p = arg;
	struct http2_budget *b = p->http2->budget;
	size_t size = n + sizeof(union mem_head);
	union mem_head *m;

	if (n > HTTP2_MEMORY_MAX || p->allocated + size > HTTP2_MEMORY_MAX ||
		b->used + size > b->max)
		return NULL;
	m = malloc(size);
	if (!m)
		return NULL;
	m->size = size;
	p->allocated += size;
	b->used += size;
	return m + 1;
}

/* There may have been a credential in it. */
static void mem_free(void *at, void *arg)
{
	struct http2_peer *p = arg;
	union mem_head *m = at;

	if (!m)
		return;
	m--;
	p->allocated -= m->size;
	p->http2->budget->used -= m->size;
	explicit_bzero(m, m->size);
	free(m);
}

static void *mem_calloc(size_t n, size_t size, void *arg)
{
	void *at;

	if (size && n > HTTP2_MEMORY_MAX / size)
		return NULL;
	at = mem_alloc(n * size, arg);
	return at ? memset(at, 0, n * size) : NULL;
}

static void *mem_realloc(void *from, size_t n, void *arg)
{
	void *at = mem_alloc(n, arg);

	if (from && at) {
		size_t had = ((union mem_head *)from - 1)->size - sizeof(union mem_head);

		memcpy(at, from, MIN(had, n));
		mem_free(from, arg);
	}
	return at;
}

/* ---- what nghttp2 tells ---- */

static struct http2_stream *stream_of(nghttp2_session *session, int32_t id)
{
	return id ? nghttp2_session_get_stream_user_data(session, id) : NULL;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct http2_peer *p = arg;
	int32_t id = frame->hd.stream_id;

	http2_block_reset(&p->block);
	if (p->side == HTTP2_GUEST && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
		nghttp2_session_set_stream_user_data(session, id, http2_stream_new(p->http2, id));
	return 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
	size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags, void *arg)
{
	struct http2_peer *p = arg;

	if (http2_block_add(&p->block, name, name_len, value, value_len,
		    flags & NGHTTP2_NV_FLAG_NO_INDEX) == 0)
		return 0;
	p->why = "a head far beyond all limits";
	nghttp2_session_terminate_session(session, NGHTTP2_ENHANCE_YOUR_CALM);
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

/* nghttp2 would leave the field out and go on. */
static int on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame,
	const uint8_t *name, size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
	void *arg)
{
	struct http2_peer *p = arg;

	p->block.bad = "a field is not valid";
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
	size_t len, void *arg)
{
	struct http2_stream *s = stream_of(session, id);

	if (!s) {
		nghttp2_session_consume(session, id, len);
		return 0;
	}
	return http2_on_data(s, arg, data, len);
}

/* The guest shall not open more streams at a time than the server takes. */
static void mirror_settings(struct http2 *h, nghttp2_session *server)
{
	uint32_t max = nghttp2_session_get_remote_settings(
		server, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
	nghttp2_settings_entry entry = {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 0};

	max = MIN(max, HTTP2_STREAMS_MAX);
	if (max == h->streams_max)
		return;
	h->streams_max = entry.value = max;
	nghttp2_submit_settings(h->peer[HTTP2_GUEST].session, NGHTTP2_FLAG_NONE, &entry, 1);
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct http2_peer *p = arg;
	struct http2_stream *s = stream_of(session, frame->hd.stream_id);
	bool ended = frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
	int type = frame->hd.type; /* extensions are not in the enum */

	if (type == NGHTTP2_HEADERS && s)
		return http2_on_block(s, p, ended);
	if (type == NGHTTP2_DATA && s && ended)
		http2_on_ended(s, p->side);
	if (p->side == HTTP2_GUEST)
		return 0;
	if (type == NGHTTP2_RST_STREAM && s)
		s->private_->server_reset = true;
	if (type == NGHTTP2_SETTINGS && !(frame->hd.flags & NGHTTP2_FLAG_ACK))
		mirror_settings(p->http2, session);
	if (type == NGHTTP2_GOAWAY)
		http2_goaway(p->http2);
	return 0;
}

static int on_invalid_frame(
	nghttp2_session *session, const nghttp2_frame *frame, int error, void *arg)
{
	struct http2_peer *p = arg;

	p->why = nghttp2_strerror(error);
	return 0;
}

/* Rapid reset: work that is asked for and never taken. */
static void count_reset(struct http2 *h, nghttp2_session *guest)
{
	uint64_t more = (h->now_ns - h->refilled_ns) * RESETS_A_SECOND / 1000000000u;

	if (more > 0) {
		h->resets = (unsigned)MIN(h->resets + more, (uint64_t)RESETS_BURST);
		h->refilled_ns = h->now_ns;
	}
	if (h->resets > 0) {
		h->resets--;
		return;
	}
	h->peer[HTTP2_GUEST].why = "too many streams were reset";
	nghttp2_session_terminate_session(guest, NGHTTP2_ENHANCE_YOUR_CALM);
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
	struct http2_peer *p = arg;
	struct http2_stream *s = stream_of(session, id);

	if (!s)
		return 0;
	if (p->side == HTTP2_GUEST && code && s->end == HTTP2_COMPLETE)
		count_reset(p->http2, session);
	http2_on_closed(s, p->side, code);
	return 0;
}

static int on_frame_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct http2_peer *p = arg;
	struct http2_stream *s;

	if (p->side == HTTP2_SERVER || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM) ||
		(frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA))
		return 0;
	s = stream_of(session, frame->hd.stream_id);
	if (s)
		http2_on_sent_all(s);
	return 0;
}

/* A request that the server's session does not begin any more. */
static int on_frame_not_sent(
	nghttp2_session *session, const nghttp2_frame *frame, int error, void *arg)
{
	struct http2_peer *p = arg;
	struct http2_stream *s;

	if (frame->hd.type != NGHTTP2_HEADERS)
		return 0;
	s = http2_find(p->http2, p->side, frame->hd.stream_id);
	if (s && p->side == HTTP2_SERVER)
		http2_on_closed(s, p->side, NGHTTP2_REFUSED_STREAM);
	else if (s)
		nghttp2_submit_rst_stream(
			session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_INTERNAL_ERROR);
	return 0;
}

/* ---- sessions ---- */

static nghttp2_session_callbacks *new_callbacks(void)
{
	nghttp2_session_callbacks *c;

	if (nghttp2_session_callbacks_new(&c) != 0)
		return NULL;
	nghttp2_session_callbacks_set_on_begin_headers_callback(c, on_begin_headers);
	nghttp2_session_callbacks_set_on_header_callback(c, on_header);
	nghttp2_session_callbacks_set_on_invalid_header_callback(c, on_invalid_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(c, on_frame);
	nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(c, on_invalid_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(c, on_stream_close);
	nghttp2_session_callbacks_set_on_frame_send_callback(c, on_frame_sent);
	nghttp2_session_callbacks_set_on_frame_not_send_callback(c, on_frame_not_sent);
	return c;
}

static nghttp2_option *new_option(void)
{
	nghttp2_option *o;

	if (nghttp2_option_new(&o) != 0)
		return NULL;
	nghttp2_option_set_no_auto_window_update(o, 1);
	nghttp2_option_set_no_closed_streams(o, 1);
	nghttp2_option_set_max_reserved_remote_streams(o, 0);
	nghttp2_option_set_max_deflate_dynamic_table_size(o, TABLE_MAX);
	nghttp2_option_set_max_send_header_block_length(o, HTTP2_SEND_MAX);
	nghttp2_option_set_max_outbound_ack(o, ACKS_MAX);
	nghttp2_option_set_stream_reset_rate_limit(o, RESETS_BURST, RESETS_A_SECOND);
	return o;
}

static const nghttp2_settings_entry guest_settings[] = {
	{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, HTTP2_STREAMS_MAX},
	{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_GUEST_WINDOW},
	{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP1_HEAD_MAX},
};
static const nghttp2_settings_entry server_settings[] = {
	{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
	{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_SERVER_WINDOW},
	{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP1_HEAD_MAX},
};

static int start(struct http2_peer *p)
{
	nghttp2_session_callbacks *callbacks = new_callbacks();
	nghttp2_option *option = new_option();
	bool guest = p->side == HTTP2_GUEST;
	int r = NGHTTP2_ERR_NOMEM;

	if (callbacks && option)
		r = guest ? nghttp2_session_server_new3(&p->session, callbacks, p, option, &p->mem)
			  : nghttp2_session_client_new3(&p->session, callbacks, p, option, &p->mem);
	nghttp2_session_callbacks_del(callbacks);
	nghttp2_option_del(option);
	if (r == 0)
		r = guest ? nghttp2_submit_settings(p->session, NGHTTP2_FLAG_NONE, guest_settings,
				    ARRAY_SIZE(guest_settings))
			  : nghttp2_submit_settings(p->session, NGHTTP2_FLAG_NONE, server_settings,
				    ARRAY_SIZE(server_settings));
	if (r == 0)
		r = nghttp2_session_set_local_window_size(p->session, NGHTTP2_FLAG_NONE, 0,
			guest ? HTTP2_GUEST_WINDOW_ALL : HTTP2_SERVER_WINDOW_ALL);
	return r == 0 ? 0 : -1;
}

struct http2 *http2_new(const struct http2_ops *ops, struct http2_budget *budget, void *arg)
{
	struct http2 *h = xcalloc(1, sizeof(*h));

	*h = (struct http2){.ops = ops,
		.budget = budget,
		.arg = arg,
		.streams_max = HTTP2_STREAMS_MAX,
		.resets = RESETS_BURST};
	for (enum http2_side side = HTTP2_GUEST; side < HTTP2_SIDES; side++) {
		struct http2_peer *p = &h->peer[side];

		p->http2 = h;
		p->side = side;
		p->mem = (nghttp2_mem){p, mem_alloc, mem_free, mem_calloc, mem_realloc};
		http2_block_init(&p->block);
	}
	if (start(&h->peer[HTTP2_GUEST]) == 0)
		return h;
	http2_free(h);
	return NULL;
}

static void end_session(struct http2_peer *p)
{
	nghttp2_session_del(p->session);
	p->session = NULL;
}

void http2_free(struct http2 *h)
{
	if (!h)
		return;
	end_session(&h->peer[HTTP2_GUEST]);
	end_session(&h->peer[HTTP2_SERVER]);
	while (h->streams)
		http2_stream_free(h->streams);
	http2_block_done(&h->peer[HTTP2_GUEST].block);
	http2_block_done(&h->peer[HTTP2_SERVER].block);
	free(h);
}

void *http2_arg(const struct http2_stream *s)
{
	return s->http2->arg;
}

struct http2_stream *http2_streams(const struct http2 *h)
{
	return h->streams;
}

int http2_start_server(struct http2 *h)
{
	struct http2_peer *p = &h->peer[HTTP2_SERVER];

	if (p->session || h->no_server)
		return 0;
	if (start(p) == 0)
		return 0;
	end_session(p);
	return -1;
}

bool http2_has_server(const struct http2 *h)
{
	return h->peer[HTTP2_SERVER].session;
}

void http2_lost_server(struct http2 *h, const char *reason)
{
	if (h->no_server)
		return;
	h->no_server = true;
	end_session(&h->peer[HTTP2_SERVER]);
	for (struct http2_stream *s = h->streams, *next; s; s = next) {
		struct http2_private *p = s->private_;
		bool waits = s->head || !p->closed[HTTP2_SERVER];
		bool complete = p->pipe[HTTP2_SERVER].ended;

		next = s->next;
		if (waits && !complete)
			http2_fail(s, reason);
		http2_on_closed(s, HTTP2_SERVER, NGHTTP2_NO_ERROR);
	}
	/* A guest that has asked nothing yet will be told why with its first question. */
	if (nghttp2_session_get_last_proc_stream_id(h->peer[HTTP2_GUEST].session) > 0)
		http2_leave(h);
}

void http2_leave(struct http2 *h)
{
	h->leaving = true;
	if (!h->streams)
		http2_goaway(h);
}

void http2_goaway(struct http2 *h)
{
	nghttp2_session *guest = h->peer[HTTP2_GUEST].session;

	if (h->left || !guest)
		return;
	h->left = true;
	nghttp2_submit_goaway(guest, NGHTTP2_FLAG_NONE,
		nghttp2_session_get_last_proc_stream_id(guest), NGHTTP2_NO_ERROR, NULL, 0);
}

/* ---- bytes ---- */

static int broken(const struct http2_peer *p, ssize_t error, struct err *err)
{
	return err_set(err, ERR_PEER, "HTTP/2: %s", p->why ? p->why : nghttp2_strerror((int)error));
}

/* Whether to read on from this side; otherwise its socket fills up and it has to wait. */
static bool may_take(const struct http2 *h, enum http2_side from)
{
	for (enum http2_side side = HTTP2_GUEST; side < HTTP2_SIDES; side++)
		if (h->peer[side].session &&
			nghttp2_session_get_outbound_queue_size(h->peer[side].session) > QUEUE_MAX)
			return false;
	if (from == HTTP2_GUEST && h->n_streams > STREAMS_KEPT)
		return false;
	return h->held[from] <= HTTP2_SHARE || h->budget->used < h->budget->max / 2;
}

int http2_feed(
	struct http2 *h, enum http2_side from, struct buf *in, uint64_t now_ns, struct err *err)
{
	struct http2_peer *p = &h->peer[from];

	h->now_ns = now_ns;
	if (h->refilled_ns == 0)
		h->refilled_ns = now_ns;
	while (p->session && buf_len(in) > 0 && may_take(h, from)) {
		size_t n = MIN(buf_len(in), (size_t)FEED_STEP);
		ssize_t used = nghttp2_session_mem_recv(p->session, buf_head(in), n);

		if (used < 0)
			return broken(p, used, err);
		buf_consume(in, (size_t)used);
	}
	return 0;
}

int http2_pull(struct http2 *h, enum http2_side to, struct buf *out, size_t full, struct err *err)
{
	struct http2_peer *p = &h->peer[to];

	while (p->session && buf_len(out) < full) {
		const uint8_t *data;
		ssize_t n = nghttp2_session_mem_send(p->session, &data);

		if (n < 0)
			return broken(p, n, err);
		if (n == 0)
			break;
		if (buf_put(out, data, (size_t)n) < 0)
			return err_set(err, ERR_BUG, "HTTP/2: no room for a frame");
	}
	return 0;
}

bool http2_over(const struct http2 *h, enum http2_side side)
{
	nghttp2_session *session = h->peer[side].session;

	return !session ||
	       !(nghttp2_session_want_read(session) || nghttp2_session_want_write(session));
}

const char *http2_why(const struct http2 *h, enum http2_side side)
{
	return h->peer[side].why;
}

const char *http2_error_name(uint32_t code)
{
	return nghttp2_http2_strerror(code);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* One request on its two streams.
 *
 * A pipe carries a body from one side to the other. What has been received counts against the
 * sender's window until the other side's session takes it for sending, which it does no sooner than
 * the receiver's window and the connection's output have room.
 *
 * A stream lives until both sides are closed. A side without a stream (not forwarded, answered
 * here) is closed. Closing one side decides about the other:
 *
 *   the guest resets                      the server's stream is reset with the same code
 *   the guest has the whole response      what the server still does is of no use: reset
 *   the server resets                     the guest's stream is reset with the same code
 *   the server is done before the guest   once the guest has the response: reset without error */
#include "gate/http2_int.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* Of a stream by itself, the owner's part included. */
#define STREAM_COST 4096u

static enum http2_side other(enum http2_side side)
{
	return side == HTTP2_GUEST ? HTTP2_SERVER : HTTP2_GUEST;
}

struct http2_stream *http2_stream_new(struct http2 *h, int32_t guest_id)
{
	struct http2_stream *s = xcalloc(1, sizeof(*s));
	struct http2_private *p = xcalloc(1, sizeof(*p));

	s->http2 = h;
	s->private_ = p;
	p->id[HTTP2_GUEST] = guest_id;
	p->closed[HTTP2_SERVER] = true;
	buf_init(&p->pipe[HTTP2_GUEST].data, HTTP2_GUEST_WINDOW);
	buf_init(&p->pipe[HTTP2_SERVER].data, HTTP2_SERVER_WINDOW);
	s->next = h->streams;
	if (s->next)
		s->next->prev = s;
	h->streams = s;
	h->n_streams++;
	h->budget->used += STREAM_COST;
	return s;
}

struct http2_stream *http2_find(const struct http2 *h, enum http2_side side, int32_t id)
{
	for (struct http2_stream *s = h->streams; s; s = s->next)
		if (s->private_->id[side] == id)
			return s;
	return NULL;
}

/* ---- bodies ---- */

static void send_held(struct http2_stream *s);

/* @n received bytes are no longer here: the sender may send as many again. */
static void give_back(struct http2_stream *s, enum http2_side from, size_t n)
{
	struct http2 *h = s->http2;
	struct http2_pipe *p = &s->private_->pipe[from];

	n = MIN(n, p->unread);
	p->unread -= n;
	h->held[from] -= n;
	h->budget->used -= n;
	if (n > 0 && h->peer[from].session)
		nghttp2_session_consume(h->peer[from].session, s->private_->id[from], n);
}

static void discard(struct http2_stream *s, enum http2_side from)
{
	struct http2_pipe *p = &s->private_->pipe[from];

	p->discard = true;
	p->filter = NULL;
	buf_wipe(&p->data);
	buf_wipe(&p->ready);
	give_back(s, from, p->unread);
}

static void wake(struct http2_stream *s, enum http2_side from)
{
	struct http2_pipe *p = &s->private_->pipe[from];
	enum http2_side to = other(from);

	if (!p->waiting)
		return;
	p->waiting = false;
	if (s->http2->peer[to].session)
		nghttp2_session_resume_data(s->http2->peer[to].session, s->private_->id[to]);
}

/* Every byte of a body passes here, in the order in which it was sent. */
static int pass(struct http2_stream *s, enum http2_side from, const uint8_t *data, size_t n)
{
	s->bytes[from] += n;
	return buf_put(&s->private_->pipe[from].data, data, n);
}

/* Kept for the owner; more than it wants is its own trouble. */
static void collect(struct http2_stream *s, enum http2_side from, const uint8_t *data, size_t n)
{
	struct http2_private *priv = s->private_;
	struct http2_pipe *p = &priv->pipe[from];
	bool fits = buf_len(&p->data) + n <= p->collect;

	if (fits && pass(s, from, data, n) == 0 && from == HTTP2_GUEST) {
		priv->head_held += n;
		s->http2->held[from] += n;
		s->http2->budget->used += n;
	}
	give_back(s, from, n);
	if (fits)
		return;
	p->collect = 0;
	p->discard = true;
	if (from == HTTP2_SERVER)
		http2_fail(s, "the answer is too long to be searched for credentials");
	else
		s->http2->ops->whole_request(s);
}

int http2_on_data(struct http2_stream *s, struct http2_peer *from, const uint8_t *data, size_t n)
{
	struct http2_pipe *p = &s->private_->pipe[from->side];

	p->unread += n;
	from->http2->held[from->side] += n;
	from->http2->budget->used += n;
	if (p->discard || (from->side == HTTP2_SERVER && s->private_->own_answer)) {
		give_back(s, from->side, n);
		return 0;
	}
	if (p->collect) {
		collect(s, from->side, data, n);
		return 0;
	}
	if (pass(s, from->side, data, n) < 0)
		return NGHTTP2_ERR_CALLBACK_FAILURE; /* cannot be: nghttp2 minds the window */
	wake(s, from->side);
	return 0;
}

void http2_on_ended(struct http2_stream *s, enum http2_side from)
{
	struct http2_pipe *p = &s->private_->pipe[from];

	if (from == HTTP2_SERVER && s->private_->own_answer)
		return;
	p->ended = true;
	if (p->collect && from == HTTP2_GUEST) {
		p->collect = 0;
		s->http2->ops->whole_request(s);
	} else if (p->collect) {
		p->collect = 0;
		send_held(s);
	}
	wake(s, from);
}

/* Up to @len bytes for the receiver are in *ret: as sent, or as the filter leaves them. */
static size_t next_bytes(struct http2_stream *s, enum http2_side from, size_t len, struct buf **ret)
{
	struct http2_pipe *p = &s->private_->pipe[from];

	*ret = p->filter ? &p->ready : &p->data;
	while (p->filter && buf_len(&p->ready) < len && buf_len(&p->data) > 0) {
		size_t used =
			filter_feed(p->filter, buf_head(&p->data), buf_len(&p->data), &p->ready);

		buf_consume(&p->data, used);
		give_back(s, from, used);
		if (used == 0)
			break;
	}
	if (p->filter && p->ended && buf_len(&p->data) == 0 && !p->flushed)
		p->flushed = filter_flush(p->filter, &p->ready);
	return MIN(len, buf_len(*ret));
}

static bool is_at_end(const struct http2_pipe *p)
{
	return p->ended && buf_len(&p->data) == 0 && buf_len(&p->ready) == 0 &&
	       (!p->filter || p->flushed);
}

/* What a filter looks for may be in a trailer as well. */
static int send_trailer(struct http2_stream *s, enum http2_side to)
{
	struct http2_pipe *p = &s->private_->pipe[other(to)];

	if (p->filter && to == HTTP2_GUEST)
		filter_in_place(p->filter, buf_head(&p->trailer), buf_len(&p->trailer));
	return http2_submit_trailer(s, to, &p->trailer);
}

/* nghttp2_data_source_read_callback, in the session of the side that the body goes to. */
static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *to, size_t len,
	uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	const struct http2_peer *peer = arg;
	struct http2_stream *s = source->ptr;
	enum http2_side from = other(peer->side);
	struct http2_pipe *p = &s->private_->pipe[from];
	struct buf *bytes;
	size_t n = next_bytes(s, from, len, &bytes);

	if (n > 0) {
		memcpy(to, buf_head(bytes), n);
		buf_consume(bytes, n);
		if (bytes == &p->data)
			give_back(s, from, n);
	}
	if (buf_len(&p->data) == 0)
		buf_done(&p->data);
	if (is_at_end(p)) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (buf_len(&p->trailer) > 0) {
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
			if (send_trailer(s, peer->side) < 0)
				return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
		}
	} else if (n == 0) {
		p->waiting = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	return (ssize_t)n;
}

void http2_collect(struct http2_stream *s, size_t max)
{
	struct http2_pipe *p = &s->private_->pipe[HTTP2_GUEST];
	static const uint8_t no_index[HTTP2_FIELDS_MAX];

	p->data.max = max + 64;
	give_back(s, HTTP2_GUEST, p->unread);
	if (p->ended || buf_len(&p->data) > max) {
		s->http2->ops->whole_request(s);
		return;
	}
	p->collect = max;
	if (s->head->expect_continue)
		http2_submit_response(
			s, &(struct http1_head){.status = 100}, no_index, NULL, 0, NULL);
}

struct buf *http2_body(struct http2_stream *s)
{
	return &s->private_->pipe[HTTP2_GUEST].data;
}

bool http2_body_ended(const struct http2_stream *s)
{
	return s->private_->pipe[HTTP2_GUEST].ended;
}

void http2_filter(struct http2_stream *s, enum http2_side from, struct filter *f)
{
	struct http2_pipe *p = &s->private_->pipe[from];

	p->filter = f;
	if (f)
		buf_init(&p->ready, HTTP2_GUEST_WINDOW + filter_room(f));
}

/* NULL when there is none. */
static nghttp2_data_provider *reader(
	struct http2_stream *s, enum http2_side from, nghttp2_data_provider *ret)
{
	const struct http2_pipe *p = &s->private_->pipe[from];

	if (p->ended && buf_len(&p->data) == 0 && buf_len(&p->trailer) == 0)
		return NULL;
	*ret = (nghttp2_data_provider){.source = {.ptr = s}, .read_callback = read_body};
	return ret;
}

/* ---- resets ---- */

static void reset(struct http2_stream *s, enum http2_side side, uint32_t code)
{
	struct http2_private *p = s->private_;
	nghttp2_session *session = s->http2->peer[side].session;

	if (p->closed[side] || p->reset[side] || !session)
		return;
	p->reset[side] = true;
	nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, p->id[side], code);
}

static void set_end(struct http2_stream *s, enum http2_end end, uint32_t code)
{
	if (s->end != HTTP2_COMPLETE)
		return;
	s->end = end;
	s->error = code;
}

/* Nobody wants the rest of the request any more. */
static void stop_guest(struct http2_stream *s)
{
	struct http2_private *p = s->private_;

	if (p->sent_all && p->closed[HTTP2_SERVER] && !p->pipe[HTTP2_GUEST].ended)
		reset(s, HTTP2_GUEST, NGHTTP2_NO_ERROR);
}

void http2_on_sent_all(struct http2_stream *s)
{
	s->private_->sent_all = true;
	stop_guest(s);
}

static void guest_closed(struct http2_stream *s, uint32_t code)
{
	struct http2_private *p = s->private_;

	if (code || !p->sent_all)
		set_end(s, HTTP2_GUEST_RESET, code);
	discard(s, HTTP2_SERVER);
	reset(s, HTTP2_SERVER, code ? code : NGHTTP2_CANCEL);
}

static void server_closed(struct http2_stream *s, uint32_t code)
{
	struct http2_private *p = s->private_;

	discard(s, HTTP2_GUEST);
	if (p->closed[HTTP2_GUEST] || p->own_answer || (!code && p->pipe[HTTP2_SERVER].ended)) {
		stop_guest(s);
		return;
	}
	if (s->status == 0 && !p->server_reset && code != NGHTTP2_REFUSED_STREAM) {
		http2_fail(s, "the server has broken the protocol");
		return;
	}
	set_end(s, HTTP2_SERVER_RESET, code);
	discard(s, HTTP2_SERVER);
	reset(s, HTTP2_GUEST, code ? code : NGHTTP2_INTERNAL_ERROR);
}

void http2_on_closed(struct http2_stream *s, enum http2_side side, uint32_t code)
{
	struct http2_private *p = s->private_;

	if (p->closed[side])
		return;
	p->closed[side] = true;
	if (side == HTTP2_GUEST)
		guest_closed(s, code);
	else
		server_closed(s, code);
	if (p->closed[HTTP2_GUEST] && p->closed[HTTP2_SERVER])
		http2_stream_free(s);
}

void http2_drop(struct http2_stream *s)
{
	set_end(s, HTTP2_DROPPED, NGHTTP2_CANCEL);
	discard(s, HTTP2_GUEST);
	discard(s, HTTP2_SERVER);
	reset(s, HTTP2_SERVER, NGHTTP2_CANCEL);
	reset(s, HTTP2_GUEST, NGHTTP2_CANCEL);
}

/* ---- heads ---- */

static void release_head(struct http2_stream *s)
{
	struct http2 *h = s->http2;
	size_t n = s->private_->head_held;

	h->held[HTTP2_GUEST] -= n;
	h->budget->used -= n;
	s->private_->head_held = 0;
	free(s->head);
	s->head = NULL;
	buf_wipe(&s->private_->text);
}

int http2_forward(struct http2_stream *s, const struct http1_edit *edits, size_t n)
{
	struct http2_private *p = s->private_;
	nghttp2_data_provider body;
	int32_t id;

	if (!s->http2->peer[HTTP2_SERVER].session || !s->head)
		return -1;
	id = http2_submit_request(s, edits, n, reader(s, HTTP2_GUEST, &body));
	if (id < 0)
		return -1;
	p->id[HTTP2_SERVER] = id;
	p->closed[HTTP2_SERVER] = false;
	release_head(s);
	return 0;
}

void http2_answer(struct http2_stream *s, unsigned status, const char *const *fields,
	const void *body, size_t len)
{
	struct http2_private *p = s->private_;
	struct http2_pipe *pipe = &p->pipe[HTTP2_SERVER];
	struct http1_head h = {.status = status};
	static const uint8_t no_index[HTTP2_FIELDS_MAX];
	nghttp2_data_provider data;

	release_head(s);
	if (p->closed[HTTP2_GUEST] || s->status)
		return;
	discard(s, HTTP2_GUEST);
	discard(s, HTTP2_SERVER);
	reset(s, HTTP2_SERVER, NGHTTP2_CANCEL);
	p->own_answer = true;
	s->status = status;
	buf_init(&pipe->data, len + 1);
	buf_put(&pipe->data, body, len);
	pipe->ended = true;
	pipe->collect = 0;
	for (; *fields; fields += 2)
		h.headers[h.n_headers++] = (struct http1_header){
			{fields[0], strlen(fields[0])}, {fields[1], strlen(fields[1])}};
	if (http2_submit_response(s, &h, no_index, NULL, 0, reader(s, HTTP2_SERVER, &data)) < 0)
		reset(s, HTTP2_GUEST, NGHTTP2_INTERNAL_ERROR);
}

void http2_fail(struct http2_stream *s, const char *reason)
{
	if (s->status == 0 && !s->private_->closed[HTTP2_GUEST]) {
		s->http2->ops->failed(s, reason);
		return;
	}
	set_end(s, HTTP2_SERVER_RESET, NGHTTP2_INTERNAL_ERROR);
	discard(s, HTTP2_SERVER);
	reset(s, HTTP2_SERVER, NGHTTP2_CANCEL);
	reset(s, HTTP2_GUEST, NGHTTP2_INTERNAL_ERROR);
}

static void on_request(struct http2_stream *s, const struct http2_block *b, bool ended)
{
	struct http2 *h = s->http2;
	struct http2_private *p = s->private_;
	struct err err = {0};

	p->request_read = true;
	p->pipe[HTTP2_GUEST].ended = ended;
	if (http2_read_request(s, b, ended, &err) < 0) {
		h->ops->unreadable(s, &err);
		return;
	}
	p->head_held = buf_len(&p->text) + sizeof(*s->head);
	h->held[HTTP2_GUEST] += p->head_held;
	h->budget->used += p->head_held;
	h->ops->request(s);
}

static void hold(struct http2_stream *s, struct http1_head *head, struct buf *text,
	const struct http2_block *b)
{
	struct http2_private *p = s->private_;

	p->held = head;
	p->held_text = *text;
	*text = (struct buf){0};
	memcpy(p->no_index, b->no_index, sizeof(p->no_index));
	p->pipe[HTTP2_SERVER].collect = HTTP2_WHOLE_MAX;
	p->pipe[HTTP2_SERVER].data.max = HTTP2_WHOLE_MAX + 64;
}

/* The body of a held response is there. */
static void send_held(struct http2_stream *s)
{
	struct http2_private *p = s->private_;
	struct http2_pipe *pipe = &p->pipe[HTTP2_SERVER];
	struct http1_edit length = {.name = "content-length"};
	nghttp2_data_provider body;
	struct err err = {0};
	char text[24];

	if (s->http2->ops->whole_response(s, &pipe->data, &err) < 0) {
		http2_fail(s, err.msg);
		return;
	}
	snprintf(text, sizeof(text), "%zu", buf_len(&pipe->data));
	length.value = text;
	length.value_len = strlen(text);
	s->status = p->held->status;
	buf_done(&pipe->trailer);
	if (http2_submit_response(
		    s, p->held, p->no_index, &length, 1, reader(s, HTTP2_SERVER, &body)) < 0)
		http2_fail(s, "the response's head is too long");
}

static void on_response(struct http2_stream *s, const struct http2_block *b, bool ended)
{
	_free_ struct http1_head *head = xcalloc(1, sizeof(*head));
	_buf_ struct buf text;
	nghttp2_data_provider body;
	struct err err = {0};
	bool interim;
	int r;

	buf_init(&text, HTTP1_HEAD_MAX + HTTP1_LINE_MAX);
	if (http2_read_response(s, b, ended, &text, head, &err) < 0 ||
		(r = s->http2->ops->response(s, head, &err)) < 0) {
		http2_fail(s, err.msg);
		return;
	}
	interim = head->status < 200;
	if (r == 1 && !interim) {
		hold(s, steal_ptr(&head), &text, b);
		return;
	}
	s->private_->pipe[HTTP2_SERVER].ended = ended && !interim;
	if (!interim)
		s->status = head->status;
	if (http2_submit_response(s, head, b->no_index, NULL, 0, reader(s, HTTP2_SERVER, &body)) <
		0)
		http2_fail(s, "the response's head is too long");
}

static void on_trailer(struct http2_stream *s, const struct http2_peer *from)
{
	struct err err = {0};

	if (http2_read_trailer(&s->private_->pipe[from->side].trailer, &from->block, &err) == 0)
		return;
	if (from->side == HTTP2_SERVER) {
		http2_fail(s, err.msg);
		return;
	}
	set_end(s, HTTP2_GUEST_RESET, NGHTTP2_PROTOCOL_ERROR);
	reset(s, HTTP2_GUEST, NGHTTP2_PROTOCOL_ERROR);
}

int http2_on_block(struct http2_stream *s, struct http2_peer *from, bool ended)
{
	struct http2_private *p = s->private_;

	if (from->side == HTTP2_GUEST && !p->request_read)
		on_request(s, &from->block, ended);
	else if (from->side == HTTP2_SERVER && (p->own_answer || p->closed[HTTP2_GUEST]))
		return 0;
	else if (from->side == HTTP2_SERVER && s->status == 0 && !p->held)
		on_response(s, &from->block, ended);
	else if (buf_len(&p->pipe[from->side].trailer) == 0 && !p->pipe[from->side].discard)
		on_trailer(s, from);
	if (ended)
		http2_on_ended(s, from->side);
	return 0;
}

void http2_stream_free(struct http2_stream *s)
{
	struct http2 *h = s->http2;
	struct http2_private *p = s->private_;

	h->ops->ended(s);
	for (enum http2_side side = HTTP2_GUEST; side < HTTP2_SIDES; side++) {
		discard(s, side);
		buf_wipe(&p->pipe[side].trailer);
		if (h->peer[side].session && p->id[side])
			nghttp2_session_set_stream_user_data(
				h->peer[side].session, p->id[side], NULL);
	}
	release_head(s);
	free(p->held);
	buf_wipe(&p->held_text);
	if (s->prev)
		s->prev->next = s->next;
	else
		h->streams = s->next;
	if (s->next)
		s->next->prev = s->prev;
	h->n_streams--;
	h->budget->used -= STREAM_COST;
	free(p);
	free(s);
	if (h->leaving && !h->streams)
		http2_goaway(h);
}

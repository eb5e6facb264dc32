/* SPDX-License-Identifier: Apache-2.0 */
/* Two HTTP/2 connections of which both peers may send anything, with the gate's engine between.
 *
 * The input is a list of moves: a byte that says what, and for bytes of a peer how many follow. The
 * greetings are sent without it. Properties: every stream that was announced ends, once; what comes
 * out is frames of lawful size; memory is counted to the last byte; nothing is held beyond the
 * windows. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gate/http2.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum move {
	MOVE_GUEST,
	MOVE_SERVER,
	MOVE_PULL_GUEST,
	MOVE_PULL_SERVER,
	MOVE_DECIDE,
	MOVE_LOSE,
	MOVE_LEAVE,
	MOVE_DROP,
	MOVES
};

static struct {
	struct http2 *h;
	unsigned announced, ended;
	struct filter *mask, *replace;
	uint8_t decisions; /* what the owner does with the next requests, two bits each */
	struct buf in[HTTP2_SIDES], out[HTTP2_SIDES];
	bool broken[HTTP2_SIDES];
} w;

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void answer(struct http2_stream *s, unsigned status)
{
	static const char *const fields[] = {"content-type", "text/plain", NULL};

	http2_answer(s, status, fields, "refused", 7);
}

static void decide(struct http2_stream *s, unsigned how)
{
	static const struct http1_edit edits[] = {
		{.name = "authorization", .value = "Bearer x", .value_len = 8}, {.name = "x-drop"}};

	if (!s->head)
		return;
	if (how == 3)
		return; /* later */
	if (how == 0) {
		answer(s, 403);
		return;
	}
	if (how == 2)
		http2_filter(s, HTTP2_GUEST, w.replace);
	if (http2_forward(s, edits, 2) < 0 && s->head)
		answer(s, 502);
}

static void on_request(struct http2_stream *s)
{
	w.announced++;
	s->owner = &w;
	require(s->head && s->head->method.n > 0);
	if (http1_slice_is(s->head->method, "PUT"))
		http2_collect(s, 300);
	else
		decide(s, w.decisions & 3);
	w.decisions = (uint8_t)(w.decisions >> 2 | w.decisions << 6);
}

static void on_unreadable(struct http2_stream *s, const struct err *err)
{
	w.announced++;
	s->owner = &w;
	require(err->errnum >= 400 && err->errnum < 600);
	answer(s, (unsigned)err->errnum);
}

static void on_whole_request(struct http2_stream *s)
{
	if (http2_body_ended(s))
		decide(s, 1);
	else
		answer(s, 413);
}

static int on_response(struct http2_stream *s, struct http1_head *h, struct err *err)
{
	require(h->status >= 100 && s->owner && s->status == 0);
	if (h->status < 200)
		return 0;
	if (h->status == 299)
		return err_set(err, ERR_PEER, "forbidden");
	http2_filter(s, HTTP2_SERVER, w.mask);
	return h->status == 201;
}

static int on_whole_response(struct http2_stream *s, struct buf *body, struct err *err)
{
	require(s->owner && buf_len(body) <= HTTP2_WHOLE_MAX);
	return buf_len(body) > 100 ? err_set(err, ERR_PEER, "too long") : 0;
}

static void on_failed(struct http2_stream *s, const char *reason)
{
	require(reason && s->owner);
	answer(s, 502);
}

static void on_ended(struct http2_stream *s)
{
	if (!s->owner)
		return; /* its head never came to an end */
	s->owner = NULL;
	w.ended++;
}

static const struct http2_ops ops = {on_request, on_unreadable, on_whole_request, on_response,
	on_whole_response, on_failed, on_ended};

static void feed(enum http2_side side)
{
	struct err err;

	if (w.broken[side])
		return;
	if (http2_feed(w.h, side, &w.in[side], 1000, &err) < 0)
		w.broken[side] = true;
	if (w.broken[HTTP2_SERVER])
		http2_lost_server(w.h, "broken");
}

/* Take what is due, and look whether it is whole frames. */
static void pull(enum http2_side side)
{
	struct buf *out = &w.out[side];
	struct err err;

	if (w.broken[side])
		return;
	if (http2_pull(w.h, side, out, 20000, &err) < 0) {
		w.broken[side] = true;
		return;
	}
	if (side == HTTP2_SERVER && buf_len(out) >= 24 && buf_head(out)[0] == 'P')
		buf_consume(out, 24); /* the preface */
	while (buf_len(out) >= 9) {
		const uint8_t *p = buf_head(out);
		size_t len = (size_t)p[0] << 16 | (size_t)p[1] << 8 | p[2];

		require(len <= 16384 && p[3] <= 9 && p[3] != 5); /* never a push */
		if (buf_len(out) < 9 + len)
			break;
		buf_consume(out, 9 + len);
	}
}

static void put(enum http2_side side, const uint8_t *p, size_t n)
{
	buf_put(&w.in[side], p, MIN(n, buf_room(&w.in[side])));
	feed(side);
}

static size_t move(const uint8_t *data, size_t size)
{
	enum move what = data[0] % MOVES;
	size_t n = 0;

	switch (what) {
	case MOVE_GUEST:
	case MOVE_SERVER:
		n = size > 1 ? MIN((size_t)data[1], size - 2) : 0;
		put(what == MOVE_GUEST ? HTTP2_GUEST : HTTP2_SERVER, data + 2, n);
		return MIN(n + 2, size);
	case MOVE_PULL_GUEST:
	case MOVE_PULL_SERVER:
		pull(what == MOVE_PULL_GUEST ? HTTP2_GUEST : HTTP2_SERVER);
		break;
	case MOVE_DECIDE:
		for (struct http2_stream *s = http2_streams(w.h); s; s = s->next)
			if (s->head && !http1_slice_is(s->head->method, "PUT"))
				decide(s, data[0] >> 3 & 3);
		break;
	case MOVE_LOSE:
		http2_lost_server(w.h, "lost");
		break;
	case MOVE_LEAVE:
		http2_leave(w.h);
		break;
	case MOVE_DROP:
		if (http2_streams(w.h))
			http2_drop(http2_streams(w.h));
		break;
	case MOVES:
	default:
		break;
	}
	return 1;
}

static void check_held(void)
{
	for (struct http2_stream *s = http2_streams(w.h); s; s = s->next)
		require(s->bytes[HTTP2_GUEST] < 1u << 20 && s->http2 == w.h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
	struct http2_budget budget = {.max = 8u << 20};

	if (size < 2)
		return 0;
	memset(&w, 0, sizeof(w));
	w.decisions = data[0];
	w.mask = filter_new();
	w.replace = filter_new();
	require(filter_add_mask(w.mask, "Bearer x", 8) == 0);
	require(filter_add(w.replace, "abcd", 4, "something longer", 16) == 0);
	w.h = http2_new(&ops, &budget, &w);
	require(w.h);
	for (enum http2_side side = HTTP2_GUEST; side < HTTP2_SIDES; side++) {
		buf_init(&w.in[side], 1u << 16);
		buf_init(&w.out[side], 1u << 20);
	}
	if (data[1] & 1)
		require(http2_start_server(w.h) == 0);
	put(HTTP2_GUEST, hello, sizeof(hello) - 1);
	put(HTTP2_SERVER, hello + 24, 9);
	data += 2, size -= 2;
	while (size > 0 && !w.broken[HTTP2_GUEST]) {
		size_t n = move(data, size);

		data += n, size -= n;
		check_held();
	}
	for (int i = 0; i < 3; i++) {
		feed(HTTP2_GUEST);
		feed(HTTP2_SERVER);
		pull(HTTP2_SERVER);
		pull(HTTP2_GUEST);
	}
	http2_free(w.h);
	filter_free(w.mask);
	filter_free(w.replace);
	require(budget.used == 0);
	require(w.announced == w.ended);
	for (enum http2_side side = HTTP2_GUEST; side < HTTP2_SIDES; side++) {
		buf_done(&w.in[side]);
		buf_done(&w.out[side]);
	}
	return 0;
}

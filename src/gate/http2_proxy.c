/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 between the guest and a server: each stream is a request of its own.
 *
 * http2.c moves the bytes; here is what is decided about them. A request that is refused is
 * answered on its stream and the others go on, unless the whole connection is why: then the guest
 * is told to make a new one. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "gate/http2.h"
#include "gate/oauth.h"
#include "gate/request.h"

struct http2_proxy {
	struct proxy base;
	struct http2 *http2; /* owned */
	bool ready;          /* the guest's handshake is over */
	bool server_tried;
	bool lost;        /* the server is no more … */
	char reason[640]; /* … and why: as long as an error's message */
};

/* The owner's part of a stream. */
struct exchange {
	struct request request;
	bool waiting;           /* permitted; the server, or a credential, is not there yet */
	bool collecting, whole; /* a credential needs the body before the head can be sent */
	bool wants_json, head_only;
	unsigned response_status;
	struct filter *up_filter; /* owned */
};

static struct http2_proxy *proxy_of(const struct flow *f)
{
	return container_of(f->proxy, struct http2_proxy, base);
}

/* ---- answers of our own ---- */

static void answer(struct http2_stream *s, struct refusal *r)
{
	struct flow *f = http2_arg(s);
	struct exchange *e = s->owner;
	_buf_ struct buf body;
	char length[24];

	r->host = f->name;
	r->port = f->port;
	buf_init(&body, REFUSE_BODY_MAX);
	refuse_body(&body, r, e->wants_json);
	snprintf(length, sizeof(length), "%zu", buf_len(&body));
	http2_answer(s, (unsigned)r->status,
		(const char *const[]){"content-type", refuse_content_type(e->wants_json),
			"content-length", length, "x-hutch-refused", r->code, "cache-control",
			"no-store", NULL},
		buf_head(&body), e->head_only ? 0 : buf_len(&body));
	e->waiting = false;
	request_audit(
		f, &e->request, r->status == 403 ? AUDIT_DENY : AUDIT_ERROR, r->status, r->reason);
	/* A new connection may be a better one. */
	if (!f->allowed || f->identity[0] || proxy_of(f)->lost)
		http2_leave(proxy_of(f)->http2);
}

static void refuse(struct http2_stream *s, int status, const char *code, const char *reason)
{
	struct request_refusal why;

	request_refuse(&why, status, code, reason, NULL);
	answer(s, &why.r);
}

/* ---- what happens to a stream ---- */

static void on_failed(struct http2_stream *s, const char *reason)
{
	struct flow *f = http2_arg(s);
	struct request_refusal why;

	if (f->dial_failed) {
		request_refuse_unreached(f, &why);
		answer(s, &why.r);
		return;
	}
	refuse(s, 502, "upstream", reason);
}

/* A body that is changed has another length. */
static size_t reframe(struct http2_stream *s, char length[static 24], struct http1_edit *edits)
{
	const struct exchange *e = s->owner;
	size_t n = 0;

	if (e->whole) {
		snprintf(length, 24, "%zu", buf_len(http2_body(s)));
		edits[n++] = (struct http1_edit){"content-length", length, strlen(length)};
		edits[n++] = (struct http1_edit){.name = "expect"};
	} else if (e->up_filter) {
		edits[n++] = (struct http1_edit){.name = "content-length"};
	}
	return n;
}

static void send_on(struct http2_stream *s)
{
	struct flow *f = http2_arg(s);
	struct exchange *e = s->owner;
	struct request_changes c;
	struct request_refusal why;
	char length[24];
	int r;

	e->waiting = false;
	if (!request_prepare(f, &e->request, s->head, e->whole ? http2_body(s) : NULL, &c, &why)) {
		request_changes_done(&c);
		answer(s, &why.r);
		return;
	}
	e->up_filter = steal_ptr(&c.inject.body);
	http2_filter(s, HTTP2_GUEST, e->up_filter);
	c.n += reframe(s, length, c.edits + c.n);
	r = http2_forward(s, c.edits, c.n);
	request_changes_done(&c);
	if (r < 0) {
		e->request.services[0] = '\0';
		refuse(s, 431, "request", "the request's head is too long");
	}
}

/* Send it on as soon as all is there. */
static void forward(struct http2_stream *s)
{
	struct flow *f = http2_arg(s);
	struct exchange *e = s->owner;

	if (proxy_of(f)->lost) {
		on_failed(s, proxy_of(f)->reason);
		return;
	}
	if (!http2_has_server(proxy_of(f)->http2) || values_pending(&e->request.values))
		return;
	if (e->whole || !request_wants_body(f, &e->request, s->head)) {
		send_on(s);
	} else if (!e->collecting) {
		e->collecting = true;
		http2_collect(s, INJECT_BODY_MAX);
	}
}

static void on_whole_request(struct http2_stream *s)
{
	struct exchange *e = s->owner;

	if (buf_len(http2_body(s)) > INJECT_BODY_MAX || !http2_body_ended(s)) {
		refuse(s, 413, "credential",
			"a credential of this request depends on its body, which is larger than "
			"1 MiB");
		return;
	}
	e->whole = true;
	forward(s);
}

static void on_request(struct http2_stream *s)
{
	struct flow *f = http2_arg(s);
	struct exchange *e = xcalloc(1, sizeof(*e));
	struct request_refusal why;

	s->owner = e;
	e->wants_json = request_accepts_json(s->head);
	e->head_only = http1_slice_is(s->head->method, "HEAD");
	request_begin(&e->request, f, s->head);
	if (!request_check(f, &e->request, s->head, &why)) {
		answer(s, &why.r);
		return;
	}
	if (s->https != (f->guest.tls != NULL)) {
		refuse(s, 403, "identity", "the request's scheme is not that of the connection");
		return;
	}
	e->waiting = true;
	forward(s);
}

static void on_unreadable(struct http2_stream *s, const struct err *err)
{
	struct flow *f = http2_arg(s);
	struct exchange *e = xcalloc(1, sizeof(*e));

	s->owner = e;
	e->request.started_ns = loop_now(f->gate->loop);
	refuse(s, err->errnum, "request", err->msg);
}

static int on_response(struct http2_stream *s, struct http1_head *h, struct err *err)
{
	struct flow *f = http2_arg(s);
	struct exchange *e = s->owner;

	if (inject_answer_head(&e->request.answer, h, err) < 0)
		return -1;
	if (h->status < 200)
		return 0;
	e->request.answered_ns = loop_now(f->gate->loop);
	if (inject_answer_is_whole(&e->request.answer, h)) {
		e->response_status = h->status;
		return 1;
	}
	http2_filter(s, HTTP2_SERVER, e->request.answer.mask);
	return 0;
}

static int on_whole_response(struct http2_stream *s, struct buf *body, struct err *err)
{
	struct flow *f = http2_arg(s);
	struct exchange *e = s->owner;

	return inject_answer_body(&e->request.answer, f->gate->config, f->gate->tokens,
		e->response_status, body, err);
}

static void on_ended(struct http2_stream *s)
{
	struct flow *f = http2_arg(s);
	struct exchange *e = s->owner;
	enum audit_verdict verdict = s->end == HTTP2_SERVER_RESET ? AUDIT_ERROR : AUDIT_ALLOW;
	char reason[160];

	if (!e)
		return;
	snprintf(reason, sizeof(reason), "the %s has reset the stream: %s",
		s->end == HTTP2_GUEST_RESET ? "guest" : "server", http2_error_name(s->error));
	e->request.bytes_up = s->bytes[HTTP2_GUEST];
	e->request.bytes_down = s->bytes[HTTP2_SERVER];
	if (e->request.open)
		request_audit(f, &e->request, verdict, (int)s->status,
			s->end == HTTP2_COMPLETE ? NULL : reason);
	request_done(&e->request);
	filter_free(e->up_filter);
	free(e);
	s->owner = NULL;
}

/* ---- the connection ---- */

/* Write the line of a request before its stream ends. */
static void audit_now(struct http2_stream *s, enum audit_verdict verdict, const char *reason)
{
	struct exchange *e = s->owner;

	if (!e || !e->request.open)
		return;
	e->request.bytes_up = s->bytes[HTTP2_GUEST];
	e->request.bytes_down = s->bytes[HTTP2_SERVER];
	request_audit(http2_arg(s), &e->request, verdict, (int)s->status, reason);
}

static void end(struct flow *f)
{
	for (struct http2_stream *s = http2_streams(proxy_of(f)->http2); s; s = s->next)
		audit_now(s, f->verdict, f->reason[0] ? f->reason : "the connection has ended");
}

static void timeout(struct flow *f)
{
	flow_reset(f, AUDIT_ERROR, "the guest took too long");
}

static void recheck(struct flow *f)
{
	for (struct http2_stream *s = http2_streams(proxy_of(f)->http2); s; s = s->next) {
		struct exchange *e = s->owner;
		struct flow_decision d;

		if (!e || !e->request.open)
			continue;
		flow_decide(f, &e->request, &d);
		if (d.allowed)
			continue;
		audit_now(s, AUDIT_DENY, d.reason);
		e->waiting = false;
		http2_drop(s);
	}
}

static void lose_server(struct flow *f, const char *reason)
{
	struct http2_proxy *p = proxy_of(f);

	if (p->lost)
		return;
	p->lost = true;
	snprintf(p->reason, sizeof(p->reason), "%s", reason);
	http2_lost_server(p->http2, p->reason);
	f->up.fin = true;
}

/* The server's side: whether it is there, or is no more. */
static void look_at_server(struct flow *f)
{
	struct http2_proxy *p = proxy_of(f);
	struct stream *up = &f->up;

	if (f->dial_failed) {
		lose_server(f, f->dial_err.msg);
		return;
	}
	if (up->fd < 0 || (!flow_is_connected(f) && !up->eof))
		return;
	if (!p->server_tried) {
		p->server_tried = true;
		up->wipe = true;
		if (!up->read_failed && http2_start_server(p->http2) < 0)
			lose_server(f, "out of memory");
	}
	if (up->eof && buf_len(&up->in) == 0)
		lose_server(f, up->read_failed
				       ? up->err.msg
				       : "the server closed the connection without an answer");
}

static void forward_waiting(struct flow *f)
{
	for (struct http2_stream *s = http2_streams(proxy_of(f)->http2); s; s = s->next) {
		const struct exchange *e = s->owner;

		if (e && e->waiting)
			forward(s);
	}
}

static void move_server(struct flow *f)
{
	struct http2_proxy *p = proxy_of(f);
	struct stream *up = &f->up;
	struct err err;

	if (http2_feed(p->http2, HTTP2_SERVER, &up->in, loop_now(f->gate->loop), &err) < 0 ||
		http2_pull(p->http2, HTTP2_SERVER, &up->out, STREAM_FULL, &err) < 0) {
		lose_server(f, err.msg);
		return;
	}
	if (http2_has_server(p->http2) && http2_over(p->http2, HTTP2_SERVER)) {
		const char *why = http2_why(p->http2, HTTP2_SERVER);

		lose_server(f, why ? why : "the server has ended the connection");
	}
	if (p->lost)
		buf_consume(&up->in, buf_len(&up->in));
}

static bool move_guest(struct flow *f)
{
	struct http2_proxy *p = proxy_of(f);
	struct stream *guest = &f->guest;
	struct err err;

	if (!p->ready && (!guest->tls || tls_ready(guest->tls))) {
		p->ready = true;
		flow_deadline(f, 0);
	}
	if (http2_feed(p->http2, HTTP2_GUEST, &guest->in, loop_now(f->gate->loop), &err) < 0) {
		flow_reset(f, AUDIT_ERROR, "guest: %s", err.msg);
		return false;
	}
	return true;
}

/* Whether the connection is at its end, and has been ended. */
static bool finish(struct flow *f)
{
	struct http2_proxy *p = proxy_of(f);
	bool left = stream_gone(&f->guest) || (f->guest.eof && buf_len(&f->guest.in) == 0);

	if (left && http2_streams(p->http2)) {
		flow_reset(f, AUDIT_ALLOW, "the guest went away");
		return true;
	}
	if (!left && !http2_over(p->http2, HTTP2_GUEST))
		return false;
	if (!f->audited && f->guest.read_failed)
		flow_note_guest_error(f);
	else if (!f->audited && http2_why(p->http2, HTTP2_GUEST))
		snprintf(f->reason, sizeof(f->reason), "guest: HTTP/2: %s",
			http2_why(p->http2, HTTP2_GUEST));
	flow_close(f);
	return true;
}

static bool step(struct flow *f)
{
	struct http2_proxy *p = proxy_of(f);
	const struct buf *all[] = {&f->guest.in, &f->guest.out, &f->up.in, &f->up.out};
	size_t before[ARRAY_SIZE(all)];
	bool moved = false;
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		before[i] = buf_len(all[i]);
	if (!move_guest(f))
		return true;
	look_at_server(f);
	forward_waiting(f);
	move_server(f);
	if (http2_pull(p->http2, HTTP2_GUEST, &f->guest.out, STREAM_FULL, &err) < 0) {
		flow_reset(f, AUDIT_ERROR, "guest: %s", err.msg);
		return true;
	}
	if (finish(f))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		moved |= before[i] != buf_len(all[i]);
	return moved;
}

static void proxy_free(struct flow *f)
{
	struct http2_proxy *p = proxy_of(f);

	http2_free(p->http2);
	free(p);
	f->proxy = NULL;
}

void proxy_start_http2(struct flow *f)
{
	static const struct proxy_ops ops = {.step = step,
		.timeout = timeout,
		.recheck = recheck,
		.end = end,
		.free = proxy_free};
	static const struct http2_ops stream_ops = {.request = on_request,
		.unreadable = on_unreadable,
		.whole_request = on_whole_request,
		.response = on_response,
		.whole_response = on_whole_response,
		.failed = on_failed,
		.ended = on_ended};
	struct http2_proxy *p;
	struct http2 *h = http2_new(&stream_ops, &f->gate->http2_budget, f);

	if (!h) {
		flow_reset(f, AUDIT_ERROR, "the gate has too many HTTP/2 connections");
		return;
	}
	p = xcalloc(1, sizeof(*p));
	p->base.ops = &ops;
	p->http2 = h;
	f->proxy = &p->base;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1 between the guest and a server, request by request.
 *
 * One connection of the guest is one connection to the server. Requests are served one after the
 * other; pipelined ones wait in guest.in. For each request, before a byte of it leaves: the rules
 * are asked again, Host has to agree with the destination, the server's certificate has been
 * verified, and credentials are there (values.h). Heads are rewritten, bodies stream through
 * with their framing checked, in both directions at once.
 *
 * When something goes wrong before the guest has seen a byte of the response, it gets an
 * explanation; afterwards a reset, so that a cut response never looks complete. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "gate/oauth.h"
#include "gate/request.h"
#include "gate/via.h"

#define UPSTREAM_TLS_MS 30000u

enum proxy_state {
	PROXY_REQUEST,  /* no complete request head yet; nothing of it has been sent on */
	PROXY_UPSTREAM, /* `req` is read and permitted; the server, or a credential, is not ready
			   yet */
	PROXY_EXCHANGE, /* the head has gone out: request body up, response down */
};

struct http1_proxy {
	struct proxy base;
	enum proxy_state state;
	unsigned n_requests; /* answered on this connection */
	struct buf head;     /* bytes of the request's head: what `req` points into */
	struct http1_head req, resp;
	struct http1_body up_body, down_body;
	struct request request;
	bool up_done; /* request body complete */
	/* Credentials may need a body whole: the request's before its head is sent on, a token
	 * endpoint's answer before its head is (oauth.h). */
	bool collecting, collected;
	struct buf up_whole, down_whole;
	struct buf down_head;     /* what `resp` points into then */
	struct filter *up_filter; /* owned; of a body that streams */
	bool answering;           /* final response head has gone to the guest */
};

static struct http1_proxy *proxy_of(const struct flow *f)
{
	return container_of(f->proxy, struct http1_proxy, base);
}

static void new_request(struct http1_proxy *p)
{
	http1_request_init(&p->req);
	http1_body_done(&p->up_body);
	http1_body_done(&p->down_body);
	p->up_body = p->down_body = (struct http1_body){0};
	p->state = PROXY_REQUEST;
	p->up_done = p->answering = p->collecting = p->collected = false;
	buf_wipe(&p->up_whole);
	buf_wipe(&p->down_whole);
	buf_wipe(&p->down_head);
	filter_free(p->up_filter);
	p->up_filter = NULL;
	request_done(&p->request);
	p->resp.status = 0;
}

/* ---- audit ---- */

static void audit(struct flow *f, enum audit_verdict verdict, int status, const char *reason)
{
	struct http1_proxy *p = proxy_of(f);

	p->request.bytes_up = p->up_body.received;
	p->request.bytes_down = p->down_body.received;
	request_audit(f, &p->request, verdict, status, reason);
}

static void end(struct flow *f)
{
	struct http1_proxy *p = proxy_of(f);

	if (!p->request.open)
		return;
	/* After an upgrade the connection's bytes are the request's. */
	p->up_body.received += f->bytes_up;
	p->down_body.received += f->bytes_down;
	audit(f, f->verdict, p->answering ? (int)p->resp.status : 0,
		f->reason[0] ? f->reason : NULL);
}

/* ---- answers of our own ---- */

static void answer(struct flow *f, struct refusal *r)
{
	struct http1_proxy *p = proxy_of(f);
	bool read = p->state != PROXY_REQUEST;

	r->host = f->name;
	r->port = f->port;
	refuse_write(&f->guest.out, r, read && request_accepts_json(&p->req),
		read && http1_slice_is(p->req.method, "HEAD"));
	audit(f, r->status == 403 ? AUDIT_DENY : AUDIT_ERROR, r->status, r->reason);
	flow_close(f);
}

static bool refuse(
	struct flow *f, int status, const char *code, const char *reason, const char *remedy)
{
	answer(f, &(struct refusal){.status = status,
			  .code = code,
			  .reason = reason,
			  .remedy = remedy && remedy[0] ? remedy : NULL});
	return true;
}

/* The server is at fault, or cannot be reached. */
static bool fail_upstream(struct flow *f, const char *reason)
{
	struct http1_proxy *p = proxy_of(f);

	if (p->answering) {
		flow_reset(f, AUDIT_ERROR, "server: %s", reason);
		return true;
	}
	return refuse(f, 502, "upstream", reason, NULL);
}

/* ---- the request ---- */

static bool check_request(struct flow *f)
{
	struct http1_proxy *p = proxy_of(f);
	struct request_refusal why;

	if (!request_check(f, &p->request, &p->req, &why))
		answer(f, &why.r);
	return true;
}

/* No request is under way. */
static bool end_of_guest(struct flow *f)
{
	if (proxy_of(f)->n_requests == 0 && f->guest.read_failed)
		flow_note_guest_error(f);
	flow_close(f);
	return true;
}

/* A server that was there has closed the idle connection: pass that on, so that the client opens a
 * new one for its next request. */
static bool server_left(const struct flow *f)
{
	return f->up.eof && !f->up.read_failed && (!f->up.tls || tls_ready(f->up.tls));
}

static bool read_request(struct flow *f)
{
	struct http1_proxy *p = proxy_of(f);
	struct buf *in = &f->guest.in;
	struct err err;
	int r;

	if (f->guest.tls && tls_ready(f->guest.tls) && p->n_requests == 0 && buf_len(in) == 0)
		flow_deadline(f, 0);
	if (buf_len(in) == 0) {
		if (f->guest.eof || stream_gone(&f->guest) || server_left(f))
			return end_of_guest(f);
		return false;
	}
	r = http1_parse(&p->req, buf_head(in), buf_len(in), &err);
	if (r < 0)
		return refuse(f, err.errnum ? err.errnum : 400, "request", err.msg, NULL);
	if (r == 0 && buf_room(in) == 0)
		return refuse(f, 431, "request", "the request's head is too long", NULL);
	if (r == 0) {
		if (f->guest.eof)
			return end_of_guest(f);
		return false;
	}
	/* The slices have to stay where they are while the server is being connected. */
	buf_reset(&p->head);
	buf_put(&p->head, buf_head(in), p->req.size);
	buf_consume(in, p->req.size);
	http1_request_init(&p->req);
	if (http1_parse(&p->req, buf_head(&p->head), buf_len(&p->head), &err) != 1)
		return refuse(f, 400, "request", "the request cannot be read", NULL);
	p->state = PROXY_UPSTREAM; /* `req` may be looked at */
	flow_deadline(f, 0);
	request_begin(&p->request, f, &p->req);
	return check_request(f);
}

/* HTTP/2 must not begin behind our back. */
static size_t drop_h2c(struct http1_head *h, struct http1_edit *edits)
{
	if (!http1_has_token(h, "Upgrade", "h2c"))
		return 0;
	h->upgrade = false;
	edits[0] = (struct http1_edit){.name = "Upgrade"};
	edits[1] = (struct http1_edit){.name = "HTTP2-Settings"};
	return 2;
}

/* Read the body whole. Whether something has happened; p->collected when it is complete. */
static bool collect(struct flow *f)
{
	struct http1_proxy *p = proxy_of(f);
	struct buf *in = &f->guest.in;
	bool begun = !p->collecting;
	size_t used = 0;
	struct err err;
	int r;

	if (begun) {
		p->collecting = true;
		http1_body_init(&p->up_body, &p->req);
		p->up_body.written = HTTP1_BARE;
		buf_init(&p->up_whole, INJECT_BODY_MAX + 64);
		if (p->req.expect_continue)
			buf_puts(&f->guest.out, "HTTP/1.1 100 Continue\r\n\r\n");
	}
	r = http1_body_feed(&p->up_body, buf_head(in), buf_len(in), &used, &p->up_whole, &err);
	buf_consume(in, used);
	if (r < 0)
		return refuse(f, 400, "request", err.msg, NULL);
	if (buf_len(&p->up_whole) > INJECT_BODY_MAX ||
		(p->req.framing == HTTP1_LENGTH && p->req.content_length > INJECT_BODY_MAX))
		return refuse(f, 413, "credential",
			"a credential of this request depends on its body, which is larger than "
			"1 MiB",
			NULL);
	if (r == 0 && f->guest.eof && buf_len(in) == 0) {
		flow_reset(f, AUDIT_ERROR, "guest: the request ended too early");
		return true;
	}
	p->collected = r == 1;
	return begun || used > 0 || p->collected;
}

/* A body that was changed goes out with another framing. */
static size_t reframe(struct http1_proxy *p, char length[static 24], struct http1_edit *edits)
{
	size_t n = 0;

	if (p->collected) {
		snprintf(length, 24, "%zu", buf_len(&p->up_whole));
		edits[n++] = (struct http1_edit){"Content-Length", length, strlen(length)};
		edits[n++] = (struct http1_edit){.name = "Transfer-Encoding"};
		edits[n++] = (struct http1_edit){.name = "Expect"};
	} else if (p->up_filter && p->req.framing == HTTP1_LENGTH) {
		edits[n++] = (struct http1_edit){.name = "Content-Length"};
		edits[n++] = (struct http1_edit){"Transfer-Encoding", "chunked", 7};
	}
	return n;
}

static void start_body(struct http1_proxy *p)
{
	if (p->collected)
		return;
	http1_body_init(&p->up_body, &p->req);
	p->up_body.filter = p->up_filter;
	if (p->up_filter)
		p->up_body.written = HTTP1_IN_CHUNKS;
	p->up_done = p->req.framing == HTTP1_NO_BODY;
}

static bool send_head(struct flow *f)
{
	struct http1_proxy *p = proxy_of(f);
	struct request_changes c;
	struct request_refusal why;
	char length[24];
	int r;

	if (!request_prepare(
		    f, &p->request, &p->req, p->collected ? &p->up_whole : NULL, &c, &why)) {
		request_changes_done(&c);
		answer(f, &why.r);
		return true;
	}
	p->up_filter = steal_ptr(&c.inject.body);
	c.n += drop_h2c(&p->req, c.edits + c.n);
	if (f->via && via_forwards(f->via))
		via_edit_request(f->via, &p->req, &c.edits[c.n++]);
	c.n += reframe(p, length, c.edits + c.n);
	f->up.wipe = true;
	r = http1_write(&p->req, c.edits, c.n, &f->up.out);
	request_changes_done(&c);
	if (r < 0 || (p->up_filter && p->req.minor == 0)) {
		p->request.services[0] = '\0';
		return r < 0 ? refuse(f, 431, "request", "the request's head is too long", NULL)
			     : refuse(f, 413, "request",
				       "the request's body is too large for HTTP/1.0", NULL);
	}
	start_body(p);
	http1_response_init(&p->resp, &p->req);
	p->state = PROXY_EXCHANGE;
	flow_deadline(f, 0);
	return true;
}

static void timeout(struct flow *f)
{
	if (proxy_of(f)->state == PROXY_REQUEST)
		flow_reset(f, AUDIT_ERROR, "the guest took too long");
	else
		fail_upstream(f, "the server took too long to set up TLS");
}

static bool wait_for_server(struct flow *f)
{
	struct http1_proxy *p = proxy_of(f);
	struct stream *up = &f->up;

	if (f->dial_failed) {
		struct request_refusal why;

		request_refuse_unreached(f, &why);
		answer(f, &why.r);
		return true;
	}
	if (up->read_failed && p->n_requests == 0)
		return fail_upstream(f, up->err.msg);
	if (up->eof) {
		/* A kept connection that the server closed in the meantime: the client tries again
		 * on a new one when it is told nothing. */
		if (p->n_requests == 0)
			return fail_upstream(f, "the server closed the connection at once");
		flow_reset(f, AUDIT_ERROR, "the server had closed the kept connection");
		return true;
	}
	if (stream_gone(&f->guest)) {
		flow_reset(f, AUDIT_ALLOW, "the guest went away");
		return true;
	}
	if (buf_len(&up->in) > 0)
		return fail_upstream(f, "the server speaks without being asked: this is not HTTP");
	if (up->tls && !tls_ready(up->tls) && !f->deadline_ns)
		flow_deadline(f, UPSTREAM_TLS_MS);
	if (!flow_is_connected(f) || !stream_has_room(up))
		return false;
	if (values_pending(&p->request.values)) {
		flow_deadline(f, 0); /* the set has its own */
		return false;
	}
	if (!p->collected && (p->collecting || request_wants_body(f, &p->request, &p->req)))
		return collect(f);
	return send_head(f);
}

/* ---- the exchange ---- */

/* The body that was collected. */
static bool forward_whole(struct flow *f)
{
	struct http1_proxy *p = proxy_of(f);
	size_t n = MIN(buf_len(&p->up_whole), buf_room(&f->up.out));

	buf_put(&f->up.out, buf_head(&p->up_whole), n);
	buf_consume(&p->up_whole, n);
	p->up_done = buf_len(&p->up_whole) == 0;
	if (p->up_done)
		buf_wipe(&p->up_whole);
	return true;
}

static bool forward_request_body(struct flow *f)
{
	struct http1_proxy *p = proxy_of(f);
	struct buf *in = &f->guest.in;
	size_t used = 0;
	struct err err;
	int r;

	if (p->up_done)
		return false;
	if (f->up.write_failed) {
		/* The server has stopped reading, perhaps because it has already answered. */
		buf_consume(in, buf_len(in));
		return false;
	}
	if (!stream_has_room(&f->up))
		return false;
	if (p->collected)
		return forward_whole(f);
	r = http1_body_feed(&p->up_body, buf_head(in), buf_len(in), &used, &f->up.out, &err);
	buf_consume(in, used);
	if (r < 0 && !p->answering)
		return refuse(f, 400, "request", err.msg, NULL);
	if (r < 0 || (r == 0 && f->guest.eof && buf_len(in) == 0)) {
		flow_reset(f, AUDIT_ERROR, "guest: %s",
			r < 0 ? err.msg : "the request ended too early");
		return true;
	}
	p->up_done = r == 1;
	return used > 0 || p->up_done;
}

static bool finish_request(struct flow *f)
{
	struct http1_proxy *p = proxy_of(f);
	bool keep = p->up_done && p->req.keep_alive && p->resp.keep_alive &&
		    p->resp.framing != HTTP1_UNTIL_CLOSE;

	p->n_requests++;
	audit(f, AUDIT_ALLOW, (int)p->resp.status, NULL);
	/* Bytes that no request asked for must not become the answer to the next one. */
	if (keep && !f->up.eof && buf_len(&f->up.in) == 0)
		new_request(p);
	else
		flow_close(f);
	return true;
}

static bool upgrade(struct flow *f)
{
	if (!proxy_of(f)->req.upgrade) {
		flow_reset(f, AUDIT_ERROR, "server: an upgrade that nobody asked for");
		return true;
	}
	flow_tunnel(f, f->proto);
	return true;
}

/* The head waits for the body; its slices have to stay where they are. */
static bool start_whole_answer(struct flow *f)
{
	struct http1_proxy *p = proxy_of(f);
	struct buf *in = &f->up.in;
	struct err err;

	buf_init(&p->down_head, HTTP1_HEAD_MAX);
	buf_init(&p->down_whole, OAUTH_BODY_MAX + 64);
	buf_put(&p->down_head, buf_head(in), p->resp.size);
	buf_consume(in, p->resp.size);
	http1_response_init(&p->resp, &p->req);
	if (http1_parse(&p->resp, buf_head(&p->down_head), buf_len(&p->down_head), &err) != 1)
		return fail_upstream(f, "the response's head cannot be read");
	http1_body_init(&p->down_body, &p->resp);
	p->down_body.written = HTTP1_BARE;
	return true;
}

static bool finish_request(struct flow *f);

static bool send_whole_answer(struct flow *f)
{
	struct http1_proxy *p = proxy_of(f);
	struct http1_edit edits[2] = {{.name = "Transfer-Encoding"}, {.name = "Content-Length"}};
	char length[24];
	struct err err;

	if (inject_answer_body(&p->request.answer, f->gate->config, f->gate->tokens, p->resp.status,
		    &p->down_whole, &err) < 0)
		return fail_upstream(f, err.msg);
	snprintf(length, sizeof(length), "%zu", buf_len(&p->down_whole));
	edits[1].value = length;
	edits[1].value_len = strlen(length);
	if (http1_write(&p->resp, edits, 2, &f->guest.out) < 0 ||
		buf_put(&f->guest.out, buf_head(&p->down_whole), buf_len(&p->down_whole)) < 0)
		return fail_upstream(f, "the response is too long");
	p->answering = true;
	p->request.answered_ns = loop_now(f->gate->loop);
	return finish_request(f);
}

static bool collect_answer(struct flow *f)
{
	struct http1_proxy *p = proxy_of(f);
	struct buf *in = &f->up.in;
	size_t used = 0;
	struct err err;
	int r;

	if (!stream_has_room(&f->guest))
		return false;
	r = http1_body_feed(&p->down_body, buf_head(in), buf_len(in), &used, &p->down_whole, &err);
	buf_consume(in, used);
	if (r == 0 && f->up.eof && buf_len(in) == 0)
		r = !f->up.read_failed && http1_body_eof(&p->down_body) ? 1 : -1;
	if (r < 0 || buf_len(&p->down_whole) > OAUTH_BODY_MAX)
		return fail_upstream(f, "the token endpoint's answer is cut off or too long");
	if (r == 1)
		return send_whole_answer(f);
	return used > 0;
}

static bool read_response_head(struct flow *f)
{
	struct http1_proxy *p = proxy_of(f);
	struct buf *in = &f->up.in;
	struct err err;
	int r;

	if (!stream_has_room(&f->guest))
		return false;
	r = http1_parse(&p->resp, buf_head(in), buf_len(in), &err);
	if (r < 0 || (r == 0 && buf_room(in) == 0))
		return fail_upstream(f, r < 0 ? err.msg : "the response's head is too long");
	if (r == 0 && f->up.eof) {
		if (p->n_requests == 0 || buf_len(in) > 0 || f->up.read_failed)
			return fail_upstream(
				f, f->up.read_failed
					   ? f->up.err.msg
					   : "the server closed the connection without an answer");
		flow_reset(f, AUDIT_ERROR, "the server had closed the kept connection");
		return true;
	}
	if (r == 0)
		return false;
	if (f->via && via_forwards(f->via) && via_explain(f->via, p->resp.status))
		return fail_upstream(f, via_explain(f->via, p->resp.status));
	if (inject_answer_head(&p->request.answer, &p->resp, &err) < 0)
		return fail_upstream(f, err.msg);
	if (inject_answer_is_whole(&p->request.answer, &p->resp))
		return start_whole_answer(f);
	if (http1_write(&p->resp, NULL, 0, &f->guest.out) < 0)
		return fail_upstream(f, "the response's head is too long");
	buf_consume(in, p->resp.size);
	if (p->resp.framing == HTTP1_TUNNEL) {
		p->answering = true;
		p->request.answered_ns = loop_now(f->gate->loop);
		return upgrade(f);
	}
	if (p->resp.status < 200) {
		http1_response_init(&p->resp, &p->req);
		return true;
	}
	p->answering = true;
	p->request.answered_ns = loop_now(f->gate->loop);
	http1_body_init(&p->down_body, &p->resp);
	p->down_body.filter = p->request.answer.mask;
	return true;
}

static bool forward_response_body(struct flow *f)
{
	struct http1_proxy *p = proxy_of(f);
	struct buf *in = &f->up.in;
	size_t used = 0;
	struct err err;
	int r;

	if (!stream_has_room(&f->guest))
		return false;
	r = http1_body_feed(&p->down_body, buf_head(in), buf_len(in), &used, &f->guest.out, &err);
	buf_consume(in, used);
	if (r < 0)
		return fail_upstream(f, err.msg);
	if (r == 0 && f->up.eof && buf_len(in) == 0) {
		if (f->up.read_failed || !http1_body_eof(&p->down_body))
			return fail_upstream(f, "the response ended too early");
		r = http1_body_end(&p->down_body, &f->guest.out);
	}
	if (r == 1)
		return finish_request(f);
	return used > 0;
}

static bool exchange(struct flow *f)
{
	bool moved;

	if (stream_gone(&f->guest)) {
		flow_reset(f, AUDIT_ALLOW, "the guest went away");
		return true;
	}
	moved = forward_request_body(f);
	if (f->state != FLOW_PROXY)
		return true;
	if (!proxy_of(f)->answering) {
		if (buf_len(&proxy_of(f)->down_head) > 0)
			return collect_answer(f) || moved;
		if (!read_response_head(f))
			return moved;
		/* Head and body of a short answer leave in one piece. */
		if (f->state != FLOW_PROXY || !proxy_of(f)->answering)
			return true;
		moved = true;
	}
	return forward_response_body(f) || moved;
}

static bool step(struct flow *f)
{
	switch (proxy_of(f)->state) {
	case PROXY_REQUEST:
		return read_request(f);
	case PROXY_UPSTREAM:
		return wait_for_server(f);
	case PROXY_EXCHANGE:
		return exchange(f);
	default:
		return false;
	}
}

/* ---- begin and end ---- */

static void recheck(struct flow *f)
{
	const struct request *r = &proxy_of(f)->request;
	struct flow_decision d;

	if (!r->open)
		return;
	flow_decide(f, r, &d);
	if (!d.allowed)
		flow_reset(f, AUDIT_DENY, "%s", d.reason);
}

static void proxy_free(struct flow *f)
{
	struct http1_proxy *p = proxy_of(f);

	http1_body_done(&p->up_body);
	http1_body_done(&p->down_body);
	request_done(&p->request);
	buf_wipe(&p->up_whole);
	buf_wipe(&p->down_whole);
	buf_wipe(&p->down_head);
	filter_free(p->up_filter);
	buf_done(&p->head);
	free(p);
	f->proxy = NULL;
}

void proxy_start_http1(struct flow *f)
{
	static const struct proxy_ops ops = {.step = step,
		.timeout = timeout,
		.recheck = recheck,
		.end = end,
		.free = proxy_free};
	struct http1_proxy *p = xcalloc(1, sizeof(*p));

	p->base.ops = &ops;
	buf_init(&p->head, HTTP1_HEAD_MAX);
	new_request(p);
	f->proxy = &p->base;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of the guest: open, decide, step, end.
 *
 * Identity comes from three places: the name behind the synthetic address, the server name in the
 * TLS hello, the Host of each request. All that are present have to agree.
 *
 *   no rule, and the server would speak first    refuse the SYN
 *   no rule                                      accept, read, explain (HTTP, TLS) or reset
 *   allowed, first bytes contradict the name     explain or reset
 *   allowed, a credential or HTTP rule is there  TLS is ours, requests are read (intercept.c)
 *   allowed, HTTP without TLS                    requests are read (http1_proxy.c, http2_proxy.c)
 *   allowed, TLS whose CA only the gate knows    the same, where it is HTTP
 *   allowed, TLS or anything else                tunnel
 *
 * A hello with encrypted server name (or the imitation of one that browsers send) hides where the
 * connection ends behind a shared address, so it is not tunnelled: our TLS end does not know the
 * extension, and the requests are read.
 *
 * Every wake-up ends in flow_run: pump both sockets, step the state, until nothing moves. Each
 * socket is read once per wake-up, so one busy connection cannot starve the others. */
#include "gate/flow.h"

#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "gate/dns.h"
#include "gate/request.h"
#include "gate/via.h"
#include "gate/sniff.h"
#include "wire/chain.h"

#define DENIED_SILENT_MS 3000u  /* a refused destination, nothing sent */
#define LATE_MS          250u   /* whoever speaks first: then it is not HTTP */
#define HELLO_MS         30000u /* the first bytes have begun */
#define CLOSE_MS         60000u /* the guest reads the last answer */
#define LINGER_MS        2000u  /* the guest closes its side */
#define SWEEP_MS         500u

/* Protocols in which the server speaks first: no explanation could be understood, and a client
 * would wait for a greeting, so the connection is refused outright. */
static const uint16_t server_first_ports[] = {
	21, 22, 23, 25, 110, 119, 143, 587, 873, 2222, 3306, 5900, 6667};

/* ---- what the policy says ---- */

static struct policy_query query(const struct flow *f)
{
	return (struct policy_query){.name = f->is_addr ? NULL : f->name,
		.addr = f->is_addr ? &f->addr : NULL,
		.port = f->port};
}

void flow_decide(const struct flow *f, const struct request *r, struct flow_decision *ret)
{
	struct policy_query q = query(f);

	if (r)
		request_query(r, &q);
	gate_decide(f->gate, &q, ret);
}

/* dial_check_fn: the address that a name leads to has to pass, too. */
static const char *check_via(void *arg, const struct policy_addr *a)
{
	struct flow *f = arg;
	struct policy_query q = query(f);

	q.addr = a;
	return gate_check_addr(f->gate, &q);
}

static const char *check_addr(struct dial *d, const struct policy_addr *a)
{
	return check_via(container_of(d, struct flow, dial), a);
}

/* ---- ending ---- */

void flow_deadline(struct flow *f, unsigned ms)
{
	f->deadline_ns = ms ? loop_now(f->gate->loop) + ms * 1000000ull : 0;
}

void flow_audit_fields(
	const struct flow *f, const struct flow_decision *d, struct audit_record *ret)
{
	*ret = (struct audit_record){.verdict = f->verdict,
		.proto = f->proto,
		.name = f->name,
		.addr = f->peer[0] ? f->peer : NULL,
		.proxy = f->proxied ? f->proxied->text : NULL,
		.port = f->port,
		.rule = d->rule[0] ? d->rule : NULL,
		.source = d->source[0] ? d->source : NULL,
		.reason = f->reason[0] ? f->reason : NULL};
}

static void audit_connection(struct flow *f)
{
	struct flow_decision d;
	struct audit_record r;

	if (f->audited)
		return;
	f->audited = true;
	flow_decide(f, NULL, &d);
	flow_audit_fields(f, &d, &r);
	r.bytes_up = f->bytes_up;
	r.bytes_down = f->bytes_down;
	r.ms = (loop_now(f->gate->loop) - f->started_ns) / 1000000;
	r.has_ttfb = f->answered_ns > 0;
	r.ttfb_ms = r.has_ttfb ? (f->answered_ns - f->started_ns) / 1000000 : 0;
	audit_write(f->gate->audit, &r);
}

static void audit_open(struct flow *f)
{
	struct flow_decision d;
	struct audit_record r;

	flow_decide(f, NULL, &d);
	flow_audit_fields(f, &d, &r);
	r.open = true;
	audit_write(f->gate->audit, &r);
}

static void end_requests(struct flow *f)
{
	if (f->proxy)
		f->proxy->ops->end(f);
}

static void flow_free(struct flow *f)
{
	struct gate *g = f->gate;

	end_requests(f);
	audit_connection(f);
	dial_cancel(&f->dial);
	via_free(f->via);
	values_done(&f->certificate);
	stream_done(&f->guest, g->loop);
	stream_done(&f->up, g->loop);
	if (f->proxy)
		f->proxy->ops->free(f);
	if (f->prev)
		f->prev->next = f->next;
	else
		g->flows = f->next;
	if (f->next)
		f->next->prev = f->prev;
	g->n_flows--;
	free(f);
}

static void drop_upstream(struct flow *f)
{
	dial_cancel(&f->dial);
	via_free(f->via);
	f->via = NULL;
	f->late = false;
	stream_done(&f->up, f->gate->loop);
}

void flow_close(struct flow *f)
{
	drop_upstream(f);
	f->guest.fin = true;
	f->state = FLOW_CLOSING;
	flow_deadline(f, CLOSE_MS);
}

void flow_reset(struct flow *f, enum audit_verdict verdict, const char *fmt, ...)
{
	va_list ap;

	f->verdict = verdict;
	va_start(ap, fmt);
	vsnprintf(f->reason, sizeof(f->reason), fmt, ap);
	va_end(ap);
	end_requests(f);
	audit_connection(f);
	drop_upstream(f);
	stream_abandon(&f->guest);
	link_send(f->gate, LINK_TCP_RESET, f->id, NULL, 0);
	f->state = FLOW_RESET;
	flow_deadline(f, LINGER_MS);
}

void flow_note_guest_error(struct flow *f)
{
	f->verdict = f->allowed ? AUDIT_ERROR : AUDIT_DENY;
	snprintf(f->reason, sizeof(f->reason), "guest: %.600s", f->guest.err.msg);
}

static void reset_unreached(struct flow *f)
{
	flow_reset(
		f, f->dial_err.class == ERR_USER ? AUDIT_DENY : AUDIT_ERROR, "%s", f->dial_err.msg);
}

static bool reset_step(struct flow *f)
{
	buf_consume(&f->guest.in, buf_len(&f->guest.in));
	if (!stream_gone(&f->guest))
		return false;
	f->state = FLOW_DEAD;
	return true;
}

static bool closing_step(struct flow *f)
{
	buf_consume(&f->guest.in, buf_len(&f->guest.in));
	if (stream_gone(&f->guest) || (f->guest.fin_sent && f->guest.eof)) {
		f->state = FLOW_DEAD;
		return true;
	}
	if (f->guest.fin_sent && f->deadline_ns > loop_now(f->gate->loop) + LINGER_MS * 1000000ull)
		flow_deadline(f, LINGER_MS);
	return false;
}

static void start_dial(struct flow *f, enum upstream_kind kind);

/* It is known by now what is spoken, so which proxy counts. */
static void dial_late(struct flow *f, enum upstream_kind kind)
{
	if (!f->late)
		return;
	f->late = false;
	start_dial(f, kind);
}

/* ---- first bytes ---- */

void flow_tunnel(struct flow *f, enum audit_proto proto)
{
	f->proto = proto;
	f->state = FLOW_TUNNEL;
	dial_late(f, proto == AUDIT_TLS ? UPSTREAM_TLS : UPSTREAM_OTHER);
	flow_deadline(f, 0);
	if (!f->proxy)
		audit_open(f);
}

static bool deny_raw(struct flow *f, const char *why)
{
	struct flow_decision d;

	flow_decide(f, NULL, &d);
	flow_reset(f, AUDIT_DENY, "%s", d.allowed ? why : d.reason);
	return true;
}

void flow_explain_unreached(struct flow *f)
{
	struct buf *hello = f->bytes_up ? &f->up.out : &f->guest.in;
	struct sniff s;

	/* Only while all that the guest has said is still here. */
	if (f->proto != AUDIT_TLS || f->proxy || f->bytes_up > buf_room(&f->guest.in) ||
		(f->bytes_up && (f->bytes_up != buf_len(hello) || buf_len(&f->guest.in) > 0))) {
		reset_unreached(f);
		return;
	}
	if (f->bytes_up)
		stream_move(hello, &f->guest.in);
	f->bytes_up = 0;
	if (sniff(buf_head(&f->guest.in), buf_len(&f->guest.in), &s) == SNIFF_TLS)
		intercept_start(f, &s);
	else
		reset_unreached(f);
}

/* Whether there is reason to believe that HTTP is spoken inside. */
static bool is_web(const struct flow *f, const struct sniff *s)
{
	return s->has_sni && (s->alpn_http11 || s->alpn_h2 || (s->n_alpn == 0 && f->port == 443));
}

/* Learning wants the requests. A server whose certificate only the gate believes in has to be seen
 * through it. */
static bool wants_reading(const struct flow *f, const struct sniff *s)
{
	const struct config *c = f->gate->config;

	return is_web(f, s) &&
	       (c->net.learn || (!f->is_addr && config_find_trust(c, f->name, f->port)));
}

static bool on_hello(struct flow *f, const struct sniff *s)
{
	f->proto = AUDIT_TLS;
	if (!f->allowed) {
		intercept_start(f, s);
		return true;
	}
	if (s->has_sni && (f->is_addr || strcmp(s->sni, f->name) != 0))
		snprintf(f->identity, sizeof(f->identity),
			"the connection goes to %s, but asks for the server name %s", f->name,
			s->sni);
	else if (f->credential && !s->has_sni)
		snprintf(f->identity, sizeof(f->identity),
			"a credential belongs here, so the TLS hello has to carry the server name");
	if (f->identity[0])
		drop_upstream(f);
	dial_late(f, UPSTREAM_TLS);
	if (f->identity[0] || f->inspect || s->ech || wants_reading(f, s))
		intercept_start(f, s);
	else
		flow_tunnel(f, AUDIT_TLS);
	return true;
}

static bool start_http(struct flow *f, void (*start)(struct flow *f))
{
	f->proto = AUDIT_HTTP;
	f->state = FLOW_PROXY;
	flow_deadline(f, 0);
	dial_late(f, start == proxy_start_http1 ? UPSTREAM_HTTP : UPSTREAM_OTHER);
	start(f);
	return true;
}

/* Nothing decisive yet: perhaps it is the server that speaks first. */
static bool wait_for_bytes(struct flow *f)
{
	bool silent = buf_len(&f->guest.in) == 0;

	if (f->guest.eof && (!f->allowed || f->inspect || !silent)) {
		if (silent && !stream_gone(&f->guest))
			flow_close(f);
		else
			f->state = FLOW_DEAD;
		return true;
	}
	if (silent && f->allowed && !f->inspect &&
		(f->guest.eof || f->up.eof ||
			(buf_len(&f->up.in) > 0 &&
				!sniff_http2_settings(buf_head(&f->up.in), buf_len(&f->up.in))))) {
		flow_tunnel(f, AUDIT_TCP);
		return true;
	}
	if (!silent && !f->hello_begun) {
		f->hello_begun = true;
		flow_deadline(f, HELLO_MS);
	} else if (silent && f->dial_failed && !f->deadline_ns) {
		flow_deadline(f, DENIED_SILENT_MS); /* HTTP would get an explanation */
	}
	return false;
}

static bool sniff_step(struct flow *f)
{
	struct sniff s;

	switch (sniff(buf_head(&f->guest.in), buf_len(&f->guest.in), &s)) {
	case SNIFF_MORE:
		return wait_for_bytes(f);
	case SNIFF_TLS:
		return on_hello(f, &s);
	case SNIFF_TLS_BAD:
		f->proto = AUDIT_TLS;
		return deny_raw(f, s.why);
	case SNIFF_HTTP1:
		return start_http(f, proxy_start_http1);
	case SNIFF_HTTP2:
		return start_http(f, proxy_start_http2);
	case SNIFF_OTHER:
		if (!f->allowed || f->inspect)
			return deny_raw(
				f, f->credential
					   ? "a credential belongs here: only HTTP is passed on"
					   : "an HTTP rule is about this: only HTTP is passed on");
		flow_tunnel(f, AUDIT_TCP);
		return true;
	default:
		return deny_raw(f, "unknown protocol");
	}
}

static bool dns_step(struct flow *f)
{
	struct buf *in = &f->guest.in;
	const uint8_t *msg;
	size_t len, used;
	bool moved = false;
	int r = 0;

	while (stream_has_room(&f->guest) &&
		(r = dns_tcp_next(buf_head(in), buf_len(in), &msg, &len, &used)) == 1) {
		_buf_ struct buf answer;

		buf_init(&answer, DNS_ANSWER_MAX);
		if (link_answer_dns(f->gate, msg, len, &answer)) {
			buf_put_be16(&f->guest.out, (uint16_t)buf_len(&answer));
			buf_put(&f->guest.out, buf_head(&answer), buf_len(&answer));
		}
		buf_consume(in, used);
		flow_deadline(f, HELLO_MS);
		moved = true;
	}
	if (r < 0 || (r == 0 && f->guest.eof)) {
		flow_close(f);
		return true;
	}
	return moved;
}

/* ---- stepping ---- */

static bool step(struct flow *f)
{
	switch (f->state) {
	case FLOW_SNIFF:
		return sniff_step(f);
	case FLOW_MIRROR:
		return intercept_step(f);
	case FLOW_TUNNEL:
		return tunnel_step(f);
	case FLOW_PROXY:
		return f->proxy->ops->step(f);
	case FLOW_DNS:
		return dns_step(f);
	case FLOW_CLOSING:
		return closing_step(f);
	case FLOW_RESET:
		return reset_step(f);
	case FLOW_DEAD:
	default:
		return false;
	}
}

static void on_sweep(struct loop *l, struct loop_timer *t);

/* May free @f. */
static void flow_run(struct flow *f)
{
	struct gate *g = f->gate;
	bool moved = true;

	while (moved && f->state != FLOW_DEAD) {
		moved = stream_pump(&f->guest);
		moved |= stream_pump(&f->up);
		moved |= step(f);
	}
	if (f->state == FLOW_DEAD) {
		flow_free(f);
		return;
	}
	stream_settle(&f->guest, g->loop);
	stream_settle(&f->up, g->loop);
	if (f->deadline_ns && !g->sweep.due_ns)
		loop_timer_start(g->loop, &g->sweep, SWEEP_MS, on_sweep);
}

void flow_wake(struct flow *f)
{
	flow_run(f);
}

static void on_guest(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct flow *f = container_of(w, struct flow, guest.watch);

	stream_event(&f->guest, l, events);
	flow_run(f);
}

static void on_upstream(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct flow *f = container_of(w, struct flow, up.watch);

	stream_event(&f->up, l, events);
	flow_run(f);
}

/* The dial has ended, with or without a connection to @peer. */
static void on_upstream_there(struct flow *f, int fd, const struct err *err, const char *peer)
{
	if (fd >= 0 && stream_attach(&f->up, f->gate->loop, fd, on_upstream) == 0) {
		snprintf(f->peer, sizeof(f->peer), "%s", peer);
		if (f->intercepted)
			intercept_connected(f);
	} else {
		if (fd >= 0)
			close(fd);
		f->dial_failed = true;
		f->dial_err = *err;
	}
	flow_run(f);
}

static void on_dialled(struct dial *d, int fd, const struct err *err)
{
	char text[POLICY_ADDR_TEXT], peer[POLICY_ADDR_TEXT + 8];

	snprintf(peer, sizeof(peer), d->peer.v6 ? "[%s]:%u" : "%s:%u",
		policy_addr_text(&d->peer, text), d->port);
	on_upstream_there(container_of(d, struct flow, dial), fd, err, peer);
}

static void on_via(void *arg, int fd, const struct err *err)
{
	struct flow *f = arg;

	f->dial.peer = *via_refused(f->via);
	on_upstream_there(f, fd, err, "");
}

static void expire(struct flow *f)
{
	if (f->late && !f->hello_begun) {
		flow_deadline(f, 0);
		dial_late(f, UPSTREAM_OTHER);
		return;
	}
	if (f->state == FLOW_SNIFF && f->dial_failed)
		reset_unreached(f);
	else if (f->state == FLOW_SNIFF)
		deny_raw(f, "no readable first bytes in time");
	else if (f->state == FLOW_CLOSING || f->state == FLOW_RESET)
		f->state = FLOW_DEAD;
	else if (f->state == FLOW_MIRROR)
		intercept_timeout(f);
	else if (f->state == FLOW_PROXY)
		f->proxy->ops->timeout(f);
	else
		flow_reset(f, AUDIT_ERROR, "took too long");
}

/* What is too late ends. Runs only while some connection has a deadline. */
static void on_sweep(struct loop *l, struct loop_timer *t)
{
	struct gate *g = container_of(t, struct gate, sweep);
	struct flow *f = g->flows, *next;
	bool more = false;

	for (; f; f = next) {
		next = f->next;
		if (f->deadline_ns && f->deadline_ns <= loop_now(l)) {
			expire(f);
			flow_run(f);
		} else if (f->deadline_ns) {
			more = true;
		}
	}
	if (more)
		loop_timer_start(l, t, SWEEP_MS, on_sweep);
}

/* ---- opening ---- */

static bool is_stream_socket(int fd)
{
	int domain = 0, type = 0;
	socklen_t len = sizeof(int);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && domain == AF_UNIX &&
	       type == SOCK_STREAM;
}

static bool server_speaks_first(uint16_t port)
{
	for (size_t i = 0; i < ARRAY_SIZE(server_first_ports); i++)
		if (server_first_ports[i] == port)
			return true;
	return false;
}

/* Who is meant. False: nobody can be. */
static bool identify(struct flow *f, uint32_t addr)
{
	const char *name = names_is_synthetic(addr) ? names_name(f->gate->names, addr) : NULL;
	char text[POLICY_ADDR_TEXT];

	f->addr = policy_addr_v4(addr);
	f->is_addr = !name;
	snprintf(f->name, sizeof(f->name), "%s", name ? name : policy_addr_text(&f->addr, text));
	return name || !(names_is_synthetic(addr) || (addr == GATE_GATEWAY && f->port != 53));
}

static void start_dial(struct flow *f, enum upstream_kind kind)
{
	struct gate *g = f->gate;
	struct policy_query q = query(f);
	const struct upstream_proxy *p =
		gate_dials_itself(g, &q) ? NULL : upstream_find(&g->upstream, kind, &q);

	f->proxied = p;
	if (p)
		f->via = via_start(
			g->dialer, g->loop, p, &q, kind == UPSTREAM_HTTP, check_via, on_via, f);
	else
		gate_dial(g, &f->dial, &q, check_addr, on_dialled);
}

/* With a proxy it may depend on what the guest will say. */
static void dial_or_wait(struct flow *f)
{
	struct policy_query q = query(f);

	if (server_speaks_first(f->port)) {
		start_dial(f, UPSTREAM_OTHER);
	} else if (f->port == 443) {
		start_dial(f, UPSTREAM_TLS);
	} else if (gate_dials_itself(f->gate, &q) || !upstream_any(&f->gate->upstream, &q)) {
		start_dial(f, UPSTREAM_OTHER);
	} else {
		f->late = true;
		flow_deadline(f, LATE_MS);
	}
}

static void want_inspection(struct flow *f, const struct flow_decision *d)
{
	f->credential = !f->is_addr && config_wants_credential(f->gate->config, f->name, f->port);
	f->ruled = d->inspect;
	f->inspect = f->credential || f->ruled;
}

/* Decide about the SYN. False: refuse it. */
static bool admit(struct flow *f, uint32_t addr)
{
	struct flow_decision d;

	if (!identify(f, addr)) {
		snprintf(f->reason, sizeof(f->reason), CHAIN_NO_NAME);
		return false;
	}
	if (f->is_addr && addr == GATE_GATEWAY) {
		f->state = FLOW_DNS;
		f->audited = true; /* questions leave nothing to account for */
		flow_deadline(f, HELLO_MS);
		return true;
	}
	flow_decide(f, NULL, &d);
	f->allowed = d.allowed;
	f->verdict = d.allowed ? AUDIT_ALLOW : AUDIT_DENY;
	snprintf(f->reason, sizeof(f->reason), "%.600s", d.reason);
	if (!f->allowed) {
		if (d.ask[0])
			asks_note(f->gate->asks, d.ask);
		flow_deadline(f, DENIED_SILENT_MS);
		return !server_speaks_first(f->port);
	}
	want_inspection(f, &d);
	return true;
}

static struct flow *flow_new(struct gate *g, const struct link_msg *m)
{
	struct flow *f = xcalloc(1, sizeof(*f));

	f->gate = g;
	f->id = m->id;
	f->port = m->port;
	f->verdict = AUDIT_DENY;
	f->started_ns = loop_now(g->loop);
	stream_init(&f->guest);
	stream_init(&f->up);
	f->next = g->flows;
	if (f->next)
		f->next->prev = f;
	g->flows = f;
	g->n_flows++;
	return f;
}

void flow_open(struct gate *g, const struct link_msg *m, int fd)
{
	_close_ int own = fd;
	struct flow *f;

	if (g->n_flows >= g->max_flows || !is_stream_socket(fd)) {
		log_limited(LOG_WARN, "link: connection refused, %u are open", g->n_flows);
		link_send(g, LINK_TCP_REFUSE, m->id, NULL, 0);
		return;
	}
	f = flow_new(g, m);
	if (!admit(f, m->addr) || stream_attach(&f->guest, g->loop, own, on_guest) < 0) {
		close_and_reset(&own); /* before the guest hears of it */
		link_send(g, LINK_TCP_REFUSE, f->id, NULL, 0);
		flow_free(f);
		return;
	}
	steal_fd(&own);
	link_send(g, LINK_TCP_ACCEPT, f->id, NULL, 0);
	if (f->allowed)
		dial_or_wait(f);
	flow_run(f);
}

void flow_recheck_all(struct gate *g)
{
	for (struct flow *f = g->flows, *next; f; f = next) {
		struct flow_decision d;

		next = f->next;
		if (!f->allowed || f->state == FLOW_CLOSING || f->state == FLOW_RESET)
			continue;
		flow_decide(f, NULL, &d);
		want_inspection(f, &d);
		if (!d.allowed)
			flow_reset(f, AUDIT_DENY, "%s", d.reason);
		else if (d.inspect && f->state == FLOW_TUNNEL && !f->proxy)
			flow_reset(f, AUDIT_DENY, "a new HTTP rule is about this: connect again");
		else if (f->proxy)
			f->proxy->ops->recheck(f);
		else
			continue;
		flow_run(f);
	}
}

void flow_cut_all(struct gate *g, const char *why)
{
	for (struct flow *f = g->flows, *next; f; f = next) {
		next = f->next;
		if (!f->allowed || f->state == FLOW_CLOSING || f->state == FLOW_RESET)
			continue;
		flow_reset(f, AUDIT_DENY, "%s", why);
		flow_run(f);
	}
}

void flow_end_all(struct gate *g)
{
	while (g->flows)
		flow_free(g->flows);
}

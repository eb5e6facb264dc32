/* SPDX-License-Identifier: Apache-2.0 */
/* Connections through the host's HTTP proxy. */
#include "gate/via.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#define LOOK_MS    1000u  /* for a name that perhaps only the proxy knows */
#define ANSWER_MS  30000u /* the proxy connects */
#define ANSWER_MAX 16384u /* bytes of its answer's head */

struct via {
	struct dialer *dialer;
	struct loop *loop;
	const struct upstream_proxy *proxy;
	bool forward;
	via_check_fn *check;
	via_done_fn *done;
	void *arg;
	char name[POLICY_NAME_MAX + 1];  /* destination, or its address as text */
	char host[POLICY_NAME_MAX + 10]; /* "name:port", IPv6 in brackets */
	uint16_t port;
	struct dial look, dial;
	bool looking;
	struct policy_addr refused;
	struct err err;          /* why not; none without msg */
	struct loop_timer timer; /* of the look-up, then of the answer */
	struct loop_timer finishing;
	struct loop_watch watch;
	int fd;         /* owned; -1: not connected */
	struct buf out; /* what is left of the CONNECT request, or the target of a request */
	char why[320];
};

static void finish(struct via *v, int fd)
{
	struct err err = v->err;

	loop_timer_stop(v->loop, &v->timer);
	loop_timer_stop(v->loop, &v->finishing);
	v->done(v->arg, fd, &err);
}

static void on_finish(struct loop *l, struct loop_timer *t)
{
	finish(container_of(t, struct via, finishing), -1);
}

/* Never from within via_start. */
static void fail_later(struct via *v)
{
	loop_timer_start(v->loop, &v->finishing, 0, on_finish);
}

/* ---- CONNECT ---- */

/* The request is never seen by anybody but the proxy. */
static void put_connect(struct via *v)
{
	buf_init(&v->out, 4 * UPSTREAM_URL_MAX);
	buf_reserve(&v->out, 3 * UPSTREAM_URL_MAX); /* so that no copy stays behind */
	buf_printf(&v->out, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", v->host, v->host);
	if (v->proxy->auth) {
		buf_puts(&v->out, "Proxy-Authorization: ");
		buf_put(&v->out, secret_bytes(v->proxy->auth), secret_len(v->proxy->auth));
		buf_puts(&v->out, "\r\n");
	}
	buf_puts(&v->out, "\r\n");
}

const char *via_explain(struct via *v, unsigned status)
{
	if (status == 407)
		snprintf(v->why, sizeof(v->why), "the proxy %s wants %s", v->proxy->text,
			v->proxy->auth ? "another user name and password (407)"
				       : "a user name and password (407)");
	return status == 407 ? v->why : NULL;
}

static void set_answer_error(struct via *v, const struct http1_head *h)
{
	char reason[128];

	if (via_explain(v, h->status)) {
		err_set(&v->err, ERR_ENV, "%s", v->why);
		return;
	}
	err_set(&v->err, ERR_PEER, "the proxy %s does not connect to %s: %u %s", v->proxy->text,
		v->host, h->status, log_safe(reason, sizeof(reason), h->reason.p, h->reason.n));
}

static void set_closed(struct via *v, int errnum)
{
	err_set(&v->err, ERR_PEER, "the proxy %s has closed the connection%s%s", v->proxy->text,
		errnum ? ": " : "", errnum ? strerror(errnum) : "");
}

/* Read the answer's head and not a byte more: what follows is the destination's. Returns whether
 * there is a result. */
static bool read_answer(struct via *v)
{
	static const char asked[] = "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n";
	uint8_t data[ANSWER_MAX];
	ssize_t n = recv(v->fd, data, sizeof(data), MSG_PEEK | MSG_DONTWAIT);
	struct http1_head request, h;
	struct err err;
	int r;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		set_closed(v, n < 0 ? errno : 0);
		return true;
	}
	http1_request_init(&request);
	http1_parse(&request, asked, sizeof(asked) - 1, NULL);
	http1_response_init(&h, &request);
	r = http1_parse(&h, data, (size_t)n, &err);
	if (r == 0 && (size_t)n < sizeof(data))
		return false;
	if (r <= 0)
		err_set(&v->err, ERR_PEER, "the answer of the proxy %s cannot be read: %s",
			v->proxy->text, r < 0 ? err.msg : "its head is too long");
	else if (h.framing != HTTP1_TUNNEL)
		set_answer_error(v, &h);
	else if (recv(v->fd, data, h.size, MSG_DONTWAIT) != (ssize_t)h.size)
		err_set(&v->err, ERR_BUG, "the answer of the proxy %s has gone", v->proxy->text);
	return true;
}

/* Edge-triggered: an incomplete answer stays in the socket. */
static void on_proxy(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct via *v = container_of(w, struct via, watch);

	while (buf_len(&v->out) > 0) {
		ssize_t n = send(
			v->fd, buf_head(&v->out), buf_len(&v->out), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0)
			break; /* the answer, if any, says more */
		buf_consume(&v->out, (size_t)n);
	}
	if (!read_answer(v)) {
		if (!(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
			return;
		set_closed(v, 0); /* in the middle of its answer */
	}
	loop_del(l, &v->watch);
	finish(v, v->err.msg[0] ? -1 : steal_fd(&v->fd));
}

static void on_answer_late(struct loop *l, struct loop_timer *t)
{
	struct via *v = container_of(t, struct via, timer);

	err_set(&v->err, ERR_PEER, "the proxy %s took too long to connect to %s", v->proxy->text,
		v->host);
	finish(v, -1);
}

/* ---- before that ---- */

/* Go on when both the name has been looked at and the proxy is there. */
static void advance(struct via *v)
{
	if (v->looking)
		return;
	if (v->err.msg[0]) {
		fail_later(v);
		return;
	}
	if (v->fd < 0)
		return;
	if (v->forward) {
		finish(v, steal_fd(&v->fd));
		return;
	}
	put_connect(v);
	loop_timer_start(v->loop, &v->timer, ANSWER_MS, on_answer_late);
	if (loop_add(v->loop, &v->watch, v->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
		    on_proxy) < 0) {
		err_errno(&v->err, "the proxy %s", v->proxy->text);
		fail_later(v);
	}
}

static void end_look(struct via *v)
{
	dial_cancel(&v->look);
	loop_timer_stop(v->loop, &v->timer);
	v->looking = false;
	advance(v);
}

/* Sees all addresses and lets none be dialled. */
static const char *look_at(struct dial *d, const struct policy_addr *a)
{
	struct via *v = container_of(d, struct via, look);
	const char *why = v->check(v->arg, a);
	char text[POLICY_ADDR_TEXT];

	if (why && !v->err.msg[0]) {
		v->refused = *a;
		err_set(&v->err, ERR_USER, "%s is the address %s: %s", v->name,
			policy_addr_text(a, text), why);
	}
	return "looked at";
}

static void on_looked(struct dial *d, int fd, const struct err *err)
{
	end_look(container_of(d, struct via, look));
}

static void on_look_late(struct loop *l, struct loop_timer *t)
{
	end_look(container_of(t, struct via, timer));
}

static void on_dialled(struct dial *d, int fd, const struct err *err)
{
	struct via *v = container_of(d, struct via, dial);

	v->fd = fd;
	/* A refusal says more than that. */
	if (fd < 0 && !v->err.msg[0])
		err_set(&v->err, ERR_ENV, "the proxy %s: %s", v->proxy->text, err->msg);
	advance(v);
}

static void look(struct via *v, const struct policy_query *dest)
{
	struct dial_target t = {.name = dest->name, .port = dest->port};

	if (!dest->name) {
		look_at(&v->look, dest->addr);
		return;
	}
	v->looking = true;
	loop_timer_start(v->loop, &v->timer, LOOK_MS, on_look_late);
	dial_start(v->dialer, &v->look, &t, look_at, on_looked);
}

struct via *via_start(struct dialer *dr, struct loop *l, const struct upstream_proxy *proxy,
	const struct policy_query *dest, bool forward, via_check_fn *check, via_done_fn *done,
	void *arg)
{
	struct via *v = xcalloc(1, sizeof(*v));
	struct dial_target t = {.port = proxy->port};
	char text[POLICY_TARGET_MAX], addr[POLICY_ADDR_TEXT];

	*v = (struct via){.dialer = dr,
		.loop = l,
		.proxy = proxy,
		.forward = forward,
		.check = check,
		.done = done,
		.arg = arg,
		.port = dest->port,
		.watch.fd = -1,
		.fd = -1};
	snprintf(v->name, sizeof(v->name), "%s",
		dest->name ? dest->name : policy_addr_text(dest->addr, addr));
	snprintf(v->host, sizeof(v->host), "%.260s", policy_query_text(dest, text));
	if (proxy->problem[0]) {
		err_set(&v->err, ERR_ENV,
			"the proxy that this machine is set to cannot be used: %s", proxy->problem);
		fail_later(v);
		return v;
	}
	look(v, dest);
	if (proxy->host.is_addr)
		t.addr = &proxy->host.addr;
	else
		t.name = proxy->host.name;
	dial_start(dr, &v->dial, &t, NULL, on_dialled);
	return v;
}

void via_free(struct via *v)
{
	if (!v)
		return;
	dial_cancel(&v->look);
	dial_cancel(&v->dial);
	loop_timer_stop(v->loop, &v->timer);
	loop_timer_stop(v->loop, &v->finishing);
	loop_del(v->loop, &v->watch);
	close_and_reset(&v->fd);
	buf_wipe(&v->out);
	free(v);
}

const struct policy_addr *via_refused(const struct via *v)
{
	return &v->refused;
}

bool via_forwards(const struct via *v)
{
	return v->forward;
}

/* ---- requests in absolute form ---- */

void via_edit_request(struct via *v, struct http1_head *h, struct http1_edit *edit)
{
	struct http1_slice path = h->send_path.n ? h->send_path : h->path;

	if (h->form == HTTP1_ORIGIN || h->form == HTTP1_ABSOLUTE) {
		buf_done(&v->out);
		buf_init(&v->out, HTTP1_HEAD_MAX + sizeof(v->host) + 8);
		buf_printf(&v->out, "http://%s", v->port == 80 ? v->name : v->host);
		if (path.n)
			buf_put(&v->out, path.p, path.n);
		else
			buf_puts(&v->out, "/");
		h->send_path = (struct http1_slice){(char *)buf_head(&v->out), buf_len(&v->out)};
	}
	/* What the guest has put there is not for this proxy. */
	*edit = (struct http1_edit){.name = "Proxy-Authorization"};
	if (v->proxy->auth) {
		edit->value = secret_bytes(v->proxy->auth);
		edit->value_len = secret_len(v->proxy->auth);
	}
}

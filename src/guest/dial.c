/* SPDX-License-Identifier: Apache-2.0 */
/* DIAL: connect a stream to a TCP port on the guest's loopback and relay, with half-close. The relay also
 * serves the ssh-agent's socket. */
#include "guest/server_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

#define RELAY_MAX (64u << 10)

/* One end of the relay; data read from it goes to the other one. */
struct end {
	struct dial *d;
	int fd; /* owned */
	struct loop_watch w;
	struct buf in;  /* read here, not yet written to the other end */
	bool eof, shut; /* no more to read; writing side closed */
};

struct dial {
	struct server *srv;
	struct dial *prev, *next;
	struct stream *s; /* owned while connecting */
	uint16_t port;
	bool tried_v6;
	struct end host, local;
};

static void dial_free(struct dial *d)
{
	struct server *srv = d->srv;

	if (d->prev)
		d->prev->next = d->next;
	else
		srv->dials = d->next;
	if (d->next)
		d->next->prev = d->prev;
	srv->n_dials--;
	loop_del(srv->loop, &d->host.w);
	loop_del(srv->loop, &d->local.w);
	close_and_reset(&d->host.fd);
	close_and_reset(&d->local.fd);
	buf_done(&d->host.in);
	buf_done(&d->local.in);
	stream_free(d->s);
	free(d);
	server_room(srv);
}

static void on_relay(struct loop *l, struct loop_watch *w, uint32_t events);

static int watch_end(struct end *e, const struct end *other)
{
	struct loop *l = e->d->srv->loop;
	uint32_t want = 0;

	if (!e->eof && buf_room(&e->in))
		want |= EPOLLIN;
	if (buf_len(&other->in))
		want |= EPOLLOUT;
	if (!want) {
		loop_del(l, &e->w);
		return 0;
	}
	if (e->w.fd >= 0)
		return loop_mod(l, &e->w, want);
	return loop_add(l, &e->w, e->fd, want, on_relay);
}

/* Write to @to what was read from @from; pass the end on when all of it is written. */
static int push(struct end *from, struct end *to)
{
	while (buf_len(&from->in)) {
		ssize_t n = send(to->fd, buf_head(&from->in), buf_len(&from->in), MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		buf_consume(&from->in, (size_t)n);
	}
	if (from->eof && !to->shut) {
		to->shut = true;
		shutdown(to->fd, SHUT_WR);
	}
	return 0;
}

static int pull(struct end *from)
{
	ssize_t n;

	if (from->eof || !buf_room(&from->in))
		return 0;
	n = buf_read(&from->in, from->fd, RELAY_MAX);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (n == 0)
		from->eof = true;
	return 0;
}

/* May free @d. */
static void relay(struct dial *d)
{
	struct end *h = &d->host, *g = &d->local;

	if (push(h, g) < 0 || push(g, h) < 0 || (h->shut && g->shut) || watch_end(h, g) < 0 ||
		watch_end(g, h) < 0)
		dial_free(d);
}

static void on_relay(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct end *e = container_of(w, struct end, w);
	struct dial *d = e->d;

	(void)l;
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && pull(e) < 0) {
		dial_free(d);
		return;
	}
	relay(d);
}

static void connected(struct dial *d)
{
	struct stream *s = d->s;
	struct buf in;
	size_t n;

	loop_del(d->srv->loop, &d->local.w);
	d->s = NULL;
	/* The answer takes the relay's own way, ahead of the data. */
	buf_init(&d->host.in, RELAY_MAX);
	buf_init(&d->local.in, RELAY_MAX);
	d->host.fd = stream_take(s, &in);
	agent_put(&d->local.in, AGENT_DONE, NULL, 0);
	n = MIN(buf_len(&in), (size_t)RELAY_MAX);
	buf_put(&d->host.in, buf_head(&in), n);
	buf_done(&in);
	relay(d);
}

static int dial_next(struct dial *d);

static void on_connect(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct dial *d = container_of(w, struct dial, local.w);
	int errnum = 0;
	socklen_t len = sizeof(errnum);

	(void)events;
	getsockopt(d->local.fd, SOL_SOCKET, SO_ERROR, &errnum, &len);
	if (!errnum) {
		connected(d);
		return;
	}
	loop_del(l, &d->local.w);
	errno = errnum;
	if (dial_next(d) < 0) {
		struct stream *s = d->s;

		errnum = errno;
		d->s = NULL;
		stream_fail(s, errnum, "port %u: %s", d->port, strerror(errnum));
		dial_free(d);
	}
}

/* Try the next loopback address: IPv4, then IPv6, because servers that bind "localhost" may have
 * either. -1 with the last errno when there is none left. */
static int dial_next(struct dial *d)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET,
		.sin_port = htons(d->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
		.sin6_port = htons(d->port),
		.sin6_addr = IN6ADDR_LOOPBACK_INIT};
	bool second = d->local.fd >= 0;
	int one = 1, errnum = errno, r;

	if (second && d->tried_v6) {
		errno = errnum;
		return -1;
	}
	close_and_reset(&d->local.fd);
	d->tried_v6 = second;
	d->local.fd =
		socket(second ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (d->local.fd < 0) {
		if (second)
			errno = errnum; /* no IPv6: the first answer is the better one */
		return -1;
	}
	setsockopt(d->local.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (second)
		r = connect(d->local.fd, (struct sockaddr *)&v6, sizeof(v6));
	else
		r = connect(d->local.fd, (struct sockaddr *)&v4, sizeof(v4));
	if (r < 0 && errno != EINPROGRESS)
		return second ? -1 : dial_next(d);
	return loop_add(d->srv->loop, &d->local.w, d->local.fd, EPOLLOUT, on_connect);
}

int dial_start(struct server *srv, struct stream *s, struct rd payload)
{
	uint16_t port;
	struct dial *d;
	int errnum;

	if (agent_get_port(payload, &port) < 0)
		return stream_fail(s, EINVAL, "malformed port");
	d = xcalloc(1, sizeof(*d));
	d->srv = srv;
	d->port = port;
	d->host.d = d->local.d = d;
	d->host.fd = d->local.fd = d->host.w.fd = d->local.w.fd = -1;
	d->next = srv->dials;
	if (d->next)
		d->next->prev = d;
	srv->dials = d;
	srv->n_dials++;
	agent_consume(&s->in);
	if (dial_next(d) < 0) {
		errnum = errno;
		dial_free(d);
		return stream_fail(s, errnum, "port %u: %s", port, strerror(errnum));
	}
	d->s = s;
	stream_hold(s);
	return STREAM_GONE;
}

void relay_start(struct server *srv, int host_fd, int local_fd)
{
	struct dial *d = xcalloc(1, sizeof(*d));

	d->srv = srv;
	d->host.d = d->local.d = d;
	d->host.fd = host_fd;
	d->local.fd = local_fd;
	d->host.w.fd = d->local.w.fd = -1;
	buf_init(&d->host.in, RELAY_MAX);
	buf_init(&d->local.in, RELAY_MAX);
	d->next = srv->dials;
	if (d->next)
		d->next->prev = d;
	srv->dials = d;
	srv->n_dials++;
	relay(d);
}

void dials_free(struct server *srv)
{
	while (srv->dials)
		dial_free(srv->dials);
}

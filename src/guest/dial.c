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

#include "base/duplex.h"
#include "base/fd.h"

struct dial {
	struct server *srv;
	struct dial *prev, *next;
	struct stream *s; /* owned while connecting */
	uint16_t port;
	bool tried_v6;
	struct duplex_end host, local;
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
	duplex_done(&d->host, srv->loop);
	duplex_done(&d->local, srv->loop);
	stream_free(d->s);
	free(d);
	server_room(srv);
}

static struct dial *dial_new(struct server *srv, int host_fd, int local_fd)
{
	struct dial *d = xcalloc(1, sizeof(*d));

	d->srv = srv;
	duplex_init(&d->host, host_fd);
	duplex_init(&d->local, local_fd);
	d->next = srv->dials;
	if (d->next)
		d->next->prev = d;
	srv->dials = d;
	srv->n_dials++;
	return d;
}

static void on_host(struct loop *l, struct loop_watch *w, uint32_t events);
static void on_local(struct loop *l, struct loop_watch *w, uint32_t events);

/* May free @d. */
static void relay(struct dial *d)
{
	struct duplex_end *h = &d->host, *g = &d->local;
	struct loop *l = d->srv->loop;

	if (duplex_push(h, g) < 0 || duplex_push(g, h) < 0 || duplex_over(h, g) ||
		duplex_watch(h, l, duplex_wants(h, g), on_host) < 0 ||
		duplex_watch(g, l, duplex_wants(g, h), on_local) < 0)
		dial_free(d);
}

static void on_event(struct dial *d, struct duplex_end *e, uint32_t events)
{
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && duplex_pull(e) < 0)
		dial_free(d);
	else
		relay(d);
}

static void on_host(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct dial *d = container_of(w, struct dial, host.w);

	on_event(d, &d->host, events);
}

static void on_local(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct dial *d = container_of(w, struct dial, local.w);

	on_event(d, &d->local, events);
}

static void connected(struct dial *d)
{
	struct stream *s = d->s;
	struct buf in;
	size_t n;

	loop_del(d->srv->loop, &d->local.w);
	d->s = NULL;
	/* The answer takes the relay's own way, ahead of the data. */
	d->host.fd = stream_take(s, &in);
	agent_put(&d->local.in, AGENT_DONE, NULL, 0);
	n = MIN(buf_len(&in), (size_t)DUPLEX_MAX);
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
	d = dial_new(srv, -1, -1);
	d->port = port;
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
	relay(dial_new(srv, host_fd, local_fd));
}

void dials_free(struct server *srv)
{
	while (srv->dials)
		dial_free(srv->dials);
}

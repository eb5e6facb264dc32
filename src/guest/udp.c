/* SPDX-License-Identifier: Apache-2.0 */
/* DIAL_UDP: datagrams between a stream, which is one peer of a published port, and a UDP port on the
 * guest's loopback. The host ends flows that are idle. */
#include "guest/server_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"

#define BATCH 32 /* datagrams in one turn of the loop */

struct udp_flow {
	struct server *srv;
	struct udp_flow *prev, *next;
	struct stream *s; /* owned */
	uint16_t port;
	int fd; /* owned */
	struct loop_watch w;
	bool v6, answered;
};

static void flow_free(struct udp_flow *f)
{
	if (f->prev)
		f->prev->next = f->next;
	else
		f->srv->udp_flows = f->next;
	if (f->next)
		f->next->prev = f->prev;
	loop_del(f->srv->loop, &f->w);
	close_and_reset(&f->fd);
	stream_free(f->s);
	free(f);
}

static void on_socket(struct loop *l, struct loop_watch *w, uint32_t events);

static int flow_connect(struct udp_flow *f, bool v6)
{
	struct sockaddr_in a4 = {.sin_family = AF_INET,
		.sin_port = htons(f->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6,
		.sin6_port = htons(f->port),
		.sin6_addr = IN6ADDR_LOOPBACK_INIT};
	_close_ int fd =
		socket(v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 ||
		connect(fd, v6 ? (struct sockaddr *)&a6 : (struct sockaddr *)&a4,
			v6 ? sizeof(a6) : sizeof(a4)) < 0)
		return -1;
	loop_del(f->srv->loop, &f->w);
	close_and_reset(&f->fd);
	f->fd = steal_fd(&fd);
	f->v6 = v6;
	return loop_add(f->srv->loop, &f->w, f->fd, EPOLLIN, on_socket);
}

/* Nobody listens there. A server that has bound "localhost" may have either address, so the next
 * datagram tries the other one until there has been an answer. */
static void refused(struct udp_flow *f)
{
	if (!f->answered)
		flow_connect(f, !f->v6);
}

static void on_socket(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct udp_flow *f = container_of(w, struct udp_flow, w);
	static uint8_t data[AGENT_DATAGRAM_MAX + 1]; /* longer ones exist over IPv6 */

	(void)events;
	for (unsigned i = 0; i < BATCH; i++) {
		ssize_t n = recv(f->fd, data, sizeof(data), 0);

		if (n < 0) {
			if (errno == ECONNREFUSED)
				refused(f);
			break;
		}
		f->answered = true;
		if ((size_t)n <= AGENT_DATAGRAM_MAX)
			agent_put(&f->s->out, AGENT_DATAGRAM, data, (size_t)n);
		if (stream_congested(f->s)) { /* the kernel drops meanwhile */
			loop_del(l, &f->w);
			break;
		}
	}
	stream_flush(f->s);
}

static int udp_frame(struct stream *s, uint8_t type, struct rd payload)
{
	struct udp_flow *f = s->owner;
	size_t len = rd_left(&payload);
	const uint8_t *data = rd_bytes(&payload, len);

	if (type != AGENT_DATAGRAM || len > AGENT_DATAGRAM_MAX)
		return -1;
	if (send(f->fd, data, len, MSG_NOSIGNAL) < 0 && errno == ECONNREFUSED) {
		refused(f); /* that was about an earlier one */
		send(f->fd, data, len, MSG_NOSIGNAL);
	}
	return 0;
}

static void udp_drained(struct stream *s)
{
	struct udp_flow *f = s->owner;

	if (f->w.fd < 0)
		loop_add(f->srv->loop, &f->w, f->fd, EPOLLIN, on_socket);
}

static void udp_end(struct stream *s)
{
	flow_free(s->owner);
}

static const struct stream_ops udp_ops = {
	.frame = udp_frame, .drained = udp_drained, .end = udp_end};

int udp_start(struct server *srv, struct stream *s, struct rd payload)
{
	struct udp_flow *f;
	uint16_t port;
	int errnum;

	if (agent_get_port(payload, &port) < 0)
		return stream_fail(s, EINVAL, "malformed port");
	f = xcalloc(1, sizeof(*f));
	f->srv = srv;
	f->port = port;
	f->fd = f->w.fd = -1;
	f->next = srv->udp_flows;
	if (f->next)
		f->next->prev = f;
	srv->udp_flows = f;
	if (flow_connect(f, false) < 0) {
		errnum = errno;
		flow_free(f);
		return stream_fail(s, errnum, "port %u: %s", port, strerror(errnum));
	}
	f->s = s;
	s->owner = f;
	s->ops = &udp_ops;
	return 0;
}

void udp_flows_free(struct server *srv)
{
	while (srv->udp_flows)
		flow_free(srv->udp_flows);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Published UDP ports: one flow per peer, which is one agent stream that carries its datagrams both
 * ways. An answer goes to the peer whose stream it came from and nowhere else. Flows end when they
 * are idle, or when a new peer needs the place of the one that has been silent the longest. What
 * cannot be passed on at once is dropped, as everywhere with UDP. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "box/ports.h"

#define FLOWS_MAX 128u
#define IDLE_MS	  60000u
#define QUEUE_MAX (256u << 10) /* bytes that wait for the guest, per flow */
#define BATCH	  32u	       /* datagrams in one turn of the loop */

struct flow {
	struct udp *udp;
	struct stream s; /* fd -1: the flow is free */
	int fd;		 /* borrowed: the published socket */
	struct sockaddr_in peer;
	uint64_t last_ns;
};

struct udp {
	struct box *box;
	struct loop_timer idle;
	struct flow flows[FLOWS_MAX];
};

static void flow_close(struct flow *f)
{
	stream_close(&f->s);
}

static bool is_idle(const struct flow *f)
{
	return loop_now(f->udp->box->loop) - f->last_ns >= IDLE_MS * UINT64_C(1000000);
}

static void on_idle(struct loop *l, struct loop_timer *t)
{
	struct udp *u = container_of(t, struct udp, idle);
	bool more = false;

	for (size_t i = 0; i < FLOWS_MAX; i++) {
		struct flow *f = &u->flows[i];

		if (f->s.fd >= 0 && is_idle(f))
			flow_close(f);
		more |= f->s.fd >= 0;
	}
	if (more)
		loop_timer_start(l, &u->idle, IDLE_MS / 4, on_idle);
}

/* ---- from the guest ---- */

static int on_frame(struct stream *s, uint8_t type, struct rd payload)
{
	struct flow *f = container_of(s, struct flow, s);
	size_t len = rd_left(&payload);
	const uint8_t *data = rd_bytes(&payload, len);

	if (type != AGENT_DATAGRAM || len > AGENT_DATAGRAM_MAX)
		return -1;
	f->last_ns = loop_now(f->udp->box->loop);
	sendto(f->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&f->peer,
		sizeof(f->peer));
	return 0;
}

static void on_end(struct stream *s)
{
	flow_close(container_of(s, struct flow, s));
}

static const struct stream_ops flow_ops = {.frame = on_frame, .end = on_end};

/* ---- from the peers ---- */

static struct flow *find(struct udp *u, int fd, const struct sockaddr_in *peer)
{
	for (size_t i = 0; i < FLOWS_MAX; i++) {
		struct flow *f = &u->flows[i];

		if (f->s.fd >= 0 && f->fd == fd && f->peer.sin_port == peer->sin_port &&
			f->peer.sin_addr.s_addr == peer->sin_addr.s_addr)
			return f;
	}
	return NULL;
}

/* A free place, else the one whose flow has been silent the longest. */
static struct flow *make_room(struct udp *u)
{
	struct flow *oldest = &u->flows[0];

	for (size_t i = 0; i < FLOWS_MAX; i++) {
		struct flow *f = &u->flows[i];

		if (f->s.fd < 0)
			return f;
		if (f->last_ns < oldest->last_ns)
			oldest = f;
	}
	flow_close(oldest);
	return oldest;
}

static struct flow *flow_open(
	struct udp *u, int fd, unsigned port, const struct sockaddr_in *peer)
{
	struct flow *f = make_room(u);
	struct err err;
	int stream;

	if (workers_open_stream(u->box, &stream, &err) < 0 ||
		stream_open(&f->s, u->box->loop, stream, &flow_ops) < 0) {
		log_limited(LOG_WARN, "port=%u/udp: no stream", port);
		return NULL;
	}
	f->fd = fd;
	f->peer = *peer;
	agent_put_port(&f->s.out, AGENT_DIAL_UDP, (uint16_t)port);
	if (!u->idle.due_ns)
		loop_timer_start(u->box->loop, &u->idle, IDLE_MS / 4, on_idle);
	return f;
}

void udp_receive(struct udp *u, int fd, unsigned port)
{
	static uint8_t data[AGENT_DATAGRAM_MAX];

	for (unsigned i = 0; i < BATCH; i++) {
		struct sockaddr_in peer = {0};
		socklen_t len = sizeof(peer);
		ssize_t n = recvfrom(
			fd, data, sizeof(data), MSG_DONTWAIT, (struct sockaddr *)&peer, &len);
		struct flow *f;

		if (n < 0)
			return;
		if (len != sizeof(peer) || peer.sin_family != AF_INET)
			continue;
		f = find(u, fd, &peer);
		if (!f)
			f = flow_open(u, fd, port, &peer);
		if (!f || buf_len(&f->s.out) > QUEUE_MAX)
			continue;
		f->last_ns = loop_now(u->box->loop);
		agent_put(&f->s.out, AGENT_DATAGRAM, data, (size_t)n);
		stream_flush(&f->s);
	}
}

void udp_forget(struct udp *u, int fd)
{
	for (size_t i = 0; i < FLOWS_MAX; i++)
		if (u->flows[i].s.fd >= 0 && u->flows[i].fd == fd)
			flow_close(&u->flows[i]);
}

struct udp *udp_new(struct box *b)
{
	struct udp *u = xcalloc(1, sizeof(*u));

	u->box = b;
	for (size_t i = 0; i < FLOWS_MAX; i++) {
		u->flows[i].udp = u;
		u->flows[i].s.fd = -1;
	}
	return u;
}

void udp_free(struct udp *u)
{
	if (!u)
		return;
	loop_timer_stop(u->box->loop, &u->idle);
	for (size_t i = 0; i < FLOWS_MAX; i++)
		flow_close(&u->flows[i]);
	free(u);
}

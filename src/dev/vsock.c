/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock (virtio 1.2, 5.10): guest streams become UNIX streams of the host, and the reverse.
 *
 * A connection is named by its two ports and owns one UNIX stream socket.
 *
 * Guest to host: a packet's bytes go straight from guest memory into the socket; what the socket
 * does not take waits in a buffer of VSOCK_BUF_ALLOC bytes, which is exactly what we advertise, so
 * only a guest that breaks flow control can overflow it. fwd counts bytes that left for the host
 * side.
 *
 * Host to guest: one list, `want`, holds every connection that has something for the guest, in the
 * order of asking: control packets as bits in conn.pend (bounded by construction), data as
 * `readable`. pump() serves it round robin, BURST packets a turn, reading from the socket straight
 * into the guest's rx buffer and never more than the guest's credit. Without rx buffers the list
 * simply waits for the guest's kick, and sockets with something to read are not polled meanwhile.
 *
 * Packets that belong to no connection are answered with a RST from a bounded ring; while it is
 * full, the tx queue is not served (the guest feels it, nobody else).
 *
 * conn_step() is called after every event: it draws the consequences of the flags (what to tell the
 * guest, whether to end, what to poll for) and is the only place that frees a single connection.
 *
 * A guest that breaks a connection's rules gets a RST; one that breaks the queues or offers rx
 * buffers that cannot hold a packet breaks the device until it is reset. */
#include "dev/vsock.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#define VIRTIO_ID_VSOCK 19u
#define PACKET_MAX      (64u << 10)
#define CREDIT_STEP     (VSOCK_BUF_ALLOC / 4) /* tell the guest about room in these steps */
#define BUCKETS         256u
#define RSTS_MAX        128u
#define BURST           16u  /* packets of one connection in one turn */
#define PUMP_MAX        512u /* packets in one wake-up, each direction */

enum { Q_RX, Q_TX, Q_EVENT, Q_COUNT };

enum op {
	OP_REQUEST = 1,
	OP_RESPONSE,
	OP_RST,
	OP_SHUTDOWN,
	OP_RW,
	OP_CREDIT_UPDATE,
	OP_CREDIT_REQUEST,
};

#define TYPE_STREAM   1u
#define SHUTDOWN_RCV  1u
#define SHUTDOWN_SEND 2u

struct header { /* 5.10.6, little-endian */
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));
_Static_assert(sizeof(struct header) == 44, "vsock header");

enum state {
	REQUESTED, /* we asked the guest; RESPONSE opens it, RST closes the socket */
	OPEN,      /* each side may end its direction with SHUTDOWN */
	LINGER, /* over for the guest, but bytes that it sent are still on their way to the host */
	DEAD,   /* socket closed; remembered until its RST has been sent */
};

/* conn.pend: control packets that the guest must still get, sent in the order of the bits. */
#define PEND(op) (1u << (op))

struct conn {
	struct vsock *vs;
	struct conn *hash_next;
	struct conn *prev, *next; /* in vs->want, when queued */
	enum state state;
	uint32_t host_port, guest_port;
	int fd; /* owned; -1 once both directions are over */
	struct loop_watch watch;
	unsigned pend;
	unsigned shut_told; /* SHUTDOWN_ flags that the guest knows from us */
	bool queued;
	bool readable;      /* the socket may have data or end of file; not polled for it */
	bool host_eof;      /* no more bytes for the guest */
	bool host_deaf;     /* the host side takes no more bytes: they are discarded */
	bool guest_no_send; /* SHUTDOWN from the guest */
	bool guest_no_recv;
	struct buf to_host;
	uint32_t peer_alloc, peer_fwd, sent; /* host to guest, modulo 2^32 */
	uint32_t fwd, fwd_told;              /* guest to host */
};

struct vsock {
	struct vdev dev;
	struct loop *loop;            /* borrowed */
	const struct vsock_host *ops; /* borrowed */
	void *arg;
	uint64_t guest_cid;
	struct conn *buckets[BUCKETS]; /* own all connections */
	struct conn want;              /* list head */
	unsigned n_conns;
	uint32_t next_port;
	struct header rsts[RSTS_MAX]; /* ready-made */
	unsigned rst_at, n_rsts;
	bool tx_stalled;         /* tx waits for room in rsts */
	struct loop_timer again; /* work left over when a wake-up's budget ended */
};

static void conn_event(struct loop *l, struct loop_watch *w, uint32_t events);
static void on_again(struct loop *l, struct loop_timer *t);

/* ---- table and list ---- */

static struct conn **bucket(struct vsock *vs, uint32_t host_port, uint32_t guest_port)
{
	return &vs->buckets[(host_port * 0x9e3779b1u ^ guest_port * 0x85ebca6bu) >> 24];
}

/* Over for the guest, which may use the name again. */
static bool nameless(const struct conn *c)
{
	return c->state == LINGER && !(c->pend & PEND(OP_RST));
}

static struct conn *conn_find(struct vsock *vs, uint32_t host_port, uint32_t guest_port)
{
	struct conn *c = *bucket(vs, host_port, guest_port);

	while (c && (c->host_port != host_port || c->guest_port != guest_port || nameless(c)))
		c = c->hash_next;
	return c;
}

static void conn_queue(struct conn *c)
{
	struct conn *head = &c->vs->want;

	if (c->queued)
		return;
	c->prev = head->prev;
	c->next = head;
	head->prev->next = c;
	head->prev = c;
	c->queued = true;
}

static void conn_unqueue(struct conn *c)
{
	if (!c->queued)
		return;
	c->prev->next = c->next;
	c->next->prev = c->prev;
	c->queued = false;
}

static void conn_close_fd(struct conn *c)
{
	loop_del(c->vs->loop, &c->watch);
	close_and_reset(&c->fd);
	buf_done(&c->to_host);
}

static void conn_free(struct conn *c)
{
	struct conn **at = bucket(c->vs, c->host_port, c->guest_port);

	while (*at != c)
		at = &(*at)->hash_next;
	*at = c->hash_next;
	conn_unqueue(c);
	conn_close_fd(c);
	c->vs->n_conns--;
	free(c);
}

/* @fd is taken. The caller made sure that the name is free and the table not full. */
static struct conn *conn_new(
	struct vsock *vs, enum state state, uint32_t host_port, uint32_t guest_port, int fd)
{
	struct conn *c = xcalloc(1, sizeof(*c)), **at = bucket(vs, host_port, guest_port);

	*c = (struct conn){.vs = vs,
		.state = state,
		.host_port = host_port,
		.guest_port = guest_port,
		.fd = fd,
		.watch = {.fd = -1},
		.hash_next = *at};
	*at = c;
	buf_init(&c->to_host, VSOCK_BUF_ALLOC);
	vs->n_conns++;
	return c;
}

static void free_all(struct vsock *vs)
{
	for (unsigned i = 0; i < BUCKETS; i++)
		while (vs->buckets[i])
			conn_free(vs->buckets[i]);
	vs->n_rsts = 0;
	vs->tx_stalled = false;
	loop_timer_stop(vs->loop, &vs->again);
}

/* ---- what follows from a connection's flags ---- */

static uint32_t credit(const struct conn *c)
{
	uint32_t in_flight = c->sent - c->peer_fwd;

	return in_flight >= c->peer_alloc ? 0 : c->peer_alloc - in_flight;
}

static bool can_read(const struct conn *c)
{
	return c->state == OPEN && c->readable && !c->host_eof && credit(c) > 0;
}

/* End the connection from our side: the guest gets a RST, if it has heard of it at all. */
static void conn_kill(struct conn *c)
{
	conn_close_fd(c);
	c->state = DEAD;
	c->pend = c->pend & PEND(OP_REQUEST) ? 0 : PEND(OP_RST);
}

/* The guest has ended the connection; it expects a RST or not. */
static void conn_over(struct conn *c, bool rst)
{
	c->pend = rst ? PEND(OP_RST) : 0;
	c->state = LINGER;
}

static void conn_watch(struct conn *c)
{
	uint32_t events = 0;
	bool on = false;

	if (c->fd < 0)
		return;
	if (c->state == REQUESTED) {
		on = !c->readable; /* hang-up only */
	} else if (c->state == OPEN && !c->host_eof) {
		on = !c->readable;
		events = on ? EPOLLIN : 0;
	} else if (c->state == OPEN) {
		on = true; /* for the hang-up */
	}
	if (buf_len(&c->to_host)) {
		on = true;
		events |= EPOLLOUT;
	}
	/* A hang-up cannot be masked, only unwatched. */
	if (!on)
		loop_del(c->vs->loop, &c->watch);
	else if (c->watch.fd >= 0)
		loop_mod(c->vs->loop, &c->watch, events);
	else if (loop_add(c->vs->loop, &c->watch, c->fd, events, conn_event) < 0)
		conn_kill(c);
}

/* Half-closes that must be told or passed on. */
/* syscalls(vsock): recvmsg recvfrom sendmsg sendto shutdown close */
static void conn_shutdowns(struct conn *c)
{
	unsigned tell;

	if (c->guest_no_send && c->guest_no_recv) {
		conn_over(c, true);
		return;
	}
	if (c->guest_no_send && !c->host_deaf && buf_len(&c->to_host) == 0) {
		shutdown(c->fd, SHUT_WR);
		c->host_deaf = true;
	}
	tell = c->host_eof ? SHUTDOWN_SEND : 0;
	if (c->host_deaf && (c->host_eof || !c->guest_no_send))
		tell |= SHUTDOWN_RCV;
	if (tell & ~c->shut_told)
		c->pend |= PEND(OP_SHUTDOWN);
	c->shut_told |= tell;
	if (c->host_eof && c->host_deaf)
		conn_close_fd(c);
}

/* After any change. The connection may be gone. */
static void conn_step(struct conn *c)
{
	if (c->state == OPEN)
		conn_shutdowns(c);
	if (c->state == LINGER && (buf_len(&c->to_host) == 0 || c->host_deaf)) {
		conn_close_fd(c);
		c->state = DEAD;
	}
	conn_watch(c);
	if (c->state == DEAD && !c->pend) {
		conn_free(c);
	} else if (c->pend || can_read(c)) {
		conn_queue(c);
	}
}

/* ---- to the guest ---- */

/* The last act of every event: a broken device closes its connections. */
static void settle(struct vsock *vs)
{
	if (vs->dev.broken)
		free_all(vs);
}

static bool rx_pop(struct vsock *vs, struct virtq_chain *chain)
{
	enum virtq_next r = vs->dev.broken ? VIRTQ_EMPTY : virtq_pop(&vs->dev.vq[Q_RX], chain);

	if (r == VIRTQ_CHAIN && chain->in_len > sizeof(struct header))
		return true;
	if (r != VIRTQ_EMPTY)
		vdev_break(&vs->dev, r == VIRTQ_BAD ? "bad rx queue" : "rx buffer too small");
	return false;
}

static void rx_push(struct vsock *vs, struct virtq_chain *chain, const struct header *h)
{
	virtq_chain_write(chain, 0, h, sizeof(*h));
	virtq_push(&vs->dev.vq[Q_RX], chain->head, (uint32_t)sizeof(*h) + le32toh(h->len));
}

/* A header for the guest. It carries our credit, so a credit update is no longer needed. */
static struct header conn_header(struct conn *c, enum op op, uint32_t len)
{
	c->pend &= ~PEND(OP_CREDIT_UPDATE);
	c->fwd_told = c->fwd;
	return (struct header){
		.src_cid = htole64(VSOCK_HOST_CID),
		.dst_cid = htole64(c->vs->guest_cid),
		.src_port = htole32(c->host_port),
		.dst_port = htole32(c->guest_port),
		.len = htole32(len),
		.type = htole16(TYPE_STREAM),
		.op = htole16((uint16_t)op),
		.flags = htole32(op == OP_SHUTDOWN ? c->shut_told : 0),
		.buf_alloc = htole32(VSOCK_BUF_ALLOC),
		.fwd_cnt = htole32(c->fwd),
	};
}

/* Send the first pending control packet. False: no rx buffer. */
static bool send_control(struct conn *c)
{
	enum op op = (enum op)__builtin_ctz(c->pend);
	struct virtq_chain chain;
	struct header h;

	if (!rx_pop(c->vs, &chain))
		return false;
	h = conn_header(c, op, 0);
	c->pend &= ~PEND(op);
	rx_push(c->vs, &chain, &h);
	return true;
}

/* The part of iov[0..n) that lies in [skip, skip + max). */
static unsigned iov_slice(
	const struct iovec *iov, unsigned n, size_t skip, size_t max, struct iovec *to)
{
	unsigned k = 0;

	for (unsigned i = 0; i < n && max; i++) {
		size_t len = iov[i].iov_len;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		len = MIN(len - skip, max);
		to[k++] = (struct iovec){
			.iov_base = (uint8_t *)iov[i].iov_base + skip, .iov_len = len};
		max -= len;
		skip = 0;
	}
	return k;
}

/* One packet of data, or the news that there is none. False: no rx buffer. */
static bool send_data(struct conn *c)
{
	struct virtq_chain chain;
	struct iovec iov[VIRTQ_IOV_MAX];
	struct msghdr msg = {.msg_iov = iov};
	struct header h;
	size_t room;
	ssize_t n;

	if (!rx_pop(c->vs, &chain))
		return false;
	room = MIN(chain.in_len - sizeof(h), (size_t)MIN(credit(c), PACKET_MAX));
	msg.msg_iovlen = iov_slice(chain.iov + chain.n_out, chain.n_in, sizeof(h), room, iov);
	do
		n = recvmsg(c->fd, &msg, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n <= 0) {
		virtq_unpop(&c->vs->dev.vq[Q_RX]);
		c->readable = false;
		c->host_eof = n == 0 || errno != EAGAIN;
		c->host_deaf |= n < 0 && errno != EAGAIN;
		return true;
	}
	if ((size_t)n < room)
		c->readable = false;
	c->sent += (uint32_t)n;
	h = conn_header(c, OP_RW, (uint32_t)n);
	rx_push(c->vs, &chain, &h);
	return true;
}

static bool send_rst(struct vsock *vs)
{
	struct virtq_chain chain;

	if (!rx_pop(vs, &chain))
		return false;
	rx_push(vs, &chain, &vs->rsts[vs->rst_at]);
	vs->rst_at = (vs->rst_at + 1) % RSTS_MAX;
	vs->n_rsts--;
	return true;
}

/* One turn of @c. False: no rx buffer. */
static bool conn_serve(struct conn *c, unsigned *budget)
{
	for (unsigned i = 0; i < BURST && *budget && (c->pend || can_read(c)); i++, (*budget)--)
		if (!(c->pend ? send_control(c) : send_data(c)))
			return false;
	return true;
}

/* Give the guest what waits for it, as far as there are rx buffers. */
static void pump(struct vsock *vs)
{
	unsigned budget = PUMP_MAX;
	bool room = true;

	while (vs->n_rsts && room)
		room = send_rst(vs);
	while (room && budget && vs->want.next != &vs->want) {
		struct conn *c = vs->want.next;

		room = conn_serve(c, &budget);
		if (room) {
			conn_unqueue(c);
			conn_step(c); /* queues it again, behind the others, if there is more */
		}
	}
	vdev_flush(&vs->dev, Q_RX);
	/* Who has to wait: half-closes and endings need no rx buffer, and polling must stop. */
	for (struct conn *c = vs->want.next, *next; c != &vs->want; c = next) {
		next = c->next;
		conn_step(c);
	}
	if ((room && vs->want.next != &vs->want) || (vs->tx_stalled && vs->n_rsts < RSTS_MAX))
		loop_timer_start(vs->loop, &vs->again, 0, on_again);
}

/* ---- from the guest ---- */

static void credit_step(struct conn *c)
{
	if (c->state == OPEN && c->fwd - c->fwd_told >= CREDIT_STEP)
		c->pend |= PEND(OP_CREDIT_UPDATE);
}

/* The host side is gone: whatever is meant for it counts as delivered. */
static void discard(struct conn *c, size_t more)
{
	c->host_deaf = true;
	c->fwd += (uint32_t)(buf_len(&c->to_host) + more);
	buf_done(&c->to_host);
}

static void flush(struct conn *c)
{
	while (buf_len(&c->to_host)) {
		ssize_t n = send(c->fd, buf_head(&c->to_host), buf_len(&c->to_host),
			MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			discard(c, 0);
			break;
		}
		c->fwd += (uint32_t)n;
		buf_consume(&c->to_host, (size_t)n);
	}
	if (buf_len(&c->to_host) == 0)
		buf_done(&c->to_host);
	credit_step(c);
}

/* @len bytes of payload follow the header in @chain. */
static void on_data(struct conn *c, const struct virtq_chain *chain, size_t len)
{
	struct iovec iov[VIRTQ_IOV_MAX];
	struct msghdr msg = {.msg_iov = iov};
	size_t done = 0;
	uint8_t *to;
	ssize_t n;

	if (c->guest_no_send || len > buf_room(&c->to_host)) {
		conn_kill(c);
		return;
	}
	if (!c->host_deaf && len && buf_len(&c->to_host) == 0) {
		msg.msg_iovlen =
			iov_slice(chain->iov, chain->n_out, sizeof(struct header), len, iov);
		do
			n = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
		while (n < 0 && errno == EINTR);
		if (n < 0 && errno != EAGAIN)
			c->host_deaf = true;
		done = n > 0 ? (size_t)n : 0;
		c->fwd += (uint32_t)done;
	}
	if (c->host_deaf) {
		discard(c, len - done);
	} else if (len > done) {
		to = buf_reserve(&c->to_host, len - done);
		buf_commit(&c->to_host,
			virtq_chain_read(chain, sizeof(struct header) + done, to, len - done));
	}
	credit_step(c);
}

/* Answer a packet that belongs to no connection. serve_tx made sure of the room. */
static void stray(struct vsock *vs, const struct header *h)
{
	if (le16toh(h->op) == OP_RST)
		return;
	vs->rsts[(vs->rst_at + vs->n_rsts++) % RSTS_MAX] = (struct header){
		.src_cid = h->dst_cid,
		.dst_cid = h->src_cid,
		.src_port = h->dst_port,
		.dst_port = h->src_port,
		.type = h->type,
		.op = htole16(OP_RST),
	};
}

static void on_request(struct vsock *vs, const struct header *h)
{
	struct conn *c;
	int fd = -1;

	if (vs->n_conns < VSOCK_CONNS_MAX)
		fd = vs->ops->accept(vs->arg, le32toh(h->dst_port));
	if (fd < 0) {
		stray(vs, h);
		return;
	}
	c = conn_new(vs, OPEN, le32toh(h->dst_port), le32toh(h->src_port), fd);
	c->peer_alloc = le32toh(h->buf_alloc);
	c->peer_fwd = le32toh(h->fwd_cnt);
	c->pend = PEND(OP_RESPONSE);
	conn_step(c);
}

static void on_open_packet(struct conn *c, const struct header *h, const struct virtq_chain *chain)
{
	uint32_t flags = le32toh(h->flags);

	switch (le16toh(h->op)) {
	case OP_RW:
		on_data(c, chain, le32toh(h->len));
		break;
	case OP_SHUTDOWN:
		c->guest_no_send |= !!(flags & SHUTDOWN_SEND);
		if (flags & SHUTDOWN_RCV && !c->guest_no_recv) {
			c->guest_no_recv = c->host_eof = true;
			if (c->fd >= 0)
				shutdown(c->fd, SHUT_RD);
		}
		break;
	case OP_CREDIT_UPDATE:
		break;
	case OP_CREDIT_REQUEST:
		c->pend |= PEND(OP_CREDIT_UPDATE);
		break;
	case OP_RST:
		conn_over(c, false);
		break;
	default:
		conn_kill(c);
		break;
	}
}

static void on_packet(struct vsock *vs, const struct virtq_chain *chain)
{
	struct header h;
	struct conn *c;
	uint16_t op;

	if (virtq_chain_read(chain, 0, &h, sizeof(h)) < sizeof(h) ||
		le64toh(h.src_cid) != vs->guest_cid) {
		log_limited(LOG_DEBUG, "device=vsock dropped malformed packet");
		return;
	}
	op = le16toh(h.op);
	if (le64toh(h.dst_cid) != VSOCK_HOST_CID || le16toh(h.type) != TYPE_STREAM) {
		stray(vs, &h);
		return;
	}
	c = conn_find(vs, le32toh(h.dst_port), le32toh(h.src_port));
	if (!c && op == OP_REQUEST) {
		on_request(vs, &h);
		return;
	}
	if (!c) {
		stray(vs, &h);
		return;
	}
	c->peer_alloc = le32toh(h.buf_alloc);
	c->peer_fwd = le32toh(h.fwd_cnt);
	if (le32toh(h.len) > PACKET_MAX || le32toh(h.len) > chain->out_len - sizeof(h)) {
		log_limited(LOG_DEBUG, "device=vsock packet with bad length");
		if (c->state <= OPEN)
			conn_kill(c);
	} else if (c->state == OPEN) {
		on_open_packet(c, &h, chain);
	} else if (c->state == REQUESTED && op == OP_RESPONSE) {
		c->state = OPEN;
		c->readable = true;
	} else if (op == OP_RST) {
		conn_over(c, false);
	} else if (c->state == REQUESTED) {
		conn_kill(c);
	}
	conn_step(c);
}

static void serve_tx(struct vsock *vs)
{
	struct virtq *q = &vs->dev.vq[Q_TX];
	struct virtq_chain chain;
	unsigned n = 0;

	vs->tx_stalled = false;
	for (; n < PUMP_MAX && !vs->dev.broken; n++) {
		enum virtq_next r;

		vs->tx_stalled = vs->n_rsts == RSTS_MAX;
		if (vs->tx_stalled)
			break;
		r = virtq_pop(q, &chain);
		if (r == VIRTQ_BAD)
			vdev_break(&vs->dev, "bad tx queue");
		if (r != VIRTQ_CHAIN)
			break;
		on_packet(vs, &chain);
		virtq_push(q, chain.head, 0);
	}
	vdev_flush(&vs->dev, Q_TX);
	if (n == PUMP_MAX)
		loop_timer_start(vs->loop, &vs->again, 0, on_again);
}

/* ---- events ---- */

static void serve(struct vsock *vs)
{
	serve_tx(vs);
	pump(vs);
	settle(vs);
}

static void on_again(struct loop *l, struct loop_timer *t)
{
	serve(container_of(t, struct vsock, again));
}

static void conn_event(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct conn *c = container_of(w, struct conn, watch);
	struct vsock *vs = c->vs;
	bool hup = events & (EPOLLHUP | EPOLLERR);
	char byte;

	if (c->state == REQUESTED) {
		/* The host side gave up; bytes that it left behind still want to be delivered. */
		if (recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
			conn_kill(c);
		else
			c->readable = true;
	} else {
		if ((events & EPOLLOUT || hup) && buf_len(&c->to_host))
			flush(c);
		if (hup && c->host_eof)
			discard(c, 0);
		if ((events & EPOLLIN || hup) && !c->host_eof)
			c->readable = true;
	}
	conn_queue(c); /* for pump, which also draws the consequences */
	pump(vs);
	settle(vs);
}

static void config_read(struct vdev *d, size_t off, void *to, size_t len)
{
	const struct vsock *vs = container_of(d, struct vsock, dev);
	uint64_t cid = htole64(vs->guest_cid);

	memset(to, 0, len);
	if (off < sizeof(cid))
		memcpy(to, (const uint8_t *)&cid + off, MIN(len, sizeof(cid) - off));
}

static void kick(struct vdev *d, unsigned q)
{
	if (q != Q_EVENT)
		serve(container_of(d, struct vsock, dev));
}

static void reset(struct vdev *d)
{
	free_all(container_of(d, struct vsock, dev));
}

static const struct vdev_ops vsock_ops = {
	.name = "vsock",
	.id = VIRTIO_ID_VSOCK,
	.n_queues = Q_COUNT,
	.config_read = config_read,
	.kick = kick,
	.reset = reset,
};

struct vsock *vsock_new(
	struct loop *loop, uint64_t guest_cid, const struct vsock_host *ops, void *arg)
{
	struct vsock *vs = xcalloc(1, sizeof(*vs));

	vs->dev.ops = &vsock_ops;
	vs->loop = loop;
	vs->ops = ops;
	vs->arg = arg;
	vs->guest_cid = guest_cid;
	vs->want.prev = vs->want.next = &vs->want;
	vs->next_port = VSOCK_HOST_PORT_MIN;
	return vs;
}

void vsock_free(struct vsock *vs)
{
	if (!vs)
		return;
	free_all(vs);
	free(vs);
}

struct vdev *vsock_vdev(struct vsock *vs)
{
	return &vs->dev;
}

int vsock_connect(struct vsock *vs, int fd, uint32_t guest_port)
{
	const struct vdev *d = &vs->dev;
	struct conn *c;
	uint32_t port;

	if (d->broken || !d->vq[Q_RX].ready || !d->vq[Q_TX].ready ||
		vs->n_conns == VSOCK_CONNS_MAX) {
		close(fd);
		return -1;
	}
	do {
		port = vs->next_port++;
		/* The last port number means "any". */
		if (vs->next_port == UINT32_MAX)
			vs->next_port = VSOCK_HOST_PORT_MIN;
	} while (conn_find(vs, port, guest_port));
	c = conn_new(vs, REQUESTED, port, guest_port, fd);
	c->pend = PEND(OP_REQUEST);
	conn_step(c);
	pump(vs);
	settle(vs);
	return 0;
}

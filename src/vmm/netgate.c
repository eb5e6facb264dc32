/* SPDX-License-Identifier: Apache-2.0 */
/* Between the guest's network stack and hutch-gate.
 *
 * Guest to gate: bytes go from guest memory into the socketpair. The window that the guest sees is
 * the free part of the socket's send buffer. The kernel counts that buffer in its own overhead, so
 * many small writes fill it earlier than the announced window says; the difference waits in
 * `staged` (allocated only then), because a promise to take bytes must hold.
 *
 * Gate to guest: bytes are peeked at from the socketpair (SO_PEEK_OFF: the kernel remembers how
 * far) straight into the guest's buffers, and read for good, into a scratch page, when the guest
 * has acknowledged them. The socketpair is the retransmission queue. Measured, a peek and a read of
 * 64 KiB move 3.1 GB/s, a read into a ring of our own and a copy from there 3.7 GB/s: not worth
 * memory per flow and a second place that holds the data.
 *
 * Watches are edge-triggered and always for both directions: what is ready is state of the flow in
 * the stack, and a hang-up that the guest has not yet drained cannot spin. */
#include "vmm/netgate.h"

#include <errno.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "wire/link.h"

/* syscalls(netgate): recvmsg sendmsg sendto ioctl(SIOCOUTQ) setsockopt(SO_PEEK_OFF)
 *	getsockopt(SO_SNDBUF) socketpair(AF_UNIX) shutdown close */

#define STAGED_MAX     (512u << 10) /* more than the largest window that room() announces */
#define STAGED_ALL_MAX (64u << 20)  /* of all flows together */
#define ROOM_MIN       (32u << 10)  /* less is no room: windows should not open in a trickle */
#define SCRATCH_BYTES  4096u
#define SCRATCH_IOV    32u
#define LINK_BURST     8192 /* messages of the gate before others get their turn */

struct ng_flow {
	struct netgate *ng;
	struct loop_watch watch; /* on our end; fd owned */
	struct net_flow name;    /* id 0: slot not in use */
	int gate_end;            /* owned until it is sent; -1 */
	size_t send_buffer;
	size_t peek_off;   /* SO_PEEK_OFF, as the kernel has it */
	struct buf staged; /* bytes for the gate that the socket did not take */
	bool ended;        /* the gate's end hung up, and what it said before was heard */
};

struct netgate {
	struct loop *loop; /* borrowed */
	struct loop_watch link;
	int gate_fd; /* owned */
	struct loop_timer timer;
	void (*on_close)(void *arg);
	void *arg;
	struct net *net;
	struct netdev *dev;
	unsigned flows_max;
	struct ng_flow *flows; /* by slot of the stack */
	/* Flows whose TCP_OPEN the link has not taken yet: a ring, stale names are passed over. */
	struct net_flow *opens;
	unsigned opens_at, n_opens;
	size_t staged_all;
	struct link_packet packet;
	uint8_t scratch[SCRATCH_BYTES];
};

static struct ng_flow *ng_flow(struct netgate *ng, struct net_flow name)
{
	return &ng->flows[name.slot];
}

static void watch_link(struct netgate *ng)
{
	loop_mod(ng->loop, &ng->link, EPOLLIN | (ng->n_opens ? EPOLLOUT : 0u));
}

/* Hand the flow's other end to the gate. False: the link is full. */
static bool send_open(struct netgate *ng, struct ng_flow *f, uint32_t addr, uint16_t port)
{
	struct link_msg m = {.type = LINK_TCP_OPEN, .id = f->name.id, .addr = addr, .port = port};

	if (fd_send(ng->gate_fd, &m, sizeof(m), &f->gate_end, 1) < 0)
		return false;
	close_and_reset(&f->gate_end);
	return true;
}

static void on_flow(struct loop *l, struct loop_watch *w, uint32_t events);

static int make_pair(struct netgate *ng, struct ng_flow *f)
{
	socklen_t len = sizeof(int);
	int sv[2], size = 0, off = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv) < 0)
		return -1;
	f->gate_end = sv[1];
	getsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &size, &len);
	f->send_buffer = size > 0 ? (size_t)size : 0;
	if (setsockopt(sv[0], SOL_SOCKET, SO_PEEK_OFF, &off, sizeof(off)) < 0 ||
		loop_add(ng->loop, &f->watch, sv[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
			on_flow) < 0) {
		close(sv[0]);
		close_and_reset(&f->gate_end);
		return -1;
	}
	return 0;
}

static bool owner_open(void *arg, struct net_flow name, uint32_t addr, uint16_t port)
{
	struct netgate *ng = arg;
	struct ng_flow *f = ng_flow(ng, name);

	if (ng->gate_fd < 0 || ng->n_opens == ng->flows_max)
		return false;
	*f = (struct ng_flow){.ng = ng, .name = name, .gate_end = -1, .watch.fd = -1};
	buf_init(&f->staged, STAGED_MAX);
	if (make_pair(ng, f) < 0) {
		log_limited(LOG_WARN, "flow refused: %s", strerror(errno));
		f->name.id = 0;
		return false;
	}
	if (ng->n_opens == 0 && send_open(ng, f, addr, port))
		return true;
	ng->opens[(ng->opens_at + ng->n_opens++) % ng->flows_max] = name;
	watch_link(ng);
	return true;
}

static size_t owner_room(void *arg, struct net_flow name)
{
	struct ng_flow *f = ng_flow(arg, name);
	int queued = 0;
	size_t room;

	if (buf_len(&f->staged) || ioctl(f->watch.fd, SIOCOUTQ, &queued) < 0 || queued < 0 ||
		(size_t)queued >= f->send_buffer)
		return 0;
	room = MIN(f->send_buffer - (size_t)queued, (size_t)STAGED_MAX / 2);
	return room < MIN((size_t)ROOM_MIN, f->send_buffer / 4) ? 0 : room;
}

/* Keep what the socket did not take. Returns the bytes kept. */
static size_t stage(
	struct netgate *ng, struct ng_flow *f, const struct iovec *iov, unsigned n, size_t skip)
{
	size_t done = 0;

	for (unsigned i = 0; i < n; i++) {
		size_t k = iov[i].iov_len;

		if (skip >= k) {
			skip -= k;
			continue;
		}
		k -= skip;
		if (ng->staged_all + k > STAGED_ALL_MAX || buf_len(&f->staged) + k > STAGED_MAX ||
			buf_put(&f->staged, (uint8_t *)iov[i].iov_base + skip, k) < 0)
			break;
		skip = 0;
		done += k;
		ng->staged_all += k;
	}
	return done;
}

static ssize_t owner_write(void *arg, struct net_flow name, const struct iovec *iov, unsigned n)
{
	struct netgate *ng = arg;
	struct ng_flow *f = ng_flow(ng, name);
	struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n};
	ssize_t took = 0;

	if (buf_len(&f->staged) == 0) {
		took = sendmsg(f->watch.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (took < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS)
			return -1;
		took = MAX(took, (ssize_t)0);
	}
	return took + (ssize_t)stage(ng, f, iov, n, (size_t)took);
}

/* The socket takes more: first what waits. */
static void flush_staged(struct netgate *ng, struct ng_flow *f)
{
	while (buf_len(&f->staged)) {
		ssize_t k = send(f->watch.fd, buf_head(&f->staged), buf_len(&f->staged),
			MSG_NOSIGNAL | MSG_DONTWAIT);

		if (k < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		/* Nobody reads any more: the guest's next write will find out. */
		if (k <= 0)
			k = (ssize_t)buf_len(&f->staged);
		buf_consume(&f->staged, (size_t)k);
		ng->staged_all -= (size_t)k;
	}
	buf_done(&f->staged);
	buf_init(&f->staged, STAGED_MAX);
}

static bool owner_shut(void *arg, struct net_flow name)
{
	struct ng_flow *f = ng_flow(arg, name);

	if (buf_len(&f->staged))
		return false;
	shutdown(f->watch.fd, SHUT_WR);
	return true;
}

static ssize_t owner_peek(
	void *arg, struct net_flow name, size_t off, const struct iovec *iov, unsigned n)
{
	struct ng_flow *f = ng_flow(arg, name);
	struct msghdr m = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n};
	int at = (int)off;
	ssize_t got;

	if (off != f->peek_off) {
		if (setsockopt(f->watch.fd, SOL_SOCKET, SO_PEEK_OFF, &at, sizeof(at)) < 0)
			return -1;
		f->peek_off = off;
	}
	got = recvmsg(f->watch.fd, &m, MSG_PEEK | MSG_DONTWAIT);
	if (got > 0)
		f->peek_off += (size_t)got;
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? NET_AGAIN : -1;
	/* on_flow comes with the end of file, and looks for a LINK_TCP_RESET first. */
	return got == 0 && !f->ended ? NET_AGAIN : got;
}

static void owner_discard(void *arg, struct net_flow name, size_t n)
{
	struct netgate *ng = arg;
	struct ng_flow *f = ng_flow(ng, name);

	/* The kernel moves the offset back by what is read. */
	f->peek_off -= MIN(f->peek_off, n);
	while (n) {
		struct iovec iov[SCRATCH_IOV];
		struct msghdr m = {.msg_iov = iov};
		size_t left = n;
		ssize_t k;

		/* The same page over and over: it stays in the cache. */
		for (; left && m.msg_iovlen < SCRATCH_IOV; m.msg_iovlen++) {
			iov[m.msg_iovlen] = (struct iovec){ng->scratch, MIN(left, SCRATCH_BYTES)};
			left -= iov[m.msg_iovlen].iov_len;
		}
		k = recvmsg(f->watch.fd, &m, MSG_DONTWAIT);
		if (k <= 0)
			return; /* cannot be: it was there to be peeked at */
		n -= (size_t)k;
	}
}

static void owner_close(void *arg, struct net_flow name)
{
	struct netgate *ng = arg;
	struct ng_flow *f = ng_flow(ng, name);
	int fd = f->watch.fd;

	loop_del(ng->loop, &f->watch);
	if (fd >= 0)
		close(fd);
	close_and_reset(&f->gate_end);
	ng->staged_all -= buf_len(&f->staged);
	buf_done(&f->staged);
	f->name.id = 0;
}

static bool owner_dns(void *arg, uint32_t id, const uint8_t *msg, size_t len)
{
	struct netgate *ng = arg;
	struct link_packet *p = &ng->packet;

	if (ng->gate_fd < 0 || len > sizeof(p->data) || len == 0)
		return false;
	p->m = (struct link_msg){.type = LINK_DNS_QUERY, .id = id, .len = (uint32_t)len};
	memcpy(p->data, msg, len);
	return fd_send(ng->gate_fd, p, sizeof(p->m) + len, NULL, 0) >= 0;
}

static bool owner_udp(void *arg, uint16_t guest_port, uint32_t addr, uint16_t port,
	const struct iovec *iov, unsigned n, size_t len)
{
	struct netgate *ng = arg;
	struct link_packet *p = &ng->packet;
	size_t at = 0;

	if (ng->gate_fd < 0 || len > sizeof(p->data))
		return false;
	p->m = (struct link_msg){.type = LINK_UDP_OUT,
		.id = guest_port,
		.addr = addr,
		.port = port,
		.len = (uint32_t)len};
	for (unsigned i = 0; i < n && at < len; i++) {
		size_t k = MIN(iov[i].iov_len, len - at);

		memcpy(p->data + at, iov[i].iov_base, k);
		at += k;
	}
	return at == len && fd_send(ng->gate_fd, p, sizeof(p->m) + len, NULL, 0) >= 0;
}

static uint64_t owner_now(void *arg)
{
	struct netgate *ng = arg;

	return loop_now(ng->loop) / 1000000;
}

static void on_timer(struct loop *l, struct loop_timer *t)
{
	struct netgate *ng = container_of(t, struct netgate, timer);

	net_timer(ng->net);
	net_flush(ng->net);
}

static void owner_wake_at(void *arg, uint64_t due_ms)
{
	struct netgate *ng = arg;
	uint64_t now = owner_now(ng);

	loop_timer_start(ng->loop, &ng->timer, due_ms > now ? due_ms - now : 1, on_timer);
}

static const struct net_owner_ops owner_ops = {
	.open = owner_open,
	.room = owner_room,
	.write = owner_write,
	.shut = owner_shut,
	.peek = owner_peek,
	.discard = owner_discard,
	.close = owner_close,
	.dns = owner_dns,
	.udp = owner_udp,
	.now_ms = owner_now,
	.wake_at = owner_wake_at,
};

static void link_gone(struct netgate *ng, const char *why)
{
	log_limited(LOG_WARN, "gate link: %s", why);
	loop_del(ng->loop, &ng->link);
	close_and_reset(&ng->gate_fd);
	ng->on_close(ng->arg);
}

static void gate_message(struct netgate *ng, const struct link_packet *p)
{
	struct net_flow name;

	if (p->m.type == LINK_DNS_ANSWER) {
		net_dns_answer(ng->net, p->m.id, p->data, p->m.len);
		return;
	}
	if (p->m.type == LINK_UDP_IN) {
		net_udp_answer(ng->net, (uint16_t)p->m.id, p->m.addr, p->m.port, p->data, p->m.len);
		return;
	}
	if (p->m.type == LINK_UDP_REFUSE) {
		net_udp_refuse(ng->net, (uint16_t)p->m.id, p->m.addr, p->m.port);
		return;
	}
	/* The guest may have given up meanwhile. */
	if (!net_flow_find(ng->net, p->m.id, &name))
		return;
	if (p->m.type == LINK_TCP_ACCEPT)
		net_flow_accept(ng->net, name);
	else if (p->m.type == LINK_TCP_REFUSE)
		net_flow_refuse(ng->net, name);
	else if (p->m.type == LINK_TCP_RESET)
		net_flow_reset(ng->net, name);
}

/* One message. False: nothing more to read, or the link is gone. */
static bool read_link(struct netgate *ng)
{
	int fds[FD_PASS_MAX];
	size_t nfds = 0;
	ssize_t k = fd_recv(ng->gate_fd, &ng->packet, sizeof(ng->packet), fds, &nfds);
	bool ok;

	if (k < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (k <= 0) {
		link_gone(ng, k == 0 ? "closed" : strerror(errno));
		return false;
	}
	ok = link_check(&ng->packet, (size_t)k, nfds) && ng->packet.m.type >= LINK_TCP_ACCEPT &&
	     ng->packet.m.type != LINK_UDP_OUT;
	for (size_t i = 0; i < nfds; i++)
		close(fds[i]);
	if (!ok) {
		link_gone(ng, "malformed message");
		return false;
	}
	gate_message(ng, &ng->packet);
	return true;
}

/* Hear what the gate has said so far. False: the link is gone. */
static bool drain_link(struct netgate *ng)
{
	for (int i = 0; i < LINK_BURST && ng->gate_fd >= 0; i++)
		if (!read_link(ng))
			break;
	return ng->gate_fd >= 0;
}

static void on_flow(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct ng_flow *f = container_of(w, struct ng_flow, watch);
	struct netgate *ng = f->ng;
	struct net_flow name = f->name;

	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		/* A reset is said on the link before the socket is closed, but the socket may be
		 * looked at first: without this it would look like an ordinary end. */
		if (!drain_link(ng))
			return;
		if (f->name.id == name.id)
			f->ended = true;
	}
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		net_flow_readable(ng->net, name);
	if ((events & EPOLLOUT) && f->name.id == name.id) {
		flush_staged(ng, f);
		net_flow_writable(ng->net, name);
	}
	net_flush(ng->net);
}

/* The link takes messages again: send the openings that wait, in their order. */
static void send_opens(struct netgate *ng)
{
	for (; ng->n_opens; ng->n_opens--) {
		struct net_flow name = ng->opens[ng->opens_at];
		struct ng_flow *f = ng_flow(ng, name);
		uint32_t addr;
		uint16_t port;

		if (f->name.id == name.id && net_flow_target(ng->net, name, &addr, &port) &&
			!send_open(ng, f, addr, port)) {
			if (errno == EAGAIN)
				return;
			net_flow_refuse(ng->net, name);
		}
		ng->opens_at = (ng->opens_at + 1) % ng->flows_max;
	}
}

static void on_link(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct netgate *ng = container_of(w, struct netgate, link);

	if (!drain_link(ng))
		return;
	send_opens(ng);
	watch_link(ng);
	net_flush(ng->net);
}

struct netgate *netgate_new(struct loop *loop, const struct netgate_config *config, struct err *err)
{
	struct netgate *ng = xcalloc(1, sizeof(*ng));
	struct net_config nc = {.half_open_max = NETGATE_HALF_OPEN};

	ng->loop = loop;
	ng->gate_fd = config->gate_fd;
	ng->on_close = config->on_close;
	ng->arg = config->arg;
	ng->flows_max = config->flows_max ? config->flows_max : NETGATE_FLOWS;
	ng->flows = xcalloc(ng->flows_max, sizeof(*ng->flows));
	ng->opens = xcalloc(ng->flows_max, sizeof(*ng->opens));
	nc.flows_max = ng->flows_max;
	memcpy(nc.key, config->key, sizeof(nc.key));
	ng->net = net_new(&owner_ops, ng, &nc);
	ng->dev = netdev_new(loop, ng->net);
	ng->link.fd = -1;
	if (fd_set_nonblock(ng->gate_fd, true) < 0 ||
		loop_add(loop, &ng->link, ng->gate_fd, EPOLLIN, on_link) < 0) {
		err_errno(err, "gate link");
		netgate_free(ng);
		return NULL;
	}
	return ng;
}

void netgate_free(struct netgate *ng)
{
	if (!ng)
		return;
	netdev_free(ng->dev);
	net_free(ng->net);
	loop_timer_stop(ng->loop, &ng->timer);
	loop_del(ng->loop, &ng->link);
	close_and_reset(&ng->gate_fd);
	free(ng->flows);
	free(ng->opens);
	free(ng);
}

struct net *netgate_net(struct netgate *ng)
{
	return ng->net;
}

struct netdev *netgate_device(struct netgate *ng)
{
	return ng->dev;
}

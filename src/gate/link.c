/* SPDX-License-Identifier: Apache-2.0 */
/* The link to the VMM: DNS questions and new connections. Everything on it is hostile. */
#include "gate/gate.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "gate/dns.h"
#include "gate/flow.h"
#include "gate/udp.h"

/* A wake-up serves this many packets, then lets the connections have their turn. */
#define LINK_BATCH 32
/* Answers that the VMM does not fetch. Above half of it nothing new is read from the VMM, and what
 * remains is enough for three messages of every connection: more means that it is out of order. */
#define LINK_OUT_MAX (2u << 20)

/* Learning: each name once, when it is first asked for. */
static void record_name(struct gate *g, const char *name, bool reachable)
{
	audit_write(g->audit, &(struct audit_record){.verdict = reachable ? AUDIT_ALLOW : AUDIT_DENY,
				      .proto = AUDIT_DNS,
				      .name = name,
				      .reason = "name looked up"});
}

bool link_answer_dns(struct gate *g, const void *msg, size_t len, struct buf *out)
{
	struct dns_query q;
	int rcode = dns_parse(msg, len, &q);
	size_t known = names_count(g->names);
	bool reachable, ok;

	if (rcode < 0)
		return false;
	reachable = q.name[0] && policy_name_reachable(&g->config->policy, q.name);
	ok = dns_local(&q, rcode, g->names, reachable, out) == 0;
	if (g->config->net.learn && names_count(g->names) > known)
		record_name(g, q.name, reachable);
	return ok;
}

static void set_interest(struct gate *g)
{
	uint32_t want = buf_len(&g->link_out) ? EPOLLOUT : 0;

	if (buf_len(&g->link_out) < LINK_OUT_MAX / 2)
		want |= EPOLLIN;
	loop_mod(g->loop, &g->link, want);
}

static void flush(struct gate *g)
{
	while (buf_len(&g->link_out) > 0) {
		uint32_t size;

		memcpy(&size, buf_head(&g->link_out), sizeof(size));
		if (send(g->link.fd, buf_head(&g->link_out) + sizeof(size), size,
			    MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
			(errno == EAGAIN || errno == EINTR))
			break;
		buf_consume(&g->link_out, sizeof(size) + size);
	}
	set_interest(g);
}

bool link_has_room(const struct gate *g)
{
	return buf_len(&g->link_out) < LINK_OUT_MAX / 4;
}

void link_send(struct gate *g, enum link_type type, uint32_t id, const void *data, size_t len)
{
	link_send_to(g, type, id, 0, 0, data, len);
}

void link_send_to(struct gate *g, enum link_type type, uint32_t id, uint32_t addr, uint16_t port,
	const void *data, size_t len)
{
	struct link_msg m = {.type = (uint16_t)type,
		.port = port,
		.id = id,
		.addr = addr,
		.len = (uint32_t)len};
	uint32_t size = (uint32_t)(sizeof(m) + len);

	if (buf_room(&g->link_out) < sizeof(size) + size) {
		log_limited(LOG_ERROR, "link: the VMM does not read its messages, giving up");
		loop_stop(g->loop, 1);
		return;
	}
	buf_put(&g->link_out, &size, sizeof(size));
	buf_put(&g->link_out, &m, sizeof(m));
	buf_put(&g->link_out, data, len);
	flush(g);
}

static void on_dns(struct gate *g, const struct link_packet *p)
{
	_buf_ struct buf answer;

	buf_init(&answer, DNS_ANSWER_MAX);
	if (link_answer_dns(g, p->data, p->m.len, &answer))
		link_send(g, LINK_DNS_ANSWER, p->m.id, buf_head(&answer), buf_len(&answer));
}

static void on_packet(struct gate *g, const struct link_packet *p, int *fd)
{
	if (p->m.type == LINK_TCP_OPEN)
		flow_open(g, &p->m, steal_fd(fd));
	else if (p->m.type == LINK_DNS_QUERY)
		on_dns(g, p);
	else if (p->m.type == LINK_UDP_OUT)
		udp_send(g->udp, p);
	else
		log_limited(LOG_WARN, "link: %s is not for the gate", link_type_name(p->m.type));
}

/* Returns whether there may be more. */
static bool receive(struct gate *g)
{
	int fds[FD_PASS_MAX];
	struct link_packet *p = &g->packet;
	size_t nfds;
	ssize_t n = fd_recv(g->link.fd, p, sizeof(*p), fds, &nfds);
	bool gone;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	/* An empty packet is taken for the end, too, with whatever comes along. */
	gone = n == 0 || (n < 0 && errno != EMSGSIZE);
	if (gone) {
		log_info("link: the VMM has gone");
		loop_stop(g->loop, 0);
	} else if (n > 0 && link_check(p, (size_t)n, nfds)) {
		on_packet(g, p, &fds[0]);
	} else {
		log_limited(LOG_WARN, "link: malformed message");
	}
	for (size_t i = 0; i < nfds; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return !gone;
}

static void on_link(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct gate *g = container_of(w, struct gate, link);

	if (events & EPOLLOUT)
		flush(g);
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	for (int i = 0; i < LINK_BATCH; i++)
		if (buf_len(&g->link_out) >= LINK_OUT_MAX / 2 || !receive(g))
			break;
}

int link_start(struct gate *g, int fd)
{
	if (g->link.fd >= 0)
		return 0;
	buf_init(&g->link_out, LINK_OUT_MAX);
	return loop_add(g->loop, &g->link, fd, EPOLLIN, on_link);
}

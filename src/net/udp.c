/* SPDX-License-Identifier: Apache-2.0 */
/* UDP: questions to the gateway's DNS port, and datagrams to everybody else by way of the owner,
 * who keeps the state: each datagram names both of its ends.
 *
 * An immediate "port unreachable" for what is refused matters: clients that try QUIC first fall
 * back to TCP in the same millisecond instead of waiting for a timeout. */
#include "net/net_int.h"

#define UNREACH_PORT 3u
#define DNS_PORT     53u

/* The oldest slot is given to a new question, whether it was answered or not: some never are, and a
 * guest that asks such must not keep all others from being answered. */
static struct dns_slot *dns_slot_new(struct net *n, uint16_t guest_port)
{
	uint32_t id = n->last_dns + 1 ? n->last_dns + 1 : 1;
	struct dns_slot *s = &n->dns[id % DNS_SLOTS];

	n->last_dns = id;
	*s = (struct dns_slot){.id = id, .guest_port = guest_port};
	return s;
}

static bool dns_question(struct net *n, const struct ip_in *in, uint16_t guest_port, size_t len)
{
	uint8_t msg[NET_DNS_MAX];
	struct dns_slot *s;

	if (len > sizeof(msg) || guest_port == 0)
		return false;
	s = dns_slot_new(n, guest_port);
	net_iov_read(in->iov, in->n, UDP_LEN, msg, len);
	if (n->ops->dns(n->arg, s->id, msg, len))
		return true;
	s->id = 0;
	return false;
}

/* Groups and networks are not one peer, and without a port nobody could answer. */
static bool is_peer(uint32_t addr, uint16_t from, uint16_t to)
{
	return from && to && addr >> 28 < 14 && addr >> 24 != 0 && addr != NET_GUEST_IP &&
	       addr != (NET_GUEST_IP | 0xff);
}

static void datagram(struct net *n, const struct ip_in *in, uint16_t from, uint16_t to, size_t len)
{
	struct iovec iov[NET_IOV_MAX];
	unsigned n_iov = net_iov_slice(iov, in->iov, in->n, UDP_LEN, len);

	if (!is_peer(in->dst, from, to) || !n->ops->udp(n->arg, from, in->dst, to, iov, n_iov, len))
		n->stats.dropped++;
}

void udp_input(struct net *n, struct ip_in *in)
{
	uint8_t h[UDP_LEN];
	struct rd rd = rd_make(h, net_iov_read(in->iov, in->n, 0, h, sizeof(h)));
	uint16_t from = rd_be16(&rd), to = rd_be16(&rd), len = rd_be16(&rd), check = rd_be16(&rd);
	struct sum s = {0};

	if (!rd_ok(&rd) || len < UDP_LEN || len > in->len) {
		n->stats.dropped++;
		return;
	}
	if (check && !in->csum_ok) {
		sum_pseudo(&s, in->src, in->dst, PROTO_UDP, len);
		sum_iov(&s, in->iov, in->n, len);
		if (sum_done(&s) != 0) {
			n->stats.dropped++;
			return;
		}
	}
	if (in->dst != NET_GATEWAY_IP)
		datagram(n, in, from, to, len - UDP_LEN);
	else if (to != DNS_PORT)
		icmp_unreachable(n, in, UNREACH_PORT);
	else if (!dns_question(n, in, from, len - UDP_LEN))
		n->stats.dropped++;
}

/* Headers around @len bytes that are in the frame already. */
static void udp_header(
	uint8_t *frame, uint32_t addr, uint16_t port, uint16_t guest_port, size_t len)
{
	uint8_t *udp = frame + IP_PAYLOAD_AT;
	struct sum sum = {0};
	uint16_t check;

	ip_header(frame, addr, PROTO_UDP, UDP_LEN + len);
	put16(udp, port);
	put16(udp + 2, guest_port);
	put16(udp + 4, (uint16_t)(UDP_LEN + len));
	put16(udp + 6, 0);
	sum_pseudo(&sum, addr, NET_GUEST_IP, PROTO_UDP, UDP_LEN + len);
	sum_bytes(&sum, udp, UDP_LEN + len);
	check = sum_done(&sum);
	if (check == 0)
		check = 0xffff; /* zero means "none" */
	memcpy(udp + 6, &check, 2);
}

void net_dns_answer(struct net *n, uint32_t id, const uint8_t *msg, size_t len)
{
	struct dns_slot *s = &n->dns[id % DNS_SLOTS];
	uint8_t *p;

	if (!id || s->id != id)
		return; /* answered before, or too late */
	s->id = 0;
	p = len <= NET_DNS_MAX ? reply_begin(n) : NULL;
	if (!p)
		return;
	memcpy(p + IP_PAYLOAD_AT + UDP_LEN, msg, len);
	udp_header(p, NET_GATEWAY_IP, DNS_PORT, s->guest_port, len);
	reply_commit(n, IP_PAYLOAD_AT + UDP_LEN + len);
}

/* ---- datagrams to the guest ----
 *
 * A ring of frames, each in one piece behind its length. What is left at the end and too short for
 * the next frame is skipped: by a length of 0, or because no length fits there. */

#define RING_HEAD sizeof(uint32_t)

static uint8_t *ring_add(struct net *n, size_t len)
{
	size_t need = RING_HEAD + len, tail, rest, skip;
	uint32_t head = (uint32_t)len, none = 0;

	if (n->udp_used == 0)
		n->udp_at = 0;
	tail = (n->udp_at + n->udp_used) % NET_UDP_QUEUE;
	rest = NET_UDP_QUEUE - tail;
	skip = rest < need ? rest : 0;
	if (n->udp_used + skip + need > NET_UDP_QUEUE)
		return NULL;
	if (skip >= RING_HEAD)
		memcpy(n->udp_ring + tail, &none, sizeof(none));
	n->udp_used += skip + need;
	tail = skip ? 0 : tail;
	memcpy(n->udp_ring + tail, &head, sizeof(head));
	return n->udp_ring + tail + RING_HEAD;
}

static void ring_drop(struct net *n, size_t len)
{
	n->udp_at = (n->udp_at + len) % NET_UDP_QUEUE;
	n->udp_used -= len;
}

/* The oldest frame, or NULL. */
static const uint8_t *ring_first(struct net *n, size_t *ret_len)
{
	while (n->udp_used) {
		size_t rest = NET_UDP_QUEUE - n->udp_at;
		uint32_t len = 0;

		if (rest >= RING_HEAD)
			memcpy(&len, n->udp_ring + n->udp_at, sizeof(len));
		*ret_len = len;
		if (len)
			return n->udp_ring + n->udp_at + RING_HEAD;
		ring_drop(n, rest);
	}
	return NULL;
}

void net_udp_answer(struct net *n, uint16_t guest_port, uint32_t addr, uint16_t port,
	const uint8_t *msg, size_t len)
{
	uint8_t *p = NULL;

	if (n->link && len <= n->caps.mtu - (IP_LEN + UDP_LEN))
		p = ring_add(n, IP_PAYLOAD_AT + UDP_LEN + len);
	if (!p) {
		n->stats.dropped++;
		return;
	}
	if (len)
		memcpy(p + IP_PAYLOAD_AT + UDP_LEN, msg, len);
	udp_header(p, addr, port, guest_port, len);
}

void net_udp_refuse(struct net *n, uint16_t guest_port, uint32_t addr, uint16_t port)
{
	uint8_t frame[IP_PAYLOAD_AT + UDP_LEN];
	struct ip_in in = {.dst = addr, .head_len = IP_LEN + UDP_LEN};
	struct sum s = {0};
	uint16_t check;

	/* The guest's datagram, as far as it needs it to find the socket. */
	ip_header(frame, NET_GUEST_IP, PROTO_UDP, UDP_LEN);
	put32(frame + ETH_LEN + 16, addr);
	memset(frame + ETH_LEN + 10, 0, 2);
	sum_bytes(&s, frame + ETH_LEN, IP_LEN);
	check = sum_done(&s);
	memcpy(frame + ETH_LEN + 10, &check, 2);
	put16(frame + IP_PAYLOAD_AT, guest_port);
	put16(frame + IP_PAYLOAD_AT + 2, port);
	put16(frame + IP_PAYLOAD_AT + 4, UDP_LEN);
	put16(frame + IP_PAYLOAD_AT + 6, 0);
	memcpy(in.head, frame + ETH_LEN, in.head_len);
	icmp_unreachable(n, &in, UNREACH_PORT);
}

static void put_payload(struct iovec *iov, unsigned n, const uint8_t *p)
{
	for (unsigned i = 0; i < n; i++) {
		memcpy(iov[i].iov_base, p, iov[i].iov_len);
		p += iov[i].iov_len;
	}
}

bool udp_flush(struct net *n)
{
	static const struct net_tx plain = {0};
	const size_t hdr_len = IP_PAYLOAD_AT + UDP_LEN;
	const uint8_t *p;
	size_t len;

	while ((p = ring_first(n, &len))) {
		struct iovec iov[NET_IOV_MAX];
		unsigned n_iov;
		ssize_t room = n->link->tx_begin(n->link_arg, hdr_len, len - hdr_len, iov, &n_iov);

		if (room < 0)
			return false;
		if ((size_t)room == len - hdr_len) {
			put_payload(iov, n_iov, p + hdr_len);
			n->link->tx_commit(n->link_arg, p, hdr_len, len - hdr_len, &plain);
			n->stats.frames_out++;
		} else {
			n->stats.dropped++; /* the guest's buffers are too small for it */
		}
		ring_drop(n, RING_HEAD + len);
	}
	return true;
}

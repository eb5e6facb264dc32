/* SPDX-License-Identifier: Apache-2.0 */
/* UDP: questions to the gateway's DNS port; everything else is refused at once.
 *
 * An immediate "port unreachable" matters: clients that try QUIC first fall back to TCP in the same
 * millisecond instead of waiting for a timeout. */
#include "net/net_int.h"

#define UNREACH_PORT 3u
#define DNS_PORT     53u

/* A slot for a question; one that nobody answered in time is free again. */
static struct dns_slot *dns_slot_new(struct net *n, uint16_t guest_port)
{
	uint64_t now = n->ops->now_ms(n->arg);

	for (unsigned i = 0; i < DNS_SLOTS; i++) {
		struct dns_slot *s = &n->dns[(n->last_dns + i) % DNS_SLOTS];

		if (s->id && s->due_ms > now)
			continue;
		if (++n->last_dns == 0)
			n->last_dns = 1;
		*s = (struct dns_slot){.id = n->last_dns,
			.guest_port = guest_port,
			.due_ms = now + DNS_TIMEOUT_MS};
		return s;
	}
	return NULL;
}

static bool dns_question(struct net *n, const struct ip_in *in, uint16_t guest_port, size_t len)
{
	uint8_t msg[NET_DNS_MAX];
	struct dns_slot *s;

	if (len > sizeof(msg) || guest_port == 0)
		return false;
	s = dns_slot_new(n, guest_port);
	if (!s)
		return false;
	net_iov_read(in->iov, in->n, UDP_LEN, msg, len);
	if (n->ops->dns(n->arg, s->id, msg, len))
		return true;
	s->id = 0;
	return false;
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
	if (in->dst != NET_GATEWAY_IP || to != DNS_PORT)
		icmp_unreachable(n, in, UNREACH_PORT);
	else if (!dns_question(n, in, from, len - UDP_LEN))
		n->stats.dropped++;
}

void net_dns_answer(struct net *n, uint32_t id, const uint8_t *msg, size_t len)
{
	struct dns_slot *s = NULL;
	struct sum sum = {0};
	uint16_t check;
	uint8_t *p, *udp;

	for (unsigned i = 0; i < DNS_SLOTS && id && !s; i++)
		if (n->dns[i].id == id)
			s = &n->dns[i];
	if (!s)
		return; /* answered before, or too late */
	s->id = 0;
	p = len <= NET_DNS_MAX ? reply_begin(n) : NULL;
	if (!p)
		return;
	udp = p + IP_PAYLOAD_AT;
	ip_header(p, NET_GATEWAY_IP, PROTO_UDP, UDP_LEN + len);
	put16(udp, DNS_PORT);
	put16(udp + 2, s->guest_port);
	put16(udp + 4, (uint16_t)(UDP_LEN + len));
	put16(udp + 6, 0);
	memcpy(udp + UDP_LEN, msg, len);
	sum_pseudo(&sum, NET_GATEWAY_IP, NET_GUEST_IP, PROTO_UDP, UDP_LEN + len);
	sum_bytes(&sum, udp, UDP_LEN + len);
	check = sum_done(&sum);
	if (check == 0)
		check = 0xffff; /* zero means "none" */
	memcpy(udp + 6, &check, 2);
	reply_commit(n, IP_PAYLOAD_AT + UDP_LEN + len);
}

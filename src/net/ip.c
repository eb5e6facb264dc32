/* SPDX-License-Identifier: Apache-2.0 */
/* Ethernet, ARP, IPv4 and ICMP. The guest has one neighbour, the gateway; everything else that it
 * may talk to is an IP address behind it. */
#include "net/net_int.h"

const uint8_t net_gateway_mac[6] = {0x02, 0x48, 0x00, 0x00, 0x00, 0x02};
const uint8_t net_guest_mac[6] = {0x02, 0x48, 0x00, 0x00, 0x00, 0x15};

#define ICMP_ECHO_REPLY   0u
#define ICMP_UNREACHABLE  3u
#define ICMP_ECHO         8u
#define UNREACH_ADMIN     13u
#define IP_DONT_FRAGMENT  0x4000u
#define IP_MORE_OR_OFFSET 0x3fffu

static void eth_header(uint8_t *p, uint16_t type)
{
	memcpy(p, net_guest_mac, 6);
	memcpy(p + 6, net_gateway_mac, 6);
	put16(p + 12, type);
}

void ip_header(uint8_t *p, uint32_t src, uint8_t proto, size_t len)
{
	struct sum s = {0};
	uint8_t *ip = p + ETH_LEN;
	uint16_t check;

	eth_header(p, ETHERTYPE_IP);
	memset(ip, 0, IP_LEN);
	ip[0] = 0x45;
	put16(ip + 2, (uint16_t)(IP_LEN + len));
	put16(ip + 6, IP_DONT_FRAGMENT);
	ip[8] = 64;
	ip[9] = proto;
	put32(ip + 12, src);
	put32(ip + 16, NET_GUEST_IP);
	sum_bytes(&s, ip, IP_LEN);
	check = sum_done(&s);
	memcpy(ip + 10, &check, 2);
}

/* Who has the gateway's address? Nobody else is on this link. */
static void arp_input(struct net *n, const struct iovec *frame, unsigned n_iov)
{
	static const uint8_t want[8] = {0, 1, 8, 0, 6, 4, 0, 1}; /* Ethernet, IPv4, request */
	uint8_t a[28], *p;
	struct rd rd = rd_make(a, sizeof(a));
	uint32_t sender;

	if (net_iov_read(frame, n_iov, ETH_LEN, a, sizeof(a)) != sizeof(a) ||
		memcmp(rd_bytes(&rd, 8), want, 8) != 0) {
		n->stats.dropped++;
		return;
	}
	rd_bytes(&rd, 6);
	sender = rd_be32(&rd);
	rd_bytes(&rd, 6);
	/* A probe for a duplicate address has sender 0; it deserves an answer as well. */
	if (rd_be32(&rd) != NET_GATEWAY_IP || (sender != NET_GUEST_IP && sender != 0)) {
		n->stats.dropped++;
		return;
	}
	p = reply_begin(n);
	if (!p)
		return;
	eth_header(p, ETHERTYPE_ARP);
	memcpy(p + 14, want, 7);
	p[21] = 2;
	memcpy(p + 22, net_gateway_mac, 6);
	put32(p + 28, NET_GATEWAY_IP);
	memcpy(p + 32, a + 8, 10); /* back to the sender, as it called itself */
	reply_commit(n, 42);
}

/* Close an ICMP message of @len bytes behind the IP header of @frame and send it. */
static void icmp_send(struct net *n, uint8_t *frame, uint32_t src, size_t len)
{
	uint8_t *icmp = frame + IP_PAYLOAD_AT;
	struct sum s = {0};
	uint16_t check;

	ip_header(frame, src, PROTO_ICMP, len);
	memset(icmp + 2, 0, 2);
	sum_bytes(&s, icmp, len);
	check = sum_done(&s);
	memcpy(icmp + 2, &check, 2);
	reply_commit(n, IP_PAYLOAD_AT + len);
}

void icmp_unreachable(struct net *n, const struct ip_in *in, uint8_t code)
{
	uint64_t now = n->ops->now_ms(n->arg);
	uint64_t gain = (now - n->icmp_ms) * ICMP_PER_SEC / 1000;
	uint8_t *p;

	if (gain) {
		n->icmp_tokens = (unsigned)MIN(gain + n->icmp_tokens, (uint64_t)ICMP_PER_SEC);
		n->icmp_ms = now;
	}
	/* Never about something that was not meant for one peer (RFC 1122, 3.2.2). */
	if (!n->icmp_tokens || in->dst >> 28 >= 14 || in->dst == (NET_GUEST_IP | 0xff)) {
		n->stats.dropped++;
		return;
	}
	p = reply_begin(n);
	if (!p)
		return;
	n->icmp_tokens--;
	memset(p + IP_PAYLOAD_AT, 0, 8);
	p[IP_PAYLOAD_AT] = ICMP_UNREACHABLE;
	p[IP_PAYLOAD_AT + 1] = code;
	memcpy(p + IP_PAYLOAD_AT + 8, in->head, in->head_len);
	/* From the address itself: that is what connected sockets match, and what tools print. */
	icmp_send(n, p, code == UNREACH_ADMIN ? NET_GATEWAY_IP : in->dst, 8 + in->head_len);
}

/* The gateway answers echo. Other addresses have no host behind them that we could ask, and silence
 * would make ping wait: they are "administratively prohibited" at once. */
static void icmp_input(struct net *n, struct ip_in *in)
{
	struct sum s = {0};
	uint8_t *p;

	sum_iov(&s, in->iov, in->n, in->len);
	if (in->len < 8 || sum_done(&s) != 0 ||
		((uint8_t *)in->head)[in->head_len - 8] != ICMP_ECHO) {
		n->stats.dropped++;
		return;
	}
	if (in->dst != NET_GATEWAY_IP) {
		icmp_unreachable(n, in, UNREACH_ADMIN);
		return;
	}
	if (in->len > REPLY_BYTES - IP_PAYLOAD_AT) {
		n->stats.dropped++;
		return;
	}
	p = reply_begin(n);
	if (!p)
		return;
	net_iov_read(in->iov, in->n, 0, p + IP_PAYLOAD_AT, in->len);
	p[IP_PAYLOAD_AT] = ICMP_ECHO_REPLY;
	p[IP_PAYLOAD_AT + 1] = 0;
	icmp_send(n, p, NET_GATEWAY_IP, in->len);
}

/* Check the IPv4 header in @in->head (a copy) against the bytes that there are. */
static bool ip_check(struct ip_in *in, size_t frame_len)
{
	struct rd rd = rd_make(in->head, in->head_len);
	uint8_t first = rd_u8(&rd);
	size_t hdr_len = (size_t)(first & 15) * 4;
	struct sum s = {0};
	uint16_t total;

	rd_u8(&rd);
	total = rd_be16(&rd);
	rd_be16(&rd);
	/* Fragments are dropped: nothing of ours makes the guest send any. */
	if (rd_be16(&rd) & (IP_MORE_OR_OFFSET))
		return false;
	rd_u8(&rd);
	in->proto = rd_u8(&rd);
	rd_be16(&rd);
	in->src = rd_be32(&rd);
	in->dst = rd_be32(&rd);
	if (!rd_ok(&rd) || first >> 4 != 4 || hdr_len < IP_LEN || hdr_len > in->head_len ||
		total < hdr_len || total > frame_len - ETH_LEN)
		return false;
	sum_bytes(&s, in->head, hdr_len);
	if (sum_done(&s) != 0)
		return false;
	in->len = total - hdr_len;
	in->head_len = hdr_len + MIN(in->len, (size_t)8);
	return true;
}

static void ip_input(
	struct net *n, const struct iovec *frame, unsigned n_iov, size_t frame_len, bool csum_ok)
{
	struct ip_in in;

	in.csum_ok = csum_ok;
	in.head_len = net_iov_read(frame, n_iov, ETH_LEN, in.head, sizeof(in.head));
	if (!ip_check(&in, frame_len) || in.src != NET_GUEST_IP) {
		n->stats.dropped++;
		return;
	}
	in.n = net_iov_slice(in.iov, frame, n_iov, ETH_LEN + (size_t)(in.head[0] & 15) * 4, in.len);
	switch (in.proto) {
	case PROTO_TCP:
		tcp_input(n, &in);
		break;
	case PROTO_UDP:
		udp_input(n, &in);
		break;
	case PROTO_ICMP:
		icmp_input(n, &in);
		break;
	default:
		icmp_unreachable(n, &in, UNREACH_ADMIN);
	}
}

void eth_input(struct net *n, const struct iovec *frame, unsigned n_iov, bool csum_ok)
{
	static const uint8_t broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
	size_t len = 0;
	uint8_t h[ETH_LEN];
	bool to_us;

	n->stats.frames_in++;
	for (unsigned i = 0; i < n_iov; i++)
		len += frame[i].iov_len;
	if (n_iov > NET_IOV_MAX || net_iov_read(frame, n_iov, 0, h, sizeof(h)) != sizeof(h)) {
		n->stats.dropped++;
		return;
	}
	to_us = memcmp(h, net_gateway_mac, 6) == 0;
	if (h[12] == 0x08 && h[13] == 0x06 && (to_us || memcmp(h, broadcast, 6) == 0))
		arp_input(n, frame, n_iov);
	else if (h[12] == 0x08 && h[13] == 0x00 && to_us)
		ip_input(n, frame, n_iov, len, csum_ok);
	else
		n->stats.dropped++; /* IPv6, multicast, other people's frames */
}

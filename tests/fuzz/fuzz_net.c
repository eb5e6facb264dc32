/* SPDX-License-Identifier: Apache-2.0 */
/* The stack under a hostile guest, a moody owner and a narrow link, all driven by the input: a list
 * of operations of one byte each, with their arguments. Checked: the contract of the owner's
 * functions (nothing after close, close once, no discard of what was not shown), frames that fit
 * their announced room, and an end to every flush. */
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/rd.h"
#include "net/net.h"

#define FLOWS 8u
#define PORTS 6u
#define CHECK(c)                                                                                   \
	do {                                                                                       \
		if (!(c)) {                                                                        \
			fprintf(stderr, "violated: %s\n", #c);                                     \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct owned {
	struct net_flow name; /* id 0: none */
	size_t have, shown;   /* bytes for the guest, not discarded; seen by peek */
	bool eof, shut;
};

struct peer { /* what the fuzzer knows of one of its connections */
	uint32_t seq, ack;
};

struct fuzz {
	struct net *net;
	struct rd in;
	uint64_t now, wake;
	struct owned flows[FLOWS];
	struct peer peers[PORTS];
	unsigned room, mood, open, dns, frames;
	size_t begun_hdr, begun_cap;
	bool begun;
	uint8_t space[70000];
};

static struct owned *owned(struct fuzz *z, struct net_flow f)
{
	CHECK(f.slot < FLOWS && f.id && z->flows[f.slot].name.id == f.id);
	return &z->flows[f.slot];
}

static ssize_t tx_begin(
	void *arg, size_t hdr_len, size_t want, struct iovec iov[NET_IOV_MAX], unsigned *ret_n)
{
	struct fuzz *z = arg;

	*ret_n = 0;
	CHECK(want <= 65535 - 40);
	if (z->room == 0)
		return -1;
	z->begun = true;
	z->begun_hdr = hdr_len;
	z->begun_cap = want;
	/* Sometimes less than asked for. */
	if (want > 1 && (z->mood & 1))
		z->begun_cap = want / 2;
	if (z->begun_cap)
		iov[(*ret_n)++] = (struct iovec){z->space, z->begun_cap};
	return (ssize_t)z->begun_cap;
}
static void tx_commit(
	void *arg, const uint8_t *hdr, size_t hdr_len, size_t payload_len, const struct net_tx *tx)
{
	struct fuzz *z = arg;
	struct rd rd = rd_make(hdr, hdr_len);
	unsigned port;
	uint32_t seq;

	CHECK(z->begun && hdr_len == z->begun_hdr && payload_len <= z->begun_cap);
	CHECK(hdr_len + payload_len <= 14 + 65535);
	z->begun = false;
	z->room--;
	CHECK(++z->frames < 5000000);
	rd_bytes(&rd, 12);
	if (rd_be16(&rd) != 0x0800 || hdr[14 + 9] != 6)
		return;
	/* Learn where the stack is, so that the input can go on sensibly. */
	rd_bytes(&rd, 22);
	port = rd_be16(&rd);
	seq = rd_be32(&rd);
	if (port < PORTS) {
		z->peers[port].ack = seq + (uint32_t)payload_len + !!(hdr[47] & 2) + (hdr[47] & 1);
		z->peers[port].seq = rd_be32(&rd);
	}
}
static void tx_flush(void *arg)
{
}
static const struct net_link_ops link_ops = {tx_begin, tx_commit, tx_flush};

static bool owner_open(void *arg, struct net_flow f, uint32_t addr, uint16_t port)
{
	struct fuzz *z = arg;

	CHECK(f.slot < FLOWS && f.id && z->flows[f.slot].name.id == 0);
	if (z->mood & 2)
		return false;
	z->flows[f.slot] = (struct owned){.name = f};
	z->open++;
	return true;
}
static size_t owner_room(void *arg, struct net_flow f)
{
	struct fuzz *z = arg;

	owned(z, f);
	return z->mood & 4 ? 0 : (size_t)z->mood * 1021;
}
static ssize_t owner_write(void *arg, struct net_flow f, const struct iovec *iov, unsigned n)
{
	struct fuzz *z = arg;
	size_t total = 0;
	uint8_t sum = 0;

	CHECK(!owned(z, f)->shut && n > 0);
	for (unsigned i = 0; i < n; i++) {
		for (size_t j = 0; j < iov[i].iov_len; j++)
			sum ^= ((const uint8_t *)iov[i].iov_base)[j];
		total += iov[i].iov_len;
	}
	z->mood ^= sum & 0x80;
	if ((z->mood & 0x18) == 0x18)
		return -1;
	return (ssize_t)(z->mood & 8 ? total / 2 : total);
}
static bool owner_shut(void *arg, struct net_flow f)
{
	struct fuzz *z = arg;
	struct owned *o = owned(z, f);

	CHECK(!o->shut);
	o->shut = !(z->mood & 0x20);
	return o->shut;
}
static ssize_t owner_peek(
	void *arg, struct net_flow f, size_t off, const struct iovec *iov, unsigned n)
{
	struct fuzz *z = arg;
	struct owned *o = owned(z, f);
	size_t done = 0;

	CHECK(off <= o->have);
	if ((z->mood & 0xc0) == 0xc0)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		size_t k = MIN(iov[i].iov_len, o->have - off - done);

		memset(iov[i].iov_base, 0x5a, k);
		done += k;
	}
	o->shown = MAX(o->shown, off + done);
	return done ? (ssize_t)done : o->eof ? 0 : NET_AGAIN;
}
static void owner_discard(void *arg, struct net_flow f, size_t n)
{
	struct owned *o = owned(arg, f);

	CHECK(n > 0 && n <= o->shown);
	o->shown -= n;
	o->have -= n;
}
static void owner_close(void *arg, struct net_flow f)
{
	struct fuzz *z = arg;

	owned(z, f)->name.id = 0;
	z->open--;
}
static bool owner_dns(void *arg, uint32_t id, const uint8_t *msg, size_t len)
{
	CHECK(len <= NET_DNS_MAX);
	((struct fuzz *)arg)->dns = id;
	return true;
}
static bool owner_udp(void *arg, uint16_t guest_port, uint32_t addr, uint16_t port,
	const struct iovec *iov, unsigned n, size_t len)
{
	size_t total = 0;

	for (unsigned i = 0; i < n; i++)
		total += iov[i].iov_len;
	CHECK(guest_port && port && total == len && len <= 65507);
	return true;
}
static uint64_t owner_now(void *arg)
{
	return ((struct fuzz *)arg)->now;
}
static void owner_wake_at(void *arg, uint64_t due)
{
	((struct fuzz *)arg)->wake = due;
}
static const struct net_owner_ops owner_ops = {.open = owner_open,
	.room = owner_room,
	.write = owner_write,
	.shut = owner_shut,
	.peek = owner_peek,
	.discard = owner_discard,
	.close = owner_close,
	.dns = owner_dns,
	.udp = owner_udp,
	.now_ms = owner_now,
	.wake_at = owner_wake_at};

static void set16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
static void set32(uint8_t *p, uint32_t v)
{
	set16(p, v >> 16);
	set16(p + 2, v & 0xffff);
}

/* Give the frame to the stack in two pieces of its own, so that one byte too far is seen. */
static void give(struct fuzz *z, const uint8_t *p, size_t len, size_t cut, bool csum_ok)
{
	struct iovec iov[2];
	uint8_t *a, *b;

	cut = len ? cut % (len + 1) : 0;
	a = malloc(cut + !cut);
	b = malloc(len - cut + (len == cut));
	memcpy(a, p, cut);
	memcpy(b, p + cut, len - cut);
	iov[0] = (struct iovec){a, cut};
	iov[1] = (struct iovec){b, len - cut};
	net_input(z->net, iov, 2, csum_ok);
	free(a);
	free(b);
}

/* A well-formed IPv4 packet around what the input says. */
static void give_packet(struct fuzz *z, uint32_t dst, uint8_t proto, const uint8_t *p, size_t len)
{
	static uint8_t f[14 + 20 + 66000];
	uint32_t sum = 0;

	memcpy(f, net_gateway_mac, 6);
	memcpy(f + 6, net_guest_mac, 6);
	set16(f + 12, 0x0800);
	memset(f + 14, 0, 20);
	f[14] = 0x45;
	set16(f + 16, (unsigned)(20 + len));
	f[23] = proto;
	set32(f + 26, NET_GUEST_IP);
	set32(f + 30, dst);
	for (int i = 14; i < 34; i += 2)
		sum += (unsigned)(f[i] << 8 | f[i + 1]);
	sum = (sum & 0xffff) + (sum >> 16);
	set16(f + 24, ~(sum + (sum >> 16)) & 0xffff);
	memcpy(f + 34, p, len);
	give(z, f, 34 + len, 34 + (len > 20 ? 20 : 0) + z->mood % 7, true);
}

/* TCP near what the stack expects: small steps off the right numbers, or far ones. */
static void op_tcp(struct fuzz *z)
{
	static uint8_t t[20 + 40 + 60000];
	unsigned port = rd_u8(&z->in) % PORTS, flags = rd_u8(&z->in), how = rd_u8(&z->in);
	struct peer *p = &z->peers[port];
	uint32_t seq = p->seq, ack = p->ack;
	unsigned opts = 0, wnd = rd_u8(&z->in);
	size_t len = how & 1 ? rd_be16(&z->in) % 60000 : how >> 5;

	if (how & 2)
		seq += (uint32_t)(int8_t)rd_u8(&z->in);
	if (how & 4)
		ack += (uint32_t)(int8_t)rd_u8(&z->in);
	if (how & 8)
		seq += rd_be32(&z->in);
	if (how & 16)
		ack += rd_be32(&z->in);
	memset(t, 0, 60);
	set16(t, port);
	set16(t + 2, 80);
	set32(t + 4, seq);
	set32(t + 8, ack);
	t[13] = (uint8_t)flags;
	set16(t + 14, wnd << (how & 8));
	if (flags & 2) {
		const uint8_t *o;

		opts = rd_u8(&z->in) % 11 * 4;
		o = rd_bytes(&z->in, opts);
		if (!o)
			return;
		memcpy(t + 20, o, opts);
		p->seq = seq + 1;
	} else {
		p->seq = seq + (uint32_t)len + (flags & 1);
	}
	t[12] = (uint8_t)((20 + opts) / 4 << 4);
	give_packet(z, 0xc6120001u, 6, t, 20 + opts + len);
}

static void op_owner(struct fuzz *z)
{
	unsigned what = rd_u8(&z->in);
	struct owned *o = &z->flows[what % FLOWS];
	struct net_flow f = o->name;

	switch (what / FLOWS % 8) {
	case 0:
	case 1:
		net_flow_accept(z->net, f);
		break;
	case 2:
		net_flow_refuse(z->net, f);
		break;
	case 3:
		net_flow_reset(z->net, f);
		break;
	case 4:
		if (!o->eof)
			o->have += rd_be16(&z->in);
		net_flow_readable(z->net, f);
		break;
	case 5:
		o->eof = true;
		net_flow_readable(z->net, f);
		break;
	case 6:
		net_flow_writable(z->net, f);
		break;
	default:
		if (what & 1)
			net_dns_answer(z->net, z->dns, z->space, what * 20u);
		else if (what & 2)
			net_udp_refuse(z->net, (uint16_t)what, 0xc6120001u, 443);
		else
			net_udp_answer(z->net, (uint16_t)what, 0xc6120001u, 443, z->space,
				rd_be16(&z->in));
	}
}

static void op_raw(struct fuzz *z)
{
	unsigned kind = rd_u8(&z->in), n = rd_u8(&z->in);
	const uint8_t *p = rd_bytes(&z->in, n);

	if (!p)
		return;
	if (kind == 0)
		give(z, p, n, n / 2, false);
	else
		give_packet(z, kind & 1 ? NET_GATEWAY_IP : 0x08080808, (uint8_t)(kind >> 1), p, n);
}

static void step(struct fuzz *z)
{
	switch (rd_u8(&z->in) % 10) {
	case 0:
	case 1:
	case 2:
		op_tcp(z);
		break;
	case 3:
	case 4:
		op_owner(z);
		break;
	case 5:
		op_raw(z);
		break;
	case 6:
		z->mood = rd_u8(&z->in);
		break;
	case 7:
		z->room = rd_u8(&z->in);
		break;
	case 8:
		z->now += rd_be16(&z->in);
		if (z->wake && z->wake <= z->now) {
			z->wake = 0;
			net_timer(z->net);
		}
		break;
	default: {
		unsigned v = rd_u8(&z->in);

		if (v == 0)
			net_reset(z->net);
		net_link_caps(z->net,
			&(struct net_link_caps){v & 1, v & 2, (uint16_t)(v & 4 ? NET_MTU : 1500)});
	}
	}
	net_flush(z->net);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct net_config c = {.key = "fuzz", .flows_max = FLOWS, .half_open_max = FLOWS - 1};
	struct fuzz *z = xcalloc(1, sizeof(*z));
	struct net_stats s;

	z->in = rd_make(data, size);
	z->room = 255;
	z->mood = 0x40;
	z->now = 5000;
	z->net = net_new(&owner_ops, z, &c);
	net_link(z->net, &link_ops, z);
	net_link_caps(z->net, &(struct net_link_caps){true, true, NET_MTU});
	while (rd_left(&z->in))
		step(z);
	net_get_stats(z->net, &s);
	CHECK(s.flows <= FLOWS && z->open <= s.flows && s.half_open <= FLOWS - 1);
	net_reset(z->net);
	net_get_stats(z->net, &s);
	CHECK(s.flows == 0 && s.half_open == 0 && z->open == 0);
	net_free(z->net);
	free(z);
	return 0;
}

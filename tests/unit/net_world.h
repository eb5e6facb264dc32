/* SPDX-License-Identifier: Apache-2.0 */
/* A world around one struct net, memory to memory: a link that keeps the frames, an owner whose
 * flows are two buffers each, a clock that the test turns, and a guest that can say anything. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "net/net.h"

#define W_FLOWS  2048u
#define W_STREAM (4u << 20)

#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define PSH 0x08
#define ACK 0x10
#define URG 0x20

struct w_frame {
	uint8_t *p; /* owned */
	size_t len;
	struct net_tx tx;
};

/* The owner's side of one flow. */
struct w_flow {
	struct net_flow name;
	uint32_t addr;
	uint16_t port;
	uint8_t *in;             /* from the guest; owned, W_STREAM */
	size_t in_len, in_limit; /* room() is in_limit - in_len */
	uint8_t *out;            /* to the guest; owned, W_STREAM */
	size_t out_at, out_len;  /* [out_at, out_len) is not discarded yet */
	bool eof, broken, gone;  /* of the far end */
	bool busy;               /* shut() says "not yet" */
	unsigned shuts, closes;
};

struct world {
	struct net *net;
	uint64_t now, wake;
	long room; /* frames that the link takes; -1: any */
	struct w_frame *frames;
	size_t n_frames, at, cap;
	uint8_t *begun;       /* payload space of the frame begun */
	struct w_flow *flows; /* by slot */
	unsigned opened, closed;
	struct net_flow last;
	bool deny;   /* open() says no */
	bool answer; /* accept at once after each input */
	uint32_t dns_id;
	uint8_t dns[NET_DNS_MAX];
	size_t dns_len;
	unsigned n_dns;
	bool dns_full;
	uint8_t udp[65536]; /* the last datagram, and where to */
	size_t udp_len;
	uint16_t udp_from, udp_port;
	uint32_t udp_addr;
	unsigned n_udp;
	bool udp_refuse; /* answer each with a refusal after the input */
	unsigned pieces; /* cut input frames into iovecs of this size; 0: one */
};

static inline uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t be32(const uint8_t *p)
{
	return (uint32_t)be16(p) << 16 | be16(p + 2);
}
static inline void set16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
static inline void set32(uint8_t *p, uint32_t v)
{
	set16(p, v >> 16);
	set16(p + 2, v & 0xffff);
}

/* The checksum the slow way, independent of src/net/sum.c. */
static inline uint16_t w_sum(uint32_t acc, const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		acc += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (acc >> 16)
		acc = (acc & 0xffff) + (acc >> 16);
	return (uint16_t)acc;
}
static inline uint32_t w_pseudo(const uint8_t *ip, size_t len)
{
	return (uint32_t)w_sum(0, ip + 12, 8) + ip[9] + (uint32_t)len;
}

/* ---- link ---- */
static ssize_t w_tx_begin(
	void *arg, size_t hdr_len, size_t want, struct iovec iov[NET_IOV_MAX], unsigned *ret_n)
{
	struct world *w = arg;
	size_t half = want / 2;

	*ret_n = 0;
	if (w->room == 0)
		return -1;
	free(w->begun);
	w->begun = malloc(want + 1);
	/* Two pieces, to see that nobody relies on one. */
	if (half)
		iov[(*ret_n)++] = (struct iovec){w->begun, half};
	if (want - half)
		iov[(*ret_n)++] = (struct iovec){w->begun + half, want - half};
	return (ssize_t)want;
}
static void w_tx_commit(
	void *arg, const uint8_t *hdr, size_t hdr_len, size_t payload_len, const struct net_tx *tx)
{
	struct world *w = arg;
	struct w_frame *f;

	if (w->n_frames == w->cap) {
		w->cap = w->cap ? w->cap * 2 : 64;
		w->frames = xrealloc(w->frames, w->cap, sizeof(*w->frames));
	}
	f = &w->frames[w->n_frames++];
	f->len = hdr_len + payload_len;
	f->p = malloc(f->len);
	f->tx = *tx;
	memcpy(f->p, hdr, hdr_len);
	if (payload_len)
		memcpy(f->p + hdr_len, w->begun, payload_len);
	if (w->room > 0)
		w->room--;
}
static void w_tx_flush(void *arg)
{
}
static const struct net_link_ops w_link = {w_tx_begin, w_tx_commit, w_tx_flush};

/* ---- owner ---- */
static inline struct w_flow *w_at(struct world *w, struct net_flow f)
{
	struct w_flow *wf = &w->flows[f.slot];

	assert_true(f.slot < W_FLOWS);
	assert_int_equal(wf->name.id, f.id);
	assert_int_equal(wf->closes, 0);
	return wf;
}
static bool w_open(void *arg, struct net_flow f, uint32_t addr, uint16_t port)
{
	struct world *w = arg;
	struct w_flow *wf = &w->flows[f.slot];
	uint8_t *in = wf->in, *out = wf->out;

	if (w->deny)
		return false;
	if (wf->name.id)
		assert_int_equal(wf->closes, 1);
	*wf = (struct w_flow){.name = f, .addr = addr, .port = port, .in = in, .out = out};
	if (!in) {
		wf->in = malloc(W_STREAM);
		wf->out = malloc(W_STREAM);
	}
	wf->in_limit = 256 << 10;
	w->last = f;
	w->opened++;
	return true;
}
static size_t w_room(void *arg, struct net_flow f)
{
	struct w_flow *wf = w_at(arg, f);

	return wf->in_limit > wf->in_len ? wf->in_limit - wf->in_len : 0;
}
static ssize_t w_write(void *arg, struct net_flow f, const struct iovec *iov, unsigned n)
{
	struct w_flow *wf = w_at(arg, f);
	size_t before = wf->in_len;

	assert_int_equal(wf->shuts, 0);
	if (wf->gone)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		size_t k = MIN(iov[i].iov_len, W_STREAM - wf->in_len);

		memcpy(wf->in + wf->in_len, iov[i].iov_base, k);
		wf->in_len += k;
	}
	return (ssize_t)(wf->in_len - before);
}
static bool w_shut(void *arg, struct net_flow f)
{
	struct w_flow *wf = w_at(arg, f);

	if (wf->busy)
		return false;
	wf->shuts++;
	return true;
}
static ssize_t w_peek(void *arg, struct net_flow f, size_t off, const struct iovec *iov, unsigned n)
{
	struct w_flow *wf = w_at(arg, f);
	size_t at = wf->out_at + off, done = 0;

	assert_true(at <= wf->out_len);
	if (wf->broken)
		return -1;
	for (unsigned i = 0; i < n; i++) {
		size_t k = MIN(iov[i].iov_len, wf->out_len - at);

		memcpy(iov[i].iov_base, wf->out + at, k);
		at += k;
		done += k;
	}
	if (done == 0)
		return wf->eof ? 0 : NET_AGAIN;
	return (ssize_t)done;
}
static void w_discard(void *arg, struct net_flow f, size_t n)
{
	struct w_flow *wf = w_at(arg, f);

	assert_true(n > 0 && n <= wf->out_len - wf->out_at);
	wf->out_at += n;
}
static void w_close(void *arg, struct net_flow f)
{
	struct world *w = arg;

	w_at(w, f)->closes++;
	w->closed++;
}
static bool w_dns(void *arg, uint32_t id, const uint8_t *msg, size_t len)
{
	struct world *w = arg;

	if (w->dns_full)
		return false;
	w->dns_id = id;
	memcpy(w->dns, msg, len);
	w->dns_len = len;
	w->n_dns++;
	return true;
}
static bool w_udp(void *arg, uint16_t guest_port, uint32_t addr, uint16_t port,
	const struct iovec *iov, unsigned n, size_t len)
{
	struct world *w = arg;

	w->udp_len = 0;
	for (unsigned i = 0; i < n; i++) {
		memcpy(w->udp + w->udp_len, iov[i].iov_base, iov[i].iov_len);
		w->udp_len += iov[i].iov_len;
	}
	assert_int_equal(w->udp_len, len);
	w->udp_from = guest_port;
	w->udp_addr = addr;
	w->udp_port = port;
	w->n_udp++;
	return true;
}
static uint64_t w_now(void *arg)
{
	return ((struct world *)arg)->now;
}
static void w_wake_at(void *arg, uint64_t due)
{
	((struct world *)arg)->wake = due;
}
static const struct net_owner_ops w_owner = {.open = w_open,
	.room = w_room,
	.write = w_write,
	.shut = w_shut,
	.peek = w_peek,
	.discard = w_discard,
	.close = w_close,
	.dns = w_dns,
	.udp = w_udp,
	.now_ms = w_now,
	.wake_at = w_wake_at};

static inline void w_init(struct world *w, unsigned flows_max, unsigned half_open_max)
{
	struct net_config c = {
		.key = "0123456789abcde", .flows_max = flows_max, .half_open_max = half_open_max};

	*w = (struct world){.now = 1000000, .room = -1};
	w->flows = xcalloc(W_FLOWS, sizeof(*w->flows));
	w->net = net_new(&w_owner, w, &c);
	net_link(w->net, &w_link, w);
	net_link_caps(w->net, &(struct net_link_caps){.csum = true, .tso = true, .mtu = NET_MTU});
}
static inline void w_done(struct world *w)
{
	net_free(w->net);
	/* Every flow that the owner took was closed exactly once. */
	assert_int_equal(w->opened, w->closed);
	for (size_t i = 0; i < w->n_frames; i++)
		free(w->frames[i].p);
	for (size_t i = 0; i < W_FLOWS; i++) {
		free(w->flows[i].in);
		free(w->flows[i].out);
	}
	free(w->frames);
	free(w->begun);
	free(w->flows);
}

/* Move the clock, and ring when the stack asked for it. */
static inline void w_pass(struct world *w, uint64_t ms)
{
	uint64_t end = w->now + ms;

	while (w->wake && w->wake <= end) {
		w->now = MAX(w->now, w->wake);
		w->wake = 0;
		net_timer(w->net);
		net_flush(w->net);
	}
	w->now = end;
}

/* ---- guest ---- */
static inline void w_input(struct world *w, uint8_t *p, size_t len, bool csum_ok)
{
	struct iovec iov[NET_IOV_MAX];
	unsigned n = 0;

	if (w->pieces)
		for (size_t at = 0; at < len && n < NET_IOV_MAX - 1; at += w->pieces)
			iov[n++] = (struct iovec){p + at, MIN(w->pieces, len - at)};
	else
		iov[n++] = (struct iovec){p, len};
	net_input(w->net, iov, n, csum_ok);
	if (w->udp_refuse && w->n_udp) {
		net_udp_refuse(w->net, w->udp_from, w->udp_addr, w->udp_port);
		w->n_udp = 0;
	}
	net_flush(w->net);
}

/* Ethernet and IPv4 in front of @len bytes at p + 34. */
static inline void w_ip(uint8_t *p, uint32_t dst, uint8_t proto, size_t len)
{
	memcpy(p, net_gateway_mac, 6);
	memcpy(p + 6, net_guest_mac, 6);
	set16(p + 12, 0x0800);
	memset(p + 14, 0, 20);
	p[14] = 0x45;
	set16(p + 16, (unsigned)(20 + len));
	p[22] = 64;
	p[23] = proto;
	set32(p + 26, NET_GUEST_IP);
	set32(p + 30, dst);
	set16(p + 24, (uint16_t)~w_sum(0, p + 14, 20));
}

/* A TCP segment that the guest sends. */
struct seg {
	uint32_t addr;
	uint16_t sport, dport;
	uint32_t seq, ack;
	unsigned flags, wnd;
	const uint8_t *opts;
	size_t opts_len;
	const void *data;
	size_t len;
};

static inline size_t w_tcp(uint8_t *p, const struct seg *s)
{
	size_t len = 20 + s->opts_len + s->len;
	uint8_t *t = p + 34;

	memset(t, 0, 20);
	set16(t, s->sport);
	set16(t + 2, s->dport);
	set32(t + 4, s->seq);
	set32(t + 8, s->ack);
	t[12] = (uint8_t)((20 + s->opts_len) / 4 << 4);
	t[13] = (uint8_t)s->flags;
	set16(t + 14, s->wnd);
	if (s->opts_len)
		memcpy(t + 20, s->opts, s->opts_len);
	if (s->len)
		memcpy(t + 20 + s->opts_len, s->data, s->len);
	w_ip(p, s->addr, 6, len);
	set16(t + 16, (uint16_t)~w_sum(w_pseudo(p + 14, len), t, len));
	return 34 + len;
}
static inline void w_send(struct world *w, const struct seg *s)
{
	uint8_t *p = malloc(34 + 60 + s->len);

	w_input(w, p, w_tcp(p, s), false);
	free(p);
}

/* The next frame that the guest received, or NULL. Borrowed until the world ends. */
static inline const struct w_frame *w_next(struct world *w)
{
	return w->at < w->n_frames ? &w->frames[w->at++] : NULL;
}
static inline void w_none(struct world *w)
{
	assert_int_equal(w->at, w->n_frames);
}

/* What a received TCP frame says; checks addresses and checksums. */
struct got {
	uint32_t addr, seq, ack;
	uint16_t sport, dport;
	unsigned flags, wnd, gso;
	const uint8_t *opts, *data;
	size_t opts_len, len;
};
static inline struct got w_parse(const struct w_frame *f)
{
	const uint8_t *ip = f->p + 14, *t = f->p + 34;
	size_t tlen = f->len - 34;
	struct got g = {0};
	size_t doff;

	assert_memory_equal(f->p, net_guest_mac, 6);
	assert_memory_equal(f->p + 6, net_gateway_mac, 6);
	assert_int_equal(be16(f->p + 12), 0x0800);
	assert_int_equal(ip[0], 0x45);
	assert_int_equal(be16(ip + 2), f->len - 14);
	assert_int_equal(w_sum(0, ip, 20), 0xffff);
	assert_int_equal(ip[9], 6);
	assert_int_equal(be32(ip + 16), NET_GUEST_IP);
	if (f->tx.partial)
		assert_int_equal(be16(t + 16), w_sum(w_pseudo(ip, tlen), NULL, 0));
	else
		assert_int_equal(w_sum(w_pseudo(ip, tlen), t, tlen), 0xffff);
	doff = (size_t)(t[12] >> 4) * 4;
	assert_true(doff >= 20 && doff <= tlen);
	g.addr = be32(ip + 12);
	g.sport = be16(t);
	g.dport = be16(t + 2);
	g.seq = be32(t + 4);
	g.ack = be32(t + 8);
	g.flags = t[13];
	g.wnd = be16(t + 14);
	g.opts = t + 20;
	g.opts_len = doff - 20;
	g.data = t + doff;
	g.len = tlen - doff;
	g.gso = f->tx.gso_size;
	return g;
}
static inline struct got w_seg(struct world *w)
{
	const struct w_frame *f = w_next(w);

	assert_non_null(f);
	return w_parse(f);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* TCP towards the guest: segments out. Called from net_flush() only; tcp.c has the theory. */
#include "net/net_int.h"

#define BURST_BYTES (256u << 10) /* of one flow, before the next one's turn */
#define SEGMENT_MAX (65535u - IP_LEN - TCP_LEN)
#define HDR_LEN     (IP_PAYLOAD_AT + TCP_LEN)
#define SYN_OPTS    8u
#define OUR_MSS     ((uint16_t)(NET_MTU - IP_LEN - TCP_LEN))
#define CSUM_AT     (IP_PAYLOAD_AT + 16u)

/* Headers of a segment with @len bytes behind them, without the checksum. */
static void header(uint8_t *h, const struct flow *f, uint32_t seq, uint8_t flags, uint16_t window,
	size_t opts, size_t len)
{
	uint8_t *t = h + IP_PAYLOAD_AT;

	ip_header(h, f->addr, PROTO_TCP, TCP_LEN + opts + len);
	put16(t, f->port);
	put16(t + 2, f->guest_port);
	put32(t + 4, seq);
	put32(t + 8, flags & TCPF_ACK ? f->rcv_nxt : 0);
	t[12] = (uint8_t)((TCP_LEN + opts) / 4 << 4);
	t[13] = flags;
	put16(t + 14, window);
	put32(t + 16, 0);
}

/* Fill in the checksum: unfinished when the driver takes that, else over everything. */
static void checksum(const struct net *n, uint8_t *h, size_t hdr_len, uint32_t addr,
	const struct iovec *iov, unsigned n_iov, size_t len)
{
	struct sum s = {0};
	uint16_t v;

	sum_pseudo(&s, addr, NET_GUEST_IP, PROTO_TCP, hdr_len - IP_PAYLOAD_AT + len);
	if (n->caps.csum) {
		v = sum_partial(&s);
	} else {
		sum_bytes(&s, h + IP_PAYLOAD_AT, hdr_len - IP_PAYLOAD_AT);
		sum_iov(&s, iov, n_iov, len);
		v = sum_done(&s);
	}
	memcpy(h + CSUM_AT, &v, 2);
}

/* A segment of headers only. False: no room. */
static bool send_bare(struct net *n, struct flow *f, uint32_t seq, uint8_t flags, uint16_t window,
	const uint8_t *opts, size_t opts_len)
{
	struct net_tx tx = {.partial = n->caps.csum};
	uint8_t h[HDR_LEN + SYN_OPTS];
	struct iovec iov[NET_IOV_MAX];
	unsigned k;

	if (n->link->tx_begin(n->link_arg, HDR_LEN + opts_len, 0, iov, &k) < 0)
		return false;
	header(h, f, seq, flags, window, opts_len, 0);
	if (opts_len)
		memcpy(h + HDR_LEN, opts, opts_len);
	checksum(n, h, HDR_LEN + opts_len, f->addr, NULL, 0, 0);
	n->link->tx_commit(n->link_arg, h, HDR_LEN + opts_len, 0, &tx);
	n->stats.frames_out++;
	return true;
}

void tcp_stray(struct net *n, uint32_t addr, uint16_t port, uint16_t guest_port, uint32_t seq,
	uint32_t ack, bool with_ack)
{
	struct flow f = {.addr = addr, .port = port, .guest_port = guest_port, .rcv_nxt = ack};
	uint8_t flags = (uint8_t)(TCPF_RST | (with_ack ? TCPF_ACK : 0));
	uint8_t *h = reply_begin(n);
	struct sum s = {0};
	uint16_t v;

	if (!h)
		return;
	header(h, &f, seq, flags, 0, 0, 0);
	/* Replies carry finished checksums: they may wait until the driver is another one. */
	sum_pseudo(&s, addr, NET_GUEST_IP, PROTO_TCP, TCP_LEN);
	sum_bytes(&s, h + IP_PAYLOAD_AT, TCP_LEN);
	v = sum_done(&s);
	memcpy(h + CSUM_AT, &v, 2);
	reply_commit(n, HDR_LEN);
}

static unsigned our_shift(const struct flow *f)
{
	return f->bits & TCP_WSCALE ? TCP_SHIFT : 0;
}

uint32_t tcp_window_gain(struct net *n, struct flow *f)
{
	uint32_t open = f->rcv_adv - f->rcv_nxt;
	uint32_t limit = (uint32_t)UINT16_MAX << our_shift(f);
	size_t room = n->ops->room(n->arg, flow_name(n, f));
	uint32_t want = (uint32_t)MIN(room, (size_t)limit);

	if (want <= open)
		return 0;
	/* Silly window: a gain is worth a word when it is a large step, or at least doubles what is
	 * open. The owner sees to it that room() is not a trickle. */
	return want - open >= MIN(TCP_WND_STEP, want / 2) ? want - open : 0;
}

/* Announce: returns the window field and moves the right edge. Rounding is always down, so a full
 * owner cannot be talked into more by many small segments. */
static uint16_t window(struct net *n, struct flow *f, unsigned shift)
{
	uint32_t wnd;

	if (f->bits & TCP_GUEST_FIN)
		return 0;
	f->rcv_adv += tcp_window_gain(n, f);
	wnd = MIN((f->rcv_adv - f->rcv_nxt) >> shift, (uint32_t)UINT16_MAX);
	return (uint16_t)wnd;
}

static enum tcp_out send_syn_ack(struct net *n, struct flow *f)
{
	uint8_t opts[SYN_OPTS] = {2, 4, OUR_MSS >> 8, OUR_MSS & 0xff, 1, 3, 3, TCP_SHIFT};
	size_t len = f->bits & TCP_WSCALE ? 8 : 4;
	uint32_t room = (uint32_t)MIN(n->ops->room(n->arg, flow_name(n, f)), (size_t)UINT16_MAX);

	if (!(f->bits & TCP_ACK_OWED))
		return TCP_OUT_DONE;
	if (seq_lt(f->rcv_adv, f->rcv_nxt + room))
		f->rcv_adv = f->rcv_nxt + room;
	if (!send_bare(n, f, f->snd_una, TCPF_SYN | TCPF_ACK, (uint16_t)(f->rcv_adv - f->rcv_nxt),
		    opts, len))
		return TCP_OUT_STUCK;
	f->bits &= ~(unsigned)TCP_ACK_OWED;
	f->snd_nxt = f->snd_max = f->snd_una + 1;
	flow_arm(n, f, MIN((uint64_t)TCP_RTO_MS << f->tries, (uint64_t)TCP_RTO_MAX_MS));
	return TCP_OUT_DONE;
}

static void sent(struct net *n, struct flow *f, uint32_t len)
{
	f->snd_nxt += len;
	if (seq_lt(f->snd_max, f->snd_nxt))
		f->snd_max = f->snd_nxt;
	f->bits &= ~(unsigned)(TCP_ACK_OWED | TCP_FORCE);
	if (!f->due_ms)
		flow_arm(n, f, MIN((uint64_t)TCP_RTO_MS << f->tries, (uint64_t)TCP_RTO_MAX_MS));
}

static enum tcp_out send_fin(struct net *n, struct flow *f)
{
	if (!send_bare(n, f, f->fin_seq, TCPF_FIN | TCPF_ACK, window(n, f, our_shift(f)), NULL, 0))
		return TCP_OUT_STUCK;
	if (!(f->bits & TCP_GUEST_FIN))
		f->bits |= TCP_WE_FIRST;
	sent(n, f, 1);
	f->bits &= ~(unsigned)TCP_READABLE;
	return TCP_OUT_DONE;
}

/* How many bytes the guest's window allows in the next segment; 0: wait for its ACK. */
static uint32_t allowance(struct net *n, struct flow *f)
{
	uint32_t flight = f->snd_nxt - f->snd_una;
	uint32_t left = f->snd_wnd > flight ? f->snd_wnd - flight : 0;
	uint32_t most = n->caps.tso ? MAX(SEGMENT_MAX / f->mss, 1u) * f->mss
				    : MIN((uint32_t)f->mss, n->caps.mtu - IP_LEN - TCP_LEN);

	if (left == 0 && (f->bits & TCP_FORCE))
		return 1;
	if (left == 0 && flight == 0 && !f->due_ms)
		flow_arm(n, f, MIN((uint64_t)TCP_RTO_MS << f->tries, (uint64_t)TCP_RTO_MAX_MS));
	/* Small remainders of a window wait for the ACK that is coming anyway. */
	if (flight && left < MIN((uint32_t)f->mss, f->wnd_max / 2))
		return 0;
	return MIN(left, MIN(most, SEGMENT_MAX));
}

/* One segment of what the owner has, or our FIN. *ret_len: payload sent, 0: nothing more for now.
 */
static enum tcp_out send_data(struct net *n, struct flow *f, uint32_t *ret_len)
{
	struct net_tx tx = {.partial = n->caps.csum};
	struct iovec iov[NET_IOV_MAX];
	uint8_t h[HDR_LEN];
	uint32_t want;
	ssize_t cap, got;
	unsigned k;

	*ret_len = 0;
	if ((f->bits & TCP_EOF) && !seq_lt(f->snd_nxt, f->fin_seq))
		return f->snd_nxt == f->fin_seq ? send_fin(n, f) : TCP_OUT_DONE;
	want = allowance(n, f);
	if (want == 0)
		return TCP_OUT_DONE;
	cap = n->link->tx_begin(n->link_arg, HDR_LEN, want, iov, &k);
	if (cap < 0)
		return TCP_OUT_STUCK;
	got = n->ops->peek(n->arg, flow_name(n, f), f->snd_nxt - f->snd_una, iov, k);
	if (got == NET_AGAIN) {
		f->bits &= ~(unsigned)(TCP_READABLE | TCP_FORCE);
		if (f->snd_una == f->snd_max)
			f->due_ms = 0;
		return TCP_OUT_DONE;
	}
	/* After its end, an owner has the same bytes as before. */
	if ((f->bits & TCP_EOF) && (got == 0 || got > (ssize_t)(f->fin_seq - f->snd_nxt)))
		got = -1;
	if (got < 0 || got > cap) {
		tcp_kill(n, f);
		return TCP_OUT_MORE;
	}
	if (got == 0) {
		f->bits |= TCP_EOF;
		f->fin_seq = f->snd_nxt;
		return send_fin(n, f);
	}
	if (got > f->mss)
		tx.gso_size = f->mss;
	header(h, f, f->snd_nxt, TCPF_ACK | TCPF_PSH, window(n, f, our_shift(f)), 0, (size_t)got);
	checksum(n, h, HDR_LEN, f->addr, iov, k, (size_t)got);
	n->link->tx_commit(n->link_arg, h, HDR_LEN, (size_t)got, &tx);
	n->stats.frames_out++;
	sent(n, f, (uint32_t)got);
	*ret_len = (uint32_t)got;
	return TCP_OUT_DONE;
}

static enum tcp_out open_output(struct net *n, struct flow *f)
{
	uint32_t total = 0, len = 0;

	while (f->bits & TCP_READABLE) {
		enum tcp_out r;

		if (total >= BURST_BYTES)
			return TCP_OUT_MORE;
		r = send_data(n, f, &len);
		if (r != TCP_OUT_DONE)
			return r;
		if (len == 0)
			break;
		total += len;
	}
	if (f->bits & TCP_ACK_OWED) {
		if (!send_bare(n, f, f->snd_nxt, TCPF_ACK, window(n, f, our_shift(f)), NULL, 0))
			return TCP_OUT_STUCK;
		f->bits &= ~(unsigned)TCP_ACK_OWED;
	}
	return TCP_OUT_DONE;
}

enum tcp_out tcp_output(struct net *n, struct flow *f)
{
	switch (f->state) {
	case FLOW_SYN_RCVD:
		return send_syn_ack(n, f);
	case FLOW_OPEN:
		return open_output(n, f);
	case FLOW_LINGER:
		if (!(f->bits & TCP_ACK_OWED))
			return TCP_OUT_DONE;
		if (!send_bare(n, f, f->snd_nxt, TCPF_ACK, 0, NULL, 0))
			return TCP_OUT_STUCK;
		f->bits &= ~(unsigned)TCP_ACK_OWED;
		return TCP_OUT_DONE;
	case FLOW_DYING:
		/* A SYN that was never answered has no sequence number of ours to reset at. */
		if (!send_bare(n, f, f->snd_max, TCPF_RST | TCPF_ACK, 0, NULL, 0))
			return TCP_OUT_STUCK;
		flow_free(n, f);
		return TCP_OUT_DONE;
	case FLOW_FREE:
	case FLOW_ASKED:
	case FLOW_STATES:
		break;
	}
	return TCP_OUT_DONE;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* TCP towards the guest: segments in. tcp_out.c writes segments.
 *
 * Theory of operation. The guest is always the one who connects. Its SYN becomes a question to the
 * owner (ops->open), and is answered only when the owner has decided, so that "connected" in the
 * guest means connected, and a refusal is the RST that every program understands. From then on a
 * flow is two independent byte pipes:
 *
 * Guest to owner. Payload goes straight from guest memory to ops->write(). Our window is what the
 * owner promises to take (ops->room()), so nothing in flight is ever refused, the right edge never
 * moves back, and the guest never has to send twice. When the window has closed, the owner's
 * net_flow_writable() reopens it with an ACK of its own; small gains are not announced (silly
 * window). Segments in the wrong order, which a link without loss does not produce, are dropped and
 * answered with an ACK: the guest sends again.
 *
 * Owner to guest. ops->peek() copies bytes at an offset from the oldest unacknowledged one straight
 * into the guest's receive buffers. They stay with the owner until the guest acknowledges them
 * (ops->discard()): the owner's queue is the retransmission queue, and there is no other copy. The
 * link loses nothing, but the guest may drop what it received when its memory is short. So there is
 * a timer (1 s, doubling) and the third duplicate ACK: both go back to the oldest byte. There is no
 * congestion control: no queue lies between us and the guest's socket. The link's own backpressure
 * is tx_begin() without room.
 *
 * Options: MSS and window scale are read from the SYN and answered; timestamps and SACK are not
 * offered (nothing gets lost or old on this link). The segments that we send are as large as the
 * guest's window and 64 KiB allow, marked as GSO of the guest's MSS.
 *
 * Sequence numbers from the guest are believed as RFC 9293 and RFC 5961 say: a RST counts only
 * exactly at rcv_nxt, a RST elsewhere in the window or a SYN in an open flow gets a challenge ACK,
 * an ACK of something never sent gets an ACK and is dropped. URG is ignored. Each segment in makes
 * at most one frame out plus data that the owner has.
 *
 * Life of a flow: enum flow_state in net_int.h. The end: the guest's FIN is taken after everything
 * before it; the owner learns of it (ops->shut()). The owner's end (peek returns 0) becomes our
 * FIN. When both are through, the flow is freed, or lingers for a second if our FIN was the first.
 * Input only marks what is owed and queues the flow; net_flush() decides and writes. */
#include "net/net_int.h"

#define OPT_END    0u
#define OPT_NOP    1u
#define OPT_MSS    2u
#define OPT_WSCALE 3u

#define MSS_DEFAULT 536u /* when the SYN names none */
#define MSS_MIN     64u

struct segment {
	uint32_t addr;
	uint16_t guest_port, port, mss;
	uint32_t seq, ack;
	uint8_t flags, shift;
	bool has_shift;
	uint16_t window;
	size_t hdr_len, len; /* len: payload */
};

static void ack_owed(struct net *n, struct flow *f)
{
	f->bits |= TCP_ACK_OWED;
	flow_queue(n, f);
}

void tcp_kill(struct net *n, struct flow *f)
{
	struct net_flow name = flow_name(n, f);

	flow_set_state(n, f, FLOW_DYING);
	flow_queue(n, f);
	n->ops->close(n->arg, name);
}

/* The flow ends without a word to the guest. */
static void forget(struct net *n, struct flow *f)
{
	if (f->state != FLOW_LINGER && f->state != FLOW_DYING)
		n->ops->close(n->arg, flow_name(n, f));
	flow_free(n, f);
}

void tcp_settle(struct net *n, struct flow *f)
{
	const unsigned all = TCP_GUEST_FIN | TCP_SHUT | TCP_FIN_ACKED;

	if ((f->bits & TCP_GUEST_FIN) && !(f->bits & TCP_SHUT) &&
		n->ops->shut(n->arg, flow_name(n, f)))
		f->bits |= TCP_SHUT;
	if ((f->bits & all) != all)
		return;
	n->ops->close(n->arg, flow_name(n, f));
	if (!(f->bits & TCP_WE_FIRST)) {
		flow_free(n, f);
		return;
	}
	flow_set_state(n, f, FLOW_LINGER);
	flow_arm(n, f, TCP_LINGER_MS);
}

/* Resend from the oldest unacknowledged byte. */
static void go_back(struct net *n, struct flow *f)
{
	f->snd_nxt = f->snd_una;
	f->bits |= TCP_READABLE;
	n->stats.retransmits++;
	flow_queue(n, f);
}

void tcp_timeout(struct net *n, struct flow *f)
{
	if (f->state == FLOW_LINGER) {
		flow_free(n, f);
		return;
	}
	if (f->state == FLOW_ASKED || ++f->tries > TCP_TRIES_MAX) {
		tcp_kill(n, f);
		return;
	}
	if (f->state == FLOW_SYN_RCVD) {
		n->stats.retransmits++;
		ack_owed(n, f);
		return;
	}
	/* Unanswered data, or a window that has stayed closed: then one byte asks for news. */
	f->bits |= TCP_FORCE;
	go_back(n, f);
}

static bool parse_options(struct segment *s, struct rd rd)
{
	s->mss = MSS_DEFAULT;
	while (rd_left(&rd)) {
		uint8_t kind = rd_u8(&rd), len;
		struct rd opt;

		if (kind == OPT_END)
			return true;
		if (kind == OPT_NOP)
			continue;
		len = rd_u8(&rd);
		if (len < 2)
			return false;
		opt = rd_sub(&rd, len - 2u);
		if (!rd_ok(&opt))
			return false;
		if (kind == OPT_MSS && len == 4) {
			s->mss = rd_be16(&opt);
		} else if (kind == OPT_WSCALE && len == 3) {
			s->has_shift = true;
			s->shift = rd_u8(&opt);
		}
	}
	return true;
}

static bool parse(struct segment *s, const struct ip_in *in)
{
	uint8_t h[60];
	struct rd rd = rd_make(h, net_iov_read(in->iov, in->n, 0, h, sizeof(h)));
	struct sum sum = {0};

	*s = (struct segment){.addr = in->dst};
	s->guest_port = rd_be16(&rd);
	s->port = rd_be16(&rd);
	s->seq = rd_be32(&rd);
	s->ack = rd_be32(&rd);
	s->hdr_len = (size_t)(rd_u8(&rd) >> 4) * 4;
	s->flags = rd_u8(&rd);
	s->window = rd_be16(&rd);
	rd_be32(&rd); /* checksum; urgent pointer: ignored */
	if (!rd_ok(&rd) || s->hdr_len < TCP_LEN || s->hdr_len > in->len)
		return false;
	s->len = in->len - s->hdr_len;
	if (!in->csum_ok) {
		sum_pseudo(&sum, in->src, in->dst, PROTO_TCP, in->len);
		sum_iov(&sum, in->iov, in->n, in->len);
		if (sum_done(&sum) != 0)
			return false;
	}
	if (s->flags & TCPF_SYN)
		return parse_options(s, rd_make(h + TCP_LEN, s->hdr_len - TCP_LEN));
	return true;
}

static void answer_stray(struct net *n, const struct segment *s)
{
	uint32_t end =
		s->seq + (uint32_t)s->len + !!(s->flags & TCPF_SYN) + !!(s->flags & TCPF_FIN);

	if (s->flags & TCPF_RST)
		return;
	if (s->flags & TCPF_ACK)
		tcp_stray(n, s->addr, s->port, s->guest_port, s->ack, 0, false);
	else
		tcp_stray(n, s->addr, s->port, s->guest_port, 0, end, true);
}

/* RFC 6528: unpredictable per address pair, and growing with time. */
static uint32_t initial_seq(struct net *n, const struct segment *s)
{
	uint8_t k[9];

	put32(k, s->addr);
	put16(k + 4, s->port);
	put16(k + 6, s->guest_port);
	k[8] = 1; /* never the same hash as the table's */
	return (uint32_t)siphash(n->config.key, k, sizeof(k)) +
	       (uint32_t)(n->ops->now_ms(n->arg) * 250);
}

static void syn_input(struct net *n, const struct segment *s)
{
	struct flow *f = NULL;

	if (s->port != 0 && s->guest_port != 0 && n->stats.half_open < n->config.half_open_max)
		f = flow_alloc(n, s->addr, s->port, s->guest_port);
	if (!f) {
		n->stats.refused++;
		answer_stray(n, s);
		return;
	}
	flow_set_state(n, f, FLOW_ASKED);
	f->mss = MAX(s->mss, (uint16_t)MSS_MIN);
	if (s->has_shift) {
		f->bits |= TCP_WSCALE;
		f->guest_shift = MIN(s->shift, (uint8_t)14);
	}
	f->rcv_nxt = f->rcv_adv = s->seq + 1;
	f->snd_una = f->snd_nxt = f->snd_max = initial_seq(n, s);
	f->snd_wnd = f->wnd_max = s->window; /* never scaled in a SYN */
	f->snd_wl1 = s->seq;
	flow_arm(n, f, TCP_ASKED_MS);
	if (!n->ops->open(n->arg, flow_name(n, f), s->addr, s->port)) {
		n->stats.refused++;
		flow_set_state(n, f, FLOW_DYING);
		flow_queue(n, f);
	}
}

/* RFC 5961, 3.2: only a RST at the very next byte is one. */
static void rst_input(struct net *n, struct flow *f, const struct segment *s)
{
	if (s->seq == f->rcv_nxt)
		forget(n, f);
	else if (f->state == FLOW_OPEN && seq_lt(f->rcv_nxt, s->seq) && seq_lt(s->seq, f->rcv_adv))
		ack_owed(n, f);
}

static void take_window(struct net *n, struct flow *f, const struct segment *s)
{
	uint32_t wnd = (uint32_t)s->window << (f->bits & TCP_WSCALE ? f->guest_shift : 0);

	if (seq_lt(f->snd_wl1, s->seq) || (f->snd_wl1 == s->seq && seq_le(f->snd_wl2, s->ack))) {
		f->snd_wnd = wnd;
		f->wnd_max = MAX(f->wnd_max, wnd);
		f->snd_wl1 = s->seq;
		f->snd_wl2 = s->ack;
	}
	if (f->bits & TCP_READABLE)
		flow_queue(n, f);
}

/* Bytes (and our FIN) up to @ack have arrived. */
static void advance(struct net *n, struct flow *f, uint32_t ack)
{
	uint32_t bytes = ack - f->snd_una;

	if ((f->bits & TCP_EOF) && seq_lt(f->fin_seq, ack)) {
		f->bits |= TCP_FIN_ACKED;
		bytes--;
	}
	f->snd_una = ack;
	if (seq_lt(f->snd_nxt, ack))
		f->snd_nxt = ack;
	f->dup_acks = 0;
	if (bytes)
		n->ops->discard(n->arg, flow_name(n, f), bytes);
	if (ack == f->snd_max)
		f->due_ms = 0;
	else
		flow_arm(n, f, TCP_RTO_MS);
}

/* False: the segment acknowledges something that was never sent, and is to be dropped. */
static bool ack_input(struct net *n, struct flow *f, const struct segment *s)
{
	uint32_t before = f->snd_wnd;

	if (seq_lt(f->snd_max, s->ack)) {
		ack_owed(n, f);
		return false;
	}
	if (seq_lt(s->ack, f->snd_una))
		return true;
	f->tries = 0;
	if (s->ack != f->snd_una)
		advance(n, f, s->ack);
	else if (s->len == 0 && !(s->flags & TCPF_FIN) && f->snd_una != f->snd_max)
		f->dup_acks += f->dup_acks < 250;
	take_window(n, f, s);
	if (f->snd_wnd != before)
		f->dup_acks = 0;
	else if (f->dup_acks == 3)
		go_back(n, f);
	return true;
}

/* Payload and FIN. @in's bytes begin at the TCP header. */
static void data_input(
	struct net *n, struct flow *f, const struct segment *s, const struct ip_in *in)
{
	uint32_t skip = f->rcv_nxt - s->seq, len = (uint32_t)s->len, room;
	bool fin = s->flags & TCPF_FIN;
	struct iovec iov[NET_IOV_MAX];
	ssize_t took = 0;
	unsigned k;

	if (len == 0 && !fin) {
		/* Keepalives and window probes lie before the window: they want an ACK. */
		if (skip)
			ack_owed(n, f);
		return;
	}
	ack_owed(n, f);
	/* Too early, or wholly old (then its FIN is old, too). */
	if (seq_lt(f->rcv_nxt, s->seq) || skip > len || (f->bits & TCP_GUEST_FIN))
		return;
	len -= skip;
	room = f->rcv_adv - f->rcv_nxt;
	if (len > room) {
		len = room;
		fin = false;
	}
	if (len) {
		k = net_iov_slice(iov, in->iov, in->n, s->hdr_len + skip, len);
		took = n->ops->write(n->arg, flow_name(n, f), iov, k);
		if (took < 0) {
			tcp_kill(n, f);
			return;
		}
		f->rcv_nxt += (uint32_t)took;
	}
	if (!fin || (uint32_t)took != len)
		return;
	f->rcv_nxt++;
	if (seq_lt(f->rcv_adv, f->rcv_nxt))
		f->rcv_adv = f->rcv_nxt;
	f->bits |= TCP_GUEST_FIN;
}

static void open_input(
	struct net *n, struct flow *f, const struct segment *s, const struct ip_in *in)
{
	if (s->flags & TCPF_SYN) {
		ack_owed(n, f);
		return;
	}
	if (!(s->flags & TCPF_ACK) || !ack_input(n, f, s))
		return;
	data_input(n, f, s, in);
	if (f->state == FLOW_OPEN)
		tcp_settle(n, f);
}

static void syn_rcvd_input(
	struct net *n, struct flow *f, const struct segment *s, const struct ip_in *in)
{
	if (s->flags & TCPF_SYN) {
		if (s->seq + 1 == f->rcv_nxt)
			ack_owed(n, f);
		return;
	}
	if (!(s->flags & TCPF_ACK) || f->snd_max == f->snd_una)
		return;
	if (s->ack != f->snd_max) {
		answer_stray(n, s);
		return;
	}
	flow_set_state(n, f, FLOW_OPEN);
	f->snd_una = f->snd_max;
	f->bits &= ~(unsigned)TCP_ACK_OWED;
	/* Whatever the owner had written before is asked for now. */
	f->bits |= TCP_READABLE;
	flow_queue(n, f);
	open_input(n, f, s, in);
}

static void linger_input(struct net *n, struct flow *f, const struct segment *s)
{
	if ((s->flags & (TCPF_SYN | TCPF_ACK)) == TCPF_SYN && seq_lt(f->rcv_nxt, s->seq)) {
		flow_free(n, f);
		syn_input(n, s);
		return;
	}
	if (s->len || (s->flags & (TCPF_FIN | TCPF_SYN)))
		ack_owed(n, f);
}

void tcp_input(struct net *n, struct ip_in *in)
{
	struct segment s;
	struct flow *f;

	/* No TCP with many peers at once, or none. */
	if (in->dst >> 28 >= 14 || in->dst == 0 || !parse(&s, in)) {
		n->stats.dropped++;
		return;
	}
	f = flow_lookup(n, s.addr, s.port, s.guest_port);
	if (!f) {
		if ((s.flags & (TCPF_SYN | TCPF_ACK | TCPF_RST | TCPF_FIN)) == TCPF_SYN)
			syn_input(n, &s);
		else
			answer_stray(n, &s);
		return;
	}
	if (s.flags & TCPF_RST) {
		if (f->state != FLOW_DYING)
			rst_input(n, f, &s);
		return;
	}
	switch (f->state) {
	case FLOW_SYN_RCVD:
		syn_rcvd_input(n, f, &s, in);
		break;
	case FLOW_OPEN:
		open_input(n, f, &s, in);
		break;
	case FLOW_LINGER:
		linger_input(n, f, &s);
		break;
	case FLOW_ASKED: /* the guest repeats its SYN: the owner is still thinking */
	case FLOW_DYING:
	case FLOW_FREE:
	case FLOW_STATES:
		break;
	}
}

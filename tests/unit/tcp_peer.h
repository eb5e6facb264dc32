/* SPDX-License-Identifier: Apache-2.0 */
/* One TCP connection of a scripted guest: what it has sent and received, and the far end's part. */
#pragma once

#include "net_world.h"

#define REMOTE 0xc6120001u /* 198.18.0.1 */
#define SHIFT  7

static const uint8_t syn_opts[] = {2, 4, 0x05, 0xb4, 4, 2, 1, 1, 1, 3, 3, SHIFT};

/* A guest's connection: what it has sent and received. */
struct peer {
	struct world *w;
	struct net_flow name;
	uint16_t port;
	uint32_t seq, ack; /* its next byte; the next it expects */
	unsigned wnd;      /* as in the header */
};

static inline void say_syn(struct peer *p, uint32_t seq)
{
	p->seq = seq;
	w_send(p->w, &(struct seg){REMOTE, p->port, 80, seq, 0, SYN, 64240, syn_opts,
			     sizeof(syn_opts), NULL, 0});
}
static inline void say_at(
	struct peer *p, uint32_t seq, unsigned flags, const void *data, size_t len)
{
	w_send(p->w,
		&(struct seg){REMOTE, p->port, 80, seq, p->ack, flags, p->wnd, NULL, 0, data, len});
}
static inline void say(struct peer *p, unsigned flags, const void *data, size_t len)
{
	say_at(p, p->seq, flags, data, len);
	p->seq += (uint32_t)len + !!(flags & FIN);
}
static inline struct w_flow *far_end(struct peer *p)
{
	return &p->w->flows[p->name.slot];
}
static inline void far_writes(struct peer *p, const void *data, size_t len)
{
	struct w_flow *f = far_end(p);

	memcpy(f->out + f->out_len, data, len);
	f->out_len += len;
	net_flow_readable(p->w->net, p->name);
	net_flush(p->w->net);
}
static inline void far_ends(struct peer *p)
{
	far_end(p)->eof = true;
	net_flow_readable(p->w->net, p->name);
	net_flush(p->w->net);
}

/* A connection on which the guest's next byte is @isn + 1. */
static inline struct peer connect_at(struct world *w, uint16_t port, uint32_t isn)
{
	struct peer p = {.w = w, .port = port, .wnd = 0xffff};
	struct got g;

	say_syn(&p, isn);
	w_none(w);
	p.name = w->last;
	net_flow_accept(w->net, p.name);
	net_flush(w->net);
	g = w_seg(w);
	assert_int_equal(g.flags, SYN | ACK);
	assert_int_equal(g.ack, isn + 1);
	assert_int_equal(g.dport, port);
	p.seq = isn + 1;
	p.ack = g.seq + 1;
	say(&p, ACK, NULL, 0);
	w_none(w);
	return p;
}
static inline struct peer connect_one(struct world *w)
{
	return connect_at(w, 40000, 1000);
}

static inline struct got expect(struct peer *p, unsigned flags, size_t len)
{
	struct got g = w_seg(p->w);

	assert_int_equal(g.flags, flags);
	assert_int_equal(g.len, len);
	assert_int_equal(g.addr, REMOTE);
	assert_int_equal(g.dport, p->port);
	return g;
}
static inline unsigned flows(struct world *w)
{
	struct net_stats s;

	net_get_stats(w->net, &s);
	return s.flows;
}

static inline int setup(void **state)
{
	struct world *w = malloc(sizeof(*w));

	w_init(w, W_FLOWS, 1024);
	*state = w;
	return 0;
}
static inline int teardown(void **state)
{
	w_done(*state);
	free(*state);
	return 0;
}

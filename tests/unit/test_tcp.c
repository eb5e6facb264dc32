/* SPDX-License-Identifier: Apache-2.0 */
/* TCP against a guest that says whatever the test wants. */
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
	unsigned wnd;	   /* as in the header */
};

static void say_syn(struct peer *p, uint32_t seq)
{
	p->seq = seq;
	w_send(p->w, &(struct seg){REMOTE, p->port, 80, seq, 0, SYN, 64240, syn_opts,
			     sizeof(syn_opts), NULL, 0});
}
static void say_at(struct peer *p, uint32_t seq, unsigned flags, const void *data, size_t len)
{
	w_send(p->w,
		&(struct seg){REMOTE, p->port, 80, seq, p->ack, flags, p->wnd, NULL, 0, data, len});
}
static void say(struct peer *p, unsigned flags, const void *data, size_t len)
{
	say_at(p, p->seq, flags, data, len);
	p->seq += (uint32_t)len + !!(flags & FIN);
}
static struct w_flow *far_end(struct peer *p)
{
	return &p->w->flows[p->name.slot];
}
static void far_writes(struct peer *p, const void *data, size_t len)
{
	struct w_flow *f = far_end(p);

	memcpy(f->out + f->out_len, data, len);
	f->out_len += len;
	net_flow_readable(p->w->net, p->name);
	net_flush(p->w->net);
}
static void far_ends(struct peer *p)
{
	far_end(p)->eof = true;
	net_flow_readable(p->w->net, p->name);
	net_flush(p->w->net);
}

/* A connection on which the guest's next byte is @isn + 1. */
static struct peer connect_at(struct world *w, uint16_t port, uint32_t isn)
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
static struct peer connect_one(struct world *w)
{
	return connect_at(w, 40000, 1000);
}

static struct got expect(struct peer *p, unsigned flags, size_t len)
{
	struct got g = w_seg(p->w);

	assert_int_equal(g.flags, flags);
	assert_int_equal(g.len, len);
	assert_int_equal(g.addr, REMOTE);
	assert_int_equal(g.dport, p->port);
	return g;
}
static unsigned flows(struct world *w)
{
	struct net_stats s;

	net_get_stats(w->net, &s);
	return s.flows;
}

static int setup(void **state)
{
	struct world *w = malloc(sizeof(*w));

	w_init(w, W_FLOWS, 1024);
	*state = w;
	return 0;
}
static int teardown(void **state)
{
	w_done(*state);
	free(*state);
	return 0;
}

static void handshake(void **state)
{
	struct world *w = *state;
	struct peer p = {.w = w, .port = 40000, .wnd = 1000};
	struct got g;

	say_syn(&p, 7);
	w_none(w); /* not before the owner has decided */
	assert_int_equal(w->opened, 1);
	assert_int_equal(far_end(&(struct peer){.w = w, .name = w->last})->addr, REMOTE);
	assert_int_equal(w->flows[w->last.slot].port, 80);
	net_flow_accept(w->net, w->last);
	net_flush(w->net);
	g = expect(&p, SYN | ACK, 0);
	assert_int_equal(g.ack, 8);
	assert_int_equal(g.wnd, 0xffff); /* never scaled in a SYN */
	assert_int_equal(g.opts_len, 8);
	assert_int_equal(be32(g.opts), 0x02040000 + NET_MTU - 40);
	assert_int_equal(be32(g.opts + 4), 0x01030305);
	p.ack = g.seq + 1;
	p.seq = 8;
	say(&p, ACK | PSH, "hello", 5);
	g = expect(&p, ACK, 0);
	assert_int_equal(g.ack, 13);
	assert_int_equal(g.seq, p.ack);
	assert_true(g.wnd << 5 > 0xffff);
	assert_memory_equal(w->flows[w->last.slot].in, "hello", 5);
	w_none(w);
}

static void no_options(void **state)
{
	struct world *w = *state;
	struct peer p = {.w = w, .port = 40000, .wnd = 1000};
	struct got g;

	w_send(w, &(struct seg){REMOTE, p.port, 80, 5, 0, SYN, 3000, NULL, 0, NULL, 0});
	p.name = w->last;
	net_flow_accept(w->net, p.name);
	net_flush(w->net);
	g = expect(&p, SYN | ACK, 0);
	assert_int_equal(g.opts_len, 4); /* no window scale without one */
	p.ack = g.seq + 1;
	p.seq = 6;
	say(&p, ACK, NULL, 0);
	far_writes(&p, far_end(&p)->in, 5000);
	/* Window unscaled, and GSO of the default MSS. */
	g = expect(&p, ACK | PSH, 1000);
	assert_int_equal(g.gso, 536);
	say(&p, ACK | PSH, "x", 1);
	assert_true(w_seg(w).wnd > 30000);
}

static void accept_twice_and_stale_names(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);
	struct net_flow stale = p.name;

	net_flow_accept(w->net, p.name);
	net_flow_refuse(w->net, p.name);
	net_flush(w->net);
	w_none(w);
	say(&p, RST, NULL, 0);
	assert_int_equal(flows(w), 0);
	net_flow_accept(w->net, stale);
	net_flow_reset(w->net, stale);
	net_flow_readable(w->net, stale);
	net_flow_writable(w->net, stale);
	net_flow_reset(w->net, (struct net_flow){.id = stale.id, .slot = 1u << 31});
	net_flow_reset(w->net, (struct net_flow){0});
	net_flush(w->net);
	w_none(w);
	assert_false(net_flow_find(w->net, stale.id, &stale));
	p = connect_one(w);
	assert_true(p.name.id > stale.id);
	assert_true(net_flow_find(w->net, p.name.id, &stale));
	assert_int_equal(stale.slot, p.name.slot);
}

static void refused(void **state)
{
	struct world *w = *state;
	struct peer p = {.w = w, .port = 40000, .wnd = 1000};
	struct got g;

	for (int now = 0; now < 2; now++) {
		w->deny = now;
		say_syn(&p, 7);
		if (!now) {
			w_none(w);
			net_flow_refuse(w->net, w->last);
			net_flush(w->net);
		}
		g = expect(&p, RST | ACK, 0);
		assert_int_equal(g.ack, 8);
		assert_int_equal(flows(w), 0);
	}
}

static void syn_repeated(void **state)
{
	struct world *w = *state;
	struct peer p = {.w = w, .port = 40000, .wnd = 1000};
	uint32_t seq;

	say_syn(&p, 7);
	say_syn(&p, 7);
	w_none(w);
	assert_int_equal(w->opened, 1);
	net_flow_accept(w->net, w->last);
	net_flush(w->net);
	seq = expect(&p, SYN | ACK, 0).seq;
	say_syn(&p, 7);
	assert_int_equal(expect(&p, SYN | ACK, 0).seq, seq);
	say_syn(&p, 9000); /* another one: not ours to answer */
	w_none(w);
	/* Unanswered, it is repeated, ever more slowly, and given up. */
	w_pass(w, 1000);
	assert_int_equal(expect(&p, SYN | ACK, 0).seq, seq);
	w_pass(w, 1999);
	w_none(w);
	w_pass(w, 1);
	expect(&p, SYN | ACK, 0);
	w_pass(w, 600000);
	while (w->at + 1 < w->n_frames)
		expect(&p, SYN | ACK, 0);
	expect(&p, RST | ACK, 0);
	assert_int_equal(flows(w), 0);
}

static void owner_never_answers(void **state)
{
	struct world *w = *state;
	struct peer p = {.w = w, .port = 40000, .wnd = 1000};

	say_syn(&p, 7);
	w_pass(w, 140000);
	w_none(w);
	w_pass(w, 20000);
	expect(&p, RST | ACK, 0);
	assert_int_equal(flows(w), 0);
	assert_int_equal(w->closed, 1);
}

static void guest_gave_up(void **state)
{
	struct world *w = *state;
	struct peer p = {.w = w, .port = 40000, .wnd = 1000};
	struct got g;

	say_syn(&p, 7);
	say_at(&p, 9, RST, NULL, 0); /* not the right one */
	assert_int_equal(flows(w), 1);
	say_at(&p, 8, RST, NULL, 0);
	assert_int_equal(flows(w), 0);
	/* Or it notices only with our SYN-ACK. */
	say_syn(&p, 20);
	net_flow_accept(w->net, w->last);
	net_flush(w->net);
	g = expect(&p, SYN | ACK, 0);
	say_at(&p, g.ack, RST, NULL, 0);
	assert_int_equal(flows(w), 0);
	w_none(w);
}

static void bad_ack_of_syn_ack(void **state)
{
	struct world *w = *state;
	struct peer p = {.w = w, .port = 40000, .wnd = 1000};
	struct got g;

	say_syn(&p, 7);
	net_flow_accept(w->net, w->last);
	net_flush(w->net);
	g = expect(&p, SYN | ACK, 0);
	p.ack = g.seq + 2;
	say_at(&p, 8, ACK, NULL, 0);
	assert_int_equal(expect(&p, RST, 0).seq, g.seq + 2);
	assert_int_equal(flows(w), 1);
}

static void syn_with_data_and_urg(void **state)
{
	struct world *w = *state;
	struct peer p = {.w = w, .port = 40000, .wnd = 1000};
	struct got g;

	w_send(w, &(struct seg){REMOTE, p.port, 80, 7, 0, SYN, 1000, NULL, 0, "early", 5});
	net_flow_accept(w->net, w->last);
	net_flush(w->net);
	g = expect(&p, SYN | ACK, 0);
	assert_int_equal(g.ack, 8); /* the data is not taken */
	assert_int_equal(w->flows[w->last.slot].in_len, 0);
	p.ack = g.seq + 1;
	say_at(&p, 8, ACK | URG, "early", 5);
	assert_int_equal(expect(&p, ACK, 0).ack, 13);
	assert_memory_equal(w->flows[w->last.slot].in, "early", 5);
}

static void many_small(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);
	char line[32];

	for (unsigned i = 0; i < 2000; i++) {
		w->pieces = i % 40;
		snprintf(line, sizeof(line), "%07u", i);
		say(&p, ACK | PSH, line, 7);
		assert_int_equal(expect(&p, ACK, 0).ack, p.seq);
	}
	assert_int_equal(far_end(&p)->in_len, 14000);
	for (unsigned i = 0; i < 2000; i++) {
		snprintf(line, sizeof(line), "%07u", i);
		assert_memory_equal(far_end(&p)->in + 7 * i, line, 7);
	}
	for (unsigned i = 0; i < 2000; i++) {
		far_writes(&p, line, 7);
		p.ack = expect(&p, ACK | PSH, 7).seq + 7;
		say(&p, ACK, NULL, 0);
	}
	assert_int_equal(far_end(&p)->out_at, 14000);
	w_none(w);
}

static void fill(uint8_t *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)((i * 2654435761u + seed) >> 11);
}

static void few_large(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);
	uint8_t *a = malloc(1 << 20), *b = malloc(1 << 20);
	size_t got = 0;

	fill(a, 1 << 20, 1);
	far_end(&p)->in_limit = 2 << 20;
	for (size_t at = 0; at < 1 << 20; at += 65480) {
		size_t k = MIN((size_t)65480, (1u << 20) - at);

		say(&p, ACK | PSH, a + at, k);
		assert_int_equal(expect(&p, ACK, 0).ack, p.seq);
	}
	assert_int_equal(far_end(&p)->in_len, 1 << 20);
	assert_memory_equal(far_end(&p)->in, a, 1 << 20);

	far_writes(&p, a, 1 << 20);
	while (got < 1 << 20) {
		struct got g = w_seg(w);

		assert_true(g.len > 0 && g.len <= 65495);
		assert_int_equal(g.seq, p.ack);
		assert_int_equal(g.gso, g.len > 1460 ? 1460 : 0);
		memcpy(b + got, g.data, g.len);
		got += g.len;
		p.ack += (uint32_t)g.len;
		say(&p, ACK, NULL, 0);
	}
	assert_memory_equal(a, b, 1 << 20);
	w_none(w);
	free(a);
	free(b);
}

static void without_offloads(void **state)
{
	struct world *w = *state;
	struct peer p;
	uint8_t data[4000];
	size_t got = 0;

	net_link_caps(w->net, &(struct net_link_caps){.mtu = 1500});
	p = connect_one(w); /* w_parse checks the finished checksums */
	fill(data, sizeof(data), 3);
	far_writes(&p, data, sizeof(data));
	while (got < sizeof(data)) {
		struct got g = w_seg(w);

		assert_true(g.len <= 1460 && g.gso == 0);
		assert_memory_equal(g.data, data + got, g.len);
		got += g.len;
	}
	w_none(w);
}

static void guest_closes_first(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);
	struct got g;

	say(&p, ACK | PSH | FIN, "bye", 3);
	g = expect(&p, ACK, 0);
	assert_int_equal(g.ack, p.seq);
	assert_int_equal(far_end(&p)->shuts, 1);
	assert_int_equal(far_end(&p)->in_len, 3);
	say_at(&p, p.seq - 1, ACK | FIN, NULL, 0); /* once more */
	assert_int_equal(expect(&p, ACK, 0).ack, p.seq);
	assert_int_equal(far_end(&p)->shuts, 1);
	far_writes(&p, "still here", 10);
	p.ack = expect(&p, ACK | PSH, 10).seq + 10;
	say(&p, ACK, NULL, 0);
	far_ends(&p);
	p.ack = expect(&p, FIN | ACK, 0).seq + 1;
	assert_int_equal(far_end(&p)->closes, 0);
	say(&p, ACK, NULL, 0);
	assert_int_equal(far_end(&p)->closes, 1);
	assert_int_equal(flows(w), 0);
	w_none(w);
}

static void owner_closes_first(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);
	struct net_flow old = p.name;

	far_writes(&p, "all", 3);
	far_ends(&p);
	expect(&p, ACK | PSH, 3);
	p.ack = expect(&p, FIN | ACK, 0).seq + 1;
	say(&p, ACK | PSH, "question", 8);
	assert_int_equal(expect(&p, ACK, 0).ack, p.seq);
	assert_int_equal(far_end(&p)->in_len, 8);
	say(&p, ACK | FIN, NULL, 0);
	assert_int_equal(expect(&p, ACK, 0).ack, p.seq);
	assert_int_equal(far_end(&p)->closes, 1);
	assert_int_equal(flows(w), 1);
	say_at(&p, p.seq - 1, ACK | FIN, NULL, 0); /* our ACK got lost */
	assert_int_equal(expect(&p, ACK, 0).ack, p.seq);
	/* The same ports again, at once. */
	p = connect_at(w, p.port, p.seq + 1000);
	assert_int_not_equal(p.name.id, old.id);
	assert_int_equal(flows(w), 1);
	/* And a lingering one that is left alone goes away. */
	far_ends(&p);
	p.ack = expect(&p, FIN | ACK, 0).seq + 1;
	say(&p, ACK | FIN, NULL, 0);
	expect(&p, ACK, 0);
	w_pass(w, 1000);
	assert_int_equal(flows(w), 0);
	w_none(w);
}

static void both_close_at_once(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);
	struct got g;

	far_ends(&p);
	g = expect(&p, FIN | ACK, 0);
	say(&p, ACK | FIN, NULL, 0); /* does not know of ours yet */
	assert_int_equal(expect(&p, ACK, 0).ack, p.seq);
	assert_int_equal(flows(w), 1);
	assert_int_equal(far_end(&p)->closes, 0);
	p.ack = g.seq + 1;
	say(&p, ACK, NULL, 0);
	assert_int_equal(far_end(&p)->closes, 1);
	w_pass(w, 1000);
	assert_int_equal(flows(w), 0);
}

static void owner_not_drained_at_fin(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);

	far_end(&p)->busy = true;
	far_ends(&p);
	p.ack = expect(&p, FIN | ACK, 0).seq + 1;
	say(&p, ACK | FIN, NULL, 0);
	expect(&p, ACK, 0);
	assert_int_equal(far_end(&p)->closes, 0);
	far_end(&p)->busy = false;
	net_flow_writable(w->net, p.name);
	assert_int_equal(far_end(&p)->shuts, 1);
	assert_int_equal(far_end(&p)->closes, 1);
}

static void guest_resets(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);

	say_at(&p, p.seq - 1, RST, NULL, 0);   /* old */
	say_at(&p, p.seq + (8u << 20), RST, NULL, 0); /* beyond the window */
	w_none(w);
	assert_int_equal(flows(w), 1);
	say_at(&p, p.seq + 10, RST, NULL, 0); /* plausible: prove it */
	assert_int_equal(expect(&p, ACK, 0).ack, p.seq);
	say_at(&p, p.seq, SYN, NULL, 0); /* the same answer */
	assert_int_equal(expect(&p, ACK, 0).ack, p.seq);
	assert_int_equal(flows(w), 1);
	say(&p, RST, NULL, 0);
	assert_int_equal(flows(w), 0);
	assert_int_equal(far_end(&p)->closes, 1);
	w_none(w);
}

static void owner_resets(void **state)
{
	struct world *w = *state;
	struct peer p;
	struct got g;

	/* By decision; by failing to take bytes; by failing to give some. */
	for (int how = 0; how < 3; how++) {
		p = connect_at(w, (uint16_t)(500 + how), 9);
		if (how == 0) {
			net_flow_reset(w->net, p.name);
			net_flush(w->net);
		} else if (how == 1) {
			far_end(&p)->gone = true;
			say(&p, ACK, "x", 1);
		} else {
			far_end(&p)->broken = true;
			far_writes(&p, "x", 1);
		}
		g = expect(&p, RST | ACK, 0);
		assert_int_equal(g.seq, p.ack);
		assert_int_equal(far_end(&p)->closes, 1);
		assert_int_equal(flows(w), 0);
		w_none(w);
	}
}

static void stray_segments(void **state)
{
	struct world *w = *state;
	struct peer p = {.w = w, .port = 40000, .ack = 77};
	struct got g;

	say_at(&p, 5, ACK, NULL, 0);
	g = expect(&p, RST, 0);
	assert_int_equal(g.seq, 77);
	say_at(&p, 5, FIN, "abc", 3);
	g = expect(&p, RST | ACK, 0);
	assert_int_equal(g.seq, 0);
	assert_int_equal(g.ack, 9);
	say_at(&p, 5, SYN | ACK, NULL, 0);
	expect(&p, RST, 0);
	say_at(&p, 5, SYN | FIN, NULL, 0);
	expect(&p, RST | ACK, 0);
	say_at(&p, 5, RST, NULL, 0);
	say_at(&p, 5, RST | ACK, NULL, 0);
	w_none(w);
	assert_int_equal(w->opened, 0);
}

static void owner_window(void **state)
{
	struct world *w = *state;
	struct peer p;
	uint8_t *data = malloc(200000);
	struct got g;

	fill(data, 200000, 5);
	p = connect_one(w);
	far_end(&p)->in_limit = 100000;
	say(&p, ACK, data, 1);
	g = expect(&p, ACK, 0);
	while (g.wnd) { /* fill what is open */
		say(&p, ACK, data + far_end(&p)->in_len, MIN((size_t)g.wnd << 5, (size_t)30000));
		g = expect(&p, ACK, 0);
		assert_int_equal(g.ack, p.seq);
	}
	assert_true(far_end(&p)->in_len > 65000);
	assert_true(far_end(&p)->in_len <= far_end(&p)->in_limit);
	assert_int_equal(g.wnd, 0);
	say_at(&p, p.seq, ACK, data, 40); /* a probe: at most the rounding of the window fits */
	g = expect(&p, ACK, 0);
	assert_true(g.ack - p.seq < 32);
	assert_int_equal(g.wnd, 0);
	p.seq = g.ack;
	say_at(&p, p.seq, ACK, data, 1);
	assert_int_equal(expect(&p, ACK, 0).ack, p.seq);
	say_at(&p, p.seq - 1, ACK, NULL, 0); /* Linux probes like this */
	assert_int_equal(expect(&p, ACK, 0).wnd, 0);
	net_flow_writable(w->net, p.name); /* nothing gained */
	net_flush(w->net);
	w_none(w);
	far_end(&p)->in_limit += 150000;
	net_flow_writable(w->net, p.name);
	net_flush(w->net);
	g = expect(&p, ACK, 0);
	assert_int_equal(g.ack, p.seq);
	assert_true(g.wnd << 5 >= 65536);
	net_flow_writable(w->net, p.name); /* said once */
	net_flush(w->net);
	w_none(w);
	free(data);
}

/* However the guest cuts its bytes, it cannot push more than was announced. */
static void window_does_not_creep(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);
	uint32_t edge = 0;
	struct got g;

	far_end(&p)->in_limit = 50;
	say(&p, ACK, "x", 1);
	g = expect(&p, ACK, 0);
	edge = g.ack + (g.wnd << 5);
	for (unsigned i = 0; i < 70000; i++) {
		say_at(&p, p.seq, ACK, "y", 1);
		g = w_seg(w);
		p.seq = g.ack;
		assert_true((int32_t)(g.ack + (g.wnd << 5) - edge) < 32);
	}
	assert_true(far_end(&p)->in_len <= 65536 + 32);
}

static void guest_window(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);
	uint8_t data[3000];

	fill(data, sizeof(data), 6);
	p.wnd = 2; /* << 7: 256 bytes */
	say(&p, ACK, NULL, 0);
	far_writes(&p, data, sizeof(data));
	p.ack = expect(&p, ACK | PSH, 256).seq + 256;
	w_none(w);
	p.wnd = 0;
	say(&p, ACK, NULL, 0);
	w_none(w);
	w_pass(w, 999);
	w_none(w);
	w_pass(w, 1);
	expect(&p, ACK | PSH, 1); /* a probe */
	say(&p, ACK, NULL, 0);	  /* not taken, still closed */
	for (int i = 0; i < 40; i++) { /* a living guest may take its time */
		w_pass(w, 60000);
		while (w->at < w->n_frames) {
			struct got g = expect(&p, ACK | PSH, 1);

			assert_int_equal(g.seq, p.ack);
			assert_int_equal(g.data[0], data[256]);
		}
		say(&p, ACK, NULL, 0);
		w->at = w->n_frames;
	}
	assert_int_equal(flows(w), 1);
	p.wnd = 1000;
	say(&p, ACK, NULL, 0);
	w_pass(w, 60000);
	while (p.ack != (uint32_t)(w_parse(&w->frames[w->n_frames - 1]).seq +
				   w_parse(&w->frames[w->n_frames - 1]).len)) {
		struct got g = w_seg(w);

		if (g.seq == p.ack)
			p.ack += (uint32_t)g.len;
	}
	say(&p, ACK, NULL, 0);
	assert_int_equal(far_end(&p)->out_at, sizeof(data));
}

static void guest_vanished(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);

	far_writes(&p, "hello", 5);
	w_pass(w, 600000);
	assert_int_equal(flows(w), 0);
	assert_int_equal(w->closed, 1);
	assert_int_equal(w_parse(&w->frames[w->n_frames - 1]).flags, RST | ACK);
}

static void keepalive(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);

	say_at(&p, p.seq - 1, ACK, NULL, 0);
	assert_int_equal(expect(&p, ACK, 0).ack, p.seq);
	say_at(&p, p.seq - 1, ACK, "\0", 1);
	assert_int_equal(expect(&p, ACK, 0).ack, p.seq);
	assert_int_equal(far_end(&p)->in_len, 0);
	say(&p, ACK, NULL, 0); /* ordinary: no answer */
	w_none(w);
}

static void overlap_and_order(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);
	uint32_t s = p.seq;

	say_at(&p, s + 3, ACK, "def", 3); /* too early */
	assert_int_equal(expect(&p, ACK, 0).ack, s);
	say_at(&p, s, ACK, "abc", 3);
	assert_int_equal(expect(&p, ACK, 0).ack, s + 3);
	say_at(&p, s, ACK, "abcde", 5); /* half old */
	assert_int_equal(expect(&p, ACK, 0).ack, s + 5);
	say_at(&p, s + 1, ACK, "bcd", 3); /* all old */
	assert_int_equal(expect(&p, ACK, 0).ack, s + 5);
	say_at(&p, s + 4, ACK | FIN, "efg", 3); /* old, new, and the end */
	assert_int_equal(expect(&p, ACK, 0).ack, s + 8);
	say_at(&p, s + 8, ACK, "more", 4); /* after the end */
	assert_int_equal(expect(&p, ACK, 0).ack, s + 8);
	assert_int_equal(far_end(&p)->in_len, 7);
	assert_memory_equal(far_end(&p)->in, "abcdefg", 7);
}

static void fin_out_of_order(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);

	say_at(&p, p.seq + 5, ACK | FIN, NULL, 0);
	assert_int_equal(expect(&p, ACK, 0).ack, p.seq);
	assert_int_equal(far_end(&p)->shuts, 0);
}

static void ack_of_the_unsent(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);
	uint32_t good = p.ack;

	p.ack = good + 1;
	say_at(&p, p.seq, ACK, "evil", 4);
	assert_int_equal(expect(&p, ACK, 0).ack, p.seq);
	assert_int_equal(far_end(&p)->in_len, 0);
	p.ack = good - 1000; /* old: harmless, and the data counts */
	say_at(&p, p.seq, ACK, "good", 4);
	assert_int_equal(expect(&p, ACK, 0).ack, p.seq + 4);
	say_at(&p, p.seq + 4, 0, "no ack", 6);
	w_none(w);
}

static void sequence_wraps(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);
	uint8_t *data = malloc(300000);
	uint32_t start;
	struct got g;
	size_t got = 0;

	/* Our sequence numbers grow by 250 a millisecond: choose the time at which they are about
	 * to wrap. */
	say(&p, RST, NULL, 0);
	w->now += (uint32_t)(0u - p.ack - 100000) / 250;
	p = connect_at(w, 40000, 0xffffff00u);
	start = p.ack;
	assert_true(start > 0xfff00000u);
	fill(data, 300000, 9);
	say(&p, ACK, data, 60000);
	g = expect(&p, ACK, 0);
	assert_int_equal(g.ack, (uint32_t)(0xffffff01u + 60000));
	assert_int_equal(far_end(&p)->in_len, 60000);
	far_writes(&p, data, 300000);
	while (got < 300000) {
		g = w_seg(w);
		assert_int_equal(g.seq, p.ack);
		assert_memory_equal(g.data, data + got, g.len);
		got += g.len;
		p.ack += (uint32_t)g.len;
		say(&p, ACK, NULL, 0);
	}
	assert_true(p.ack < start);
	far_ends(&p);
	p.ack = expect(&p, FIN | ACK, 0).seq + 1;
	say(&p, ACK | FIN, NULL, 0);
	expect(&p, ACK, 0);
	assert_int_equal(far_end(&p)->closes, 1);
	free(data);
}

static void lost_in_the_guest(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);
	struct got g;

	far_writes(&p, "0123456789", 10);
	expect(&p, ACK | PSH, 10); /* dropped by the guest */
	w_pass(w, 1000);
	g = expect(&p, ACK | PSH, 10);
	assert_memory_equal(g.data, "0123456789", 10);
	p.ack = g.seq + 4; /* half of it */
	say(&p, ACK, NULL, 0);
	w_none(w);
	w_pass(w, 1000);
	assert_memory_equal(expect(&p, ACK | PSH, 6).data, "456789", 6);
	far_writes(&p, "abc", 3);
	expect(&p, ACK | PSH, 3);
	for (int i = 0; i < 3; i++) {
		w_none(w);
		say(&p, ACK, NULL, 0);
	}
	assert_memory_equal(expect(&p, ACK | PSH, 9).data, "456789abc", 9);
	say(&p, ACK, NULL, 0); /* a fourth duplicate changes nothing */
	w_none(w);
	/* The same with our FIN. */
	p.ack = g.seq + 13;
	say(&p, ACK, NULL, 0);
	far_ends(&p);
	expect(&p, FIN | ACK, 0);
	w_pass(w, 1000);
	assert_int_equal(expect(&p, FIN | ACK, 0).seq, p.ack);
	p.ack++;
	say(&p, ACK | FIN, NULL, 0);
	assert_int_equal(far_end(&p)->closes, 1);
}

static void no_receive_buffers(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w), q = connect_at(w, 40001, 5);

	w->room = 0;
	say(&p, ACK, "abc", 3);
	say(&q, ACK, "defg", 4);
	far_writes(&p, "xyz", 3);
	net_flow_reset(w->net, q.name);
	net_flush(w->net);
	w_none(w);
	assert_int_equal(far_end(&p)->in_len, 3); /* taken all the same */
	w->room = 1;
	net_flush(w->net);
	assert_int_equal(expect(&p, ACK | PSH, 3).ack, p.seq); /* one frame says both */
	w_none(w);
	w->room = 5;
	net_flush(w->net);
	assert_int_equal(expect(&q, RST | ACK, 0).ack, q.seq);
	w_none(w);
	assert_int_equal(flows(w), 1);
}

static void thousand_at_once(void **state)
{
	struct world *w = *state;
	struct peer *p = calloc(1000, sizeof(*p));
	char msg[32];

	for (unsigned i = 0; i < 1000; i++) {
		p[i] = (struct peer){.w = w, .port = (uint16_t)(10000 + i), .wnd = 0xffff};
		say_syn(&p[i], i * 77777);
		p[i].name = w->last;
	}
	w_none(w);
	for (unsigned i = 0; i < 1000; i++)
		net_flow_accept(w->net, p[999 - i].name);
	net_flush(w->net);
	for (unsigned i = 0; i < 1000; i++) {
		struct got g = w_seg(w);
		struct peer *q = &p[g.dport - 10000];

		assert_int_equal(g.ack, q->seq + 1);
		q->seq++;
		q->ack = g.seq + 1;
		say(q, ACK, NULL, 0);
	}
	w_none(w);
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(msg, sizeof(msg), "connection %u", i);
		say(&p[i], ACK | FIN, msg, strlen(msg));
		expect(&p[i], ACK, 0);
	}
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(msg, sizeof(msg), "connection %u", i);
		assert_int_equal(far_end(&p[i])->in_len, strlen(msg));
		assert_memory_equal(far_end(&p[i])->in, msg, strlen(msg));
		far_ends(&p[i]);
		p[i].ack = expect(&p[i], FIN | ACK, 0).seq + 1;
		say(&p[i], ACK, NULL, 0);
	}
	assert_int_equal(flows(w), 0);
	w_none(w);
	free(p);
}

static void syn_flood(void **state)
{
	struct world *w = *state;
	struct peer p = {.w = w, .wnd = 1000};
	struct net_stats s;

	for (unsigned i = 0; i < 3000; i++) {
		p.port = (uint16_t)(i + 1);
		say_syn(&p, i);
		if (i >= 1024)
			assert_int_equal(expect(&p, RST | ACK, 0).ack, i + 1);
	}
	net_get_stats(w->net, &s);
	assert_int_equal(s.half_open, 1024);
	assert_int_equal(s.refused, 3000 - 1024);
	w_none(w);
}

static void table_full(void **state)
{
	struct world w;
	struct peer p[4];

	w_init(&w, 4, 4);
	for (unsigned i = 0; i < 4; i++)
		p[i] = connect_at(&w, (uint16_t)(100 + i), i);
	say_syn(&(struct peer){.w = &w, .port = 200}, 1);
	assert_int_equal(w_seg(&w).flags, RST | ACK);
	/* One that only lingers makes way. */
	far_ends(&p[2]);
	p[2].ack = expect(&p[2], FIN | ACK, 0).seq + 1;
	say(&p[2], ACK | FIN, NULL, 0);
	expect(&p[2], ACK, 0);
	p[2] = connect_at(&w, 201, 4);
	assert_int_equal(flows(&w), 4);
	w_done(&w);
}

static void device_reset(void **state)
{
	struct world *w = *state;
	struct peer p = connect_one(w);

	w->room = 0;
	say(&p, ACK, "abc", 3);
	say_syn(&(struct peer){.w = w, .port = 7}, 1);
	net_reset(w->net);
	w->room = -1;
	net_flush(w->net);
	w_none(w);
	assert_int_equal(w->closed, 2);
	assert_int_equal(flows(w), 0);
	w_pass(w, 100000);
	connect_one(w);
}

static void malformed(void **state)
{
	static const struct {
		const char *what;
		size_t at;
		uint8_t value;
		size_t len; /* of the frame; 0: whole */
		bool fix;   /* finish the checksums after the change */
	} rows[] = {
		{"tcp checksum", 34 + 17, 0x55, 0, false},
		{"ip checksum", 14 + 8, 63, 0, false},
		{"data offset too small", 34 + 12, 0x40, 0, true},
		{"data offset beyond the end", 34 + 12, 0xf0, 0, true},
		{"option length 0", 34 + 21, 0, 0, true},
		{"option length 1", 34 + 21, 1, 0, true},
		{"option beyond the end", 34 + 21, 200, 0, true},
		{"truncated", 0, 0x02, 34 + 15, false},
		{"port 0 from", 34 + 1, 0, 0, true},
	};
	struct world *w = *state;
	uint8_t f[100];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t len = w_tcp(f,
			&(struct seg){REMOTE, 0x0007, 80, 1, 0, SYN, 9, syn_opts, 12, NULL, 0});

		print_message("# %s\n", rows[i].what);
		f[rows[i].at] = rows[i].value;
		if (rows[i].fix) {
			set16(f + 50, 0);
			set16(f + 50, (uint16_t)~w_sum(w_pseudo(f + 14, len - 34), f + 34,
					      len - 34));
		}
		w_input(w, f, rows[i].len ? rows[i].len : len, false);
		assert_int_equal(w->opened, 0);
	}
	/* The one that must work. */
	w_input(w, f, w_tcp(f, &(struct seg){REMOTE, 7, 80, 1, 0, SYN, 9, syn_opts, 12, NULL, 0}),
		false);
	assert_int_equal(w->opened, 1);
	/* Unfinished checksums are believed when the link says so. */
	{
		size_t len = w_tcp(f, &(struct seg){REMOTE, 8, 80, 1, 0, SYN, 9, NULL, 0, NULL, 0});

		f[51] ^= 1;
		w_input(w, f, len, true);
		assert_int_equal(w->opened, 2);
	}
}

/* A guest that loses a tenth of what it receives, and sends its stream in random cuts, from the
 * acknowledged byte on. Both streams must come out whole, and the flow must end. */
#define LOSSY 300000u

struct lossy {
	struct peer p;
	uint32_t base;	      /* sequence number of its first byte */
	size_t got, acked, edge; /* received; acknowledged to it; announced to it */
	bool got_fin;
	unsigned rnd;
	const uint8_t *up, *down;
};

static unsigned dice(struct lossy *l)
{
	l->rnd = l->rnd * 1103515245 + 12345;
	return l->rnd >> 16 & 0x7fff;
}

static void lossy_receives(struct lossy *l)
{
	struct world *w = l->p.w;

	while (w->at < w->n_frames) {
		struct got g = w_seg(w);

		if (dice(l) % 10 == 0)
			continue;
		assert_true(g.ack - l->base <= LOSSY + 1);
		l->acked = MAX(l->acked, (size_t)(g.ack - l->base));
		l->edge = MAX(l->edge, (size_t)(g.ack - l->base) + ((size_t)g.wnd << 5));
		if (g.seq != l->p.ack)
			continue;
		assert_true(l->got + g.len <= LOSSY);
		assert_memory_equal(g.data, l->down + l->got, g.len);
		l->got += g.len;
		l->p.ack += (uint32_t)g.len + !!(g.flags & FIN);
		l->got_fin |= g.flags & FIN;
	}
}

static void lossy_guest(void **state)
{
	struct world *w = *state;
	uint8_t *up = malloc(LOSSY), *down = malloc(LOSSY);

	fill(up, LOSSY, 11);
	fill(down, LOSSY, 12);
	for (unsigned round = 0; round < 6; round++) {
		struct lossy l = {.up = up, .down = down, .rnd = round};
		struct w_flow *f;
		unsigned steps = 0;

		l.p = connect_at(w, (uint16_t)(3000 + round), 0xfffff000u * round);
		l.base = l.p.seq;
		l.edge = 60000;
		f = far_end(&l.p);
		f->in_limit = 2 * LOSSY;
		memcpy(f->out, down, LOSSY);
		f->out_len = LOSSY;
		f->eof = true;
		net_flow_readable(w->net, l.p.name);
		net_flush(w->net);
		for (; !f->closes; steps++) {
			size_t at = MIN(l.acked, (size_t)LOSSY), k;

			if (steps > 20000)
				fail_msg("stuck: got %zu acked %zu edge %zu in %zu at %zu fin %d", l.got, l.acked, l.edge, f->in_len, f->out_at, l.got_fin);
			lossy_receives(&l);
			l.p.wnd = dice(&l) % 8 ? 1 + dice(&l) % 200 : 0;
			k = l.edge > at ? MIN(l.edge, (size_t)LOSSY) - MIN(at, l.edge) : 0;
			k = k < 5000 ? k : dice(&l) * 3 % (k + 1);
			say_at(&l.p, l.base + (uint32_t)at, at + k == LOSSY ? ACK | FIN : ACK, up + at,
				k);
			w_pass(w, dice(&l) % 400);
		}
		assert_true(l.got == LOSSY && l.got_fin);
		assert_int_equal(f->in_len, LOSSY);
		assert_memory_equal(f->in, up, LOSSY);
		w_pass(w, 5000);
		w->at = w->n_frames;
		assert_int_equal(flows(w), 0);
	}
	free(up);
	free(down);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {T(handshake), T(no_options),
		T(accept_twice_and_stale_names), T(refused), T(syn_repeated),
		T(owner_never_answers), T(guest_gave_up), T(bad_ack_of_syn_ack),
		T(syn_with_data_and_urg), T(many_small), T(few_large), T(without_offloads),
		T(guest_closes_first), T(owner_closes_first), T(both_close_at_once),
		T(owner_not_drained_at_fin), T(guest_resets), T(owner_resets), T(stray_segments),
		T(owner_window), T(window_does_not_creep), T(guest_window), T(guest_vanished),
		T(keepalive), T(overlap_and_order), T(fin_out_of_order), T(ack_of_the_unsent),
		T(sequence_wraps), T(lost_in_the_guest), T(no_receive_buffers),
		T(thousand_at_once), T(syn_flood), T(table_full), T(device_reset), T(malformed),
		T(lossy_guest)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

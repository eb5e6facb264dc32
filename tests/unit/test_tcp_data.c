/* SPDX-License-Identifier: Apache-2.0 */
/* TCP: bytes in both directions, windows, order, loss and numbers that wrap. */
#include "tcp_peer.h"

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
	expect(&p, ACK | PSH, 1);      /* a probe */
	say(&p, ACK, NULL, 0);         /* not taken, still closed */
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

/* A guest that loses a tenth of what it receives, and sends its stream in random cuts, from the
 * acknowledged byte on. Both streams must come out whole, and the flow must end. */
#define LOSSY 300000u

struct lossy {
	struct peer p;
	uint32_t base;           /* sequence number of its first byte */
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
				fail_msg("stuck: got %zu acked %zu edge %zu in %zu at %zu fin %d",
					l.got, l.acked, l.edge, f->in_len, f->out_at, l.got_fin);
			lossy_receives(&l);
			l.p.wnd = dice(&l) % 8 ? 1 + dice(&l) % 200 : 0;
			k = l.edge > at ? MIN(l.edge, (size_t)LOSSY) - MIN(at, l.edge) : 0;
			k = k < 5000 ? k : dice(&l) * 3 % (k + 1);
			say_at(&l.p, l.base + (uint32_t)at, at + k == LOSSY ? ACK | FIN : ACK,
				up + at, k);
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
	const struct CMUnitTest tests[] = {T(many_small), T(few_large), T(without_offloads),
		T(owner_window), T(window_does_not_creep), T(guest_window), T(keepalive),
		T(overlap_and_order), T(fin_out_of_order), T(ack_of_the_unsent), T(sequence_wraps),
		T(lost_in_the_guest), T(no_receive_buffers), T(thousand_at_once), T(lossy_guest)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

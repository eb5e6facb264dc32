/* SPDX-License-Identifier: Apache-2.0 */
/* TCP: opening, ending and refusing connections, and what is not believed. */
#include "tcp_peer.h"

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

	for (int now = 0; now < 3; now++) {
		w->deny = now == 1;
		say_syn(&p, 7);
		if (now == 0)
			net_flow_refuse(w->net, w->last);
		else if (now == 2)
			net_flow_reset(w->net, w->last);
		net_flush(w->net);
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

	say_at(&p, p.seq - 1, RST, NULL, 0);          /* old */
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
		size_t len = w_tcp(
			f, &(struct seg){REMOTE, 0x0007, 80, 1, 0, SYN, 9, syn_opts, 12, NULL, 0});

		print_message("# %s\n", rows[i].what);
		f[rows[i].at] = rows[i].value;
		if (rows[i].fix) {
			set16(f + 50, 0);
			set16(f + 50,
				(uint16_t)~w_sum(w_pseudo(f + 14, len - 34), f + 34, len - 34));
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

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {T(handshake), T(no_options),
		T(accept_twice_and_stale_names), T(refused), T(syn_repeated),
		T(owner_never_answers), T(guest_gave_up), T(bad_ack_of_syn_ack),
		T(syn_with_data_and_urg), T(guest_closes_first), T(owner_closes_first),
		T(both_close_at_once), T(owner_not_drained_at_fin), T(guest_resets),
		T(owner_resets), T(stray_segments), T(guest_vanished), T(syn_flood), T(table_full),
		T(device_reset), T(malformed)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Ethernet, ARP, IPv4, ICMP, UDP and DNS towards the guest. */
#include "net_world.h"

static int setup(void **state)
{
	struct world *w = malloc(sizeof(*w));

	w_init(w, 16, 16);
	*state = w;
	return 0;
}
static int teardown(void **state)
{
	w_done(*state);
	free(*state);
	return 0;
}

static size_t arp(uint8_t p[42], uint32_t sender, uint32_t target)
{
	static const uint8_t head[] = {0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1};

	memset(p, 0xff, 6);
	memcpy(p + 6, net_guest_mac, 6);
	memcpy(p + 12, head, sizeof(head));
	memcpy(p + 22, net_guest_mac, 6);
	set32(p + 28, sender);
	memset(p + 32, 0, 6);
	set32(p + 38, target);
	return 42;
}

static size_t udp(
	uint8_t *p, uint32_t dst, uint16_t from, uint16_t to, const void *data, size_t len)
{
	uint8_t *u = p + 34;

	set16(u, from);
	set16(u + 2, to);
	set16(u + 4, (unsigned)(8 + len));
	set16(u + 6, 0);
	memcpy(u + 8, data, len);
	w_ip(p, dst, 17, 8 + len);
	set16(u + 6, (uint16_t)~w_sum(w_pseudo(p + 14, 8 + len), u, 8 + len));
	return 42 + len;
}

static size_t echo(uint8_t *p, uint32_t dst, size_t len)
{
	uint8_t *m = p + 34;

	memset(m, 0, 8 + len);
	m[0] = 8;
	set32(m + 4, 0x12345678);
	for (size_t i = 0; i < len; i++)
		m[8 + i] = (uint8_t)i;
	set16(m + 2, (uint16_t)~w_sum(0, m, 8 + len));
	w_ip(p, dst, 1, 8 + len);
	return 42 + len;
}

static void arp_for_the_gateway(void **state)
{
	static const uint32_t rows[][3] = {
		/* sender, target, answered */
		{NET_GUEST_IP, NET_GATEWAY_IP, 1}, {0, NET_GATEWAY_IP, 1},
		{NET_GUEST_IP, NET_GUEST_IP, 0}, /* its own announcement */
		{NET_GUEST_IP, 0x0a000203, 0},
		{0x0a000210, NET_GATEWAY_IP, 0}, /* somebody else's */
	};
	struct world *w = *state;
	uint8_t p[42];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct w_frame *f;

		w_input(w, p, arp(p, rows[i][0], rows[i][1]), false);
		f = w_next(w);
		assert_int_equal(!!f, rows[i][2]);
		if (!f)
			continue;
		assert_int_equal(f->len, 42);
		assert_memory_equal(f->p, net_guest_mac, 6);
		assert_int_equal(be16(f->p + 12), 0x0806);
		assert_int_equal(be16(f->p + 20), 2);
		assert_memory_equal(f->p + 22, net_gateway_mac, 6);
		assert_int_equal(be32(f->p + 28), NET_GATEWAY_IP);
		assert_memory_equal(f->p + 32, net_guest_mac, 6);
		assert_int_equal(be32(f->p + 38), rows[i][0]);
	}
	/* A reply, a short one, another hardware type: nothing. */
	arp(p, NET_GUEST_IP, NET_GATEWAY_IP);
	p[21] = 2;
	w_input(w, p, 42, false);
	p[21] = 1;
	w_input(w, p, 41, false);
	p[15] = 6;
	w_input(w, p, 42, false);
	w_none(w);
}

static void ping(void **state)
{
	struct world *w = *state;
	uint8_t *p = malloc(9000);
	const struct w_frame *f;

	for (size_t len = 0; len < 3000; len = len * 3 + 1) {
		w->pieces = (unsigned)len / 7;
		w_input(w, p, echo(p, NET_GATEWAY_IP, len), false);
		f = w_next(w);
		assert_non_null(f);
		assert_int_equal(f->len, 42 + len);
		assert_int_equal(f->p[34], 0);
		assert_int_equal(w_sum(0, f->p + 34, 8 + len), 0xffff);
		assert_int_equal(w_sum(0, f->p + 14, 20), 0xffff);
		assert_int_equal(be32(f->p + 26), NET_GATEWAY_IP);
		assert_memory_equal(f->p + 38, p + 38, 4 + len);
	}
	w->pieces = 0;
	/* Nobody else is there to be asked. */
	w_input(w, p, echo(p, 0x01010101, 56), false);
	f = w_next(w);
	assert_non_null(f);
	assert_int_equal(f->p[34], 3);
	assert_int_equal(f->p[35], 13);
	assert_int_equal(be32(f->p + 26), NET_GATEWAY_IP);
	assert_memory_equal(f->p + 42, p + 14, 28);
	assert_int_equal(w_sum(0, f->p + 34, 36), 0xffff);
	/* Wrong checksum, too long to keep, not an echo, no header. */
	echo(p, NET_GATEWAY_IP, 10);
	p[45] ^= 1;
	w_input(w, p, 52, false);
	w_input(w, p, echo(p, NET_GATEWAY_IP, 5000), false);
	echo(p, NET_GATEWAY_IP, 10);
	p[34] = 13;
	set16(p + 36, 0);
	set16(p + 36, (uint16_t)~w_sum(0, p + 34, 18));
	w_input(w, p, 52, false);
	w_ip(p, NET_GATEWAY_IP, 1, 4);
	w_input(w, p, 38, false);
	w_none(w);
	free(p);
}

static void udp_is_refused_at_once(void **state)
{
	struct world *w = *state;
	uint8_t p[2000], data[1500] = {0};
	const struct w_frame *f;
	unsigned n = 0;

	w->udp_refuse = true;
	w_input(w, p, udp(p, 0x08080808, 5000, 443, data, 1200), false);
	f = w_next(w);
	assert_non_null(f);
	assert_int_equal(f->len, 34 + 8 + 28);
	assert_int_equal(be16(f->p + 34), 0x0303);
	assert_int_equal(be32(f->p + 26), 0x08080808);
	/* What a socket looks for: addresses, protocol and ports of its datagram. */
	assert_int_equal(w_sum(0, f->p + 42, 20), 0xffff);
	assert_int_equal(f->p[42 + 9], 17);
	assert_memory_equal(f->p + 42 + 12, p + 14 + 12, 12);
	/* Another port of the gateway is no better. */
	w_input(w, p, udp(p, NET_GATEWAY_IP, 5000, 123, data, 20), false);
	assert_non_null(w_next(w));
	/* Many peers at once are nobody. */
	w_input(w, p, udp(p, 0xe00000fb, 5353, 5353, data, 20), false);
	w_input(w, p, udp(p, 0xffffffff, 68, 67, data, 20), false);
	w_input(w, p, udp(p, NET_GATEWAY_IP | 0xff, 138, 138, data, 20), false);
	w_none(w);
	/* A flood is answered at a bounded rate, which recovers. */
	for (int i = 0; i < 1000; i++)
		w_input(w, p, udp(p, 0x08080808, 5000, 443, data, 20), false);
	while (w_next(w))
		n++;
	assert_int_equal(n, 198);
	w->now += 100;
	for (int i = 0; i < 1000; i++)
		w_input(w, p, udp(p, 0x08080808, 5000, 443, data, 20), false);
	for (n = 0; w_next(w);)
		n++;
	assert_int_equal(n, 20);
	/* Other protocols are refused, too. */
	w->now += 1000;
	w_ip(p, 0x08080808, 47, 20);
	w_input(w, p, 54, false);
	f = w_next(w);
	assert_int_equal(be16(f->p + 34), 0x030d);
}

static void datagrams(void **state)
{
	struct world *w = *state;
	uint8_t *p = malloc(70000), *data = calloc(1, 66000);
	static const size_t sizes[] = {0, 1, 2, 511, 1472, 9000, 65492};
	const struct w_frame *f;

	for (size_t i = 0; i < 66000; i++)
		data[i] = (uint8_t)(i * 7);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		for (w->pieces = 0; w->pieces < 600; w->pieces += 599) {
			w_input(w, p, udp(p, 0xc6120001, 5000, 9999, data, sizes[i]), false);
			assert_int_equal(w->udp_len, sizes[i]);
			assert_memory_equal(w->udp, data, sizes[i]);
			assert_int_equal(w->udp_from, 5000);
			assert_int_equal(w->udp_addr, 0xc6120001);
			assert_int_equal(w->udp_port, 9999);
		}
		w_none(w);
		net_udp_answer(w->net, 5000, 0xc6120001, 9999, data, sizes[i]);
		net_flush(w->net);
		f = w_next(w);
		assert_non_null(f);
		assert_int_equal(f->len, 42 + sizes[i]);
		assert_int_equal(be32(f->p + 26), 0xc6120001);
		assert_int_equal(be16(f->p + 34), 9999);
		assert_int_equal(be16(f->p + 36), 5000);
		assert_int_equal(
			w_sum(w_pseudo(f->p + 14, f->len - 34), f->p + 34, f->len - 34), 0xffff);
		assert_memory_equal(f->p + 42, data, sizes[i]);
	}
	/* More than the interface takes, in both settings of it. */
	net_udp_answer(w->net, 5000, 0xc6120001, 9999, data, 65493);
	net_link_caps(w->net, &(struct net_link_caps){.mtu = 1500});
	net_udp_answer(w->net, 5000, 0xc6120001, 9999, data, 1473);
	net_flush(w->net);
	w_none(w);
	/* From or to nowhere. */
	w->n_udp = 0;
	w_input(w, p, udp(p, 0xc6120001, 0, 9999, data, 5), false);
	w_input(w, p, udp(p, 0xc6120001, 5000, 0, data, 5), false);
	w_input(w, p, udp(p, 0x00000001, 5000, 9999, data, 5), false);
	w_input(w, p, udp(p, NET_GUEST_IP, 5000, 9999, data, 5), false);
	assert_int_equal(w->n_udp, 0);
	w_none(w);
	free(data);
	free(p);
}

/* Any mix of sizes, with a guest that is slow to give buffers: order kept, contents whole, memory
 * bounded, and all of it flows again afterwards. */
static void datagrams_wait_in_a_ring(void **state)
{
	struct world *w = *state;
	uint8_t *data = calloc(1, 66000);
	unsigned sent = 0, got = 0, size = 1;
	const struct w_frame *f;

	for (unsigned round = 0; round < 3000; round++) {
		w->room = round % 3;
		size = size * 1103515245 + 12345;
		set32(data, round);
		net_udp_answer(w->net, 1, 0xc6120001, 2, data, 4 + (size >> 8) % 40000);
		net_flush(w->net);
		sent++;
		while ((f = w_next(w))) {
			uint32_t n = be32(f->p + 42);

			assert_true(n >= got && n <= round);
			assert_int_equal(
				w_sum(w_pseudo(f->p + 14, f->len - 34), f->p + 34, f->len - 34),
				0xffff);
			got = n + 1;
		}
	}
	w->room = 0;
	for (unsigned i = 0; i < 100000; i++)
		net_udp_answer(w->net, 1, 0xc6120001, 2, data, 0);
	w->room = -1;
	net_flush(w->net);
	for (sent = 0; w_next(w);)
		sent++;
	assert_in_range(sent, 4000, NET_UDP_QUEUE / 46);
	free(data);
}

static void dns(void **state)
{
	struct world *w = *state;
	uint8_t p[5000], answer[NET_DNS_MAX + 1];
	const struct w_frame *f;
	uint32_t first;

	w_input(w, p, udp(p, NET_GATEWAY_IP, 5001, 53, "question", 8), false);
	w_none(w);
	assert_int_equal(w->dns_len, 8);
	assert_memory_equal(w->dns, "question", 8);
	first = w->dns_id;
	w_input(w, p, udp(p, NET_GATEWAY_IP, 5002, 53, "another", 7), false);
	assert_int_not_equal(w->dns_id, first);
	memset(answer, 'a', sizeof(answer));
	/* Sizes odd and even, the largest, and out of order. */
	net_dns_answer(w->net, w->dns_id, answer, 4095);
	net_dns_answer(w->net, first, answer, 4096);
	net_flush(w->net);
	for (int i = 0; i < 2; i++) {
		f = w_next(w);
		assert_non_null(f);
		assert_int_equal(f->len, 42 + 4095 + i);
		assert_int_equal(be32(f->p + 26), NET_GATEWAY_IP);
		assert_int_equal(be16(f->p + 34), 53);
		assert_int_equal(be16(f->p + 36), 5002 - i);
		assert_int_equal(
			w_sum(w_pseudo(f->p + 14, f->len - 34), f->p + 34, f->len - 34), 0xffff);
	}
	/* Once only; never invented; never too long. */
	net_dns_answer(w->net, first, answer, 10);
	net_dns_answer(w->net, 0, answer, 10);
	net_dns_answer(w->net, 4711, answer, 10);
	w_input(w, p, udp(p, NET_GATEWAY_IP, 5001, 53, "question", 8), false);
	net_dns_answer(w->net, w->dns_id, answer, sizeof(answer));
	net_flush(w->net);
	w_none(w);
	/* A wrong checksum is dropped, an unfinished or absent one is fine. */
	w->n_dns = 0;
	udp(p, NET_GATEWAY_IP, 5001, 53, "question", 8);
	p[41] ^= 1;
	w_input(w, p, 50, false);
	assert_int_equal(w->n_dns, 0);
	w_input(w, p, 50, true);
	set16(p + 40, 0);
	w_input(w, p, 50, false);
	assert_int_equal(w->n_dns, 2);
	/* Lengths that lie. */
	for (unsigned len = 0; len < 100; len++) {
		udp(p, NET_GATEWAY_IP, 5001, 53, "question", 8);
		set16(p + 38, len);
		set16(p + 40, 0);
		w->n_dns = 0;
		w_input(w, p, 50, true);
		assert_int_equal(w->n_dns, len >= 8 && len <= 16);
		if (w->n_dns)
			assert_int_equal(w->dns_len, len - 8);
	}
}

/* Questions that are never answered keep nobody from asking: an old one gives way. */
static void dns_questions_are_bounded(void **state)
{
	struct world *w = *state;
	const uint8_t answer[] = "answer";
	uint32_t first;
	uint8_t p[100];

	w_input(w, p, udp(p, NET_GATEWAY_IP, 5001, 53, "q", 1), false);
	first = w->dns_id;
	for (int i = 0; i < 1000; i++)
		w_input(w, p, udp(p, NET_GATEWAY_IP, 5001, 53, "q", 1), false);
	assert_int_equal(w->n_dns, 1001);
	net_dns_answer(w->net, first, answer, sizeof(answer));
	net_flush(w->net);
	w_none(w);
	net_dns_answer(w->net, w->dns_id - 255, answer, sizeof(answer));
	net_dns_answer(w->net, w->dns_id, answer, sizeof(answer));
	net_flush(w->net);
	assert_non_null(w_next(w));
	assert_non_null(w_next(w));
	w_none(w);
}

static void replies_wait_for_room(void **state)
{
	struct world *w = *state;
	struct net_stats s;
	uint8_t p[200];
	unsigned n = 0;

	w->room = 0;
	for (int i = 0; i < 100; i++)
		w_input(w, p, echo(p, NET_GATEWAY_IP, 10), false);
	w_none(w);
	net_get_stats(w->net, &s);
	assert_int_equal(s.dropped, 100 - 32); /* bounded */
	w->room = 3;
	net_flush(w->net);
	while (w_next(w))
		n++;
	assert_int_equal(n, 3);
	w->room = -1;
	net_flush(w->net);
	while (w_next(w))
		n++;
	assert_int_equal(n, 32);
}

static void malformed(void **state)
{
	static const struct {
		const char *what;
		size_t at, len;
		uint8_t value;
		bool fix;
	} rows[] = {
		{"not to us", 0, 0, 0x03, false},
		{"multicast", 0, 0, 0x01, false},
		{"IPv6", 12, 0, 0x86, false},
		{"VLAN", 12, 0, 0x81, false},
		{"version 6", 14, 0, 0x65, true},
		{"header of 16 bytes", 14, 0, 0x44, true},
		{"header beyond the packet", 14, 0, 0x4f, true},
		{"header checksum", 22, 0, 65, false},
		{"total length beyond the frame", 16, 0, 1, true},
		{"total length below the header", 17, 0, 19, true},
		{"more fragments", 20, 0, 0x20, true},
		{"fragment offset", 21, 0, 1, true},
		{"source not the guest", 29, 0, 16, true},
		{"source the gateway", 29, 0, 2, true},
		{"no frame", 0, 0, 0x02, false},
		{"half an Ethernet header", 0, 7, 0x02, false},
		{"Ethernet header only", 0, 14, 0x02, false},
		{"half an IP header", 0, 30, 0x02, false},
		{"cut in the payload", 0, 60, 0x02, false},
	};
	struct world *w = *state;
	struct net_stats s;
	uint8_t p[200];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t len = echo(p, NET_GATEWAY_IP, 26);

		print_message("# %s\n", rows[i].what);
		p[rows[i].at] = rows[i].value;
		if (rows[i].fix) {
			set16(p + 24, 0);
			set16(p + 24, (uint16_t)~w_sum(0, p + 14, (size_t)(p[14] & 15) * 4));
		}
		if (rows[i].len)
			len = rows[i].len;
		if (i == 14)
			len = 0;
		w_input(w, p, len, false);
		w_none(w);
		net_get_stats(w->net, &s);
		assert_int_equal(s.dropped, i + 1);
	}
	/* Padding behind the packet and options in the header are legal. */
	echo(p, NET_GATEWAY_IP, 2);
	w_input(w, p, 100, false);
	assert_non_null(w_next(w));
	echo(p, NET_GATEWAY_IP, 26);
	memmove(p + 38, p + 34, 34);
	memcpy(p + 34, "\1\1\1\0", 4);
	p[14] = 0x46;
	set16(p + 16, 20 + 4 + 34);
	set16(p + 24, 0);
	set16(p + 24, (uint16_t)~w_sum(0, p + 14, 24));
	w_input(w, p, 72, false);
	assert_int_equal(w_next(w)->len, 68);
	w_none(w);
}

static void nobody_attached(void **state)
{
	struct world *w = *state;
	uint8_t p[100];

	net_link(w->net, NULL, NULL);
	w_input(w, p, echo(p, NET_GATEWAY_IP, 10), false);
	w_none(w);
	net_reset(w->net);
	net_link(w->net, &w_link, w);
	net_flush(w->net);
	w_none(w);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {T(arp_for_the_gateway), T(ping),
		T(udp_is_refused_at_once), T(datagrams), T(datagrams_wait_in_a_ring), T(dns),
		T(dns_questions_are_bounded), T(replies_wait_for_room), T(malformed),
		T(nobody_attached)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

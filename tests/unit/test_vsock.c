/* SPDX-License-Identifier: Apache-2.0 */
/* The vsock device between a small guest driver and real UNIX sockets. */
#include <sys/resource.h>

#include "vsock_guest.h"

/* ---- tests ---- */

static void test_config(void **state)
{
	uint8_t c[16];
	struct rig r;

	rig_init(&r, 4);
	memset(c, 0xff, sizeof(c));
	r.dev->ops->config_read(r.dev, 0, c, 16);
	assert_memory_equal(c, "\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	memset(c, 0xff, sizeof(c));
	r.dev->ops->config_read(r.dev, 4, c, 4);
	assert_memory_equal(c, "\0\0\0\0", 4);
	r.dev->ops->config_read(r.dev, 4096, c, 16);
	rig_done(&r);
}

static void test_guest_connects(void **state)
{
	struct rig r;
	struct pkt h;
	int fd;

	rig_init(&r, 8);
	fd = guest_connect(&r, 77);
	send_data(&r, 1024, 77, "hello", 5);
	want_host(fd, "hello");
	assert_int_equal(send(fd, "world", 5, 0), 5);
	want_text(&r, 1024, 77, "world");
	assert_true(r.interrupts > 0);
	send_op(&r, 1024, 77, CREDIT_REQUEST);
	h = want(&r, 1024, 77, CREDIT_UPDATE);
	assert_int_equal(h.fwd_cnt, 5);
	/* An empty packet is nothing. */
	send_data(&r, 1024, 77, NULL, 0);
	want_nothing(&r);
	/* A second connection of the same name ends the first. */
	send_op(&r, 1024, 77, REQUEST);
	want(&r, 1024, 77, RST);
	want_eof(fd);
	guest_connect(&r, 77);
	rig_done(&r);
}

static void test_refused(void **state)
{
	struct rig r;
	struct pkt h;

	rig_init(&r, 8);
	r.refuse_port = 22;
	send_op(&r, 22, 5, REQUEST);
	want(&r, 22, 5, RST);
	/* No such connection. */
	for (uint16_t op = RESPONSE; op <= CREDIT_REQUEST; op++) {
		send_op(&r, 1024, 9, op);
		if (op == RST)
			want_nothing(&r);
		else
			want(&r, 1024, 9, RST);
	}
	send_op(&r, 1024, 9, 99);
	want(&r, 1024, 9, RST);
	/* Somebody else's address: dropped. */
	h = packet(&r, 1024, 5, REQUEST);
	h.src_cid = 4;
	send_raw(&r, &h, NULL, 0);
	want_nothing(&r);
	/* To somebody else: refused in their name. */
	h = packet(&r, 1024, 5, REQUEST);
	h.dst_cid = 1234567890123;
	send_raw(&r, &h, NULL, 0);
	assert_true(get(&r, &h, NULL));
	assert_int_equal(h.op, RST);
	assert_int_equal(h.src_cid, 1234567890123);
	/* Another socket type: refused with that type. */
	h = packet(&r, 1024, 5, REQUEST);
	h.type = 2;
	send_raw(&r, &h, NULL, 0);
	assert_true(get(&r, &h, NULL));
	assert_int_equal(h.op, RST);
	assert_int_equal(h.type, 2);
	assert_int_equal(r.accepts, 0);
	rig_done(&r);
}

/* Start a connection from the host; its port as the guest sees it. */
static uint32_t host_connect(struct rig *r, uint32_t guest_port, int *ret_fd)
{
	struct pkt h;
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(vsock_connect(r->vs, sv[1], guest_port), 0);
	assert_true(get(r, &h, NULL));
	assert_int_equal(h.op, REQUEST);
	assert_int_equal(h.dst_port, guest_port);
	assert_true(h.src_port >= VSOCK_HOST_PORT_MIN);
	*ret_fd = sv[0];
	return h.src_port;
}

static void test_host_connects(void **state)
{
	struct rig r;
	uint32_t port, port2;
	int fd, fd2;

	rig_init(&r, 8);
	port = host_connect(&r, 1024, &fd);
	/* What is written early arrives after the guest has accepted. */
	assert_int_equal(send(fd, "early", 5, 0), 5);
	want_nothing(&r);
	send_op(&r, port, 1024, RESPONSE);
	want_text(&r, port, 1024, "early");
	send_data(&r, port, 1024, "answer", 6);
	want_host(fd, "answer");
	/* Refused: end of file at once. */
	port2 = host_connect(&r, 1025, &fd2);
	assert_int_not_equal(port, port2);
	send_op(&r, port2, 1025, RST);
	want_eof(fd2);
	close(fd2);
	want_nothing(&r);
	/* Answered with nonsense: refused by us. */
	port2 = host_connect(&r, 1025, &fd2);
	send_data(&r, port2, 1025, "x", 1);
	want(&r, port2, 1025, RST);
	want_eof(fd2);
	close(fd2);
	/* The host side gives up before the guest answers. */
	port2 = host_connect(&r, 1025, &fd2);
	close(fd2);
	want(&r, port2, 1025, RST);
	/* The host side says something and leaves before the guest answers. */
	port2 = host_connect(&r, 1025, &fd2);
	assert_int_equal(send(fd2, "bye", 3, 0), 3);
	close(fd2);
	want_nothing(&r);
	send_op(&r, port2, 1025, RESPONSE);
	want_text(&r, port2, 1025, "bye");
	assert_int_equal(want(&r, port2, 1025, SHUTDOWN).flags & SEND, SEND);
	close(fd);
	rig_done(&r);
}

static void test_not_up(void **state)
{
	struct rig r;
	int sv[2];

	rig_init(&r, 4);
	virtq_stop(&r.dev->vq[0]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	assert_int_equal(vsock_connect(r.vs, sv[1], 1), -1);
	want_eof(sv[0]);
	close(sv[0]);
	rig_done(&r);
}

static void test_half_close(void **state)
{
	struct rig r;
	struct pkt h;
	int fd;

	/* The host stops sending first. */
	rig_init(&r, 8);
	fd = guest_connect(&r, 1);
	assert_int_equal(send(fd, "last", 4, 0), 4);
	shutdown(fd, SHUT_WR);
	want_text(&r, 1024, 1, "last");
	assert_int_equal(want(&r, 1024, 1, SHUTDOWN).flags, SEND);
	want_nothing(&r);
	send_data(&r, 1024, 1, "still", 5);
	want_host(fd, "still");
	send_flags(&r, 1024, 1, SHUTDOWN, SEND);
	want_eof(fd);
	assert_int_equal(want(&r, 1024, 1, SHUTDOWN).flags, SEND | RCV);
	send_op(&r, 1024, 1, RST);
	want_nothing(&r);
	/* The guest stops sending first. */
	fd = guest_connect(&r, 2);
	send_data(&r, 1024, 2, "request", 7);
	send_flags(&r, 1024, 2, SHUTDOWN, SEND);
	want_host(fd, "request");
	want_eof(fd);
	want_nothing(&r);
	assert_int_equal(send(fd, "response", 8, 0), 8);
	want_text(&r, 1024, 2, "response");
	/* Sending after that is an offence. */
	send_data(&r, 1024, 2, "x", 1);
	want(&r, 1024, 2, RST);
	/* The guest closes: both directions at once. */
	fd = guest_connect(&r, 3);
	send_data(&r, 1024, 3, "bye", 3);
	send_flags(&r, 1024, 3, SHUTDOWN, SEND | RCV);
	want(&r, 1024, 3, RST);
	want_host(fd, "bye");
	want_eof(fd);
	/* The guest only stops receiving. */
	fd = guest_connect(&r, 4);
	send_flags(&r, 1024, 4, SHUTDOWN, RCV);
	turn(&r);
	assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1);
	while (get(&r, &h, NULL))
		assert_int_equal(h.op, SHUTDOWN);
	send_data(&r, 1024, 4, "more", 4);
	want_host(fd, "more");
	rig_done(&r);
}

static void test_host_closes(void **state)
{
	struct rig r;
	struct pkt h;

	rig_init(&r, 8);
	guest_connect(&r, 1);
	close_and_reset(&r.host[0]);
	h = want(&r, 1024, 1, SHUTDOWN);
	if (h.flags != (SEND | RCV))
		h = want(&r, 1024, 1, SHUTDOWN);
	assert_int_equal(h.flags, SEND | RCV);
	/* What was on its way is dropped, but counts as delivered. */
	send_data(&r, 1024, 1, "late", 4);
	want_nothing(&r);
	send_op(&r, 1024, 1, CREDIT_REQUEST);
	assert_int_equal(want(&r, 1024, 1, CREDIT_UPDATE).fwd_cnt, 4);
	send_flags(&r, 1024, 1, SHUTDOWN, SEND | RCV);
	want(&r, 1024, 1, RST);
	/* Unread bytes at close make it a reset on the host; the guest sees an orderly end. */
	guest_connect(&r, 2);
	send_data(&r, 1024, 2, "unread", 6);
	assert_int_equal(send(r.host[1], "fin", 3, 0), 3);
	close_and_reset(&r.host[1]);
	want_text(&r, 1024, 2, "fin");
	assert_int_equal(want(&r, 1024, 2, SHUTDOWN).flags, SEND | RCV);
	rig_done(&r);
}

/* ---- bulk and credit ---- */

static uint8_t pattern(uint64_t i)
{
	return (uint8_t)(i * 2654435761u >> 13);
}

static void fill(uint8_t *p, uint64_t from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = pattern(from + i);
}

static void check(const uint8_t *p, uint64_t from, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != pattern(from + i))
			fail_msg("byte %llu differs", (unsigned long long)(from + i));
}

#define BULK (12u << 20)

/* Both directions at once, through small socket buffers, with partners that stop and go. The guest
 * obeys our credit and checks that we obey its own. */
static void test_bulk(void **state)
{
	static uint8_t out[64 << 10], in[64 << 10];
	uint64_t g_sent = 0, h_got = 0, h_sent = 0, g_got = 0, g_told = 0;
	uint32_t dev_fwd = 0, seed = 1;
	struct rig r;
	int fd;

	rig_init(&r, RING / 2);
	r.sndbuf = 16 << 10;
	r.buf_alloc = 40000;
	fd = guest_connect(&r, 1);
	for (unsigned idle = 0; idle < 1000 && (h_got < BULK || g_got < BULK);) {
		uint64_t before = h_got + g_got;
		struct pkt h;
		ssize_t n;
		size_t len;

		seed = seed * 1103515245 + 12345;
		/* guest to device, as much as credit allows */
		len = MIN(1 + (seed >> 8) % sizeof(out),
			VSOCK_BUF_ALLOC - ((uint32_t)g_sent - dev_fwd));
		len = MIN(len, BULK - g_sent);
		if (len) {
			fill(out, g_sent, len);
			r.fwd_cnt = (uint32_t)g_got;
			g_told = g_got;
			send_data(&r, 1024, 1, out, (uint32_t)len);
			g_sent += len;
		}
		/* host side reads, in streaks */
		while ((seed >> 20 & 3) && (n = recv(fd, in, 1 + seed % sizeof(in), 0)) > 0) {
			check(in, h_got, (size_t)n);
			h_got += (uint64_t)n;
		}
		/* host side writes */
		len = MIN(1 + (seed >> 4) % sizeof(out), BULK - h_sent);
		fill(out, h_sent, len);
		n = len ? send(fd, out, len, 0) : 0;
		h_sent += (uint64_t)MAX(n, 0);
		turn(&r);
		/* guest reads, in streaks */
		while ((seed >> 25 & 3) && get(&r, &h, in)) {
			assert_true(h.op == RW || h.op == CREDIT_UPDATE);
			assert_true(h.fwd_cnt - dev_fwd <= (uint32_t)g_sent - dev_fwd);
			dev_fwd = h.fwd_cnt;
			check(in, g_got, h.len);
			g_got += h.len;
			assert_true(g_got - g_told <= r.buf_alloc);
		}
		if (g_got - g_told >= r.buf_alloc / 2) {
			r.fwd_cnt = (uint32_t)g_got;
			g_told = g_got;
			send_op(&r, 1024, 1, CREDIT_UPDATE);
		}
		r.dev->ops->kick(r.dev, 0);
		turn(&r);
		idle = h_got + g_got == before ? idle + 1 : 0;
	}
	assert_int_equal(h_got, BULK);
	assert_int_equal(g_got, BULK);
	assert_false(r.dev->broken);
	rig_done(&r);
}

static void test_peer_credit(void **state)
{
	char data[RX_BYTES];
	struct rig r;
	struct pkt h;
	int fd;

	rig_init(&r, 8);
	r.buf_alloc = 10;
	fd = guest_connect(&r, 1);
	assert_int_equal(send(fd, "0123456789abcdef", 16, 0), 16);
	want_text(&r, 1024, 1, "0123456789");
	want_nothing(&r);
	/* A window that shrinks below what is in flight is no credit either. */
	r.buf_alloc = 9;
	send_op(&r, 1024, 1, CREDIT_UPDATE);
	want_nothing(&r);
	r.buf_alloc = 10;
	r.fwd_cnt = 4;
	send_op(&r, 1024, 1, CREDIT_UPDATE);
	want_text(&r, 1024, 1, "abcd");
	want_nothing(&r);
	/* More "consumed" than was ever sent is no credit at all. */
	r.fwd_cnt = 500;
	send_op(&r, 1024, 1, CREDIT_UPDATE);
	want_nothing(&r);
	r.fwd_cnt = 14;
	r.buf_alloc = 0;
	send_op(&r, 1024, 1, CREDIT_UPDATE);
	want_nothing(&r);
	r.buf_alloc = 100;
	send_op(&r, 1024, 1, CREDIT_UPDATE);
	turn(&r);
	assert_true(get(&r, &h, data));
	assert_int_equal(h.len, 2);
	assert_memory_equal(data, "ef", 2);
	rig_done(&r);
}

static void test_own_credit(void **state)
{
	static uint8_t out[64 << 10], in[1 << 20];
	uint64_t sent = 0, got = 0;
	struct rig r;
	struct pkt h;
	ssize_t n;
	int fd;

	rig_init(&r, 8);
	r.sndbuf = 4096;
	fd = guest_connect(&r, 1);
	/* Nobody reads: what the socket does not take must fit into what was advertised. */
	for (unsigned i = 0; i < 3; i++, sent += sizeof(out)) {
		fill(out, sent, sizeof(out));
		send_data(&r, 1024, 1, out, sizeof(out));
	}
	want_nothing(&r);
	/* Read some: the guest hears of the room. */
	while (got < 128 << 10) {
		n = recv(fd, in, 4096, 0);
		if (n > 0) {
			check(in, got, (size_t)n);
			got += (uint64_t)n;
		}
		turn(&r);
	}
	h = want(&r, 1024, 1, CREDIT_UPDATE);
	assert_true(h.fwd_cnt >= VSOCK_BUF_ALLOC / 4 && h.fwd_cnt <= sent);
	/* Overrun: a guest that ignores the limit loses the connection. */
	for (unsigned i = 0; i < 8; i++)
		send_data(&r, 1024, 1, out, sizeof(out));
	do {
		turn(&r);
		assert_true(get(&r, &h, NULL));
	} while (h.op == CREDIT_UPDATE);
	assert_int_equal(h.op, RST);
	rig_done(&r);
}

static void test_linger(void **state)
{
	static uint8_t out[64 << 10], in[64 << 10];
	uint64_t sent = 0, got = 0;
	struct rig r;
	ssize_t n;
	int fd;

	rig_init(&r, 8);
	r.sndbuf = 4096;
	fd = guest_connect(&r, 1);
	for (; sent < 3 * sizeof(out); sent += sizeof(out)) {
		fill(out, sent, sizeof(out));
		send_data(&r, 1024, 1, out, sizeof(out));
	}
	send_flags(&r, 1024, 1, SHUTDOWN, SEND | RCV);
	want(&r, 1024, 1, RST);
	/* The guest may use the name again while the host still reads the old bytes. */
	guest_connect(&r, 1);
	send_data(&r, 1024, 1, "new", 3);
	want_host(r.host[1], "new");
	while ((n = recv(fd, in, sizeof(in), 0)) != 0) {
		if (n > 0) {
			check(in, got, (size_t)n);
			got += (uint64_t)n;
		}
		turn(&r);
	}
	assert_int_equal(got, sent);
	rig_done(&r);
}

/* ---- pressure ---- */

static void test_starved(void **state)
{
	unsigned seen[4] = {0}, n = 0, last = 0;
	struct rig r;
	struct pkt h;
	int fd[4];

	rig_init(&r, 0);
	/* Without rx buffers nothing can be said, not even a response. */
	for (uint32_t i = 0; i < 4; i++) {
		send_op(&r, 1024, 10 + i, REQUEST);
		fd[i] = r.host[i];
		for (int k = 0; k < 40; k++)
			assert_int_equal(send(fd[i], (char[2048]){0}, 2048, 0), 2048);
	}
	turn(&r);
	/* … and nobody spins: there is no event at all. */
	for (int i = 0; i < 3; i++) {
		uint64_t t;

		assert_int_equal(loop_once(r.loop, 0, NULL), 0);
		t = loop_now(r.loop);
		assert_int_equal(loop_once(r.loop, 30, NULL), 0);
		assert_true(loop_now(r.loop) - t > 25000000);
	}
	/* One buffer at a time: everybody gets a turn before anybody gets a third. */
	post_rx(&r, 0);
	for (n = 0; n < 4 + 4 * 20; n++) {
		r.dev->ops->kick(r.dev, 0);
		turn(&r);
		assert_true(get(&r, &h, NULL));
		assert_true(h.op == RESPONSE || h.op == RW);
		seen[h.dst_port - 10]++;
		last = n;
	}
	assert_int_equal(last, 83);
	for (int i = 0; i < 4; i++)
		assert_int_equal(seen[i], 1 + 20);
	want_nothing(&r);
	rig_done(&r);
}

static void test_fair(void **state)
{
	unsigned turns = 0, last = 99;
	struct rig r;
	struct pkt h;

	rig_init(&r, 0);
	for (uint32_t i = 0; i < 2; i++) {
		send_op(&r, 1024, 10 + i, REQUEST);
		for (int k = 0; k < 40; k++)
			assert_int_equal(send(r.host[i], (char[4096]){0}, 4096, 0), 4096);
	}
	turn(&r);
	for (unsigned i = 0; i < RING; i++)
		post_rx(&r, i);
	r.dev->ops->kick(r.dev, 0);
	turn(&r);
	for (unsigned i = 0; i < RING; i++) {
		assert_true(get(&r, &h, NULL));
		turns += h.dst_port != last;
		last = h.dst_port;
	}
	/* 64 packets in bursts of 16: neither connection waits for the other's end. */
	assert_true(turns >= 3);
	rig_done(&r);
}

static void test_rst_flood(void **state)
{
	unsigned sent = 0, answered = 0;
	struct rig r;
	struct pkt h;

	rig_init(&r, 0);
	/* The guest provokes RSTs that it leaves no room for: in the end tx waits. */
	h = packet(&r, 1024, 0, RW);
	while (sent < 1000) {
		struct vqd_seg seg = {r.tx_buf, 44};

		memcpy(vqd_ptr(&r.mem, r.tx_buf), &h, 44);
		if (vqd_add(&r.tx, &seg, 1, 0) < 0)
			break;
		sent++;
		r.dev->ops->kick(r.dev, 1);
		while (vqd_get_used(&r.tx, NULL) >= 0)
			;
	}
	assert_int_equal(sent, 128 + RING);
	for (unsigned i = 0; i < 4; i++)
		post_rx(&r, i);
	for (int i = 0; i < 400; i++) {
		r.dev->ops->kick(r.dev, 0);
		turn(&r);
		while (get(&r, &h, NULL)) {
			assert_int_equal(h.op, RST);
			answered++;
		}
	}
	assert_int_equal(answered, sent);
	rig_done(&r);
}

static void test_too_many(void **state)
{
	struct rlimit lim;
	struct rig r;

	/* A pair for each; what a shell gives is often 1024. */
	getrlimit(RLIMIT_NOFILE, &lim);
	if (lim.rlim_max < 2 * VSOCK_CONNS_MAX + 100) {
		print_message("# skipped: the hard limit of descriptors is too low\n");
		skip();
	}
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	rig_init(&r, 8);
	for (uint32_t i = 0; i < VSOCK_CONNS_MAX; i++)
		guest_connect(&r, 1000 + i);
	send_op(&r, 1024, 9, REQUEST);
	want(&r, 1024, 9, RST);
	send_op(&r, 1024, 1500, RST);
	want_eof(r.host[500]);
	close(r.host[500]);
	r.host[500] = r.host[--r.accepts];
	guest_connect(&r, 9);
	/* Reset: everything is closed, nothing is said, and the device works again. */
	r.dev->ops->reset(r.dev);
	for (unsigned i = 0; i < r.accepts; i++) {
		want_eof(r.host[i]);
		close(r.host[i]);
	}
	r.accepts = 0;
	rig_start(&r);
	for (unsigned i = 0; i < 4; i++)
		post_rx(&r, i);
	want_nothing(&r);
	guest_connect(&r, 9);
	rig_done(&r);
}

/* ---- hostile guest ---- */

static void test_malformed(void **state)
{
	struct vqd_seg seg;
	struct rig r;
	struct pkt h;
	int fd;

	rig_init(&r, 8);
	/* Too short for a header. */
	seg = (struct vqd_seg){r.tx_buf, 43};
	assert_true(vqd_add(&r.tx, &seg, 1, 0) >= 0);
	r.dev->ops->kick(r.dev, 1);
	want_nothing(&r);
	assert_false(r.dev->broken);
	/* Nothing readable at all. */
	assert_true(vqd_add(&r.tx, &seg, 0, 1) >= 0);
	r.dev->ops->kick(r.dev, 1);
	want_nothing(&r);
	while (vqd_get_used(&r.tx, NULL) >= 0)
		;
	/* A length that the packet does not have. */
	for (unsigned i = 0; i < 3; i++) {
		fd = guest_connect(&r, 5 + i);
		h = packet(&r, 1024, 5 + i, RW);
		h.len = (const uint32_t[]){5, UINT32_MAX, (64 << 10) + 1}[i];
		send_raw(&r, &h, (char[65537]){0}, i == 2 ? 65537 : 4);
		want(&r, 1024, 5 + i, RST);
		want_eof(fd);
		while (vqd_get_used(&r.tx, NULL) >= 0)
			;
	}
	/* Wrong in this state, or unknown. */
	for (unsigned i = 0; i < 4; i++) {
		fd = guest_connect(&r, 20 + i);
		send_op(&r, 1024, 20 + i, (const uint16_t[]){RESPONSE, 0, 8, 0xffff}[i]);
		want(&r, 1024, 20 + i, RST);
		want_eof(fd);
	}
	want_nothing(&r);
	rig_done(&r);
}

static void test_breaks_device(void **state)
{
	for (int how = 0; how < 4; how++) {
		struct vqd_seg tiny;
		struct rig r;
		int fd;

		rig_init(&r, how == 3 ? 2 : 1);
		fd = guest_connect(&r, 5);
		tiny = (struct vqd_seg){r.tx_buf, how == 0 ? 43 : 44};
		if (how < 2)
			assert_true(vqd_add(&r.rx, &tiny, 0, 1) >= 0);
		else if (how == 2)
			vqd_publish(&r.rx, 999);
		else
			vqd_publish(&r.tx, 999);
		assert_int_equal(send(fd, "ab", 2, 0), 2);
		turn(&r);
		r.dev->ops->kick(r.dev, 1);
		if (how < 3) /* the good buffer is used up first */
			assert_int_equal(send(fd, "ab", 2, 0), 2);
		turn(&r);
		assert_true(r.dev->broken);
		want_closed(fd);
		/* The reset after it brings the device back. */
		r.dev->ops->reset(r.dev);
		r.dev->broken = false;
		rig_start(&r);
		post_rx(&r, 0);
		close(r.host[0]);
		r.accepts = 0;
		guest_connect(&r, 5);
		rig_done(&r);
	}
}

static void test_no_leak(void **state)
{
	unsigned before = vqd_open_fds();

	test_host_connects(state);
	test_host_closes(state);
	test_half_close(state);
	test_linger(state);
	test_malformed(state);
	assert_int_equal(vqd_open_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_guest_connects),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_host_connects),
		cmocka_unit_test(test_not_up),
		cmocka_unit_test(test_half_close),
		cmocka_unit_test(test_host_closes),
		cmocka_unit_test(test_bulk),
		cmocka_unit_test(test_peer_credit),
		cmocka_unit_test(test_own_credit),
		cmocka_unit_test(test_linger),
		cmocka_unit_test(test_starved),
		cmocka_unit_test(test_fair),
		cmocka_unit_test(test_rst_flood),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_breaks_device),
		cmocka_unit_test(test_no_leak),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

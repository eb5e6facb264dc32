/* SPDX-License-Identifier: Apache-2.0 */
/* The bridge to the gate: a scripted guest on one side, a scripted gate on the other, real sockets
 * in between. */
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "net_world.h"
#include "vmm/netgate.h"
#include "wire/link.h"

#define REMOTE 0xc6120001u

struct bed {
	struct world w;
	struct loop *loop;
	struct netgate *ng;
	int gate; /* the gate's end of the link */
	unsigned closed;
	struct link_packet p;
	int fd; /* that came with the last packet; -1 */
};

struct guest {
	struct bed *b;
	uint16_t port;
	uint32_t id, seq, ack;
	int fd; /* the gate's end of the flow; owned */
};

static void on_close(void *arg)
{
	((struct bed *)arg)->closed++;
}

static void spin(struct bed *b)
{
	for (int i = 0; i < 20; i++)
		assert_int_equal(loop_once(b->loop, 0, NULL), 0);
}

static int setup(void **state)
{
	struct bed *b = calloc(1, sizeof(*b));
	struct netgate_config c = {.on_close = on_close, .arg = b, .key = "secret key 1234"};
	int sv[2];

	log_init("test", "netgate", LOG_ERROR);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	b->loop = loop_new(NULL);
	c.gate_fd = sv[0];
	b->gate = sv[1];
	b->fd = -1;
	fd_set_nonblock(b->gate, true);
	b->ng = netgate_new(b->loop, &c, NULL);
	assert_non_null(b->ng);
	b->w = (struct world){.room = -1, .net = netgate_net(b->ng)};
	/* Frames go to the test instead of the device. */
	net_link(b->w.net, &w_link, &b->w);
	net_link_caps(b->w.net, &(struct net_link_caps){.csum = true, .tso = true, .mtu = NET_MTU});
	*state = b;
	return 0;
}
static int teardown(void **state)
{
	struct bed *b = *state;

	netgate_free(b->ng);
	loop_free(b->loop);
	close_and_reset(&b->gate);
	for (size_t i = 0; i < b->w.n_frames; i++)
		free(b->w.frames[i].p);
	free(b->w.frames);
	free(b->w.begun);
	free(b);
	return 0;
}

/* The gate's next message, its descriptor in b->fd; false: none. */
static bool gate_hears(struct bed *b)
{
	int fds[FD_PASS_MAX];
	size_t n;
	ssize_t k = fd_recv(b->gate, &b->p, sizeof(b->p), fds, &n);

	b->fd = -1;
	if (k <= 0)
		return false;
	assert_true(link_check(&b->p, (size_t)k, n));
	if (n)
		b->fd = fds[0];
	return true;
}
static void gate_says(struct bed *b, uint16_t type, uint32_t id)
{
	struct link_msg m = {.type = type, .id = id};

	assert_int_equal(fd_send(b->gate, &m, sizeof(m), NULL, 0), sizeof(m));
}

static void say(struct guest *g, unsigned flags, const void *data, size_t len)
{
	w_send(&g->b->w, &(struct seg){REMOTE, g->port, 443, g->seq, g->ack, flags, 0xffff, NULL, 0,
				 data, len});
	g->seq += (uint32_t)len + !!(flags & FIN);
}
static void say_syn(struct guest *g)
{
	static const uint8_t opts[] = {2, 4, 0xff, 0xd7, 1, 3, 3, 7};

	w_send(&g->b->w,
		&(struct seg){REMOTE, g->port, 443, g->seq++, 0, SYN, 64240, opts, 8, NULL, 0});
}

static struct guest connected(struct bed *b, uint16_t port)
{
	struct guest g = {.b = b, .port = port, .seq = 100};
	struct got r;

	say_syn(&g);
	spin(b);
	assert_true(gate_hears(b));
	assert_int_equal(b->p.m.type, LINK_TCP_OPEN);
	assert_int_equal(b->p.m.addr, REMOTE);
	assert_int_equal(b->p.m.port, 443);
	g.id = b->p.m.id;
	g.fd = b->fd;
	w_none(&b->w);
	gate_says(b, LINK_TCP_ACCEPT, g.id);
	spin(b);
	r = w_seg(&b->w);
	assert_int_equal(r.flags, SYN | ACK);
	g.ack = r.seq + 1;
	say(&g, ACK, NULL, 0);
	w_none(&b->w);
	return g;
}

static void both_ways(void **state)
{
	struct bed *b = *state;
	struct guest g = connected(b, 5000);
	char buf[100];
	struct got r;

	say(&g, ACK | PSH, "request", 7);
	assert_int_equal(w_seg(&b->w).ack, g.seq);
	assert_int_equal(read(g.fd, buf, sizeof(buf)), 7);
	assert_memory_equal(buf, "request", 7);
	assert_int_equal(write(g.fd, "answer", 6), 6);
	spin(b);
	r = w_seg(&b->w);
	assert_int_equal(r.len, 6);
	assert_memory_equal(r.data, "answer", 6);
	g.ack += 6;
	/* Half-close, first the guest, then the gate. */
	say(&g, ACK | FIN, NULL, 0);
	assert_int_equal(w_seg(&b->w).ack, g.seq);
	assert_int_equal(read(g.fd, buf, sizeof(buf)), 0);
	assert_int_equal(write(g.fd, "more", 4), 4);
	close(g.fd);
	spin(b);
	assert_int_equal(w_seg(&b->w).len, 4);
	assert_int_equal(w_seg(&b->w).flags, FIN | ACK);
	g.ack += 5;
	say(&g, ACK, NULL, 0);
	assert_false(net_flow_find(b->w.net, g.id, &(struct net_flow){0}));
	w_none(&b->w);
}

static void gate_closes_first(void **state)
{
	struct bed *b = *state;
	struct guest g = connected(b, 5000);
	char buf[10];

	assert_int_equal(write(g.fd, "bye", 3), 3);
	assert_int_equal(shutdown(g.fd, SHUT_WR), 0);
	spin(b);
	assert_int_equal(w_seg(&b->w).len, 3);
	assert_int_equal(w_seg(&b->w).flags, FIN | ACK);
	g.ack += 4;
	say(&g, ACK, "last words", 10);
	assert_int_equal(w_seg(&b->w).ack, g.seq);
	assert_int_equal(read(g.fd, buf, 10), 10);
	say(&g, ACK | FIN, NULL, 0);
	assert_int_equal(read(g.fd, buf, 10), 0);
	close(g.fd);
	spin(b);
	assert_int_equal(b->closed, 0);
}

static void refused(void **state)
{
	struct bed *b = *state;
	struct guest g = {.b = b, .port = 5000, .seq = 1};

	say_syn(&g);
	assert_true(gate_hears(b));
	close(b->fd); /* the socket may go before the message is looked at */
	gate_says(b, LINK_TCP_REFUSE, b->p.m.id);
	spin(b);
	assert_int_equal(w_seg(&b->w).flags, RST | ACK);
	w_none(&b->w);
}

/* Whatever comes first at our end, it is a reset for the guest and nothing else. */
static void gate_resets(void **state)
{
	struct bed *b = *state;

	for (int how = 0; how < 3; how++) {
		struct guest g = connected(b, (uint16_t)(5000 + how));

		if (how == 1)
			say(&g, ACK, "wakes the socket first", 22);
		gate_says(b, LINK_TCP_RESET, g.id);
		close(g.fd);
		if (how == 2)
			say(&g, ACK, "writes into the closed socket", 29);
		spin(b);
		if (how == 1)
			assert_int_equal(w_seg(&b->w).flags, ACK);
		assert_int_equal(w_seg(&b->w).flags, RST | ACK);
		w_none(&b->w);
	}
}

static void guest_resets(void **state)
{
	struct bed *b = *state;
	struct guest g = connected(b, 5000);
	char c;

	assert_int_equal(write(g.fd, "x", 1), 1);
	spin(b);
	say(&g, RST, NULL, 0);
	assert_int_equal(read(g.fd, &c, 1), -1); /* bytes were lost: not an ordinary end */
	assert_int_equal(errno, ECONNRESET);
	/* Late messages about it are harmless. */
	gate_says(b, LINK_TCP_ACCEPT, g.id);
	gate_says(b, LINK_TCP_REFUSE, g.id);
	gate_says(b, LINK_TCP_RESET, g.id);
	gate_says(b, LINK_TCP_RESET, 999);
	spin(b);
	assert_int_equal(b->closed, 0);
	close(g.fd);
}

/* A gate that does not read: all that was announced is taken, byte by byte if need be; nothing is
 * lost, and the guest learns when it may go on. */
static void gate_stalls(void **state)
{
	struct bed *b = *state;
	const size_t cut[] = {1, 13, 1000, 60000};

	for (size_t c = 0; c < ARRAY_SIZE(cut); c++) {
		struct guest g = connected(b, (uint16_t)(5000 + c));
		uint8_t *data = malloc(64 << 10), *back = malloc(1 << 20);
		size_t sent = 0, got = 0, open = 60000;
		struct got r;

		for (size_t i = 0; i < 64 << 10; i++)
			data[i] = (uint8_t)(i * 7 + (i >> 8));
		while (open) {
			size_t at = sent & 0xffff;
			size_t k = MIN(MIN(open, cut[c]), (64u << 10) - at);

			say(&g, ACK, data + at, k);
			sent += k;
			r = w_seg(&b->w);
			assert_int_equal(r.ack, g.seq); /* taken whole */
			open = (size_t)r.wnd << 5;
			assert_true(sent < 1 << 20);
		}
		assert_true(sent >= 60000);
		for (;;) {
			ssize_t k = read(g.fd, back + got, 10000);

			if (k > 0)
				got += (size_t)k;
			spin(b);
			if (k < 0 && got >= sent)
				break;
		}
		assert_int_equal(got, sent);
		for (size_t i = 0; i < sent; i++)
			assert_int_equal(back[i], data[i & 0xffff]);
		for (r.wnd = 0; b->w.at < b->w.n_frames;)
			r = w_seg(&b->w);
		assert_true(r.wnd << 5 >= 65536);
		close(g.fd);
		free(data);
		free(back);
		say(&g, RST, NULL, 0);
		b->w.at = b->w.n_frames;
	}
}

/* The guest's FIN waits until the gate has room for everything before it. */
static void end_behind_a_stall(void **state)
{
	struct bed *b = *state;
	struct guest g = connected(b, 5000);
	size_t sent = 0, got = 0, open = 60000;
	char buf[8192] = {0};
	ssize_t k;

	while (open && sent < 50000) {
		say(&g, ACK, "0123456789", 10);
		sent += 10;
		open = (size_t)w_seg(&b->w).wnd << 5;
	}
	say(&g, ACK | FIN, NULL, 0);
	assert_int_equal(w_seg(&b->w).ack, g.seq);
	while ((k = read(g.fd, buf, sizeof(buf))) != 0) {
		if (k > 0)
			got += (size_t)k;
		spin(b);
	}
	assert_int_equal(got, sent);
	close(g.fd);
}

/* The guest may lose what it received: the socketpair still has it. */
static void sent_again(void **state)
{
	struct bed *b = *state;
	struct guest g = connected(b, 5000);
	struct got r;

	assert_int_equal(write(g.fd, "abcdef", 6), 6);
	spin(b);
	assert_int_equal(w_seg(&b->w).len, 6);
	assert_int_equal(write(g.fd, "ghi", 3), 3);
	spin(b);
	assert_memory_equal(w_seg(&b->w).data, "ghi", 3);
	g.ack += 2;
	for (int i = 0; i < 4; i++)
		say(&g, ACK, NULL, 0);
	r = w_seg(&b->w);
	assert_int_equal(r.seq, g.ack);
	assert_int_equal(r.len, 7);
	assert_memory_equal(r.data, "cdefghi", 7);
	g.ack += 7;
	say(&g, ACK, NULL, 0);
	assert_int_equal(write(g.fd, "jkl", 3), 3);
	shutdown(g.fd, SHUT_WR);
	spin(b);
	assert_memory_equal(w_seg(&b->w).data, "jkl", 3);
	assert_int_equal(w_seg(&b->w).flags, FIN | ACK);
	for (int i = 0; i < 4; i++)
		say(&g, ACK, NULL, 0);
	assert_memory_equal(w_seg(&b->w).data, "jkl", 3);
	assert_int_equal(w_seg(&b->w).flags, FIN | ACK);
	close(g.fd);
}

static void large_download(void **state)
{
	struct bed *b = *state;
	struct guest g = connected(b, 5000);
	const size_t total = 3 << 20;
	uint8_t *data = malloc(total);
	size_t put = 0, got = 0;

	for (size_t i = 0; i < total; i++)
		data[i] = (uint8_t)((i * 2654435761u) >> 9);
	fcntl(g.fd, F_SETFL, O_NONBLOCK);
	while (got < total) {
		ssize_t k =
			put < total ? write(g.fd, data + put, MIN(total - put, (size_t)50000)) : 0;

		put += k > 0 ? (size_t)k : 0;
		spin(b);
		while (b->w.at < b->w.n_frames) {
			struct got r = w_seg(&b->w);

			assert_int_equal(r.seq, g.ack);
			assert_memory_equal(r.data, data + got, r.len);
			got += r.len;
			g.ack += (uint32_t)r.len;
		}
		say(&g, ACK, NULL, 0);
	}
	close(g.fd);
	free(data);
}

static void dns(void **state)
{
	struct bed *b = *state;
	uint8_t p[200];
	const struct w_frame *f;

	memcpy(p + 42, "what is it", 10);
	set16(p + 34, 1234);
	set16(p + 36, 53);
	set16(p + 38, 18);
	set16(p + 40, 0);
	w_ip(p, NET_GATEWAY_IP, 17, 18);
	w_input(&b->w, p, 52, true);
	assert_true(gate_hears(b));
	assert_int_equal(b->p.m.type, LINK_DNS_QUERY);
	assert_int_equal(b->p.m.len, 10);
	assert_memory_equal(b->p.data, "what is it", 10);
	b->p.m.type = LINK_DNS_ANSWER;
	memcpy(b->p.data, "that is it", 10);
	fd_send(b->gate, &b->p, sizeof(b->p.m) + 10, NULL, 0);
	spin(b);
	f = w_next(&b->w);
	assert_non_null(f);
	assert_memory_equal(f->p + 42, "that is it", 10);
	/* An empty question is none. */
	set16(p + 38, 8);
	w_ip(p, NET_GATEWAY_IP, 17, 8);
	w_input(&b->w, p, 42, true);
	assert_false(gate_hears(b));
}

static void datagrams(void **state)
{
	struct bed *b = *state;
	uint8_t p[200];
	const struct w_frame *f;

	memcpy(p + 42, "what is it", 10);
	set16(p + 34, 1234);
	set16(p + 36, 9999);
	set16(p + 38, 18);
	set16(p + 40, 0);
	w_ip(p, REMOTE, 17, 18);
	w_input(&b->w, p, 52, true);
	assert_true(gate_hears(b));
	assert_int_equal(b->p.m.type, LINK_UDP_OUT);
	assert_int_equal(b->p.m.id, 1234);
	assert_int_equal(b->p.m.addr, REMOTE);
	assert_int_equal(b->p.m.port, 9999);
	assert_int_equal(b->p.m.len, 10);
	assert_memory_equal(b->p.data, "what is it", 10);
	b->p.m.type = LINK_UDP_IN;
	memcpy(b->p.data, "that is it", 10);
	fd_send(b->gate, &b->p, sizeof(b->p.m) + 10, NULL, 0);
	spin(b);
	f = w_next(&b->w);
	assert_non_null(f);
	assert_int_equal(be32(f->p + 26), REMOTE);
	assert_memory_equal(f->p + 42, "that is it", 10);
	b->p.m.type = LINK_UDP_REFUSE;
	b->p.m.len = 0;
	fd_send(b->gate, &b->p, sizeof(b->p.m), NULL, 0);
	spin(b);
	f = w_next(&b->w);
	assert_non_null(f);
	assert_int_equal(be16(f->p + 34), 0x0303);
	/* A link that is full drops them, and only them. */
	for (int i = 0; i < 10000; i++)
		w_input(&b->w, p, 52, true);
	assert_int_equal(b->closed, 0);
	while (gate_hears(b))
		assert_int_equal(b->p.m.type, LINK_UDP_OUT);
}

/* More openings at once than the link holds: they wait their turn, and none is lost. */
static void link_is_full(void **state)
{
	struct bed *b = *state;
	struct rlimit lim;
	unsigned heard = 0;

	getrlimit(RLIMIT_NOFILE, &lim);
	if (lim.rlim_max < 5000) {
		print_message("# skipped: the hard limit of descriptors is below 5000\n");
		skip();
	}
	lim.rlim_cur = lim.rlim_max;
	setrlimit(RLIMIT_NOFILE, &lim);
	for (unsigned i = 0; i < 1500; i++)
		say_syn(&(struct guest){.b = b, .port = (uint16_t)(1000 + i), .seq = i});
	w_none(&b->w);
	for (int idle = 0; idle < 3; idle++) {
		while (gate_hears(b)) {
			assert_int_equal(b->p.m.id, ++heard); /* in order */
			close(b->fd);
			gate_says(b, LINK_TCP_REFUSE, b->p.m.id);
			idle = 0;
		}
		spin(b);
	}
	assert_int_equal(heard, 1500);
	while (b->w.at < b->w.n_frames)
		assert_int_equal(w_seg(&b->w).flags, RST | ACK);
	assert_int_equal(b->w.n_frames, 1500);
}

static void no_descriptors_left(void **state)
{
	struct bed *b = *state;
	struct guest g = {.b = b, .port = 5000, .seq = 1};
	struct rlimit old, none;

	getrlimit(RLIMIT_NOFILE, &old);
	none = old;
	none.rlim_cur = 3;
	setrlimit(RLIMIT_NOFILE, &none);
	log_init("test", "netgate", LOG_ERROR);
	say_syn(&g);
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(w_seg(&b->w).flags, RST | ACK);
	assert_false(gate_hears(b));
	g = connected(b, 5001);
	close(g.fd);
}

static void link_breaks(void **state)
{
	static const struct {
		struct link_msg m;
		size_t len;
	} rows[] = {
		{{0}, 0}, /* hangs up */
		{{.type = LINK_TCP_ACCEPT}, 7},
		{{.type = 77}, sizeof(struct link_msg)},
		{{.type = LINK_TCP_ACCEPT, .len = 5}, sizeof(struct link_msg)},
		/* For somebody else. */
		{{.type = LINK_DNS_QUERY}, sizeof(struct link_msg)},
		{{.type = LINK_READY}, sizeof(struct link_msg)},
		{{.type = LINK_UDP_OUT}, sizeof(struct link_msg)},
	};
	void *again;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct bed *b;
		struct guest g;

		setup(&again);
		b = again;
		g = connected(b, 5000);
		if (rows[i].len)
			assert_true(send(b->gate, &rows[i].m, rows[i].len, 0) > 0);
		else
			close_and_reset(&b->gate);
		spin(b);
		assert_int_equal(b->closed, 1);
		/* Nothing new is taken, nothing falls over. */
		say_syn(&(struct guest){.b = b, .port = 6000, .seq = 1});
		assert_int_equal(w_seg(&b->w).flags, RST | ACK);
		say(&g, ACK, "x", 1);
		close(g.fd);
		spin(b);
		assert_int_equal(b->closed, 1);
		teardown(&again);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {T(both_ways), T(gate_closes_first), T(refused),
		T(gate_resets), T(guest_resets), T(gate_stalls), T(end_behind_a_stall),
		T(sent_again), T(large_download), T(dns), T(datagrams), T(link_is_full),
		T(no_descriptors_left), cmocka_unit_test(link_breaks)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

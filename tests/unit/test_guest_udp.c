/* SPDX-License-Identifier: Apache-2.0 */
/* DIAL_UDP in the guest: datagram boundaries, both loopback addresses, hostile frames. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "guest_client.h"

static int bind_udp(int family, uint16_t *port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET,
		.sin_port = htons(*port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
		.sin6_port = htons(*port),
		.sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr *sa = family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
	socklen_t len = family == AF_INET ? sizeof(v4) : sizeof(v6);
	struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
	int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, sa, len) < 0 || getsockname(fd, sa, &len) < 0) {
		close(fd);
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	*port = ntohs(family == AF_INET ? v4.sin_port : v6.sin6_port);
	return fd;
}

static struct talk dial(const struct guest *g, uint16_t port)
{
	uint8_t le[2] = {(uint8_t)port, (uint8_t)(port >> 8)};
	struct talk t = talk_open(g);

	talk_send(&t, AGENT_DIAL_UDP, le, sizeof(le));
	return t;
}

/* The next DATAGRAM's bytes are in t->in until the next call. */
static struct rd next_datagram(struct talk *t)
{
	struct rd r = {.bad = true};
	uint8_t type;

	for (;;) {
		struct pollfd p = {.fd = t->fd, .events = POLLIN};
		int got = agent_next(&t->in, &type, &r);

		assert_int_not_equal(got, -1);
		if (got)
			break;
		assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
		assert_true(buf_read(&t->in, t->fd, AGENT_PAYLOAD_MAX) > 0);
	}
	assert_int_equal(type, AGENT_DATAGRAM);
	return r;
}

static void test_boundaries(void **state)
{
	static const size_t lens[] = {0, 1, 1500, 0, AGENT_DATAGRAM_MAX, 3};
	static uint8_t data[AGENT_DATAGRAM_MAX + 1], got[AGENT_DATAGRAM_MAX + 1];
	uint16_t port = 0;
	_close_ int s = bind_udp(AF_INET, &port);
	struct talk t = dial(*state, port);
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		struct rd r;

		talk_send(&t, AGENT_DATAGRAM, data, lens[i]);
		assert_int_equal(recvfrom(s, got, sizeof(got), 0, (struct sockaddr *)&peer, &len),
			lens[i]);
		assert_memory_equal(got, data, lens[i]);
		assert_int_equal(ntohl(peer.sin_addr.s_addr), INADDR_LOOPBACK);
		assert_int_equal(sendto(s, data, lens[i], 0, (struct sockaddr *)&peer, len), lens[i]);
		r = next_datagram(&t);
		assert_int_equal(rd_left(&r), lens[i]);
		if (lens[i])
			assert_memory_equal(r.p, data, lens[i]);
		agent_consume(&t.in);
	}
	talk_close(&t);
}

/* Two streams are two peers; a stranger on the guest's loopback is heard by neither. */
static void test_peers(void **state)
{
	uint16_t port = 0, other = 0;
	_close_ int s = bind_udp(AF_INET, &port), stranger = bind_udp(AF_INET, &other);
	struct talk t[2] = {dial(*state, port), dial(*state, port)};
	struct sockaddr_in peer[2];
	socklen_t len = sizeof(peer[0]);
	char got[8];

	for (size_t i = 0; i < 2; i++) {
		talk_send(&t[i], AGENT_DATAGRAM, "hello", 5);
		assert_int_equal(
			recvfrom(s, got, sizeof(got), 0, (struct sockaddr *)&peer[i], &len), 5);
	}
	assert_int_not_equal(peer[0].sin_port, peer[1].sin_port);
	for (size_t i = 0; i < 2; i++) {
		struct rd r;

		sendto(stranger, "x", 1, 0, (struct sockaddr *)&peer[i], len);
		sendto(s, i ? "b" : "a", 1, 0, (struct sockaddr *)&peer[i], len);
		r = next_datagram(&t[i]);
		assert_int_equal(rd_u8(&r), i ? 'b' : 'a');
	}
	talk_close(&t[0]);
	talk_close(&t[1]);
}

/* A server that has bound ::1 alone is found once 127.0.0.1 has refused; one that starts late, too. */
static void check_found(const struct guest *g, int family)
{
	uint16_t port = 0;
	int probe = bind_udp(AF_INET, &port), s;
	struct talk t;
	char got[8];
	bool found = false;

	close(probe);
	t = dial(g, port);
	talk_send(&t, AGENT_DATAGRAM, "early", 5);
	usleep(50000);
	s = bind_udp(family, &port);
	if (s < 0) {
		print_message("no address family %d here\n", family);
		talk_close(&t);
		return;
	}
	fd_set_nonblock(s, true);
	for (unsigned i = 0; i < 6000 && !found; i++) {
		talk_send(&t, AGENT_DATAGRAM, "late", 4);
		usleep(20000);
		found = recv(s, got, sizeof(got), 0) == 4;
	}
	assert_true(found);
	close(s);
	talk_close(&t);
}

static void test_refused(void **state)
{
	check_found(*state, AF_INET6);
	check_found(*state, AF_INET);
}

static void test_hostile(void **state)
{
	static const uint8_t too_long[AGENT_DATAGRAM_MAX + 1];
	uint16_t port = 0;
	_close_ int s = bind_udp(AF_INET, &port);
	struct talk t = dial(*state, 0);

	talk_until(&t, AGENT_ERROR);
	assert_int_equal(t.errnum, EINVAL);
	talk_close(&t);
	t = dial(*state, port);
	talk_send(&t, AGENT_DATAGRAM, too_long, sizeof(too_long));
	talk_until(&t, 0);
	talk_close(&t);
	t = dial(*state, port);
	talk_send(&t, AGENT_STDIN, "x", 1);
	talk_until(&t, 0);
	talk_close(&t);
	t = dial(*state, port); /* and it goes on */
	talk_send(&t, AGENT_DATAGRAM, "", 0);
	assert_int_equal(recv(s, (char[1]){0}, 1, 0), 0);
	talk_close(&t);
}

/* A host that does not read costs datagrams, neither memory nor the server. */
static void test_congestion(void **state)
{
	static const uint8_t data[60000];
	uint16_t port = 0;
	_close_ int s = bind_udp(AF_INET, &port);
	struct talk t = dial(*state, port), other = dial(*state, port);
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);

	talk_send(&t, AGENT_DATAGRAM, "", 0);
	assert_int_equal(recvfrom(s, (char[1]){0}, 1, 0, (struct sockaddr *)&peer, &len), 0);
	for (unsigned i = 0; i < 2000; i++)
		sendto(s, data, sizeof(data), 0, (struct sockaddr *)&peer, len);
	talk_send(&other, AGENT_DATAGRAM, "x", 1);
	assert_int_equal(recv(s, (char[1]){0}, 1, 0), 1);
	for (unsigned i = 0; i < 4; i++) { /* what arrives is whole, and it flows again */
		struct rd r = next_datagram(&t);

		assert_int_equal(rd_left(&r), sizeof(data));
		agent_consume(&t.in);
	}
	talk_close(&t);
	talk_close(&other);
}

#define T(f) cmocka_unit_test_setup_teardown(f, guest_setup, guest_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_boundaries),
		T(test_peers),
		T(test_refused),
		T(test_hostile),
		T(test_congestion),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

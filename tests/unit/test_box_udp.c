/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor's side of published UDP ports: peers, their limits, and a hostile guest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "box/ports.h"

#define STREAMS 160u

/* The guest's ends of the streams, in the order in which they were opened. */
static struct {
	int fd[STREAMS];
	unsigned n;
	bool refuse;
} guest;

int workers_open_stream(struct box *b, int *ret_fd, struct err *err)
{
	int pair[2];

	(void)b;
	if (guest.refuse || guest.n == STREAMS)
		return err_set(err, ERR_ENV, "no more");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	*ret_fd = pair[0];
	guest.fd[guest.n++] = pair[1];
	return 0;
}

struct world {
	struct box box;
	struct udp *udp;
	int fd; /* published */
	struct sockaddr_in at;
};

static int setup(void **state)
{
	struct world *w = xcalloc(1, sizeof(*w));
	socklen_t len = sizeof(w->at);

	guest.n = 0;
	guest.refuse = false;
	w->box.loop = loop_new(NULL);
	w->udp = udp_new(&w->box);
	w->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	w->at = (struct sockaddr_in){
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_equal(bind(w->fd, (struct sockaddr *)&w->at, len), 0);
	assert_int_equal(getsockname(w->fd, (struct sockaddr *)&w->at, &len), 0);
	loop_once(w->box.loop, 0, NULL);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;

	udp_forget(w->udp, w->fd);
	close(w->fd);
	udp_free(w->udp);
	loop_free(w->box.loop);
	for (unsigned i = 0; i < guest.n; i++)
		close(guest.fd[i]);
	free(w);
	return 0;
}

static int client(const struct world *w)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (const struct sockaddr *)&w->at, sizeof(w->at)), 0);
	return fd;
}

static void turn(struct world *w)
{
	for (unsigned i = 0; i < 4; i++)
		loop_once(w->box.loop, 0, NULL);
}

static void expect_frame(unsigned stream, uint8_t type, const void *data, size_t len)
{
	uint8_t got[AGENT_HEADER + 256];

	assert_int_equal(fd_read_all(guest.fd[stream], got, AGENT_HEADER + len), 0);
	assert_int_equal(got[0] | got[1] << 8 | got[2] << 16, len);
	assert_int_equal(got[4], type);
	assert_memory_equal(got + AGENT_HEADER, data, len);
}

static void answer(unsigned stream, uint8_t type, const void *data, size_t len)
{
	struct buf b;

	buf_init(&b, 1u << 20);
	agent_put(&b, type, data, len);
	assert_int_equal(fd_write_all(guest.fd[stream], buf_head(&b), buf_len(&b)), 0);
	buf_done(&b);
}

static bool is_closed(unsigned stream)
{
	char byte;

	return recv(guest.fd[stream], &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

static void test_two_peers(void **state)
{
	struct world *w = *state;
	_close_ int a = client(w), b = client(w);
	char got[16];

	send(a, "one", 3, 0);
	send(a, "", 0, 0);
	send(b, "two", 3, 0);
	udp_receive(w->udp, w->fd, 0x1234);
	assert_int_equal(guest.n, 2);
	expect_frame(0, AGENT_DIAL_UDP, "\x34\x12", 2);
	expect_frame(0, AGENT_DATAGRAM, "one", 3);
	expect_frame(0, AGENT_DATAGRAM, "", 0);
	expect_frame(1, AGENT_DIAL_UDP, "\x34\x12", 2);
	expect_frame(1, AGENT_DATAGRAM, "two", 3);
	answer(1, AGENT_DATAGRAM, "for b", 5);
	answer(1, AGENT_DATAGRAM, "", 0);
	turn(w);
	assert_int_equal(recv(b, got, sizeof(got), MSG_DONTWAIT), 5);
	assert_memory_equal(got, "for b", 5);
	assert_int_equal(recv(b, got, sizeof(got), MSG_DONTWAIT), 0);
	assert_int_equal(recv(a, got, sizeof(got), MSG_DONTWAIT), -1);
	/* What is not published any more ends its flows. */
	udp_forget(w->udp, w->fd);
	assert_true(is_closed(0) && is_closed(1));
}

static void test_hostile_guest(void **state)
{
	static const uint8_t long_one[AGENT_DATAGRAM_MAX + 1];
	static const uint8_t garbage[] = {0xff, 0xff, 0xff, 0xff, AGENT_DATAGRAM};
	struct world *w = *state;
	_close_ int a = client(w);
	char got[16];

	for (unsigned i = 0; i < 3; i++) {
		send(a, "x", 1, 0);
		udp_receive(w->udp, w->fd, 53);
		assert_int_equal(guest.n, i + 1);
		expect_frame(i, AGENT_DIAL_UDP, "\x35\0", 2);
		expect_frame(i, AGENT_DATAGRAM, "x", 1);
		if (i == 0)
			answer(i, AGENT_DATAGRAM, long_one, sizeof(long_one));
		else if (i == 1)
			answer(i, AGENT_ERROR, "", 0);
		else
			assert_int_equal(fd_write_all(guest.fd[i], garbage, sizeof(garbage)), 0);
		turn(w);
		assert_true(is_closed(i));
		assert_int_equal(recv(a, got, sizeof(got), MSG_DONTWAIT), -1);
	}
	guest.refuse = true; /* no stream: the datagram is lost, and that is all */
	send(a, "x", 1, 0);
	udp_receive(w->udp, w->fd, 53);
	guest.refuse = false;
	send(a, "y", 1, 0);
	udp_receive(w->udp, w->fd, 53);
	expect_frame(3, AGENT_DIAL_UDP, "\x35\0", 2);
	expect_frame(3, AGENT_DATAGRAM, "y", 1);
}

/* More peers than places: the one that has been silent the longest gives way. */
static void test_limits(void **state)
{
	static const uint8_t data[60000];
	struct world *w = *state;
	int c[130];
	unsigned closed = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		c[i] = client(w);
		send(c[i], "x", 1, 0);
		udp_receive(w->udp, w->fd, 53);
		usleep(1000);
		loop_once(w->box.loop, 0, NULL);
		if (i == 100) {
			send(c[0], "still here", 10, 0);
			udp_receive(w->udp, w->fd, 53);
		}
	}
	assert_int_equal(guest.n, ARRAY_SIZE(c));
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		char bytes[64];

		while (recv(guest.fd[i], bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
			;
		closed += is_closed(i);
		assert_int_equal(is_closed(i), i == 1 || i == 2);
	}
	assert_int_equal(closed, 2);
	/* A guest that does not read costs datagrams, not memory. */
	for (unsigned i = 0; i < 100; i++) {
		send(c[0], data, sizeof(data), 0);
		udp_receive(w->udp, w->fd, 53);
	}
	assert_false(is_closed(0));
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++)
		close(c[i]);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_two_peers),
		T(test_hostile_guest),
		T(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

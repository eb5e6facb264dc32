/* SPDX-License-Identifier: Apache-2.0 */
/* The gate between a VMM and a server that send anything: messages of the link, the guest's streams,
 * datagrams, a server's answers. All of hutch-gate but its process. Names lead to sockets of ours on
 * the loopback, every other destination is refused. No input ends the gate, and afterwards no
 * connection is left.
 *
 * Input: steps of one byte what, one byte which, two bytes length, data. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "gate/flow.h"
#include "gate/gate.h"
#include "gate/udp.h"

#define STREAMS 8 /* of the guest, and of the server */
#define STEPS   256

enum { OPEN, WRITE, SHUT, CLOSE, ASK, PACKET, DATAGRAM, ANSWER, FINISH, WHATS };

/* Raw TCP, HTTP by rule, HTTP without, datagrams, and one that no rule allows. */
static const struct {
	const char *name;
	uint16_t port;
} to[] = {{"raw.test", 9}, {"ruled.test", 80}, {"plain.test", 80}, {"udp.test", 53}, {"no.test", 80},
	{"plain.test", 443}, {"no.test", 443}, {"raw.test", 22}};

static char dir[] = "/dev/shm/hutch-fuzz-gate-XXXXXX";
static struct gate g = {.control = {.fd = -1}, .link = {.fd = -1},
	.broker = -1, .tokens = -1, .max_flows = 64};
static int vmm = -1, tcp_server = -1, udp_server = -1;
static int streams[STREAMS], served[STREAMS];
static unsigned n_served;

static void shut(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void remove_dir(void)
{
	fs_remove_tree(AT_FDCWD, dir, NULL);
}

static int server(int type, uint16_t *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ||
		getsockname(fd, (struct sockaddr *)&a, &len) < 0 ||
		(type == SOCK_STREAM && listen(fd, 64) < 0))
		abort();
	*port = ntohs(a.sin_port);
	return fd;
}

static void ask(void *arg, const char *id, const char *rule)
{
	(void)arg, (void)id, (void)rule;
}

static struct config *configuration(uint16_t tcp, uint16_t udp)
{
	_free_ char *line = xasprintf(
		"{\"op\":\"configure\",\"name\":\"fuzz\",\"network\":{\"rules\":["
		"{\"allow\":true,\"target\":\"raw.test:*\",\"source\":\"f\"},"
		"{\"allow\":true,\"target\":\"GET,POST ruled.test:80/a/**\",\"source\":\"f\"},"
		"{\"allow\":true,\"target\":\"plain.test:*\",\"source\":\"f\"},"
		"{\"allow\":true,\"target\":\"udp udp.test:53\",\"source\":\"f\"}],\"credentials\":[],\"resolves\":["
		"{\"name\":\"raw.test\",\"address\":\"127.0.0.1:%u\"},"
		"{\"name\":\"ruled.test\",\"address\":\"127.0.0.1:%u\"},"
		"{\"name\":\"plain.test\",\"address\":\"127.0.0.1:%u\"},"
		"{\"name\":\"udp.test\",\"address\":\"127.0.0.1:%u\"}]}}",
		tcp, tcp, tcp, udp);
	struct err err;
	struct config *c = config_parse(line, strlen(line), &err);

	if (!c) {
		fprintf(stderr, "%s\n", err.msg);
		abort();
	}
	return c;
}

static void make(void)
{
	uint16_t tcp = 0, udp = 0;
	int pair[2], dirfd;

	log_init("gate", "fuzz", LOG_ERROR);
	if (!mkdtemp(dir))
		abort();
	atexit(remove_dir);
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	tcp_server = server(SOCK_STREAM, &tcp);
	udp_server = server(SOCK_DGRAM, &udp);
	g.config = configuration(tcp, udp);
	g.http2_budget.max = GATE_HTTP2_MAX;
	g.loop = loop_new(NULL);
	g.tls = tls_shared_new(NULL);
	g.dialer = dialer_new(g.loop, NULL);
	g.values = values_new(g.loop, -1, NULL);
	g.ca = ca_open(dirfd, "fuzz", NULL);
	g.audit = audit_new(g.loop, dirfd, "fuzz");
	g.asks = asks_new(g.loop, dirfd, ask, NULL);
	if (!g.loop || !g.tls || !g.dialer || !g.values || !g.ca ||
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	/* Opens the log. */
	audit_write(g.audit, &(struct audit_record){.proto = AUDIT_DNS, .name = "first"});
	vmm = pair[0];
	if (link_start(&g, pair[1]) < 0)
		abort();
}

/* What the gate says is read, so that it never waits for us. */
static void drain(int fd)
{
	static uint8_t sink[65536 + 64];

	while (fd >= 0 && recv(fd, sink, sizeof(sink), MSG_DONTWAIT) > 0)
		;
}

static void turn(void)
{
	for (int i = 0; i < 3; i++)
		if (loop_once(g.loop, 0, NULL) < 0)
			abort();
	drain(vmm);
	for (int i = 0; i < STREAMS; i++)
		drain(streams[i]), drain(served[i]);
}

static void link_out(struct link_msg m, const void *data, int fd)
{
	struct link_packet p = {.m = m};

	memcpy(p.data, data, m.len);
	fd_send(vmm, &p, sizeof(m) + m.len, &fd, fd >= 0);
}

static uint32_t address(unsigned which)
{
	return names_addr(g.names, to[which].name, true);
}

static void open_stream(unsigned which)
{
	unsigned i = which / ARRAY_SIZE(to) % STREAMS, where = which % ARRAY_SIZE(to);
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	shut(&streams[i]);
	streams[i] = pair[0];
	link_out((struct link_msg){.type = LINK_TCP_OPEN, .id = which, .addr = address(where),
			 .port = to[where].port},
		"", pair[1]);
	close(pair[1]);
}

static void answer(unsigned which, const uint8_t *p, size_t n)
{
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	uint8_t byte[1];
	int fd;

	while ((fd = accept4(tcp_server, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		shut(&served[n_served % STREAMS]);
		served[n_served++ % STREAMS] = fd;
	}
	if (served[which % STREAMS] >= 0)
		send(served[which % STREAMS], p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (recvfrom(udp_server, byte, 1, MSG_DONTWAIT, (struct sockaddr *)&peer, &len) >= 0)
		sendto(udp_server, p, n, MSG_DONTWAIT, (struct sockaddr *)&peer, len);
}

/* The message as it comes, its length made right in most cases, with or without a descriptor. */
static void packet(unsigned which, const uint8_t *p, size_t n)
{
	static struct link_packet m;
	int fd = which & 1 ? dup(vmm) : -1;

	n = MIN(n, sizeof(m));
	memcpy(&m, p, n);
	if (which & 2 && n >= sizeof(m.m))
		m.m.len = (uint32_t)(n - sizeof(m.m));
	fd_send(vmm, &m, n, &fd, fd >= 0);
	shut(&fd);
}

static void step(unsigned what, unsigned which, const uint8_t *p, size_t n)
{
	int *stream = &streams[which % STREAMS];
	unsigned where = which % ARRAY_SIZE(to);

	switch (what) {
	case OPEN:
		open_stream(which);
		break;
	case WRITE:
		if (*stream >= 0)
			send(*stream, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case SHUT:
		if (*stream >= 0)
			shutdown(*stream, which & 64 ? SHUT_RDWR : SHUT_WR);
		break;
	case CLOSE:
		shut(stream);
		break;
	case ASK:
		link_out((struct link_msg){.type = LINK_DNS_QUERY, .id = which, .len = (uint32_t)n}, p, -1);
		break;
	case PACKET:
		packet(which, p, n);
		break;
	case DATAGRAM:
		link_out((struct link_msg){.type = LINK_UDP_OUT, .id = 1000 + which,
				 .addr = address(where), .port = to[where].port, .len = (uint32_t)n},
			p, -1);
		break;
	case ANSWER:
		answer(which, p, n);
		break;
	case FINISH:
		shut(&served[which % STREAMS]);
		break;
	default:
		break;
	}
}

static void end_streams(void)
{
	for (int i = 0; i < STREAMS; i++)
		shut(&streams[i]), shut(&served[i]);
}

/* The lowest number that is free, so that one that is left open shows. */
static int free_descriptor(void)
{
	int fd = dup(vmm);

	if (fd < 0)
		abort();
	close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t key[16];
	int first;

	if (vmm < 0)
		make();
	first = free_descriptor();
	g.names = names_new(key);
	g.udp = udp_new(&g);
	for (int i = 0; i < STREAMS; i++)
		streams[i] = served[i] = -1;
	n_served = 0;
	for (int i = 0; i < STEPS && size >= 4; i++) {
		size_t n = MIN((size_t)data[2] | (size_t)data[3] << 8, size - 4);

		n = MIN(n, (size_t)LINK_DATA_MAX);
		step(data[0] % WHATS, data[1], data + 4, n);
		turn();
		data += 4 + n;
		size -= 4 + n;
	}
	end_streams();
	turn();
	flow_end_all(&g);
	answer(0, data, 0); /* takes those that nobody has taken yet */
	end_streams();
	if (g.n_flows || g.flows)
		abort();
	udp_free(g.udp);
	names_free(g.names);
	drain(vmm);
	if (free_descriptor() != first)
		abort();
	return 0;
}

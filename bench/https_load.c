/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends of bench/gate: an HTTPS server with small answers, and a client with many keep-alive
 * connections that goes directly, through a UNIX socket (the gate's guest) or through CONNECT
 *(other proxies). One thread each, so that what is measured is what is between them.
 *
 *	https_load serve PORT CERT KEY BODY-BYTES
 *	https_load load  tcp:PORT|unix:PATH  NAME:PORT|-  NAME CA CONNECTIONS SECONDS
 *
 * The second argument of load is what CONNECT asks for, "-" for none. Prints one line: requests,
 *seconds, failed connections, and the median and 99th percentile of a request's time in
 *microseconds. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#define BUFFER  16384
#define SAMPLES 4000000u

enum state { CONNECTING, SHAKING, WRITING, READING };

struct conn {
	int fd;
	SSL *ssl;
	enum state state;
	size_t have; /* bytes in data */
	uint64_t begun_ns;
	char data[BUFFER];
};

static int epfd;
static SSL_CTX *ctx;
static char message[BUFFER]; /* the request, or the answer */
static size_t message_len;
static const char *connect_to; /* of CONNECT, or NULL */
static const char *server_name;
static uint32_t *samples;
static unsigned long n_requests, n_failed;
static bool measuring, serving;

static void die(const char *what)
{
	perror(what);
	ERR_print_errors_fp(stderr);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void watch(struct conn *c, uint32_t events, int op)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};

	if (epoll_ctl(epfd, op, c->fd, &ev) < 0)
		die("epoll_ctl");
}

static struct conn *conn_new(int fd)
{
	struct conn *c = calloc(1, sizeof(*c));
	int one = 1;

	if (!c)
		die("memory");
	fcntl(fd, F_SETFL, O_NONBLOCK);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->fd = fd;
	c->ssl = SSL_new(ctx);
	SSL_set_fd(c->ssl, fd);
	c->state = SHAKING;
	return c;
}

static void conn_end(struct conn *c, bool failed)
{
	if (failed && !serving)
		n_failed++;
	SSL_free(c->ssl);
	close(c->fd);
	free(c);
}

/* Length of the first message in data with a Content-Length or without body; 0: incomplete. */
static size_t message_end(struct conn *c)
{
	char *end, *length;

	c->data[c->have] = '\0';
	end = strstr(c->data, "\r\n\r\n");
	if (!end)
		return 0;
	*end = '\0';
	length = strcasestr(c->data, "\r\ncontent-length:");
	*end = '\r';
	return (size_t)(end + 4 - c->data) + (length ? strtoul(length + 17, NULL, 10) : 0);
}

static bool finished_request(struct conn *c)
{
	uint64_t took = now_ns() - c->begun_ns;

	if (strncmp(c->data, "HTTP/1.1 200 ", 13) != 0) {
		fprintf(stderr, "%.200s\n", c->data);
		return false;
	}
	if (measuring) {
		samples[n_requests++ % SAMPLES] = (uint32_t)(took / 1000);
	}
	return true;
}

/* Send the message of our side. */
static bool do_write(struct conn *c)
{
	int n = SSL_write(c->ssl, message, (int)message_len);

	if (n != (int)message_len)
		return SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_WRITE;
	c->begun_ns = serving ? 0 : c->begun_ns;
	c->state = READING;
	return true;
}

static bool start_request(struct conn *c)
{
	c->begun_ns = now_ns();
	c->state = WRITING;
	return do_write(c);
}

static bool do_read(struct conn *c)
{
	for (;;) {
		int n = SSL_read(c->ssl, c->data + c->have, (int)(BUFFER - 1 - c->have));
		size_t end;

		if (n <= 0)
			return SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ;
		c->have += (size_t)n;
		end = message_end(c);
		if (!end || c->have < end)
			continue;
		if (!serving && !finished_request(c))
			return false;
		memmove(c->data, c->data + end, c->have - end);
		c->have -= end;
		if (!(serving ? do_write(c) : start_request(c)))
			return false;
	}
}

static bool do_shake(struct conn *c)
{
	int r = serving ? SSL_accept(c->ssl) : SSL_connect(c->ssl);

	if (r != 1) {
		int e = SSL_get_error(c->ssl, r);

		return e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE;
	}
	c->state = READING;
	return serving ? do_read(c) : start_request(c);
}

/* The proxy's answer to CONNECT. */
static bool do_connect(struct conn *c)
{
	ssize_t n = recv(c->fd, c->data + c->have, BUFFER - 1 - c->have, 0);

	if (n < 0 && errno == EAGAIN)
		return true;
	if (n <= 0)
		return false;
	c->have += (size_t)n;
	if (!message_end(c))
		return true;
	if (strncmp(c->data + 8, " 200", 4) != 0)
		return false;
	c->have = 0;
	c->state = SHAKING;
	return do_shake(c);
}

static bool step(struct conn *c)
{
	switch (c->state) {
	case CONNECTING:
		return do_connect(c);
	case SHAKING:
		return do_shake(c);
	case WRITING:
		return do_write(c);
	case READING:
		return do_read(c);
	default:
		return false;
	}
}

static void serve_events(int timeout_ms, int listener)
{
	struct epoll_event ev[256];
	int n = epoll_wait(epfd, ev, 256, timeout_ms);

	for (int i = 0; i < n; i++) {
		struct conn *c = ev[i].data.ptr;
		int fd;

		if (c) {
			if (!step(c))
				conn_end(c, true);
			continue;
		}
		while ((fd = accept(listener, NULL, NULL)) >= 0)
			watch(conn_new(fd), EPOLLIN | EPOLLOUT | EPOLLET, EPOLL_CTL_ADD);
	}
}

static void serve(int port, const char *cert, const char *key, size_t body)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
	struct epoll_event ev = {.events = EPOLLIN};

	ctx = SSL_CTX_new(TLS_server_method());
	if (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 ||
		SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1)
		die(cert);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 4096) < 0)
		die("listen");
	message_len = (size_t)snprintf(message, sizeof(message),
		"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n", body);
	memset(message + message_len, 'x', body);
	message_len += body;
	epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev);
	puts("ready");
	fflush(stdout);
	for (;;)
		serve_events(-1, fd);
}

static int dial(const char *to)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct sockaddr_in in = {.sin_family = AF_INET};
	bool is_unix = strncmp(to, "unix:", 5) == 0;
	int fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", to + (is_unix ? 5 : 0));
	in.sin_port = htons((uint16_t)atoi(to + 4));
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, is_unix ? (struct sockaddr *)&un : (struct sockaddr *)&in,
		    is_unix ? sizeof(un) : sizeof(in)) < 0)
		die(to);
	return fd;
}

static void open_conn(const char *to)
{
	struct conn *c = conn_new(dial(to));
	char text[1024];

	SSL_set_tlsext_host_name(c->ssl, server_name);
	SSL_set1_host(c->ssl, server_name);
	if (connect_to) {
		int n = snprintf(text, sizeof(text), "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n",
			connect_to, connect_to);

		if (send(c->fd, text, (size_t)n, 0) != n)
			die("CONNECT");
		c->state = CONNECTING;
	}
	watch(c, EPOLLIN | EPOLLOUT | EPOLLET, EPOLL_CTL_ADD);
}

static int by_value(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void load(const char *to, const char *ca, unsigned n, double seconds)
{
	uint64_t begin, end;
	size_t kept;

	samples = calloc(SAMPLES, sizeof(*samples));
	ctx = SSL_CTX_new(TLS_client_method());
	if (!samples || SSL_CTX_load_verify_locations(ctx, ca, NULL) != 1)
		die(ca);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	message_len = (size_t)snprintf(message, sizeof(message),
		"GET /small HTTP/1.1\r\nHost: %s\r\nUser-Agent: https_load\r\nAccept: */*\r\n\r\n",
		/* With the port, where it is not the usual one. */
		connect_to && strncmp(connect_to, server_name, strlen(server_name)) == 0
			? connect_to
			: server_name);
	/* In steps, or the proxies' queues of new connections overflow. */
	for (unsigned i = 0; i < n; i++) {
		open_conn(to);
		serve_events(i % 8 == 7 ? 5 : 0, -1);
	}
	end = now_ns() + (n > 16 ? 3000000000u : 300000000u);
	while (now_ns() < end)
		serve_events(10, -1);
	measuring = true;
	begin = now_ns();
	end = begin + (uint64_t)(seconds * 1e9);
	while (now_ns() < end)
		serve_events(10, -1);
	seconds = (double)(now_ns() - begin) / 1e9;
	kept = n_requests < SAMPLES ? n_requests : SAMPLES;
	qsort(samples, kept, sizeof(*samples), by_value);
	printf("%lu %.3f %lu %u %u\n", n_requests, seconds, n_failed, kept ? samples[kept / 2] : 0,
		kept ? samples[kept * 99 / 100] : 0);
}

int main(int argc, char **argv)
{
	struct rlimit files;

	signal(SIGPIPE, SIG_IGN);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	epfd = epoll_create1(EPOLL_CLOEXEC);
	if (argc == 6 && strcmp(argv[1], "serve") == 0) {
		serving = true;
		serve(atoi(argv[2]), argv[3], argv[4], strtoul(argv[5], NULL, 10));
	}
	if (argc != 8 || strcmp(argv[1], "load") != 0) {
		fprintf(stderr, "see the head of bench/https_load.c\n");
		return 2;
	}
	connect_to = strcmp(argv[3], "-") == 0 ? NULL : argv[3];
	server_name = argv[4];
	load(argv[2], argv[5], (unsigned)atoi(argv[6]), strtod(argv[7], NULL));
	return 0;
}

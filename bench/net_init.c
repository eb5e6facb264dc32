/* SPDX-License-Identifier: Apache-2.0 */
/* The init of bench/net's guests: loads the pack's modules, configures the network as every sandbox
 *has it, and works against a server on the host, which it says on the console:
 *
 *	work up 73400320 1000123      name, bytes or connections, microseconds
 *
 * The server is told with the first byte, which begins no HTTP, what to do (bench/net). Kernel
 *parameters: net_name=NAME (to be asked for at the gateway) or net_addr=ADDRESS, net_port=PORT,
 *net_ms=MS (how long a stream runs), net_short=N (connections). */
#include <arpa/inet.h>
#include <net/if.h>
#include <net/route.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "guest_init.h"

#define BLOCK 262144u

static uint8_t block[BLOCK];
static struct sockaddr_in server = {.sin_family = AF_INET};

static void set_addr(struct sockaddr *to, const char *text)
{
	struct sockaddr_in in = {.sin_family = AF_INET};

	inet_pton(AF_INET, text, &in.sin_addr);
	memcpy(to, &in, sizeof(in));
}

static void configure(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
	struct ifreq r = {.ifr_name = "eth0"};

	/* The driver probes on its own time. */
	for (int tries = 0; ioctl(fd, SIOCGIFINDEX, &r) < 0; tries++, usleep(10000))
		if (tries == 1000)
			fail("eth0");
	set_addr(&r.ifr_addr, "10.0.2.15");
	if (ioctl(fd, SIOCSIFADDR, &r) < 0)
		fail("address");
	set_addr(&r.ifr_netmask, "255.255.255.0");
	if (ioctl(fd, SIOCSIFNETMASK, &r) < 0)
		fail("netmask");
	r.ifr_flags = IFF_UP;
	if (ioctl(fd, SIOCSIFFLAGS, &r) < 0)
		fail("up");
	set_addr(&route.rt_dst, "0.0.0.0");
	set_addr(&route.rt_genmask, "0.0.0.0");
	set_addr(&route.rt_gateway, "10.0.2.2");
	if (ioctl(fd, SIOCADDRT, &route) < 0)
		fail("route");
	close(fd);
}

/* One question to the gateway; the answer's last four bytes are the address. */
static void look_up(const char *name)
{
	struct sockaddr_in dns = {.sin_family = AF_INET, .sin_port = htons(53)};
	struct timeval wait = {.tv_sec = 2};
	uint8_t q[300] = {1, 2, 1, 0, 0, 1}, a[512];
	size_t at = 12;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	inet_pton(AF_INET, "10.0.2.2", &dns.sin_addr);
	while (*name && at < 200) {
		size_t n = strcspn(name, ".");

		q[at++] = (uint8_t)n;
		memcpy(q + at, name, n);
		at += n;
		name += n + (name[n] == '.');
	}
	q[at + 2] = 1; /* A */
	q[at + 4] = 1; /* IN */
	at += 5;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	for (int tries = 0; tries < 5; tries++) {
		ssize_t n;

		sendto(fd, q, at, 0, (struct sockaddr *)&dns, sizeof(dns));
		n = recv(fd, a, sizeof(a), 0);
		if (n > (ssize_t)at + 4) {
			memcpy(&server.sin_addr, a + n - 4, 4);
			close(fd);
			return;
		}
	}
	fail("name");
}

static int dial(char what)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&server, sizeof(server)) < 0 || write(fd, &what, 1) != 1)
		fail("connect");
	return fd;
}

static void said(const char *name, uint64_t n, uint64_t begin)
{
	printf("work %s %llu %llu\n", name, (unsigned long long)n,
		(unsigned long long)(now_us() - begin));
}

/* Until the host has all of it. */
static void up(uint64_t ms)
{
	uint64_t sent = 0, begin = now_us();
	char text[32] = "";
	int fd = dial('\1');

	while (now_us() - begin < ms * 1000) {
		ssize_t n = write(fd, block, sizeof(block));

		if (n <= 0)
			fail("write");
		sent += (uint64_t)n;
	}
	shutdown(fd, SHUT_WR);
	if (read(fd, text, sizeof(text) - 1) <= 0 || strtoull(text, NULL, 10) != sent)
		fail("not all of it arrived");
	close(fd);
	said("up", sent, begin);
}

static void down(uint64_t ms)
{
	uint64_t got = 0, begin = now_us();
	int fd = dial('\2');

	while (now_us() - begin < ms * 1000) {
		ssize_t n = read(fd, block, sizeof(block));

		if (n <= 0)
			fail("read");
		got += (uint64_t)n;
	}
	said("down", got, begin);
	close(fd);
}

static void short_ones(unsigned n)
{
	uint64_t begin = now_us();
	char c;

	for (unsigned i = 0; i < n; i++) {
		int fd = dial('\3');

		if (read(fd, &c, 1) != 1)
			fail("echo");
		close(fd);
	}
	said("short", n, begin);
}

static unsigned long number(const char *name, unsigned long otherwise)
{
	const char *s = getenv(name);

	return s ? strtoul(s, NULL, 10) : otherwise;
}

int main(void)
{
	const char *name = getenv("net_name"), *addr = getenv("net_addr");

	mkdir("/proc", 0755);
	mkdir("/dev", 0755);
	if (mount("dev", "/dev", "devtmpfs", 0, NULL) < 0)
		return 1;
	if (!freopen("/dev/console", "w", stdout))
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	load_modules(true);
	configure();
	server.sin_port = htons((uint16_t)number("net_port", 7));
	if (name)
		look_up(name);
	else if (addr)
		inet_pton(AF_INET, addr, &server.sin_addr);
	short_ones(10); /* warm-up: under emulation the first time is translation */
	up(200);
	up(number("net_ms", 2000));
	down(200);
	down(number("net_ms", 2000));
	short_ones((unsigned)number("net_short", 1000));
	printf("end\n");
	return reboot(RB_AUTOBOOT);
}

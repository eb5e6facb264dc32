/* SPDX-License-Identifier: Apache-2.0 */
/* Network: lo and eth0 with a static address over rtnetlink, and the files that name services. The
 * addresses are the sandbox's link, the same in every sandbox: the host is the only peer. */
#include "guest/init.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <arpa/inet.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/rd.h"

#define GUEST_ADDR   "10.0.2.15"
#define GATEWAY_ADDR "10.0.2.2"
#define PREFIX_LEN   24

/* Begin a message; its length is filled in by msg_end. Netlink lengths and attributes are 4-byte
 * aligned, which every item put here is. */
static size_t msg_begin(struct buf *b, uint16_t type, uint16_t flags, const void *body, size_t len)
{
	size_t mark = buf_len(b);
	struct nlmsghdr h = {.nlmsg_type = type,
		.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags),
		.nlmsg_seq = (uint32_t)mark + 1};

	buf_put(b, &h, sizeof(h));
	buf_put(b, body, len);
	return mark;
}

static void msg_attr32(struct buf *b, uint16_t type, uint32_t value)
{
	struct rtattr a = {.rta_len = RTA_LENGTH(sizeof(value)), .rta_type = type};

	buf_put(b, &a, sizeof(a));
	buf_put(b, &value, sizeof(value));
}

static void msg_end(struct buf *b, size_t mark)
{
	uint32_t len = (uint32_t)(buf_len(b) - mark);

	memcpy(buf_head(b) + mark, &len, sizeof(len));
}

static void put_link_up(struct buf *b, unsigned index)
{
	struct ifinfomsg i = {.ifi_index = (int)index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};

	msg_end(b, msg_begin(b, RTM_NEWLINK, 0, &i, sizeof(i)));
}

static void put_address(struct buf *b, unsigned index)
{
	struct ifaddrmsg a = {
		.ifa_family = AF_INET, .ifa_prefixlen = PREFIX_LEN, .ifa_index = index};
	size_t mark = msg_begin(b, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &a, sizeof(a));

	msg_attr32(b, IFA_LOCAL, inet_addr(GUEST_ADDR));
	msg_attr32(b, IFA_ADDRESS, inet_addr(GUEST_ADDR));
	msg_attr32(b, IFA_BROADCAST, inet_addr(GUEST_ADDR) | htonl(0xff));
	msg_end(b, mark);
}

static void put_route(struct buf *b, unsigned index)
{
	struct rtmsg r = {.rtm_family = AF_INET,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_BOOT,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST};
	size_t mark = msg_begin(b, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &r, sizeof(r));

	msg_attr32(b, RTA_GATEWAY, inet_addr(GATEWAY_ADDR));
	msg_attr32(b, RTA_OIF, index);
	msg_end(b, mark);
}

/* Read acknowledgements for @want messages from the kernel. */
static int read_acks(int s, unsigned want, struct err *err)
{
	while (want) {
		uint8_t reply[8192];
		ssize_t n = recv(s, reply, sizeof(reply), 0);
		struct rd r = rd_make(reply, n > 0 ? (size_t)n : 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_errno(err, "network: netlink");
		while (rd_left(&r)) {
			struct nlmsghdr h;
			struct rd body;
			int32_t result;

			rd_copy(&r, &h, sizeof(h));
			body = rd_sub(&r, NLMSG_ALIGN(h.nlmsg_len) - sizeof(h));
			rd_copy(&body, &result, sizeof(result));
			if (!rd_ok(&r) || h.nlmsg_type != NLMSG_ERROR || !rd_ok(&body))
				continue;
			if (result) {
				errno = -result;
				return err_errno(err, "network: step %u", h.nlmsg_seq);
			}
			want -= want > 0;
		}
	}
	return 0;
}

int net_up(struct err *err)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	struct ifreq name = {.ifr_name = "eth0"};
	_close_ int s = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	unsigned eth =
		s >= 0 && ioctl(s, SIOCGIFINDEX, &name) == 0 ? (unsigned)name.ifr_ifindex : 0;
	unsigned n = 1;
	_buf_ struct buf b;

	buf_init(&b, 4096);
	if (s < 0)
		return err_errno(err, "network: netlink");
	put_link_up(&b, 1); /* lo is always the first interface */
	if (eth) {
		/* Before the link is up, so that no IPv6 address detection starts. */
		file_set("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1");
		put_link_up(&b, eth);
		put_address(&b, eth);
		put_route(&b, eth);
		n += 3;
	}
	if (sendto(s, buf_head(&b), buf_len(&b), 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return err_errno(err, "network: netlink");
	if (read_acks(s, n, err) < 0)
		return -1;
	if (!eth)
		return err_set(err, ERR_ENV, "network: no eth0");
	/* One user, one machine: ping and low ports need no privilege. */
	file_set("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
	file_set("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
	return 0;
}

bool hostname_valid(const char *name)
{
	size_t len = strlen(name);

	return len >= 1 && len <= 64 && name[0] != '-' && name[0] != '.' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") ==
		       len;
}

/* Whether @text has a line that maps some address to @name. */
static bool hosts_has(const char *text, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = text; (at = strstr(at, name)); at += len) {
		char after = at[len];

		if (at > text && (at[-1] == '\t' || at[-1] == ' ') &&
			(after == '\n' || after == ' ' || after == '\t' || after == '\0'))
			return true;
	}
	return false;
}

int net_files(const char *root, const char *hostname, struct err *err)
{
	_free_ char *hosts = xasprintf("%s/etc/hosts", root);
	_free_ char *resolv = xasprintf("%s/etc/resolv.conf", root);
	_free_ char *name = xasprintf("%s/etc/hostname", root);
	_free_ char *line = xasprintf("%s\n", hostname);
	_free_ char *etc = xasprintf("%s/etc", root);
	_buf_ struct buf have = {.max = 256u << 10};

	if (!hostname_valid(hostname))
		return err_set(err, ERR_PEER, "bad host name");
	if (dirs_make(etc, 0, 0, err) < 0 || file_put_text(name, line, 0644, err) < 0 ||
		file_put_text(resolv, "nameserver " GATEWAY_ADDR "\n", 0644, err) < 0)
		return -1;
	/* What the user added to the hosts file of an older start stays. */
	if (file_read(hosts, &have, NULL) == 0 && hosts_has(buf_cstr(&have), hostname))
		return 0;
	buf_reset(&have);
	buf_printf(&have,
		"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
		"127.0.1.1\t%s\n",
		hostname);
	return file_put(hosts, buf_head(&have), buf_len(&have), 0644, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between the processes of one sandbox: the shape of each. */
#include "wire/link.h"

#include "base/mem.h"

static const struct {
	const char *name;
	uint8_t fds;
	bool data;
} shapes[] = {
	[LINK_EXPORT] = {"export", 1, true},
	[LINK_CONNECT] = {"connect", 1, false},
	[LINK_SEAL] = {"seal", 0, false},
	[LINK_READY] = {"ready", 0, false},
	[LINK_CONTROL] = {"control", 1, false},
	[LINK_TCP_OPEN] = {"tcp-open", 1, false},
	[LINK_DNS_QUERY] = {"dns-query", 0, true},
	[LINK_TCP_ACCEPT] = {"tcp-accept", 0, false},
	[LINK_TCP_REFUSE] = {"tcp-refuse", 0, false},
	[LINK_TCP_RESET] = {"tcp-reset", 0, false},
	[LINK_DNS_ANSWER] = {"dns-answer", 0, true},
	[LINK_UDP_OUT] = {"udp-out", 0, true},
	[LINK_UDP_IN] = {"udp-in", 0, true},
	[LINK_UDP_REFUSE] = {"udp-refuse", 0, false},
	[LINK_SSH_AGENT] = {"ssh-agent", 1, false},
};
_Static_assert(ARRAY_SIZE(shapes) == LINK_TYPES, "a shape for every link_type");

bool link_check(const struct link_packet *p, size_t size, size_t nfds)
{
	if (size < sizeof(p->m) || p->m.type == 0 || p->m.type >= LINK_TYPES)
		return false;
	if (p->m.len > LINK_DATA_MAX || size != sizeof(p->m) + p->m.len)
		return false;
	if (nfds != shapes[p->m.type].fds)
		return false;
	return shapes[p->m.type].data || p->m.len == 0;
}

const char *link_type_name(uint16_t type)
{
	return type && type < LINK_TYPES ? shapes[type].name : "unknown";
}

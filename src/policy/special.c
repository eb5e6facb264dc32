/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses that a public name has no business to resolve to (RFC 6890 and its registries). */
#include "policy/special.h"

#include <string.h>

#include "base/mem.h"

struct range {
	struct policy_addr net;
	unsigned prefix;
	const char *what;
};

#define V4(...)                                                                                    \
	{                                                                                          \
		.b = { __VA_ARGS__ }                                                               \
	}
#define V6(...)                                                                                    \
	{                                                                                          \
		.v6 = true, .b = { __VA_ARGS__ }                                                   \
	}

/* First match counts: single machines before the ranges that hold them. */
static const struct range ranges[] = {
	/* Metadata services: credentials of the machine, for the asking. */
	{V4(169, 254, 169, 254), 32, "cloud metadata"},
	{V4(169, 254, 170, 2), 32, "cloud metadata"},
	{V4(169, 254, 170, 23), 32, "cloud metadata"},
	{V4(100, 100, 100, 200), 32, "cloud metadata"},
	{V4(192, 0, 0, 192), 32, "cloud metadata"},
	{V4(168, 63, 129, 16), 32, "cloud metadata"},
	{V6(0xfd, 0, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54), 128, "cloud metadata"},
	{V6(0xfd, 0, 0x0e, 0xc2, [15] = 0x23), 128, "cloud metadata"},
	{V6(0xfd, 0x20, 0, 0xce, [14] = 0x02, [15] = 0x54), 128, "cloud metadata"},
	{V6(0xfd, 0, 0, 0xc1, [12] = 0xa9, [13] = 0xfe, [14] = 0xa9, [15] = 0xfe), 128,
		"cloud metadata"},
	{V4(0, 0, 0, 0), 8, "unspecified"},
	{V4(10, 0, 0, 0), 8, "private"},
	{V4(100, 64, 0, 0), 10, "private (carrier NAT)"},
	{V4(127, 0, 0, 0), 8, "loopback"},
	{V4(169, 254, 0, 0), 16, "link-local"},
	{V4(172, 16, 0, 0), 12, "private"},
	{V4(192, 0, 0, 0), 24, "reserved"},
	{V4(192, 0, 2, 0), 24, "documentation"},
	{V4(192, 88, 99, 0), 24, "reserved"},
	{V4(192, 168, 0, 0), 16, "private"},
	{V4(198, 18, 0, 0), 15, "synthetic"},
	{V4(198, 51, 100, 0), 24, "documentation"},
	{V4(203, 0, 113, 0), 24, "documentation"},
	{V4(224, 0, 0, 0), 4, "multicast"},
	{V4(240, 0, 0, 0), 4, "reserved"},
	{V6(0), 128, "unspecified"},
	{V6([15] = 1), 128, "loopback"},
	{V6(0, 0x64, 0xff, 0x9b, 0, 1), 48, "private (NAT64)"},
	{V6(0x20, 0x01, 0x0d, 0xb8), 32, "documentation"},
	{V6(0x20, 0x01), 23, "reserved"},
	{V6(0x3f, 0xff), 20, "documentation"},
	{V6(0xfc), 7, "private"},
	{V6(0xfe, 0x80), 10, "link-local"},
	{V6(0xfe, 0xc0), 10, "private"},
	{V6(0xff), 8, "multicast"},
};

/* IPv6 forms that carry an IPv4 address, which is where the packets end up. */
static const struct {
	struct policy_addr net;
	unsigned prefix, at;
} embedded[] = {
	{V6(0, 0x64, 0xff, 0x9b), 96, 12}, /* NAT64 */
	{V6(0x20, 0x02), 16, 2},           /* 6to4 */
};

static const struct policy_addr global_v6 = V6(0x20);
static const struct range not_global = {V6(0), 0, "reserved"};

static const struct range *find(const struct policy_addr *a)
{
	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		if (policy_addr_in(a, &ranges[i].net, ranges[i].prefix))
			return &ranges[i];
	}
	if (!a->v6)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(embedded); i++) {
		struct policy_addr inner = {0};

		if (!policy_addr_in(a, &embedded[i].net, embedded[i].prefix))
			continue;
		memcpy(inner.b, a->b + embedded[i].at, 4);
		return find(&inner);
	}
	return policy_addr_in(a, &global_v6, 3) ? NULL : &not_global;
}

const char *policy_addr_special(const struct policy_addr *a)
{
	const struct range *r = find(a);

	return r ? r->what : NULL;
}

bool policy_net_names(const struct policy_addr *net, unsigned prefix, const struct policy_addr *a)
{
	const struct range *r = find(a);

	if (!r) /* of this machine, say */
		return prefix == (a->v6 ? 128u : 32u) && policy_addr_in(a, net, prefix);
	return prefix >= r->prefix && policy_addr_in(net, &r->net, r->prefix) &&
	       policy_addr_in(a, net, prefix);
}

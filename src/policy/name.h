/* SPDX-License-Identifier: Apache-2.0 */
/* Host names and addresses as policy sees them: one canonical form, strictly checked.
 *
 * A canonical name is lower-case ASCII, labels of 1-63 characters out of a-z 0-9 - _ that neither
 * start nor end with '-', at most 253 characters, no trailing dot. A name whose last label is a
 * number ("1.2.3", "0x7f.1") is not a name: other programs read such text as an address. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define POLICY_NAME_MAX  253
#define POLICY_ADDR_TEXT 48 /* room for any address as text, with NUL */

/* An IPv4 address never appears as an IPv4-mapped IPv6 one: the functions below normalise. */
struct policy_addr {
	bool v6;
	uint8_t b[16]; /* network order; IPv4 in the first four, the rest zero */
};

/* What a URL, a Host header or a server name calls a machine: a name or an address literal. */
struct policy_host {
	char name[POLICY_NAME_MAX + 1]; /* canonical name, or the address as text */
	bool is_addr;
	struct policy_addr addr; /* if is_addr */
};

/* Check and canonicalise @len bytes (one trailing dot is dropped). ERR_USER says what is wrong. */
int policy_name_canon(const char *s, size_t len, char ret[POLICY_NAME_MAX + 1], struct err *err);
/* A name, a dotted-quad IPv4 address, or an IPv6 address in [brackets]. */
int policy_host_parse(const char *s, size_t len, struct policy_host *ret, struct err *err);
/* host[:port] as in a Host header; *ret_port is 0 when no port is written. */
int policy_authority_parse(
	const char *s, size_t len, struct policy_host *ret, uint16_t *ret_port, struct err *err);

struct policy_addr policy_addr_v4(uint32_t host_order);
struct policy_addr policy_addr_v6(const uint8_t b[static 16]); /* unwraps IPv4-mapped */
/* Strict: four decimal numbers without leading zeros, or RFC 4291 text without brackets. */
int policy_addr_parse(const char *s, size_t len, struct policy_addr *ret, struct err *err);
/* Writes at most POLICY_ADDR_TEXT bytes; returns @buf. */
const char *policy_addr_text(const struct policy_addr *a, char buf[static POLICY_ADDR_TEXT]);
bool policy_addr_equal(const struct policy_addr *a, const struct policy_addr *b);
/* Whether the first @prefix bits agree. */
bool policy_addr_in(const struct policy_addr *a, const struct policy_addr *net, unsigned prefix);
/* The kind of special-purpose range that holds @a ("loopback", "private", "link-local", ...), or
 * NULL for an ordinary public unicast address. Looks through NAT64 and 6to4. */
const char *policy_addr_special(const struct policy_addr *a);

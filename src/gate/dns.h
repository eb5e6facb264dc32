/* SPDX-License-Identifier: Apache-2.0 */
/* DNS towards the guest: parse one question, build the answer (RFC 1035, 6891, 6761). No I/O.
 *
 * Usual way: dns_parse; a negative result is dropped in silence, anything else is answered:
 * dns_local answers from the synthetic names alone, whatever the question. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "gate/names.h"
#include "policy/name.h"

#define DNS_QUERY_MAX  1232u /* longer questions are not answered */
#define DNS_ANSWER_MAX 512u  /* no answer is longer; fits UDP without EDNS */
#define DNS_TTL        60u   /* seconds; the binding itself never changes */

enum dns_type {
	DNS_A = 1,
	DNS_PTR = 12,
	DNS_AAAA = 28,
	DNS_OPT = 41,
	DNS_SVCB = 64,
	DNS_HTTPS = 65,
};

enum dns_rcode {
	DNS_NOERROR = 0,
	DNS_FORMERR = 1,
	DNS_SERVFAIL = 2,
	DNS_NXDOMAIN = 3,
	DNS_NOTIMP = 4,
	DNS_REFUSED = 5,
	DNS_BADVERS = 16, /* EDNS version; the high bits travel in the OPT record */
};

struct dns_query {
	uint16_t id;
	uint8_t opcode;
	bool rd; /* recursion desired, echoed */
	bool edns;
	uint16_t type;                  /* enum dns_type or any other value */
	char name[POLICY_NAME_MAX + 1]; /* canonical; "" when it is no host name */
	uint8_t question[260];          /* as received, for the echo: clients check its spelling */
	size_t question_len;            /* 0: the question was not readable */
};

/* Parse a message of the guest. Returns -1: not a question at all, drop it. Else the enum dns_rcode
 * to answer with: DNS_NOERROR means that *ret is complete; any other can be given to dns_build as
 * is. A well-formed question whose name is no host name gives DNS_NXDOMAIN; the root is DNS_NOERROR
 * with an empty name. */
int dns_parse(const void *msg, size_t len, struct dns_query *ret);
/* Append an answer to @out: with @rcode, and one A record when @addr (host order) is not 0 and
 * rcode is DNS_NOERROR. Returns 0, -1 when @out has no room (nothing is written). */
int dns_build(const struct dns_query *q, int rcode, uint32_t addr, struct buf *out);
/* As dns_build with one PTR record. */
int dns_build_ptr(const struct dns_query *q, const char *target, struct buf *out);
/* The complete local resolver. @rcode: what dns_parse returned. A: the synthetic address (SERVFAIL
 * when the table is full; localhost is 127.0.0.1; .invalid and .arpa do not exist, nor do .local
 * and .onion without a rule). PTR of a synthetic address: its name. All other types: empty.
 * @reachable: policy_name_reachable of the name. Returns 0, -1 when @out has no room. */
int dns_local(
	const struct dns_query *q, int rcode, struct names *names, bool reachable, struct buf *out);

/* DNS over TCP: the first message of @data, behind its two length bytes. Returns 1 and *ret_msg
 * (borrowed), *ret_len, *ret_used; 0: more bytes needed; -1: longer than DNS_QUERY_MAX or empty. */
int dns_tcp_next(
	const void *data, size_t len, const uint8_t **ret_msg, size_t *ret_len, size_t *ret_used);
/* Append @answer with its length in front. Returns 0, -1 when @out has no room. */
int dns_tcp_put(struct buf *out, const struct buf *answer);

/* SPDX-License-Identifier: Apache-2.0 */
/* Network rules: parse, match, explain. Pure: no I/O, no clock.
 *
 * A rule is  [what] host[:ports][path]  where host is
 *	api.example.com   that name
 *	*.example.com     exactly one more label; not example.com itself
 *	**.example.com    one or more labels; not example.com itself
 *	api.*.example.com "*" may stand for any whole label but the last
 *	**                every name
 *	10.0.0.0/8        addresses; 10.1.2.3 is /32; IPv6 in brackets when ports follow
 * and ports is  443,  80-443  or  *.  Without ports, a rule means port 443 and nothing else, for
 * every kind of host: "**" is every name on 443, "**:*" is every name on every port.
 *
 * what and path narrow it down:
 *	tcp, udp          the protocol; tcp when nothing is said. Names are looked up at the gateway, so
 *	                  UDP port 53 elsewhere has to be named: "udp a.test:53", not "udp a.test:*"
 *	GET,HEAD          an HTTP rule: requests with these methods; ANY for all
 *	/v1/items         an HTTP rule: requests for these paths; with patterns, see policy/path.h
 * Behind an address, a path needs ports in front of it: 10.0.0.0/8:80/status.
 *
 * An HTTP rule can only be judged request by request, so a connection that it may concern has to be
 * read ("inspect"), and nothing but HTTP passes there.
 *
 * Names and addresses are different things. A connection to a bare address needs an address rule:
 * allow "**" does not cover it ("0.0.0.0/0" does). Deny errs the other way: deny "**" covers
 * addresses too, and a denied network is denied however the guest named it, so the gate asks again
 * with name and address once it has resolved a name.
 *
 * Deny wins. Among the rules that decide, the most specific one is reported. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "policy/name.h"
#include "policy/path.h"

#define POLICY_RULES_MAX  8192
#define POLICY_TARGET_MAX 768 /* characters of a rule's text */

/* The machine that we run on. It is not one of "all names": only a rule with this very name allows
 * it. */
#define POLICY_THIS_HOST "host.hutch.internal"

enum policy_proto { POLICY_TCP = 1, POLICY_UDP = 2 };

/* In order of specificity. */
enum policy_kind { POLICY_ALL, POLICY_CIDR, POLICY_DEEP, POLICY_STAR, POLICY_EXACT };

struct policy_rule {
	char *text;   /* owned: the target as written */
	char *source; /* owned: "kit hello", "preset balanced"; "" when not given */
	bool allow;
	enum policy_kind kind;
	/* EXACT: the name; STAR: the pattern; DEEP: what follows "**." */
	char name[POLICY_NAME_MAX + 1];
	struct policy_addr net; /* CIDR */
	unsigned prefix;        /* CIDR: bits */
	uint16_t port_lo, port_hi;
	bool ports_given; /* they were written down */
	uint8_t protos; /* mask of enum policy_proto */
	bool http;      /* about requests, by the two below */
	char *methods;  /* owned: "GET,HEAD"; NULL: any */
	struct policy_path path; /* a pattern; {0}: any */
};

/* {0} is a valid empty policy: everything is denied. */
struct policy {
	struct policy_rule *rules; /* owned */
	size_t n, cap;
};

struct policy_query {
	const char *name;               /* canonical (policy_name_canon), or NULL: a bare address */
	const struct policy_addr *addr; /* destination or resolved address; NULL: not known yet */
	uint16_t port;
	enum policy_proto proto; /* 0 means POLICY_TCP */
	/* A request; NULL: the connection as such, of which HTTP rules say nothing yet. */
	const char *method;
	const struct policy_path *path; /* with method; NULL: no path that a pattern could match */
};

struct policy_verdict {
	/* For a connection: some of what could pass over it is allowed. */
	bool allowed;
	bool inspect; /* HTTP rules are about this destination: each request has to be asked for */
	/* Borrowed from the policy. */
	const struct policy_rule *rule; /* what decided; NULL: no rule matches */
	const struct policy_rule *near; /* else: one that allows other ports or requests of it */
};

/* Parse a target on its own, e.g. a credential's domain. @ret is untouched on failure, else to be
 * released with policy_rule_done. text is set, source is "", allow is true. */
int policy_rule_parse(const char *target, struct policy_rule *ret, struct err *err);
/* As policy_rule_parse, but only  host[:ports]: where a rule stands for a destination. */
int policy_host_rule_parse(const char *target, struct policy_rule *ret, struct err *err);
void policy_rule_done(struct policy_rule *r);
/* Whether @r's target matches host and port of @q, and its request if it has one, as an allow rule
 * would; @r->allow is not looked at. */
bool policy_rule_matches(const struct policy_rule *r, const struct policy_query *q);
/* Whether everything that @inner matches is matched by @outer. */
bool policy_rule_covers(const struct policy_rule *outer, const struct policy_rule *inner);

/* Copies its arguments. On failure the policy is unchanged; the error names target and source. A deny
 * rule for addresses has neither methods nor paths: which address is behind a name is known too late. */
int policy_add(
	struct policy *p, const char *target, bool allow, const char *source, struct err *err);
void policy_done(struct policy *p);

struct policy_verdict policy_decide(const struct policy *p, const struct policy_query *q);
/* The whole question, as the gate asks it: first about the connection, and about the request only
 * where HTTP rules make a difference; else method and path are taken out of @q, so that the words
 * about it are about the connection. */
struct policy_verdict policy_judge(const struct policy *p, struct policy_query *q);
/* Whether a connection to @name (canonical) could be allowed on at least one port: some allow rule
 * matches it and no single deny rule covers all of that rule's ports. A name for which this is
 * false must never be looked up outside. */
bool policy_name_reachable(const struct policy *p, const char *name);
/* Whether an allow rule covers all of @target's hosts and ports and no deny rule covers all of it:
 * what a credential's domain must pass. */
bool policy_target_allowed(const struct policy *p, const struct policy_rule *target);
/* Whether an allow rule names the special-purpose address @q->addr (policy_addr_special) for its port
 * and protocol: a CIDR that holds it and lies within special ranges itself. "0.0.0.0/0" and "**" name none.
 * An address without a special purpose is named by itself alone. */
bool policy_names_special(const struct policy *p, const struct policy_query *q);

#define POLICY_EXPLAIN_MAX 2048
/* One line without a full stop: what was asked, the verdict, the deciding rule and its source.
 * Always terminated. Returns @buf. */
const char *policy_explain(const struct policy_verdict *v, const struct policy_query *q,
	char buf[static POLICY_EXPLAIN_MAX]);
/* How to allow a refused query, one line; "" for an allowed one. Returns @buf. */
const char *policy_remedy(const struct policy_verdict *v, const struct policy_query *q,
	char buf[static POLICY_EXPLAIN_MAX]);
/* "name:port" or "address:port", IPv6 bracketed: valid as a rule target. Returns @buf. */
const char *policy_query_text(const struct policy_query *q, char buf[static POLICY_TARGET_MAX]);
/* The narrowest rule that allows what was asked: with method and path for a request. -1 when the
 * grammar has none (a path with '*', or too long). */
int policy_query_rule(const struct policy_query *q, char buf[static POLICY_TARGET_MAX]);

/* SPDX-License-Identifier: Apache-2.0 */
/* The host's proxy settings: which HTTP proxy leads to a destination, if any. Pure.
 *
 * As curl reads them: http_proxy, https_proxy, all_proxy and no_proxy, lower case first, then upper
 * case. What is spoken decides which one counts: HTTP in the clear takes http_proxy, TLS
 * https_proxy, everything else all_proxy alone, which also stands in for the other two. An empty
 * one is none.
 *
 * no_proxy is a list with commas or blanks of names (which stand for what is below them, too),
 * addresses, networks (10.0.0.0/8), each perhaps with ":port"; "*" is everything. Addresses of this
 * machine and of its link never go through a proxy: to it they would mean somebody else. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "policy/name.h"
#include "policy/policy.h"
#include "secret/secret.h"

#define UPSTREAM_URL_MAX     2048u
#define UPSTREAM_BYPASS_MAX  512u   /* entries of no_proxy */
#define UPSTREAM_BYPASS_TEXT 65536u /* and bytes */

enum upstream_kind { UPSTREAM_HTTP, UPSTREAM_TLS, UPSTREAM_OTHER, UPSTREAM_KINDS };

struct upstream_proxy {
	struct policy_host host;
	uint16_t port;
	struct secret *auth;             /* owned: value of Proxy-Authorization; NULL: none */
	char text[POLICY_NAME_MAX + 12]; /* "host:port", for people; no credentials */
	char problem[160];               /* not "": cannot be used, and why; what needs it fails */
};

struct upstream_bypass {
	char name[POLICY_NAME_MAX + 1]; /* "": an address or network */
	struct policy_addr net;
	unsigned prefix;
	uint16_t port; /* 0: all */
};

struct upstream {
	struct upstream_proxy *proxy[UPSTREAM_KINDS]; /* owned; NULL: none */
	bool bypass_all;
	struct upstream_bypass *bypass; /* owned */
	size_t n_bypass;
};

/* Reads the settings; what is wrong with one is its problem. @get looks a variable up. */
void upstream_read(struct upstream *u, const char *(*get)(void *arg, const char *name), void *arg);
void upstream_done(struct upstream *u);
/* Which proxy to take; NULL: none. @q has a name or an address. Borrowed until upstream_done. */
const struct upstream_proxy *upstream_find(
	const struct upstream *u, enum upstream_kind kind, const struct policy_query *q);
/* Whether some kind of traffic to it takes one. */
bool upstream_any(const struct upstream *u, const struct policy_query *q);

/* [http://][user[:password]@]host[:port][/]; the parts in percent-encoding. Owned. */
struct upstream_proxy *upstream_parse_url(const char *url);

/* SPDX-License-Identifier: Apache-2.0 */
/* Connections through the host's HTTP proxy (upstream.h).
 *
 * The proxy looks the name up, so what it connects to cannot be checked here. What can be is: the
 * name is looked up on this machine as well, for a second at most, and when any of its addresses
 * may not be dialled the connection is refused. A name that only the proxy knows is left to it.
 *
 * TLS and everything else goes through CONNECT. HTTP in the clear is asked for in absolute form on
 * a connection to the proxy itself: most proxies allow CONNECT to port 443 alone. */
#pragma once

#include "base/buf.h"
#include "gate/dial.h"
#include "gate/http1.h"
#include "gate/upstream.h"

struct via;

/* As dial_check_fn and dial_done_fn, with the @arg of via_start. @done is called once, never from
 * within via_start; the via may be freed from there. */
typedef const char *via_check_fn(void *arg, const struct policy_addr *a);
typedef void via_done_fn(void *arg, int fd, const struct err *err);

/* @dest: a name or an address, with a port. @forward: no CONNECT, requests follow that
 * via_edit_request has seen. All but @dest is borrowed until via_free. */
struct via *via_start(struct dialer *dr, struct loop *l, const struct upstream_proxy *proxy,
	const struct policy_query *dest, bool forward, via_check_fn *check, via_done_fn *done,
	void *arg);
void via_free(struct via *v); /* NULL is fine; @done will not be called */
/* The address that the check has refused. */
const struct policy_addr *via_refused(const struct via *v);
bool via_forwards(const struct via *v);

/* Make the request one for the proxy: its target in absolute form, and the field in @edit. Borrowed
 * from @v until its next call. */
void via_edit_request(struct via *v, struct http1_head *h, struct http1_edit *edit);
/* What the user should know about an answer that is the proxy's own, NULL if it is none. */
const char *via_explain(struct via *v, unsigned status);

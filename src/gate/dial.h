/* SPDX-License-Identifier: Apache-2.0 */
/* Real connections to the world, TCP and (connected) UDP: look a name up, try its addresses in
 * turn, never block.
 *
 * Look-ups go through c-ares with the host's own settings (/etc/hosts, /etc/resolv.conf), exactly
 * as written: no search domains, no aliases. IPv4 addresses first, 5 s for each, 10 s for all. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"
#include "policy/name.h"

#define DIAL_ADDRS_MAX 8

struct dialer;
struct dial;

/* Asked for every address before it is dialled: NULL to go on, else why not (static text). */
typedef const char *dial_check_fn(struct dial *d, const struct policy_addr *a);
/* Called once, never from within dial_start. @fd is given (connected, non-blocking), or -1 with
 * @err. The dial may be started again or freed from here. */
typedef void dial_done_fn(struct dial *d, int fd, const struct err *err);

/* Embedded in its owner. {0} is idle. */
struct dial {
	struct policy_addr peer; /* the address tried last */
	uint16_t port;
	/* private to dial.c */
	struct dialer *dialer_;
	struct lookup *lookup_; /* a question on its way */
	dial_check_fn *check_;
	dial_done_fn *done_;
	struct dial_work *work_; /* owned while it is active: there are many, and few that dial */
	struct loop_watch watch_;
	struct loop_timer timer_;
	uint64_t give_up_ns_;
	int fd_;
	bool udp_;
};

struct dialer *dialer_new(struct loop *l, struct err *err);
void dialer_free(struct dialer *d); /* with no dial active */

/* Borrowed for the call. */
struct dial_target {
	/* Exactly one of the two. */
	const char *name; /* canonical */
	const struct policy_addr *addr;
	uint16_t port;
	bool udp; /* a datagram socket; else TCP */
};
/* @check may be NULL. */
void dial_start(struct dialer *dr, struct dial *d, const struct dial_target *to,
	dial_check_fn *check, dial_done_fn *done);
/* Whether @a is an address of this machine, as far as the kernel tells: not where it lets everybody
 * bind to any (net.ipv4.ip_nonlocal_bind). */
bool dial_is_own_addr(const struct policy_addr *a);
/* Forget it; done will not be called. Harmless on an idle dial. */
void dial_cancel(struct dial *d);

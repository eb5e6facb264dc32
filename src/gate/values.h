/* SPDX-License-Identifier: Apache-2.0 */
/* Values of credentials for one request, which are not there yet.
 *
 * They are asked of hutch-secret, which alone reads the store and what that refers to; the request
 * waits meanwhile, and the server is dialled in parallel. An answer belongs to the requests that
 * waited for it, and goes with them, unless hutch-secret says that it lasts: then the next requests
 * have it at once, as long as nothing has changed and for a second (kept.h). Either way a request
 * sees what was revoked or changed before it.
 *
 *   struct values_set set = {.values = gate->values, .ready = on_ready};
 *   values_want(&set, service) ...      as soon as the request is known
 *   if (values_pending(&set)) return;   on_ready runs, and the request goes on from there
 *   values_get(&set, service, ...)      at the moment of use
 *   values_done(&set);
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "base/loop.h"
#include "secret/secret.h"

struct filter;
struct values; /* of the gate as a whole */
struct values_item;

/* One value, which all who use it share: locked memory costs five system calls each time. */
struct value {
	unsigned refs;
	struct secret *secret; /* owned */
	/* What inject.c makes of it at first use, or NULL; owned. */
	struct filter *mask;      /* its forms */
	struct secret *pair;      /* what HTTP Basic last carried it in */
	struct filter *pair_mask; /* forms of both */
};
struct value *value_new(struct secret *s /* taken */);
struct value *value_ref(struct value *v); /* NULL is fine */
void value_unref(struct value *v);        /* the last one wipes; NULL is fine */

/* What one request needs. Stays where it is until values_done. */
struct values_set {
	struct values *values; /* borrowed */
	/* The last pending one has been answered. Called by the loop, never from values_want; may
	 * end the set. */
	void (*ready)(struct values_set *s);
	struct values_item *items; /* private */
};

/* Ask for @service. Again is harmless. */
void values_want(struct values_set *s, const char *service);
bool values_pending(const struct values_set *s);
/* When nothing is pending. *ret is borrowed until values_done, or NULL when there is no value,
 * which is no error. -1: there should be one, and why it could not be had. */
int values_get(struct values_set *s, const char *service, struct value **ret, struct err *err);
/* Wipes. {0} and twice are fine. */
void values_done(struct values_set *s);

/* @broker: the socket to hutch-secret, taken, or -1. NULL with @err. */
struct values *values_new(struct loop *l, int broker, struct err *err);
void values_free(struct values *v); /* after every set */

/* SPDX-License-Identifier: Apache-2.0 */
/* Values of credentials for one request, some of which are not there yet.
 *
 * A value in the store is read at the moment of use. One that has to be fetched (from a command, a
 * file, the environment, the keyring) is asked of hutch-secret, which alone has the authority for
 * that; the request waits meanwhile, and the server is dialled in parallel. An answer belongs to
 * the requests that waited for it, and goes with them: nothing is cached here, so the next request
 * sees what is revoked or changed.
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

struct values; /* of the gate as a whole */
struct values_item;

/* What one request needs. Stays where it is until values_done. */
struct values_set {
	struct values *values; /* borrowed */
	/* The last pending one has been answered. Called by the loop, never from values_want; may
	 * end the set. */
	void (*ready)(struct values_set *s);
	struct values_item *items; /* private */
};

/* Start to fetch @service where that is due. Again is harmless. */
void values_want(struct values_set *s, const char *service);
bool values_pending(const struct values_set *s);
/* *ret is owned by the caller, or NULL when there is no value, which is no error. -1: there should
 * be one, and why it could not be had. */
int values_get(struct values_set *s, const char *service, struct secret **ret, struct err *err);
/* Wipes. {0} and twice are fine. */
void values_done(struct values_set *s);

/* @own, @all: the sandbox's own secrets and those for all sandboxes (directories, borrowed), or -1.
 * @broker: the socket to hutch-secret, taken, or -1. NULL with @err. */
struct values *values_new(struct loop *l, int own, int all, int broker, struct err *err);
void values_free(struct values *v); /* after every set */

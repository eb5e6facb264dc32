/* SPDX-License-Identifier: Apache-2.0 */
/* The services of one sandbox and their values: asked for, fetched, kept for a while, forgotten. */
#pragma once

#include "base/err.h"
#include "base/loop.h"
#include "wire/broker.h"

struct broker;
/* Where answers go. @data is @m->len bytes, borrowed for the call. */
typedef void broker_send_fn(void *arg, const struct broker_msg *m, const void *data);
/* A value that was said to last does so no longer. Changes of the stores are not told: whoever
 * calls broker_recheck knows of them. */
typedef void broker_old_fn(void *arg);

/* @stores: as for source_find. @box, @services (NULL-terminated): borrowed for ever; nobody else is
 * ever answered for. NULL with @err. */
struct broker *broker_new(struct loop *l, const int stores[2], const char *box,
	char *const *services, broker_send_fn *send, broker_old_fn *old, void *arg,
	struct err *err);
/* Ends what runs, wipes what is kept. NULL is fine. */
void broker_free(struct broker *b);

/* A packet of the gate, of any content. Every well-formed question gets one answer, perhaps at
 * once. False: malformed. */
bool broker_packet(struct broker *b, const void *packet, size_t size);
/* The stores have changed: forget values whose reference is not what it was. */
void broker_recheck(struct broker *b);

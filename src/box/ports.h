/* SPDX-License-Identifier: Apache-2.0 */
/* Published ports: on 127.0.0.1 of the host, for TCP servers on the guest's loopback. */
#pragma once

#include "box/box.h"

/* relay.c: one connection. */
struct relay;
/* It is over and about to be freed. */
typedef void relay_done_fn(void *arg, struct relay *r);
/* @client is taken. NULL: the guest cannot be asked. */
struct relay *relay_new(struct box *b, int client, unsigned port, relay_done_fn *done, void *arg);
void relay_free(struct relay *r);

/* Before the process is sealed: bind what the specification says. What cannot be had is told, and
 * left out. Clients that come before the sandbox is ready wait. */
void ports_prepare(struct box *b);
void ports_start(struct box *b);
void ports_stop(struct box *b);
/* Serve @fd (taken: a listening socket at port @host) for the guest's port @container, instead of
 * what served that before. */
int ports_publish(struct box *b, unsigned container, unsigned host, int fd, struct err *err);
int ports_unpublish(struct box *b, unsigned container, struct err *err);
/* [{"container":…, "port":…}] (a new reference). */
json_t *ports_json(const struct box *b);

/* SPDX-License-Identifier: Apache-2.0 */
/* Published ports: on 127.0.0.1 of the host, for servers on the guest's loopback. */
#pragma once

#include "box/box.h"

/* relay.c: one TCP connection. */
struct relay;
/* It is over and about to be freed. */
typedef void relay_done_fn(void *arg, struct relay *r);
/* @client is taken. NULL: the guest cannot be asked. */
struct relay *relay_new(struct box *b, int client, unsigned port, relay_done_fn *done, void *arg);
void relay_free(struct relay *r);

/* udp.c: the peers of all UDP ports. */
struct udp;
struct udp *udp_new(struct box *b);
void udp_free(struct udp *u);
/* Pass on what waits in the socket @fd (not blocking) to the guest's port @port. */
void udp_receive(struct udp *u, int fd, unsigned port);
/* @fd is about to be closed. */
void udp_forget(struct udp *u, int fd);

/* Before the process is sealed: bind what the specification says. What cannot be had is told, and
 * left out. Clients that come before the sandbox is ready wait. */
void ports_prepare(struct box *b);
void ports_start(struct box *b);
void ports_stop(struct box *b);
/* Serve @fd (taken: a listening TCP socket, or one for UDP, at port @host) for the guest's port
 * @container, instead of what served that before. */
int ports_publish(
	struct box *b, unsigned container, bool udp, unsigned host, int fd, struct err *err);
int ports_unpublish(struct box *b, unsigned container, bool udp, struct err *err);
/* [{"container":…, "protocol":…, "port":…}] (a new reference). */
json_t *ports_json(const struct box *b);

/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams of the guest: a flow for each pair of ends, with a connected socket of its own.
 *
 * A flow begins with the guest's first datagram, when a rule allows its destination, and ends when
 * it has been idle, when a rule says so, or with the gate. All is bounded: flows, datagrams that
 * wait for a name to be looked up, lines in the audit log. What does not fit is dropped, as on any
 * network. */
#pragma once

#include "gate/gate.h"

#define UDP_FLOWS_MAX 1024u

struct udp;

struct udp *udp_new(struct gate *g); /* @g is borrowed */
void udp_free(struct udp *u);        /* writes the audit lines of open flows; NULL is fine */
/* LINK_UDP_OUT */
void udp_send(struct udp *u, const struct link_packet *p);
/* End every flow. */
void udp_cut_all(struct udp *u, const char *why);
/* The rules have changed. */
void udp_recheck_all(struct udp *u);

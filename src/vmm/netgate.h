/* SPDX-License-Identifier: Apache-2.0 */
/* Between the guest's network stack and hutch-gate: every TCP flow is a socketpair whose other end
 * the gate holds, and DNS questions are messages (wire/link.h). */
#pragma once

#include "base/loop.h"
#include "dev/net.h"

struct netgate;

struct netgate_config {
	int gate_fd; /* SOCK_SEQPACKET link to the gate; taken */
	/* The gate hung up or broke the protocol. May run from any event, but not from netgate_new,
	 * and must not free @ng. */
	void (*on_close)(void *arg);
	void *arg;
	uint8_t key[16];    /* fresh randomness, see struct net_config */
	unsigned flows_max; /* 0: NETGATE_FLOWS */
};

#define NETGATE_FLOWS     10240u /* as many as the gate takes */
#define NETGATE_HALF_OPEN 2048u

/* NULL with @err on failure. @loop is borrowed. Needs about flows_max descriptors; flows for which
 * there are none are refused. */
struct netgate *netgate_new(
	struct loop *loop, const struct netgate_config *config, struct err *err);
/* The transport must be gone. */
void netgate_free(struct netgate *ng);

/* The stack, and the device that carries its frames; owned by @ng. */
struct net *netgate_net(struct netgate *ng);
struct netdev *netgate_device(struct netgate *ng);

/* SPDX-License-Identifier: Apache-2.0 */
/* The gate as a whole: what its connections share. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/loop.h"
#include "gate/ask.h"
#include "gate/audit.h"
#include "gate/ca.h"
#include "gate/config.h"
#include "gate/dial.h"
#include "gate/http2.h"
#include "gate/names.h"
#include "gate/tls.h"
#include "gate/upstream.h"
#include "gate/values.h"
#include "wire/link.h"

/* Each costs about 4 KiB while idle (without TLS of ours) and at worst about 300 KiB;
 * HTTP/2 has a bound of its own. */
#define GATE_FLOWS_MAX 10240u

/* Addresses on the guest's link (DESIGN: network). */
#define GATE_GATEWAY 0x0a000202u /* 10.0.2.2: name server, nothing else */

/* All HTTP/2 connections together. */
#define GATE_HTTP2_MAX (512u << 20)

struct flow;
struct udp;

struct gate {
	struct loop *loop;
	struct config *config; /* owned; replaced as a whole: keep no pointers into it */
	struct names *names;
	struct ca *ca; /* owned; made with the first configuration */
	struct tls_shared *tls;
	struct dialer *dialer;
	struct upstream upstream; /* the host's proxies, for as long as the gate lives */
	struct audit *audit;
	struct asks *asks;
	struct udp *udp;
	struct values *values; /* of credentials */
	int broker, tokens; /* descriptors, or -1 */
	struct loop_watch control, link;
	struct link_packet packet; /* being read */
	struct buf control_in;
	struct buf link_out; /* packets that wait, each behind its size */
	struct flow *flows;  /* all connections of the guest */
	unsigned n_flows, max_flows;
	struct http2_budget http2_budget;
	unsigned jail_missing; /* layers that the host refuses */
	struct loop_timer sweep;
};

/* link.c: the VMM's side. Returns -1 with errno. */
int link_start(struct gate *g, int fd);
/* Queue or send a message. */
void link_send(struct gate *g, enum link_type type, uint32_t id, const void *data, size_t len);
/* The same with the guest's address. */
void link_send_to(struct gate *g, enum link_type type, uint32_t id, uint32_t addr, uint16_t port,
	const void *data, size_t len);
/* Whether a message that could be left out should be sent. */
bool link_has_room(const struct gate *g);
/* Answer one DNS question from the synthetic names. Whether there is anything to say. */
bool link_answer_dns(struct gate *g, const void *msg, size_t len, struct buf *out);

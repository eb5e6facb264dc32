/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between hutch-gate and hutch-secret, on a SOCK_SEQPACKET pair made by hutch-box.
 *
 * One message is one packet: struct broker_msg (host byte order, same machine) and @len bytes.
 * Either end checks what it receives with broker_check() as if the other had been taken over. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BROKER_NAME_MAX   64u           /* bytes of a service's name */
#define BROKER_VALUE_MAX  (64u * 1024u) /* as SECRET_VALUE_MAX */
#define BROKER_REASON_MAX 240

enum broker_type {
	/* gate -> secret; data: the name of a service */
	BROKER_GET = 1,
	/* secret -> gate, each the one answer to the question with its id */
	BROKER_VALUE,  /* data: the value, for the requests that wait for it */
	BROKER_NONE,   /* nothing is kept under that name; lasts like BROKER_LASTING */
	BROKER_FAILED, /* data: the reason, one line of printable text */
	/* data: the value, which stays true until the watch says otherwise */
	BROKER_LASTING,
	/* secret -> gate, at most once and before all answers, with two descriptors (gate/kept.h).
	 * Without it no answer lasts. */
	BROKER_WATCH,
	BROKER_TYPES,
};

struct broker_msg {
	uint16_t type; /* enum broker_type */
	uint16_t zero;
	uint32_t id;
	uint32_t len; /* bytes of data that follow */
};

/* Whether a packet of @size bytes, header and data, is well-formed and one that the gate
 * (@from_gate) or hutch-secret may send. */
bool broker_check(const struct broker_msg *m, const void *data, size_t size, bool from_gate);

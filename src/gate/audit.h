/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log: one JSON line per connection (tunnels, raw TCP) or per request (HTTP), appended to
 * audit.jsonl in the gate's directory, chained as wire/chain.h says. A connection that passes
 * unread has a line more, written when it begins ("event":"open"): it may last for days. Never
 * holds a secret value, a query string or a body. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/loop.h"

enum audit_verdict { AUDIT_ALLOW, AUDIT_DENY, AUDIT_ERROR, AUDIT_VERDICTS };
enum audit_proto {
	AUDIT_TCP,
	AUDIT_TLS,
	AUDIT_HTTP,
	AUDIT_HTTPS,
	AUDIT_DNS,
	AUDIT_UDP,
	AUDIT_PROTOS
};

/* All pointers borrowed for the call; NULL and zero fields are left out. The strings may hold any
 * byte: they are written as ASCII with escapes. */
struct audit_record {
	enum audit_verdict verdict;
	enum audit_proto proto;
	const char *name; /* what the guest wanted to reach */
	const char *addr; /* what was dialled, or NULL */
	const char *proxy; /* of the host, that was asked to dial, or NULL */
	uint16_t port;
	const char *method, *path; /* path without query */
	int status;                /* of the response that the guest saw */
	const char *rule, *source;
	const char *credential; /* service that was injected */
	uint64_t bytes_up, bytes_down;
	uint64_t ms;
	bool open;        /* it begins: no bytes, no time yet */
	bool has_ttfb;    /* the server has answered … */
	uint64_t ttfb_ms; /* … so long after the request, or the connection's begin */
	const char *reason;
};

struct audit;

/* @l, @dirfd are borrowed for ever. The file appears with the first line. */
struct audit *audit_new(struct loop *l, int dirfd, const char *box);
void audit_free(struct audit *a); /* NULL is fine */
/* Write now what waits; audit_free does it, too. */
void audit_flush(struct audit *a);
/* Append one line, at the latest with the loop's next turn: only a crash before it loses the line. A log that cannot be written is reported on stderr, rate-limited; traffic goes
 * on. The file is moved to audit.jsonl.1 at 64 MiB, so that both together stay below 128 MiB. */
void audit_write(struct audit *a, const struct audit_record *r);

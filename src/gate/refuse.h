/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of our own: why a request was not forwarded, for people, agents and programs to read. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define REFUSE_BODY_MAX 8192u

struct refusal {
	int status;       /* 403 policy, 502 upstream, 400 … unreadable request */
	const char *code; /* "policy", "identity", "credential", "upstream", "request" */
	const char *host; /* as the guest knows it */
	uint16_t port;
	const char *reason; /* a clause without full stop */
	const char *rule;   /* rule with its source, or NULL */
	const char *remedy; /* what the user can do, one line, or NULL */
	const char *box,
		*ask; /* sandbox and number of the question that the user is asked, or NULL */
};

/* Append the answer's body to @body (room for REFUSE_BODY_MAX): JSON with @json, else plain text.
 */
void refuse_body(struct buf *body, const struct refusal *r, bool json);
const char *refuse_content_type(bool json);
/* Append a complete HTTP/1.1 response to @out (room for 8 KiB): JSON with @json, else plain text.
 * No body with @head_only. The connection must be closed behind it. */
void refuse_write(struct buf *out, const struct refusal *r, bool json, bool head_only);

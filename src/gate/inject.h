/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials on their way out, and kept from coming back: what changes in a request, and what must
 * not be seen in its answer.
 *
 * The caller vouches for the identity: the policy allows the destination, server name and Host
 * agree with it, and the connection is TLS that was verified for that name, or the request says
 * that it is not. Values come from the request's set (values.h) at this moment and live until
 * inject_done, which wipes them; what the answer has to be searched for lives until
 * inject_answer_done. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "gate/config.h"
#include "gate/filter.h"
#include "gate/http1.h"
#include "gate/values.h"

#define INJECT_MAX         20              /* fields of one request */
#define INJECT_BODY_MAX    (1024u * 1024u) /* bytes of a body that has to be whole */
#define INJECT_PLACEHOLDER "proxy-managed" /* what the guest has in place of a value */

/* A request before it is sent. Borrowed. */
struct inject_request {
	const struct config *config;
	struct values_set *values;
	int tokens; /* store of OAuth tokens, or -1 */
	const char *name;
	uint16_t port;
	bool secure;      /* verified TLS … */
	bool certified;   /* … with a client certificate of ours */
	const char *path; /* as rules see it; NULL: ambiguous */
};

/* What an answer needs. {0}: nothing. */
struct inject_answer {
	struct filter *mask; /* owned; NULL: no value was put in */
	/* The request went to a token endpoint of this credential, for this account (0: a login).
	 */
	char oauth[80];
	unsigned account;
	struct secret *refresh; /* owned; the token that went there, or NULL */
};

/* Text that the head or an edit points to. */
struct inject_text;

struct inject {
	struct http1_edit edits[INJECT_MAX];
	size_t n;
	struct inject_text *texts; /* owned */
	char services[256];  /* "github, npm": what was added, for the audit log; "" for nothing */
	const struct buf *pair; /* one of texts, still to be masked, or NULL */
	struct filter *body; /* owned; what has to be replaced in a body that streams, or NULL */
	struct inject_answer answer;
};

/* Start to fetch what a request to @name:@port needs. */
void inject_want(
	struct values_set *values, const struct config *c, const char *name, uint16_t port);
/* Whether the request's body has to be read whole before its head can be sent. */
bool inject_wants_body(const struct inject_request *q, const struct http1_head *h);
/* Fill *ret for request @h, whose target and fields may be replaced (they then point into *ret),
 * and replace in @body (the whole of it, or NULL). Nothing in the set of values is pending. A
 * header of a credential is set, whatever the guest sent in it. A credential without a value takes
 * the guest's placeholder out, or is an error when the kit requires it. -1 with @err (ERR_USER: the
 * user can remedy it); *ret needs inject_done in both cases. */
int inject_prepare(struct inject *ret, const struct inject_request *q, struct http1_head *h,
	struct buf *body, struct err *err);
void inject_done(struct inject *in);

/* ---- the answer ---- */

/* Mask what must not be seen in a head, in place. -1 with @err: the answer must not pass, for its
 * body cannot be searched. */
int inject_answer_head(const struct inject_answer *a, struct http1_head *h, struct err *err);
/* Whether the body has to be read whole, for inject_answer_body. */
bool inject_answer_is_whole(const struct inject_answer *a, const struct http1_head *h);
/* Rewrite the whole @body: tokens are kept, the guest gets sentinels. -1: it must not pass. */
int inject_answer_body(const struct inject_answer *a, const struct config *c, int tokens,
	unsigned status, struct buf *body, struct err *err);
void inject_answer_done(struct inject_answer *a);

/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP request, whichever version of HTTP carries it: is it what the connection was opened for,
 * do the rules allow it, what changes in its head on the way out, what does the audit log say.
 *
 * Its owner reads the head, calls request_begin and request_check, waits for the server, calls
 * request_prepare, sends, and ends with request_audit. `struct http1_head` stands for the head in
 * all versions. */
#pragma once

#include "gate/flow.h"
#include "gate/http1.h"
#include "gate/inject.h"
#include "gate/refuse.h"
#include "gate/values.h"

#define REQUEST_PATH_LOGGED 512
#define REQUEST_OVERRIDES   5
/* Credentials, fields that are dropped, and some for what is special to a version. */
#define REQUEST_EDITS_MAX (INJECT_MAX + REQUEST_OVERRIDES + 6)

struct request {
	struct flow *flow; /* whose it is, once begun */
	bool open;         /* under way, and the audit log has not seen it */
	uint64_t started_ns, answered_ns;
	char method[32], path[REQUEST_PATH_LOGGED]; /* for the log; "" without a request */
	enum http1_form form;
	struct policy_path canon; /* owned; what rules see. {0}: ambiguous, and why */
	struct err canon_err;
	struct values_set values;      /* of its credentials; their arrival wakes the flow */
	struct inject_answer answer;   /* what its answer must not show */
	char services[256];            /* credentials added */
	uint64_t bytes_up, bytes_down; /* of bodies */
};

/* Why a request is not forwarded, with the memory of the words. */
struct request_refusal {
	struct refusal r; /* points into the rest, or to static text */
	char reason[POLICY_EXPLAIN_MAX], remedy[POLICY_EXPLAIN_MAX];
	char rule[POLICY_TARGET_MAX + 160];
};

/* What changes in the head on its way to the server. */
struct request_changes {
	struct http1_edit edits[REQUEST_EDITS_MAX];
	size_t n;
	struct inject inject; /* owns the values */
};

/* @h has been read. It is under way from now on. */
void request_begin(struct request *r, struct flow *f, const struct http1_head *h);
/* Forget it. {0} is fine. */
void request_done(struct request *r);
/* Put it, if it is under way, into @q (borrowed until it ends). */
void request_query(const struct request *r, struct policy_query *q);

/* Whether it may be sent to the destination of @f; if so, fetching of its credentials begins
 * (r->values). A refusal that no rule decided becomes a question to the user. */
bool request_check(struct flow *f, struct request *r, const struct http1_head *h,
	struct request_refusal *why);
/* Whether its body has to be whole before it can be sent. */
bool request_wants_body(struct flow *f, struct request *r, const struct http1_head *h);
/* The server is there and verified, r->values are there: the last look before it is sent. Takes the
 * values; target and fields of @h may point into *ret afterwards. @body: whole, or NULL; what is
 * replaced in one that streams is ret->inject.body. *ret needs request_changes_done, whatever is
 * returned. */
bool request_prepare(struct flow *f, struct request *r, struct http1_head *h, struct buf *body,
	struct request_changes *ret, struct request_refusal *why);
void request_changes_done(struct request_changes *c);

/* The end of a request, or of a connection whose request nobody could read. */
void request_audit(struct flow *f, struct request *r, enum audit_verdict verdict, int status,
	const char *reason);

/* Fill in @why; @reason and @remedy (may be NULL) are copied. Always false. */
bool request_refuse(struct request_refusal *why, int status, const char *code, const char *reason,
	const char *remedy);
/* The server could not be dialled: it does not answer, or the name leads to an address that is not
 * allowed. */
bool request_refuse_unreached(const struct flow *f, struct request_refusal *why);
/* How the answer to @h should look. */
bool request_accepts_json(const struct http1_head *h);

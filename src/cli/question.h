/* SPDX-License-Identifier: Apache-2.0 */
/* A question to the network rules, in words: "api.example.com:80", "POST https://example.com/v1".
 */
#pragma once

#include <stdbool.h>

#include "policy/policy.h"

/* What the query points to; {0} before question_parse. */
struct question {
	char *text; /* owned; the host is cut out of it */
	struct policy_host host;
	struct policy_path path;
	struct policy_query q;
};

/* @method and @at, a path, may be NULL: what @target says counts. To be released in both cases. */
int question_parse(struct question *k, const char *target, const char *method, const char *at,
	bool udp, struct err *err);
void question_done(struct question *k);

/* SPDX-License-Identifier: Apache-2.0 */
/* The rules that the user may change: those for all sandboxes, and those of one sandbox. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "policy/policy.h"
#include "wire/spec.h"

/* Sources of the user's own rules; everything else is a kit's or a preset's. */
#define RULES_SOURCE_ALL "user, all sandboxes"
#define RULES_SOURCE_BOX "user"

/* Being changed. From open to close no other hutch command changes rules. */
struct ruleset {
	const char *box;          /* borrowed; NULL: for all sandboxes */
	int lock;                 /* owned */
	struct spec_rules user;   /* without box */
	struct box_spec spec;     /* with box */
	struct spec_rule **rules; /* of one of the two */
	size_t *n;
};

int ruleset_open(const char *box, struct ruleset *ret, struct err *err);
/* False: it is there already. */
bool ruleset_add(struct ruleset *r, bool allow, const char *target, const char *source);
/* Remove the rules whose text is @target and, where not NULL, whose source is @source; else the
 * user's own. Returns how many there were; *ret_kept: how many of them belong to somebody else. */
size_t ruleset_remove(struct ruleset *r, const char *target, const char *source, size_t *ret_kept);
/* Write, and put it in force where a sandbox is running. */
int ruleset_commit(struct ruleset *r, struct err *err);
void ruleset_close(struct ruleset *r);

/* Add the rules for all sandboxes to @net, for a plan that is only shown. */
int rules_show(struct spec_net *net, struct err *err);
/* Everything that is in force in @box (NULL: in every sandbox), as its gate puts it together. */
int rules_policy(const char *box, struct policy *ret, struct err *err);

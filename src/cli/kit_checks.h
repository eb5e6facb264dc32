/* SPDX-License-Identifier: Apache-2.0 */
/* hutch kit test: the checks that a kit's testdata asks for. */
#pragma once

#include <stdbool.h>

#include <jansson.h>

#include "cli/boxes.h"
#include "kit/testdata.h"
#include "policy/policy.h"

/* What was checked so far. */
struct checks {
	json_t *list; /* owned; NULL: print a line for each */
	unsigned passed, failed;
	int signal; /* one that came for us: nothing more is checked */
};

/* One result. @why: what is wrong, taken; NULL: passed. @output: what the command said, or NULL. */
void checks_add(struct checks *c, const char *name, char *why, const char *output);

/* Run a file's checks in a sandbox that is up. -1: the sandbox is gone, which failed one of them.
 */
int checks_run(struct checks *c, const struct testdata_file *f, const struct box_spec *s,
	struct box_conn *conn);
/* Its questions to the network rules. */
void checks_ask(struct checks *c, const struct testdata_file *f, const struct policy *p);

/* SPDX-License-Identifier: Apache-2.0 */
/* Who the user is to git. */
#pragma once

#include "kit/plan.h"

struct identity {
	char *name, *email; /* owned; NULL: git here does not know */
};

/* What the user's own git configuration says, for kits that ask for it (git-identity); nothing else of
 * it. @req is given what was found. */
void identity_read(struct plan_request *req, struct identity *ret);
void identity_done(struct identity *i);

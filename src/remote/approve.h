/* SPDX-License-Identifier: Apache-2.0 */
/* What the user approved of kits from elsewhere: $XDG_CONFIG_HOME/hutch/approved/SHA256 of the
 * source, JSON. Kept per source, not per version. */
#pragma once

#include <stdbool.h>

#include "kit/kit.h"

/* One source whose kits ask for more than was approved. */
struct approval {
	char *source, *digest; /* owned; digest: of its first kit's tree */
	char *name;            /* owned: of its first kit */
	bool known;            /* something was approved before */
	struct strv grants;    /* all that it asks for now */
	struct strv diff;      /* what is new; all of it when nothing is known */
	size_t n_install;      /* install steps, which run as root in the sandbox */
};

struct approvals {
	struct approval *v;
	size_t n;
};

/* What @kits need that was not approved yet. */
int approvals_find(const struct kit *kits, size_t n, struct approvals *ret, struct err *err);
/* Remember all that @a asks for. */
int approvals_save(const struct approval *a, struct err *err);
void approvals_done(struct approvals *a);

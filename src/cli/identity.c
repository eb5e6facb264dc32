/* SPDX-License-Identifier: Apache-2.0 */
/* Who the user is to git. */
#include "cli/identity.h"

#include <stdlib.h>
#include <string.h>

#include "base/child.h"

#define VALUE_MAX 512 /* bytes of a name or an address */

/* Owned; NULL when there is none. Of the user, not of a repository that may be a stranger's. */
static char *read_value(const char *key)
{
	char **argv = ARGV("git", "config", "--global", "--includes", "--null", "--get", key);
	char *out = NULL;
	struct err err;
	int status =
		child_run(&(struct child_spec){.path = argv[0], .argv = argv, .in = CHILD_NULL},
			&out, 2 * VALUE_MAX, &err);

	/* A NUL ends it. Of a value that is too long, or with a line break, no part is the user's
	 * name: the plan refuses the latter. */
	if (status == 0 && out && *out && strlen(out) <= VALUE_MAX)
		return out;
	free(out);
	return NULL;
}

void identity_read(struct plan_request *req, struct identity *ret)
{
	bool asked = false;

	*ret = (struct identity){0};
	for (size_t i = 0; i < req->n_kits; i++)
		asked |= req->kits[i].git_identity;
	if (!asked)
		return;
	ret->name = read_value("user.name");
	ret->email = read_value("user.email");
	req->git_name = ret->name;
	req->git_email = ret->email;
}

void identity_done(struct identity *i)
{
	free(i->name);
	free(i->email);
	*i = (struct identity){0};
}

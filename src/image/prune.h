/* SPDX-License-Identifier: Apache-2.0 */
/* Removing what nobody needs: hutch image prune. */
#pragma once

#include <stdio.h>

#include "image/use.h"

struct image_prune {
	bool dry_run, json;
	FILE *out; /* a line, or an object, for each thing, and how much it is together */
	image_progress_fn *progress;
	void *arg;
	/* Adds the sandboxes; called when none can be made, started with another kernel pack, or
	 * given another image any more. */
	int (*users)(struct image_users *u, struct err *err);
};

/* Root images and layers that no sandbox, no disk of the install cache and no tag needs, what
 * broken pulls left, and, while no sandbox runs, kernel packs that would not be booted. */
int image_prune(const struct image_prune *p, struct err *err);

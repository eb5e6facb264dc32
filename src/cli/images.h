/* SPDX-License-Identifier: Apache-2.0 */
/* Root images, as the commands need them. */
#pragma once

#include "image/image.h"
#include "kit/plan.h"

/* An image_progress_fn: lines on stderr. */
void images_progress(void *arg, const char *what, int percent);

/* What a plan_request borrows. */
struct images_wanted {
	char *pinned;
	struct image_config config;
};
/* Look up the image that the kits of @req want and put it there; a line tells what a tag was pinned
 * as. Nothing to look up for Hutch's own. */
int images_resolve(struct plan_request *req, struct images_wanted *ret, struct err *err);
void images_wanted_done(struct images_wanted *w);

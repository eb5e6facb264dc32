/* SPDX-License-Identifier: Apache-2.0 */
/* Root images, as the commands need them. */
#include "cli/images.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "oci/ref.h"
#include "remote/ref.h"

void images_progress(void *arg, const char *what, int percent)
{
	char line[400];

	(void)arg;
	if (percent >= 0 && isatty(STDERR_FILENO)) {
		char bar[21];

		memset(bar, '.', 20);
		memset(bar, '#', (size_t)MIN(percent, 100) / 5);
		bar[20] = '\0';
		snprintf(line, sizeof(line), "[%s] %3d%%  %s", bar, percent, what);
	} else if (percent > 0 && percent < 100) {
		return; /* not on a terminal: one line per job, not per step */
	} else {
		snprintf(line, sizeof(line), "%s", what);
	}
	cli_progress(line);
}

static bool is_from_elsewhere(const struct kit *k)
{
	struct ref from;
	bool local;

	if (!k->pin || ref_parse(k->pin, &from, NULL) < 0)
		return k->pin != NULL;
	local = from.local;
	ref_done(&from);
	return !local;
}

/* A kit from elsewhere has no business with addresses of this machine. */
static int check_source(const struct plan_request *req, const char *image, struct err *err)
{
	struct oci_ref ref;
	bool local;

	if (oci_ref_parse(image, &ref, err) < 0)
		return -1;
	local = ref.local;
	oci_ref_done(&ref);
	for (size_t i = 0; local && i < req->n_kits; i++) {
		const struct kit *k = &req->kits[i];

		if (k->kind == KIT_SANDBOX && k->sandbox.image &&
			strcmp(k->sandbox.image, image) == 0 && is_from_elsewhere(k))
			return err_set(err, ERR_USER,
				"kit %s comes from elsewhere and must not name %s of this machine",
				k->name, image);
	}
	return 0;
}

int images_resolve(struct plan_request *req, struct images_wanted *ret, struct err *err)
{
	const char *image = plan_image(req->kits, req->n_kits);
	struct images_wanted w = {0};

	if (!image || image_is_base(image))
		return 0;
	if (check_source(req, image, err) < 0 ||
		image_resolve(image, &w.pinned, &w.config, err) < 0)
		return -1;
	if (!strchr(image, '@'))
		fprintf(stderr, "hutch: %s: pinned as %s\n", image, w.pinned);
	*ret = w;
	req->image = ret->pinned;
	req->image_config = &ret->config;
	return 0;
}

void images_wanted_done(struct images_wanted *w)
{
	free(w->pinned);
	image_config_done(&w->config);
	*w = (struct images_wanted){0};
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What an image says about running it, and of its layers (OCI image-spec 1.1, config.md). Pure. */
#pragma once

#include <stddef.h>

#include "base/err.h"
#include "base/mem.h"

#define OCI_CONFIG_MAX (4u << 20)

/* Everything is owned; what the image does not say is empty or NULL. */
struct image_config {
	struct strv entrypoint, cmd, env; /* env: K=V */
	char *workdir, *user;             /* or NULL */
	struct strv diff_ids; /* "sha256:…" of each layer unpacked, the lowest first */
};

/* The configuration blob of an image for linux/amd64; another platform is an error that names it.
 * *ret is only set on success, and then to be released. */
int image_config_parse(const void *text, size_t len, struct image_config *ret, struct err *err);
void image_config_done(struct image_config *c);

/* SPDX-License-Identifier: Apache-2.0 */
/* Kits in an OCI registry (distribution-spec 1.1). */
#pragma once

#include <jansson.h>

#include "base/err.h"
#include "fetch/http.h"
#include "fetch/manifest.h"

struct registry {
	struct http *http;       /* borrowed */
	const char *host, *repo; /* borrowed */
};

/* What @reference (a tag or digest) is: its digest. All that was fetched is verified. */
int registry_resolve(struct registry *r, const char *reference, char digest[static OCI_DIGEST],
	struct err *err);
/* Fetch a kit into the directory @dirfd: spec.yaml and layer, kit.zip, or descriptor.json; and
 * kit.sig.bundle and kit.sig where it has them. */
int registry_pull(struct registry *r, const char *reference, int dirfd,
	char digest[static OCI_DIGEST], struct err *err);
/* The other way: spec.yaml, layer and signatures from @dirfd. @annotations is borrowed. */
int registry_push(struct registry *r, const char *tag, int dirfd, const json_t *annotations,
	char digest[static OCI_DIGEST], struct err *err);

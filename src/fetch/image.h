/* SPDX-License-Identifier: Apache-2.0 */
/* Images from an OCI registry into a directory of blobs, each named by the 64 digits of its digest.
 */
#pragma once

#include "fetch/registry.h"

/* What was fetched, by digest. */
struct image_blobs {
	char top[OCI_DIGEST];      /* what the reference is: an index, or the manifest */
	char manifest[OCI_DIGEST]; /* for linux/amd64 */
};

/* The index, the manifest and the configuration, and with @layers the layers, too; what is there
 * already is not fetched again, and what broke off goes on. All that gets its name is verified and
 * on the disk. */
int image_pull(struct registry *r, const char *reference, int dirfd, bool layers,
	struct image_blobs *ret, struct err *err);

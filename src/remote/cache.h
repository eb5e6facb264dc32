/* SPDX-License-Identifier: Apache-2.0 */
/* Fetched kits: $XDG_DATA_HOME/hutch/kits/SHA256, named by what is in them, and
 * kits/refs/SHA256 of a pinned reference, which holds that name. Nothing needs to be synced: a tree
 * that a crash has damaged does not fit its name. */
#pragma once

#include "base/err.h"
#include "base/sha256.h"

/* A directory to fetch into. */
struct stage {
	char *path; /* owned; NULL: none */
	int fd;     /* owned */
};
int stage_open(struct stage *ret, struct err *err);
void stage_close(struct stage *s); /* removes what is left of it */

/* The tree of a pinned reference; owned. NULL: not there, or not what it was any more. */
char *cache_find(const char *pinned, char digest[static SHA256_HEX]);
/* Take the directory @name of the stage as what @pinned means; its path, owned. */
char *cache_add(const struct stage *s, const char *name, const char *pinned,
	char digest[static SHA256_HEX], struct err *err);

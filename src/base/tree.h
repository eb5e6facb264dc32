/* SPDX-License-Identifier: Apache-2.0 */
/* All that a directory holds, as a sorted list, and its digest. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"

#define TREE_FILES_MAX 10000
#define TREE_DEPTH_MAX 34
#define TREE_BYTES_MAX (256ULL << 20)
#define TREE_PATH_MAX  1024

struct tree_entry {
	char *path; /* owned; relative, without "." and ".." */
	bool link;
	bool exec; /* its owner may run it: all that counts of a file's mode */
	uint64_t size;
};

/* Regular files and symbolic links, sorted by the bytes of their paths; directories are what the
 * paths say. */
struct tree {
	struct tree_entry *v;
	size_t n;
};

/* List everything below @dirfd but ".git" there. The walk follows no link. More than the ceilings
 * above, and what is neither file, directory nor link, is an error. */
int tree_list(int dirfd, struct tree *ret, struct err *err);
void tree_done(struct tree *t);

/* Open a file or directory of a tree; no link on the way is followed. -1 with errno. */
int tree_open(int dirfd, const char *path, int flags, unsigned mode);

/* Append one line for each entry that @wants says yes to (NULL: all): "100644 SHA256 PATH", 100755
 * for what may be run, 120000 for a link (whose content is its target). */
int tree_text(int dirfd, const struct tree *t, bool (*wants)(const char *path, const void *arg),
	const void *arg, struct buf *text, struct err *err);
/* The digest of the text of everything below @dirfd. */
int tree_digest(int dirfd, char ret[static SHA256_HEX], struct err *err);

/* Copy everything below @from into the empty directory @to. */
int tree_copy(int from, int to, struct err *err);

/* SPDX-License-Identifier: Apache-2.0 */
/* Host files: whole-file reads with a ceiling, atomic writes, trees. Not for guest-named paths. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

/* Read all of @path (relative to @dirfd, or AT_FDCWD) and append it to @b. A file larger than the
 * buffer's room is an error. */
int fs_read_file(int dirfd, const char *path, struct buf *b, struct err *err);
/* Write to a temporary beside @path, fsync, rename: a crash leaves the old or the new content. */
int fs_write_file(
	int dirfd, const char *path, const void *data, size_t len, mode_t mode, struct err *err);
/* mkdir -p; only directories made here get @mode. */
int fs_mkdirs(const char *path, mode_t mode, struct err *err);
/* rm -rf @name below @dirfd, never following links, never leaving the file system's tree. An absent
 * name is success. */
int fs_remove_tree(int dirfd, const char *name, struct err *err);
/* Copy a file's data, keeping holes, and its length. */
int fs_copy_sparse(int from, int to, struct err *err);
/* @b + "/" + @a, owned. */
char *fs_join(const char *b, const char *a);
/* Whether @path exists (follows links). */
bool fs_exists(const char *path);

/* SPDX-License-Identifier: Apache-2.0 */
/* Reading archives of kits. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

enum extract_kind {
	EXTRACT_ZIP,   /* a whole kit; regular files and directories only */
	EXTRACT_TAR,   /* what git makes of a commit: links below files/, too */
	EXTRACT_LAYER, /* gzip; home/agent/ and workspace/, which become files/home and
			  files/workspace */
};

/* Where files go. Paths are checked, parents not made yet; each function may fail with @err. */
struct extract_sink {
	int (*dir)(void *arg, const char *path, struct err *err);
	int (*file)(void *arg, const char *path, bool exec, struct err *err); /* begins a file */
	int (*data)(void *arg, const void *p, size_t len, struct err *err);
	int (*link)(void *arg, const char *path, const char *target, struct err *err);
	void *arg;
};

/* Give all of the archive @data to @sink; what must not be in a kit is an error that says so. */
int extract(const void *data, size_t len, enum extract_kind kind, const struct extract_sink *sink,
	struct err *err);

/* A sink that makes files below an empty directory. */
struct extract_dir {
	int dirfd, file; /* borrowed; owned or -1 */
};
struct extract_sink extract_dir_sink(struct extract_dir *d);

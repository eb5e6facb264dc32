/* SPDX-License-Identifier: Apache-2.0 */
/* The names of an archive's entries: whether each may become a file, and whether two would be one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define NAMES_MAX 20000 /* files and directories together */

struct names {
	void *root; /* tsearch: struct name by folded path */
	size_t n;
};

/* Whether @path may be extracted: relative, normal, within the ceilings, no control character, no
 * backslash, UTF-8. A directory's "/" at the end is taken off first. */
int name_check(const char *path, struct err *err);
/* Note @path and the directories above it. An error: it is there already, is both file and
 * directory, or differs from another one in upper and lower case only. Directories may come again.
 */
int names_add(struct names *names, const char *path, bool dir, struct err *err);
void names_done(struct names *names);
/* Whether a link at @path (below files/home or files/workspace) stays there when read as text. */
bool name_link_stays(const char *path, const char *target);

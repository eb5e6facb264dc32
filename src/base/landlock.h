/* SPDX-License-Identifier: Apache-2.0 */
/* Landlock: which files a thread may still reach by name. Descriptors that are open keep working. */
#pragma once

#include <stddef.h>

#include "base/err.h"

/* What may be done with a file, or below a directory. */
enum landlock_access {
	LANDLOCK_LOOK = 1 << 0,	  /* read files, list directories */
	LANDLOCK_RUN = 1 << 1,	  /* execute files */
	LANDLOCK_MODIFY = 1 << 2, /* write, truncate, make, remove and rename everything but devices */
	LANDLOCK_REMOVE_FILES = 1 << 3,
	LANDLOCK_REMOVE_DIRS = 1 << 4,
};

struct landlock_rule {
	const char *path; /* borrowed; NULL: @fd is meant. What is absent is left out. */
	int fd;
	unsigned access; /* enum landlock_access */
};

enum landlock_more {
	LANDLOCK_NO_TCP = 1 << 0, /* no TCP bind or connect, where the kernel can */
	LANDLOCK_ALONE = 1 << 1,  /* no signal to, no abstract socket of, a process outside */
};

/* The programs and libraries of the host, to look at and run. Returns how many rules that is. */
#define LANDLOCK_PROGRAMS 10u
size_t landlock_programs(struct landlock_rule rules[static LANDLOCK_PROGRAMS]);

/* Confine the calling thread, and those that it makes, to @rules. It must have no_new_privs.
 * 1: done, 0: this kernel has no Landlock, -1 with @err. */
int landlock_enter(const struct landlock_rule *rules, size_t n, unsigned more, struct err *err);
/* Whether this kernel has it. */
int landlock_version(void);

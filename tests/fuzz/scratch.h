/* SPDX-License-Identifier: Apache-2.0 */
/* A secret store of a fuzz target's own, which goes when the process ends. */
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "secret/source.h"
#include "secret/store.h"

static char scratch_dir[] = "/dev/shm/hutch-fuzz-XXXXXX"; /* no disk to wait for */

static void scratch_remove(void)
{
	fs_remove_tree(AT_FDCWD, scratch_dir, NULL);
}

/* The same each time; the directory is made by the first call. */
static inline int scratch_store(void)
{
	static int store = -1;
	char path[64];

	if (store < 0) {
		if (!mkdtemp(scratch_dir))
			abort();
		atexit(scratch_remove);
		snprintf(path, sizeof(path), "%s/store", scratch_dir);
		store = secret_store_open(path, NULL);
		if (store < 0)
			abort();
	}
	return store;
}

static inline void scratch_put(const char *name, const void *p, size_t len)
{
	struct secret *s = secret_new(p, len, NULL);

	if (!s || secret_store_set(scratch_store(), name, s, NULL) < 0)
		abort();
	secret_free(s);
}

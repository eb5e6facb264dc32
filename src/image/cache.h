/* SPDX-License-Identifier: Apache-2.0 */
/* The install cache: $XDG_DATA_HOME/hutch/cache/KEY.img, a sandbox's disk as it was after the
 * install steps of its kits. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"

/* 64 lower-case hexadecimal digits. */
bool image_cache_key_valid(const char *key);
/* The SHA-256 of a file, as a key. */
int image_cache_digest(const char *path, char ret[static 65], struct err *err);
bool image_cache_has(const char *key);
/* Put a copy of the entry at @to: 1; 0 when there is none. */
int image_cache_restore(const char *key, const char *to, struct err *err);
/* The path of an entry without .img and .json, owned. Whoever makes one writes temporaries beside
 * it and renames KEY.img last. */
char *image_cache_entry(const char *key, struct err *err);

/* What the disks of all entries lie on. */
struct image_users;
int image_cache_users(struct image_users *u, struct err *err);

int image_cache_list(FILE *out, bool json, struct err *err);
/* Remove the entries whose keys begin with @prefix; "": all. */
int image_cache_remove(const char *prefix, struct err *err);

/* SPDX-License-Identifier: Apache-2.0 */
/* A small, strict subset of YAML as a tree with positions. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "kit/report.h"

#define YNODE_FILE_MAX    (1024 * 1024) /* bytes */
#define YNODE_DEPTH_MAX   16
#define YNODE_COUNT_MAX   65536 /* values in a file */
#define YNODE_ENTRIES_MAX 4096  /* entries of one map or list */

enum ynode_kind {
	YNODE_SCALAR,
	YNODE_LIST,
	YNODE_MAP,
	YNODE_BAD, /* already reported: say nothing more about it */
};

struct ynode {
	enum ynode_kind kind;
	int line, column; /* of the value, from 1 */
	const struct ynode *parent;
	/* Place in the parent: a key (with its own position) in a map, an index in a list. */
	char *key;
	int key_line, key_column;
	size_t index;
	char *value;          /* scalars: no NUL inside */
	bool plain;           /* scalars: neither quoted nor a block */
	bool flexible;        /* scalars: of the type that the field wants (a whole argument) */
	struct ynode **items; /* lists and maps, in the order of the file */
	size_t n;
};

/* Read @len bytes of YAML. Everything that the subset forbids is in @errs, under the name @file.
 * NULL when the text breaks off (or is empty); else the whole tree, with YNODE_BAD where something
 * was forbidden, so that the rest of the file can be checked. */
struct ynode *ynode_read(const void *data, size_t len, const char *file, struct kit_errors *errs);
void ynode_free(struct ynode *n);

/* The value under @key, or NULL; also when @map is none, or NULL. */
const struct ynode *ynode_get(const struct ynode *map, const char *key);
/* "permissions.network.allow[2]". Owned. */
char *ynode_path(const struct ynode *n);
/* "a number", "a boolean" or "null" when YAML takes the plain scalar for that, else NULL. */
const char *ynode_type(const struct ynode *scalar);
/* Whether a field of type "a number" or "a boolean" may take the scalar. */
bool ynode_reads_as(const struct ynode *scalar, const char *type);

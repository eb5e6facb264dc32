/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of an image → one tree (OCI image-spec 1.1, layer.md). Pure: names and links alone, no
 * data.
 *
 * Each entry of each layer is told once, lowest layer first. Then merge_at() says of each entry,
 * told again in the same order, under which names it is in the image: whoever writes the image
 * reads the layers a second time and keeps nothing of them in memory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define MERGE_NODES_MAX   1000000u     /* names in the tree */
#define MERGE_ENTRIES_MAX 4000000u     /* in all layers */
#define MERGE_TEXT_MAX    (256u << 20) /* bytes of names and of targets of symbolic links */
#define MERGE_PATH        4096         /* with NUL; as in PATH_MAX */

enum merge_type { MERGE_DIR, MERGE_FILE, MERGE_SYMLINK, MERGE_OTHER };

/* Everything is borrowed. */
struct merge_entry {
	const char *path;
	enum merge_type type;
	const char *target;   /* of a symbolic link */
	const char *hardlink; /* the name that this is another one of; type says nothing then */
};

struct merge;
struct merge_inode; /* one file, directory …, with one or more names */
struct merge_node;  /* a name */

struct merge *merge_new(void);
void merge_free(struct merge *m);
void merge_begin_layer(struct merge *m);
/* The next entry of the layer. ERR_USER: it must not be in an image. */
int merge_add(struct merge *m, const struct merge_entry *e, struct err *err);

/* No more layers. */
void merge_finish(struct merge *m);
/* Entry @index (from 0) of @layer (from 0), asked for in order: NULL where nothing of it is left.
 */
const struct merge_inode *merge_at(struct merge *m, unsigned layer, uint32_t index);
enum merge_type merge_inode_type(const struct merge_inode *i);
const struct merge_node *merge_first_name(const struct merge_inode *i);
const struct merge_node *merge_next_name(const struct merge_node *n);
/* Directories that no layer has an entry of, only what is in them: parents first; NULL at the end.
 */
const struct merge_node *merge_implied(const struct merge *m, size_t i);
/* The path without a slash in front. */
void merge_path(const struct merge_node *n, char ret[static MERGE_PATH]);
/* What @path is, symbolic links followed; NULL: nothing. */
const struct merge_inode *merge_find(struct merge *m, const char *path);

/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments of kits: declared under args, referred to as ${{ kit.args.NAME }}, given by the user.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "kit/fields.h"
#include "kit/kit.h"

#define ARGS_VALUE_MAX 4096 /* bytes of one value */
#define ARGS_TEXT_MAX  (4 * 1024 * 1024)

/* One reference in a text. */
struct args_ref {
	size_t at, len;        /* of the whole reference */
	size_t name, name_len; /* name_len 0: not a name */
};

/* The first reference at or behind @from; false when there is none. */
bool args_next_ref(const char *text, size_t len, size_t from, struct args_ref *ret);

/* The shape of the args block of "2" (@schema 2) or "3", for load_map into struct kit. */
const struct shape *args_shape(unsigned schema);
/* The row of kit_rows; reads declarations. */
field_fn load_args;

/* Give the declared arguments of @k their values. @places: the args map in the text, or NULL.
 * Reports missing and unfit values; with @placeholders a missing value is no error. */
void args_resolve(struct load *l, const struct ynode *places, struct kit *k, struct kit_inputs *in);

/* Where a piece of the expanded text came from. */
struct args_map {
	struct args_piece {
		size_t out, out_len, src, src_len;
	} * v;
	size_t n;
};

/* Replace every reference by its value. Undeclared ones are reported (at their place). -1 when that
 * makes the text larger than @out may be. */
int args_expand(struct load *l, const char *text, size_t len, const struct kit *k, struct buf *out,
	struct args_map *map);
/* Move the places of the errors from the number @from on to where they are in the source. */
void args_map_errors(struct kit_errors *errs, size_t from, const struct args_map *map,
	const char *text, size_t len, const char *source, size_t source_len);
void args_map_done(struct args_map *m);

/* Stands for the value of an argument that has none: no field can mean it. */
#define ARGS_PLACEHOLDER "hutch0placeholder0value"
/* Values made of a placeholder become YNODE_BAD: nothing is known about them. */
void args_hide_placeholders(struct ynode *n);
/* schemaVersion "3": replace references in the values and keys of the tree. */
void args_expand_tree(struct load *l, struct ynode *root, const struct kit *k);

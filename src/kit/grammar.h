/* SPDX-License-Identifier: Apache-2.0 */
/* The grammars of spec.yaml: private to the folder. */
#pragma once

#include "kit/fields.h"
#include "kit/kit.h"

/* Fill @k, whose dir, file, schema and args are set, from the tree. Errors are in l->errs only. */
void grammar1_load(struct load *l, const struct ynode *root, struct kit *k);
void grammar2_load(struct load *l, const struct ynode *root, struct kit *k);
void grammar3_load(struct load *l, const struct ynode *root, struct kit *k);
extern const struct shape grammar1_shape, grammar2_shape, grammar3_shape;

/* Read the config @n, a map, of the capability that was added to @k last. */
typedef void capability_fn(struct load *l, const struct ynode *n, struct kit *k);

struct capability_type {
	const char *name;           /* "com.docker.sandbox/volume@1" */
	const struct shape *config; /* NULL: has none */
	capability_fn *add; /* an entry of its own, by config; NULL: config is of struct kit */
	bool singleton;
	size_t flag; /* types without config: a bool of struct kit; 0: none */
	const char *unavailable; /* why no sandbox has it; NULL: it can */
};
extern const struct capability_type capability_types[];
extern const size_t n_capability_types;
/* NULL: Hutch does not know it. */
const struct capability_type *capability_find(const char *type);

/* What holds for the one model, whatever the grammar. Ends the use of all "at" members. */
void kit_check(struct load *l, struct kit *k);

/* Check dir/files: what is in there and that it may be copied. Sets has_home, has_workspace. */
void kit_check_files(struct kit *k, struct kit_errors *errs);

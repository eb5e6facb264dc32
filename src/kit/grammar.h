/* SPDX-License-Identifier: Apache-2.0 */
/* The grammars of spec.yaml: private to the folder. */
#pragma once

#include "kit/fields.h"
#include "kit/kit.h"

/* Fill @k, whose dir, file and schema are set, from the tree. Errors are in l->errs only. */
void grammar2_load(struct load *l, const struct ynode *root, struct kit *k);

/* Check dir/files: what is in there and that it may be copied. Sets has_home, has_workspace. */
void kit_check_files(struct kit *k, struct kit_errors *errs);

/* SPDX-License-Identifier: Apache-2.0 */
/* The file trees of kits, copied to boxes/NAME/files when a sandbox is made. */
#pragma once

#include "base/err.h"
#include "wire/spec.h"

/* Copy them below @files_fd, arguments of kits filled in. */
int box_trees_copy(int files_fd, const struct spec_tree *t, size_t n, struct err *err);
/* Copy those of @s to its sandbox, which exists. */
int box_trees_add(const struct box_spec *s, struct err *err);
/* Remove the sandbox's trees that are not of @s. */
void box_trees_sweep(const struct box_spec *s);

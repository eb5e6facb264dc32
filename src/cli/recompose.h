/* SPDX-License-Identifier: Apache-2.0 */
/* Another plan for a sandbox that exists: what it was made with, with other kits or arguments. */
#pragma once

#include "base/mem.h"
#include "wire/spec.h"

struct recompose {
	const char *agent; /* NULL: the kits that it has */
	struct strv kits;  /* --kit, with agent */
	struct strv kit_args, args_files, approved;
};

bool recompose_wanted(const struct recompose *how);
/* 0, or the exit status after a message. Nothing is changed but what was approved. *ret is to be
 * released in both cases. Goes to the directory in which the sandbox was made. */
int recompose(const struct recompose *how, const struct box_spec *was, struct box_spec *ret);
void recompose_done(struct recompose *how);

/* SPDX-License-Identifier: Apache-2.0 */
/* Asking the user before a kit from elsewhere gets more than was approved. */
#pragma once

#include "cli/cli.h"
#include "kit/kit.h"

/* 0: all is approved (and remembered), else the exit status: CLI_REFUSED when nobody could be asked
 * or the answer was no. @digests: --approve-kit, each at least 12 digits of a tree's digest. */
int approve_kits(const struct kit *kits, size_t n, const struct strv *digests);

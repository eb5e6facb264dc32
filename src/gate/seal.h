/* SPDX-License-Identifier: Apache-2.0 */
/* What hutch-gate keeps when it has started. */
#pragma once

#include "base/err.h"

/* Confine the process: @dirfd is its directory, @tokens the store that it writes, or -1. Layers that the host lacks are added to *missing. */
int gate_seal(int dirfd, int tokens, unsigned *missing, struct err *err);

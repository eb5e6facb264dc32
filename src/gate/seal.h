/* SPDX-License-Identifier: Apache-2.0 */
/* What hutch-gate keeps when it has started. */
#pragma once

#include "base/err.h"

/* Confine the process: @dirfd is its directory, @secrets and @own_secrets the stores that it reads,
 * @tokens the one that it writes, or -1. Layers that the host lacks are added to *missing. */
int gate_seal(
	int dirfd, int secrets, int own_secrets, int tokens, unsigned *missing, struct err *err);

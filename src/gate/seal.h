/* SPDX-License-Identifier: Apache-2.0 */
/* What hutch-gate keeps when it has started. */
#pragma once

#include "base/err.h"

/* Confine the process: @dirfd is its directory, @secrets the secret store or -1, @own_secrets what the
 * sandbox has of its own or -1. Layers that
 * the host lacks are added to *missing. */
int gate_seal(int dirfd, int secrets, int own_secrets, unsigned *missing, struct err *err);

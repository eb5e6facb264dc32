/* SPDX-License-Identifier: Apache-2.0 */
/* What hutch-ssh keeps when it has started: the sockets it has. */
#pragma once

#include "base/err.h"

/* *ret_missing: layers that the host refuses. */
int ssh_seal(unsigned *ret_missing, struct err *err);

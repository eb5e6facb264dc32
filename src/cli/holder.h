/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor of a sandbox, as its lock knows it: also when XDG_RUNTIME_DIR is another one than
 * at its start, or its socket is gone. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* Whether a supervisor runs, or is about to start or to end. */
bool holder_exists(const char *name);
/* Where it has been listening since its start, owned; NULL when there is no such note. */
char *holder_socket(const char *name);
/* End it, and with it all that it has started. */
int holder_kill(const char *name, struct err *err);

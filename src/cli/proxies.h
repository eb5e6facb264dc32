/* SPDX-License-Identifier: Apache-2.0 */
/* The proxies of this machine, for the gate of a sandbox that is started. */
#pragma once

#include "base/err.h"
#include "base/mem.h"

/* Our environment (NAME=VALUE, owned by the caller) with what settings.yaml says about proxies in
 * it: the gate reads the usual variables. They may hold a password, so they are in no file and no
 * argument. */
int proxies_environment(struct strv *ret, struct err *err);

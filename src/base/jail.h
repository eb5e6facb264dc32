/* SPDX-License-Identifier: Apache-2.0 */
/* Giving up authority. Each worker shows the calls in order at the top of its main. */
#pragma once

#include "base/err.h"

/* Layers that the host may refuse (containers often forbid user namespaces). */
enum jail_layer {
	JAIL_USERNS = 1 << 0,  /* own user namespace: no capability reaches the host */
	JAIL_NET = 1 << 1,     /* own network namespace without interfaces */
	JAIL_IPC = 1 << 2,
	JAIL_ROOT = 1 << 3,    /* empty root directory */
	JAIL_CAPS = 1 << 4,    /* no capability, none to be gained */
	JAIL_NEWPRIVS = 1 << 5,
};

/* Give up the layers in @want for ever. The caller must be single-threaded, and have every file it
 * needs open (shared libraries are loaded). Layers that the host refuses are returned in
 * *ret_missing; -1 is only for a half-done state that must not go on. */
int jail_enter(unsigned want, unsigned *ret_missing, struct err *err);
/* "user-namespace network" for a mask, for the log and doctor. */
const char *jail_layers_text(unsigned mask, char *to, unsigned size);

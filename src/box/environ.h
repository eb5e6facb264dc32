/* SPDX-License-Identifier: Apache-2.0 */
/* The environment that each process of a sandbox gets. */
#pragma once

#include "base/mem.h"

enum environ_part {
	ENVIRON_NOBODY,  /* our own variables, and the loader's: hutch-vmm */
	ENVIRON_HOST,    /* also what says how this host is used: qemu */
	ENVIRON_NETWORK, /* also proxies, trust store, resolver: hutch-gate */
};

/* The variables of @part, NAME=VALUE, from our own environment. */
void environ_pick(enum environ_part part, struct strv *ret);
/* Wipe everything that no part has. Only hutch-secret, started before, keeps it. */
void environ_forget(void);

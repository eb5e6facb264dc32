/* SPDX-License-Identifier: Apache-2.0 */
/* Giving up authority. Each worker shows the calls in order at the top of its main. */
#pragma once

#include "base/err.h"
#include "base/landlock.h"
#include "base/seccomp.h"

/* The leak check of AddressSanitizer traces the process, and looks at it in /proc. */
#if defined(__SANITIZE_ADDRESS__)
#define TRACEABLE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TRACEABLE 1
#endif
#endif
#ifndef TRACEABLE
#define TRACEABLE 0
#endif

/* Layers that the host may refuse (containers often forbid user namespaces). */
enum jail_layer {
	JAIL_USERNS = 1 << 0,  /* own user namespace: no capability reaches the host */
	JAIL_NET = 1 << 1,     /* own network namespace without interfaces */
	JAIL_IPC = 1 << 2,
	JAIL_ROOT = 1 << 3,    /* empty root directory */
	JAIL_CAPS = 1 << 4,    /* no capability, none to be gained */
	JAIL_NEWPRIVS = 1 << 5,
	JAIL_PID = 1 << 6,     /* own process namespace: child_spawn() only, with a user namespace */
	JAIL_LANDLOCK = 1 << 7,
	JAIL_SECCOMP = 1 << 8,
};
/* All that a host can refuse. */
#define JAIL_REFUSABLE                                                                             \
	(JAIL_USERNS | JAIL_NET | JAIL_IPC | JAIL_ROOT | JAIL_PID | JAIL_LANDLOCK | JAIL_SECCOMP)

/* Give up the layers in @want for ever. The caller must be single-threaded, and have every file it
 * needs open (shared libraries are loaded). Layers that the host refuses are returned in
 * *ret_missing; -1 is only for a half-done state that must not go on. */
int jail_enter(unsigned want, unsigned *ret_missing, struct err *err);
/* Instead of JAIL_ROOT, and before JAIL_CAPS: a root directory in which only the paths of @rules
 * (absolute, at most JAIL_PATHS_MAX) are, each where it was, with what is mounted below. Landlock says
 * what may be opened, and nothing of sockets; what is not there cannot be connected to. -1: the host
 * refuses. */
#define JAIL_PATHS_MAX 32u
int jail_view(const struct landlock_rule *rules, size_t n);
/* Map the caller's own ids to themselves in the user namespace that it has just been born in, so
 * that ownership on shared folders reads as before. */
int jail_map_self(unsigned uid, unsigned gid);
/* Lower a resource limit for good; it is never raised. */
void jail_limit(int resource, unsigned long long max);

/* The last step, for the calling thread and those that it makes: only @rules can be reached by name,
 * only the calls of @filter made. Adds what the host refuses to *missing. */
struct jail_seal {
	const struct landlock_rule *rules;
	size_t n_rules;
	unsigned more; /* enum landlock_more */
	const struct seccomp_filter *filter;
};
int jail_seal(const struct jail_seal *s, unsigned *missing, struct err *err);

/* Which layers this host refuses, by trying them all in a child. */
unsigned jail_refused(void);
/* "user-namespace network" for a mask, for the log and doctor. */
const char *jail_layers_text(unsigned mask, char *to, unsigned size);

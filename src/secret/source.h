/* SPDX-License-Identifier: Apache-2.0 */
/* Where a service's value comes from: it is stored, or the store says where it is.
 *
 * A reference is kept in the store under the service's name, as a value is, behind a mark that no
 * value begins with. So setting either replaces the other at once. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "secret/secret.h"

#define SOURCE_ARG_MAX     4096u /* bytes */
#define SOURCE_TTL_DEFAULT 300u  /* seconds */
#define SOURCE_TTL_MAX     (24u * 3600u)

enum source_kind {
	SOURCE_NONE,    /* nothing is kept under that name */
	SOURCE_VALUE,   /* the store has the value itself */
	SOURCE_ENV,     /* arg: a variable in the environment of the start */
	SOURCE_FILE,    /* arg: absolute path */
	SOURCE_CMD,     /* arg: for sh -c, on the host */
	SOURCE_KEYRING, /* the desktop's; arg: "" */
	SOURCE_KINDS,
};
const char *source_kind_name(enum source_kind k); /* "env" */

struct source {
	enum source_kind kind;
	char *arg;      /* owned; NULL for NONE and VALUE */
	unsigned ttl_s; /* how long a value of CMD or KEYRING may be used */
	uint64_t stamp; /* when it was set: the keyring's value may change with it */
	bool own;       /* from the sandbox's own secrets, not those for all sandboxes */
};
void source_done(struct source *s);
#define _source_ __attribute__((cleanup(source_done)))

/* "env:NAME", "file:/absolute/path", "cmd:COMMAND", "keyring:". */
int source_parse(const char *text, unsigned ttl_s, struct source *ret, struct err *err);
/* Keep @s (a reference) under @name, with a new stamp. */
int source_save(int store, const char *name, const struct source *s, struct err *err);
/* @stores: the sandbox's own secrets, and those for all; -1 for none. The first that has @name
 * wins. *ret_value is for SOURCE_VALUE, owned by the caller. Both stay untouched on failure. */
int source_find(const int stores[2], const char *name, struct source *ret,
	struct secret **ret_value, struct err *err);

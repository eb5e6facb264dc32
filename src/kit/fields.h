/* SPDX-License-Identifier: Apache-2.0 */
/* Loading a YAML map into a struct by a table: one row per key. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "kit/report.h"
#include "kit/ynode.h"

struct load {
	const char *file;
	struct kit_errors *errs;
};

struct field;
/* Load @n, a member of the map that fills @base. Reports what is wrong. */
typedef void field_fn(struct load *l, const struct ynode *n, void *base, const struct field *f);
/* NULL when @s may stand in the field, else what was expected. */
typedef const char *field_check_fn(const char *s);

enum field_flag {
	FIELD_REQUIRED = 1,
	FIELD_FUTURE = 2,  /* of the grammar, but not supported yet */
	FIELD_IGNORED = 4, /* of the grammar, without effect: a warning */
};

struct field {
	const char *key;
	field_fn *load;
	size_t offset;   /* in the struct that the map fills */
	size_t offset_n; /* lists: the count */
	unsigned flags;
	field_check_fn *check;     /* strings */
	const struct shape *shape; /* maps and lists of maps */
};

/* Keys that people may know from elsewhere, and what the key is today. */
struct moved {
	const char *key, *today;
};

struct shape {
	size_t size; /* of one list entry */
	const struct field *fields;
	size_t n;
	const struct moved *moved; /* ends with {NULL}; or NULL */
	/* Runs after the members; may be NULL. */
	void (*finish)(struct load *l, const struct ynode *n, void *entry);
	size_t max; /* list entries; 0: no limit of its own */
};

#define FIELD_AT(base, f, T) ((T *)(void *)((char *)(base) + (f)->offset))
#define FIELD_N(base, f)     ((size_t *)(void *)((char *)(base) + (f)->offset_n))

/* An error (or warning) at the value, or at the key of a map's member. */
void load_error(struct load *l, const struct ynode *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void load_error_key(struct load *l, const struct ynode *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void load_warn(struct load *l, const struct ynode *at, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* All members of a map by a table. Reports unknown, missing and unsupported keys. */
void load_map(struct load *l, const struct ynode *n, void *base, const struct shape *s);
/* The string of a scalar, borrowed; NULL when it is none (reported). @expected names the field's
 * type in the message, "a string" mostly. */
const char *load_scalar(struct load *l, const struct ynode *n, const char *expected);
/* Whether @n is a list or a map (reported if not). */
bool load_is_list(struct load *l, const struct ynode *n, const char *expected);
bool load_is_map(struct load *l, const struct ynode *n);

/* Loaders for struct field. */
field_fn load_string; /* char *: checked with f->check */
field_fn load_bool;   /* bool */
field_fn load_strv;   /* struct strv: each entry checked with f->check */
field_fn load_struct; /* f->shape into the same base */
field_fn load_list;   /* T *, count: a list of maps by f->shape */

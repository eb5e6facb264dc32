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
	unsigned schema; /* of the grammar that is read; 0: none */
};

struct field;
/* Load @n, a member of the map that fills @base. Reports what is wrong. */
typedef void field_fn(struct load *l, const struct ynode *n, void *base, const struct field *f);
/* NULL when @s may stand in the field, else what was expected. */
typedef const char *field_check_fn(const char *s);

enum field_flag {
	FIELD_REQUIRED = 1,
	FIELD_IGNORED = 2, /* of the grammar, without effect: a warning */
	FIELD_LEGACY = 4,  /* a block of schemaVersion "1": a warning that names today's */
};

struct field {
	const char *key;
	field_fn *load;
	size_t offset;   /* in the struct that the map fills */
	size_t offset_n; /* lists: the count */
	unsigned flags;
	field_check_fn *check;     /* strings */
	const struct shape *shape; /* maps and lists of maps */
	const char *json;          /* JSON Schema of what @load takes, unless schema.c knows it */
	const char *today;         /* FIELD_LEGACY: what the block is called now */
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
field_fn load_list;   /* T *, count: a list of maps by f->shape, appended */
/* For keys that nothing is done with, or that another row reads: any value, or a string. */
field_fn load_nothing, load_ignored_string;

/* ---- writing tables ---- */
/* clang-format off */
#define ROW(s, key, fn, m, ...)  {key, fn, offsetof(struct s, m), 0, __VA_ARGS__}
#define LIST_ROW(s, key, m, shape) \
	{key, load_list, offsetof(struct s, m), offsetof(struct s, n_##m), 0, NULL, &(shape)}
#define STRUCT_ROW(key, shape)   {key, load_struct, 0, 0, 0, NULL, &(shape)}
#define CUSTOM_ROW(key, fn, text) {key, fn, 0, 0, 0, NULL, NULL, text}
#define SHAPE(s, rows, ...)      {sizeof(struct s), rows, ARRAY_SIZE(rows), __VA_ARGS__}
/* clang-format on */

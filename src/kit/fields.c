/* SPDX-License-Identifier: Apache-2.0 */
/* Loading a YAML map into a struct by a table. */
#include "kit/fields.h"

#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/near.h"

static void add(struct load *l, const struct ynode *at, bool key, bool warning, const char *fmt,
	va_list ap) __attribute__((format(printf, 5, 0)));

/* @key: at the key of a map's member, else at the value. */
static void add(
	struct load *l, const struct ynode *at, bool key, bool warning, const char *fmt, va_list ap)
{
	_free_ char *path = ynode_path(at), *msg = xvasprintf(fmt, ap);

	key = key && at->key;
	kit_errors_add(l->errs, warning, l->file, key ? at->key_line : at->line,
		key ? at->key_column : at->column, path, "%s", msg);
}

void load_error(struct load *l, const struct ynode *at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(l, at, false, false, fmt, ap);
	va_end(ap);
}

void load_error_key(struct load *l, const struct ynode *at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(l, at, true, false, fmt, ap);
	va_end(ap);
}

void load_warn(struct load *l, const struct ynode *at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add(l, at, true, true, fmt, ap);
	va_end(ap);
}

/* ---- keys ---- */

static void unknown_key(struct load *l, const struct ynode *n, const struct shape *s)
{
	const struct moved *m = s->moved;
	_buf_ struct buf known = {.max = 1024};
	struct strv keys = {0};
	const char *near;

	for (; m && m->key; m++) {
		if (strcmp(m->key, n->key) == 0) {
			load_error_key(l, n, "not a key of schemaVersion \"%u\", %s is %s",
				l->schema, l->schema < 2 ? "there it" : "today it", m->today);
			return;
		}
	}
	for (size_t i = 0; i < s->n; i++) {
		strv_add(&keys, s->fields[i].key);
		buf_printf(&known, "%s%s", i ? ", " : "", s->fields[i].key);
	}
	near = near_word(n->key, &keys);
	if (near)
		load_error_key(l, n, "unknown key, did you mean %s?", near);
	else
		load_error_key(l, n, "unknown key, expected one of %s", buf_cstr(&known));
	strv_done(&keys);
}

static void load_member(struct load *l, const struct ynode *n, void *base, const struct shape *s)
{
	for (size_t i = 0; i < s->n; i++) {
		const struct field *f = &s->fields[i];

		if (strcmp(f->key, n->key) != 0)
			continue;
		if (f->flags & FIELD_LEGACY)
			load_warn(l, n, "of schemaVersion \"1\", today it is %s", f->today);
		if (f->flags & FIELD_IGNORED)
			load_warn(l, n, "has no effect");
		f->load(l, n, base, f);
		return;
	}
	unknown_key(l, n, s);
}

void load_map(struct load *l, const struct ynode *n, void *base, const struct shape *s)
{
	if (!load_is_map(l, n))
		return;
	for (size_t i = 0; i < n->n; i++)
		if (n->items[i]->kind != YNODE_BAD)
			load_member(l, n->items[i], base, s);
	for (size_t i = 0; i < s->n; i++)
		if ((s->fields[i].flags & FIELD_REQUIRED) && !ynode_get(n, s->fields[i].key))
			load_error(l, n, "%s is missing", s->fields[i].key);
	if (s->finish)
		s->finish(l, n, base);
}

/* ---- values ---- */

static const char *kind_text(const struct ynode *n)
{
	const char *type = ynode_type(n);

	if (n->kind == YNODE_LIST)
		return "a list";
	if (n->kind == YNODE_MAP)
		return "a map";
	return type ? type : "a string";
}

static void wrong_kind(struct load *l, const struct ynode *n, const char *expected)
{
	if (n->kind == YNODE_BAD)
		return;
	if (n->kind == YNODE_SCALAR && n->plain && !n->value[0])
		load_error(l, n, "empty, expected %s", expected);
	else
		load_error(l, n, "%s, expected %s", kind_text(n), expected);
}

bool load_is_list(struct load *l, const struct ynode *n, const char *expected)
{
	if (n->kind != YNODE_LIST)
		wrong_kind(l, n, expected);
	return n->kind == YNODE_LIST;
}

bool load_is_map(struct load *l, const struct ynode *n)
{
	if (n->kind != YNODE_MAP)
		wrong_kind(l, n, "a map");
	return n->kind == YNODE_MAP;
}

const char *load_scalar(struct load *l, const struct ynode *n, const char *expected)
{
	const char *type = ynode_type(n);
	char safe[48];

	if (n->kind != YNODE_SCALAR || (n->plain && !n->value[0])) {
		wrong_kind(l, n, expected);
		return NULL;
	}
	if (type) {
		log_safe(safe, sizeof(safe), n->value, strlen(n->value));
		load_error(l, n, "YAML takes %s for %s, expected %s: quote it, \"%s\"", safe, type,
			expected, safe);
		return NULL;
	}
	return n->value;
}

/* The checked string of @n, or NULL. */
static const char *checked_scalar(struct load *l, const struct ynode *n, field_check_fn *check)
{
	const char *s = load_scalar(l, n, "a string"), *expected;
	char safe[64];

	expected = s && check ? check(s) : NULL;
	if (!expected)
		return s;
	load_error(
		l, n, "\"%s\", expected %s", log_safe(safe, sizeof(safe), s, strlen(s)), expected);
	return NULL;
}

void load_string(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	const char *s = checked_scalar(l, n, f->check);

	if (s) {
		free(*FIELD_AT(base, f, char *));
		*FIELD_AT(base, f, char *) = xstrdup(s);
	}
}

void load_bool(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	if (ynode_reads_as(n, "a boolean"))
		*FIELD_AT(base, f, bool) = strchr("tT", n->value[0]) != NULL;
	else
		wrong_kind(l, n, "true or false, without quotes");
}

void load_strv(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	if (!load_is_list(l, n, "a list of strings"))
		return;
	for (size_t i = 0; i < n->n; i++) {
		const char *s = checked_scalar(l, n->items[i], f->check);

		if (s)
			strv_add(FIELD_AT(base, f, struct strv), s);
	}
}

void load_struct(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_map(l, n, (char *)base + f->offset, f->shape);
}

void load_list(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	size_t before = *FIELD_N(base, f), size = f->shape->size;
	char *items;

	if (!load_is_list(l, n, "a list of maps") || !n->n)
		return;
	if (f->shape->max && n->n > f->shape->max) {
		load_error(l, n, "%zu entries, expected at most %zu", n->n, f->shape->max);
		return;
	}
	items = xrealloc(*FIELD_AT(base, f, char *), before + n->n, size);
	memset(items + before * size, 0, n->n * size);
	*FIELD_AT(base, f, char *) = items;
	*FIELD_N(base, f) = before + n->n;
	for (size_t i = 0; i < n->n; i++)
		load_map(l, n->items[i], items + (before + i) * size, f->shape);
}

void load_nothing(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
}

void load_ignored_string(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_scalar(l, n, "a string");
}

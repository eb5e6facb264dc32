/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments of kits: declarations, values, and putting the values in.
 *
 * schemaVersion "2" replaces references in the text before YAML is read, so a reference may stand
 * anywhere, even where it makes the text no YAML. The loader therefore reads a copy first in which
 * every reference is overwritten by as many letters; that yields the declarations (and all places).
 * Then the references are replaced, the result is read, and the places of its errors are moved back
 * to where they are in the user's file. schemaVersion "3" replaces in the decoded values. */
#include "kit/args.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "kit/blocks.h"
#include "kit/check.h"
#include "kit/regex.h"

#define ARGS_MAX 128

#define NAME_CHARS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"

/* ---- references ---- */

bool args_next_ref(const char *text, size_t len, size_t from, struct args_ref *ret)
{
	static const char open[] = "${{", prefix[] = "kit.args.";
	const char *end = text + len, *p = text + from;

	while ((p = memmem(p, (size_t)(end - p), open, 3)) != NULL) {
		const char *at = p;

		p += 3;
		while (p < end && (*p == ' ' || *p == '\t'))
			p++;
		if ((size_t)(end - p) < sizeof(prefix) - 1 ||
			memcmp(p, prefix, sizeof(prefix) - 1) != 0)
			continue;
		p += sizeof(prefix) - 1;
		*ret = (struct args_ref){.at = (size_t)(at - text), .name = (size_t)(p - text)};
		while (p < end && *p && strchr(NAME_CHARS, *p))
			p++;
		ret->name_len = (size_t)(p - text) - ret->name;
		while (p < end && (*p == ' ' || *p == '\t'))
			p++;
		if (end - p >= 2 && p[0] == '}' && p[1] == '}')
			p += 2;
		else
			ret->name_len = 0;
		ret->len = (size_t)(p - text) - ret->at;
		return true;
	}
	return false;
}

static const struct kit_arg *find(const struct kit *k, const char *name, size_t len)
{
	for (size_t i = 0; i < k->n_args; i++)
		if (strlen(k->args[i].name) == len && memcmp(k->args[i].name, name, len) == 0)
			return &k->args[i];
	return NULL;
}

static const char *value_of(const struct kit_arg *a)
{
	return a->value ? a->value : ARGS_PLACEHOLDER;
}

/* ---- declarations ---- */

static const char *check_arg_name(const char *s)
{
	return *s && !strchr("0123456789-", *s) && strspn(s, NAME_CHARS) == strlen(s) &&
			       strlen(s) <= 64
		       ? NULL
		       : "letters, digits, _ and -, beginning with a letter or _";
}

/* Why @value does not fit, or NULL. */
static const char *unfit(const struct kit_arg *a, const char *value)
{
	const char *why = "";
	struct regex *re;
	bool fits;

	if (strlen(value) > ARGS_VALUE_MAX)
		return "longer than 4096 bytes";
	if (a->choices.n && !strv_has(&a->choices, value))
		return "not one of its enum";
	if (!a->pattern)
		return NULL;
	re = regex_new(a->pattern, &why);
	fits = re && regex_matches(re, value);
	regex_free(re);
	return fits || !re ? NULL : "it does not match the pattern";
}

static void load_pattern(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	const char *why = NULL;
	struct kit_arg *a = base;
	struct regex *re;

	load_string(l, n, base, f);
	if (!a->pattern)
		return;
	re = regex_new(a->pattern, &why);
	if (!re) {
		load_error(l, n, "the pattern %s, expected RE2 syntax", why);
		free(a->pattern);
		a->pattern = NULL;
	}
	regex_free(re);
}

static void finish_arg(struct load *l, const struct ynode *n, void *entry)
{
	const struct ynode *def = ynode_get(n, "default"), *one = ynode_get(n, "enum");
	struct kit_arg *a = entry;
	const char *why;

	if (def && a->required)
		load_error_key(l, def, "next to required: true, only one of the two is allowed");
	else if (!def && !a->required)
		load_error(l, n, "default is missing, or required: true");
	if (one && ynode_get(n, "pattern"))
		load_error_key(l, one, "next to pattern, only one of the two is allowed");
	if (ynode_get(n, "env") && ynode_get(n, "buildArg"))
		load_error_key(l, ynode_get(n, "buildArg"),
			"next to env, an argument is for one of the two");
	if (one && one->kind == YNODE_LIST && !one->n)
		load_error(l, one, "an empty list, expected the values that are allowed");
	why = a->fallback ? unfit(a, a->fallback) : NULL;
	if (why)
		load_error(l, def, "not allowed as default: %s", why);
}

#define ARG_ROWS                                                                                   \
	ROW(kit_arg, "default", load_string, fallback),                                            \
		ROW(kit_arg, "required", load_bool, required),                                     \
		ROW(kit_arg, "description", load_string, description),                             \
		ROW(kit_arg, "enum", load_licenses, choices),                                      \
		ROW(kit_arg, "pattern", load_pattern, pattern, 0, NULL, NULL, JSON_STRING)
static const struct field arg2_rows[] = {ARG_ROWS};
static const struct field arg3_rows[] = {
	ARG_ROWS,
	ROW(kit_arg, "env", load_string, env, 0, check_env_name),
	ROW(kit_arg, "buildArg", load_string, build_arg, 0, check_env_name),
};
static const struct shape arg2_shape = SHAPE(kit_arg, arg2_rows, NULL, finish_arg);
static const struct shape arg3_shape = SHAPE(kit_arg, arg3_rows, NULL, finish_arg);

const struct shape *args_shape(unsigned schema)
{
	return schema == 3 ? &arg3_shape : &arg2_shape;
}

void load_args(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct kit *k = base;

	if (!load_is_map(l, n))
		return;
	if (n->n > ARGS_MAX) {
		load_error(l, n, "%zu entries, expected at most %d", n->n, ARGS_MAX);
		return;
	}
	k->args = xcalloc(n->n + 1, sizeof(*k->args));
	for (size_t i = 0; i < n->n; i++) {
		const struct ynode *v = n->items[i];
		const char *expected = check_arg_name(v->key);

		if (!expected && l->schema == 3 && strchr(v->key, '-'))
			expected = "letters, digits and _, beginning with a letter or _";
		if (expected) {
			load_error_key(l, v, "not the name of an argument, expected %s", expected);
			continue;
		}
		k->args[k->n_args].name = xstrdup(v->key);
		load_map(l, v, &k->args[k->n_args++], args_shape(l->schema));
	}
}

/* ---- values ---- */

/* The better one wins: the command line over a file, a named kit over any, the later one. */
static unsigned rank(const struct kit_input *i)
{
	return (i->from_file ? 0 : 2) + (i->kit ? 1 : 0);
}

static const struct kit_input *pick(const struct kit *k, const char *name, struct kit_inputs *in)
{
	struct kit_input *best = NULL;

	for (size_t i = 0; in && i < in->n; i++) {
		struct kit_input *v = &in->v[i];

		if (strcmp(v->name, name) != 0 ||
			(v->kit && (!k->name || strcmp(v->kit, k->name) != 0)))
			continue;
		v->used = true;
		if (!best || rank(v) >= rank(best))
			best = v;
	}
	return best;
}

void args_resolve(struct load *l, const struct ynode *places, struct kit *k, struct kit_inputs *in)
{
	for (size_t i = 0; i < k->n_args; i++) {
		struct kit_arg *a = &k->args[i];
		const struct ynode *at = places ? ynode_get(places, a->name) : NULL;
		const struct kit_input *given = pick(k, a->name, in);
		const char *why = given ? unfit(a, given->value) : NULL;
		char safe[64];

		if (given && why) {
			load_error_key(l, at, "\"%s\" is not allowed: %s",
				log_safe(safe, sizeof(safe), given->value, strlen(given->value)),
				why);
		} else if (given) {
			a->value = xstrdup(given->value);
			if (a->build_arg)
				load_warn(l, at,
					"a value for when the image is built, %s: what is in the image "
					"stays as it is",
					a->build_arg);
		} else if (a->fallback) {
			a->value = xstrdup(a->fallback);
		} else if ((in && in->placeholders) || !a->required) {
			k->placeholders = true; /* without required: reported */
		} else if (!a->build_arg) { /* those are in the image; expand_string() minds the rest */
			load_error_key(l, at, "has no value, expected --kit-arg %s%s%s=VALUE",
				k->name ? k->name : "", k->name ? "." : "", a->name);
		}
	}
}

/* ---- text ---- */

static void place_of(const char *text, size_t at, int *ret_line, int *ret_column)
{
	*ret_line = *ret_column = 1;
	for (size_t i = 0; i < at; i++) {
		if (text[i] == '\n') {
			(*ret_line)++;
			*ret_column = 1;
		} else if (((unsigned char)text[i] & 0xc0) != 0x80) {
			(*ret_column)++;
		}
	}
}

static size_t offset_of(const char *text, size_t len, int line, int column)
{
	int l = 1, c = 1;
	size_t i = 0;

	for (; i < len && (l < line || c < column); i++) {
		if (text[i] == '\n') {
			if (l == line)
				break;
			l++;
			c = 1;
		} else if (l == line && i + 1 < len &&
			   ((unsigned char)text[i + 1] & 0xc0) != 0x80) {
			c++;
		}
	}
	return i;
}

static void bad_ref(struct load *l, const char *text, const struct args_ref *r)
{
	int line, column;
	char safe[64];

	place_of(text, r->at, &line, &column);
	if (!r->name_len)
		kit_errors_add(l->errs, false, l->file, line, column, "",
			"a broken reference, expected ${{ kit.args.NAME }}");
	else
		kit_errors_add(l->errs, false, l->file, line, column, "",
			"the argument %s is not declared, expected it under args",
			log_safe(safe, sizeof(safe), text + r->name, r->name_len));
}

int args_expand(struct load *l, const char *text, size_t len, const struct kit *k, struct buf *out,
	struct args_map *map)
{
	struct args_ref r;
	size_t at = 0;

	while (args_next_ref(text, len, at, &r)) {
		const struct kit_arg *a = r.name_len ? find(k, text + r.name, r.name_len) : NULL;
		const char *value = a ? value_of(a) : ARGS_PLACEHOLDER;

		if (!a)
			bad_ref(l, text, &r);
		buf_put(out, text + at, r.at - at);
		if (map) {
			if ((map->n & (map->n - 1)) == 0)
				map->v = xrealloc(map->v, map->n ? 2 * map->n : 1, sizeof(*map->v));
			map->v[map->n++] =
				(struct args_piece){buf_len(out), strlen(value), r.at, r.len};
		}
		buf_puts(out, value);
		at = r.at + r.len;
	}
	buf_put(out, text + at, len - at);
	return out->failed ? -1 : 0;
}

int kit_put_args(const struct strv *args, const char *text, size_t len, struct buf *out)
{
	struct kit_errors ignored = {0}; /* the loader has checked the references */
	struct load l = {.file = "", .errs = &ignored};
	struct kit k = {.args = xcalloc(args->n + 1, sizeof(*k.args))};
	int result;

	for (size_t i = 0; i < args->n; i++) {
		const char *eq = strchr(args->v[i], '=');

		if (!eq)
			continue;
		k.args[k.n_args].name = xstrndup(args->v[i], (size_t)(eq - args->v[i]));
		k.args[k.n_args++].value = xstrdup(eq + 1);
	}
	result = args_expand(&l, text, len, &k, out, NULL);
	kit_errors_done(&ignored);
	kit_done(&k);
	return result;
}

/* An offset in the expanded text → in the source. */
static size_t map_back(const struct args_map *m, size_t at)
{
	size_t shift_out = 0, shift_src = 0;

	for (size_t i = 0; i < m->n && m->v[i].out <= at; i++) {
		if (at < m->v[i].out + m->v[i].out_len)
			return m->v[i].src;
		shift_out = m->v[i].out + m->v[i].out_len;
		shift_src = m->v[i].src + m->v[i].src_len;
	}
	return shift_src + (at - shift_out);
}

void args_map_errors(struct kit_errors *errs, size_t from, const struct args_map *map,
	const char *text, size_t len, const char *source, size_t source_len)
{
	for (size_t i = from; map->n && i < errs->n; i++) {
		struct kit_error *e = &errs->v[i];
		size_t at;

		if (!e->line)
			continue;
		at = map_back(map, offset_of(text, len, e->line, e->column));
		place_of(source, MIN(at, source_len), &e->line, &e->column);
	}
}

void args_map_done(struct args_map *m)
{
	free(m->v);
	*m = (struct args_map){0};
}

void args_hide_placeholders(struct ynode *n)
{
	size_t kept = 0;

	if (n->value && strstr(n->value, ARGS_PLACEHOLDER))
		n->kind = YNODE_BAD;
	for (size_t i = 0; i < n->n; i++) {
		if (n->items[i]->key && strstr(n->items[i]->key, ARGS_PLACEHOLDER)) {
			ynode_free(n->items[i]);
			continue;
		}
		args_hide_placeholders(n->items[i]);
		n->items[kept++] = n->items[i];
	}
	n->n = kept;
}

/* ---- the tree ---- */

/* Replace in one string; NULL when nothing is to be replaced, or it cannot be (reported). */
static char *expand_string(
	struct load *l, const struct ynode *n, bool key, const char *s, const struct kit *k)
{
	_buf_ struct buf out = {.max = ARGS_TEXT_MAX};
	size_t len = strlen(s), at = 0, n_refs = 0;
	struct args_ref r;
	char safe[64];

	for (; args_next_ref(s, len, at, &r); at = r.at + r.len, n_refs++) {
		const struct kit_arg *a = r.name_len ? find(k, s + r.name, r.name_len) : NULL;

		if (!a) {
			(key ? load_error_key : load_error)(l, n,
				r.name_len
					? "the argument %s is not declared, expected it under "
					  "args"
					: "a broken reference%.0s, expected ${{ kit.args.NAME }}",
				log_safe(safe, sizeof(safe), s + r.name, r.name_len));
			return NULL;
		}
		if (!a->value && !k->placeholders) {
			(key ? load_error_key : load_error)(l, n,
				"the argument %s has no value, expected --kit-arg %s%s%s=VALUE", a->name,
				k->name ? k->name : "", k->name ? "." : "", a->name);
			return NULL;
		}
		buf_put(&out, s + at, r.at - at);
		buf_puts(&out, value_of(a));
	}
	buf_puts(&out, s + at);
	if (out.failed)
		load_error(l, n, "larger than 4 MiB with its arguments");
	return n_refs && !out.failed ? xstrdup(buf_cstr(&out)) : NULL;
}

static bool is_whole(const char *s)
{
	struct args_ref r;

	return args_next_ref(s, strlen(s), 0, &r) && r.at == 0 && r.len == strlen(s);
}

static void expand_key(struct load *l, struct ynode *n, const struct kit *k)
{
	char *key = expand_string(l, n, true, n->key, k);

	if (!key)
		return;
	for (size_t i = 0; i < n->parent->n; i++)
		if (n->parent->items[i] != n && strcmp(n->parent->items[i]->key, key) == 0)
			load_error_key(l, n, "with its argument a duplicate key");
	free(n->key);
	n->key = key;
}

/* ${{ kit.env.HOME }} is the same in every sandbox, so it may begin a path. Other variables are put in
 * when the sandbox is planned. Owned; NULL: there is none. */
static char *expand_home(const char *s)
{
	static const char *const marks[] = {"${{ kit.env.HOME }}", "${{kit.env.HOME}}"};
	_buf_ struct buf out = {.max = ARGS_TEXT_MAX};
	bool found = false;

	while (*s) {
		size_t len = 0;

		for (size_t i = 0; i < ARRAY_SIZE(marks) && !len; i++)
			if (strncmp(s, marks[i], strlen(marks[i])) == 0)
				len = strlen(marks[i]);
		if (len)
			buf_puts(&out, "/home/agent");
		else
			buf_put(&out, s, 1);
		found |= len > 0;
		s += len ? len : 1;
	}
	return found && !out.failed ? xstrdup(buf_cstr(&out)) : NULL;
}

static void expand_node(struct load *l, struct ynode *n, const struct kit *k)
{
	char *home = n->value ? expand_home(n->value) : NULL;
	bool whole = n->value && is_whole(n->value);
	size_t errors = l->errs->n_errors;
	char *value;

	if (home) {
		free(n->value);
		n->value = home;
	}
	value = n->value ? expand_string(l, n, false, n->value, k) : NULL;
	if (value) {
		free(n->value);
		n->value = value;
		n->plain = false;
		n->flexible = whole;
	}
	if (l->errs->n_errors > errors)
		n->kind = YNODE_BAD; /* said already */
	for (size_t i = 0; i < n->n; i++) {
		if (n->items[i]->key)
			expand_key(l, n->items[i], k);
		expand_node(l, n->items[i], k);
	}
}

void args_expand_tree(struct load *l, struct ynode *root, const struct kit *k)
{
	static const char *const literal[] = {"args", "requires", "integrates", "conflicts"};

	for (size_t i = 0; i < root->n; i++) {
		struct ynode *n = root->items[i];
		bool keep = false;

		for (size_t m = 0; m < ARRAY_SIZE(literal); m++)
			keep = keep || strcmp(n->key, literal[m]) == 0;
		if (!keep)
			expand_node(l, n, k);
	}
	args_hide_placeholders(root);
}

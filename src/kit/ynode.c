/* SPDX-License-Identifier: Apache-2.0 */
/* A small, strict subset of YAML as a tree with positions.
 *
 * The tree is built from libyaml's events. Kits are written by strangers and read by people who
 * decide whether to trust them, so everything that makes a text mean something else than it seems
 * to is refused: anchors, aliases, tags, merge keys, directives, several documents, duplicate keys,
 * keys that are not strings. That also bounds the work: without aliases the tree is never larger
 * than the text, and depth, count and width have ceilings.
 *
 * Trusted: nothing. A forbidden construct is reported and replaced by YNODE_BAD, so that one run
 * finds all errors; only broken syntax, depth and count end the reading. Values stay strings: what
 * a field takes is the loader's decision (kit/fields.h), never YAML's guess. */
#include "kit/ynode.h"

#include <string.h>

#include <yaml.h>

#include "base/log.h"
#include "base/mem.h"

struct reader {
	yaml_parser_t parser;
	const char *file;
	struct kit_errors *errs;
	const char *text;
	size_t len;
	size_t count;
	unsigned depth;
	bool stop; /* nothing sensible can follow */
};

static void report(struct reader *r, const yaml_mark_t *at, const struct ynode *n, const char *msg)
{
	_free_ char *path = n ? ynode_path(n) : xstrdup("");

	kit_errors_add(
		r->errs, false, r->file, (int)at->line + 1, (int)at->column + 1, path, "%s", msg);
}

/* Whether the line is indented with tabs. Its number counts from 0. */
static bool has_tab(const struct reader *r, size_t line)
{
	const char *at = r->text, *end = r->text + r->len;

	while (at && line--) {
		at = memchr(at, '\n', (size_t)(end - at));
		at = at ? at + 1 : NULL;
	}
	while (at && at < end && *at == ' ')
		at++;
	return at && at < end && *at == '\t';
}

/* The next event, or false at broken syntax. */
static bool next(struct reader *r, yaml_event_t *ev)
{
	const yaml_parser_t *p = &r->parser;
	const char *what;

	if (yaml_parser_parse(&r->parser, ev))
		return true;
	r->stop = true;
	if (p->error == YAML_SCANNER_ERROR && has_tab(r, p->problem_mark.line)) {
		report(r, &p->problem_mark, NULL, "a tab, indent with blanks");
		return false;
	}
	what = p->problem ? p->problem : "broken YAML";
	kit_errors_add(r->errs, false, r->file, (int)p->problem_mark.line + 1,
		(int)p->problem_mark.column + 1, "", "%s%s%s", what, p->context ? " " : "",
		p->context ? p->context : "");
	return false;
}

static struct ynode *node_new(struct reader *r, const yaml_mark_t *at, struct ynode *parent)
{
	struct ynode *n = xcalloc(1, sizeof(*n));

	n->kind = YNODE_BAD;
	n->line = (int)at->line + 1;
	n->column = (int)at->column + 1;
	n->parent = parent;
	if (++r->count > YNODE_COUNT_MAX && !r->stop) {
		report(r, at, NULL, "too many values in one file");
		r->stop = true;
	}
	return n;
}

static void node_append(struct reader *r, struct ynode *parent, struct ynode *n)
{
	if ((parent->n & (parent->n - 1)) == 0)
		parent->items = xrealloc(
			parent->items, parent->n ? 2 * parent->n : 1, sizeof(struct ynode *));
	parent->items[parent->n++] = n;
	if (parent->n > YNODE_ENTRIES_MAX && !r->stop) {
		kit_errors_add(r->errs, false, r->file, n->line, n->column, "",
			"more than %d entries in one %s", YNODE_ENTRIES_MAX,
			parent->kind == YNODE_MAP ? "map" : "list");
		r->stop = true;
	}
}

/* Anchors and tags; @anchor and @tag may be NULL. */
static void check_properties(struct reader *r, const yaml_event_t *ev, const struct ynode *n,
	const yaml_char_t *anchor, const yaml_char_t *tag)
{
	if (anchor)
		report(r, &ev->start_mark, n, "anchors (&) are not allowed, write the value out");
	if (tag)
		report(r, &ev->start_mark, n,
			"tags (!) are not allowed, quote a value to make it "
			"a string");
}

static void read_scalar(struct reader *r, const yaml_event_t *ev, struct ynode *n)
{
	size_t len = ev->data.scalar.length;
	const char *s = (const char *)ev->data.scalar.value;

	check_properties(r, ev, n, ev->data.scalar.anchor, ev->data.scalar.tag);
	if (memchr(s, 0, len)) {
		report(r, &ev->start_mark, n, "a NUL character is not allowed");
		return;
	}
	n->kind = YNODE_SCALAR;
	n->value = xstrndup(s, len);
	n->plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static void read_value(struct reader *r, const yaml_event_t *ev, struct ynode *n);

static bool enter(struct reader *r, const yaml_event_t *ev, const struct ynode *n)
{
	if (++r->depth <= YNODE_DEPTH_MAX)
		return true;
	report(r, &ev->start_mark, n, "nested too deeply");
	r->stop = true;
	return false;
}

static void read_list(struct reader *r, const yaml_event_t *start, struct ynode *n)
{
	check_properties(
		r, start, n, start->data.sequence_start.anchor, start->data.sequence_start.tag);
	n->kind = YNODE_LIST;
	if (!enter(r, start, n))
		return;
	while (!r->stop) {
		yaml_event_t ev;
		struct ynode *item;

		if (!next(r, &ev))
			return;
		if (ev.type == YAML_SEQUENCE_END_EVENT) {
			yaml_event_delete(&ev);
			break;
		}
		item = node_new(r, &ev.start_mark, n);
		item->index = n->n;
		node_append(r, n, item);
		read_value(r, &ev, item);
		yaml_event_delete(&ev);
	}
	r->depth--;
}

/* Read one key of map @n into @entry. The entry goes into the map only if the key is sound;
 * reports otherwise. */
static bool read_key(struct reader *r, const yaml_event_t *ev, struct ynode *n, struct ynode *entry)
{
	const struct ynode *first;
	struct ynode scratch = {.parent = n, .kind = YNODE_BAD};

	entry->key_line = (int)ev->start_mark.line + 1;
	entry->key_column = (int)ev->start_mark.column + 1;
	if (ev->type != YAML_SCALAR_EVENT) {
		report(r, &ev->start_mark, n, "a key must be a string");
		/* Read past it. */
		read_value(r, ev, &scratch);
		for (size_t i = 0; i < scratch.n; i++)
			ynode_free(scratch.items[i]);
		free(scratch.items);
		free(scratch.value);
		entry->key = xstrdup("?");
		return false;
	}
	entry->key = xstrndup((const char *)ev->data.scalar.value,
		strnlen((const char *)ev->data.scalar.value, ev->data.scalar.length));
	if (strlen(entry->key) != ev->data.scalar.length) {
		report(r, &ev->start_mark, n, "a NUL character is not allowed");
		return false;
	}
	check_properties(r, ev, entry, ev->data.scalar.anchor, ev->data.scalar.tag);
	if (ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && strcmp(entry->key, "<<") == 0) {
		report(r, &ev->start_mark, n,
			"merge keys (<<) are not allowed, write the keys out");
		return false;
	}
	first = ynode_get(n, entry->key);
	if (first) {
		_free_ char *path = ynode_path(entry);

		kit_errors_add(r->errs, false, r->file, entry->key_line, entry->key_column, path,
			"duplicate key, it is already set in line %d", first->key_line);
		return false;
	}
	return true;
}

static void read_map(struct reader *r, const yaml_event_t *start, struct ynode *n)
{
	check_properties(
		r, start, n, start->data.mapping_start.anchor, start->data.mapping_start.tag);
	n->kind = YNODE_MAP;
	if (!enter(r, start, n))
		return;
	while (!r->stop) {
		yaml_event_t ev;
		struct ynode *entry;
		bool keep;

		if (!next(r, &ev))
			return;
		if (ev.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&ev);
			break;
		}
		entry = node_new(r, &ev.start_mark, n);
		keep = read_key(r, &ev, n, entry);
		yaml_event_delete(&ev);
		if (!r->stop && next(r, &ev)) {
			entry->line = (int)ev.start_mark.line + 1;
			entry->column = (int)ev.start_mark.column + 1;
			read_value(r, &ev, entry);
			yaml_event_delete(&ev);
		}
		if (keep)
			node_append(r, n, entry);
		else
			ynode_free(entry);
	}
	r->depth--;
}

static void read_value(struct reader *r, const yaml_event_t *ev, struct ynode *n)
{
	switch ((int)ev->type) {
	case YAML_SCALAR_EVENT:
		read_scalar(r, ev, n);
		break;
	case YAML_SEQUENCE_START_EVENT:
		read_list(r, ev, n);
		break;
	case YAML_MAPPING_START_EVENT:
		read_map(r, ev, n);
		break;
	case YAML_ALIAS_EVENT:
		report(r, &ev->start_mark, n, "aliases (*) are not allowed, write the value out");
		break;
	default:
		report(r, &ev->start_mark, n, "a value was expected");
		r->stop = true;
	}
}

static void check_document(struct reader *r, const yaml_event_t *ev, const struct ynode *root)
{
	if (root) {
		report(r, &ev->start_mark, NULL, "a second document, one per file is allowed");
		r->stop = true;
	}
	if (ev->data.document_start.version_directive ||
		ev->data.document_start.tag_directives.start !=
			ev->data.document_start.tag_directives.end)
		report(r, &ev->start_mark, NULL, "directives (%) are not allowed");
}

struct ynode *ynode_read(const void *data, size_t len, const char *file, struct kit_errors *errs)
{
	struct reader r = {.file = file, .errs = errs, .text = data, .len = len};
	struct ynode *root = NULL;
	bool done = false;

	if (len > YNODE_FILE_MAX) {
		kit_errors_add(errs, false, file, 0, 0, "", "larger than 1 MiB");
		return NULL;
	}
	if (!yaml_parser_initialize(&r.parser)) {
		kit_errors_add(errs, false, file, 0, 0, "", "out of memory");
		return NULL;
	}
	/* The byte order mark that some editors write. */
	if (len >= 3 && memcmp(data, "\xef\xbb\xbf", 3) == 0) {
		r.text += 3;
		r.len -= 3;
	}
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)r.text, r.len);
	while (!r.stop && !done) {
		yaml_event_t ev;

		if (!next(&r, &ev))
			break;
		if (ev.type == YAML_STREAM_END_EVENT) {
			done = true;
		} else if (ev.type == YAML_DOCUMENT_START_EVENT) {
			check_document(&r, &ev, root);
		} else if (ev.type != YAML_STREAM_START_EVENT &&
			   ev.type != YAML_DOCUMENT_END_EVENT) {
			root = node_new(&r, &ev.start_mark, NULL);
			read_value(&r, &ev, root);
		}
		yaml_event_delete(&ev);
	}
	yaml_parser_delete(&r.parser);
	if (!done) {
		/* What was left out would be reported as missing. */
		ynode_free(root);
		return NULL;
	}
	if (!root)
		kit_errors_add(errs, false, file, 1, 1, "", "the file is empty");
	return root;
}

void ynode_free(struct ynode *n)
{
	if (!n)
		return;
	for (size_t i = 0; i < n->n; i++)
		ynode_free(n->items[i]);
	free(n->items);
	free(n->key);
	free(n->value);
	free(n);
}

const struct ynode *ynode_get(const struct ynode *map, const char *key)
{
	for (size_t i = 0; map && map->kind == YNODE_MAP && i < map->n; i++)
		if (strcmp(map->items[i]->key, key) == 0)
			return map->items[i];
	return NULL;
}

char *ynode_path(const struct ynode *n)
{
	const struct ynode *chain[YNODE_DEPTH_MAX + 2];
	size_t depth = 0;
	char path[512] = "";
	size_t len = 0;

	for (; n && n->parent && depth < ARRAY_SIZE(chain); n = n->parent)
		chain[depth++] = n;
	while (depth > 0) {
		const struct ynode *at = chain[--depth];
		int wrote;

		if (at->key)
			wrote = snprintf(
				path + len, sizeof(path) - len, "%s%.60s", len ? "." : "", at->key);
		else
			wrote = snprintf(path + len, sizeof(path) - len, "[%zu]", at->index);
		if (wrote < 0 || (size_t)wrote >= sizeof(path) - len)
			break;
		len += (size_t)wrote;
	}
	return xstrdup(path);
}

static bool is_one_of(const char *s, const char *const *words)
{
	for (; *words; words++)
		if (strcmp(s, *words) == 0)
			return true;
	return false;
}

/* Integers and floats of YAML 1.1 and 1.2: decimal with underscores, leading zeros, exponents,
 * 0x, 0o, 0b, .inf and .nan. */
static bool is_number(const char *s)
{
	static const char *const special[] = {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN", NULL};
	size_t digits, len;

	if (is_one_of(s, special))
		return true;
	if (*s == '-' || *s == '+')
		s++;
	if (is_one_of(s, special))
		return true;
	if (s[0] == '0' && s[1] && strchr("xob", s[1])) {
		const char *set = s[1] == 'x' ? "0123456789abcdefABCDEF_"
					      : (s[1] == 'o' ? "01234567_" : "01_");

		return s[2] && strspn(s + 2, set) == strlen(s + 2);
	}
	digits = 0;
	for (; (*s >= '0' && *s <= '9') || (*s == '_' && digits); s++)
		digits++;
	if (*s == '.')
		for (s++; (*s >= '0' && *s <= '9') || (*s == '_' && digits); s++)
			digits++;
	if (!digits)
		return false;
	if (*s == 'e' || *s == 'E') {
		s++;
		if (*s == '-' || *s == '+')
			s++;
		len = strspn(s, "0123456789");
		return len && !s[len];
	}
	return !*s;
}

static const char *type_of(const char *value)
{
	static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
	static const char *const bools[] = {
		"true", "True", "TRUE", "false", "False", "FALSE", NULL};

	if (is_one_of(value, nulls))
		return "null";
	if (is_one_of(value, bools))
		return "a boolean";
	return is_number(value) ? "a number" : NULL;
}

const char *ynode_type(const struct ynode *scalar)
{
	if (scalar->kind != YNODE_SCALAR || !scalar->plain || scalar->flexible)
		return NULL;
	return type_of(scalar->value);
}

bool ynode_reads_as(const struct ynode *scalar, const char *type)
{
	const char *is;

	if (scalar->kind != YNODE_SCALAR || (!scalar->plain && !scalar->flexible))
		return false;
	is = type_of(scalar->value);
	return is && strcmp(is, type) == 0;
}

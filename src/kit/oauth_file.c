/* SPDX-License-Identifier: Apache-2.0 */
/* The file in which an agent keeps its OAuth tokens. */
#include "kit/oauth_file.h"

#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/mem.h"

#define CONTENT_MAX (1024u * 1024u)

/* ---- encoding ---- */

static json_t *scalar_to_json(const struct ynode *n)
{
	const char *type = ynode_type(n);
	json_t *v = NULL;

	if (!type)
		return json_string(n->value);
	if (strcmp(type, "null") == 0)
		return json_null();
	if (strcmp(type, "a boolean") == 0)
		return json_boolean(strchr("tTyY", n->value[0]) != NULL);
	/* What YAML calls a number and JSON does not stays text. */
	v = json_loads(n->value, JSON_DECODE_ANY, NULL);
	if (json_is_number(v))
		return v;
	json_decref(v);
	return json_string(n->value);
}

static json_t *to_json(const struct ynode *n)
{
	json_t *j;

	if (n->kind == YNODE_SCALAR)
		return scalar_to_json(n);
	if (n->kind == YNODE_BAD)
		return NULL;
	j = n->kind == YNODE_LIST ? json_array() : json_object();
	for (size_t i = 0; i < n->n; i++) {
		json_t *v = to_json(n->items[i]);
		int r = n->kind == YNODE_LIST ? json_array_append_new(j, v)
					      : json_object_set_new(j, n->items[i]->key, v);

		if (r < 0) {
			json_decref(j);
			return NULL;
		}
	}
	return j;
}

/* JSON's strings, numbers and booleans are TOML's, and lists of them, too. */
static bool put_toml_value(struct buf *b, const char *key, const json_t *v)
{
	_free_ char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
	json_t *name = json_string(key);
	_free_ char *quoted = json_dumps(name, JSON_ENCODE_ANY);
	size_t i;
	json_t *item;

	json_decref(name);
	if (!text || !quoted || json_is_null(v))
		return false;
	json_array_foreach(v, i, item)
	{
		if (json_is_object(item) || json_is_null(item))
			return false;
	}
	buf_printf(b, "%s = %s\n", quoted, text);
	return true;
}

/* Values first, then the tables below. @path: "" or "a.b". */
static bool put_toml(struct buf *b, const json_t *table, const char *path)
{
	json_t *j = (json_t *)(uintptr_t)table, *v;
	const char *key;

	json_object_foreach(j, key, v)
	{
		if (!json_is_object(v) && !put_toml_value(b, key, v))
			return false;
	}
	json_object_foreach(j, key, v)
	{
		json_t *name = json_string(key);
		_free_ char *quoted = json_dumps(name, JSON_ENCODE_ANY);
		_free_ char *below =
			xasprintf("%s%s%s", path, *path ? "." : "", quoted ? quoted : "");

		json_decref(name);
		if (!json_is_object(v))
			continue;
		buf_printf(b, "\n[%s]\n", below);
		if (!put_toml(b, v, below))
			return false;
	}
	return true;
}

char *oauth_file_encode(const struct ynode *structure, bool toml)
{
	json_t *j = to_json(structure);
	char *text = NULL;
	_buf_ struct buf b;

	buf_init(&b, CONTENT_MAX);
	if (j && toml)
		text = put_toml(&b, j, "") && !b.failed ? xstrdup(buf_cstr(&b)) : NULL;
	else if (j)
		text = json_dumps(j, JSON_INDENT(2));
	json_decref(j);
	return text;
}

/* ---- filling in ---- */

static void put_list(struct buf *b, const char *words)
{
	json_t *list = json_array();
	_free_ char *text = NULL;

	while (*words) {
		size_t n = strcspn(words, " ");

		if (n)
			json_array_append_new(list, json_stringn(words, n));
		words += n + strspn(words + n, " ");
	}
	text = json_dumps(list, JSON_COMPACT);
	json_decref(list);
	buf_puts(b, text ? text : "[]");
}

/* @s as it stands inside a JSON or TOML string. */
static void put_text(struct buf *b, const char *s, bool verbatim)
{
	json_t *j = json_string(s);
	_free_ char *quoted = json_dumps(j, JSON_ENCODE_ANY);

	json_decref(j);
	if (verbatim || !quoted)
		buf_puts(b, s);
	else
		buf_put(b, quoted + 1, strlen(quoted) - 2);
}

/* The length of what stands at @at, after it has been replaced; 0 for anything else. */
static size_t put_value(
	struct buf *b, const char *at, bool verbatim, const struct oauth_file_values *v)
{
	static const char number[] = "\"{{.ExpiresAt}}\"", list[] = "\"{{.Scopes}}\"";
	char expires[24];
	const struct {
		const char *mark, *value;
	} marks[] = {{"{{.AccessToken}}", v->access}, {"{{.RefreshToken}}", v->refresh},
		{"{{.ExpiresAt}}", expires}, {"{{.Scopes}}", v->scopes},
		{"{{.PrimaryApiKey}}", ""}};

	snprintf(expires, sizeof(expires), "%llu", (unsigned long long)v->expires_ms);
	if (!verbatim && strncmp(at, number, sizeof(number) - 1) == 0) {
		buf_puts(b, expires);
		return sizeof(number) - 1;
	}
	if (!verbatim && strncmp(at, list, sizeof(list) - 1) == 0) {
		put_list(b, v->scopes);
		return sizeof(list) - 1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(marks); i++) {
		if (strncmp(at, marks[i].mark, strlen(marks[i].mark)) != 0)
			continue;
		put_text(b, marks[i].value, verbatim);
		return strlen(marks[i].mark);
	}
	return 0;
}

char *oauth_file_fill(const char *text, bool verbatim, const struct oauth_file_values *v)
{
	_buf_ struct buf b;

	buf_init(&b, 2 * CONTENT_MAX);
	while (*text) {
		size_t n = put_value(&b, text, verbatim, v);

		if (n == 0) {
			buf_put_u8(&b, (uint8_t)*text);
			n = 1;
		}
		text += n;
	}
	return xstrdup(b.failed ? "" : buf_cstr(&b));
}

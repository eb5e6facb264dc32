/* SPDX-License-Identifier: Apache-2.0 */
/* OAuth of a credential: where tokens come from, where they go, what the guest has instead. */
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "kit/blocks.h"
#include "kit/check.h"
#include "kit/oauth_file.h"

static const char *check_url_path(const char *s)
{
	return *s == '/' && !check_text(s) && !strpbrk(s, " ?#") ? NULL : "a path such as /token";
}

/* ~/… or absolute. */
static const char *check_home_path(const char *s)
{
	if (s[0] == '~' && s[1] == '/')
		s++;
	return check_guest_path(s) ? "an absolute path, or one that begins with ~/" : NULL;
}

static const char *check_sentinel(const char *s)
{
	return strlen(s) >= 4 && strlen(s) <= 4000 && !check_text(s) && !strpbrk(s, " \"\\")
		       ? NULL
		       : "4 to 4000 characters without blanks, quotes and backslashes";
}

static void load_host(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	const char *s = load_target(l, n, true);

	if (s && !*FIELD_AT(base, f, char *))
		*FIELD_AT(base, f, char *) = xstrdup(s);
}

static void load_named_hosts(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	if (!load_is_list(l, n, "a list of hosts"))
		return;
	for (size_t i = 0; i < n->n; i++) {
		const char *s = load_target(l, n->items[i], true);

		if (s)
			strv_add(FIELD_AT(base, f, struct strv), s);
	}
}

/* The placeholders of a credential file's leaf. */
static void check_leaf(struct load *l, const struct ynode *n)
{
	static const char *const known[] = {"{{.AccessToken}}", "{{.RefreshToken}}",
		"{{.ExpiresAt}}", "{{.Scopes}}", "{{.PrimaryApiKey}}"};
	size_t n_known = l->schema < 3 ? 4 : 5;

	for (const char *at = n->value; at && (at = strstr(at, "{{")) != NULL; at += 2) {
		bool ok = false;

		for (size_t i = 0; i < n_known && !ok; i++)
			ok = strncmp(at, known[i], strlen(known[i])) == 0;
		if (!ok) {
			load_error(l, n,
				"an unknown placeholder, expected {{.AccessToken}}, "
				"{{.RefreshToken}}, {{.ExpiresAt}} or {{.Scopes}}");
			return;
		}
	}
}

static void check_leaves(struct load *l, const struct ynode *n)
{
	check_leaf(l, n);
	for (size_t i = 0; i < n->n; i++)
		check_leaves(l, n->items[i]);
}

static void load_structure(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	if (load_is_map(l, n))
		check_leaves(l, n);
}

static void load_template(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_warn(l, n, "is deprecated, today it is structure");
	if (load_scalar(l, n, "a string"))
		check_leaf(l, n);
}

static const char *check_file_format(const char *s)
{
	return strcmp(s, "json") == 0 || strcmp(s, "toml") == 0 ? NULL : "json or toml";
}

static void load_file_format(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	_free_ char *s = NULL;
	struct field text = {f->key, load_string, 0, 0, 0, check_file_format};

	load_string(l, n, &s, &text);
}

/* The content: an encoded structure, or else the template. */
static void finish_file(struct load *l, const struct ynode *n, void *entry)
{
	const struct ynode *structure = ynode_get(n, "structure"), *text = ynode_get(n, "template");
	const struct ynode *format = ynode_get(n, "format");
	struct kit_oauth *o = entry;
	bool toml = format && format->value && strcmp(format->value, "toml") == 0;

	if (o->file_text)
		return;
	if (!structure && !text) {
		load_error(l, n, "structure is missing");
	} else if (structure && structure->kind == YNODE_MAP) {
		o->file_text = oauth_file_encode(structure, toml);
		if (!o->file_text)
			load_error(l, structure, "cannot be written as %s", toml ? "TOML" : "JSON");
	} else if (!structure && text->value) {
		o->file_text = xstrdup(text->value);
		o->file_verbatim = true;
	}
}

static const struct field endpoint_rows[] = {
	ROW(kit_oauth, "host", load_host, host, FIELD_REQUIRED, NULL, NULL, JSON_STRING),
	ROW(kit_oauth, "path", load_string, path, FIELD_REQUIRED, check_url_path),
};
static const struct shape endpoint_shape = SHAPE(kit_oauth, endpoint_rows);
static const struct field sentinel_rows[] = {
	ROW(kit_oauth, "accessToken", load_string, access_sentinel, 0, check_sentinel),
	ROW(kit_oauth, "refreshToken", load_string, refresh_sentinel, 0, check_sentinel),
};
static const struct shape sentinel_shape = SHAPE(kit_oauth, sentinel_rows);
#define JSON_OBJECT "{\"type\":\"object\"}"
static const struct field file2_rows[] = {
	ROW(kit_oauth, "path", load_string, file, FIELD_REQUIRED, check_home_path),
	CUSTOM_ROW("structure", load_structure, JSON_OBJECT),
	CUSTOM_ROW("template", load_template, JSON_STRING),
};
static const struct shape file2_shape = SHAPE(kit_oauth, file2_rows, NULL, finish_file);
static const struct field file3_rows[] = {
	ROW(kit_oauth, "path", load_string, file, FIELD_REQUIRED, check_home_path),
	CUSTOM_ROW("structure", load_structure, JSON_OBJECT),
	CUSTOM_ROW("format", load_file_format, "{\"enum\":[\"json\",\"toml\"]}"),
};
static const struct shape file3_shape = SHAPE(kit_oauth, file3_rows, NULL, finish_file);
static const struct field response_rows[] = {
	ROW(kit_oauth, "accessToken", load_string, access_name, 0, check_text),
	ROW(kit_oauth, "refreshToken", load_string, refresh_name, 0, check_text),
	ROW(kit_oauth, "expiresIn", load_string, expires_name, 0, check_text),
	ROW(kit_oauth, "scope", load_string, scope_name, 0, check_text),
};
static const struct shape response_shape = SHAPE(kit_oauth, response_rows);

void finish_oauth(struct load *l, const struct ynode *n, void *entry)
{
	const struct ynode *sentinels = ynode_get(n, "sentinels");
	struct kit_oauth *o = entry;

	o->given = true;
	if (o->passthrough) {
		load_warn(l, ynode_get(n, "passthrough"),
			"lets the sandbox see the tokens of this service");
		return;
	}
	if (!sentinels)
		load_error(l, n, "sentinels is missing, or passthrough: true");
	else if (sentinels->kind == YNODE_MAP && !ynode_get(sentinels, "accessToken"))
		load_error(l, sentinels, "accessToken is missing");
	else if (sentinels->kind == YNODE_MAP && !ynode_get(sentinels, "refreshToken"))
		load_error(l, sentinels, "refreshToken is missing");
	else if (o->access_sentinel && o->refresh_sentinel &&
		 strcmp(o->access_sentinel, o->refresh_sentinel) == 0)
		load_error(l, sentinels, "both are the same");
}

#define OAUTH_ROWS(file_shape)                                                                     \
	{"tokenEndpoint", load_struct, 0, 0, FIELD_REQUIRED, NULL, &endpoint_shape},               \
		ROW(kit_oauth, "resourceHosts", load_named_hosts, resource_hosts, 0, NULL, NULL,   \
			JSON_STRINGS),                                                             \
		STRUCT_ROW("sentinels", sentinel_shape), STRUCT_ROW("credentialFile", file_shape), \
		STRUCT_ROW("responseFields", response_shape),                                      \
		ROW(kit_oauth, "passthrough", load_bool, passthrough)
static const struct field oauth_rows[] = {
	OAUTH_ROWS(file2_shape),
	{"skipIfEnv", load_nothing, 0, 0, FIELD_IGNORED, NULL, NULL, JSON_STRINGS},
};
const struct shape oauth2_shape = SHAPE(kit_oauth, oauth_rows, NULL, finish_oauth);
static const struct field oauth3_rows[] = {
	OAUTH_ROWS(file3_shape),
};
const struct shape oauth3_shape = SHAPE(kit_oauth, oauth3_rows, NULL, finish_oauth);

/* schemaVersion "1": a block of its own that names its service. */
static const struct field oauth1_rows[] = {
	{"service", load_nothing, 0, 0, FIELD_REQUIRED, NULL, NULL, JSON_STRING},
	OAUTH_ROWS(file2_shape),
	{"skipIfEnv", load_nothing, 0, 0, FIELD_IGNORED, NULL, NULL, JSON_STRINGS},
};
const struct shape oauth1_shape = SHAPE(kit_oauth, oauth1_rows, NULL, finish_oauth);

/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials: keys that are put into requests, and OAuth, which is read and checked only. */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "kit/blocks.h"
#include "kit/check.h"

/* ---- where a key goes ---- */

static void load_domain(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	const char *s = load_target(l, n, true);

	if (s)
		*FIELD_AT(base, f, char *) = xstrdup(s);
}

static const char *check_scheme(const char *s)
{
	return strcmp(s, "bearer") == 0 || strcmp(s, "basic") == 0 ? NULL : "bearer or basic";
}

static void load_scheme(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	_free_ char *s = NULL;
	struct field text = {f->key, load_string, 0, 0, 0, check_scheme};

	load_string(l, n, &s, &text); /* expanded by finish_inject */
}

/* Expand scheme; check that the rest fits together. */
static void finish_inject(struct load *l, const struct ynode *n, void *entry)
{
	const struct ynode *scheme = ynode_get(n, "scheme"), *format = ynode_get(n, "format");
	const struct ynode *user = ynode_get(n, "username");
	struct kit_inject *in = entry;
	bool bearer = scheme && scheme->value && strcmp(scheme->value, "bearer") == 0;
	bool basic = scheme && scheme->value && strcmp(scheme->value, "basic") == 0;

	in->at = ynode_get(n, "domain");
	if (scheme && format) {
		load_error_key(l, scheme, "next to format, only one of the two is allowed");
	} else if (bearer && user) {
		load_error_key(l, user, "not allowed with scheme bearer");
	} else if (format && user) {
		load_error_key(l, user, "not allowed with format, expected scheme: basic");
	} else if (basic && !user) {
		load_error(l, n, "username is missing, scheme basic needs it");
	} else if (!scheme && !user && !format) {
		load_error(l, n, "format is missing, or scheme");
	} else if (format && !ynode_get(n, "header")) {
		load_error(l, n, "header is missing");
	} else if (bearer || basic || (user && !scheme && !format)) {
		in->format = xstrdup(bearer ? "Bearer %s" : "Basic %s");
		if (!in->header)
			in->header = xstrdup("Authorization");
	}
}

static void load_key_name(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_string(l, n, base, f);
	if (n->value && env_is_reserved(n->value))
		load_error(l, n, "Hutch sets this variable itself, expected another name");
}

#define JSON_SCHEME "{\"enum\":[\"bearer\",\"basic\"]}"
static const struct field inject_rows[] = {
	ROW(kit_inject, "domain", load_domain, domain, FIELD_REQUIRED, NULL, NULL, JSON_STRING),
	ROW(kit_inject, "header", load_string, header, 0, check_header),
	ROW(kit_inject, "format", load_string, format, 0, check_format),
	CUSTOM_ROW("scheme", load_scheme, JSON_SCHEME),
	ROW(kit_inject, "username", load_string, username, 0, check_basic_user),
};
static const struct shape inject_shape = SHAPE(kit_inject, inject_rows, NULL, finish_inject, 32);

static void load_proxy_managed(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	bool v = true;
	struct field flag = {f->key, load_bool};

	load_bool(l, n, &v, &flag);
	if (!v)
		load_warn(l, n, "has no effect, the sandbox sees a placeholder in every case");
}

#define JSON_BOOL "{\"type\":\"boolean\"}"
static const struct field api_key_rows[] = {
	ROW(kit_credential, "name", load_key_name, env, FIELD_REQUIRED, check_env_name, NULL,
		JSON_STRING),
	CUSTOM_ROW("proxyManaged", load_proxy_managed, JSON_BOOL),
	LIST_ROW(kit_credential, "inject", injects, inject_shape),
};
static const struct shape api_key_shape = SHAPE(kit_credential, api_key_rows);

static void finish_api_key3(struct load *l, const struct ynode *n, void *entry)
{
	if (!ynode_get(n, "name") && !ynode_get(n, "inject"))
		load_error(l, n, "name is missing, or inject");
}

static const struct field api_key3_rows[] = {
	ROW(kit_credential, "name", load_key_name, env, 0, check_env_name, NULL, JSON_STRING),
	CUSTOM_ROW("proxyManaged", load_proxy_managed, JSON_BOOL),
	LIST_ROW(kit_credential, "inject", injects, inject_shape),
};
const struct shape api_key3_shape = SHAPE(kit_credential, api_key3_rows, NULL, finish_api_key3);

/* ---- OAuth ---- */

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

static const struct field endpoint_rows[] = {
	ROW(kit_oauth, "host", load_host, host, FIELD_REQUIRED, NULL, NULL, JSON_STRING),
	ROW(kit_oauth, "path", load_string, path, FIELD_REQUIRED, check_url_path),
};
static const struct shape endpoint_shape = SHAPE(kit_oauth, endpoint_rows);
static const struct field sentinel_rows[] = {
	ROW(kit_oauth, "accessToken", load_string, access_sentinel, 0, check_text),
	ROW(kit_oauth, "refreshToken", load_string, refresh_sentinel, 0, check_text),
};
static const struct shape sentinel_shape = SHAPE(kit_oauth, sentinel_rows);
#define JSON_OBJECT "{\"type\":\"object\"}"
static const struct field file2_rows[] = {
	ROW(kit_oauth, "path", load_string, file, FIELD_REQUIRED, check_home_path),
	CUSTOM_ROW("structure", load_structure, JSON_OBJECT),
	CUSTOM_ROW("template", load_ignored_string, JSON_STRING),
};
static const struct shape file2_shape = SHAPE(kit_oauth, file2_rows);
static const struct field file3_rows[] = {
	ROW(kit_oauth, "path", load_string, file, FIELD_REQUIRED, check_home_path),
	CUSTOM_ROW("structure", load_structure, JSON_OBJECT),
	CUSTOM_ROW("format", load_file_format, "{\"enum\":[\"json\",\"toml\"]}"),
};
static const struct shape file3_shape = SHAPE(kit_oauth, file3_rows);
static const struct field response_rows[] = {
	CUSTOM_ROW("accessToken", load_ignored_string, JSON_STRING),
	CUSTOM_ROW("refreshToken", load_ignored_string, JSON_STRING),
	CUSTOM_ROW("expiresIn", load_ignored_string, JSON_STRING),
	CUSTOM_ROW("scope", load_ignored_string, JSON_STRING),
};
static const struct shape response_shape = SHAPE(kit_oauth, response_rows);

void finish_oauth(struct load *l, const struct ynode *n, void *entry)
{
	const struct ynode *sentinels = ynode_get(n, "sentinels");
	struct kit_oauth *o = entry;

	o->given = true;
	if (o->passthrough)
		return;
	if (!sentinels)
		load_error(l, n, "sentinels is missing, or passthrough: true");
	else if (sentinels->kind == YNODE_MAP && !ynode_get(sentinels, "accessToken"))
		load_error(l, sentinels, "accessToken is missing");
	else if (sentinels->kind == YNODE_MAP && !ynode_get(sentinels, "refreshToken"))
		load_error(l, sentinels, "refreshToken is missing");
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
static const struct shape oauth_shape = SHAPE(kit_oauth, oauth_rows, NULL, finish_oauth);
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

/* ---- the whole ---- */

static void finish_credential(struct load *l, const struct ynode *n, void *entry)
{
	((struct kit_credential *)entry)->at = n;
	if (!ynode_get(n, "apiKey") && !ynode_get(n, "oauth"))
		load_error(l, n, "apiKey is missing, or oauth");
}

static const struct field credential_rows[] = {
	ROW(kit_credential, "service", load_string, service, FIELD_REQUIRED, check_name),
	ROW(kit_credential, "description", load_string, description),
	ROW(kit_credential, "required", load_bool, required),
	{"provider", load_ignored_string, 0, 0, FIELD_IGNORED},
	STRUCT_ROW("apiKey", api_key_shape),
	ROW(kit_credential, "oauth", load_struct, oauth, FIELD_INERT, NULL, &oauth_shape),
};
static const struct moved credential_moved[] = {
	{"sources", "a list of entries with service and apiKey"},
	{NULL, NULL},
};
const struct shape credential_shape =
	SHAPE(kit_credential, credential_rows, credential_moved, finish_credential, 64);

/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials: keys that are put into requests. */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "kit/blocks.h"
#include "kit/check.h"
#include "policy/policy.h"

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

/* Of header, format, scheme and username: expand scheme, check that the rest fits together. */
static void finish_header(struct load *l, const struct ynode *n, struct kit_inject *in)
{
	const struct ynode *scheme = ynode_get(n, "scheme"), *format = ynode_get(n, "format");
	const struct ynode *user = ynode_get(n, "username");
	bool bearer = scheme && scheme->value && strcmp(scheme->value, "bearer") == 0;
	bool basic = scheme && scheme->value && strcmp(scheme->value, "basic") == 0;

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

/* Hutch's own ways into a request: the key that chooses each, and what else may stand beside it. */
static const struct kind {
	const char *key, *beside;
	enum spec_inject_kind kind;
} kinds[] = {
	{"query", NULL, SPEC_INJECT_QUERY},
	{"placeholder", "inBody", SPEC_INJECT_PLACEHOLDER},
	{"sign", NULL, SPEC_INJECT_AWS},
	{"registry", "username", SPEC_INJECT_REGISTRY},
	{"clientCertificate", NULL, SPEC_INJECT_CERTIFICATE},
};

static void finish_kind(
	struct load *l, const struct ynode *n, struct kit_inject *in, const struct kind *kind)
{
	in->kind = kind->kind;
	for (size_t i = 0; i < n->n; i++) {
		const char *key = n->items[i]->key;

		if (strcmp(key, "domain") != 0 && strcmp(key, "insecure") != 0 &&
			strcmp(key, kind->key) != 0 && !(kind->beside && strcmp(key, kind->beside) == 0))
			load_error_key(l, n->items[i], "not allowed with %s", kind->key);
	}
}

/* Without TLS a value is sent only to the machine itself. */
static void check_insecure(struct load *l, const struct ynode *n, const struct kit_inject *in)
{
	size_t len = strlen(POLICY_THIS_HOST);

	if (!in->insecure || !in->domain)
		return;
	if (strncmp(in->domain, POLICY_THIS_HOST, len) != 0 ||
		(in->domain[len] && in->domain[len] != ':'))
		load_error_key(l, ynode_get(n, "insecure"), "only allowed for domain %s",
			POLICY_THIS_HOST);
	else if (in->kind == SPEC_INJECT_CERTIFICATE)
		load_error_key(l, ynode_get(n, "insecure"), "a client certificate needs TLS");
}

static void finish_inject(struct load *l, const struct ynode *n, void *entry)
{
	const struct kind *kind = NULL;
	struct kit_inject *in = entry;

	in->at = ynode_get(n, "domain");
	for (size_t i = 0; i < ARRAY_SIZE(kinds) && !kind; i++)
		if (ynode_get(n, kinds[i].key))
			kind = &kinds[i];
	if (kind)
		finish_kind(l, n, in, kind);
	else if (ynode_get(n, "inBody"))
		load_error_key(l, ynode_get(n, "inBody"), "only allowed with placeholder");
	else
		finish_header(l, n, in);
	check_insecure(l, n, in);
}

static const char *check_parameter(const char *s)
{
	return *s && strlen(s) <= 128 && !check_unreserved(s) ? NULL : "the name of a parameter";
}

static const char *check_placeholder(const char *s)
{
	return strlen(s) >= 8 && strlen(s) <= 256 && !check_unreserved(s)
		       ? NULL
		       : "8 to 256 letters, digits, '-', '.', '_' and '~'";
}

static const char *check_sign(const char *s)
{
	return strcmp(s, "aws") == 0 ? NULL : "aws";
}

static void load_sign(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	_free_ char *s = NULL;
	struct field text = {f->key, load_string, 0, 0, 0, check_sign};

	load_string(l, n, &s, &text);
}

/* A choice that is made by saying true. */
static void load_true(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	bool v = true;
	struct field flag = {f->key, load_bool};

	load_bool(l, n, &v, &flag);
	if (!v)
		load_error(l, n, "expected true, or leave it out");
}

static void load_key_name(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_string(l, n, base, f);
	if (n->value && env_is_reserved(n->value))
		load_error(l, n, "Hutch sets this variable itself, expected another name");
}

#define JSON_TRUE "{\"const\":true}"
#define JSON_SIGN "{\"enum\":[\"aws\"]}"
#define JSON_SCHEME "{\"enum\":[\"bearer\",\"basic\"]}"
static const struct field inject_rows[] = {
	ROW(kit_inject, "domain", load_domain, domain, FIELD_REQUIRED, NULL, NULL, JSON_STRING),
	ROW(kit_inject, "header", load_string, header, 0, check_header),
	ROW(kit_inject, "format", load_string, format, 0, check_format),
	CUSTOM_ROW("scheme", load_scheme, JSON_SCHEME),
	ROW(kit_inject, "username", load_string, username, 0, check_basic_user),
	/* Hutch's own. */
	ROW(kit_inject, "query", load_string, parameter, 0, check_parameter),
	ROW(kit_inject, "placeholder", load_string, placeholder, 0, check_placeholder),
	ROW(kit_inject, "inBody", load_bool, in_body),
	CUSTOM_ROW("sign", load_sign, JSON_SIGN),
	CUSTOM_ROW("registry", load_true, JSON_TRUE),
	CUSTOM_ROW("clientCertificate", load_true, JSON_TRUE),
	ROW(kit_inject, "insecure", load_bool, insecure),
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
	ROW(kit_credential, "oauth", load_struct, oauth, 0, NULL, &oauth2_shape),
};
static const struct moved credential_moved[] = {
	{"sources", "a list of entries with service and apiKey"},
	{NULL, NULL},
};
const struct shape credential_shape =
	SHAPE(kit_credential, credential_rows, credential_moved, finish_credential, 64);

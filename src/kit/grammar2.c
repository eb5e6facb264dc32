/* SPDX-License-Identifier: Apache-2.0 */
/* schemaVersion "2": the tables, and the few fields that a table cannot say. */
#include "kit/grammar.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "kit/check.h"
#include "policy/policy.h"

/* clang-format off */
#define ROW(s, key, fn, m, ...)  {key, fn, offsetof(struct s, m), 0, __VA_ARGS__}
#define LIST_ROW(s, key, m, shape) \
	{key, load_list, offsetof(struct s, m), offsetof(struct s, n_##m), 0, NULL, &(shape)}
#define STRUCT_ROW(key, shape)   {key, load_struct, 0, 0, 0, NULL, &(shape)}
#define FUTURE(key)              {key, NULL, 0, 0, FIELD_FUTURE}
#define IGNORED(key)             {key, NULL, 0, 0, FIELD_IGNORED}
#define SHAPE(s, rows, ...)      {sizeof(struct s), rows, ARRAY_SIZE(rows), __VA_ARGS__}
/* clang-format on */

/* Every host of a credential is held against every rule: both have ceilings, see also the maxima
 * of credential_shape and inject_shape. */
#define HOSTS_MAX 1024

/* Keys that another row or a finish function reads. */
static void load_elsewhere(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
}

/* ---- sandbox ---- */

/* A list, or {default, interactive}. */
static void load_command(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	static const struct field rows[] = {
		ROW(kit_sandbox, "default", load_strv, command_default),
		ROW(kit_sandbox, "interactive", load_strv, command_interactive),
	};
	static const struct shape shape = SHAPE(kit_sandbox, rows);
	struct kit_sandbox *s = base;

	if (n->kind == YNODE_MAP)
		load_map(l, n, base, &shape);
	else if (load_is_list(l, n, "a list of strings, or a map of default and interactive"))
		load_strv(l, n, base, &rows[0]);
	if (!ynode_get(n, "interactive"))
		strv_copy(&s->command_interactive, &s->command_default);
}

static void load_argv(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	if (!load_is_list(l, n, "a list of strings, the program and its arguments"))
		return;
	if (!n->n)
		load_error(l, n, "an empty list, expected the program and its arguments");
	else if (n->items[0]->kind == YNODE_SCALAR && !n->items[0]->plain && !n->items[0]->value[0])
		load_error(l, n->items[0], "empty, expected a program");
	else
		load_strv(l, n, base, f);
}

static const struct field resources_rows[] = {
	ROW(kit_sandbox, "cpu", load_cpus, cpus),
	ROW(kit_sandbox, "memory", load_size, memory_bytes),
	IGNORED("gpu"),
};
static const struct shape resources_shape = SHAPE(kit_sandbox, resources_rows);
static const struct field sandbox_rows[] = {
	ROW(kit_sandbox, "image", load_string, image, FIELD_REQUIRED, check_image),
	FUTURE("build"),
	ROW(kit_sandbox, "entrypoint", load_argv, entrypoint),
	ROW(kit_sandbox, "command", load_command, command_default),
	STRUCT_ROW("resources", resources_shape),
};
static const struct moved sandbox_moved[] = {
	{"template", "sandbox.image"},
	{"binary", "sandbox.entrypoint"},
	{"run", "sandbox.entrypoint"},
	{"args", "sandbox.command"},
	{"aiFilename", "agentInstructions.filename"},
	{NULL, NULL},
};
static const struct shape sandbox_shape = SHAPE(kit_sandbox, sandbox_rows, sandbox_moved);

/* ---- network, environment ---- */

static void load_hosts(struct load *l, const struct ynode *n, struct kit *k, bool allow)
{
	static const struct field list = {"hosts", load_targets};
	struct strv targets = {0};

	if (n->n > HOSTS_MAX) {
		load_error(l, n, "%zu entries, expected at most %d", n->n, HOSTS_MAX);
		return;
	}
	load_targets(l, n, &targets, &list);
	k->rules = xrealloc(k->rules, k->n_rules + targets.n, sizeof(*k->rules));
	for (size_t i = 0; i < targets.n; i++)
		k->rules[k->n_rules++] =
			(struct kit_rule){.allow = allow, .target = xstrdup(targets.v[i])};
	strv_done(&targets);
}

static void load_allow(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_hosts(l, n, base, true);
}

static void load_deny(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_hosts(l, n, base, false);
}

static void load_vars(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct kit *k = base;

	if (!load_is_map(l, n))
		return;
	k->vars = xcalloc(n->n, sizeof(*k->vars));
	for (size_t i = 0; i < n->n; i++) {
		const struct ynode *v = n->items[i];
		const char *expected = check_env_name(v->key), *value;

		if (expected) {
			load_error_key(l, v, "not a variable name, expected %s", expected);
			continue;
		}
		value = load_scalar(l, v, "a string");
		if (!value)
			continue;
		if (env_is_reserved(v->key)) {
			load_warn(l, v, "ignored, Hutch sets this variable itself");
			continue;
		}
		k->vars[k->n_vars++] = (struct kit_var){xstrdup(v->key), xstrdup(value)};
	}
}

static const struct field network_rows[] = {
	{"allow", load_allow},
	{"deny", load_deny},
};
static const struct moved network_moved[] = {
	{"allowedDomains", "permissions.network.allow"},
	{"deniedDomains", "permissions.network.deny"},
	{NULL, NULL},
};
static const struct shape network_shape = SHAPE(kit, network_rows, network_moved);
static const struct field permissions_rows[] = {
	STRUCT_ROW("network", network_shape),
};
static const struct shape permissions_shape = SHAPE(kit, permissions_rows);
static const struct field environment_rows[] = {
	{"variables", load_vars},
};
static const struct moved environment_moved[] = {
	{"proxyManaged", "credentials[].apiKey"},
	{NULL, NULL},
};
static const struct shape environment_shape = SHAPE(kit, environment_rows, environment_moved);

/* ---- credentials ---- */

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

static const struct field inject_rows[] = {
	ROW(kit_inject, "domain", load_domain, domain, FIELD_REQUIRED),
	ROW(kit_inject, "header", load_string, header, 0, check_header),
	ROW(kit_inject, "format", load_string, format, 0, check_format),
	{"scheme", load_scheme},
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

static const struct field api_key_rows[] = {
	ROW(kit_credential, "name", load_key_name, env, FIELD_REQUIRED, check_env_name),
	{"proxyManaged", load_proxy_managed},
	LIST_ROW(kit_credential, "inject", injects, inject_shape),
};
static const struct shape api_key_shape = SHAPE(kit_credential, api_key_rows);

static void finish_credential(struct load *l, const struct ynode *n, void *entry)
{
	if (!ynode_get(n, "apiKey") && !ynode_get(n, "oauth"))
		load_error(l, n, "apiKey is missing");
}

static const struct field credential_rows[] = {
	ROW(kit_credential, "service", load_string, service, FIELD_REQUIRED, check_name),
	ROW(kit_credential, "description", load_string, description),
	ROW(kit_credential, "required", load_bool, required),
	IGNORED("provider"),
	STRUCT_ROW("apiKey", api_key_shape),
	FUTURE("oauth"),
};
static const struct moved credential_moved[] = {
	{"sources", "a list of entries with service and apiKey"},
	{NULL, NULL},
};
static const struct shape credential_shape =
	SHAPE(kit_credential, credential_rows, credential_moved, finish_credential, 64);

/* ---- setup ---- */

static void load_shell(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct strv *argv = FIELD_AT(base, f, struct strv);
	const char *s;

	if (n->kind == YNODE_LIST) {
		load_error(l, n, "a list, expected a string that sh -c runs");
		return;
	}
	s = load_scalar(l, n, "a string that sh -c runs");
	if (!s)
		return;
	if (!s[strspn(s, " \t\r\n")]) {
		load_error(l, n, "empty, expected a command");
		return;
	}
	strv_add(argv, "sh");
	strv_add(argv, "-c");
	strv_add(argv, s);
}

static void finish_install(struct load *l, const struct ynode *n, void *entry)
{
	struct kit_step *s = entry;

	if (!s->user)
		s->user = xstrdup("0");
}

static void finish_startup(struct load *l, const struct ynode *n, void *entry)
{
	struct kit_step *s = entry;

	if (!s->user)
		s->user = xstrdup("1000");
}

static void load_mode(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	_free_ char *s = NULL;
	struct field text = {f->key, load_string, 0, 0, 0, check_mode};

	load_string(l, n, &s, &text);
	if (s)
		*FIELD_AT(base, f, unsigned) = (unsigned)strtoul(s, NULL, 8);
}

static void finish_file(struct load *l, const struct ynode *n, void *entry)
{
	struct kit_file *f = entry;

	if (!ynode_get(n, "mode"))
		f->mode = 0644;
	if (!f->content)
		f->content = xstrdup("");
}

static const struct field install_rows[] = {
	ROW(kit_step, "command", load_shell, argv, FIELD_REQUIRED),
	ROW(kit_step, "user", load_string, user, 0, check_user),
	ROW(kit_step, "description", load_string, description),
};
static const struct shape install_shape = SHAPE(kit_step, install_rows, NULL, finish_install);
static const struct field startup_rows[] = {
	ROW(kit_step, "command", load_argv, argv, FIELD_REQUIRED),
	ROW(kit_step, "user", load_string, user, 0, check_user),
	ROW(kit_step, "background", load_bool, background),
	ROW(kit_step, "description", load_string, description),
};
static const struct shape startup_shape = SHAPE(kit_step, startup_rows, NULL, finish_startup);
static const struct field file_rows[] = {
	ROW(kit_file, "path", load_string, path, FIELD_REQUIRED, check_guest_path),
	ROW(kit_file, "content", load_string, content),
	ROW(kit_file, "mode", load_mode, mode),
	ROW(kit_file, "onlyIfMissing", load_bool, only_if_missing),
	ROW(kit_file, "description", load_string, description),
};
static const struct shape file_shape = SHAPE(kit_file, file_rows, NULL, finish_file);
static const struct field setup_rows[] = {
	LIST_ROW(kit, "install", install, install_shape),
	LIST_ROW(kit, "startup", startup, startup_shape),
	LIST_ROW(kit, "files", files, file_shape),
};
static const struct moved setup_moved[] = {
	{"initFiles", "setup.files"},
	{NULL, NULL},
};
static const struct shape setup_shape = SHAPE(kit, setup_rows, setup_moved);

/* ---- the whole ---- */

static void load_kind(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	const char *s = load_scalar(l, n, "sandbox or mixin");
	char safe[48];

	if (!s)
		return;
	if (strcmp(s, "sandbox") == 0)
		*FIELD_AT(base, f, enum kit_kind) = KIT_SANDBOX;
	else if (strcmp(s, "mixin") == 0)
		*FIELD_AT(base, f, enum kit_kind) = KIT_MIXIN;
	else if (strcmp(s, "agent") == 0)
		load_error(l, n, "\"agent\", today it is sandbox");
	else
		load_error(l, n, "\"%s\", expected sandbox or mixin",
			log_safe(safe, sizeof(safe), s, strlen(s)));
}

static void load_licenses(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_strv(l, n, base, f);
	for (size_t i = 0; n->kind == YNODE_LIST && i < n->n; i++)
		for (size_t k = 0; k < i && n->items[i]->value; k++)
			if (n->items[k]->value &&
				strcmp(n->items[k]->value, n->items[i]->value) == 0) {
				load_error(l, n->items[i], "twice in the list");
				break;
			}
}

static const struct field requires_rows[] = {
	ROW(kit, "agent", load_string, requires_agent, FIELD_REQUIRED, check_name),
};
static const struct shape requires_shape = SHAPE(kit, requires_rows);
static const struct field instructions_rows[] = {
	ROW(kit, "filename", load_string, instructions_filename, 0, check_filename),
	ROW(kit, "content", load_string, instructions),
};
static const struct shape instructions_shape = SHAPE(kit, instructions_rows);

static const struct field kit_rows[] = {
	{"schemaVersion", load_elsewhere},
	ROW(kit, "kind", load_kind, kind, FIELD_REQUIRED),
	ROW(kit, "name", load_string, name, FIELD_REQUIRED, check_name),
	ROW(kit, "version", load_string, version, 0, check_text),
	ROW(kit, "displayName", load_string, display_name, 0, check_text),
	ROW(kit, "description", load_string, description),
	ROW(kit, "sourceURL", load_string, source_url, 0, check_url),
	ROW(kit, "licenses", load_licenses, licenses, 0, check_text),
	FUTURE("locked"),
	FUTURE("security"),
	FUTURE("args"),
	ROW(kit, "sandbox", load_struct, sandbox, 0, NULL, &sandbox_shape),
	FUTURE("extends"),
	FUTURE("mixins"),
	STRUCT_ROW("requires", requires_shape),
	STRUCT_ROW("agentInstructions", instructions_shape),
	STRUCT_ROW("permissions", permissions_shape),
	FUTURE("ports"),
	LIST_ROW(kit, "credentials", credentials, credential_shape),
	STRUCT_ROW("environment", environment_shape),
	STRUCT_ROW("setup", setup_shape),
	FUTURE("volumes"),
};
/* The draft of "2" and schemaVersion "1". */
static const struct moved kit_moved[] = {
	{"caps", "permissions"},
	{"commands", "setup"},
	{"publishedPorts", "ports"},
	{"agentContext", "agentInstructions.content"},
	{"memory", "agentInstructions.content"},
	{"network", "permissions.network"},
	{"agent", "sandbox"},
	{"oauth", "credentials[].oauth"},
	{"tmpfs", "volumes"},
	{NULL, NULL},
};

/* What the kind allows. */
static void check_kind(struct load *l, const struct ynode *n, const struct kit *k)
{
	static const char *const sandbox_only[] = {"sandbox", "extends", "mixins"};
	const struct ynode *at, *kind = ynode_get(n, "kind");

	if (!kind || !kind->value ||
		strcmp(kind->value, k->kind == KIT_MIXIN ? "mixin" : "sandbox") != 0)
		return; /* not known */
	if (k->kind == KIT_SANDBOX) {
		if (!ynode_get(n, "sandbox"))
			load_error(l, n, "sandbox is missing, kind sandbox needs it");
		at = ynode_get(n, "requires");
		if (at)
			load_error_key(l, at, "not allowed in kind sandbox, only in a mixin");
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(sandbox_only); i++) {
		at = ynode_get(n, sandbox_only[i]);
		if (at)
			load_error_key(l, at, "not allowed in a mixin, only in kind sandbox");
	}
	at = ynode_get(n, "agentInstructions");
	at = at ? ynode_get(at, "filename") : NULL;
	if (at)
		load_warn(l, at, "ignored in a mixin, the sandbox kit names the file");
}

static const struct ynode *item(const struct ynode *list, size_t i)
{
	return list && list->kind == YNODE_LIST && i < list->n ? list->items[i] : NULL;
}

/* Services and variables are unique; a credential reaches only hosts that the kit may reach. */
static void check_credentials(struct load *l, const struct ynode *n, const struct kit *k)
{
	const struct ynode *list = ynode_get(n, "credentials");
	struct policy policy = {0};

	for (size_t i = 0; i < k->n_rules; i++)
		policy_add(&policy, k->rules[i].target, k->rules[i].allow, "", NULL);
	for (size_t i = 0; i < k->n_credentials; i++) {
		const struct kit_credential *c = &k->credentials[i];
		const struct ynode *at = item(list, i), *key = ynode_get(at, "apiKey");
		const struct ynode *injects = key ? ynode_get(key, "inject") : NULL;

		for (size_t p = 0; p < i; p++) {
			const struct kit_credential *o = &k->credentials[p];

			if (c->service && o->service && strcmp(c->service, o->service) == 0)
				load_error(l, ynode_get(at, "service"), "twice in this kit");
			if (c->env && o->env && strcmp(c->env, o->env) == 0)
				load_error(l, ynode_get(key, "name"),
					"already the variable of service %s",
					o->service ? o->service : "?");
		}
		for (size_t m = 0; m < c->n_injects; m++) {
			struct policy_rule rule;

			if (!c->injects[m].domain ||
				policy_rule_parse(c->injects[m].domain, &rule, NULL) < 0)
				continue;
			if (!policy_target_allowed(&policy, &rule))
				load_error(l, ynode_get(item(injects, m), "domain"),
					"not allowed by this kit, expected a host that "
					"permissions.network.allow covers");
			policy_rule_done(&rule);
		}
	}
	policy_done(&policy);
}

static void finish_kit(struct load *l, const struct ynode *n, void *entry)
{
	check_kind(l, n, entry);
	check_credentials(l, n, entry);
}

void grammar2_load(struct load *l, const struct ynode *root, struct kit *k)
{
	static const struct shape shape = SHAPE(kit, kit_rows, kit_moved, finish_kit);

	load_map(l, root, k, &shape);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* schemaVersion "2": the tables, and the few fields that a table cannot say. */
#include "kit/grammar.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "kit/blocks.h"
#include "kit/check.h"

/* ---- sandbox ---- */

/* Read and checked; nothing is built. */
struct build {
	char *context, *dockerfile, *target;
	struct strv platforms;
};

static void load_build_args(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	if (!load_is_map(l, n))
		return;
	for (size_t i = 0; i < n->n; i++)
		if (check_env_name(n->items[i]->key))
			load_error_key(l, n->items[i], "not the name of a build argument");
		else
			load_scalar(l, n->items[i], "a string");
}

static const char *check_build_path(const char *s)
{
	return *s && *s != '/' && strcmp(s, "..") != 0 && strncmp(s, "../", 3) != 0 &&
			       !strstr(s, "/../") && !check_text(s)
		       ? NULL
		       : "a path inside of the kit";
}

static const struct field build_rows[] = {
	ROW(build, "context", load_string, context, 0, check_build_path),
	ROW(build, "dockerfile", load_string, dockerfile, 0, check_build_path),
	CUSTOM_ROW("args", load_build_args, JSON_VARS),
	ROW(build, "target", load_string, target, 0, check_text),
	ROW(build, "platforms", load_strv, platforms, 0, check_text),
};
static const struct shape build_shape = SHAPE(build, build_rows);

static void load_build(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct build b = {0};

	load_warn(l, n, "is not built, sandbox.image is used as it is");
	load_map(l, n, &b, f->shape);
	free(b.context);
	free(b.dockerfile);
	free(b.target);
	strv_done(&b.platforms);
}

static void finish_sandbox(struct load *l, const struct ynode *n, void *entry)
{
	if (!ynode_get(n, "image") && !ynode_get(n->parent, "extends"))
		load_error(l, n, "image is missing%s",
			ynode_get(n, "build") ? ", next to build it is needed, too" : "");
}

static const struct field sandbox_rows[] = {
	ROW(kit_sandbox, "image", load_string, image, 0, check_image),
	{"build", load_build, 0, 0, 0, NULL, &build_shape},
	ROW(kit_sandbox, "entrypoint", load_argv, entrypoint, 0, NULL, NULL, JSON_STRINGS),
	ROW(kit_sandbox, "command", load_command, command_default, 0, NULL, NULL,
		"{\"anyOf\":[" JSON_STRINGS
		",{\"type\":\"object\",\"properties\":{\"default\":" JSON_STRINGS
		",\"interactive\":" JSON_STRINGS "},\"additionalProperties\":false}]}"),
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
static const struct shape sandbox_shape =
	SHAPE(kit_sandbox, sandbox_rows, sandbox_moved, finish_sandbox);

/* ---- network, environment ---- */

static const struct field network_rows[] = {
	CUSTOM_ROW("allow", load_allow, JSON_STRINGS),
	CUSTOM_ROW("deny", load_deny, JSON_STRINGS),
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
	CUSTOM_ROW("variables", load_vars, JSON_VARS),
};
static const struct moved environment_moved[] = {
	{"proxyManaged", "credentials[].apiKey"},
	{NULL, NULL},
};
static const struct shape environment_shape = SHAPE(kit, environment_rows, environment_moved);

/* ---- setup ---- */

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

static void load_privileged(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct kit *k = base;

	load_bool(l, n, base, f);
	if (k->privileged)
		load_warn(l, n,
			"has no effect, the sandbox is a machine of its own and its root "
			"may do everything there");
}

static const struct field security_rows[] = {
	ROW(kit, "privileged", load_privileged, privileged, 0, NULL, NULL,
		"{\"type\":\"boolean\"}"),
};
static const struct shape security_shape = SHAPE(kit, security_rows);
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
	CUSTOM_ROW("schemaVersion", load_nothing, "{\"const\":\"2\"}"),
	ROW(kit, "kind", load_kind, kind, FIELD_REQUIRED, NULL, NULL,
		"{\"enum\":[\"sandbox\",\"mixin\"]}"),
	ROW(kit, "name", load_string, name, FIELD_REQUIRED, check_name),
	ROW(kit, "version", load_string, version, 0, check_text),
	ROW(kit, "displayName", load_string, display_name, 0, check_text),
	ROW(kit, "description", load_string, description),
	ROW(kit, "sourceURL", load_string, source_url, 0, check_url),
	ROW(kit, "licenses", load_licenses, licenses, 0, check_text),
	ROW(kit, "locked", load_locked, locked, 0, check_locked),
	STRUCT_ROW("security", security_shape),
	{"args", load_nothing, 0, 0, 0, NULL, NULL, JSON_ANY}, /* read before: args.h */
	ROW(kit, "sandbox", load_struct, sandbox, 0, NULL, &sandbox_shape),
	ROW(kit, "extends", load_string, extends, 0, check_reference),
	ROW(kit, "mixins", load_strv, mixins, 0, check_reference),
	STRUCT_ROW("requires", requires_shape),
	STRUCT_ROW("agentInstructions", instructions_shape),
	STRUCT_ROW("permissions", permissions_shape),
	LIST_ROW(kit, "ports", ports, port_shape),
	LIST_ROW(kit, "credentials", credentials, credential_shape),
	STRUCT_ROW("sshAgent", ssh_shape),
	STRUCT_ROW("environment", environment_shape),
	STRUCT_ROW("setup", setup_shape),
	LIST_ROW(kit, "volumes", volumes, volume_shape),
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
	{"sourceUrl", "sourceURL"},
	{NULL, NULL},
};

/* What the kind allows. */
static void finish_kit(struct load *l, const struct ynode *n, void *entry)
{
	static const char *const sandbox_only[] = {"sandbox", "extends", "mixins"};
	const struct ynode *at, *kind = ynode_get(n, "kind");
	const struct kit *k = entry;

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

const struct shape grammar2_shape = SHAPE(kit, kit_rows, kit_moved, finish_kit);

void grammar2_load(struct load *l, const struct ynode *root, struct kit *k)
{
	load_map(l, root, k, &grammar2_shape);
}

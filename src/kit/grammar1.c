/* SPDX-License-Identifier: Apache-2.0 */
/* schemaVersion "1": the legacy blocks, folded into the same struct kit, one warning per block.
 *
 * What "1" spreads over four maps (which domain belongs to which service, how the service is
 * addressed, where its value lives, which variables are placeholders) becomes credentials in the
 * end. Where a value lives is not the kit's business any more: the user stores it. */
#include "kit/grammar.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "kit/blocks.h"
#include "kit/check.h"
#include "policy/policy.h"

#define SERVICES_MAX 64

/* ---- the agent ---- */

static void load_entry_args(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct kit_sandbox *s = base;

	s->command_given = true;
	load_strv(l, n, base, f);
}

static const struct field entrypoint_rows[] = {
	ROW(kit_sandbox, "run", load_argv, entrypoint, 0, NULL, NULL, JSON_STRINGS),
	ROW(kit_sandbox, "args", load_entry_args, command_default, 0, NULL, NULL, JSON_STRINGS),
	ROW(kit_sandbox, "ttyArgs", load_entry_args, command_interactive, 0, NULL, NULL,
		JSON_STRINGS),
	{"pipeMode", load_nothing, 0, 0, FIELD_IGNORED, NULL, NULL, JSON_ANY},
};

static void finish_entrypoint(struct load *l, const struct ynode *n, void *entry)
{
	struct kit_sandbox *s = entry;

	if (!ynode_get(n, "ttyArgs"))
		strv_copy(&s->command_interactive, &s->command_default);
}

static const struct shape entrypoint_shape =
	SHAPE(kit_sandbox, entrypoint_rows, NULL, finish_entrypoint);

/* memoryMB: a number. */
static void load_megabytes(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	char *end;
	unsigned long long v;

	if (!ynode_reads_as(n, "a number")) {
		load_error(l, n, "expected a number of megabytes, without quotes");
		return;
	}
	v = strtoull(n->value, &end, 10);
	if (*end || *n->value == '-' || v == 0 || v > (1ULL << 30))
		load_error(l, n, "expected a number of megabytes, without quotes");
	else
		*FIELD_AT(base, f, uint64_t) = v << 20;
}

static const struct field resources_rows[] = {
	ROW(kit_sandbox, "memoryMB", load_megabytes, memory_bytes, 0, NULL, NULL,
		"{\"type\":\"integer\"}"),
	ROW(kit_sandbox, "cpu", load_cpus, cpus),
};
static const struct shape resources1_shape = SHAPE(kit_sandbox, resources_rows);

static void load_binary(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct kit_sandbox *s = &((struct kit *)base)->sandbox;
	const char *binary = load_scalar(l, n, "a program");

	/* entrypoint.run says more, wherever it stands. */
	if (binary && *binary && !s->entrypoint.n && !ynode_get(n->parent, "entrypoint"))
		strv_add(&s->entrypoint, binary);
}

/* Into struct kit: the file name of the instructions lives beside the sandbox. */
#define AT_SANDBOX(m) offsetof(struct kit, sandbox.m), 0
static const struct field agent_rows[] = {
	{"image", load_string, AT_SANDBOX(image), 0, check_image},
	{"template", load_string, AT_SANDBOX(image), 0, check_image},
	CUSTOM_ROW("binary", load_binary, JSON_STRING),
	ROW(kit, "aiFilename", load_string, instructions_filename, 0, check_filename),
	ROW(kit, "entrypoint", load_struct, sandbox, 0, NULL, &entrypoint_shape),
	ROW(kit, "resources", load_struct, sandbox, 0, NULL, &resources1_shape),
	{"persistence", load_ignored_string, 0, 0, FIELD_IGNORED},
};
static const struct shape agent_shape = SHAPE(kit, agent_rows);

/* ---- ports, volumes ---- */

static void load_tmpfs(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct kit *k = base;

	if (!load_is_list(l, n, "a list of paths or volumes"))
		return;
	k->volumes = xrealloc(k->volumes, k->n_volumes + n->n + 1, sizeof(*k->volumes));
	for (size_t i = 0; i < n->n; i++) {
		struct kit_volume *v = &k->volumes[k->n_volumes];
		const struct field path =
			ROW(kit_volume, "path", load_string, path, 0, check_guest_path);

		*v = (struct kit_volume){.at = n->items[i]};
		if (n->items[i]->kind == YNODE_MAP)
			load_map(l, n->items[i], v, &volume_shape);
		else
			load_string(l, n->items[i], v, &path);
		v->tmpfs = true;
		k->n_volumes++;
	}
}

/* A list of volumes, or a map of NAME: {path, size, mode}. */
static void load_volumes(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct kit *k = base;

	if (n->kind != YNODE_LIST && !load_is_map(l, n))
		return;
	if (n->n > volume_shape.max) {
		load_error(l, n, "%zu entries, expected at most %zu", n->n, volume_shape.max);
		return;
	}
	k->volumes = xrealloc(k->volumes, k->n_volumes + n->n + 1, sizeof(*k->volumes));
	for (size_t i = 0; i < n->n; i++) {
		k->volumes[k->n_volumes] = (struct kit_volume){0};
		load_map(l, n->items[i], &k->volumes[k->n_volumes++], &volume_shape);
	}
}

static void load_ports(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct kit *k = base;

	if (k->ports)
		load_error_key(l, n, "the ports are set twice");
	else
		load_list(l, n, base, f);
}

#define PORTS_ROW                                                                                  \
	{                                                                                          \
		"publishedPorts", load_ports, offsetof(struct kit, ports),                         \
			offsetof(struct kit, n_ports), FIELD_LEGACY, NULL,                         \
			&port_shape, NULL, "ports"                                                 \
	}

/* ---- network, credentials ---- */

static void load_service_domains(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	if (!load_is_map(l, n))
		return;
	for (size_t i = 0; i < n->n; i++) {
		struct policy_rule rule;
		struct err err;

		load_scalar(l, n->items[i], "the name of a service");
		if (policy_host_rule_parse(n->items[i]->key, &rule, &err) < 0) {
			load_error_key(l, n->items[i], "%s", err.msg);
			continue;
		}
		if (rule.kind == POLICY_ALL || rule.kind == POLICY_CIDR)
			load_error_key(l, n->items[i], "a credential goes to hosts by name");
		policy_rule_done(&rule);
	}
}

static const struct field auth_rows[] = {
	ROW(kit_inject, "headerName", load_string, header, FIELD_REQUIRED, check_header),
	ROW(kit_inject, "valueFormat", load_string, format, FIELD_REQUIRED, check_format),
	ROW(kit_inject, "username", load_string, username, 0, check_basic_user),
};
static const struct shape auth_shape = SHAPE(kit_inject, auth_rows);

static void inject_done(struct kit_inject *in)
{
	free(in->header);
	free(in->format);
	free(in->username);
}

static void load_service_auth(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	if (!load_is_map(l, n))
		return;
	for (size_t i = 0; i < n->n; i++) {
		struct kit_inject in = {0};

		load_map(l, n->items[i], &in, &auth_shape); /* used by fold_credentials */
		inject_done(&in);
	}
}

static void load_sources(struct load *l, const struct ynode *n, void *base, const struct field *f);

static const struct field network_rows[] = {
	CUSTOM_ROW("allowedDomains", load_allow, JSON_STRINGS),
	CUSTOM_ROW("deniedDomains", load_deny, JSON_STRINGS),
	CUSTOM_ROW("serviceDomains", load_service_domains, JSON_VARS),
	CUSTOM_ROW("serviceAuth", load_service_auth, "{\"type\":\"object\"}"),
	PORTS_ROW,
};

/* A domain that is allowed and denied was a mistake in "1". */
static void finish_network(struct load *l, const struct ynode *n, void *entry)
{
	const struct ynode *deny = ynode_get(n, "deniedDomains"), *allow;

	allow = ynode_get(n, "allowedDomains");
	for (size_t i = 0; deny && allow && deny->kind == YNODE_LIST && i < deny->n; i++)
		for (size_t k = 0; allow->kind == YNODE_LIST && k < allow->n; k++)
			if (deny->items[i]->value && allow->items[k]->value &&
				strcmp(deny->items[i]->value, allow->items[k]->value) == 0) {
				load_error(l, deny->items[i], "allowed in line %d",
					allow->items[k]->line);
				break;
			}
}

static const struct shape network_shape = SHAPE(kit, network_rows, NULL, finish_network);

static const char *check_priority(const char *s)
{
	return strcmp(s, "env-first") == 0 || strcmp(s, "file-first") == 0
		       ? NULL
		       : "env-first or file-first";
}

struct source {
	struct strv env;
	char *path, *parser, *priority;
};
static const struct field source_file_rows[] = {
	ROW(source, "path", load_string, path, FIELD_REQUIRED, check_text),
	ROW(source, "parser", load_string, parser, 0, check_text),
};
static const struct shape source_file_shape = SHAPE(source, source_file_rows);

static void finish_source(struct load *l, const struct ynode *n, void *entry)
{
	if (!ynode_get(n, "env") && !ynode_get(n, "file"))
		load_error(l, n, "env is missing, or file");
	if (ynode_get(n, "file"))
		load_warn(l, ynode_get(n, "file"),
			"has no effect, the user stores the value with hutch secret set");
}

static const struct field source_rows[] = {
	ROW(source, "env", load_strv, env, 0, check_env_name),
	STRUCT_ROW("file", source_file_shape),
	ROW(source, "priority", load_string, priority, 0, check_priority),
	{"required", load_nothing, 0, 0, 0, NULL, NULL, "{\"type\":\"boolean\"}"},
};
static const struct shape source_shape = SHAPE(source, source_rows, NULL, finish_source);

static void load_sources(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	if (!load_is_map(l, n))
		return;
	if (n->n > SERVICES_MAX) {
		load_error(l, n, "%zu entries, expected at most %d", n->n, SERVICES_MAX);
		return;
	}
	for (size_t i = 0; i < n->n; i++) {
		struct source s = {0};

		load_map(l, n->items[i], &s, &source_shape);
		strv_done(&s.env);
		free(s.path);
		free(s.parser);
		free(s.priority);
	}
}

static const struct field credentials_rows[] = {
	CUSTOM_ROW("sources", load_sources, "{\"type\":\"object\"}"),
};
static const struct shape credentials_shape = SHAPE(kit, credentials_rows);

static void load_placeholders(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct strv names = {0};
	const struct field list = {f->key, load_strv, 0, 0, 0, check_env_name};

	load_strv(l, n, &names, &list); /* used by fold_placeholders */
	strv_done(&names);
}

static const struct field environment_rows[] = {
	CUSTOM_ROW("variables", load_vars, JSON_VARS),
	CUSTOM_ROW("proxyManaged", load_placeholders, JSON_STRINGS),
};
static const struct shape environment_shape = SHAPE(kit, environment_rows);

/* ---- folding ---- */

static const struct ynode *dig(const struct ynode *n, const char *a, const char *b)
{
	n = n ? ynode_get(n, a) : NULL;
	return n && b ? ynode_get(n, b) : n;
}

static bool lists(const struct ynode *list, const char *s)
{
	for (size_t i = 0; list && list->kind == YNODE_LIST && i < list->n; i++)
		if (list->items[i]->value && strcmp(list->items[i]->value, s) == 0)
			return true;
	return false;
}

/* A store name for what "1" may have called anything: lower case, hyphens. */
static char *service_name(const char *s)
{
	char *name = xstrdup(s);

	for (char *c = name; *c; c++) {
		if (*c >= 'A' && *c <= 'Z')
			*c |= 0x20;
		else if (!(*c >= 'a' && *c <= 'z') && !(*c >= '0' && *c <= '9'))
			*c = '-';
	}
	return name;
}

static struct kit_credential *credential(
	struct load *l, struct kit *k, const struct ynode *at, const char *service)
{
	_free_ char *name = service_name(service);
	struct kit_credential *c;

	for (size_t i = 0; i < k->n_credentials; i++)
		if (strcmp(k->credentials[i].service, name) == 0)
			return &k->credentials[i];
	if (check_name(name) || k->n_credentials == SERVICES_MAX) {
		load_error(l, at, "not usable as the name of a service, expected %s",
			check_name(name) ? check_name(name) : "at most 64 services");
		return NULL;
	}
	k->credentials = xrealloc(k->credentials, k->n_credentials + 1, sizeof(*k->credentials));
	c = &k->credentials[k->n_credentials++];
	*c = (struct kit_credential){.service = steal_ptr(&name), .at = at};
	return c;
}

/* The variable that stands for a service: one that is a placeholder, else the first. */
static const char *source_env(const struct ynode *source, const struct ynode *managed)
{
	const struct ynode *env = source->kind == YNODE_MAP ? ynode_get(source, "env") : NULL;

	if (!env || env->kind != YNODE_LIST || !env->n)
		return NULL;
	for (size_t i = 0; i < env->n; i++)
		if (env->items[i]->value && lists(managed, env->items[i]->value))
			return env->items[i]->value;
	return env->items[0]->value;
}

static void fold_domain(
	struct load *l, struct kit *k, const struct ynode *domain, const struct ynode *auth)
{
	struct kit_credential *c = domain->value ? credential(l, k, domain, domain->value) : NULL;
	struct kit_inject in = {.at = domain};
	struct kit_errors reported = {0}; /* by load_service_auth already */
	struct load quiet = {l->file, &reported, l->schema};

	if (!c)
		return;
	auth = auth && auth->kind == YNODE_MAP ? ynode_get(auth, domain->value) : NULL;
	if (auth && auth->kind == YNODE_MAP)
		load_map(&quiet, auth, &in, &auth_shape);
	kit_errors_done(&reported);
	in.domain = xstrdup(domain->key);
	if (in.username) {
		free(in.format);
		in.format = xstrdup("Basic %s");
	}
	c->injects = xrealloc(c->injects, c->n_injects + 1, sizeof(*c->injects));
	c->injects[c->n_injects++] = in;
}

static void fold_credentials(struct load *l, const struct ynode *root, struct kit *k)
{
	const struct ynode *sources = dig(root, "credentials", "sources");
	const struct ynode *domains = dig(root, "network", "serviceDomains");
	const struct ynode *auth = dig(root, "network", "serviceAuth");
	const struct ynode *managed = dig(root, "environment", "proxyManaged");

	for (size_t i = 0; sources && sources->kind == YNODE_MAP && i < sources->n; i++) {
		const struct ynode *s = sources->items[i];
		struct kit_credential *c = credential(l, k, s, s->key);
		const char *env = c ? source_env(s, managed) : NULL;

		if (env && !c->env && kit_env_name_valid(env) && !env_is_reserved(env))
			c->env = xstrdup(env);
	}
	for (size_t i = 0; domains && domains->kind == YNODE_MAP && i < domains->n; i++)
		fold_domain(l, k, domains->items[i], auth);
	for (size_t i = 0; i < k->n_credentials; i++) {
		struct kit_credential *c = &k->credentials[i];
		bool source = false;

		for (size_t m = 0; sources && sources->kind == YNODE_MAP && m < sources->n; m++) {
			_free_ char *name = service_name(sources->items[m]->key);

			source = source || strcmp(name, c->service) == 0;
		}
		for (size_t m = 0; m < c->n_injects && !c->adds; m++)
			c->adds = !source && !c->injects[m].header;
	}
}

/* Placeholders that no service's variable is. */
static void fold_placeholders(const struct ynode *root, struct kit *k)
{
	const struct ynode *managed = dig(root, "environment", "proxyManaged");

	for (size_t i = 0; managed && managed->kind == YNODE_LIST && i < managed->n; i++) {
		const char *name = managed->items[i]->value;
		bool known = !name || !kit_env_name_valid(name) || env_is_reserved(name);

		for (size_t m = 0; m < k->n_credentials && !known; m++)
			known = k->credentials[m].env && strcmp(k->credentials[m].env, name) == 0;
		for (size_t m = 0; m < k->n_vars && !known; m++)
			known = strcmp(k->vars[m].name, name) == 0;
		if (known)
			continue;
		k->vars = xrealloc(k->vars, k->n_vars + 1, sizeof(*k->vars));
		k->vars[k->n_vars++] = (struct kit_var){xstrdup(name), xstrdup("proxy-managed")};
	}
}

/* An inject without header and format is only sense when another kit owns the service. */
static void check_injects(struct load *l, struct kit *k)
{
	for (size_t i = 0; i < k->n_credentials; i++) {
		struct kit_credential *c = &k->credentials[i];
		size_t kept = 0;

		for (size_t m = 0; m < c->n_injects; m++) {
			struct kit_inject *in = &c->injects[m];

			if (!c->adds && (!in->header || !in->format)) {
				load_warn(l, in->at,
					"has no effect, network.serviceAuth does not say how to "
					"send service %s",
					c->service);
				free(in->domain);
				inject_done(in);
				continue;
			}
			c->injects[kept++] = *in;
		}
		c->n_injects = kept;
	}
}

static void fold_oauth(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	const struct ynode *service = ynode_get(n, "service");
	struct kit_oauth oauth = {0};
	struct kit_credential *c;

	load_map(l, n, &oauth, &oauth1_shape);
	c = service && service->value ? credential(l, base, n, service->value) : NULL;
	if (c && !c->oauth.given) {
		c->oauth = oauth;
		return;
	}
	kit_oauth_done(&oauth);
}

/* ---- the whole ---- */

static void load_kind(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	const char *s = load_scalar(l, n, "agent, sandbox or mixin");
	char safe[48];

	if (!s)
		return;
	if (strcmp(s, "agent") == 0)
		load_warn(l, n, "of schemaVersion \"1\", today it is sandbox");
	else if (strcmp(s, "mixin") == 0)
		*FIELD_AT(base, f, enum kit_kind) = KIT_MIXIN;
	else if (strcmp(s, "sandbox") != 0)
		load_error(l, n, "\"%s\", expected agent, sandbox or mixin",
			log_safe(safe, sizeof(safe), s, strlen(s)));
}

static void load_memory(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	char **to = FIELD_AT(base, f, char *);

	if (*to)
		load_error_key(l, n, "the instructions are set twice, memory and agentContext");
	else
		load_string(l, n, base, f);
}

#define LEGACY(key, fn, shape, now)                                                                \
	{                                                                                          \
		key, fn, 0, 0, FIELD_LEGACY, NULL, shape, NULL, now                                \
	}
static const struct field commands_rows[] = {
	LIST_ROW(kit, "install", install, install_shape),
	LIST_ROW(kit, "startup", startup, startup_shape),
	LIST_ROW(kit, "initFiles", files, file_shape),
};
static const struct shape commands_shape = SHAPE(kit, commands_rows);
static const struct field kit_rows[] = {
	CUSTOM_ROW("schemaVersion", load_nothing, "{\"const\":\"1\"}"),
	ROW(kit, "kind", load_kind, kind, FIELD_REQUIRED, NULL, NULL,
		"{\"enum\":[\"agent\",\"sandbox\",\"mixin\"]}"),
	ROW(kit, "name", load_string, name, FIELD_REQUIRED, check_name),
	ROW(kit, "version", load_string, version, 0, check_text),
	ROW(kit, "displayName", load_string, display_name, 0, check_text),
	ROW(kit, "description", load_string, description),
	ROW(kit, "extends", load_string, extends, 0, check_reference),
	LEGACY("agent", load_struct, &agent_shape, "sandbox"),
	LEGACY("sandbox", load_struct, &agent_shape, "sandbox of schemaVersion \"2\""),
	{"memory", load_memory, offsetof(struct kit, instructions), 0, FIELD_LEGACY, NULL, NULL,
		JSON_STRING, "agentInstructions.content"},
	{"agentContext", load_memory, offsetof(struct kit, instructions), 0, FIELD_LEGACY, NULL,
		NULL, JSON_STRING, "agentInstructions.content"},
	LEGACY("network", load_struct, &network_shape, "permissions.network and credentials"),
	LEGACY("credentials", load_struct, &credentials_shape, "a list"),
	STRUCT_ROW("environment", environment_shape),
	LEGACY("commands", load_struct, &commands_shape, "setup"),
	LEGACY("oauth", fold_oauth, &oauth1_shape, "credentials[].oauth"),
	PORTS_ROW,
	{"tmpfs", load_tmpfs, 0, 0, FIELD_LEGACY, NULL, NULL, "{\"type\":\"array\"}", "volumes"},
	{"volumes", load_volumes, 0, 0, FIELD_LEGACY, NULL, NULL, JSON_ANY, "a list of volumes"},
	{"settings", load_nothing, 0, 0, FIELD_IGNORED, NULL, NULL, JSON_ANY},
	{"kitDir", load_nothing, 0, 0, FIELD_IGNORED, NULL, NULL, JSON_ANY},
};
/* Of "2": one file is written in one grammar. */
static const struct moved kit_moved[] = {
	{"permissions", "network"},
	{"setup", "commands"},
	{"ports", "publishedPorts"},
	{"agentInstructions", "agentContext"},
	{"requires", "not there; write schemaVersion: \"2\""},
	{"args", "not there; write schemaVersion: \"2\""},
	{NULL, NULL},
};

static void finish_kit(struct load *l, const struct ynode *n, void *entry)
{
	const struct ynode *agent = ynode_get(n, "agent"), *sandbox = ynode_get(n, "sandbox");
	struct kit *k = entry;
	const struct ynode *managed = dig(n, "environment", "proxyManaged");

	if (agent && sandbox)
		load_error_key(l, agent, "next to sandbox, only one of the two is allowed");
	if (k->kind == KIT_MIXIN && (agent || sandbox))
		load_error_key(l, agent ? agent : sandbox, "not allowed in a mixin");
	else if (k->kind == KIT_SANDBOX && !agent && !sandbox)
		load_error(l, n, "agent is missing, kind agent needs it");
	else if (k->kind == KIT_SANDBOX && !k->sandbox.image && !k->extends &&
		 !dig(n, agent ? "agent" : "sandbox", "image") &&
		 !dig(n, agent ? "agent" : "sandbox", "template"))
		load_error(l, agent ? agent : sandbox, "image is missing");
	if (managed)
		load_warn(l, managed, "of schemaVersion \"1\", today it is credentials[].apiKey");
	fold_credentials(l, n, k);
	check_injects(l, k);
	fold_placeholders(n, k);
}

const struct shape grammar1_shape = SHAPE(kit, kit_rows, kit_moved, finish_kit);

void grammar1_load(struct load *l, const struct ynode *root, struct kit *k)
{
	load_map(l, root, k, &grammar1_shape);
}

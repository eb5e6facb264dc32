/* SPDX-License-Identifier: Apache-2.0 */
/* schemaVersion "3": the types of capabilities and what their configs look like. What the model has
 * a place for is loaded into it; the rest is checked and recorded by its type alone. */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "kit/blocks.h"
#include "kit/check.h"
#include "kit/grammar.h"
#include "policy/policy.h"

#define JSON_BOOL    "{\"type\":\"boolean\"}"
#define JSON_COMMAND "{\"anyOf\":[{\"type\":\"string\"}," JSON_STRINGS "]}"

/* ---- values that are checked only ---- */

static void check_string(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	_free_ char *s = NULL;
	struct field text = {f->key, load_string, 0, 0, 0, f->check};

	load_string(l, n, &s, &text);
}

static void check_strings(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct strv v = {0};
	struct field list = {f->key, load_strv, 0, 0, 0, f->check};

	load_strv(l, n, &v, &list);
	strv_done(&v);
}

static void check_bool(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	bool v = false;
	struct field flag = {f->key, load_bool};

	load_bool(l, n, &v, &flag);
}

/* A string for sh -c, or an argument list. */
static void load_command_line(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	if (n->kind == YNODE_LIST)
		load_argv(l, n, base, f);
	else
		load_shell(l, n, base, f);
}

static void check_command(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct strv v = {0};
	struct field line = {f->key, load_command_line};

	load_command_line(l, n, &v, &line);
	strv_done(&v);
}

#define CHECKED(key, fn, check, json)                                                              \
	{                                                                                          \
		key, fn, 0, 0, 0, check, NULL, json                                                \
	}

/* ---- network ---- */

static void load_phase(struct load *l, const struct ynode *n, struct kit *k, unsigned phase,
	void (*load)(
		struct load *l, const struct ynode *n, struct kit *k, bool allow, unsigned phase))
{
	static const struct field rows[] = {
		{"allow", load_nothing},
		{"deny", load_nothing},
	};
	static const struct shape shape = SHAPE(kit, rows);
	const struct ynode *allow = ynode_get(n, "allow"), *deny = ynode_get(n, "deny");

	load_map(l, n, k, &shape);
	if (allow && allow->kind != YNODE_BAD)
		load(l, allow, k, true, phase);
	if (deny && deny->kind != YNODE_BAD)
		load(l, deny, k, false, phase);
}

static void load_install(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_phase(l, n, base, KIT_INSTALL, load_hosts);
}

static void load_runtime(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_phase(l, n, base, KIT_RUNTIME, load_hosts);
}

static const char *check_method(const char *s)
{
	return *s && strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == strlen(s)
		       ? NULL
		       : "a method in upper case, or ANY";
}

static const char *check_path_glob(const char *s)
{
	return *s == '/' && !check_text(s) ? NULL : "a path such as /v1/**";
}

struct entry {
	struct strv hosts, methods, paths;
};

static void finish_entry(struct load *l, const struct ynode *n, void *entry)
{
	static const char *const lists[] = {"hosts", "methods", "paths"};
	const struct ynode *methods = ynode_get(n, "methods"), *paths = ynode_get(n, "paths");
	const struct entry *e = entry;

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		const struct ynode *list = ynode_get(n, lists[i]);

		if (list && list->kind == YNODE_LIST && !list->n)
			load_error(l, list, "an empty list");
	}
	if (paths && !methods)
		load_error(l, n, "methods is missing, paths needs it; ANY means every method");
	if (e->methods.n > 1 && strv_has(&e->methods, "ANY"))
		load_error(l, methods, "ANY next to other methods");
}

static const struct field entry_rows[] = {
	ROW(entry, "hosts", load_targets, hosts, FIELD_REQUIRED),
	ROW(entry, "methods", load_strv, methods, 0, check_method),
	ROW(entry, "paths", load_strv, paths, 0, check_path_glob),
};
static const struct shape entry_shape = SHAPE(entry, entry_rows, NULL, finish_entry);

static void add_entry(struct load *l, const struct ynode *n, struct kit *k, bool allow,
	unsigned phase, const struct entry *e)
{
	for (size_t i = 0; i < e->hosts.n; i++) {
		struct policy_rule parsed;
		struct kit_rule *r;

		if (allow && e->methods.n && policy_rule_parse(e->hosts.v[i], &parsed, NULL) == 0) {
			if (parsed.kind != POLICY_EXACT)
				load_error(l, n,
					"methods or paths for a pattern of hosts, "
					"expected literal hosts");
			policy_rule_done(&parsed);
		}
		k->rules = xrealloc(k->rules, k->n_rules + 1, sizeof(*k->rules));
		r = &k->rules[k->n_rules++];
		*r = (struct kit_rule){
			.allow = allow, .target = xstrdup(e->hosts.v[i]), .phase = phase};
		strv_copy(&r->methods, &e->methods);
		strv_copy(&r->paths, &e->paths);
	}
}

static void load_entries(
	struct load *l, const struct ynode *n, struct kit *k, bool allow, unsigned phase)
{
	if (!load_is_list(l, n, "a list of hosts or entries"))
		return;
	if (n->n > 1024) {
		load_error(l, n, "%zu entries, expected at most 1024", n->n);
		return;
	}
	for (size_t i = 0; i < n->n; i++) {
		struct entry e = {0};
		const char *host;

		if (n->items[i]->kind == YNODE_MAP) {
			load_map(l, n->items[i], &e, &entry_shape);
		} else {
			host = load_target(l, n->items[i], false);
			if (host)
				strv_add(&e.hosts, host);
		}
		add_entry(l, n->items[i], k, allow, phase, &e);
		strv_done(&e.hosts);
		strv_done(&e.methods);
		strv_done(&e.paths);
	}
}

static void load_install2(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_phase(l, n, base, KIT_INSTALL, load_entries);
}

static void load_runtime2(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_phase(l, n, base, KIT_RUNTIME, load_entries);
}

#define JSON_PHASE(items)                                                                          \
	"{\"type\":\"object\",\"properties\":{\"allow\":" items ",\"deny\":" items                 \
	"},\"additionalProperties\":false}"
#define JSON_ENTRIES                                                                               \
	"{\"type\":\"array\",\"items\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"object\","    \
	"\"properties\":{\"hosts\":" JSON_STRINGS ",\"methods\":" JSON_STRINGS                     \
	",\"paths\":" JSON_STRINGS "},\"required\":[\"hosts\"],\"additionalProperties\":false}]}}"
static const struct field network1_rows[] = {
	CUSTOM_ROW("install", load_install, JSON_PHASE(JSON_STRINGS)),
	CUSTOM_ROW("runtime", load_runtime, JSON_PHASE(JSON_STRINGS)),
};
static const struct shape network1_shape = SHAPE(kit, network1_rows);
static const struct field network2_rows[] = {
	CUSTOM_ROW("install", load_install2, JSON_PHASE(JSON_ENTRIES)),
	CUSTOM_ROW("runtime", load_runtime2, JSON_PHASE(JSON_ENTRIES)),
};
static const struct shape network2_shape = SHAPE(kit, network2_rows);

/* ---- credentials ---- */

static unsigned phase_bit(struct load *l, const struct ynode *n)
{
	const char *s = load_scalar(l, n, "install or runtime");

	if (s && strcmp(s, "install") == 0)
		return KIT_INSTALL;
	if (s && strcmp(s, "runtime") == 0)
		return KIT_RUNTIME;
	if (s)
		load_error(l, n, "expected install or runtime");
	return 0;
}

/* One phase, or a list of both. */
static unsigned load_phases(struct load *l, const struct ynode *n)
{
	unsigned mask = 0;

	if (n->kind != YNODE_LIST)
		return phase_bit(l, n);
	if (!n->n)
		load_error(l, n, "an empty list, expected install or runtime");
	for (size_t i = 0; i < n->n; i++) {
		unsigned bit = phase_bit(l, n->items[i]);

		if (mask & bit)
			load_error(l, n->items[i], "twice in the list");
		mask |= bit;
	}
	return mask;
}

static void load_phase_mask(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	*FIELD_AT(base, f, unsigned) = load_phases(l, n);
}

static void check_phase_mask(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_phases(l, n);
}

#define JSON_PHASES "{\"anyOf\":[{\"enum\":[\"install\",\"runtime\"]}," JSON_STRINGS "]}"
static const struct field credential3_rows[] = {
	ROW(kit_credential, "service", load_string, service, FIELD_REQUIRED, check_name),
	ROW(kit_credential, "phase", load_phase_mask, phase, FIELD_REQUIRED, NULL, NULL,
		JSON_PHASES),
	STRUCT_ROW("apiKey", api_key3_shape),
	ROW(kit_credential, "oauth", load_struct, oauth, 0, NULL, &oauth3_shape),
};

static void finish_credential3(struct load *l, const struct ynode *n, void *entry)
{
	struct kit *k = entry;
	static const struct shape shape = SHAPE(kit_credential, credential3_rows);
	struct kit_credential *c;

	k->credentials = xrealloc(k->credentials, k->n_credentials + 1, sizeof(*k->credentials));
	c = &k->credentials[k->n_credentials++];
	*c = (struct kit_credential){.at = n};
	load_map(l, n, c, &shape);
	c->required = !(n->parent && ynode_get(n->parent, "optional") &&
			ynode_reads_as(ynode_get(n->parent, "optional"), "a boolean") &&
			strchr("tT", ynode_get(n->parent, "optional")->value[0]));
	if (!ynode_get(n, "apiKey") && !ynode_get(n, "oauth"))
		load_error(l, n, "apiKey is missing, or oauth");
}

/* The rows once more, for the schema and the unknown keys; finish reads them into a new entry. */
static const struct field credential3_outer[] = {
	CUSTOM_ROW("service", load_nothing, JSON_STRING),
	CUSTOM_ROW("phase", load_nothing, JSON_PHASES),
	{"apiKey", load_nothing, 0, 0, 0, NULL, &api_key3_shape},
	{"oauth", load_nothing, 0, 0, 0, NULL, &oauth3_shape},
};
static const struct shape credential3_shape =
	SHAPE(kit, credential3_outer, NULL, finish_credential3);

static void finish_ssh(struct load *l, const struct ynode *n, void *entry)
{
	const struct ynode *free_ = ynode_get(n, "unrestricted");
	bool bounded = ynode_get(n, "sign") || ynode_get(n, "authenticate");
	bool no = free_ && free_->value && strchr("fF", free_->value[0]);

	if (no && !bounded)
		load_error(l, n, "sign is missing, or authenticate: unrestricted is false");
	if (!no && bounded)
		load_error(l, n, "sign and authenticate need unrestricted: false");
}

static const struct field ssh_rows[] = {
	{"phase", check_phase_mask, 0, 0, FIELD_REQUIRED, NULL, NULL, JSON_PHASES},
	CHECKED("unrestricted", check_bool, NULL, JSON_BOOL),
	CHECKED("sign", check_strings, check_text, JSON_STRINGS),
	CHECKED("authenticate", check_strings, check_text, JSON_STRINGS),
};
static const struct shape ssh3_shape = SHAPE(kit, ssh_rows, NULL, finish_ssh);

/* ---- storage, devices, resources ---- */

static const struct field volume_rows[] = {
	ROW(kit_volume, "path", load_string, path, FIELD_REQUIRED, check_guest_path),
	ROW(kit_volume, "size", load_size, size_bytes),
	ROW(kit_volume, "tmpfs", load_bool, tmpfs),
	ROW(kit_volume, "mode", load_mode, mode),
};
static const struct field port_rows[] = {
	ROW(kit_port, "container", load_port_number, container, FIELD_REQUIRED),
	{"transport", load_nothing, 0, 0, 0, NULL, NULL, "{\"enum\":[\"\",\"tcp\",\"udp\"]}"},
	ROW(kit_port, "name", load_string, name, 0, check_text),
};

static void finish_volume(struct load *l, const struct ynode *n, void *entry)
{
	static const struct shape shape = SHAPE(kit_volume, volume_rows);
	struct kit *k = entry;

	k->volumes = xrealloc(k->volumes, k->n_volumes + 1, sizeof(*k->volumes));
	k->volumes[k->n_volumes] = (struct kit_volume){.at = n};
	load_map(l, n, &k->volumes[k->n_volumes++], &shape);
}

static void finish_port(struct load *l, const struct ynode *n, void *entry)
{
	static const struct shape shape = SHAPE(kit_port, port_rows);
	const struct ynode *t = ynode_get(n, "transport");
	const char *s = t ? load_scalar(l, t, "tcp or udp") : NULL;
	struct kit *k = entry;

	k->ports = xrealloc(k->ports, k->n_ports + 1, sizeof(*k->ports));
	k->ports[k->n_ports] = (struct kit_port){.at = n, .udp = s && strcmp(s, "udp") == 0};
	load_map(l, n, &k->ports[k->n_ports++], &shape);
	if (s && *s && strcmp(s, "tcp") != 0 && strcmp(s, "udp") != 0)
		load_error(l, t, "expected tcp or udp");
}

static const struct field volume_outer[] = {
	{"path", load_nothing, 0, 0, FIELD_REQUIRED, NULL, NULL, JSON_STRING},
	CUSTOM_ROW("size", load_nothing, JSON_STRING),
	CUSTOM_ROW("tmpfs", load_nothing, JSON_BOOL),
	CUSTOM_ROW("mode", load_nothing, JSON_STRING),
};
static const struct shape volume3_shape = {
	sizeof(struct kit), volume_outer, ARRAY_SIZE(volume_outer), NULL, finish_volume};
static const struct field port_outer[] = {
	{"container", load_nothing, 0, 0, FIELD_REQUIRED, NULL, NULL, "{\"type\":\"integer\"}"},
	CUSTOM_ROW("transport", load_nothing, "{\"enum\":[\"\",\"tcp\",\"udp\"]}"),
	CUSTOM_ROW("name", load_nothing, JSON_STRING),
};
static const struct shape port3_shape = {
	sizeof(struct kit), port_outer, ARRAY_SIZE(port_outer), NULL, finish_port};

static const struct field host_mount_rows[] = {
	{"path", check_string, 0, 0, FIELD_REQUIRED, check_guest_path, NULL, JSON_STRING},
	CHECKED("mode", check_string, check_mode, JSON_STRING),
};
static const struct shape host_mount_shape = SHAPE(kit, host_mount_rows);

static const char *check_usb_id(const char *s)
{
	if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X'))
		s += 2;
	return *s && strlen(s) <= 4 && strspn(s, "0123456789abcdefABCDEF") == strlen(s)
		       ? NULL
		       : "a hexadecimal number such as 0x1050";
}

static void finish_usb(struct load *l, const struct ynode *n, void *entry)
{
	bool vendor = ynode_get(n, "vendorId"), product = ynode_get(n, "productId");

	if (!ynode_get(n, "class") && !(vendor && product))
		load_error(l, n, "vendorId and productId are missing, or class");
}

static const struct field usb_rows[] = {
	CHECKED("vendorId", check_string, check_usb_id, JSON_STRING),
	CHECKED("productId", check_string, check_usb_id, JSON_STRING),
	CHECKED("class", check_string, check_text, JSON_STRING),
};
static const struct shape usb_shape = SHAPE(kit, usb_rows, NULL, finish_usb);

static const struct field resources_rows[] = {
	{"cpu", load_cpus, offsetof(struct kit, sandbox.cpus)},
	{"memory", load_size, offsetof(struct kit, sandbox.memory_bytes)},
	{"gpu", load_ignored_string, 0, 0, FIELD_IGNORED},
};
static const struct shape resources3_shape = SHAPE(kit, resources_rows);

/* ---- lifecycle ---- */

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

static const struct field install_rows[] = {
	ROW(kit_step, "command", load_command_line, argv, FIELD_REQUIRED, NULL, NULL, JSON_COMMAND),
	ROW(kit_step, "user", load_string, user, 0, check_user),
	ROW(kit_step, "env", load_strv, env, 0, check_env_name),
	ROW(kit_step, "description", load_string, description),
};
static const struct shape install3_shape = SHAPE(kit_step, install_rows, NULL, finish_install);
static const struct field startup_rows[] = {
	ROW(kit_step, "command", load_command_line, argv, FIELD_REQUIRED, NULL, NULL, JSON_COMMAND),
	ROW(kit_step, "user", load_string, user, 0, check_user),
	ROW(kit_step, "env", load_strv, env, 0, check_env_name),
	ROW(kit_step, "background", load_bool, background),
	ROW(kit_step, "description", load_string, description),
};
static const struct shape startup3_shape = SHAPE(kit_step, startup_rows, NULL, finish_startup);

static void load_overwrite(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	bool v = true;
	struct field flag = {f->key, load_bool};

	load_bool(l, n, &v, &flag);
	*FIELD_AT(base, f, bool) = !v;
}

static void finish_file(struct load *l, const struct ynode *n, void *entry)
{
	struct kit_file *f = entry;

	if (!ynode_get(n, "mode"))
		f->mode = 0644;
	if (!f->content)
		f->content = xstrdup("");
}

static const struct field file_rows[] = {
	ROW(kit_file, "path", load_string, path, FIELD_REQUIRED, check_guest_path),
	ROW(kit_file, "content", load_string, content),
	ROW(kit_file, "mode", load_mode, mode),
	ROW(kit_file, "overwrite", load_overwrite, only_if_missing, 0, NULL, NULL, JSON_BOOL),
	ROW(kit_file, "description", load_string, description),
};
static const struct shape file3_shape = SHAPE(kit_file, file_rows, NULL, finish_file);

static void load_interactive(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct kit *k = base;

	if (k->sandbox.command_given)
		load_error_key(l, n, "set twice in this kit");
	k->sandbox.command_given = true;
	load_strv(l, n, &k->sandbox.command_interactive, &(struct field){f->key, load_strv});
}

static void finish_lifecycle(struct load *l, const struct ynode *n, void *entry)
{
	if (!n->n)
		load_error(l, n, "empty, expected one of install, startup, files, interactive");
}

static const struct field lifecycle_rows[] = {
	LIST_ROW(kit, "install", install, install3_shape),
	LIST_ROW(kit, "startup", startup, startup3_shape),
	LIST_ROW(kit, "files", files, file3_shape),
	CUSTOM_ROW("interactive", load_interactive, JSON_STRINGS),
};
static const struct shape lifecycle_shape = SHAPE(kit, lifecycle_rows, NULL, finish_lifecycle);

/* ---- the agent ---- */

static const char *check_context_file(const char *s)
{
	if (s[0] == '.' && s[1] == '/')
		s += 2;
	return *s && *s != '/' && strcmp(s, "..") && strncmp(s, "../", 3) && !strstr(s, "/../") &&
			       !check_text(s) && strlen(s) < 1024
		       ? NULL
		       : "a path beside the descriptor";
}

static void finish_context(struct load *l, const struct ynode *n, void *entry)
{
	const struct ynode *file = ynode_get(n, "contentFile");
	struct kit *k = entry;

	if (file && ynode_get(n, "content"))
		load_error_key(l, file, "next to content, only one of the two is allowed");
	else if (!file && !ynode_get(n, "content") && !ynode_get(n, "filename"))
		load_error(l, n, "content is missing, or contentFile");
	if (k->kind == KIT_MIXIN && ynode_get(n, "filename") && !ynode_get(n, "directory"))
		load_warn(l, ynode_get(n, "filename"),
			"ignored in a mixin without directory, the workload names the file");
}

static const struct field context_rows[] = {
	CHECKED("directory", check_string, check_guest_path, JSON_STRING),
	ROW(kit, "filename", load_string, instructions_filename, 0, check_filename),
	ROW(kit, "content", load_string, instructions),
	ROW(kit, "contentFile", load_string, instructions_file, 0, check_context_file),
};
static const struct shape context_shape = SHAPE(kit, context_rows, NULL, finish_context);

/* An argument list that must hold a placeholder. */
static void check_tail(struct load *l, const struct ynode *n, const char *mark)
{
	bool found = false;

	if (!load_is_list(l, n, "a list of strings"))
		return;
	for (size_t i = 0; i < n->n; i++) {
		const char *s = load_scalar(l, n->items[i], "a string");

		found = found || !s || strstr(s, mark);
	}
	if (!found)
		load_error(l, n, "without %s, which stands for what the user asks for", mark);
}

static void check_prompt(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	check_tail(l, n, "{{.Prompt}}");
}

static void check_resume(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	check_tail(l, n, "{{.SessionID}}");
}

static void finish_sessions(struct load *l, const struct ynode *n, void *entry)
{
	if (!n->n)
		load_error(l, n, "empty, expected at least one verb such as prompt");
}

static const struct field sessions_rows[] = {
	CHECKED("prompt", check_prompt, NULL, JSON_STRINGS),
	CHECKED("resume", check_resume, NULL, JSON_STRINGS),
	CHECKED("continue", check_strings, NULL, JSON_STRINGS),
	CHECKED("list", check_command, NULL, JSON_COMMAND),
};
static const struct shape sessions_shape = SHAPE(kit, sessions_rows, NULL, finish_sessions);
static const struct field interactive_rows[] = {
	CHECKED("prompt", check_prompt, NULL, JSON_STRINGS),
	CHECKED("resume", check_resume, NULL, JSON_STRINGS),
	CHECKED("continue", check_strings, NULL, JSON_STRINGS),
	CHECKED("newSession", check_strings, NULL, JSON_STRINGS),
	CHECKED("sessionPicker", check_strings, NULL, JSON_STRINGS),
	CHECKED("list", check_command, NULL, JSON_COMMAND),
};
static const struct shape interactive_shape = SHAPE(kit, interactive_rows, NULL, finish_sessions);

static const char *check_skills_mode(const char *s)
{
	return strcmp(s, "readonly") == 0 || strcmp(s, "readwrite") == 0 ? NULL
									 : "readonly or readwrite";
}

static const struct field skills_rows[] = {
	{"path", check_string, 0, 0, FIELD_REQUIRED, check_guest_path, NULL, JSON_STRING},
	CHECKED("mode", check_string, check_skills_mode, "{\"enum\":[\"readonly\",\"readwrite\"]}"),
};
static const struct shape skills_shape = SHAPE(kit, skills_rows);
static const struct field skill_rows[] = {
	{"path", check_string, 0, 0, FIELD_REQUIRED, check_guest_path, NULL, JSON_STRING},
	CHECKED("name", check_string, check_name, JSON_STRING),
};
static const struct shape skill_shape = SHAPE(kit, skill_rows);

static void check_vars(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	if (!load_is_map(l, n))
		return;
	for (size_t i = 0; i < n->n; i++)
		if (check_env_name(n->items[i]->key))
			load_error_key(l, n->items[i], "not a variable name, expected %s",
				check_env_name(n->items[i]->key));
		else
			load_scalar(l, n->items[i], "a string");
}

static void check_version_number(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	if (n->kind != YNODE_BAD && (!ynode_reads_as(n, "a number") || *n->value < '1' ||
					    strspn(n->value, "0123456789") != strlen(n->value)))
		load_error(l, n, "expected a whole number from 1");
}

static const struct field acp_rows[] = {
	{"agent", check_string, 0, 0, FIELD_REQUIRED, check_text, NULL, JSON_STRING},
	{"command", check_command, 0, 0, FIELD_REQUIRED, NULL, NULL, JSON_COMMAND},
	CHECKED("env", check_vars, NULL, JSON_VARS),
	CHECKED("protocolVersion", check_version_number, NULL, "{\"type\":\"integer\"}"),
};
static const struct shape acp_shape = SHAPE(kit, acp_rows);

/* ---- the types ---- */

#define OURS(name) "com.docker.sandbox/" name
const struct capability_type capability_types[] = {
	{OURS("network-policy@1"), &network1_shape, false, true, false},
	{OURS("network-policy@2"), &network2_shape, false, true, false},
	{OURS("credential@1"), &credential3_shape, false, false, false},
	{OURS("ssh-agent@1"), &ssh3_shape, false, false, true},
	{OURS("volume@1"), &volume3_shape, false, false, false},
	{OURS("host-mount@1"), &host_mount_shape, false, false, true},
	{OURS("port@1"), &port3_shape, false, false, true},
	{OURS("usb-device@1"), &usb_shape, false, false, true},
	{OURS("resources@1"), &resources3_shape, false, true, false},
	{OURS("privileged@1"), NULL, true, true, false},
	{OURS("long-running@1"), NULL, true, true, true},
	{OURS("kit-registry@1"), NULL, true, true, true},
	{OURS("sbx@1"), NULL, true, true, false},
	{OURS("git-identity@1"), NULL, true, true, true},
	{OURS("lifecycle@1"), &lifecycle_shape, false, true, false},
	{OURS("agent-context@1"), &context_shape, false, true, false},
	{OURS("agent-sessions@1"), &sessions_shape, false, true, true},
	{OURS("agent-interactive-sessions@1"), &interactive_shape, false, true, true},
	{OURS("agent-skills@1"), &skills_shape, false, false, true},
	{OURS("agent-skill@1"), &skill_shape, false, false, true},
	{OURS("acp@1"), &acp_shape, false, false, true},
};
const size_t n_capability_types = ARRAY_SIZE(capability_types);

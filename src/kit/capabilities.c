/* SPDX-License-Identifier: Apache-2.0 */
/* schemaVersion "3": the types of capabilities, and what the configs of those look like that are
 * about the sandbox: network, credentials, storage, devices. The others are in
 * capabilities_agent.c. */
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "kit/blocks.h"
#include "kit/capabilities.h"
#include "kit/check.h"
#include "kit/grammar.h"
#include "policy/policy.h"

/* ---- network ---- */

/* Here a host without a port is meant with every port, elsewhere with 443. Not so the user's own
 * machine, where a port is a service. */
static void name_ports(struct kit_rule *r)
{
	struct policy_rule parsed;
	char *text;

	if (policy_rule_parse(r->target, &parsed, NULL) < 0)
		return; /* said already */
	if (!parsed.ports_given && parsed.kind != POLICY_CIDR &&
		strcmp(parsed.name, POLICY_THIS_HOST) != 0) {
		text = xasprintf("%s:*", r->target);
		free(r->target);
		r->target = text;
	}
	policy_rule_done(&parsed);
}

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
	size_t from = k->n_rules;

	load_map(l, n, k, &shape);
	if (allow && allow->kind != YNODE_BAD)
		load(l, allow, k, true, phase);
	if (deny && deny->kind != YNODE_BAD)
		load(l, deny, k, false, phase);
	for (; from < k->n_rules; from++)
		name_ports(&k->rules[from]);
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

#define JSON_PHASES "{\"anyOf\":[{\"enum\":[\"install\",\"runtime\"]}," JSON_STRINGS "]}"
static const struct field credential3_rows[] = {
	ROW(kit_credential, "service", load_string, service, FIELD_REQUIRED, check_name),
	ROW(kit_credential, "phase", load_phase_mask, phase, FIELD_REQUIRED, NULL, NULL,
		JSON_PHASES),
	STRUCT_ROW("apiKey", api_key3_shape),
	ROW(kit_credential, "oauth", load_struct, oauth, 0, NULL, &oauth3_shape),
};
static const struct shape credential3_shape = SHAPE(kit_credential, credential3_rows);

static void add_credential(struct load *l, const struct ynode *n, struct kit *k)
{
	struct kit_credential *c;

	k->credentials = xrealloc(k->credentials, k->n_credentials + 1, sizeof(*k->credentials));
	c = &k->credentials[k->n_credentials++];
	*c = (struct kit_credential){.at = n};
	load_map(l, n, c, &credential3_shape);
	c->required = !capability_optional(k);
	if (!ynode_get(n, "apiKey") && !ynode_get(n, "oauth"))
		load_error(l, n, "apiKey is missing, or oauth");
}

/* Namespaces of signatures are printable, without blanks. */
static const char *check_namespace(const char *s)
{
	for (const char *c = s; *c; c++)
		if (*c <= ' ' || *c > '~')
			return "a namespace such as git";
	return *s && strlen(s) <= 256 ? NULL : "a namespace such as git";
}

/* [user@]host */
static const char *check_login(const char *s)
{
	static const char expected[] = "a server such as git@git.example.com";
	const char *at = strchr(s, '@'), *host = at ? at + 1 : s;
	char canon[POLICY_NAME_MAX + 1];

	if (at && (at == s || at - s > 64 || strcspn(s, " \t") < (size_t)(at - s)))
		return expected;
	if (check_text(s) || strpbrk(host, "*:/") || !strpbrk(host, "abcdefghijklmnopqrstuvwxyz") ||
		policy_name_canon(host, strlen(host), canon, NULL) < 0 || strcmp(canon, host) != 0)
		return expected;
	return NULL;
}

static const struct field ssh_rows[] = {
	ROW(kit_ssh, "phase", load_phase_mask, phase, FIELD_REQUIRED, NULL, NULL, JSON_PHASES),
	ROW(kit_ssh, "unrestricted", load_bool, unrestricted),
	ROW(kit_ssh, "sign", load_strv, sign, 0, check_namespace),
	ROW(kit_ssh, "authenticate", load_strv, logins, 0, check_login),
};
static const struct shape ssh3_shape = SHAPE(kit_ssh, ssh_rows);

static void add_ssh(struct load *l, const struct ynode *n, struct kit *k)
{
	const struct ynode *sign = ynode_get(n, "sign"), *logins = ynode_get(n, "authenticate");
	struct kit_ssh *s;

	k->ssh = xrealloc(k->ssh, k->n_ssh + 1, sizeof(*k->ssh));
	s = &k->ssh[k->n_ssh++];
	*s = (struct kit_ssh){.unrestricted = true, .optional = capability_optional(k)};
	load_map(l, n, s, &ssh3_shape);
	if ((sign && sign->kind == YNODE_LIST && !sign->n) ||
		(logins && logins->kind == YNODE_LIST && !logins->n))
		load_error(l, n, "an empty list");
	if (!s->unrestricted && !sign && !logins)
		load_error(l, n, "sign is missing, or authenticate: unrestricted is false");
	if (s->unrestricted && (sign || logins))
		load_error(l, n, "sign and authenticate need unrestricted: false");
	for (size_t i = 0; i + 1 < k->n_ssh; i++)
		if (k->ssh[i].phase & s->phase)
			load_error(l, n, "a second ssh-agent for the same phase");
}

/* ---- storage, devices, resources ---- */

/* An absolute path, made canonical: what is the same place is the same volume. */
static void load_clean_path(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	const char *s = load_scalar(l, n, "an absolute path"), *why;
	_buf_ struct buf out = {.max = 4096};

	for (const char *at = s; at && *at == '/';) {
		size_t len = strcspn(++at, "/");

		if (len == 2 && memcmp(at, "..", 2) == 0) {
			while (buf_len(&out) && out.data[--out.len] != '/')
				;
		} else if (len && (len != 1 || *at != '.')) {
			buf_puts(&out, "/");
			buf_put(&out, at, len);
		}
		at += len;
	}
	why = s ? (out.failed ? "a shorter path" : check_guest_path(*s == '/' ? buf_cstr(&out) : s))
		: NULL;
	if (why)
		load_error(l, n, "expected %s", why);
	else if (s)
		*FIELD_AT(base, f, char *) = xstrdup(buf_cstr(&out));
}

/* Empty is not said. */
static bool is_empty(const struct ynode *n)
{
	return n->kind == YNODE_SCALAR && !*n->value && !ynode_type(n);
}

static void load_volume_size(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct kit_volume *v = base;
	uint64_t bytes;

	if (is_empty(n))
		return;
	/* A size, too, though of nothing; as a limit it is a small one. */
	v->zero_size = n->kind == YNODE_SCALAR && !ynode_type(n) &&
		       kit_parse_size(n->value, &bytes) == 0 && !bytes;
	if (!v->zero_size)
		load_size(l, n, base, f);
}

static void load_volume_mode(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct kit_volume *v = base;

	if (is_empty(n))
		return;
	load_mode(l, n, base, f);
	v->zero_mode = n->kind == YNODE_SCALAR && !v->mode;
}

#define JSON_MODE_OR_NONE "{\"type\":\"string\",\"pattern\":\"^(0?[0-7]{3,4})?$\"}"
static const struct field volume_rows[] = {
	ROW(kit_volume, "path", load_clean_path, path, FIELD_REQUIRED, NULL, NULL, JSON_STRING),
	ROW(kit_volume, "size", load_volume_size, size_bytes, 0, NULL, NULL, JSON_STRING),
	ROW(kit_volume, "tmpfs", load_bool, tmpfs),
	ROW(kit_volume, "mode", load_volume_mode, mode, 0, NULL, NULL, JSON_MODE_OR_NONE),
};
static const struct shape volume3_shape = SHAPE(kit_volume, volume_rows);
static const struct field port_rows[] = {
	ROW(kit_port, "container", load_port_number, container, FIELD_REQUIRED),
	{"transport", load_nothing, 0, 0, 0, NULL, NULL, "{\"enum\":[\"\",\"tcp\",\"udp\"]}"},
	ROW(kit_port, "name", load_string, name, 0, check_text),
};
static const struct shape port3_shape = SHAPE(kit_port, port_rows);

static void add_volume(struct load *l, const struct ynode *n, struct kit *k)
{
	k->volumes = xrealloc(k->volumes, k->n_volumes + 1, sizeof(*k->volumes));
	k->volumes[k->n_volumes] = (struct kit_volume){.at = n};
	load_map(l, n, &k->volumes[k->n_volumes++], &volume3_shape);
}

static void add_port(struct load *l, const struct ynode *n, struct kit *k)
{
	const struct ynode *t = ynode_get(n, "transport");
	const char *s = t ? load_scalar(l, t, "tcp or udp") : NULL;

	k->ports = xrealloc(k->ports, k->n_ports + 1, sizeof(*k->ports));
	k->ports[k->n_ports] = (struct kit_port){.at = n, .udp = s && strcmp(s, "udp") == 0};
	load_map(l, n, &k->ports[k->n_ports++], &port3_shape);
	if (s && *s && strcmp(s, "tcp") != 0 && strcmp(s, "udp") != 0)
		load_error(l, t, "expected tcp or udp");
}

static const struct field host_mount_rows[] = {
	ROW(kit_host_mount, "path", load_string, path, FIELD_REQUIRED, check_guest_path),
	ROW(kit_host_mount, "mode", load_mode, mode),
};
static const struct shape host_mount_shape = SHAPE(kit_host_mount, host_mount_rows);

static void add_host_mount(struct load *l, const struct ynode *n, struct kit *k)
{
	k->host_mounts = xrealloc(k->host_mounts, k->n_host_mounts + 1, sizeof(*k->host_mounts));
	k->host_mounts[k->n_host_mounts] = (struct kit_host_mount){.at = n};
	load_map(l, n, &k->host_mounts[k->n_host_mounts++], &host_mount_shape);
}

static const char *check_usb_id(const char *s)
{
	if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X'))
		s += 2;
	return *s && strlen(s) <= 4 && strspn(s, "0123456789abcdefABCDEF") == strlen(s)
		       ? NULL
		       : "a hexadecimal number such as 0x1050";
}

struct usb {
	char *vendor, *product, *class;
};
static const struct field usb_rows[] = {
	ROW(usb, "vendorId", load_string, vendor, 0, check_usb_id),
	ROW(usb, "productId", load_string, product, 0, check_usb_id),
	ROW(usb, "class", load_string, class, 0, check_text),
};
static const struct shape usb_shape = SHAPE(usb, usb_rows);

static void add_usb(struct load *l, const struct ynode *n, struct kit *k)
{
	struct usb u = {0};

	load_map(l, n, &u, &usb_shape);
	if (!ynode_get(n, "class") && !(ynode_get(n, "vendorId") && ynode_get(n, "productId")))
		load_error(l, n, "vendorId and productId are missing, or class");
	if (u.class)
		strv_addf(&k->usb_devices, "class %s", u.class);
	else if (u.vendor && u.product)
		strv_addf(&k->usb_devices, "%s:%s", u.vendor, u.product);
	free(u.vendor);
	free(u.product);
	free(u.class);
}

static const struct field resources_rows[] = {
	{"cpu", load_cpus, offsetof(struct kit, sandbox.cpus)},
	{"memory", load_size, offsetof(struct kit, sandbox.memory_bytes)},
	{"gpu", load_ignored_string, 0, 0, FIELD_IGNORED},
};
static const struct shape resources3_shape = SHAPE(kit, resources_rows);

/* ---- the types ---- */

#define OURS(name) "com.docker.sandbox/" name
const struct capability_type capability_types[] = {
	{OURS("network-policy@1"), &network1_shape, .singleton = true},
	{OURS("network-policy@2"), &network2_shape, .singleton = true},
	{OURS("credential@1"), &credential3_shape, .add = add_credential},
	{OURS("ssh-agent@1"), &ssh3_shape, .add = add_ssh},
	{OURS("volume@1"), &volume3_shape, .add = add_volume},
	{OURS("host-mount@1"), &host_mount_shape, .add = add_host_mount},
	{OURS("port@1"), &port3_shape, .add = add_port},
	{OURS("usb-device@1"), &usb_shape, .add = add_usb,
		.unavailable = "a sandbox has no access to USB devices of this machine"},
	{OURS("resources@1"), &resources3_shape, .singleton = true},
	{OURS("privileged@1"), NULL, .singleton = true, .flag = offsetof(struct kit, privileged)},
	{OURS("long-running@1"), NULL, .singleton = true,
		.flag = offsetof(struct kit, long_running)},
	{OURS("kit-registry@1"), NULL, .singleton = true,
		.unavailable = "Hutch has no registry of its own to push kits to"},
	{OURS("sbx@1"), NULL, .singleton = true, .flag = offsetof(struct kit, sbx)},
	{OURS("git-identity@1"), NULL, .singleton = true,
		.flag = offsetof(struct kit, git_identity)},
	{OURS("lifecycle@1"), &lifecycle3_shape, .singleton = true},
	{OURS("agent-context@1"), &context3_shape, .add = add_context},
	{OURS("agent-sessions@1"), &sessions3_shape, .singleton = true},
	{OURS("agent-interactive-sessions@1"), &interactive3_shape, .singleton = true},
	{OURS("agent-skills@1"), &skills3_shape, .add = add_skills},
	{OURS("agent-skill@1"), &skill3_shape, .add = add_skill},
	{OURS("acp@1"), &acp3_shape, .add = add_acp},
};
const size_t n_capability_types = ARRAY_SIZE(capability_types);

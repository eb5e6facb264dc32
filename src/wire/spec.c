/* SPDX-License-Identifier: Apache-2.0 */
/* struct box_spec as JSON: one table per struct drives encoding, strict decoding and release. */
#include "wire/spec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

/* Far above what a plan makes, far below what would hurt. */
#define LIST_MAX 4096

enum kind {
	F_STR,
	F_STR_OR_NULL, /* null in JSON, NULL here */
	F_BOOL,
	F_UINT, /* unsigned */
	F_U64,
	F_STRV,
	F_ENGINE,
	F_INJECT, /* enum spec_inject_kind */
	F_PHASE,
	F_STRUCT, /* embedded struct: an object */
	F_LIST,   /* pointer and count: an array of objects */
};

struct type;
struct field {
	const char *key;
	enum kind kind;
	size_t offset;
	size_t offset_n;         /* F_LIST: the count */
	const struct type *type; /* F_LIST, F_STRUCT */
	bool optional;           /* left out when false, 0, NULL, empty or the first of an enum */
};

struct type {
	size_t size;
	const struct field *fields;
	size_t n;
};

/* clang-format off */
#define FIELD(s, m, k)     {#m, k, offsetof(struct s, m), 0, NULL, false}
#define OPTIONAL(s, m, k)  {#m, k, offsetof(struct s, m), 0, NULL, true}
#define LIST(s, m, t)      {#m, F_LIST, offsetof(struct s, m), offsetof(struct s, n_##m), &(t), false}
#define OPTIONAL_LIST(s, m, t) \
	{#m, F_LIST, offsetof(struct s, m), offsetof(struct s, n_##m), &(t), true}
#define STRUCT(s, k, m, t) {k, F_STRUCT, offsetof(struct s, m), 0, &(t), false}
#define TYPE(s, f)         {sizeof(struct s), f, ARRAY_SIZE(f)}
/* clang-format on */

static const struct field mount_fields[] = {
	FIELD(spec_mount, host_path, F_STR),
	FIELD(spec_mount, guest_path, F_STR),
	FIELD(spec_mount, read_only, F_BOOL),
	OPTIONAL(spec_mount, kit, F_STR_OR_NULL),
	OPTIONAL(spec_mount, mode, F_UINT),
};
static const struct field step_fields[] = {
	FIELD(spec_step, argv, F_STRV),
	FIELD(spec_step, user, F_STR),
	FIELD(spec_step, description, F_STR),
	FIELD(spec_step, kit, F_STR),
	FIELD(spec_step, background, F_BOOL),
	OPTIONAL(spec_step, bounded, F_BOOL),
	OPTIONAL(spec_step, env, F_STRV),
	OPTIONAL(spec_step, done, F_BOOL),
};
static const struct field file_fields[] = {
	FIELD(spec_file, path, F_STR),
	FIELD(spec_file, content, F_STR),
	FIELD(spec_file, kit, F_STR),
	FIELD(spec_file, mode, F_UINT),
	FIELD(spec_file, only_if_missing, F_BOOL),
	FIELD(spec_file, as_root, F_BOOL),
	OPTIONAL(spec_file, each_start, F_BOOL),
};
static const struct field tree_fields[] = {
	FIELD(spec_tree, dir, F_STR),
	FIELD(spec_tree, dest, F_STR),
	FIELD(spec_tree, source, F_STR),
	FIELD(spec_tree, kit, F_STR),
	FIELD(spec_tree, args, F_STRV),
};
static const struct field port_fields[] = {
	FIELD(spec_port, container, F_UINT),
	FIELD(spec_port, udp, F_BOOL),
	FIELD(spec_port, name, F_STR),
	FIELD(spec_port, kit, F_STR),
	OPTIONAL(spec_port, host, F_UINT),
};
static const struct field volume_fields[] = {
	FIELD(spec_volume, path, F_STR),
	FIELD(spec_volume, kit, F_STR),
	FIELD(spec_volume, tmpfs, F_BOOL),
	FIELD(spec_volume, size_bytes, F_U64),
	OPTIONAL(spec_volume, mode, F_UINT),
	OPTIONAL(spec_volume, zero_size, F_BOOL),
	OPTIONAL(spec_volume, zero_mode, F_BOOL),
	OPTIONAL(spec_volume, retained, F_BOOL),
};
static const struct field selection_fields[] = {
	FIELD(spec_selection, kit, F_STR),
	FIELD(spec_selection, path, F_STR),
	OPTIONAL(spec_selection, optional, F_BOOL),
	FIELD(spec_selection, types, F_STRV),
	FIELD(spec_selection, members, F_STRV),
	OPTIONAL(spec_selection, rejected, F_STRV),
};
static const struct field origin_fields[] = {
	FIELD(spec_origin, what, F_STR),
	FIELD(spec_origin, from, F_STR),
};
static const struct field rule_fields[] = {
	FIELD(spec_rule, allow, F_BOOL),
	FIELD(spec_rule, target, F_STR),
	FIELD(spec_rule, source, F_STR),
	OPTIONAL(spec_rule, phase, F_PHASE),
};
static const struct field inject_fields[] = {
	FIELD(spec_inject, domain, F_STR),
	FIELD(spec_inject, header, F_STR),
	FIELD(spec_inject, format, F_STR),
	FIELD(spec_inject, username, F_STR_OR_NULL),
	OPTIONAL(spec_inject, kind, F_INJECT),
	OPTIONAL(spec_inject, parameter, F_STR_OR_NULL),
	OPTIONAL(spec_inject, placeholder, F_STR_OR_NULL),
	OPTIONAL(spec_inject, in_body, F_BOOL),
	OPTIONAL(spec_inject, insecure, F_BOOL),
};
static const struct field oauth_fields[] = {
	FIELD(spec_oauth, host, F_STR),
	FIELD(spec_oauth, path, F_STR),
	FIELD(spec_oauth, resource_hosts, F_STRV),
	FIELD(spec_oauth, access_sentinel, F_STR),
	FIELD(spec_oauth, refresh_sentinel, F_STR),
	OPTIONAL(spec_oauth, access_name, F_STR_OR_NULL),
	OPTIONAL(spec_oauth, refresh_name, F_STR_OR_NULL),
	OPTIONAL(spec_oauth, expires_name, F_STR_OR_NULL),
	OPTIONAL(spec_oauth, scope_name, F_STR_OR_NULL),
	OPTIONAL(spec_oauth, file, F_STR_OR_NULL),
	OPTIONAL(spec_oauth, file_text, F_STR_OR_NULL),
	OPTIONAL(spec_oauth, file_verbatim, F_BOOL),
	OPTIONAL(spec_oauth, passthrough, F_BOOL),
};
static const struct type oauth_type = TYPE(spec_oauth, oauth_fields);
static const struct type inject_type = TYPE(spec_inject, inject_fields);
static const struct field credential_fields[] = {
	FIELD(spec_credential, service, F_STR),
	FIELD(spec_credential, env, F_STR),
	FIELD(spec_credential, kit, F_STR),
	FIELD(spec_credential, required, F_BOOL),
	LIST(spec_credential, injects, inject_type),
	OPTIONAL_LIST(spec_credential, oauth, oauth_type),
	OPTIONAL(spec_credential, phase, F_PHASE),
};
static const struct field session_fields[] = {
	FIELD(spec_session, verb, F_STR),
	FIELD(spec_session, terminal, F_BOOL),
	FIELD(spec_session, argv, F_STRV),
};
static const struct field resolve_fields[] = {
	FIELD(spec_resolve, name, F_STR),
	FIELD(spec_resolve, address, F_STR),
};
static const struct field ca_fields[] = {
	FIELD(spec_ca, target, F_STR),
	FIELD(spec_ca, pem, F_STR),
};
static const struct type session_type = TYPE(spec_session, session_fields);
static const struct type mount_type = TYPE(spec_mount, mount_fields);
static const struct type step_type = TYPE(spec_step, step_fields);
static const struct type file_type = TYPE(spec_file, file_fields);
static const struct type tree_type = TYPE(spec_tree, tree_fields);
static const struct type port_type = TYPE(spec_port, port_fields);
static const struct type volume_type = TYPE(spec_volume, volume_fields);
static const struct type selection_type = TYPE(spec_selection, selection_fields);
static const struct type origin_type = TYPE(spec_origin, origin_fields);
static const struct type rule_type = TYPE(spec_rule, rule_fields);
static const struct type credential_type = TYPE(spec_credential, credential_fields);
static const struct type resolve_type = TYPE(spec_resolve, resolve_fields);
static const struct type ca_type = TYPE(spec_ca, ca_fields);

static const struct field net_fields[] = {
	LIST(spec_net, rules, rule_type),
	LIST(spec_net, credentials, credential_type),
	LIST(spec_net, resolves, resolve_type),
	OPTIONAL_LIST(spec_net, cas, ca_type),
	OPTIONAL(spec_net, learn, F_BOOL),
};
static const struct type net_type = TYPE(spec_net, net_fields);
static const struct field rules_fields[] = {
	FIELD(spec_rules, preset, F_STR),
	LIST(spec_rules, rules, rule_type),
};
static const struct type rules_type = TYPE(spec_rules, rules_fields);
static const struct field box_fields[] = {
	FIELD(box_spec, name, F_STR),
	FIELD(box_spec, agent, F_STR),
	FIELD(box_spec, kits, F_STRV),
	FIELD(box_spec, engine, F_ENGINE),
	FIELD(box_spec, cpus, F_UINT),
	FIELD(box_spec, memory_bytes, F_U64),
	FIELD(box_spec, disk_bytes, F_U64),
	FIELD(box_spec, image, F_STR),
	OPTIONAL(box_spec, layers, F_STRV),
	FIELD(box_spec, user, F_STR),
	FIELD(box_spec, workdir, F_STR),
	LIST(box_spec, mounts, mount_type),
	FIELD(box_spec, env, F_STRV),
	FIELD(box_spec, entrypoint, F_STRV),
	FIELD(box_spec, command_default, F_STRV),
	FIELD(box_spec, command_interactive, F_STRV),
	FIELD(box_spec, args, F_STRV),
	LIST(box_spec, prepare, step_type),
	LIST(box_spec, install, step_type),
	LIST(box_spec, startup, step_type),
	LIST(box_spec, files, file_type),
	LIST(box_spec, home_trees, tree_type),
	LIST(box_spec, workspace_trees, tree_type),
	LIST(box_spec, ports, port_type),
	LIST(box_spec, volumes, volume_type),
	STRUCT(box_spec, "network", net, net_type),
	OPTIONAL(box_spec, ssh_keys, F_STRV),
	OPTIONAL(box_spec, ssh_any_key, F_BOOL),
	OPTIONAL(box_spec, ssh_hosts, F_STRV),
	OPTIONAL(box_spec, ssh_sign, F_STRV),
	OPTIONAL(box_spec, ssh_phase, F_PHASE),
	OPTIONAL(box_spec, ssh_any_host, F_BOOL),
	OPTIONAL_LIST(box_spec, sessions, session_type),
	FIELD(box_spec, remove_on_exit, F_BOOL),
	FIELD(box_spec, strict, F_BOOL),
	FIELD(box_spec, cache_key, F_STR),
	OPTIONAL(box_spec, generation, F_U64),
	OPTIONAL_LIST(box_spec, selection, selection_type),
	OPTIONAL(box_spec, git_name, F_STR_OR_NULL),
	OPTIONAL(box_spec, git_email, F_STR_OR_NULL),
	OPTIONAL(box_spec, made_with, F_STRV),
	OPTIONAL(box_spec, made_in, F_STR_OR_NULL),
	LIST(box_spec, origins, origin_type),
};
static const struct type box_type = TYPE(box_spec, box_fields);

static const char *const engine_names[] = {
	[SPEC_ENGINE_AUTO] = "auto",
	[SPEC_ENGINE_KVM] = "kvm",
	[SPEC_ENGINE_QEMU] = "qemu",
};

static const char *const inject_names[] = {
	[SPEC_INJECT_HEADER] = "header",
	[SPEC_INJECT_QUERY] = "query",
	[SPEC_INJECT_PLACEHOLDER] = "placeholder",
	[SPEC_INJECT_AWS] = "aws",
	[SPEC_INJECT_REGISTRY] = "registry",
	[SPEC_INJECT_CERTIFICATE] = "certificate",
};
_Static_assert(ARRAY_SIZE(inject_names) == SPEC_INJECT_KINDS, "a name for every spec_inject_kind");

static const char *const phase_names[] = {
	[SPEC_ALWAYS] = "always",
	[SPEC_INSTALL] = "install",
	[SPEC_RUNTIME] = "runtime",
};
_Static_assert(ARRAY_SIZE(phase_names) == SPEC_PHASES, "a name for every spec_phase");

const char *spec_phase_name(enum spec_phase p)
{
	return (unsigned)p < ARRAY_SIZE(phase_names) ? phase_names[p] : "?";
}

bool spec_net_has_phases(const struct spec_net *n)
{
	bool has = false;

	for (size_t i = 0; i < n->n_rules; i++)
		has |= n->rules[i].phase != SPEC_ALWAYS;
	for (size_t i = 0; i < n->n_credentials; i++)
		has |= n->credentials[i].phase != SPEC_ALWAYS;
	return has;
}

const char *spec_inject_name(enum spec_inject_kind k)
{
	return (unsigned)k < ARRAY_SIZE(inject_names) ? inject_names[k] : "?";
}

const char *spec_engine_name(enum spec_engine e)
{
	return (unsigned)e < ARRAY_SIZE(engine_names) ? engine_names[e] : "?";
}

bool spec_name_valid(const char *name)
{
	size_t len = strlen(name);

	if (len < 1 || len > 64 || name[0] == '-' || name[len - 1] == '-')
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
}

/* Typed access to a member of the struct at @base. */
#define AT(base, f, T) ((T *)(void *)((char *)(base) + (f)->offset))
#define AT_N(base, f)  ((size_t *)(void *)((char *)(base) + (f)->offset_n))

/* ---- encode ---- */

static json_t *struct_to_json(const void *base, const struct type *t);

static json_t *strv_to_json(const struct strv *l)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++) {
		if (json_array_append_new(a, json_string(l->v[i])) < 0) {
			json_decref(a);
			return NULL;
		}
	}
	return a;
}

static json_t *list_to_json(const char *items, size_t n, const struct type *t)
{
	json_t *a = json_array();

	for (size_t i = 0; i < n; i++) {
		if (json_array_append_new(a, struct_to_json(items + i * t->size, t)) < 0) {
			json_decref(a);
			return NULL;
		}
	}
	return a;
}

static json_t *field_to_json(const void *base, const struct field *f)
{
	const char *s;

	switch (f->kind) {
	case F_STR:
		s = *AT(base, f, char *);
		return json_string(s ? s : "");
	case F_STR_OR_NULL:
		s = *AT(base, f, char *);
		return s ? json_string(s) : json_null();
	case F_BOOL:
		return json_boolean(*AT(base, f, bool));
	case F_UINT:
		return json_integer((json_int_t)*AT(base, f, unsigned));
	case F_U64:
		return json_integer((json_int_t)*AT(base, f, uint64_t));
	case F_STRV:
		return strv_to_json(AT(base, f, struct strv));
	case F_ENGINE:
		return json_string(spec_engine_name(*AT(base, f, enum spec_engine)));
	case F_INJECT:
		return json_string(spec_inject_name(*AT(base, f, enum spec_inject_kind)));
	case F_PHASE:
		return json_string(spec_phase_name(*AT(base, f, enum spec_phase)));
	case F_STRUCT:
		return struct_to_json(AT(base, f, char), f->type);
	case F_LIST:
		return list_to_json(*AT(base, f, char *), *AT_N(base, f), f->type);
	}
	return NULL;
}

/* Whether an optional field says nothing. */
static bool is_unset(const void *base, const struct field *f)
{
	switch (f->kind) {
	case F_STR_OR_NULL:
		return !*AT(base, f, char *const);
	case F_BOOL:
		return !*AT(base, f, const bool);
	case F_INJECT:
		return *AT(base, f, const enum spec_inject_kind) == SPEC_INJECT_HEADER;
	case F_PHASE:
		return *AT(base, f, const enum spec_phase) == SPEC_ALWAYS;
	case F_LIST:
		return *AT_N(base, f) == 0;
	case F_STRV:
		return AT(base, f, const struct strv)->n == 0;
	case F_UINT:
		return !*AT(base, f, const unsigned);
	case F_U64:
		return !*AT(base, f, const uint64_t);
	case F_STR:
	case F_ENGINE:
	case F_STRUCT:
		break;
	}
	return false;
}

/* NULL when a string is not UTF-8. */
static json_t *struct_to_json(const void *base, const struct type *t)
{
	json_t *o = json_object();

	for (size_t i = 0; i < t->n; i++) {
		if (t->fields[i].optional && is_unset(base, &t->fields[i]))
			continue;
		if (json_object_set_new(o, t->fields[i].key, field_to_json(base, &t->fields[i])) <
			0) {
			json_decref(o);
			return NULL;
		}
	}
	return o;
}

json_t *spec_net_to_json(const struct spec_net *n)
{
	return struct_to_json(n, &net_type);
}

/* @body (taken) with the version in front. */
static json_t *with_version(json_t *body)
{
	json_t *o = json_object();

	json_object_set_new(o, "version", json_integer(SPEC_VERSION));
	if (!body || json_object_update(o, body) < 0) {
		json_decref(o);
		o = NULL;
	}
	json_decref(body);
	return o;
}

json_t *spec_to_json(const struct box_spec *s)
{
	return with_version(struct_to_json(s, &box_type));
}

json_t *spec_rules_to_json(const struct spec_rules *r)
{
	return with_version(struct_to_json(r, &rules_type));
}

/* ---- release ---- */

static void struct_done(void *base, const struct type *t);

static void field_done(void *base, const struct field *f)
{
	char *items;

	switch (f->kind) {
	case F_STR:
	case F_STR_OR_NULL:
		free(*AT(base, f, char *));
		break;
	case F_STRV:
		strv_done(AT(base, f, struct strv));
		break;
	case F_STRUCT:
		struct_done(AT(base, f, char), f->type);
		break;
	case F_LIST:
		items = *AT(base, f, char *);
		for (size_t i = 0; i < *AT_N(base, f); i++)
			struct_done(items + i * f->type->size, f->type);
		free(items);
		break;
	case F_BOOL:
	case F_UINT:
	case F_U64:
	case F_ENGINE:
	case F_INJECT:
	case F_PHASE:
		break;
	}
}

static void struct_done(void *base, const struct type *t)
{
	for (size_t i = 0; i < t->n; i++)
		field_done(base, &t->fields[i]);
	memset(base, 0, t->size);
}

void spec_net_done(struct spec_net *n)
{
	struct_done(n, &net_type);
}

void spec_rules_done(struct spec_rules *r)
{
	struct_done(r, &rules_type);
}

void spec_done(struct box_spec *s)
{
	struct_done(s, &box_type);
}

/* ---- decode ---- */

static int struct_from_json(const json_t *j, void *base, const struct type *t, struct err *err);

/* What another version of Hutch would have written: says so by its errno value. */
static int skew(struct err *err, const char *what, const char *how)
{
	char safe[64];

	err_set(err, ERR_PEER, "%s: %s", log_safe(safe, sizeof(safe), what, strlen(what)), how);
	if (err)
		err->errnum = EPROTO;
	return -1;
}

bool spec_err_is_skew(const struct err *err)
{
	return err->errnum == EPROTO;
}

static int bad(struct err *err, const char *expected)
{
	return err_set(err, ERR_PEER, "%s expected", expected);
}

static int str_from_json(const json_t *j, char **to, struct err *err)
{
	if (!json_is_string(j))
		return bad(err, "a string");
	if (strlen(json_string_value(j)) != json_string_length(j))
		return bad(err, "a string without NUL");
	*to = xstrdup(json_string_value(j));
	return 0;
}

static int int_from_json(const json_t *j, uint64_t max, uint64_t *to, struct err *err)
{
	if (!json_is_integer(j) || json_integer_value(j) < 0 ||
		(uint64_t)json_integer_value(j) > max)
		return bad(err, "a whole number in range");
	*to = (uint64_t)json_integer_value(j);
	return 0;
}

static int strv_from_json(const json_t *j, struct strv *to, struct err *err)
{
	if (!json_is_array(j) || json_array_size(j) > LIST_MAX)
		return bad(err, "a list of strings");
	for (size_t i = 0; i < json_array_size(j); i++) {
		char *s;

		if (str_from_json(json_array_get(j, i), &s, err) < 0)
			return err_wrap(err, "[%zu]", i);
		strv_take(to, s);
	}
	return 0;
}

static int list_from_json(const json_t *j, void *base, const struct field *f, struct err *err)
{
	size_t n = json_array_size(j);
	char *items;

	if (!json_is_array(j) || n > LIST_MAX)
		return bad(err, "a list");
	items = n ? xcalloc(n, f->type->size) : NULL;
	*AT(base, f, char *) = items;
	*AT_N(base, f) = n;
	for (size_t i = 0; i < n; i++)
		if (struct_from_json(
			    json_array_get(j, i), items + i * f->type->size, f->type, err) < 0)
			return err_wrap(err, "[%zu]", i);
	return 0;
}

static int engine_from_json(const json_t *j, enum spec_engine *to, struct err *err)
{
	for (size_t i = 0; json_is_string(j) && i < ARRAY_SIZE(engine_names); i++) {
		if (strcmp(json_string_value(j), engine_names[i]) == 0) {
			*to = (enum spec_engine)i;
			return 0;
		}
	}
	return bad(err, "auto, kvm or qemu");
}

static int inject_from_json(const json_t *j, enum spec_inject_kind *to, struct err *err)
{
	for (size_t i = 0; json_is_string(j) && i < ARRAY_SIZE(inject_names); i++) {
		if (strcmp(json_string_value(j), inject_names[i]) == 0) {
			*to = (enum spec_inject_kind)i;
			return 0;
		}
	}
	return bad(err, "a kind of credential");
}

static int phase_from_json(const json_t *j, enum spec_phase *to, struct err *err)
{
	for (size_t i = 0; json_is_string(j) && i < ARRAY_SIZE(phase_names); i++) {
		if (strcmp(json_string_value(j), phase_names[i]) == 0) {
			*to = (enum spec_phase)i;
			return 0;
		}
	}
	return bad(err, "install or runtime");
}

static int field_from_json(const json_t *j, void *base, const struct field *f, struct err *err)
{
	uint64_t v;

	switch (f->kind) {
	case F_STR_OR_NULL:
		if (json_is_null(j) && !f->optional)
			return 0;
		return str_from_json(j, AT(base, f, char *), err);
	case F_STR:
		return str_from_json(j, AT(base, f, char *), err);
	case F_BOOL:
		if (!json_is_boolean(j))
			return bad(err, "true or false");
		*AT(base, f, bool) = json_is_true(j);
		return 0;
	case F_UINT:
		if (int_from_json(j, UINT32_MAX, &v, err) < 0)
			return -1;
		*AT(base, f, unsigned) = (unsigned)v;
		return 0;
	case F_U64:
		return int_from_json(j, INT64_MAX, AT(base, f, uint64_t), err);
	case F_STRV:
		return strv_from_json(j, AT(base, f, struct strv), err);
	case F_ENGINE:
		return engine_from_json(j, AT(base, f, enum spec_engine), err);
	case F_INJECT:
		return inject_from_json(j, AT(base, f, enum spec_inject_kind), err);
	case F_PHASE:
		return phase_from_json(j, AT(base, f, enum spec_phase), err);
	case F_STRUCT:
		return struct_from_json(j, AT(base, f, char), f->type, err);
	case F_LIST:
		return list_from_json(j, base, f, err);
	}
	return bad(err, "nothing");
}

/* Every key of the table must be there, unless it is optional, and nothing else. */
static int struct_from_json(const json_t *j, void *base, const struct type *t, struct err *err)
{
	const char *key;
	size_t found = 0;
	json_t *v;

	if (!json_is_object(j))
		return bad(err, "an object");
	for (size_t i = 0; i < t->n; i++) {
		const struct field *f = &t->fields[i];

		v = json_object_get(j, f->key);
		if (!v && f->optional)
			continue;
		if (!v)
			return skew(err, f->key, "missing");
		found++;
		if (field_from_json(v, base, f, err) < 0)
			return err_wrap(err, "%s", f->key);
		if (f->optional && is_unset(base, f)) /* one way to say a thing */
			return err_set(err, ERR_PEER, "%s: says nothing", f->key);
	}
	if (json_object_size(j) == found)
		return 0;
	json_object_foreach((json_t *)(uintptr_t)j, key, v)
	{
		bool known = false;

		for (size_t i = 0; i < t->n && !known; i++)
			known = strcmp(key, t->fields[i].key) == 0;
		if (!known)
			return skew(err, key, "unknown key");
	}
	return 0;
}

int spec_net_from_json(const json_t *j, struct spec_net *ret, struct err *err)
{
	*ret = (struct spec_net){0};
	return struct_from_json(j, ret, &net_type, err);
}

static int with_version_from_json(
	const json_t *j, void *ret, const struct type *t, struct err *err)
{
	json_t *v = json_object_get(j, "version"), *body;
	char expected[32];
	int rc;

	snprintf(expected, sizeof(expected), "%d expected", SPEC_VERSION);
	if (!json_is_object(j))
		return bad(err, "an object");
	if (!json_is_integer(v) || json_integer_value(v) != SPEC_VERSION)
		return skew(err, "version", expected);
	body = json_copy((json_t *)(uintptr_t)j);
	json_object_del(body, "version");
	rc = struct_from_json(body, ret, t, err);
	json_decref(body);
	return rc;
}

int spec_rules_from_json(const json_t *j, struct spec_rules *ret, struct err *err)
{
	*ret = (struct spec_rules){0};
	return with_version_from_json(j, ret, &rules_type, err);
}

int spec_from_json(const json_t *j, struct box_spec *ret, struct err *err)
{
	*ret = (struct box_spec){0};
	if (with_version_from_json(j, ret, &box_type, err) < 0)
		return -1;
	/* The name becomes a path: never trust a file for it. */
	if (!spec_name_valid(ret->name))
		return err_set(err, ERR_PEER, "name: not a sandbox name");
	return 0;
}

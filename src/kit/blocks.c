/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks that the grammars have in common: launch, network, environment, set-up, ports, volumes. */
#include "kit/blocks.h"

#include <string.h>

#include "base/mem.h"
#include "kit/check.h"

/* Every host of a credential is held against every rule: both have ceilings, see also the maxima
 * of credential_shape and inject_shape. */
#define HOSTS_MAX 1024

/* ---- launch ---- */

void load_command(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	static const struct field rows[] = {
		ROW(kit_sandbox, "default", load_strv, command_default),
		ROW(kit_sandbox, "interactive", load_strv, command_interactive),
	};
	static const struct shape shape = SHAPE(kit_sandbox, rows);
	struct kit_sandbox *s = base;

	s->command_given = true;
	if (n->kind == YNODE_MAP)
		load_map(l, n, base, &shape);
	else if (load_is_list(l, n, "a list of strings, or a map of default and interactive"))
		load_strv(l, n, base, &rows[0]);
	if (!ynode_get(n, "interactive"))
		strv_copy(&s->command_interactive, &s->command_default);
}

void load_argv(struct load *l, const struct ynode *n, void *base, const struct field *f)
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
	{"gpu", load_ignored_string, 0, 0, FIELD_IGNORED},
};
const struct shape resources_shape = SHAPE(kit_sandbox, resources_rows);

/* ---- network, environment ---- */

void load_hosts(struct load *l, const struct ynode *n, struct kit *k, bool allow, unsigned phase)
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
		k->rules[k->n_rules++] = (struct kit_rule){
			.allow = allow, .target = xstrdup(targets.v[i]), .phase = phase};
	strv_done(&targets);
}

void load_allow(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_hosts(l, n, base, true, KIT_ALWAYS);
}

void load_deny(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_hosts(l, n, base, false, KIT_ALWAYS);
}

void load_vars(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct kit *k = base;

	if (!load_is_map(l, n))
		return;
	k->vars = xrealloc(k->vars, k->n_vars + n->n, sizeof(*k->vars));
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

/* ---- identity ---- */

static void load_unique(struct load *l, const struct ynode *n, void *base, const struct field *f)
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

void load_licenses(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_unique(l, n, base, f);
}

void load_locked(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_unique(l, n, base, f);
}

/* ---- set-up ---- */

void load_shell(struct load *l, const struct ynode *n, void *base, const struct field *f)
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

void finish_install_step(struct load *l, const struct ynode *n, void *entry)
{
	struct kit_step *s = entry;

	if (!s->user)
		s->user = xstrdup("0");
}

void finish_startup_step(struct load *l, const struct ynode *n, void *entry)
{
	struct kit_step *s = entry;

	if (!s->user)
		s->user = xstrdup("1000");
}

void load_mode(struct load *l, const struct ynode *n, void *base, const struct field *f)
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
const struct shape install_shape = SHAPE(kit_step, install_rows, NULL, finish_install_step);
static const struct field startup_rows[] = {
	ROW(kit_step, "command", load_argv, argv, FIELD_REQUIRED),
	ROW(kit_step, "user", load_string, user, 0, check_user),
	ROW(kit_step, "background", load_bool, background),
	ROW(kit_step, "description", load_string, description),
};
const struct shape startup_shape = SHAPE(kit_step, startup_rows, NULL, finish_startup_step);
static const struct field file_rows[] = {
	ROW(kit_file, "path", load_string, path, FIELD_REQUIRED, check_guest_path),
	ROW(kit_file, "content", load_string, content),
	ROW(kit_file, "mode", load_mode, mode),
	ROW(kit_file, "onlyIfMissing", load_bool, only_if_missing),
	ROW(kit_file, "description", load_string, description),
};
const struct shape file_shape = SHAPE(kit_file, file_rows, NULL, finish_file);

/* ---- ports, volumes ---- */

static void load_protocol(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	const char *s = load_scalar(l, n, "tcp or udp");

	if (!s)
		return;
	*FIELD_AT(base, f, bool) = strcmp(s, "udp") == 0;
	if (*s && strcmp(s, "tcp") != 0 && strcmp(s, "udp") != 0)
		load_error(l, n, "expected tcp or udp");
}

static void finish_port(struct load *l, const struct ynode *n, void *entry)
{
	((struct kit_port *)entry)->at = n;
}

#define JSON_PROTOCOL "{\"enum\":[\"\",\"tcp\",\"udp\"]}"
static const struct field port_rows[] = {
	ROW(kit_port, "container", load_port_number, container, FIELD_REQUIRED),
	ROW(kit_port, "protocol", load_protocol, udp, 0, NULL, NULL, JSON_PROTOCOL),
	ROW(kit_port, "name", load_string, name, 0, check_text),
};
const struct shape port_shape = SHAPE(kit_port, port_rows, NULL, finish_port, 64);

static void load_volume_type(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	const char *s = load_scalar(l, n, "tmpfs");

	if (!s)
		return;
	*FIELD_AT(base, f, bool) = strcmp(s, "tmpfs") == 0;
	if (*s && strcmp(s, "tmpfs") != 0)
		load_error(l, n, "expected tmpfs, or no type for a volume on the disk");
}

#define VOLUME_MIN (1u << 20) /* for a file system */

static void finish_volume(struct load *l, const struct ynode *n, void *entry)
{
	const struct ynode *size = ynode_get(n, "size");
	struct kit_volume *v = entry;

	v->at = n;
	if (size && !v->tmpfs && v->size_bytes && v->size_bytes < VOLUME_MIN)
		load_error(l, size, "a volume on the disk has at least 1m");
}

#define JSON_VOLUME_TYPE "{\"enum\":[\"\",\"tmpfs\"]}"
static const struct field volume_rows[] = {
	ROW(kit_volume, "path", load_string, path, FIELD_REQUIRED, check_guest_path),
	ROW(kit_volume, "type", load_volume_type, tmpfs, 0, NULL, NULL, JSON_VOLUME_TYPE),
	ROW(kit_volume, "size", load_size, size_bytes),
	ROW(kit_volume, "mode", load_mode, mode),
};
const struct shape volume_shape = SHAPE(kit_volume, volume_rows, NULL, finish_volume, 64);

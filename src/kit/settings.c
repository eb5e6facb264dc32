/* SPDX-License-Identifier: Apache-2.0 */
/* The user's own defaults. */
#include "kit/settings.h"

#include <fcntl.h>
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/paths.h"
#include "kit/check.h"
#include "policy/name.h"
#include "policy/policy.h"

int settings_parse_resolve(
	const char *name, const char *address, struct spec_resolve *ret, struct err *err)
{
	char canon[POLICY_NAME_MAX + 1], text[POLICY_ADDR_TEXT];
	struct policy_host host;
	uint16_t port;

	if (policy_name_canon(name, strlen(name), canon, err) < 0)
		return -1;
	if (policy_authority_parse(address, strlen(address), &host, &port, err) < 0 ||
		!host.is_addr || !port)
		return err_set(
			err, ERR_USER, "an address with port was expected, such as 127.0.0.1:8443");
	policy_addr_text(&host.addr, text);
	ret->name = xstrdup(canon);
	ret->address = xasprintf(host.addr.v6 ? "[%s]:%u" : "%s:%u", text, port);
	return 0;
}

static const char *check_engine(const char *s)
{
	for (int e = SPEC_ENGINE_AUTO; e <= SPEC_ENGINE_QEMU; e++)
		if (strcmp(s, spec_engine_name((enum spec_engine)e)) == 0)
			return NULL;
	return "auto, kvm or qemu";
}

static void load_engine(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	_free_ char *s = NULL;
	struct field text = {f->key, load_string, 0, 0, 0, check_engine};

	load_string(l, n, &s, &text);
	for (int e = SPEC_ENGINE_AUTO; s && e <= SPEC_ENGINE_QEMU; e++)
		if (strcmp(s, spec_engine_name((enum spec_engine)e)) == 0)
			*FIELD_AT(base, f, enum spec_engine) = (enum spec_engine)e;
}

static void load_whole_cpus(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	static const struct field cores = {"cpus", load_cpus};
	size_t before = l->errs->n_errors;
	double v = 1;

	load_cpus(l, n, &v, &cores);
	if (l->errs->n_errors == before && (v < 1 || v != (double)(unsigned)v))
		load_error(l, n, "expected a whole number of cores, 1 or more");
	else
		*FIELD_AT(base, f, unsigned) = (unsigned)v;
}

static void load_resolve(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct settings *s = base;

	if (!load_is_map(l, n))
		return;
	s->resolves = xcalloc(n->n, sizeof(*s->resolves));
	for (size_t i = 0; i < n->n; i++) {
		const char *address = load_scalar(l, n->items[i], "an address with port");
		struct err err;

		if (!address)
			continue;
		if (settings_parse_resolve(
			    n->items[i]->key, address, &s->resolves[s->n_resolves], &err) < 0)
			load_error(l, n->items[i], "%s", err.msg);
		else
			s->n_resolves++;
	}
}

/* A pattern is a reference or the beginning of one. */
static const char *check_source(const char *s)
{
	const char *star = strchr(s, '*');

	if ((strncmp(s, "oci://", 6) != 0 && strncmp(s, "git+", 4) != 0) || (star && star[1]))
		return "oci:// or git+, with * only at the end";
	return NULL;
}

static const char *check_key_file(const char *s)
{
	return *s == '/' ? NULL : "an absolute path";
}

static void load_sources(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct settings_kit *k = base;

	k->limit_sources = true;
	load_strv(l, n, base, f);
}

static const struct field kit_rows[] = {
	ROW(settings_kit, "allowedSources", load_sources, allowed_sources, 0, check_source),
	ROW(settings_kit, "requireSignature", load_bool, require_signature),
	ROW(settings_kit, "trustedKeys", load_strv, trusted_keys, 0, check_key_file),
};

static void check_kit(struct load *l, const struct ynode *n, void *base)
{
	const struct settings_kit *k = base;

	if (k->require_signature && !k->trusted_keys.n)
		load_error(l, n, "requireSignature without trustedKeys, so no kit could be used");
}

static void load_kit(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	static const struct shape shape = {
		sizeof(struct settings_kit), kit_rows, ARRAY_SIZE(kit_rows), NULL, check_kit};

	load_map(l, n, FIELD_AT(base, f, struct settings_kit), &shape);
}
bool settings_is_no_proxy(const char *s)
{
	return strcmp(s, "none") == 0 || strcmp(s, "off") == 0;
}

/* It goes into a variable; what it means, the gate says. */
static const char *check_proxy(const char *s)
{
	for (const char *c = s; *c; c++)
		if ((unsigned char)*c <= ' ' || *c == 0x7f)
			return "http://[user:password@]host:port, none or off";
	return *s ? NULL : "http://[user:password@]host:port, none or off";
}

static const char *check_no_proxy(const char *s)
{
	for (const char *c = s; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return "names, addresses and networks, with commas between them";
	return NULL;
}

static void load_ca(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct settings *s = base;

	if (!load_is_map(l, n))
		return;
	s->cas = xcalloc(n->n, sizeof(*s->cas));
	for (size_t i = 0; i < n->n; i++) {
		const char *file = load_scalar(l, n->items[i], "a file");
		struct policy_rule rule;
		struct err err;

		if (!file)
			continue;
		if (policy_host_rule_parse(n->items[i]->key, &rule, &err) < 0) {
			load_error(l, n->items[i], "%s", err.msg);
			continue;
		}
		policy_rule_done(&rule);
		if (file[0] != '/' && strncmp(file, "~/", 2) != 0) {
			load_error(l, n->items[i], "expected an absolute path, or one from ~/ on");
			continue;
		}
		s->cas[s->n_cas++] = (struct settings_ca){
			.target = xstrdup(n->items[i]->key), .file = xstrdup(file)};
	}
}

static const struct field network_rows[] = {
	ROW(settings, "proxy", load_string, proxy, 0, check_proxy),
	ROW(settings, "no_proxy", load_string, no_proxy, 0, check_no_proxy),
	{"ca", load_ca},
};
static const struct shape network_shape = SHAPE(settings, network_rows);

static const struct field settings_rows[] = {
	ROW(settings, "engine", load_engine, engine),
	ROW(settings, "cpus", load_whole_cpus, cpus),
	ROW(settings, "memory", load_size, memory_bytes),
	ROW(settings, "disk", load_size, disk_bytes),
	ROW(settings, "allow", load_targets, allow),
	ROW(settings, "deny", load_targets, deny),
	ROW(settings, "credentials", load_strv, credentials, 0, check_name),
	{"resolve", load_resolve},
	ROW(settings, "kit", load_kit, kit),
	STRUCT_ROW("network", network_shape),
};

/* Whether there is nothing but blank lines and comments, as in a file with every key commented out.
 */
static bool is_blank(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '#')
			while (i < len && text[i] != '\n')
				i++;
		else if (!strchr(" \t\r\n", text[i]))
			return false;
	}
	return true;
}

int settings_load_text(const char *text, size_t len, const char *file, struct settings *ret,
	struct kit_errors *errs)
{
	static const struct shape shape = {
		sizeof(struct settings), settings_rows, ARRAY_SIZE(settings_rows), NULL, NULL};
	size_t before = errs->n_errors;
	struct settings s = {0};
	struct load l = {.file = file, .errs = errs};
	struct ynode *root = is_blank(text, len) ? NULL : ynode_read(text, len, file, errs);

	if (root)
		load_map(&l, root, &s, &shape);
	ynode_free(root);
	if (errs->n_errors != before) {
		kit_errors_sort(errs);
		settings_done(&s);
		return -1;
	}
	*ret = s;
	return 0;
}

int settings_load(const char *path, struct settings *ret, struct kit_errors *errs, struct err *err)
{
	_free_ char *dir = NULL, *file = NULL;
	_buf_ struct buf text = {.max = YNODE_FILE_MAX};
	size_t before = errs->n_errors;

	if (!path) {
		dir = path_config("", err);
		if (!dir)
			return -1;
		file = fs_join(dir, "settings.yaml");
		if (!fs_exists(file)) {
			*ret = (struct settings){0};
			return 0;
		}
	}
	path = path ? path : file;
	if (fs_read_file(AT_FDCWD, path, &text, err) < 0)
		return err_wrap(err, "settings");
	if (settings_load_text((const char *)buf_head(&text), buf_len(&text), path, ret, errs) < 0)
		return err_set(err, ERR_USER, "settings %s: %zu error%s", path,
			errs->n_errors - before, errs->n_errors - before == 1 ? "" : "s");
	return 0;
}

void settings_done(struct settings *s)
{
	strv_done(&s->allow);
	strv_done(&s->deny);
	strv_done(&s->kit.allowed_sources);
	strv_done(&s->kit.trusted_keys);
	strv_done(&s->credentials);
	for (size_t i = 0; i < s->n_resolves; i++) {
		free(s->resolves[i].name);
		free(s->resolves[i].address);
	}
	free(s->resolves);
	if (s->proxy)
		mem_wipe(s->proxy, strlen(s->proxy));
	free(s->proxy);
	free(s->no_proxy);
	for (size_t i = 0; i < s->n_cas; i++) {
		free(s->cas[i].target);
		free(s->cas[i].file);
	}
	free(s->cas);
	*s = (struct settings){0};
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Kits, flags and settings → struct box_spec.
 *
 * Whoever is closer to this one run decides: flags, then the kit, then the user's settings, then
 * what suits the machine. What the kit wants of the machine is a wish and is cut to what is there;
 * what a flag or the settings want is taken at its word, and refused when it cannot be. */
#include "kit/plan.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "kit/plan_parts.h"
#include "policy/policy.h"

#define MIB          (1024ULL * 1024)
#define GIB          (1024 * MIB)
#define MEMORY_MIN   (256 * MIB)
#define MEMORY_USUAL (4 * GIB) /* by default at most this, and at most half of the machine */
#define DISK_MIN     (256 * MIB)
#define DISK_USUAL   (16 * GIB) /* sparse: only what is written takes space */
#define DISK_MAX     (16ULL * 1024 * GIB)
#define CPUS_USUAL   2
#define CA_MAX       (256u << 10) /* bytes of a file with certificates */

bool plan_is_text(const char *s)
{
	json_t *j = json_string(s);
	bool ok = j != NULL;

	json_decref(j);
	return ok;
}

/* ---- the machine ---- */

static int size_cpus(const struct plan_request *req, double wish, unsigned *ret, struct err *err)
{
	long online = req->host_cpus ? (long)req->host_cpus : sysconf(_SC_NPROCESSORS_ONLN);
	unsigned have = online > 0 ? (unsigned)online : 1,
		 set = req->settings ? req->settings->cpus : 0;
	unsigned asked = req->cpus;

	if (!asked && wish > 0)
		*ret = wish >= have ? have : (unsigned)wish + (wish > (double)(unsigned)wish);
	else if (!asked && !set)
		*ret = MIN(have, CPUS_USUAL);
	else if ((asked ? asked : set) > have)
		return err_set(
			err, ERR_USER, "%u cpus: this machine has %u", asked ? asked : set, have);
	else
		*ret = asked ? asked : set;
	return 0;
}

static uint64_t host_memory(const struct plan_request *req)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

	if (req->host_memory_bytes)
		return req->host_memory_bytes;
	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : 2 * GIB;
}

static int size_memory(
	const struct plan_request *req, uint64_t wish, uint64_t *ret, struct err *err)
{
	uint64_t have = host_memory(req), v = req->memory_bytes;

	if (!v && wish)
		v = MIN(wish, have);
	if (!v && req->settings)
		v = req->settings->memory_bytes;
	if (!v)
		v = MAX(MIN(have / 2, MEMORY_USUAL), MEMORY_MIN);
	if (v < MEMORY_MIN)
		return err_set(err, ERR_USER, "%llu MiB of memory: at least %llu MiB are needed",
			(unsigned long long)(v / MIB), MEMORY_MIN / MIB);
	if (v > have)
		return err_set(err, ERR_USER, "%llu MiB of memory: this machine has %llu MiB",
			(unsigned long long)(v / MIB), (unsigned long long)(have / MIB));
	*ret = v / MIB * MIB;
	return 0;
}

static int size_disk(const struct plan_request *req, uint64_t *ret, struct err *err)
{
	uint64_t v = req->disk_bytes;

	if (!v && req->settings)
		v = req->settings->disk_bytes;
	if (!v)
		v = DISK_USUAL;
	if (v < DISK_MIN || v > DISK_MAX)
		return err_set(err, ERR_USER, "%llu MiB of disk: %llu MiB to %llu TiB are possible",
			(unsigned long long)(v / MIB), DISK_MIN / MIB, DISK_MAX / (1024 * GIB));
	*ret = v / MIB * MIB;
	return 0;
}

static int add_machine(struct box_spec *s, const struct plan_request *req, struct err *err)
{
	double cpus = 0;
	uint64_t memory = 0;

	for (size_t i = 0; i < req->n_kits; i++) {
		const struct kit *k = &req->kits[i];
		_free_ char *from = xasprintf("kit %s", k->name);

		/* Parents come first. Of kits of "3" the one that wants most decides. */
		if (k->schema == 3 ? k->sandbox.cpus > cpus
				   : k->kind == KIT_SANDBOX && k->sandbox.cpus > 0) {
			cpus = k->sandbox.cpus;
			plan_set_origin(s, "cpus", req->cpus ? "user --cpus" : from);
		}
		if (k->schema == 3 ? k->sandbox.memory_bytes > memory
				   : k->kind == KIT_SANDBOX && k->sandbox.memory_bytes) {
			memory = k->sandbox.memory_bytes;
			plan_set_origin(s, "memory", req->memory_bytes ? "user --memory" : from);
		}
	}
	s->engine = req->engine;
	if (s->engine == SPEC_ENGINE_AUTO && req->settings)
		s->engine = req->settings->engine;
	if (size_cpus(req, cpus, &s->cpus, err) < 0 ||
		size_memory(req, memory, &s->memory_bytes, err) < 0)
		return -1;
	return size_disk(req, &s->disk_bytes, err);
}

/* ---- the name ---- */

/* AGENT-directory, with everything that a name cannot hold turned into single hyphens. */
static char *make_name(const char *agent, const char *workdir)
{
	const char *base = strrchr(workdir, '/') + 1;
	char name[65];
	size_t n = (size_t)snprintf(name, sizeof(name), "%s-", agent);

	n = MIN(n, sizeof(name) - 1);
	for (; *base && n < sizeof(name) - 1; base++) {
		char c = *base >= 'A' && *base <= 'Z' ? (char)(*base | 0x20) : *base;

		if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
			name[n++] = c;
		else if (name[n - 1] != '-')
			name[n++] = '-';
	}
	while (name[n - 1] == '-')
		n--;
	name[n] = '\0';
	return xstrdup(name);
}

/* Without a directory of the user's, the agent's name has to do. */
static int add_name(struct box_spec *s, const struct plan_request *req, struct err *err)
{
	s->name = req->name ? xstrdup(req->name)
			    : make_name(s->agent, req->no_workspace ? "/" : s->workdir);
	if (spec_name_valid(s->name))
		return 0;
	err_set(err, ERR_USER, "%s: not a sandbox name", s->name);
	return err_hint(err, "1 to 64 lower-case letters, digits and inner hyphens");
}

/* ---- the user's words ---- */

static int add_env(struct box_spec *s, const struct strv *env, struct err *err)
{
	for (size_t i = 0; i < env->n; i++) {
		const char *eq = strchr(env->v[i], '='), *value;
		_free_ char *name =
			eq ? xstrndup(env->v[i], (size_t)(eq - env->v[i])) : xstrdup(env->v[i]);
		_free_ char *what = NULL;

		if (!kit_env_name_valid(name)) {
			err_set(err, ERR_USER, "-e %s: not a variable name", name);
			return err_hint(
				err, "-e NAME=VALUE, or -e NAME for the value that it has here");
		}
		value = eq ? eq + 1 : getenv(name);
		if (!value)
			continue; /* not set here: not set there */
		if (!plan_is_text(value))
			return err_set(err, ERR_USER, "-e %s: the value is not UTF-8 text", name);
		what = xasprintf("env %s", name);
		plan_set_env(&s->env, name, value);
		plan_set_origin(s, what, "user -e");
	}
	return 0;
}

static int add_args(struct box_spec *s, const struct strv *args, struct err *err)
{
	for (size_t i = 0; i < args->n; i++) {
		if (!plan_is_text(args->v[i]))
			return err_set(err, ERR_USER, "argument %zu: not UTF-8 text", i + 1);
		strv_add(&s->args, args->v[i]);
	}
	return 0;
}

static int add_user_rules(struct spec_net *n, const struct plan_request *req, struct err *err)
{
	const struct settings *set = req->settings;

	for (size_t i = 0; set && i < set->allow.n; i++)
		plan_add_rule(n, true, set->allow.v[i], "user");
	for (size_t i = 0; set && i < set->deny.n; i++)
		plan_add_rule(n, false, set->deny.v[i], "user");
	for (size_t i = 0; i < req->allow.n; i++) {
		struct policy_rule rule;

		if (policy_rule_parse(req->allow.v[i], &rule, err) < 0)
			return err_wrap(err, "--allow %s", req->allow.v[i]);
		policy_rule_done(&rule);
		plan_add_rule(n, true, req->allow.v[i], "user --allow");
	}
	return 0;
}

/* Takes @r; the last one of a name wins. */
static void put_resolve(struct spec_net *n, struct spec_resolve r)
{
	for (size_t i = 0; i < n->n_resolves; i++) {
		if (strcmp(n->resolves[i].name, r.name) == 0) {
			free(n->resolves[i].name);
			free(n->resolves[i].address);
			n->resolves[i] = r;
			return;
		}
	}
	n->resolves = xrealloc(n->resolves, n->n_resolves + 1, sizeof(*n->resolves));
	n->resolves[n->n_resolves++] = r;
}

static int add_resolves(struct spec_net *n, const struct plan_request *req, struct err *err)
{
	const struct settings *set = req->settings;

	for (size_t i = 0; set && i < set->n_resolves; i++)
		put_resolve(n, (struct spec_resolve){.name = xstrdup(set->resolves[i].name),
				       .address = xstrdup(set->resolves[i].address)});
	for (size_t i = 0; i < req->resolves.n; i++) {
		const char *arg = req->resolves.v[i], *eq = strchr(arg, '=');
		_free_ char *name = eq ? xstrndup(arg, (size_t)(eq - arg)) : NULL;
		struct spec_resolve r;

		if (!eq)
			return err_set(
				err, ERR_USER, "--resolve %s: NAME=ADDRESS:PORT was expected", arg);
		if (settings_parse_resolve(name, eq + 1, &r, err) < 0)
			return err_wrap(err, "--resolve %s", arg);
		put_resolve(n, r);
	}
	return 0;
}

static int read_ca(const char *file, char **ret, struct err *err)
{
	const char *home = getenv("HOME");
	_free_ char *path = NULL;
	_buf_ struct buf text;

	if (file[0] == '~' && !home)
		return err_set(err, ERR_USER, "%s: HOME is not set", file);
	path = file[0] == '~' ? fs_join(home, file + 2) : xstrdup(file);
	buf_init(&text, CA_MAX);
	if (fs_read_file(AT_FDCWD, path, &text, err) < 0)
		return -1;
	if (!strstr(buf_cstr(&text), "-----BEGIN CERTIFICATE-----") ||
		!plan_is_text(buf_cstr(&text)))
		return err_set(err, ERR_USER, "%s: there is no certificate in it (PEM)", file);
	*ret = xstrdup(buf_cstr(&text));
	return 0;
}

static int add_cas(struct spec_net *n, const struct settings *set, struct err *err)
{
	if (!set || !set->n_cas)
		return 0;
	n->cas = xcalloc(set->n_cas, sizeof(*n->cas));
	for (size_t i = 0; i < set->n_cas; i++) {
		char *pem;

		if (read_ca(set->cas[i].file, &pem, err) < 0)
			return err_wrap(err, "network.ca of the settings");
		n->cas[n->n_cas++] = (struct spec_ca){xstrdup(set->cas[i].target), pem};
	}
	return 0;
}

/* What this version cannot run, whatever else is asked. */
static int check_runnable(const struct plan_request *req, struct err *err)
{
	for (size_t i = 0; i < req->n_kits; i++) {
		const struct kit *k = &req->kits[i];

		if (k->placeholders)
			return err_set(err, ERR_BUG, "kit %s: was loaded for checking", k->name);
	}
	return plan_check_capabilities(req->kits, req->n_kits, err);
}

static int make(const struct plan_request *req, struct box_spec *s, struct err *err)
{
	if (check_runnable(req, err) < 0 || kit_check_set(req->kits, req->n_kits, err) < 0 ||
		plan_add_mounts(s, req, err) < 0 ||
		plan_add_kits(s, req, err) < 0 ||
		plan_add_services(s, req, err) < 0 || add_machine(s, req, err) < 0 ||
		add_name(s, req, err) < 0 || add_env(s, &req->env, err) < 0 || plan_fill_env(s, req, err) < 0 ||
		add_args(s, &req->args, err) < 0 || add_user_rules(&s->net, req, err) < 0 ||
		add_resolves(&s->net, req, err) < 0 || add_cas(&s->net, req->settings, err) < 0)
		return -1;
	plan_add_ssh(s, req);
	s->user = xstrdup("agent");
	s->net.learn = req->learn;
	s->remove_on_exit = req->remove_on_exit;
	s->strict = req->strict;
	return 0;
}

int plan_make(const struct plan_request *req, struct box_spec *ret, struct err *err)
{
	struct box_spec s = {0};

	if (make(req, &s, err) < 0) {
		spec_done(&s);
		return -1;
	}
	*ret = s;
	return 0;
}

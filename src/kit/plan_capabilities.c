/* SPDX-License-Identifier: Apache-2.0 */
/* What capabilities of schemaVersion "3" become. Network, credentials, steps, volumes and ports take
 * the way that those of other kits take (plan_kits.c); this is the rest. */
#include <string.h>

#include "kit/check.h"
#include "kit/grammar.h"
#include "kit/plan_parts.h"
#include "oci/ref.h"
#include "wire/agent.h"

#define GROW(list, n) ((list) = xrealloc((list), (n) + 1, sizeof(*(list))))

static bool is_image(const struct kit *k)
{
	return k->pin && strncmp(k->pin, OCI_SCHEME, strlen(OCI_SCHEME)) == 0;
}

/* ---- whether it can run ---- */

/* A kit is an image once it is published; beside its recipe it is only a description. */
static int check_published(const struct kit *k, struct err *err)
{
	if (k->kind == KIT_SET) {
		err_set(err, ERR_USER, "kit %s: a set, which becomes a kit when it is published",
			k->name);
		return err_hint(err, "publish it, or name its kits one by one");
	}
	if (is_image(k) || (k->kind == KIT_MIXIN && !k->recipe))
		return 0;
	err_set(err, ERR_USER, "kit %s: %s, and this is only its description", k->name,
		k->kind == KIT_MIXIN ? "brings layers of an image"
				     : "a workload is an image, which holds its root file system");
	return err_hint(err,
		"docker buildx build -f %s --push -t REGISTRY/%s . and then oci://REGISTRY/%s",
		k->file ? k->file : "DESCRIPTOR", k->name, k->name);
}

static int check_available(const struct kit *k, struct err *err)
{
	for (size_t i = 0; i < k->n_capabilities; i++) {
		const struct kit_capability *c = &k->capabilities[i];
		const struct capability_type *t = capability_find(c->type);

		if (t && t->unavailable && !c->skipped)
			return err_set(err, ERR_REFUSED, "kit %s: requires %s: %s", k->name, c->type,
				t->unavailable);
	}
	return 0;
}

static int check_volume(const struct kit *k, const struct kit_volume *v, const struct kit *o,
	struct err *err)
{
	for (size_t i = 0; i < o->n_host_mounts; i++)
		if (strcmp(o->host_mounts[i].path, v->path) == 0)
			return err_set(err, ERR_REFUSED, "kit %s: volume %s is a shared folder of kit %s",
				k->name, v->path, o->name);
	for (size_t i = 0; o != k && i < o->n_volumes; i++) {
		const struct kit_volume *w = &o->volumes[i];

		if (strcmp(w->path, v->path) == 0 &&
			(w->tmpfs != v->tmpfs || w->size_bytes != v->size_bytes ||
				w->mode != v->mode || w->zero_size != v->zero_size ||
				w->zero_mode != v->zero_mode))
			return err_set(err, ERR_REFUSED,
				"kit %s: volume %s, which kit %s has with another size, kind or mode",
				k->name, v->path, o->name);
	}
	return 0;
}

/* What two kits cannot have both. */
static int check_pair(const struct kit *k, const struct kit *o, struct err *err)
{
	for (size_t i = 0; i < k->n_volumes; i++)
		if (check_volume(k, &k->volumes[i], o, err) < 0)
			return -1;
	if (k == o)
		return 0;
	for (size_t i = 0; i < k->n_host_mounts; i++)
		for (size_t m = 0; m < o->n_host_mounts; m++)
			if (strcmp(k->host_mounts[i].path, o->host_mounts[m].path) == 0)
				return err_set(err, ERR_REFUSED,
					"kit %s: shared folder %s, as kit %s has it", k->name,
					k->host_mounts[i].path, o->name);
	for (size_t i = 0; i < k->n_files; i++)
		for (size_t m = 0; m < o->n_files; m++)
			if (strcmp(k->files[i].path, o->files[m].path) == 0)
				return err_set(err, ERR_REFUSED, "kit %s: file %s, as kit %s has it",
					k->name, k->files[i].path, o->name);
	for (size_t i = 0; i < k->n_bundled; i++)
		for (size_t m = 0; m < o->n_bundled; m++)
			if (strcmp(k->bundled[i].name, o->bundled[m].name) == 0 &&
				strcmp(k->bundled[i].path, o->bundled[m].path) != 0)
				return err_set(err, ERR_REFUSED,
					"kit %s: skill %s, of which kit %s has another", k->name,
					k->bundled[i].name, o->name);
	if (k->sandbox.command_interactive.n && o->sandbox.command_interactive.n)
		return err_set(err, ERR_REFUSED,
			"kit %s: arguments for a terminal (interactive), as kit %s has them", k->name,
			o->name);
	return 0;
}

int plan_check_capabilities(const struct kit *kits, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		if (kits[i].schema != 3)
			continue;
		if (check_published(&kits[i], err) < 0 || check_available(&kits[i], err) < 0)
			return -1;
		for (size_t m = 0; m <= i; m++)
			if (check_pair(&kits[i], &kits[m], err) < 0)
				return -1;
	}
	return 0;
}

/* ---- the ssh-agent ---- */

static enum spec_phase phase_of(unsigned mask)
{
	return mask == KIT_INSTALL ? SPEC_INSTALL : (mask == KIT_RUNTIME ? SPEC_RUNTIME : SPEC_ALWAYS);
}

static void add_unique(struct strv *to, const struct strv *from)
{
	for (size_t i = 0; i < from->n; i++)
		if (!strv_has(to, from->v[i]))
			strv_add(to, from->v[i]);
}

/* What all kits ask for in one phase. */
static void unite_ssh(const struct plan_request *req, unsigned phase, struct kit_ssh *ret)
{
	for (size_t i = 0; i < req->n_kits; i++)
		for (size_t m = 0; m < req->kits[i].n_ssh; m++) {
			const struct kit_ssh *s = &req->kits[i].ssh[m];

			if (!(s->phase & phase))
				continue;
			ret->phase |= phase;
			ret->unrestricted |= s->unrestricted;
			add_unique(&ret->sign, &s->sign);
			add_unique(&ret->logins, &s->logins);
		}
}

static bool same_list(const struct strv *a, const struct strv *b)
{
	for (size_t i = 0; i < a->n; i++)
		if (!strv_has(b, a->v[i]))
			return false;
	return a->n == b->n;
}

static int check_grant(struct box_spec *s, const struct plan_request *req, struct err *err)
{
	for (size_t i = 0; i < req->n_kits && !req->ssh_agent && !req->inspecting; i++)
		for (size_t m = 0; m < req->kits[i].n_ssh; m++)
			if (req->kits[i].ssh[m].optional) {
				if (plan_reject(s, &req->kits[i], "com.docker.sandbox/ssh-agent@1",
					    err) < 0)
					return -1;
			} else {
				err_set(err, ERR_REFUSED,
					"kit %s: requires com.docker.sandbox/ssh-agent@1, your "
					"ssh-agent",
					req->kits[i].name);
				return err_hint(err, "--ssh-agent grants it");
			}
	return 0;
}

static int unite_phases(
	struct box_spec *s, const struct kit_ssh *install, const struct kit_ssh *runtime, struct err *err)
{
	const struct kit_ssh *one = runtime->phase ? runtime : install;

	/* One process guards the agent, with one set of rules. */
	if (install->phase && runtime->phase &&
		(install->unrestricted != runtime->unrestricted ||
			(!install->unrestricted && (!same_list(&install->sign, &runtime->sign) ||
							   !same_list(&install->logins, &runtime->logins)))))
		return err_set(err, ERR_REFUSED,
			"the kits want the ssh-agent for other things while they are installed than "
			"afterwards, which cannot be kept apart");
	s->ssh_any_key = true;
	s->ssh_any_host |= one->unrestricted;
	s->ssh_phase = phase_of(install->phase | runtime->phase);
	if (!s->ssh_any_host) {
		add_unique(&s->ssh_sign, &one->sign);
		add_unique(&s->ssh_hosts, &one->logins);
	}
	if (s->ssh_phase != SPEC_INSTALL) {
		plan_set_env(&s->env, "SSH_AUTH_SOCK", AGENT_SSH_SOCKET);
		plan_set_origin(s, "env SSH_AUTH_SOCK", "--ssh-agent");
	}
	return 0;
}

static int add_ssh(struct box_spec *s, const struct plan_request *req, struct err *err)
{
	struct kit_ssh install = {0}, runtime = {0};
	int result = check_grant(s, req, err);

	unite_ssh(req, KIT_INSTALL, &install);
	unite_ssh(req, KIT_RUNTIME, &runtime);
	if (result == 0 && (req->ssh_agent || req->inspecting) && (install.phase || runtime.phase))
		result = unite_phases(s, &install, &runtime, err);
	strv_done(&install.sign);
	strv_done(&install.logins);
	strv_done(&runtime.sign);
	strv_done(&runtime.logins);
	return result;
}

/* ---- variables ---- */

static bool is_credential(const struct box_spec *s, const char *name)
{
	for (size_t i = 0; i < s->net.n_credentials; i++)
		if (strcmp(s->net.credentials[i].env, name) == 0)
			return true;
	return false;
}

static void add_variables(struct box_spec *s, const struct kit *k)
{
	_free_ char *from = xasprintf("kit %s, argument", k->name);

	for (size_t i = 0; i < k->n_args; i++) {
		const struct kit_arg *a = &k->args[i];
		_free_ char *what = a->env ? xasprintf("env %s", a->env) : NULL;

		/* What stands for a credential wins. */
		if (!a->env || !a->value || env_is_reserved(a->env) || is_credential(s, a->env))
			continue;
		plan_set_env(&s->env, a->env, a->value);
		plan_set_origin(s, what, from);
	}
}

/* What install hooks are given of a variable that is not there for them, or for them only. */
static void fix_hook_env(const struct box_spec *s, struct spec_step *step)
{
	struct strv env = {0};

	for (size_t i = 0; i < step->env.n; i++) {
		const char *name = step->env.v[i];
		enum spec_phase phase = SPEC_ALWAYS;
		const char *value = PLAN_PLACEHOLDER;

		for (size_t m = 0; m < s->net.n_credentials; m++)
			if (strcmp(s->net.credentials[m].env, name) == 0)
				phase = phase == SPEC_ALWAYS || phase == s->net.credentials[m].phase
						? s->net.credentials[m].phase
						: SPEC_ALWAYS;
		if (strcmp(name, "SSH_AUTH_SOCK") == 0 && s->ssh_any_key) {
			phase = s->ssh_phase;
			value = AGENT_SSH_SOCKET;
		}
		if (phase == SPEC_ALWAYS)
			strv_add(&env, name);
		else if (phase == SPEC_INSTALL)
			strv_addf(&env, "%s=%s", name, value);
	}
	strv_done(&step->env);
	step->env = env;
}

/* ---- git-identity ---- */

#define GIT_IDENTITY "com.docker.sandbox/git-identity@1"

/* With git where it is there: it knows what the file may hold. Else the agent has none to use it. */
static const char identity_script[] =
	"command -v git >/dev/null || { umask 022; printf '[user]\\n\\tname = \"%s\"\\n\\temail = "
	"\"%s\"\\n' \"$3\" \"$4\" >>\"$HOME/.gitconfig\"; exit; }\n"
	"git config --global --replace-all user.name \"$1\" &&\n"
	"git config --global --replace-all user.email \"$2\"";

/* For a file of git's: quotes and backslashes. */
static char *quoted(const char *s)
{
	_buf_ struct buf out = {.max = 8192};

	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			buf_puts(&out, "\\");
		buf_put(&out, s, 1);
	}
	return xstrdup(buf_cstr(&out));
}

static int add_identity(
	struct box_spec *s, const struct plan_request *req, const struct kit *k, struct err *err)
{
	const char *name = req->git_name, *email = req->git_email;
	_free_ char *q1 = NULL, *q2 = NULL;
	struct spec_step step;

	if (req->inspecting && !name && !email)
		name = email = "(yours)";
	if (!name || !email || check_text(name) || check_text(email)) {
		if (k->git_optional)
			return plan_reject(s, k, GIT_IDENTITY, err);
		err_set(err, ERR_REFUSED,
			"kit %s: requires com.docker.sandbox/git-identity@1, and git here knows no "
			"name and address of yours",
			k->name);
		return err_hint(err, "git config --global user.name NAME, and user.email");
	}
	q1 = quoted(name);
	q2 = quoted(email);
	plan_add_own_step(s, k->name, "1000", "git identity", identity_script,
		(const char *const[]){name, email, q1, q2}, 4);
	plan_set_origin(s, "git identity", "yours");
	free(s->git_name);
	free(s->git_email);
	s->git_name = xstrdup(name);
	s->git_email = xstrdup(email);
	/* Before any hook. */
	step = s->install[s->n_install - 1];
	memmove(s->install + 1, s->install, (s->n_install - 1) * sizeof(step));
	s->install[0] = step;
	return 0;
}

/* ---- sessions ---- */

static void add_verb(
	struct box_spec *s, const char *verb, bool terminal, const struct kit_verb *v)
{
	/* Without a terminal, an empty tail is none. */
	if (!v->given || (!terminal && !v->tail.n))
		return;
	GROW(s->sessions, s->n_sessions);
	s->sessions[s->n_sessions++] =
		(struct spec_session){.verb = xstrdup(verb), .terminal = terminal};
	strv_copy(&s->sessions[s->n_sessions - 1].argv, &v->tail);
}

static void add_sessions(struct box_spec *s, const struct kit_sessions *v, bool terminal)
{
	add_verb(s, "prompt", terminal, &v->prompt);
	add_verb(s, "resume", terminal, &v->resume);
	add_verb(s, "continue", terminal, &v->last);
	add_verb(s, "list", terminal, &v->list);
	add_verb(s, "pick", terminal, &v->picker);
}

/* ---- all of it ---- */

/* The agent is started under bash, which reads what BASH_ENV names. */
static void wrap_in_bash(struct box_spec *s)
{
	static const char *const head[] = {"bash", "-c", "exec \"$0\" \"$@\""};
	struct strv all = {0};

	for (size_t i = 0; i < ARRAY_SIZE(head); i++)
		strv_add(&all, head[i]);
	strv_copy(&all, &s->entrypoint);
	strv_done(&s->entrypoint);
	s->entrypoint = all;
}

#define SBX "com.docker.sandbox/sbx@1"

static bool is_required(const struct kit *k, const char *type)
{
	for (size_t i = 0; i < k->n_capabilities; i++)
		if (!k->capabilities[i].optional && strcmp(k->capabilities[i].type, type) == 0)
			return true;
	return false;
}

/* Whether the agent is who the image says. */
static bool is_agent(const char *user)
{
	static const char *const names[] = {
		"agent", "1000", "agent:agent", "1000:1000", "agent:1000", "1000:agent"};

	for (size_t i = 0; user && i < ARRAY_SIZE(names); i++)
		if (strcmp(user, names[i]) == 0)
			return true;
	return false;
}

/* The agent runs as the user that the image declares, or the kit does not run. */
static int add_sbx(
	struct box_spec *s, const struct plan_request *req, const struct kit *k, struct err *err)
{
	const char *user =
		req->image_config ? req->image_config->user : "agent"; /* not known yet */

	if (is_agent(user)) {
		if (s->entrypoint.n)
			wrap_in_bash(s);
		return 0;
	}
	if (!is_required(k, SBX))
		return plan_reject(s, k, SBX, err);
	err_set(err, ERR_REFUSED, "kit %s: requires " SBX ", and its image declares %s%.80s",
		k->name, user ? "the user " : "no user", user ? user : "");
	return err_hint(
		err, "Hutch runs agents as the user agent, with the number 1000: USER agent");
}

/* How a session on a terminal begins: said by interactive of lifecycle, or else by newSession. */
static void add_interactive(struct box_spec *s, const struct kit *k)
{
	const struct strv *tail = k->sandbox.command_interactive.n ? &k->sandbox.command_interactive
								   : &k->terminal.fresh.tail;
	_free_ char *from = xasprintf("kit %s", k->name);

	if (!tail->n || (tail == &k->terminal.fresh.tail && k->kind != KIT_SANDBOX))
		return;
	strv_copy(&s->command_interactive, tail);
	plan_set_origin(s, "command", from);
}

static int add_kit(
	struct box_spec *s, const struct plan_request *req, const struct kit *k, struct err *err)
{
	if (k->kind == KIT_MIXIN && is_image(k) && !strv_has(&s->layers, k->pin))
		strv_add(&s->layers, k->pin);
	add_variables(s, k);
	if (plan_add_host_mounts(s, k, err) < 0 ||
		(k->git_identity && add_identity(s, req, k, err) < 0))
		return -1;
	add_interactive(s, k);
	if (k->kind != KIT_SANDBOX)
		return 0;
	add_sessions(s, &k->sessions, false);
	add_sessions(s, &k->terminal, true);
	return k->sbx ? add_sbx(s, req, k, err) : 0;
}

int plan_add_capabilities(struct box_spec *s, const struct plan_request *req,
	const struct kit *const *order, struct err *err)
{
	if (!req->n_kits || order[0]->schema != 3)
		return 0;
	for (size_t i = 0; i < req->n_kits; i++)
		plan_add_selection(s, order[i]);
	plan_set_env(&s->env, "WORKSPACE_DIR", s->workdir);
	plan_set_origin(s, "env WORKSPACE_DIR", "Hutch");
	for (size_t i = 0; i < req->n_kits; i++)
		if (add_kit(s, req, order[i], err) < 0)
			return -1;
	if (add_ssh(s, req, err) < 0 || plan_add_context(s, order, req->n_kits, err) < 0)
		return -1;
	for (size_t i = 0; i < s->n_install; i++)
		if (s->install[i].bounded)
			fix_hook_env(s, &s->install[i]);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What runs, and on which image: what the kits say, and the image itself where they say nothing. */
#include "kit/plan_parts.h"

#include <string.h>

#include "oci/ref.h"

/* The agent's own programs, as they are found on Hutch's image. */
#define AGENT_BIN PLAN_HOME "/.local/bin"

const struct kit **plan_order(const struct kit *kits, size_t n)
{
	const struct kit **order = xcalloc(n, sizeof(*order)), *base = kit_base(kits, n);
	size_t at = 0;

	if (n && kits[0].schema == 3) { /* kit_resolve has put them in order */
		for (; at < n; at++)
			order[at] = &kits[at];
		return order;
	}
	for (size_t i = 0; i < n; i++)
		if (kits[i].is_parent)
			order[at++] = &kits[i];
	order[at++] = base;
	for (size_t i = 0; i < n; i++)
		if (!kits[i].is_parent && &kits[i] != base)
			order[at++] = &kits[i];
	return order;
}

static void replace(struct strv *to, const struct strv *from)
{
	strv_done(to);
	strv_copy(to, from);
}

/* What runs: each kit of the family says anew what it says at all. */
void plan_add_launch(struct box_spec *s, const struct kit *k)
{
	const struct kit_sandbox *b = &k->sandbox;
	_free_ char *from = xasprintf("kit %s", k->name);

	free(s->agent);
	s->agent = xstrdup(k->name);
	if (b->image) {
		free(s->image);
		s->image = xstrdup(b->image);
		plan_set_origin(s, "image", from);
	}
	if (b->entrypoint.n) {
		replace(&s->entrypoint, &b->entrypoint);
		plan_set_origin(s, "entrypoint", from);
	}
	if (b->command_given && k->schema != 3) { /* there it comes behind the image's own */
		replace(&s->command_default, &b->command_default);
		replace(&s->command_interactive, &b->command_interactive);
		plan_set_origin(s, "command", from);
	}
}

const char *plan_image(const struct kit *kits, size_t n)
{
	_free_ const struct kit **order = NULL;
	const char *image = NULL;

	if (!kit_base(kits, n))
		return NULL;
	order = plan_order(kits, n);
	for (size_t i = 0; i < n; i++)
		if (order[i]->kind == KIT_SANDBOX && order[i]->sandbox.image)
			image = order[i]->sandbox.image;
	return image;
}

/* Variables of the image that are the sandbox's own business: who runs, and where certificates are. */
static bool is_ours(const char *name)
{
	static const char *const names[] = {"HOME", "USER", "LOGNAME", "SHELL", "SSL_CERT_FILE",
		"REQUESTS_CA_BUNDLE", "PIP_CERT", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO",
		"NODE_EXTRA_CA_CERTS"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return strncmp(name, "HUTCH_", 6) == 0;
}

static void add_image_env(struct box_spec *s, const struct strv *env)
{
	for (size_t i = 0; i < env->n; i++) {
		const char *eq = strchr(env->v[i], '='), *value = eq ? eq + 1 : "";
		_free_ char *name = eq ? xstrndup(env->v[i], (size_t)(eq - env->v[i])) : NULL;
		_free_ char *what = NULL, *path = NULL;

		if (!name || !kit_env_name_valid(name) || is_ours(name))
			continue;
		if (strcmp(name, "PATH") == 0 && !strstr(value, AGENT_BIN))
			value = path = xasprintf("%s%s" AGENT_BIN, value, *value ? ":" : "");
		what = xasprintf("env %s", name);
		plan_set_env(&s->env, name, value);
		plan_set_origin(s, what, "the image");
	}
}

/* Where the image says nothing either: a login shell, the best that it has. */
static void add_shell(struct box_spec *s, bool own_image)
{
	static const char *const bash[] = {"bash", "-l"};
	static const char *const any[] = {"sh", "-c",
		"if command -v bash >/dev/null; then exec bash -l \"$@\"; fi; exec sh -l \"$@\"", "sh"};

	for (size_t i = 0; own_image && i < ARRAY_SIZE(bash); i++)
		strv_add(&s->entrypoint, bash[i]);
	for (size_t i = 0; !own_image && i < ARRAY_SIZE(any); i++)
		strv_add(&s->entrypoint, any[i]);
}

/* "./serve" of an image is in its WORKDIR; the sandbox starts it in the workspace. */
static void add_image_argv(
	struct strv *to, const struct strv *argv, const char *workdir, bool program)
{
	size_t first = to->n;
	char *path;

	strv_copy(to, argv);
	if (!program || argv->v[0][0] == '/' || !strchr(argv->v[0], '/'))
		return;
	workdir = workdir ? workdir + strspn(workdir, "/") : "";
	path = xasprintf("/%s%s%s", workdir, *workdir ? "/" : "", argv->v[0]);
	free(to->v[first]);
	to->v[first] = path;
}

void plan_add_image(struct box_spec *s, const struct plan_request *req)
{
	const struct image_config *c = req->image_config;
	bool own = !req->image || strncmp(req->image, OCI_SCHEME, strlen(OCI_SCHEME)) != 0;
	bool command = s->command_default.n || s->command_interactive.n;

	if (req->image) {
		free(s->image);
		s->image = xstrdup(req->image);
	}
	strv_copy(&s->layers, &req->layers);
	if (c)
		add_image_env(s, &c->env);
	if (s->entrypoint.n)
		return;
	/* As Docker does: an entrypoint of one's own does away with the image's command, too. */
	if (c && c->entrypoint.n) {
		add_image_argv(&s->entrypoint, &c->entrypoint, c->workdir, true);
		plan_set_origin(s, "entrypoint", "the image");
	}
	if (c && c->cmd.n && !command) {
		bool program = !s->entrypoint.n;

		add_image_argv(&s->command_default, &c->cmd, c->workdir, program);
		add_image_argv(&s->command_interactive, &c->cmd, c->workdir, program);
		plan_set_origin(s, "command", "the image");
		command = true;
	}
	if (!s->entrypoint.n && (own || !command))
		add_shell(s, own);
}

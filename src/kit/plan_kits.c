/* SPDX-License-Identifier: Apache-2.0 */
/* What kits bring to a plan, and how several of them add up: rules and steps append, the last
 * variable and the last file of a name win. */
#include "kit/plan_parts.h"

#include <string.h>

#include "base/buf.h"

/* The content of one file. A kit's text is at most 1 MiB; ${WORKDIR} may make it grow. */
#define FILE_MAX (4 * 1024 * 1024)

/* Room for one more entry of a list. */
#define GROW(list, n) ((list) = xrealloc((list), (n) + 1, sizeof(*(list))))

static char *dup_or_empty(const char *s)
{
	return xstrdup(s ? s : "");
}

void plan_set_env(struct strv *env, const char *name, const char *value)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < env->n; i++) {
		if (strncmp(env->v[i], name, len) == 0 && env->v[i][len] == '=') {
			free(env->v[i]);
			env->v[i] = xasprintf("%s=%s", name, value);
			return;
		}
	}
	strv_addf(env, "%s=%s", name, value);
}

void plan_add_rule(struct spec_net *n, bool allow, const char *target, const char *source)
{
	GROW(n->rules, n->n_rules);
	n->rules[n->n_rules++] = (struct spec_rule){
		.allow = allow, .target = xstrdup(target), .source = xstrdup(source)};
}

static void add_credential(struct spec_net *n, const struct kit *k, const struct kit_credential *c)
{
	struct spec_credential *to;

	GROW(n->credentials, n->n_credentials);
	to = &n->credentials[n->n_credentials++];
	*to = (struct spec_credential){.service = xstrdup(c->service),
		.env = dup_or_empty(c->env),
		.kit = xstrdup(k->name),
		.required = c->required,
		.injects = xcalloc(c->n_injects, sizeof(*to->injects)),
		.n_injects = c->n_injects};
	for (size_t i = 0; i < c->n_injects; i++) {
		const struct kit_inject *in = &c->injects[i];

		to->injects[i] = (struct spec_inject){.domain = xstrdup(in->domain),
			.header = xstrdup(in->header),
			.format = xstrdup(in->format),
			.username = in->username ? xstrdup(in->username) : NULL};
	}
}

static void add_step(
	struct spec_step **list, size_t *n, const struct kit *k, const struct kit_step *from)
{
	struct spec_step *to;

	GROW(*list, *n);
	to = &(*list)[(*n)++];
	*to = (struct spec_step){.user = xstrdup(from->user),
		.description = dup_or_empty(from->description),
		.kit = xstrdup(k->name),
		.background = from->background};
	strv_copy(&to->argv, &from->argv);
}

/* @content with every ${WORKDIR} replaced; NULL when that makes it too large. */
static char *fill_workdir(const char *content, const char *workdir)
{
	static const char mark[] = "${WORKDIR}";
	_buf_ struct buf out = {.max = FILE_MAX};
	const char *at;

	while ((at = strstr(content, mark)) != NULL) {
		buf_put(&out, content, (size_t)(at - content));
		buf_puts(&out, workdir);
		content = at + sizeof(mark) - 1;
	}
	buf_puts(&out, content);
	return out.failed ? NULL : xstrdup(buf_cstr(&out));
}

static bool is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 && path[len] == '/';
}

/* A file of this path from an earlier kit gives way. Takes @content. */
static void add_file(struct box_spec *s, const char *kit, const char *path, char *content,
	unsigned mode, bool only_if_missing)
{
	struct spec_file *to = NULL;

	for (size_t i = 0; i < s->n_files && !to; i++)
		if (strcmp(s->files[i].path, path) == 0)
			to = &s->files[i];
	if (to) {
		free(to->path);
		free(to->content);
		free(to->kit);
	} else {
		GROW(s->files, s->n_files);
		to = &s->files[s->n_files++];
	}
	*to = (struct spec_file){.path = xstrdup(path),
		.content = content,
		.kit = xstrdup(kit),
		.mode = mode,
		.only_if_missing = only_if_missing,
		.as_root = !is_below(path, PLAN_HOME) && !is_below(path, s->workdir)};
}

static void add_tree(struct spec_tree **list, size_t *n, size_t order, const struct kit *k,
	const char *what, const char *dest)
{
	GROW(*list, *n);
	(*list)[(*n)++] = (struct spec_tree){.dir = xasprintf("%zu-%s", order, what),
		.dest = xstrdup(dest),
		.source = xasprintf("%s/files/%s", k->dir, what),
		.kit = xstrdup(k->name)};
}

static int add_kit(struct box_spec *s, const struct kit *k, size_t order, struct err *err)
{
	_free_ char *source = xasprintf("kit %s", k->name);

	strv_add(&s->kits, k->name);
	for (size_t i = 0; i < k->n_rules; i++)
		plan_add_rule(&s->net, k->rules[i].allow, k->rules[i].target, source);
	for (size_t i = 0; i < k->n_credentials; i++)
		add_credential(&s->net, k, &k->credentials[i]);
	for (size_t i = 0; i < k->n_vars; i++)
		plan_set_env(&s->env, k->vars[i].name, k->vars[i].value);
	for (size_t i = 0; i < k->n_install; i++)
		add_step(&s->install, &s->n_install, k, &k->install[i]);
	for (size_t i = 0; i < k->n_startup; i++)
		add_step(&s->startup, &s->n_startup, k, &k->startup[i]);
	for (size_t i = 0; i < k->n_files; i++) {
		const struct kit_file *f = &k->files[i];
		char *content = fill_workdir(f->content, s->workdir);

		if (!content)
			return err_set(
				err, ERR_USER, "kit %s: %s is larger than 4 MiB", k->name, f->path);
		add_file(s, k->name, f->path, content, f->mode, f->only_if_missing);
	}
	if ((k->has_home || k->has_workspace) && !plan_is_text(k->dir))
		return err_set(err, ERR_USER, "kit %s: its path is not UTF-8 text", k->name);
	if (k->has_home)
		add_tree(&s->home_trees, &s->n_home_trees, order, k, "home", PLAN_HOME);
	if (k->has_workspace) {
		if (plan_path_read_only(s, s->workdir))
			return err_set(err, ERR_USER,
				"kit %s: brings files for the workspace, but %s is read-only",
				k->name, s->workdir);
		add_tree(&s->workspace_trees, &s->n_workspace_trees, order, k, "workspace",
			s->workdir);
	}
	return 0;
}

/* The profile file of the agent: the sandbox kit's text, and pointers to what the mixins have to
 * say in files of their own. */
static void add_instructions(
	struct box_spec *s, const struct kit *base, const struct kit *kits, size_t n)
{
	const char *name = base->instructions_filename ? base->instructions_filename : "AGENTS.md";
	_free_ char *path = xasprintf("%s/%s", PLAN_HOME, name);
	_buf_ struct buf text = {.max = 2 * FILE_MAX};
	bool section = false;

	buf_puts(&text, base->instructions ? base->instructions : "");
	for (size_t i = 0; i < n; i++) {
		const struct kit *k = &kits[i];
		_free_ char *memory = xasprintf("%s/kits-memory/%s.md", PLAN_HOME, k->name);

		if (k == base || !k->instructions)
			continue;
		if (!section)
			buf_printf(&text,
				"%s<!-- kits -->\n## Kits\n\nRead these when they matter:\n\n",
				buf_len(&text) ? "\n" : "");
		section = true;
		buf_printf(
			&text, "- `%s`: %s\n", memory, k->display_name ? k->display_name : k->name);
		add_file(s, k->name, memory, xstrdup(k->instructions), 0644, false);
	}
	if (section)
		buf_puts(&text, "<!-- /kits -->\n");
	if (buf_len(&text))
		add_file(s, base->name, path, xstrdup(buf_cstr(&text)), 0644, false);
}

static void add_launch(struct box_spec *s, const struct kit *base)
{
	const struct kit_sandbox *b = &base->sandbox;

	s->agent = xstrdup(base->name);
	s->image = xstrdup(b->image);
	if (b->entrypoint.n) {
		strv_copy(&s->entrypoint, &b->entrypoint);
	} else {
		strv_add(&s->entrypoint, "bash");
		strv_add(&s->entrypoint, "-l");
	}
	strv_copy(&s->command_default, &b->command_default);
	strv_copy(&s->command_interactive, &b->command_interactive);
}

int plan_add_kits(struct box_spec *s, const struct kit *kits, size_t n, struct err *err)
{
	const struct kit *base = kit_base(kits, n);
	size_t order = 0;

	add_launch(s, base);
	if (add_kit(s, base, order++, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		if (&kits[i] != base && add_kit(s, &kits[i], order++, err) < 0)
			return -1;
	/* Placeholders win over the variables of every kit. */
	for (size_t i = 0; i < s->net.n_credentials; i++)
		plan_set_env(&s->env, s->net.credentials[i].env, PLAN_PLACEHOLDER);
	add_instructions(s, base, kits, n);
	return 0;
}

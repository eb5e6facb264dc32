/* SPDX-License-Identifier: Apache-2.0 */
/* What kits bring to a plan, and how several of them add up: rules and steps append, the last
 * variable and the last file of a name win. */
#include "kit/plan_parts.h"

#include <string.h>

#include "base/buf.h"
#include "policy/policy.h"

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

void plan_set_origin(struct box_spec *s, const char *what, const char *from)
{
	struct spec_origin *to = NULL;

	for (size_t i = 0; i < s->n_origins && !to; i++)
		if (strcmp(s->origins[i].what, what) == 0)
			to = &s->origins[i];
	if (to) {
		free(to->from);
		to->from = xstrdup(from);
		return;
	}
	GROW(s->origins, s->n_origins);
	s->origins[s->n_origins++] = (struct spec_origin){xstrdup(what), xstrdup(from)};
}

static void set_kit_env(
	struct box_spec *s, const struct kit *k, const char *name, const char *value)
{
	_free_ char *what = xasprintf("env %s", name), *from = xasprintf("kit %s", k->name);

	plan_set_env(&s->env, name, value);
	plan_set_origin(s, what, from);
}

void plan_add_rule(struct spec_net *n, bool allow, const char *target, const char *source)
{
	GROW(n->rules, n->n_rules);
	n->rules[n->n_rules++] = (struct spec_rule){
		.allow = allow, .target = xstrdup(target), .source = xstrdup(source)};
}

static enum spec_phase phase_of(unsigned mask)
{
	return mask == KIT_INSTALL ? SPEC_INSTALL : (mask == KIT_RUNTIME ? SPEC_RUNTIME : SPEC_ALWAYS);
}

/* The last rule is in force in @phase only. */
static void set_phase(struct spec_net *n, unsigned mask)
{
	n->rules[n->n_rules - 1].phase = phase_of(mask);
}

/* A rule that is bounded to requests becomes one rule for each path, as policy/policy.h writes
 * them: what cannot be said so cannot be enforced. */
static int add_rule(struct spec_net *n, const struct kit *k, const struct kit_rule *r,
	const char *source, struct err *err)
{
	_buf_ struct buf what = {.max = 4096};

	if (!r->methods.n && !r->paths.n) {
		plan_add_rule(n, r->allow, r->target, source);
		set_phase(n, r->phase);
		return 0;
	}
	for (size_t i = 0; i < r->methods.n; i++)
		buf_printf(&what, "%s%s", i ? "," : "", r->methods.v[i]);
	for (size_t i = 0; i < MAX(r->paths.n, (size_t)1); i++) {
		_free_ char *text = xasprintf("%s %s%s", r->methods.n ? buf_cstr(&what) : "ANY",
			r->target, r->paths.n ? r->paths.v[i] : "");
		struct policy_rule parsed;

		if (policy_rule_parse(text, &parsed, err) < 0)
			return err_wrap(err, "kit %s", k->name);
		policy_rule_done(&parsed);
		plan_add_rule(n, r->allow, text, source);
		set_phase(n, r->phase);
	}
	return 0;
}

static char *dup_or_null(const char *s)
{
	return s ? xstrdup(s) : NULL;
}

/* @like: what an inject without header and format takes them from, or NULL. */
static void add_inject(
	struct spec_credential *to, const struct kit_inject *in, const struct spec_inject *like)
{
	bool own = in->header || !like;

	GROW(to->injects, to->n_injects);
	to->injects[to->n_injects++] = (struct spec_inject){.domain = xstrdup(in->domain),
		.kind = in->kind,
		.header = dup_or_empty(own ? in->header : like->header),
		.format = dup_or_empty(in->format || !like ? in->format : like->format),
		.username = dup_or_null(in->username || own ? in->username : like->username),
		.parameter = dup_or_null(in->parameter),
		.placeholder = dup_or_null(in->placeholder),
		.in_body = in->in_body,
		.insecure = in->insecure};
}

static void add_oauth(struct spec_credential *to, const struct kit_credential *c)
{
	const struct kit_oauth *o = &c->oauth;
	struct spec_oauth *s;

	if (!o->given)
		return;
	to->oauth = xcalloc(1, sizeof(*to->oauth));
	to->n_oauth = 1;
	s = to->oauth;
	*s = (struct spec_oauth){.host = xstrdup(o->host),
		.path = xstrdup(o->path),
		.access_sentinel = dup_or_empty(o->access_sentinel),
		.refresh_sentinel = dup_or_empty(o->refresh_sentinel),
		.access_name = dup_or_null(o->access_name),
		.refresh_name = dup_or_null(o->refresh_name),
		.expires_name = dup_or_null(o->expires_name),
		.scope_name = dup_or_null(o->scope_name),
		.file = o->file && *o->file == '~' ? xasprintf("%s%s", PLAN_HOME, o->file + 1)
						   : dup_or_null(o->file),
		.file_text = dup_or_null(o->file_text),
		.file_verbatim = o->file_verbatim,
		.passthrough = o->passthrough};
	strv_copy(&s->resource_hosts, &o->resource_hosts);
	/* Unless the kit says where, tokens go where keys go. */
	for (size_t i = 0; i < c->n_injects && !o->resource_hosts.n; i++)
		if (!strv_has(&s->resource_hosts, c->injects[i].domain))
			strv_add(&s->resource_hosts, c->injects[i].domain);
}

static struct spec_credential *find_credential(
	struct spec_net *n, const char *service, enum spec_phase phase)
{
	for (size_t i = 0; i < n->n_credentials; i++)
		if (strcmp(n->credentials[i].service, service) == 0 &&
			n->credentials[i].phase == phase)
			return &n->credentials[i];
	return NULL;
}

/* A child says anew what its parent said of a service. */
static void drop_credential(struct spec_net *n, const char *service, enum spec_phase phase)
{
	struct spec_credential *c = find_credential(n, service, phase);
	struct spec_net gone = {.credentials = xcalloc(1, sizeof(*c)), .n_credentials = 1};

	if (c) {
		size_t at = (size_t)(c - n->credentials);

		gone.credentials[0] = *c;
		n->n_credentials--;
		memmove(c, c + 1, (n->n_credentials - at) * sizeof(*c));
	} else {
		gone.n_credentials = 0;
	}
	spec_net_done(&gone);
}

static void add_credential(struct spec_net *n, const char *kit, const struct kit_credential *c)
{
	struct spec_credential *to;

	drop_credential(n, c->service, phase_of(c->phase));
	GROW(n->credentials, n->n_credentials);
	to = &n->credentials[n->n_credentials++];
	*to = (struct spec_credential){.service = xstrdup(c->service),
		.env = dup_or_empty(c->env),
		.kit = xstrdup(kit),
		.required = c->required,
		.phase = phase_of(c->phase)};
	for (size_t i = 0; i < c->n_injects; i++)
		add_inject(to, &c->injects[i], NULL);
	add_oauth(to, c);
}

/* More domains for services that other kits own; without an owner there is nothing to send. */
static void add_more_domains(struct spec_net *n, const struct kit *k)
{
	for (size_t i = 0; i < k->n_credentials; i++) {
		const struct kit_credential *c = &k->credentials[i];
		struct spec_credential *to = c->adds ? find_credential(n, c->service, SPEC_ALWAYS) : NULL;
		struct spec_inject like;

		if (!to || !to->n_injects)
			continue;
		for (size_t m = 0; m < c->n_injects; m++) {
			like = to->injects[0];
			add_inject(to, &c->injects[m], &like);
		}
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
		.background = from->background,
		.bounded = k->schema == 3};
	strv_copy(&to->argv, &from->argv);
	strv_copy(&to->env, &from->env);
}

/* @content with every ${WORKDIR} replaced; NULL when that makes it too large. */
static char *fill_workdir(const char *content, const char *workdir)
{
	static const char mark[] = "${WORKDIR}";
	_buf_ struct buf out = {.max = FILE_MAX};
	const char *at = content;

	while ((at = strchr(at, '$')) != NULL && !out.failed) {
		if (strncmp(at, mark, sizeof(mark) - 1) != 0) {
			at++;
			continue;
		}
		buf_put(&out, content, (size_t)(at - content));
		buf_puts(&out, workdir);
		content = at += sizeof(mark) - 1;
	}
	buf_puts(&out, content);
	return out.failed ? NULL : xstrdup(buf_cstr(&out));
}

static bool is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 && path[len] == '/';
}

bool plan_is_agents(const struct box_spec *s, const char *path)
{
	return is_below(path, PLAN_HOME) || is_below(path, s->workdir);
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
		.as_root = !plan_is_agents(s, path)};
}

void plan_add_agent_file(struct box_spec *s, const char *kit, const char *path, char *content,
	unsigned mode, bool only_if_missing)
{
	struct spec_file *f;

	add_file(s, kit, path, content, mode, only_if_missing);
	for (size_t i = 0; i < s->n_files; i++) {
		f = &s->files[i];
		if (strcmp(f->path, path) == 0) {
			f->as_root = false;
			f->each_start = true;
		}
	}
}

static void add_tree(struct spec_tree **list, size_t *n, size_t order, const struct kit *k,
	const char *what, const char *dest)
{
	GROW(*list, *n);
	(*list)[(*n)++] = (struct spec_tree){.dir = xasprintf("%zu-%s", order, what),
		.dest = xstrdup(dest),
		.source = xasprintf("%s/files/%s", k->dir, what),
		.kit = xstrdup(k->name)};
	for (size_t i = 0; i < k->n_args; i++)
		strv_addf(&(*list)[*n - 1].args, "%s=%s", k->args[i].name,
			k->args[i].value ? k->args[i].value : "");
}

static void add_ports(struct box_spec *s, const struct kit *k)
{
	for (size_t i = 0; i < k->n_ports; i++) {
		const struct kit_port *p = &k->ports[i];
		bool there = false;

		for (size_t m = 0; m < s->n_ports && !there; m++)
			there = s->ports[m].container == p->container && s->ports[m].udp == p->udp;
		if (there)
			continue;
		GROW(s->ports, s->n_ports);
		s->ports[s->n_ports++] = (struct spec_port){.container = p->container,
			.udp = p->udp,
			.name = dup_or_empty(p->name),
			.kit = xstrdup(k->name)};
	}
}

static int add_kit(struct box_spec *s, const struct kit *k, size_t order, struct err *err)
{
	_free_ char *source = xasprintf("kit %s", k->name);

	strv_add(&s->kits, k->name);
	for (size_t i = 0; i < k->n_rules; i++)
		if (add_rule(&s->net, k, &k->rules[i], source, err) < 0)
			return -1;
	for (size_t i = 0; i < k->n_credentials; i++)
		if (!k->credentials[i].adds)
			add_credential(&s->net, k->name, &k->credentials[i]);
	for (size_t i = 0; i < k->n_vars; i++)
		set_kit_env(s, k, k->vars[i].name, k->vars[i].value);
	add_ports(s, k);
	for (size_t i = 0; i < k->n_install; i++)
		add_step(&s->install, &s->n_install, k, &k->install[i]);
	for (size_t i = 0; i < k->n_startup; i++)
		add_step(&s->startup, &s->n_startup, k, &k->startup[i]);
	for (size_t i = 0; i < k->n_files; i++) {
		const struct kit_file *f = &k->files[i];
		/* In a kit of "3" what looks like a variable is for others to read. */
		char *content = k->schema == 3 ? xstrdup(f->content)
					       : fill_workdir(f->content, s->workdir);

		if (!content)
			return err_set(
				err, ERR_USER, "kit %s: %s is larger than 4 MiB", k->name, f->path);
		(k->schema == 3 ? plan_add_agent_file : add_file)(
			s, k->name, f->path, content, f->mode, f->only_if_missing);
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

/* The profile file of the agent: the text of the sandbox kit and of what it extends, and pointers
 * to what the mixins have to say in files of their own. */
static void add_instructions(struct box_spec *s, const struct kit *const *order, size_t n)
{
	const char *name = "AGENTS.md";
	_free_ char *path = NULL;
	_buf_ struct buf text = {.max = 4 * FILE_MAX};
	bool section = false;

	for (size_t i = 0; i < n; i++) {
		const struct kit *k = order[i];

		if (k->kind != KIT_SANDBOX)
			continue;
		if (k->instructions_filename)
			name = k->instructions_filename;
		if (k->instructions)
			buf_printf(&text, "%s%s", buf_len(&text) ? "\n" : "", k->instructions);
	}
	for (size_t i = 0; i < n; i++) {
		const struct kit *k = order[i];
		_free_ char *memory = xasprintf("%s/kits-memory/%s.md", PLAN_HOME, k->name);

		if (k->kind == KIT_SANDBOX || !k->instructions)
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
	path = xasprintf("%s/%s", PLAN_HOME, name);
	if (buf_len(&text))
		add_file(s, s->agent, path, xstrdup(buf_cstr(&text)), 0644, false);
}

/* What the guest has in place of the value. */
static const char *placeholder_of(const struct spec_credential *c)
{
	for (size_t i = 0; i < c->n_injects; i++)
		if (c->injects[i].placeholder)
			return c->injects[i].placeholder;
	return PLAN_PLACEHOLDER;
}

static void set_placeholder(
	struct box_spec *s, const struct spec_credential *c, const char *from)
{
	_free_ char *what = xasprintf("env %s", c->env);

	if (!c->env[0] || c->phase == SPEC_INSTALL) /* install steps: fix_hook_env */
		return;
	plan_set_env(&s->env, c->env, placeholder_of(c));
	plan_set_origin(s, what, from);
}

void plan_add_credential(
	struct box_spec *s, const char *source, const struct kit_credential *c, bool required)
{
	struct spec_credential *to;

	add_credential(&s->net, source, c);
	to = &s->net.credentials[s->net.n_credentials - 1];
	to->required = required;
	set_placeholder(s, to, source);
}

int plan_add_kits(struct box_spec *s, const struct plan_request *req, struct err *err)
{
	const struct kit *kits = req->kits;
	size_t n = req->n_kits;
	_free_ const struct kit **order = plan_order(kits, n);

	for (size_t i = 0; i < n; i++)
		if (order[i]->kind == KIT_SANDBOX)
			plan_add_launch(s, order[i]);
	plan_add_image(s, req);
	plan_add_volumes(s, order, n);
	for (size_t i = 0; i < n; i++)
		if (add_kit(s, order[i], i, err) < 0)
			return -1;
	for (size_t i = 0; i < n; i++) {
		_free_ char *what = xasprintf("kit %s", order[i]->name);

		add_more_domains(&s->net, order[i]);
		if (order[i]->pin) /* what it was made of, whatever a tag will mean later */
			plan_set_origin(s, what, order[i]->pin);
	}
	/* Placeholders win over the variables of every kit. */
	for (size_t i = 0; i < s->net.n_credentials; i++) {
		_free_ char *from = xasprintf("kit %s", s->net.credentials[i].kit);

		set_placeholder(s, &s->net.credentials[i], from);
	}
	if (order[0]->schema != 3)
		add_instructions(s, order, n);
	return plan_add_capabilities(s, req, order, err);
}

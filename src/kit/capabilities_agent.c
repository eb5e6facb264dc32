/* SPDX-License-Identifier: Apache-2.0 */
/* schemaVersion "3": capabilities about the agent itself: how it is set up and started, what it
 * reads, how its sessions are driven. */
#include <string.h>

#include "base/mem.h"
#include "kit/blocks.h"
#include "kit/capabilities.h"
#include "kit/check.h"

#define JSON_BOOL    "{\"type\":\"boolean\"}"
#define JSON_COMMAND "{\"anyOf\":[{\"type\":\"string\"}," JSON_STRINGS "]}"

/* A string for sh -c, or an argument list. */
static void load_command_line(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	if (n->kind == YNODE_LIST)
		load_argv(l, n, base, f);
	else
		load_shell(l, n, base, f);
}

/* ---- lifecycle ---- */

static const struct field install_rows[] = {
	ROW(kit_step, "command", load_command_line, argv, FIELD_REQUIRED, NULL, NULL, JSON_COMMAND),
	ROW(kit_step, "user", load_string, user, 0, check_user),
	ROW(kit_step, "env", load_strv, env, 0, check_env_name),
	ROW(kit_step, "description", load_string, description),
};
static const struct shape install3_shape = SHAPE(kit_step, install_rows, NULL, finish_install_step);
static const struct field startup_rows[] = {
	ROW(kit_step, "command", load_command_line, argv, FIELD_REQUIRED, NULL, NULL, JSON_COMMAND),
	ROW(kit_step, "user", load_string, user, 0, check_user),
	ROW(kit_step, "env", load_strv, env, 0, check_env_name),
	ROW(kit_step, "background", load_bool, background),
	ROW(kit_step, "description", load_string, description),
};
static const struct shape startup3_shape = SHAPE(kit_step, startup_rows, NULL, finish_startup_step);

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
const struct shape lifecycle3_shape = SHAPE(kit, lifecycle_rows, NULL, finish_lifecycle);

/* ---- what the agent reads ---- */

static const char *check_context_file(const char *s)
{
	if (*s == '/') /* in the image, where publishing has put it */
		return check_guest_path(s);
	if (s[0] == '.' && s[1] == '/')
		s += 2;
	return *s && strcmp(s, "..") && strncmp(s, "../", 3) && !strstr(s, "/../") &&
			       !check_text(s) && strlen(s) < 1024
		       ? NULL
		       : "a path beside the descriptor";
}

struct context {
	char *directory, *filename, *content, *content_file;
};
static const struct field context_rows[] = {
	ROW(context, "directory", load_string, directory, 0, check_guest_path),
	ROW(context, "filename", load_string, filename, 0, check_filename),
	ROW(context, "content", load_string, content),
	ROW(context, "contentFile", load_string, content_file, 0, check_context_file),
};
const struct shape context3_shape = SHAPE(context, context_rows);

/* One body for a kit, and one file for each place where an agent looks. */
static void take_context(struct load *l, const struct ynode *n, struct kit *k, struct context *c)
{
	if (c->content || c->content_file) {
		if (k->instructions || k->instructions_file)
			load_error(l, n, "a second content in this kit");
		free(k->instructions);
		free(k->instructions_file);
		k->instructions = steal_ptr(&c->content);
		k->instructions_file = steal_ptr(&c->content_file);
	}
	for (size_t i = 0; c->filename && i < k->n_profiles; i++) {
		const char *other = k->profiles[i].directory;

		if (!c->directory && !other)
			load_error(l, n, "a second file without directory");
		else if (c->directory && other && strcmp(c->directory, other) == 0 &&
			 strcmp(c->filename, k->profiles[i].filename) == 0)
			load_error(l, n, "twice in this kit");
	}
	if (!c->filename || (k->kind == KIT_MIXIN && !c->directory))
		return;
	k->profiles = xrealloc(k->profiles, k->n_profiles + 1, sizeof(*k->profiles));
	k->profiles[k->n_profiles++] =
		(struct kit_profile){steal_ptr(&c->directory), steal_ptr(&c->filename)};
}

void add_context(struct load *l, const struct ynode *n, struct kit *k)
{
	const struct ynode *file = ynode_get(n, "contentFile");
	struct context c = {0};

	load_map(l, n, &c, &context3_shape);
	if (file && ynode_get(n, "content"))
		load_error_key(l, file, "next to content, only one of the two is allowed");
	else if (!file && !ynode_get(n, "content") && !ynode_get(n, "filename"))
		load_error(l, n, "content is missing, or contentFile");
	if (ynode_get(n, "directory") && !ynode_get(n, "filename"))
		load_error(l, n, "filename is missing, directory needs it");
	if (k->kind == KIT_MIXIN && ynode_get(n, "filename") && !ynode_get(n, "directory"))
		load_warn(l, ynode_get(n, "filename"),
			"ignored in a mixin without directory, the workload names the file");
	take_context(l, n, k, &c);
	free(c.directory);
	free(c.filename);
	free(c.content);
	free(c.content_file);
}

static void load_skills_mode(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	const char *s = load_scalar(l, n, "readonly or readwrite");

	if (s && strcmp(s, "readwrite") == 0)
		*FIELD_AT(base, f, bool) = true;
	else if (s && strcmp(s, "readonly") != 0)
		load_error(l, n, "expected readonly or readwrite");
}

static const char *check_skill_name(const char *s)
{
	return *s && *s != '.' && *s != '-' && *s != '_' && !check_filename(s)
		       ? NULL
		       : "a name such as review-pr";
}

#define JSON_SKILLS_MODE "{\"enum\":[\"readonly\",\"readwrite\"]}"
static const struct field skills_rows[] = {
	ROW(kit_skills, "path", load_string, path, FIELD_REQUIRED, check_guest_path),
	ROW(kit_skills, "mode", load_skills_mode, writable, 0, NULL, NULL, JSON_SKILLS_MODE),
};
const struct shape skills3_shape = SHAPE(kit_skills, skills_rows);
static const struct field skill_rows[] = {
	ROW(kit_skill, "path", load_string, path, FIELD_REQUIRED, check_guest_path),
	ROW(kit_skill, "name", load_string, name, 0, check_skill_name),
};
const struct shape skill3_shape = SHAPE(kit_skill, skill_rows);

void add_skills(struct load *l, const struct ynode *n, struct kit *k)
{
	k->skills = xrealloc(k->skills, k->n_skills + 1, sizeof(*k->skills));
	k->skills[k->n_skills] = (struct kit_skills){0};
	load_map(l, n, &k->skills[k->n_skills++], &skills3_shape);
}

void add_skill(struct load *l, const struct ynode *n, struct kit *k)
{
	struct kit_skill *s;

	k->bundled = xrealloc(k->bundled, k->n_bundled + 1, sizeof(*k->bundled));
	s = &k->bundled[k->n_bundled++];
	*s = (struct kit_skill){.optional = capability_optional(k)};
	load_map(l, n, s, &skill3_shape);
	if (s->path && !s->name && !ynode_get(n, "name"))
		s->name = xstrdup(strrchr(s->path, '/') + 1);
	if (s->name && check_skill_name(s->name))
		load_error(l, n, "name is missing: that of the directory is no name of a skill");
	for (size_t i = 0; s->name && i + 1 < k->n_bundled; i++)
		if (k->bundled[i].name && strcmp(k->bundled[i].name, s->name) == 0)
			load_error(l, n, "a second skill of this name");
}

/* ---- how it is driven ---- */

/* An argument list that must hold a placeholder. */
static void load_tail(struct load *l, const struct ynode *n, void *base, const struct field *f,
	const char *mark)
{
	struct kit_verb *v = FIELD_AT(base, f, struct kit_verb);
	struct field list = {f->key, load_strv};
	bool found = !mark;

	v->given = true;
	if (!load_is_list(l, n, "a list of strings"))
		return;
	load_strv(l, n, &v->tail, &list);
	for (size_t i = 0; i < n->n; i++)
		found = found || n->items[i]->kind == YNODE_BAD ||
			(n->items[i]->value && strstr(n->items[i]->value, mark));
	if (!found)
		load_error(l, n, "without %s, which stands for what the user asks for", mark);
}

static void load_prompt(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_tail(l, n, base, f, KIT_MARK_PROMPT);
}

static void load_resume(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_tail(l, n, base, f, KIT_MARK_SESSION);
}

static void load_verb(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_tail(l, n, base, f, NULL);
}

static void load_picker(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	load_verb(l, n, base, f);
	load_warn(l, n, "without effect: hutch run --resume ID begins a session that is chosen");
}

static void load_list_command(
	struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct kit_verb *v = FIELD_AT(base, f, struct kit_verb);
	struct field line = {f->key, load_command_line};

	v->given = true;
	load_command_line(l, n, &v->tail, &line);
}

static void finish_sessions(struct load *l, const struct ynode *n, void *entry)
{
	if (!n->n)
		load_error(l, n, "empty, expected at least one verb such as prompt");
}

#define VERB(set, key, fn, m, json) ROW(kit, key, fn, set.m, 0, NULL, NULL, json)
static const struct field sessions_rows[] = {
	VERB(sessions, "prompt", load_prompt, prompt, JSON_STRINGS),
	VERB(sessions, "resume", load_resume, resume, JSON_STRINGS),
	VERB(sessions, "continue", load_verb, last, JSON_STRINGS),
	VERB(sessions, "list", load_list_command, list, JSON_COMMAND),
};
const struct shape sessions3_shape = SHAPE(kit, sessions_rows, NULL, finish_sessions);
static const struct field interactive_rows[] = {
	VERB(terminal, "prompt", load_prompt, prompt, JSON_STRINGS),
	VERB(terminal, "resume", load_resume, resume, JSON_STRINGS),
	VERB(terminal, "continue", load_verb, last, JSON_STRINGS),
	VERB(terminal, "newSession", load_verb, fresh, JSON_STRINGS),
	VERB(terminal, "sessionPicker", load_picker, picker, JSON_STRINGS),
	VERB(terminal, "list", load_list_command, list, JSON_COMMAND),
};
const struct shape interactive3_shape = SHAPE(kit, interactive_rows, NULL, finish_sessions);

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
	ROW(kit_acp, "agent", load_string, agent, FIELD_REQUIRED, check_text),
	ROW(kit_acp, "command", load_command_line, command, FIELD_REQUIRED, NULL, NULL,
		JSON_COMMAND),
	CUSTOM_ROW("env", check_vars, JSON_VARS),
	CUSTOM_ROW("protocolVersion", check_version_number, "{\"type\":\"integer\"}"),
};
const struct shape acp3_shape = SHAPE(kit_acp, acp_rows);

void add_acp(struct load *l, const struct ynode *n, struct kit *k)
{
	k->acp = xrealloc(k->acp, k->n_acp + 1, sizeof(*k->acp));
	k->acp[k->n_acp] = (struct kit_acp){0};
	load_map(l, n, &k->acp[k->n_acp++], &acp3_shape);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* OAuth tokens as the command line sees them. */
#include "cli/tokens.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/paths.h"
#include "cli/cli.h"
#include "kit/oauth_file.h"
#include "kit/plan.h"
#include "secret/store.h"

/* A file that says nothing of when its tokens end: in a day, so that the agent asks in time. */
#define LIFETIME_S 86400

/* -1 without an error: nobody has logged in to anything. */
static int open_store(void)
{
	_free_ char *path = path_data("tokens", NULL);

	return path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
}

static bool exists(int store, const char *service)
{
	return store >= 0 && faccessat(store, service, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

bool tokens_exist(const char *service)
{
	_close_ int store = open_store();

	return exists(store, service);
}

/* What a record says besides the tokens. @ret_scope is owned by the caller. */
static void look(int store, const char *name, uint64_t *ret_expires_s, char **ret_scope)
{
	_secret_ struct secret *record = NULL;
	json_t *j = NULL;
	const char *scope;

	if (secret_store_get(store, name, &record, NULL) == 0 && record)
		j = json_loadb(secret_bytes(record), secret_len(record), 0, NULL);
	scope = json_string_value(json_object_get(j, "scope"));
	*ret_expires_s = (uint64_t)MAX(json_integer_value(json_object_get(j, "expires_at")), 0);
	*ret_scope = xstrdup(scope ? scope : "");
	json_decref(j);
}

/* ---- a new sandbox ---- */

static void drop_variable(struct box_spec *s, const char *name)
{
	size_t len = strlen(name), kept = 0;

	for (size_t i = 0; i < s->env.n; i++) {
		if (strncmp(s->env.v[i], name, len) == 0 && s->env.v[i][len] == '=')
			free(s->env.v[i]);
		else
			s->env.v[kept++] = s->env.v[i];
	}
	s->env.n = kept;
	if (s->env.v)
		s->env.v[kept] = NULL;
}

static void add_file(
	struct box_spec *s, const struct spec_credential *c, const struct spec_oauth *o, int store)
{
	struct oauth_file_values v = {o->access_sentinel, o->refresh_sentinel, 0, NULL};
	_free_ char *scope = NULL;
	uint64_t expires_s;

	look(store, c->service, &expires_s, &scope);
	v.expires_ms = (expires_s ? expires_s : (uint64_t)time(NULL) + LIFETIME_S) * 1000;
	v.scopes = scope;
	s->files = xrealloc(s->files, s->n_files + 1, sizeof(*s->files));
	s->files[s->n_files++] = (struct spec_file){.path = xstrdup(o->file),
		.content = oauth_file_fill(o->file_text, o->file_verbatim, &v),
		.kit = xstrdup(c->kit),
		.mode = 0600,
		.only_if_missing = true,
		.as_root = strncmp(o->file, PLAN_HOME "/", sizeof(PLAN_HOME)) != 0};
}

void tokens_settle(struct box_spec *s, bool (*has_key)(const char *service, void *arg), void *arg)
{
	_close_ int store = open_store();

	for (size_t i = 0; i < s->net.n_credentials; i++) {
		const struct spec_credential *c = &s->net.credentials[i];
		const struct spec_oauth *o = c->n_oauth ? c->oauth : NULL;

		if (!o || has_key(c->service, arg))
			continue;
		if (c->env[0])
			drop_variable(s, c->env);
		if (o->file && o->file_text && !o->passthrough && exists(store, c->service))
			add_file(s, c, o, store);
	}
}

/* ---- hutch secret ---- */

static void print_account(int store, const char *name)
{
	uint64_t expires_s, now = (uint64_t)time(NULL);
	_free_ char *scope = NULL, *line = NULL;
	struct stat st;
	long age_s = 0;

	look(store, name, &expires_s, &scope);
	if (fstatat(store, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		age_s = MAX((long)now - (long)st.st_mtim.tv_sec, 0l);
	line = xasprintf("%-20s %-16s %4ldm  OAuth account%s%.200s\n", name, "(all)", age_s / 60,
		*scope ? ": " : "", scope);
	cli_print(stdout, line);
}

int tokens_list(json_t *list, struct err *err)
{
	_close_ int store = open_store();
	struct strv names = {0};
	int result = store < 0 ? 0 : secret_store_list(store, &names, err);

	for (size_t i = 0; i < names.n && result == 0; i++) {
		uint64_t expires_s;
		_free_ char *scope = NULL;

		if (!list) {
			print_account(store, names.v[i]);
			continue;
		}
		look(store, names.v[i], &expires_s, &scope);
		json_array_append_new(
			list, json_pack("{s:s, s:n, s:s, s:I, s:s}", "service", names.v[i],
				      "sandbox", "source", "oauth", "expires_at",
				      (json_int_t)expires_s, "scope", scope));
	}
	strv_done(&names);
	return result;
}

int tokens_remove(const char *service, bool *ret_existed, struct err *err)
{
	_close_ int store = open_store();
	size_t len = strlen(service);
	struct strv names = {0};
	int result = store < 0 ? 0 : secret_store_list(store, &names, err);

	*ret_existed = false;
	for (size_t i = 0; i < names.n && result == 0; i++) {
		const char *rest = names.v[i] + len;

		if (strncmp(names.v[i], service, len) != 0)
			continue;
		if (*rest == '\0' ||
			(*rest == '.' && rest[1] && !rest[1 + strspn(rest + 1, "0123456789")]))
			result = secret_store_remove(store, names.v[i], ret_existed, err);
	}
	strv_done(&names);
	return result;
}

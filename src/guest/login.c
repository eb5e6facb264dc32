/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox's environment for what is not started by us: login shells and sudo. */
#include "guest/init.h"

#include <string.h>
#include <unistd.h>

static size_t name_len(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");

	return n && !(s[0] >= '0' && s[0] <= '9') && s[n] == '=' ? n : 0;
}

void env_set(struct strv *env, const char *assignment)
{
	const char *eq = strchr(assignment, '=');
	size_t len = eq ? (size_t)(eq - assignment) + 1 : 0;

	if (len < 2)
		return;
	for (size_t i = 0; i < env->n; i++) {
		if (strncmp(env->v[i], assignment, len) == 0) {
			free(env->v[i]);
			env->v[i] = xstrdup(assignment);
			return;
		}
	}
	strv_add(env, assignment);
}

const char *env_get(const struct strv *env, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < env->n; i++)
		if (strncmp(env->v[i], name, len) == 0 && env->v[i][len] == '=')
			return env->v[i] + len + 1;
	return NULL;
}

/* 'value' for a POSIX shell. */
static void put_quoted(struct buf *b, const char *value)
{
	buf_puts(b, "'");
	for (const char *c = value; *c; c++) {
		if (*c == '\'')
			buf_puts(b, "'\\''");
		else
			buf_put(b, c, 1);
	}
	buf_puts(b, "'");
}

int login_files(const char *root, const struct strv *env, struct err *err)
{
	_free_ char *profile = xasprintf("%s/etc/profile.d/hutch.sh", root);
	_free_ char *sudoers = xasprintf("%s/etc/sudoers.d", root);
	_free_ char *keep = xasprintf("%s/hutch-env", sudoers);
	_buf_ struct buf sh, sudo;

	buf_init(&sh, 1u << 20);
	buf_init(&sudo, 1u << 20);
	for (size_t i = 0; i < env->n; i++) {
		size_t n = name_len(env->v[i]);

		if (!n)
			continue;
		buf_printf(&sh, "export %.*s=", (int)n, env->v[i]);
		put_quoted(&sh, env->v[i] + n + 1);
		buf_puts(&sh, "\n");
		if (strncmp(env->v[i], "PATH=", 5) != 0)
			buf_printf(&sudo, "Defaults env_keep += \"%.*s\"\n", (int)n, env->v[i]);
	}
	if (sh.failed || sudo.failed)
		return err_set(err, ERR_USER, "environment too large");
	if (dirs_make_parent(profile, 0, 0, err) < 0 ||
		file_put(profile, buf_head(&sh), buf_len(&sh), 0644, err) < 0)
		return -1;
	if (access(sudoers, F_OK) < 0)
		return 0;
	return file_put(keep, buf_head(&sudo), buf_len(&sudo), 0440, err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Where Hutch keeps things on the host. */
#include "base/paths.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"

static char *xdg_name(const char *var, const char *fallback, const char *sub)
{
	const char *base = getenv(var), *home = getenv("HOME");

	if (base && base[0] == '/')
		return xasprintf("%s/hutch%s%s", base, *sub ? "/" : "", sub);
	if (!home || home[0] != '/') {
		struct passwd *pw = getpwuid(geteuid());

		home = pw ? pw->pw_dir : "/";
	}
	return xasprintf("%s/%s/hutch%s%s", home, fallback, *sub ? "/" : "", sub);
}

static char *runtime_name(void)
{
	const char *base = getenv("XDG_RUNTIME_DIR");

	return base && base[0] == '/' ? xasprintf("%s/hutch", base)
				      : xasprintf("/tmp/hutch-%u", (unsigned)geteuid());
}

void path_own(struct strv *ret)
{
	strv_take(ret, xdg_name("XDG_DATA_HOME", ".local/share", ""));
	strv_take(ret, xdg_name("XDG_STATE_HOME", ".local/state", ""));
	strv_take(ret, xdg_name("XDG_CONFIG_HOME", ".config", ""));
	strv_take(ret, runtime_name());
}

static char *xdg(const char *var, const char *fallback, const char *sub, struct err *err)
{
	const char *base = getenv(var);
	_free_ char *path = xdg_name(var, fallback, sub);

	if (fs_mkdirs(path, 0700, err) < 0) {
		if (base && base[0] == '/')
			err_hint(err, "%s has to name a directory that you can write to", var);
		else
			err_hint(err, "HOME has to be a directory that you can write to, or set %s",
				var);
		return NULL;
	}
	return steal_ptr(&path);
}

char *path_data(const char *sub, struct err *err)
{
	return xdg("XDG_DATA_HOME", ".local/share", sub, err);
}

char *path_state(const char *sub, struct err *err)
{
	return xdg("XDG_STATE_HOME", ".local/state", sub, err);
}

char *path_config(const char *sub, struct err *err)
{
	return xdg("XDG_CONFIG_HOME", ".config", sub, err);
}

char *path_runtime(struct err *err)
{
	const char *base = getenv("XDG_RUNTIME_DIR");
	_free_ char *path = runtime_name();
	struct stat st;

	if (base && base[0] == '/') {
		if (fs_mkdirs(path, 0700, err) < 0) {
			err_hint(err, "XDG_RUNTIME_DIR has to name a directory of yours; unset it for "
				      "one below /tmp");
			return NULL;
		}
	} else {
		if (mkdir(path, 0700) < 0 && errno != EEXIST) {
			err_errno(err, "%s", path);
			return NULL;
		}
	}
	/* Below /tmp somebody else may have been first. */
	if (lstat(path, &st) < 0 || !S_ISDIR(st.st_mode) || st.st_uid != geteuid() ||
		(st.st_mode & 077)) {
		err_set(err, ERR_ENV, "%s: not a private directory of this user", path);
		err_hint(err, "remove it, or set XDG_RUNTIME_DIR");
		return NULL;
	}
	return steal_ptr(&path);
}

static char *binary_dir(void)
{
	char exe[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash;

	if (n <= 0)
		return xstrdup(".");
	exe[n] = '\0';
	slash = strrchr(exe, '/');
	if (slash)
		*slash = '\0';
	return xstrdup(exe);
}

char *path_program(const char *name)
{
	_free_ char *dir = binary_dir();
	char *path = fs_join(dir, name);

	if (!fs_exists(path)) {
		free(path);
		path = xasprintf("%s/../libexec/hutch/%s", dir, name);
	}
	return path;
}

char *path_find(const char *name)
{
	_free_ char *dirs = xstrdup(getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
	char *save = NULL;

	for (char *d = strtok_r(dirs, ":", &save); d; d = strtok_r(NULL, ":", &save)) {
		_free_ char *path = fs_join(d, name);

		if (access(path, X_OK) == 0)
			return steal_ptr(&path);
	}
	return NULL;
}

char *path_dir(const char *path)
{
	char *real = realpath(path, NULL);
	char *slash;

	if (!real)
		real = xstrdup(path);
	slash = strrchr(real, '/');
	if (slash)
		slash[slash == real] = '\0';
	return real;
}

char *path_share(const char *sub)
{
	const char *env = getenv("HUTCH_SHARE");
	_free_ char *dir = binary_dir();
	char *path;

	if (env && *env)
		return fs_join(env, sub);
	path = xasprintf("%s/../share/hutch/%s", dir, sub); /* installed: prefix/bin/hutch */
	if (!fs_exists(path)) {
		free(path);
		path = xasprintf("%s/../%s", dir, sub); /* build tree inside the checkout */
	}
	return path;
}

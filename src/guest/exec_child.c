/* SPDX-License-Identifier: Apache-2.0 */
/* EXEC, the child's side: from a fork of PID 1 to the command. */
#include "guest/server_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest/init.h"

#define TTY_GROUP  5
#define FILES_SOFT 1024 /* what programs expect by default, select() among them */

static void die(const struct exec_io *io, int errnum, const char *what) __attribute__((noreturn));
static void die(const struct exec_io *io, int errnum, const char *what)
{
	struct exec_report r = {.errnum = errnum};

	snprintf(r.text, sizeof(r.text), "%s", what);
	/* Smaller than PIPE_BUF: arrives whole. */
	if (write(io->report, &r, sizeof(r)) < 0)
		_exit(126);
	_exit(127);
}

static void die_errno(const struct exec_io *io, const char *what) __attribute__((noreturn));
static void die_errno(const struct exec_io *io, const char *what)
{
	int errnum = errno;
	char text[240];

	snprintf(text, sizeof(text), "%.180s: %s", what, strerror(errnum));
	die(io, errnum, text);
}

/* Standard streams, owned by the user so that /dev/stdout can be opened anew by name. */
static void set_stdio(const struct exec_io *io, const struct user *u)
{
	int fds[3] = {io->in, io->out, io->errout};

	if (io->master >= 0) {
		int tty = ioctl(io->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);

		if (tty < 0 || ioctl(tty, TIOCSCTTY, 0) < 0)
			die_errno(io, "terminal");
		if (fchown(tty, u->uid, TTY_GROUP) == 0)
			(void)fchmod(tty, 0620);
		fds[0] = fds[1] = fds[2] = tty;
	}
	for (int i = 0; i < 3; i++) {
		if (io->master < 0 && fchown(fds[i], u->uid, u->gid) < 0 && errno != EPERM)
			die_errno(io, "standard streams");
		if (dup2(fds[i], i) < 0)
			die_errno(io, "standard streams");
	}
}

static void become(const struct exec_io *io, const struct user *u)
{
	if (geteuid() != 0) {
		if (u->uid == geteuid())
			return;
		die(io, EPERM, "not running as root: cannot change user");
	}
	if (setgroups(u->n_groups, u->groups) < 0 || setgid(u->gid) < 0 || setuid(u->uid) < 0)
		die_errno(io, "change user");
}

static void set_files_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = MIN((rlim_t)FILES_SOFT, r.rlim_max);
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

/* One of the sandbox's own variables, if there is one of this name. */
static void keep_env(struct strv *env, const struct server_config *config, const char *name)
{
	const char *value = env_get(config->env, name);
	_free_ char *pair = value ? xasprintf("%s=%s", name, value) : NULL;

	if (pair)
		env_set(env, pair);
}

/* What a command is left that may see nothing but what it names. */
static void make_bounded_env(struct strv *env, const struct server_config *config,
	const struct agent_exec *x, const struct user *u)
{
	strv_addf(env, "HOME=%s", u->home);
	strv_add(env, "PATH=" INIT_PATH);
	keep_env(env, config, "HOME");
	keep_env(env, config, "PATH");
	for (size_t i = 0; i < x->env.n; i++) {
		if (strchr(x->env.v[i], '='))
			env_set(env, x->env.v[i]);
		else
			keep_env(env, config, x->env.v[i]);
	}
}

/* Defaults, then the sandbox's own variables, then the request's. */
static void make_env(struct strv *env, const struct server_config *config,
	const struct agent_exec *x, const struct user *u)
{
	if (x->flags & AGENT_EXEC_BOUNDED) {
		make_bounded_env(env, config, x, u);
		return;
	}
	strv_addf(env, "HOME=%s", u->home);
	strv_addf(env, "USER=%s", u->name);
	strv_addf(env, "LOGNAME=%s", u->name);
	strv_addf(env, "SHELL=%s", u->shell);
	if (u->uid)
		strv_addf(env, "PATH=%s/.local/bin:" INIT_PATH, u->home);
	else
		strv_add(env, "PATH=" INIT_PATH);
	strv_add(env, "LANG=C.UTF-8");
	if (x->flags & AGENT_EXEC_TTY)
		strv_add(env, "TERM=xterm");
	for (size_t i = 0; i < config->env->n; i++)
		env_set(env, config->env->v[i]);
	for (size_t i = 0; i < x->env.n; i++)
		env_set(env, x->env.v[i]);
}

static void set_cwd(const struct exec_io *io, const struct agent_exec *x, struct strv *env,
	const struct user *u)
{
	const char *home = env_get(env, "HOME");

	if (x->cwd[0]) {
		if (chdir(x->cwd) < 0) {
			char text[240];
			int errnum = errno;

			/* ENOENT would claim that the command does not exist. */
			snprintf(text, sizeof(text), "working directory %.150s: %s", x->cwd,
				strerror(errnum));
			die(io, errnum == ENOENT ? ENOTDIR : errnum, text);
		}
		return;
	}
	if (chdir(home ? home : u->home) < 0 && chdir("/") < 0)
		die_errno(io, "/");
}

/* execve, with a script that has no interpreter line given to the shell, as every shell does. */
static void try_exec(const char *path, const struct strv *argv, char **envp)
{
	struct strv sh = {0};

	execve(path, argv->v, envp);
	if (errno != ENOEXEC)
		return;
	strv_add(&sh, "/bin/sh");
	strv_add(&sh, path);
	for (size_t i = 1; i < argv->n; i++)
		strv_add(&sh, argv->v[i]);
	execve(sh.v[0], sh.v, envp);
	strv_done(&sh);
}

/* Search like execvp but in the command's own PATH; returns with errno: EACCES when something was
 * found that cannot be executed, ENOENT when nothing was. */
static void search_exec(const struct strv *argv, const struct strv *env)
{
	const char *at = env_get(env, "PATH");
	const char *name = argv->v[0];
	int errnum = ENOENT;

	if (strchr(name, '/')) {
		try_exec(name, argv, env->v);
		return;
	}
	while (name[0] && at && *at) {
		size_t len = strcspn(at, ":");
		char path[PATH_MAX];
		int n = snprintf(
			path, sizeof(path), "%.*s%s%s", (int)len, at, len ? "/" : "./", name);

		if (n > 0 && (size_t)n < sizeof(path)) {
			try_exec(path, argv, env->v);
			if (errno != ENOENT && errno != ENOTDIR)
				errnum = errno;
			if (errnum != ENOENT && errnum != EACCES)
				break;
		}
		at += len;
		at += *at == ':';
	}
	errno = errnum;
}

void exec_child(
	const struct server_config *config, const struct agent_exec *x, const struct exec_io *given)
{
	struct exec_io only = *given, *io = &only;
	struct strv env = {0};
	struct user u = {0};
	struct err err = {0};
	int errnum;

	child_reset();
	setsid();
	umask(022);
	if (user_find(config->root, x->user, &u, &err) < 0)
		die(io, err.errnum && err.errnum != ENOENT ? err.errnum : EINVAL, err.msg);
	set_stdio(io, &u);
	io->report = child_keep_fd(io->report);
	if (io->report < 0)
		_exit(126); /* cannot happen: the table has room for 3 */
	set_files_limit();
	make_env(&env, config, x, &u);
	become(io, &u);
	set_cwd(io, x, &env, &u);
	search_exec(&x->argv, &env);
	errnum = errno;
	if (errnum == ENOENT && !strchr(x->argv.v[0], '/')) {
		char text[240];

		snprintf(text, sizeof(text), "%.180s: command not found", x->argv.v[0]);
		die(io, errnum, text);
	}
	errno = errnum;
	die_errno(io, x->argv.v[0]);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Logins at registries.
 *
 * They are in ~/.docker/config.json itself or kept by a program that it names
 * (docker-credential-NAME, which is the user's own and runs with the user's rights). That gets the
 * registry on its standard input and says JSON. It is found in PATH, run without a shell, in a
 * process group of its own, and has HELPER_MS and LOGIN_ANSWER_MAX bytes. */
#include "image/login.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/child.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "oci/ref.h"

#define CONFIG_MAX (1u << 20)
#define HELPER_MS  30000

/* ---- programs ---- */

static bool name_valid(const char *name)
{
	size_t len = strlen(name);

	return len && len <= 64 && *name != '.' && *name != '-' &&
	       strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
		       len;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* All that comes until the end. -1: too much, or too late. */
static int read_answer(int fd, struct buf *out)
{
	int64_t end = now_ms() + HELPER_MS;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int64_t left = end - now_ms();
		ssize_t n;

		if (left <= 0)
			return -1;
		if (poll(&p, 1, (int)left) <= 0)
			continue;
		n = buf_read(out, fd, LOGIN_ANSWER_MAX);
		if (n == 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -1;
	}
}

/* Its standard output into @out: the status, or -1. */
static int run_helper(const char *program, const char *server, struct buf *out, struct err *err)
{
	_close_ int in = memfd_create("server", MFD_CLOEXEC), rd = -1, wr = -1;
	struct child child;
	int pipefd[2], result;

	if (in < 0 || fd_write_all(in, server, strlen(server)) < 0 || lseek(in, 0, SEEK_SET) < 0 ||
		pipe2(pipefd, O_CLOEXEC) < 0)
		return err_errno(err, "%s", program);
	rd = pipefd[0];
	wr = pipefd[1];
	if (child_spawn(&(struct child_spec){.path = program,
				.argv = ARGV(program, "get"),
				.in = in,
				.out = wr,
				.errout = CHILD_INHERIT},
		    &child, err) < 0)
		return -1;
	close_and_reset(&wr);
	result = read_answer(rd, out);
	if (result < 0) {
		kill(-child.pid, SIGKILL); /* with what it has started */
		child_wait(&child);
		return err_set(
			err, ERR_ENV, "not done within %d s, or says too much", HELPER_MS / 1000);
	}
	return child_wait(&child);
}

static void ask_helper(const char *name, const char *server, struct login *ret)
{
	_free_ char *file = NULL, *program = NULL;
	struct buf out = {.max = LOGIN_ANSWER_MAX};
	struct err err = {0};
	char safe[200];
	int status;

	if (!name_valid(name)) {
		ret->lacks = xasprintf("docker's config.json: credentials helper %s: not a name",
			log_safe(safe, sizeof(safe), name, strlen(name)));
		return;
	}
	file = xasprintf("docker-credential-%s", name);
	program = path_find(file);
	if (!program || *program != '/') {
		ret->lacks = xasprintf("%s, which keeps this login, is not installed", file);
		return;
	}
	status = run_helper(program, server, &out, &err);
	if (status == 0 && login_parse(buf_cstr(&out), ret) == 0)
		goto out;
	/* "credentials not found in native keychain", as all of them say */
	if (status > 0 && strstr(buf_cstr(&out), "credentials not found"))
		goto out;
	if (status > 0)
		snprintf(err.msg, sizeof(err.msg), "%s",
			log_safe(
				safe, sizeof(safe), buf_head(&out), strcspn(buf_cstr(&out), "\n")));
	ret->lacks = xasprintf(
		"%s: %s", file, status == 0 ? "its answer cannot be understood" : err.msg);
out:
	buf_wipe(&out);
}

/* ---- config.json ---- */

static bool read_config(struct buf *ret)
{
	const char *dir = getenv("DOCKER_CONFIG"), *home = getenv("HOME");
	_free_ char *path = dir && *dir ? fs_join(dir, "config.json")
					: xasprintf("%s/.docker/config.json", home ? home : "");

	return fs_exists(path) && fs_read_file(AT_FDCWD, path, ret, NULL) == 0;
}

void login_find(const char *host, struct login *ret)
{
	struct buf text = {.max = CONFIG_MAX};
	_free_ char *helper = NULL;
	struct login noted = {0};

	*ret = (struct login){0};
	if (read_config(&text))
		helper = login_parse_config(buf_cstr(&text), host, &noted);
	buf_wipe(&text);
	if (helper)
		ask_helper(helper, strcmp(host, OCI_HUB) == 0 ? LOGIN_HUB_URL : host, ret);
	if (!ret->auth && !ret->token) {
		ret->auth = steal_ptr(&noted.auth);
		ret->token = steal_ptr(&noted.token);
	}
	login_done(&noted);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Our own programs for archives, registries and signatures. */
#include "remote/tools.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/child.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/paths.h"
#include "remote/login.h"

#define OUTPUT_MAX 8192
#define DOCKER_HUB "docker.io"

/* Run one of our programs; its output or, with @err, its last words. */
static int run(const struct child_spec *spec, char **ret_out, struct err *err)
{
	_free_ char *out = NULL;
	char text[64];
	int status = child_run(spec, &out, OUTPUT_MAX, err);
	size_t len, line;

	if (status < 0)
		return -1;
	if (status == 0) {
		*ret_out = steal_ptr(&out);
		return 0;
	}
	len = strlen(out);
	while (len && out[len - 1] == '\n')
		out[--len] = '\0';
	line = strcspn(out, "\n");
	if (!len || !WIFEXITED(status))
		return err_set(err, ERR_BUG, "%s: %s", spec->argv[0],
			child_status_text(status, text, sizeof(text)));
	err_set(err, ERR_USER, "%.*s", (int)line, out);
	if (out[line])
		err_hint(err, "%s", out + line + 1);
	return -1;
}

/* @message as a file to read; -1 with @err. */
static int as_file(const void *message, size_t len, struct err *err)
{
	_close_ int fd = memfd_create("input", MFD_CLOEXEC);

	if (fd < 0 || fd_write_all(fd, message, len) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return err_errno(err, "memfd");
	return steal_fd(&fd);
}

static int archive(const char *verb, const char *kind, int from, int to, struct err *err)
{
	_free_ char *path = path_program("hutch-archive"), *out = NULL;

	return run(&(struct child_spec){.path = path,
			   .argv = ARGV("hutch-archive", verb, kind),
			   .in = CHILD_NULL,
			   .fds = (const int[]){from, to},
			   .nfds = 2},
		&out, err);
}

int tool_extract(const char *kind, int fd, int to, struct err *err)
{
	return archive("extract", kind, fd, to, err);
}

int tool_pack(const char *kind, int dirfd, int to, struct err *err)
{
	return archive("pack", kind, dirfd, to, err);
}

int tool_sign(const char *verb, const char *form, const void *message, size_t len, const int *fds,
	size_t nfds, char **ret_out, struct err *err)
{
	_free_ char *path = path_program("hutch-sign");
	_close_ int in = as_file(message, len, err);

	if (in < 0)
		return -1;
	return run(&(struct child_spec){.path = path,
			   .argv = ARGV("hutch-sign", verb, form),
			   .in = in,
			   .fds = fds,
			   .nfds = nfds},
		ret_out, err);
}

/* ---- registries ---- */

int tool_registry(const char *op, const struct ref *r, const char *reference, int dirfd,
	json_t *annotations, char **ret_digest, struct err *err)
{
	_free_ char *path = path_program("hutch-fetch"), *out = NULL, *text = NULL, *lacks = NULL;
	bool hub = strcmp(r->host, DOCKER_HUB) == 0;
	_close_ int in = -1;
	struct login login;
	const char *digest;
	int result;
	json_t *j;

	login_find(r->host, &login);
	j = json_pack("{s:s, s:s, s:s, s:s, s:s*, s:s*, s:o*}", "op", op, "host",
		hub ? "registry-1.docker.io" : r->host, "repo", r->repo, "reference", reference,
		"auth", login.auth, "token", login.token, "annotations", annotations);
	lacks = steal_ptr(&login.lacks);
	login_done(&login);
	text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	if (!text)
		return err_set(err, ERR_BUG, "a request that cannot be encoded");
	in = as_file(text, strlen(text), err);
	explicit_bzero(text, strlen(text));
	if (in < 0)
		return -1;
	if (run(&(struct child_spec){.path = path,
			.argv = ARGV("hutch-fetch"),
			.in = in,
			.fds = &dirfd,
			.nfds = 1},
		    &out, err) < 0)
		return lacks ? err_hint(err, "%s", lacks) : -1;
	/* The last line: libraries may have said something before. */
	j = json_loads(strrchr(out, '{') ? strrchr(out, '{') : "", 0, NULL);
	digest = json_string_value(json_object_get(j, "digest"));
	result = digest ? 0 : err_set(err, ERR_BUG, "hutch-fetch: no answer");
	if (digest)
		*ret_digest = xstrdup(digest);
	json_decref(j);
	return result;
}

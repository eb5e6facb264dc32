/* SPDX-License-Identifier: Apache-2.0 */
/* Our own programs for archives, registries and signatures. */
#include "remote/tools.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <jansson.h>

#include "base/child.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/paths.h"
#include "image/registry.h"

#define OUTPUT_MAX 8192

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
	json_t *answer;
	const char *digest;

	if (registry_ask(&(struct registry_ask){.op = op,
				 .host = r->host,
				 .repo = r->repo,
				 .reference = reference,
				 .dirfd = dirfd,
				 .annotations = annotations},
		    &answer, err) < 0)
		return -1;
	digest = json_string_value(json_object_get(answer, "digest"));
	if (digest)
		*ret_digest = xstrdup(digest);
	json_decref(answer);
	return digest ? 0 : err_set(err, ERR_BUG, "hutch-fetch: no answer");
}

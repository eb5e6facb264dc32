/* SPDX-License-Identifier: Apache-2.0 */
/* Registries, through hutch-fetch. */
#include "image/registry.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/paths.h"
#include "image/internal.h"
#include "image/login.h"
#include "oci/ref.h"

/* The request as a file to read; -1 with @err. */
static int request_file(const struct registry_ask *q, const struct login *login, struct err *err)
{
	_free_ char *text = NULL;
	bool hub = strcmp(q->host, OCI_HUB) == 0;
	json_t *j = json_pack("{s:s, s:s, s:s, s:s, s:s*, s:s*, s:o*}", "op", q->op, "host",
		hub ? "registry-1." OCI_HUB : q->host, "repo", q->repo, "reference", q->reference,
		"auth", login->auth, "token", login->token, "annotations", q->annotations);
	_close_ int fd = memfd_create("request", MFD_CLOEXEC);
	int result;

	text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	if (!text)
		return err_set(err, ERR_BUG, "a request that cannot be encoded");
	result = fd < 0 ? -1 : fd_write_all(fd, text, strlen(text));
	explicit_bzero(text, strlen(text));
	if (result < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return err_errno(err, "memfd");
	return steal_fd(&fd);
}

int registry_ask(const struct registry_ask *q, json_t **ret_answer, struct err *err)
{
	_free_ char *path = path_program("hutch-fetch"), *lacks = NULL;
	_close_ int in = -1;
	struct login login;
	struct words words = {.progress = q->progress, .arg = q->arg, .what = q->what};
	json_t *answer;
	int result;

	login_find(q->host, &login);
	in = request_file(q, &login, err);
	lacks = steal_ptr(&login.lacks);
	login_done(&login);
	if (in < 0)
		return -1;
	result = words_run(&(struct job){.what = "hutch-fetch",
				   .argv = ARGV(path),
				   .in = in,
				   .out = -1,
				   .fds = &q->dirfd,
				   .nfds = 1},
		&words, NULL, err);
	answer = result == 0 && words.answer ? json_loads(words.answer, 0, NULL) : NULL;
	words_done(&words);
	if (result < 0)
		return lacks ? err_hint(err, "%s", lacks) : -1;
	if (!json_is_object(answer)) {
		json_decref(answer);
		return err_set(err, ERR_BUG, "hutch-fetch: no answer");
	}
	*ret_answer = answer;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* tar → squashfs, by sqfstar: what reads the stream that somebody else writes. LZ4, because an
 * emulated CPU decompresses it.
 *
 * -no-duplicates: while it looks for equal files, sqfstar 4.5.1 writes broken blocks now and then
 * (LZ4: 11 of 83 runs over the files of one package; none of 90 with the option). It costs a little
 * size. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/internal.h"

int squash_start(const char *out, int tar, struct squash *ret, struct err *err)
{
	char **argv = ARGV("sqfstar", "-quiet", "-no-progress", "-comp", "lz4", "-root-mode", "755",
		"-root-uid", "0", "-root-gid", "0", "-no-duplicates", "-exit-on-error", out);
	int pipefd[2], result;

	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return err_errno(err, "pipe");
	/* Nobody reads before the end: what does not fit is lost instead of stopping it. */
	fd_set_nonblock(pipefd[1], true);
	result = child_spawn(&(struct child_spec){.path = argv[0],
				     .argv = argv,
				     .in = tar,
				     .out = pipefd[1],
				     .errout = pipefd[1]},
		&ret->child, err);
	close(pipefd[1]);
	if (result < 0) {
		close(pipefd[0]);
		if (err->errnum == ENOENT) {
			err_set(err, ERR_ENV, "sqfstar is not installed");
			err_hint(err, "apt install squashfs-tools");
		}
		return -1;
	}
	ret->errors = pipefd[0];
	return 0;
}

int squash_end(struct squash *s, const char *what, struct err *err)
{
	_close_ int fd = s->errors;
	char text[512] = "", last[600];
	size_t len = 0;
	ssize_t n;
	int status;

	/* All of it: the reason may come after a warning, in a write of its own. */
	while (len < sizeof(text) - 1 && (n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	status = child_wait(&s->child);
	if (status == 0)
		return 0;
	text[len] = '\0';
	if (strstr(text, "No space") || strstr(text, "Write failed")) {
		errno = ENOSPC;
		return err_errno(err, "%s", what);
	}
	snprintf(last, sizeof(last), "%s", text);
	last[strcspn(last, "\n")] = '\0';
	return err_set(err, ERR_ENV, "%s: sqfstar failed: %s", what, last);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The process that holds a sandbox's lock: its note in there has its process id and its socket. */
#include "cli/holder.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/mem.h"
#include "cli/boxes.h"

#define NOTE_MAX 4096

bool holder_exists(const char *name)
{
	_free_ char *path = boxes_path(name, "lock");
	_close_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

/* "PID PATH\n", whole; an older note is no harm: nobody listens there, and it holds no lock. */
static bool read_note(const char *name, pid_t *ret_pid, char **ret_path)
{
	_free_ char *path = boxes_path(name, "lock");
	_buf_ struct buf text;
	char *line, *blank, *nl;

	buf_init(&text, NOTE_MAX);
	if (fs_read_file(AT_FDCWD, path, &text, NULL) < 0)
		return false;
	line = buf_cstr(&text);
	blank = strchr(line, ' ');
	nl = strchr(line, '\n');
	if (!blank || !nl || blank[1] != '/' || nl < blank)
		return false;
	*nl = '\0';
	*ret_pid = (pid_t)strtol(line, NULL, 10);
	*ret_path = xstrdup(blank + 1);
	return *ret_pid > 0;
}

char *holder_socket(const char *name)
{
	char *path = NULL;
	pid_t pid;

	return read_note(name, &pid, &path) ? path : NULL;
}

/* Process ids are used again, and those of a container are others: look who it is. */
static bool is_supervisor(pid_t pid, const char *name)
{
	static const char program[] = "hutch-box"; /* with the NUL that ends an argument */
	_free_ char *path = xasprintf("/proc/%d/cmdline", (int)pid);
	_buf_ struct buf text;

	buf_init(&text, NOTE_MAX);
	return fs_read_file(AT_FDCWD, path, &text, NULL) == 0 &&
	       buf_len(&text) == sizeof(program) + strlen(name) + 1 &&
	       memcmp(buf_head(&text), program, sizeof(program)) == 0 &&
	       strcmp(buf_cstr(&text) + sizeof(program), name) == 0;
}

int holder_kill(const char *name, struct err *err)
{
	_free_ char *path = NULL;
	_close_ int fd = -1;
	pid_t pid = 0;

	if (read_note(name, &pid, &path))
		fd = (int)syscall(SYS_pidfd_open, pid, 0);
	/* Behind the descriptor it can no longer become somebody else. */
	if (fd < 0 || !is_supervisor(pid, name) ||
		syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0)
		return err_set(err, ERR_ENV, "the supervisor of %s cannot be found", name);
	return 0;
}

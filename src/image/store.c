/* SPDX-License-Identifier: Apache-2.0 */
/* The image store: where things lie, how they get there whole, and the children that make them. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/paths.h"
#include "image/internal.h"

char *image_dir(const char *sub, struct err *err)
{
	return path_data(sub, err);
}

int file_digest(const char *path, char ret[static 65], struct err *err)
{
	char **argv = ARGV("sha256sum", "--", path);
	_free_ char *out = NULL;
	int status = child_run(
		&(struct child_spec){.path = argv[0], .argv = argv, .in = CHILD_NULL}, &out, 8192, err);

	if (status < 0)
		return -1;
	if (status != 0 || strlen(out) < 64 || strspn(out, "0123456789abcdef") != 64)
		return err_set(err, ERR_ENV, "%s: cannot be read", path);
	memcpy(ret, out, 64);
	ret[64] = '\0';
	return 0;
}

int file_publish(const char *tmp, const char *path, struct err *err)
{
	_close_ int fd = open(tmp, O_RDONLY | O_CLOEXEC);

	/* Also writes back what a child wrote, and reports a full disk that nobody noticed. */
	if (fd < 0 || syncfs(fd) < 0 || rename(tmp, path) < 0)
		return err_errno(err, "%s", path);
	return 0;
}

static int lock_open(const char *sub, const char *name, char **ret_path, struct err *err)
{
	_free_ char *dir = image_dir(sub, err);
	int fd;

	if (!dir)
		return -1;
	*ret_path = fs_join(dir, name);
	fd = open(*ret_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	return fd < 0 ? err_errno(err, "%s", *ret_path) : fd;
}

int store_lock(struct err *err)
{
	_free_ char *path = NULL;
	_close_ int fd = lock_open("", "build.lock", &path, err);

	if (fd < 0)
		return -1;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		err_set(err, ERR_USER, "another hutch image build is running");
		return err_hint(err, "wait for it to finish");
	}
	return steal_fd(&fd);
}

int images_lock(const char *name, int how, const char *waiting, image_progress_fn *progress,
	void *arg, struct err *err)
{
	_free_ char *path = NULL;
	_close_ int fd = lock_open("images", name, &path, err);

	if (fd < 0)
		return -1;
	if (flock(fd, how | LOCK_NB) == 0)
		return steal_fd(&fd);
	if (progress)
		progress(arg, waiting, -1);
	while (flock(fd, how) < 0)
		if (errno != EINTR)
			return err_errno(err, "%s", path);
	return steal_fd(&fd);
}

#define TAIL 300

/* The last line that says something, for the error message. */
static void remember(char tail[static TAIL], const char *line)
{
	if (strspn(line, " \t") == strlen(line) || strncmp(line, "I: ", 3) == 0)
		return;
	snprintf(tail, TAIL, "%s", line);
}

/* Ctrl-C reaches us alone, because a job has its own process group (mmdebstrap signals the whole
 * group when it fails): block it while a job runs and pass it on. */
static int watch_interrupts(sigset_t *old)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, old);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

/* Hand whole lines to the job. */
static void take_lines(const struct job *j, struct buf *b, char tail[static TAIL])
{
	char *nl;

	while (buf_len(b) && (nl = memchr(buf_head(b), '\n', buf_len(b)))) {
		const char *line = (const char *)buf_head(b);
		size_t len = (size_t)(nl - line) + 1;

		*nl = '\0';
		remember(tail, line);
		if (j->line)
			j->line(j->arg, line);
		buf_consume(b, len);
	}
	if (buf_room(b) == 0)
		buf_reset(b);
}

/* Read the job's output to its end. True: the user interrupted it. */
static bool follow(const struct job *j, const struct child *c, int rd, int sigfd, char tail[static TAIL])
{
	struct signalfd_siginfo si;
	bool interrupted = false;
	_buf_ struct buf b;

	buf_init(&b, 64 << 10);
	for (;;) {
		struct pollfd p[] = {{.fd = rd, .events = POLLIN}, {.fd = sigfd, .events = POLLIN}};

		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return interrupted;
		if (p[1].revents && read(sigfd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
			interrupted = true;
			kill(-c->pid, (int)si.ssi_signo);
		}
		if (p[0].revents && buf_read(&b, rd, 4096) <= 0)
			return interrupted;
		take_lines(j, &b, tail);
	}
}

int job_run(const struct job *j, struct err *err)
{
	_close_ int rd = -1, wr = -1, sigfd = -1;
	char tail[TAIL] = "", text[64];
	struct child c;
	int pipefd[2], status;
	bool interrupted;
	sigset_t old;

	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return err_errno(err, "pipe");
	rd = pipefd[0];
	wr = pipefd[1];
	if (child_spawn(&(struct child_spec){.path = j->argv[0],
				.argv = j->argv,
				.in = j->in,
				.out = j->out >= 0 ? j->out : wr,
				.errout = wr,
				.fds = j->fds,
				.nfds = j->nfds,
				.cwd = j->cwd},
		    &c, err) < 0)
		return err_wrap(err, "%s", j->what);
	close_and_reset(&wr);
	sigfd = watch_interrupts(&old);
	interrupted = follow(j, &c, rd, sigfd, tail);
	status = child_wait(&c);
	if (j->ret_status)
		*j->ret_status = status;
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (interrupted)
		return err_set(err, ERR_USER, "%s: interrupted", j->what);
	if (status == 0)
		return 0;
	if (strstr(tail, "No space left on device")) {
		errno = ENOSPC;
		return err_errno(err, "%s", j->what);
	}
	return err_set(err, ERR_ENV, "%s: %s failed (%s)%s%s", j->what, j->argv[0],
		child_status_text(status, text, sizeof(text)), tail[0] ? ": " : "", tail);
}

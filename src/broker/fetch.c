/* SPDX-License-Identifier: Apache-2.0 */
/* Getting one value from where it is.
 *
 * A program has as long as FETCH_MS and as much output as a value may have; it runs in a process
 * group of its own, which goes with it when it is ended early. What it prints goes straight into
 * locked memory. Its error output is the sandbox's box.log: the guest is told its exit status only.
 */
#include "broker/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/child.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/paths.h"

#define KEYRING_NONE 3 /* exit status of hutch-keyring: nothing there */

struct fetch {
	struct loop *loop;
	struct child child;
	struct loop_watch out, ended;
	struct loop_timer timer;
	int fd;               /* owned: its output */
	struct secret *value; /* owned: the output so far, @len of SECRET_VALUE_MAX bytes */
	size_t len;
	bool is_keyring;
	fetch_done_fn *done;
	void *arg;
};

/* ---- no time needed ---- */

static int read_env(const char *name, struct secret **ret, struct err *err)
{
	const char *text = getenv(name);

	*ret = text && *text ? secret_new(text, strlen(text), err) : NULL;
	return text && *text && !*ret ? -1 : 0;
}

static int read_file(const char *path, struct secret **ret, struct err *err)
{
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, "its file cannot be read");
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_USER, "its file is not a regular file");
	*ret = secret_read(fd, err);
	return *ret ? 0 : err_wrap(err, "its file");
}

int fetch_now(const struct source *s, struct secret **ret, struct err *err)
{
	return s->kind == SOURCE_ENV ? read_env(s->arg, ret, err) : read_file(s->arg, ret, err);
}

/* ---- programs ---- */

static void fetch_free(struct fetch *f)
{
	loop_timer_stop(f->loop, &f->timer);
	loop_del(f->loop, &f->out);
	loop_del(f->loop, &f->ended);
	close_and_reset(&f->fd);
	secret_free(f->value);
	free(f);
}

/* The program and what it has started. */
static void kill_group(struct fetch *f)
{
	if (f->child.pid <= 0)
		return;
	kill(-f->child.pid, SIGKILL);
	child_kill(&f->child, SIGKILL);
	child_wait(&f->child);
}

void fetch_cancel(struct fetch *f)
{
	if (!f)
		return;
	kill_group(f);
	fetch_free(f);
}

static void end(struct fetch *f, const char *failure)
{
	fetch_done_fn *done = f->done;
	void *arg = f->arg;
	struct secret *value = NULL;

	kill_group(f);
	/* A copy of its size: the whole buffer stays locked no longer. */
	if (!failure && f->len)
		value = secret_new(secret_bytes(f->value), f->len, NULL);
	if (!failure && f->len && !value)
		failure = "there is no memory for its value";
	fetch_free(f);
	done(arg, value, failure);
}

static void on_late(struct loop *l, struct loop_timer *t)
{
	end(container_of(t, struct fetch, timer), "its command took longer than 30 s");
}

/* Whether there may be more. Ends the fetch when there is too much. */
static bool take_output(struct fetch *f, bool *ret_gone)
{
	char extra;
	bool full = f->len == SECRET_VALUE_MAX;
	ssize_t n = full ? read(f->fd, &extra, 1)
			 : read(f->fd, secret_bytes(f->value) + f->len, SECRET_VALUE_MAX - f->len);

	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0)
		return false;
	if (full) {
		*ret_gone = true;
		end(f, "its command printed more than a value may have");
		return false;
	}
	f->len += (size_t)n;
	return true;
}

static void on_output(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct fetch *f = container_of(w, struct fetch, out);
	bool gone = false;

	if (!take_output(f, &gone) && !gone && (events & (EPOLLHUP | EPOLLERR)))
		loop_del(l, w); /* its end is reported by the pidfd */
}

/* The program has ended. What it left running keeps running, without a say. */
static void on_ended(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct fetch *f = container_of(w, struct fetch, ended);
	char text[64], failure[128];
	bool gone = false;
	int status;

	while (take_output(f, &gone))
		;
	if (gone)
		return;
	loop_del(l, w);
	status = child_wait(&f->child);
	if (f->is_keyring && WIFEXITED(status) && WEXITSTATUS(status) == KEYRING_NONE) {
		f->len = 0;
		end(f, NULL);
	} else if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		snprintf(failure, sizeof(failure), "its command ended with %s (hutch logs)",
			child_status_text(status, text, sizeof(text)));
		end(f, f->is_keyring ? "the keyring does not give it (hutch logs)" : failure);
	} else {
		secret_truncate(f->value, f->len);
		f->len = f->len && secret_trim(f->value) ? secret_len(f->value) : 0;
		end(f, f->len ? NULL : "its command printed nothing");
	}
}

static int spawn(struct fetch *f, const struct source *s, const char *service, const char *box,
	struct err *err)
{
	_free_ char *keyring = path_program("hutch-keyring");
	char **shell = ARGV("sh", "-c", s->arg), **get = ARGV("hutch-keyring", "get", service, box);
	_close_ int rd = -1, wr = -1;
	int pipefd[2], result;

	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return err_errno(err, "pipe");
	rd = pipefd[0];
	wr = pipefd[1];
	result = child_spawn(&(struct child_spec){.path = f->is_keyring ? keyring : "/bin/sh",
				     .argv = f->is_keyring ? get : shell,
				     .in = CHILD_NULL,
				     .out = wr,
				     .errout = CHILD_INHERIT},
		&f->child, err);
	if (result < 0)
		return -1;
	f->fd = steal_fd(&rd);
	return fd_set_nonblock(f->fd, true) < 0 ? err_errno(err, "pipe") : 0;
}

struct fetch *fetch_start(struct loop *l, const struct source *s, const char *service,
	const char *box, fetch_done_fn *done, void *arg, struct err *err)
{
	struct fetch *f = xcalloc(1, sizeof(*f));

	f->loop = l;
	f->fd = f->out.fd = f->ended.fd = -1;
	f->is_keyring = s->kind == SOURCE_KEYRING;
	f->done = done;
	f->arg = arg;
	f->value = secret_alloc(SECRET_VALUE_MAX, err);
	if (!f->value || spawn(f, s, service, box, err) < 0) {
		fetch_cancel(f);
		return NULL;
	}
	if (loop_add(l, &f->out, f->fd, EPOLLIN, on_output) < 0 ||
		loop_add(l, &f->ended, f->child.pidfd, EPOLLIN, on_ended) < 0) {
		err_errno(err, "watch a command");
		fetch_cancel(f);
		return NULL;
	}
	loop_timer_start(l, &f->timer, FETCH_MS, on_late);
	return f;
}

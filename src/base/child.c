/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes. */
#include "base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/jail.h"
#include "base/mem.h"

#define FIRST_FD   3
#define MAX_TABLE  32
#define SCRATCH_FD 200 /* descriptors are moved up here first so that no dup2 overwrites another */

/* How a child came into the world. */
struct birth {
	uid_t uid;
	gid_t gid;
	bool userns; /* in a user namespace of its own, where no id is mapped yet */
	unsigned missing;
};

static int scratch(int *fd)
{
	if (*fd < 0)
		return 0;
	*fd = fcntl(*fd, F_DUPFD, SCRATCH_FD);
	if (*fd < 0 && errno == EINVAL) /* the limit is lower than that */
		errno = EMFILE;
	return *fd < 0 ? -1 : 0;
}

static int place(int fd, int at)
{
	if (fd == CHILD_INHERIT)
		return 0;
	if (fd == CHILD_NULL) {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return -1;
	}
	if (fd == at)
		return fd_set_cloexec(fd, false);
	return dup2(fd, at) < 0 ? -1 : 0;
}

/* What the child says of its start: @errnum follows when it fails. */
struct report {
	unsigned missing;
	int errnum;
};

/* The parent's end of the report pipe goes with it. In a process namespace of its own a child has no
 * parent that getppid() could name. */
static bool parent_is_gone(int report)
{
	struct pollfd p = {.fd = report};

	return poll(&p, 1, 0) != 0;
}

/* In the child, after everything else: the layers of the jail that may come before exec. */
static int jail(const struct child_spec *spec, const struct birth *birth, unsigned *missing)
{
	unsigned refused = 0;
	int r;

	*missing = birth->missing;
	if (birth->userns && jail_map_self(birth->uid, birth->gid) < 0)
		return -1;
	if (spec->jail & JAIL_ROOT && jail_view(spec->rules, spec->n_rules) < 0)
		*missing |= JAIL_ROOT;
	if (jail_enter(spec->jail & ~(JAIL_ROOT | (birth->userns ? JAIL_USERNS : 0u)), &refused,
		    NULL) < 0)
		return -1;
	*missing |= refused;
	if (spec->jail)
		jail_limit(RLIMIT_CORE, 0);
	if (!spec->n_rules)
		return 0;
	r = landlock_enter(spec->rules, spec->n_rules,
		LANDLOCK_ALONE | (spec->tcp ? 0u : LANDLOCK_NO_TCP), NULL);
	if (r == 0)
		*missing |= JAIL_LANDLOCK;
	return r;
}

/* In the child: lay out the table, then exec. Only async-signal-safe calls. */
static void start(const struct child_spec *spec, const struct birth *birth, int report)
{
	struct report said = {0};
	size_t told = 0;
	int std[3] = {spec->in, spec->out, spec->errout}, moved[MAX_TABLE];
	extern char **environ;
	sigset_t none;

	if (!spec->outlive_parent) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (parent_is_gone(report))
			_exit(127);
	}
	if (!spec->keep_group)
		setpgid(0, 0);
	if (spec->cwd > 0 && fchdir(spec->cwd) < 0)
		goto fail;
	for (int i = 0; i < 3; i++)
		if (scratch(&std[i]) < 0)
			goto fail;
	for (size_t i = 0; i < spec->nfds; i++) {
		moved[i] = spec->fds[i];
		if (scratch(&moved[i]) < 0)
			goto fail;
	}
	if (scratch(&report) < 0)
		_exit(126);
	for (int i = 0; i < 3; i++)
		if (place(std[i], i) < 0)
			goto fail;
	for (size_t i = 0; i < spec->nfds; i++) {
		if (moved[i] < 0)
			close(FIRST_FD + (int)i);
		else if (place(moved[i], FIRST_FD + (int)i) < 0)
			goto fail;
	}
	/* The report pipe sits right behind the table, close-on-exec; all else goes. */
	if (dup3(report, FIRST_FD + (int)spec->nfds, O_CLOEXEC) < 0)
		goto fail;
	report = FIRST_FD + (int)spec->nfds;
	if (syscall(SYS_close_range, (unsigned)report + 1, ~0u, 0) < 0)
		goto fail;
	for (int sig = 1; sig < 32; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (jail(spec, birth, &said.missing) < 0)
		goto fail;
	environ = spec->envp ? (char **)(uintptr_t)spec->envp : environ;
	told = sizeof(said.missing);
	if (write(report, &said, told) != (ssize_t)told)
		_exit(126);
	execvp(spec->path, spec->argv);
fail:
	said.errnum = errno;
	if (write(report, (char *)&said + told, sizeof(said) - told) < 0)
		_exit(126);
	_exit(127);
}

/* fork(), into namespaces of its own where the specification asks and the host allows. */
static pid_t give_birth(const struct child_spec *spec, struct birth *birth)
{
	pid_t pid;

	*birth = (struct birth){.uid = geteuid(), .gid = getegid()};
	if (!(spec->jail & JAIL_PID))
		return fork();
	birth->userns = true;
	pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | CLONE_NEWPID | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid >= 0)
		return pid;
	birth->userns = false;
	birth->missing = JAIL_PID;
	return fork();
}

int child_spawn(const struct child_spec *spec, struct child *ret_child, struct err *err)
{
	_close_ int rd = -1, wr = -1;
	struct report said = {0};
	struct child c = {0};
	struct birth birth;
	int pipefd[2];

	if (spec->nfds > MAX_TABLE)
		return err_set(err, ERR_BUG, "%s: descriptor table too large", spec->path);
	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return err_errno(err, "pipe");
	rd = pipefd[0];
	wr = pipefd[1];
	c.pid = give_birth(spec, &birth);
	if (c.pid < 0)
		return err_errno(err, "fork");
	if (c.pid == 0) {
		close(rd);
		start(spec, &birth, wr);
	}
	close_and_reset(&wr);
	if (fd_read_all(rd, &said.missing, sizeof(said.missing)) < 0) {
		waitpid(c.pid, NULL, 0);
		return err_set(err, ERR_ENV, "%s: died before it started", spec->path);
	}
	if (fd_read_all(rd, &said.errnum, sizeof(said.errnum)) == 0) {
		waitpid(c.pid, NULL, 0);
		errno = said.errnum;
		return err_errno(err, "%s", spec->path);
	}
	c.jail_missing = said.missing;
	c.pidfd = (int)syscall(SYS_pidfd_open, c.pid, 0);
	if (c.pidfd < 0) {
		err_errno(err, "pidfd_open");
		kill(c.pid, SIGKILL);
		waitpid(c.pid, NULL, 0);
		return -1;
	}
	fd_set_cloexec(c.pidfd, true);
	*ret_child = c;
	return 0;
}

int child_wait(struct child *c)
{
	int status = 0;

	while (waitpid(c->pid, &status, 0) < 0)
		if (errno != EINTR)
			break;
	close_and_reset(&c->pidfd);
	c->pid = 0;
	return status;
}

void child_kill(const struct child *c, int sig)
{
	if (c->pid > 0)
		syscall(SYS_pidfd_send_signal, c->pidfd, sig, NULL, 0);
}

int child_run(const struct child_spec *spec, char **ret_out, size_t max_out, struct err *err)
{
	struct child_spec s = *spec;
	_close_ int rd = -1;
	_buf_ struct buf out;
	struct child c;
	char sink[4096];
	int pipefd[2];

	buf_init(&out, max_out);
	if (ret_out) {
		if (pipe2(pipefd, O_CLOEXEC) < 0)
			return err_errno(err, "pipe");
		rd = pipefd[0];
		s.out = s.errout = pipefd[1];
	}
	if (child_spawn(&s, &c, err) < 0) {
		if (ret_out)
			close(pipefd[1]);
		return -1;
	}
	if (ret_out)
		close(pipefd[1]);
	while (rd >= 0) {
		ssize_t n = read(rd, sink, sizeof(sink));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		buf_put(&out, sink, MIN((size_t)n, buf_room(&out)));
	}
	if (ret_out)
		*ret_out = xstrdup(buf_cstr(&out));
	return child_wait(&c);
}

const char *child_status_text(int status, char *to, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(to, size, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		snprintf(to, size, "exit %d", WEXITSTATUS(status));
	return to;
}

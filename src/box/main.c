/* SPDX-License-Identifier: Apache-2.0 */
/* hutch-box NAME: the supervisor of one sandbox.
 *
 * Started by the command line, it holds the sandbox's lock for as long as it runs, serves the control
 * socket, starts hutch-secret, the gate, the VMM and qemu, and ends when they have ended. It reads no byte of the
 * guest but agent frames, and none of the network. Descriptor 3 is a pipe to the command line: a line
 * "ok" once the control socket answers, else the reason. Killing it kills everything it started. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/paths.h"
#include "box/box.h"
#include "box/ports.h"

#define REPORT_FD 3
#define SPEC_MAX  (16u << 20)

static int take_lock(struct box *b, struct err *err)
{
	b->lock_fd = openat(b->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (b->lock_fd < 0)
		return err_errno(err, "%s/lock", b->dir);
	if (flock(b->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(err, ERR_USER, "sandbox %s is running already", b->name);
	if (ftruncate(b->lock_fd, 0) < 0)
		return err_errno(err, "%s/lock", b->dir);
	return 0;
}

/* Who holds the lock, and where it listens: for a command line that knows another run-time
 * directory, or finds it emptied. */
static int note_in_lock(struct box *b, struct err *err)
{
	_free_ char *text = xasprintf("%d %s\n", (int)getpid(), b->control_socket);

	if (pwrite(b->lock_fd, text, strlen(text), 0) != (ssize_t)strlen(text))
		return err_errno(err, "%s/lock", b->dir);
	return 0;
}

int box_read_spec(const struct box *b, struct box_spec *ret, struct err *err)
{
	_buf_ struct buf text;
	json_error_t jerr;
	json_t *j;
	int result;

	*ret = (struct box_spec){0};
	buf_init(&text, SPEC_MAX);
	if (fs_read_file(b->dir_fd, "spec.json", &text, err) < 0)
		return -1;
	j = json_loads(buf_cstr(&text), JSON_REJECT_DUPLICATES, &jerr);
	if (!j)
		return err_set(err, ERR_ENV, "%s/spec.json: line %d: %s", b->dir, jerr.line, jerr.text);
	result = spec_from_json(j, ret, err);
	json_decref(j);
	if (result == 0)
		return 0;
	/* Of one that runs: the command line was replaced, and has written it. */
	if (spec_err_is_skew(err))
		err_hint(err, "hutch stop %s && hutch start %s", b->name, b->name);
	return err_wrap(err, "%s/spec.json", b->dir);
}

/* Also after a kill -9 of the previous supervisor, whose socket file is still there: the lock says
 * that it is gone. */
static int listen_control(struct box *b, struct err *err)
{
	_free_ char *runtime = path_runtime(err), *path = NULL;
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	_close_ int fd = -1;

	if (!runtime)
		return -1;
	path = xasprintf("%s/%s.sock", runtime, b->name);
	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(err, ERR_USER, "%s: too long for a socket name", path);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 16) < 0)
		return err_errno(err, "%s", path);
	b->control_socket = steal_ptr(&path);
	return control_start(b, steal_fd(&fd), err);
}

static void on_signal(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct box *b = container_of(w, struct box, signal_w);
	struct signalfd_siginfo si;

	if (read(w->fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		log_info("signal=%u", si.ssi_signo);
		box_stop(b, false, false);
	}
}

static int watch_signals(struct box *b, struct err *err)
{
	sigset_t set;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0 || loop_add(b->loop, &b->signal_w, fd, EPOLLIN, on_signal) < 0)
		return err_errno(err, "signals");
	return 0;
}

/* box.log holds this start and the one before. */
static int open_log(struct box *b, struct err *err)
{
	_close_ int fd = -1;

	renameat(b->dir_fd, "box.log", b->dir_fd, "box.log.1");
	fd = openat(b->dir_fd, "box.log",
		O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || dup2(fd, STDERR_FILENO) < 0)
		return err_errno(err, "%s/box.log", b->dir);
	return 0;
}

static int start(struct box *b, const char *name, struct err *err)
{
	_free_ char *boxes = path_state("boxes", err);

	if (!boxes || !spec_name_valid(name))
		return boxes ? err_set(err, ERR_USER, "%s: not a sandbox name", name) : -1;
	b->name = name;
	b->dir = fs_join(boxes, name);
	b->dir_fd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (b->dir_fd < 0)
		return err_set(err, ERR_USER, "no sandbox named %s", name);
	if (take_lock(b, err) < 0 || box_read_spec(b, &b->spec, err) < 0 || open_log(b, err) < 0)
		return -1;
	b->loop = loop_new(err);
	if (!b->loop || watch_signals(b, err) < 0 || listen_control(b, err) < 0)
		return -1;
	return note_in_lock(b, err);
}

static void report(const char *text)
{
	if (fd_write_all(REPORT_FD, text, strlen(text)) < 0)
		log_warn("command line went away");
	close(REPORT_FD);
}

static void report_error(const struct err *err)
{
	_free_ char *text = xasprintf("%s\n%s\n", err->msg, err->hint);

	report(text);
}

int main(int argc, char **argv)
{
	struct box b = {.vmm_link = -1, .gate_control = -1, .console_fd = -1, .console_log = -1,
		.control.fd = -1, .lock_fd = -1, .vmm_w.fd = -1, .gate_w.fd = -1,
		.console_w.fd = -1, .ssh_link = -1, .ssh_w.fd = -1};
	struct err err = {0};
	int status;
	bool started;

	if (argc == 3 && strcmp(argv[1], "--check") == 0)
		return keep_check(argv[2]);
	if (argc != 2) {
		fprintf(stderr, "usage: hutch-box NAME (started by hutch)\n");
		return 125;
	}
	engine_qemu_clock_start(&b.clock);
	setsid(); /* the terminal is no business of anything that we start */
	umask(077);
	fd_set_cloexec(REPORT_FD, true);
	log_init("box", argv[1], LOG_INFO);
	if (start(&b, argv[1], &err) < 0) {
		report_error(&err);
		return 125;
	}
	started = workers_start(&b, &err) == 0;
	if (started) {
		ports_prepare(&b);
		started = box_seal(&b, &b.jail_missing[WORKERS], &err) == 0;
	}
	if (started) {
		report("ok\n");
		box_advance(&b);
	} else {
		box_fail(&b, &err);
	}
	status = b.state == BOX_ENDED ? 1 : loop_run(b.loop, &err);
	/* The command line may delete the sandbox as soon as it reads this. */
	if (!started)
		report_error(&b.failure);
	ports_stop(&b);
	control_stop(&b);
	return status;
}

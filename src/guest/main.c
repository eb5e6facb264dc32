/* SPDX-License-Identifier: Apache-2.0 */
/* hutch-init: PID 1 of every sandbox.
 *
 * boot() is the list of steps, in order. While the root is mounted a child inserts the modules that
 * this does not need, vsock's among them, and configures the network; then HELLO is sent. The rest of
 * the machine's life is one loop: the control stream, the agent server, and signals.
 *
 * The end comes from the host (SHUTDOWN, or the control stream's end) or from a signal inside.
 * Every process gets SIGTERM, and SIGKILL after STOP_MS; when none is left the disk is detached and
 * the machine reset. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "guest/control.h"
#include "guest/init.h"
#include "guest/server.h"

#define STOP_MS       3000
#define KILL_MS       1000 /* for processes to be reaped after SIGKILL */
#define FAREWELL_MS   1000 /* for the host to react to a failed setup */
#define FILES_HARD    524288
#define WATCHES_LIMIT "524288"

struct init {
	struct loop *loop;
	struct server *server;
	struct control control;
	struct loop_watch signal_w, pressure_w;
	struct loop_timer timer;
	struct strv env;   /* of every command */
	int disk, oldroot; /* directories outside the root, see mounts.c */
	pid_t network; /* the child of start_network(), until it is reaped */
	bool stopping, tracing;
};

static void first_steps(void)
{
	struct rlimit files = {FILES_HARD, FILES_HARD};

	mkdir("/dev", 0755);
	if (mount("dev", "/dev", "devtmpfs", MS_NOSUID, "mode=0755") < 0)
		say("/dev: %s", strerror(errno));
	/* For the kernel's parameters and the network; the root gets one of its own. */
	mkdir("/proc", 0755);
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		say("/proc: %s", strerror(errno));
	say(HUTCH_VERSION " up %llu ms", (unsigned long long)(uptime_us() / 1000));
	/* A console that nobody reads must not stop PID 1. */
	fd_set_nonblock(STDERR_FILENO, true);
	trace("start");
	umask(022);
	signal(SIGPIPE, SIG_IGN);
	reboot(RB_DISABLE_CAD);
	setrlimit(RLIMIT_NOFILE, &files);
}

/* Insert the late modules and configure the network in a child, which still sees the initramfs when
 * the parent has another root. -1 when there can be none. */
static pid_t start_network(const char *cmdline)
{
	pid_t pid = fork();

	if (pid <= 0)
		modules_load(true, cmdline);
	if (pid)
		return pid;
	_exit(net_up(NULL) < 0);
}

/* What the child could not do is done again here, for the message. */
static int finish_network(struct init *in, struct err *err)
{
	int status = -1;

	while (in->network > 0 && waitpid(in->network, &status, 0) < 0 && errno == EINTR)
		;
	in->network = 0;
	return status == 0 ? 0 : net_up(err);
}

/* Run a shell that does nothing, beside the rest of the boot, when there is a second CPU: the first
 * real command then finds the shell and its libraries read, and on an emulated CPU translated. The
 * result does not matter; the loop reaps it. */
static void warm_up(void)
{
	char *argv[] = {(char[]){"bash"}, (char[]){"-c"}, (char[]){":"}, NULL}, *envp[] = {NULL};

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2 || fork() != 0)
		return;
	setsid();
	syscall(SYS_close_range, 3u, ~0u, 0u);
	execve("/bin/bash", argv, envp);
	_exit(0);
}

/* ── life ─────────────────────────────────────────────────────────────────────────────────── */

static void reap(struct init *in)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		server_reaped(in->server, pid, status);
	cgroup_tidy();
	/* No child left means no process left: orphans become ours. */
	if (in->stopping && pid < 0)
		loop_stop(in->loop, 0);
}

static void on_too_late(struct loop *l, struct loop_timer *t)
{
	(void)t;
	loop_stop(l, 0);
}

static void on_still_running(struct loop *l, struct loop_timer *t)
{
	kill(-1, SIGKILL);
	loop_timer_start(l, t, KILL_MS, on_too_late);
}

static void begin_stop(void *ctx, const char *why)
{
	struct init *in = ctx;

	if (in->stopping)
		return;
	in->stopping = true;
	say("power off: %s", why);
	/* Interactive shells ignore SIGTERM; stopped processes must run to die. */
	kill(-1, SIGTERM);
	kill(-1, SIGHUP);
	kill(-1, SIGCONT);
	loop_timer_start(in->loop, &in->timer, STOP_MS, on_still_running);
	reap(in);
}

static void on_signal(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct init *in = container_of(w, struct init, signal_w);
	struct signalfd_siginfo si;

	(void)l;
	(void)events;
	while (read(w->fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		if (si.ssi_signo != SIGCHLD)
			begin_stop(in, "asked from inside");
	reap(in);
}

static int watch_signals(struct init *in, struct err *err)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGPWR);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0 || loop_add(in->loop, &in->signal_w, fd, EPOLLIN, on_signal) < 0)
		return err_errno(err, "signals");
	return 0;
}

static void set_clock(void *ctx, uint64_t ns)
{
	struct timespec ts = {
		.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};

	(void)ctx;
	if (clock_settime(CLOCK_REALTIME, &ts) < 0)
		say("clock: %s", strerror(errno));
}

static int add_export(void *ctx, const struct agent_export *e, struct err *err)
{
	(void)ctx;
	return export_mount(e, err);
}

static void on_setup_failed(struct loop *l, struct loop_timer *t)
{
	(void)l;
	begin_stop(container_of(t, struct init, timer), "setup failed");
}

/* Work that nobody waits for. */
static void on_idle(struct loop *l, struct loop_timer *t)
{
	struct init *in = container_of(t, struct init, timer);

	(void)l;
	modules_forget(in->oldroot);
	close_and_reset(&in->oldroot);
	trace("tidy");
	if (in->tracing)
		trace_print();
}

/* The trust stores take as long as the rest of the set-up: a child makes them meanwhile. What it
 * could not do is done again here, for the message. */
static pid_t start_trust(struct buf *ca)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(trust_files("", ca, NULL) < 0);
	return pid;
}

static int finish_trust(pid_t pid, struct buf *ca, struct err *err)
{
	int status = -1;

	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status == 0 ? 0 : trust_files("", ca, err);
}

/* The plan sets the variable where the sandbox may use the user's agent. */
static void offer_ssh(struct init *in)
{
	const char *path = env_get(&in->env, "SSH_AUTH_SOCK");
	struct err err;

	if (path && strcmp(path, AGENT_SSH_SOCKET) == 0 &&
		server_offer_ssh(in->server, path, &err) < 0)
		say("%s", err.msg);
}

static int apply_setup(
	struct init *in, const struct agent_setup *setup, struct buf *ca, struct err *err)
{
	pid_t trust = start_trust(ca);

	set_clock(in, setup->clock_ns);
	if (net_files("", setup->hostname, err) < 0)
		return -1;
	if (sethostname(setup->hostname, strlen(setup->hostname)) < 0)
		return err_errno(err, "host name");
	trace("host files");
	if (buf_len(ca))
		trust_env(&in->env);
	for (size_t i = 0; i < setup->env.n; i++)
		env_set(&in->env, setup->env.v[i]);
	if (login_files("", &in->env, err) < 0)
		return -1;
	trace("login files");
	offer_ssh(in);
	for (size_t i = 0; i < setup->n_exports; i++)
		if (export_mount(&setup->exports[i], err) < 0)
			return -1;
	trace("shares");
	if (finish_trust(trust, ca, err) < 0)
		return -1;
	trace("trust");
	return 0;
}

static int on_setup(void *ctx, const struct agent_setup *setup, struct buf *ca, struct err *err)
{
	struct init *in = ctx;

	trace("setup received");
	if (apply_setup(in, setup, ca, err) < 0) {
		say("%s", err->msg);
		loop_timer_start(in->loop, &in->timer, FAREWELL_MS, on_setup_failed);
		return -1;
	}
	trace("ready");
	loop_timer_start(in->loop, &in->timer, 1, on_idle);
	return 0;
}

static const struct control_ops control_ops = {
	.setup = on_setup, .export = add_export, .clock = set_clock, .shutdown = begin_stop};

/* ── boot ─────────────────────────────────────────────────────────────────────────────────── */

/* The kernel's parameters. Owned. */
static char *read_cmdline(void)
{
	_close_ int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	_buf_ struct buf line;

	buf_init(&line, 8192);
	if (fd < 0 || buf_read(&line, fd, 8192) <= 0)
		say("/proc/cmdline: %s", strerror(errno));
	return xstrdup(buf_cstr(&line));
}

static int start_serving(struct init *in, struct err *err)
{
	struct server_config config = {.root = "", .env = &in->env};
	int fd;

	in->server = server_new(in->loop, &config);
	if (server_listen(in->server, AGENT_PORT, err) < 0)
		return -1;
	fd = control_connect(err);
	if (fd < 0)
		return -1;
	return control_open(&in->control, in->loop, fd, &control_ops, in, err);
}

/* What the kernel would wake up for several times a second, for nothing: memory is compacted when someone
 * needs it, too, and nobody reads its counters each second. */
static void be_idle_when_idle(void)
{
	file_set("/proc/sys/vm/compaction_proactiveness", "0");
	file_set("/proc/sys/vm/stat_interval", "60");
}

static int boot(struct init *in, struct err *err)
{
	_free_ char *cmdline = read_cmdline();
	struct layer layer = {.generation = cmdline_number(cmdline, "hutch.generation="),
		.fresh = cmdline_has(cmdline, "hutch.fresh")};

	in->loop = loop_new(err);
	if (!in->loop || watch_signals(in, err) < 0)
		return -1;
	modules_load(false, cmdline);
	trace("modules");
	in->network = start_network(cmdline);
	if (root_mount(&layer, &in->disk, &in->oldroot, err) < 0 || mounts_runtime(err) < 0)
		return -1;
	warm_up();
	layer_sweep(in->disk, &layer);
	trace("mounts");
	in->tracing = cmdline_has(cmdline, "hutch.trace");
	file_set("/proc/sys/fs/inotify/max_user_watches", WATCHES_LIMIT);
	be_idle_when_idle();
	pressure_watch(in->loop, &in->pressure_w);
	if (users_ensure_agent("", err) < 0)
		return -1;
	trace("users");
	if (finish_network(in, err) < 0)
		return -1;
	trace("network");
	/* Not beside the modules: both rewrite the kernel's code, in which an emulated machine with two
	 * processors may hang. */
	cgroup_make();
	trace("control groups");
	if (start_serving(in, err) < 0)
		return -1;
	trace("hello sent");
	return 0;
}

/* The boot failed: tell the console and, if it can be reached, the supervisor. */
static void boot_failed(struct init *in, const struct err *err)
{
	struct buf unread;
	bool greeted;
	int fd;

	say("%s", err->msg);
	if (in->network)
		finish_network(in, NULL); /* vsock is there then */
	greeted = in->control.s != NULL;
	fd = greeted ? stream_take(in->control.s, &unread) : control_connect(NULL);
	if (fd >= 0)
		control_fail(fd, greeted, err);
	power_off(in->disk);
}

int main(void)
{
	struct init in = {.disk = -1, .oldroot = -1, .signal_w = {.fd = -1}, .pressure_w = {.fd = -1}};
	struct err err = {0};

	if (getpid() != 1) {
		printf("hutch-init " HUTCH_VERSION ": the first process of a sandbox\n");
		return 1;
	}
	first_steps();
	if (boot(&in, &err) < 0)
		boot_failed(&in, &err);
	if (loop_run(in.loop, &err) < 0)
		say("%s", err.msg);
	control_close(&in.control);
	power_off(in.disk);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What commands may have of the machine, so that one of them cannot take all.
 *
 * A fork bomb, or a build with a thousand jobs, would otherwise starve whatever could end it: PID 1,
 * which then can neither fork nor run, and with it every other command. So (cgroup v2):
 *
 *     /                  PID 1 and its helpers: no limit, and as a sibling of what follows the same
 *                        share of a CPU as all of it together
 *     /sandbox           everything else. pids.max leaves PID 1 room
 *     /sandbox/commands  controllers for each: cpu and pids only. The memory controller would keep
 *                        the group of an ended command for as long as it has a page in the cache
 *     /sandbox/commands/N  one command and what it starts: half of the processes at the most
 *
 * Programs see /sandbox as the root (a cgroup namespace, and a mount made in it), with every
 * controller on and no process in it: what a container engine expects, whose groups then lie beside
 * "commands" and within the limit.
 *
 * This keeps accidents small. It is no boundary: root in the guest may change any of it, and harms
 * its own sandbox only. */
#include "guest/init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

#define MOUNT_POINT "/sys/fs/cgroup"

/* Not in the sched.h of every C library. */
#ifndef CLONE_NEWCGROUP
#define CLONE_NEWCGROUP 0x02000000
#endif

static int commands_fd = -1; /* /sandbox/commands; -1: commands are not limited */

static int mount_cgroups(void)
{
	return mount("cgroup2", MOUNT_POINT, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

static int set(int dir, const char *file, const char *text)
{
	_close_ int fd = openat(dir, file, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -1 : 0;
}

/* Let the children of @dir have all controllers that it has itself. */
static int enable_all(int dir)
{
	_close_ int fd = openat(dir, "cgroup.controllers", O_RDONLY | O_CLOEXEC);
	char names[256], list[2 * sizeof(names)] = "", *save = NULL;
	ssize_t n = fd < 0 ? -1 : read(fd, names, sizeof(names) - 1);
	size_t len = 0;

	if (n < 0)
		return -1;
	names[n] = '\0';
	for (char *w = strtok_r(names, " \n", &save); w; w = strtok_r(NULL, " \n", &save))
		len += (size_t)snprintf(list + len, sizeof(list) - len, "+%s ", w);
	return set(dir, "cgroup.subtree_control", list);
}

/* Child of @dir, owned by the caller; -1 with errno. */
static int make_group(int dir, const char *name)
{
	if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
		return -1;
	return openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static long read_number(const char *path)
{
	_buf_ struct buf b;

	buf_init(&b, 64);
	return file_read(path, &b, NULL) < 0 ? 0 : strtol(buf_cstr(&b), NULL, 10);
}

/* How many processes the kernel has room for. It counts by memory: one for each 128 KiB. */
static long room(void)
{
	long threads = read_number("/proc/sys/kernel/threads-max");
	long ids = read_number("/proc/sys/kernel/pid_max");

	return MIN(threads, ids);
}

static void set_limit(int group, long n)
{
	char text[24];

	snprintf(text, sizeof(text), "%ld", n);
	if (n > 0 && set(group, "pids.max", text) < 0)
		say("pids.max: %s", strerror(errno));
}

/* Show programs @group as the root: a name space has its root where its maker is. */
static int show_as_root(int top, int group)
{
	if (set(group, "cgroup.procs", "0") < 0 || unshare(CLONE_NEWCGROUP) < 0 ||
		umount2(MOUNT_POINT, MNT_DETACH) < 0 || mount_cgroups() < 0)
		return -1;
	return set(top, "cgroup.procs", "0");
}

static int make_groups(void)
{
	_close_ int top = open(MOUNT_POINT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_close_ int sandbox = -1, commands = -1;

	if (top < 0 || enable_all(top) < 0)
		return -1;
	sandbox = make_group(top, "sandbox");
	/* A group has processes or controllers for its children: this is the time for processes. */
	if (sandbox < 0 || show_as_root(top, sandbox) < 0 || enable_all(sandbox) < 0)
		return -1;
	set_limit(sandbox, room() / 2);
	commands = make_group(sandbox, "commands");
	return commands < 0 ? -1 : set(commands, "cgroup.subtree_control", "+cpu +pids");
}

/* PID 1 stays where it is, so a child is it whose name space begins at the group. */
static pid_t make_in_child(void)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	/* A kernel without them: as it was. */
	if (mount_cgroups() < 0)
		_exit(0);
	if (make_groups() < 0)
		_exit(errno);
	kill(getpid(), SIGSTOP); /* until the parent has the name space */
	_exit(0);
}

/* Enter the name space of the stopped child @pid. */
static int join(pid_t pid)
{
	_close_ int ns = -1;
	char path[40];

	snprintf(path, sizeof(path), "/proc/%d/ns/cgroup", (int)pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	if (ns < 0 || setns(ns, CLONE_NEWCGROUP) < 0)
		return -1;
	commands_fd = open(MOUNT_POINT "/commands", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return commands_fd;
}

void cgroup_make(void)
{
	pid_t pid = make_in_child();
	int status = 0, errnum = 0;

	if (pid < 0)
		return;
	while (waitpid(pid, &status, WUNTRACED) < 0 && errno == EINTR)
		;
	if (WIFSTOPPED(status)) {
		errnum = join(pid) < 0 ? errno : 0;
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	} else {
		errnum = WIFEXITED(status) ? WEXITSTATUS(status) : ECHILD;
	}
	if (errnum)
		say("control groups: %s; commands can starve each other", strerror(errnum));
}

/* As fork(), the child in @group. The C library does not know of it: what it remembers of threads,
 * raise() for one, is the parent's. */
static pid_t fork_into(int group)
{
	struct clone_args args = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD,
		.cgroup = (uint64_t)group};

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

pid_t cgroup_fork(void)
{
	static unsigned last;
	_close_ int group = -1;
	char name[16];
	pid_t pid;

	snprintf(name, sizeof(name), "%u", ++last);
	if (commands_fd >= 0)
		group = make_group(commands_fd, name);
	if (group < 0)
		return fork();
	set_limit(group, room() / 4);
	pid = fork_into(group);
	if (pid >= 0)
		return pid;
	/* All that the sandbox may have is used up. Who moves in is not asked. */
	pid = fork();
	if (pid == 0)
		set(group, "cgroup.procs", "0");
	return pid;
}

void cgroup_tidy(void)
{
	int fd = commands_fd < 0 ? -1 : openat(commands_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (!d) {
		close_and_reset(&fd);
		return;
	}
	/* Files are no directories, and a group in use is busy. */
	while ((e = readdir(d)) != NULL)
		if (e->d_type == DT_DIR && e->d_name[0] != '.')
			unlinkat(commands_fd, e->d_name, AT_REMOVEDIR);
	closedir(d);
}

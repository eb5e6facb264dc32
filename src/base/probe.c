/* SPDX-License-Identifier: Apache-2.0 */
/* What an intruder would try. Compiled with -Dtests=true only. */
#include "base/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

/* Raw calls: the sanitizers' wrappers would do more than what is asked. Each returns -1 with errno when
 * it was refused. A victim outside is HUTCH_TEST_VICTIM, a process of the same user. */
static long victim(void)
{
	const char *pid = getenv("HUTCH_TEST_VICTIM");

	return pid ? strtol(pid, NULL, 10) : 1;
}

static long try_open(void)
{
	return syscall(SYS_openat, AT_FDCWD, getenv("HUTCH_TEST_FILE"), O_RDONLY, 0);
}

static long try_open_by_openat2(void)
{
	struct open_how how = {.flags = O_RDONLY};

	return syscall(SYS_openat2, AT_FDCWD, getenv("HUTCH_TEST_FILE"), &how, sizeof(how));
}

static long try_write(void)
{
	return syscall(SYS_openat, AT_FDCWD, getenv("HUTCH_TEST_FILE"), O_WRONLY | O_CREAT, 0600);
}

static long try_socket(void)
{
	return syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
}

/* The way to whatever daemon of the user runs programs on demand. */
static long try_unix_socket(void)
{
	return syscall(SYS_socket, AF_UNIX, SOCK_STREAM, 0);
}

static long try_raw_socket(void)
{
	return syscall(SYS_socket, AF_PACKET, SOCK_RAW, 0);
}

static long try_exec(void)
{
	char *const argv[] = {(char *)(uintptr_t)"true", NULL};

	return syscall(SYS_execve, "/bin/true", argv, argv + 1);
}

static long try_fork(void)
{
	long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		syscall(SYS_exit_group, 0);
	return pid;
}

static long try_ptrace(void)
{
	return syscall(SYS_ptrace, PTRACE_ATTACH, victim(), 0, 0);
}

static long try_mount(void)
{
	return syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL);
}

static long try_kill(void)
{
	return syscall(SYS_kill, victim(), SIGKILL);
}

static long try_unshare(void)
{
	return syscall(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNET);
}

static long try_executable_memory(void)
{
	return syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static long try_io_uring(void)
{
	return syscall(SYS_io_uring_setup, 4, NULL);
}

static const struct {
	const char *name;
	long (*fn)(void);
} attempts[] = {{"open", try_open}, {"openat2", try_open_by_openat2}, {"write", try_write},
	{"socket", try_socket}, {"unix-socket", try_unix_socket},
	{"raw-socket", try_raw_socket}, {"exec", try_exec}, {"fork", try_fork},
	{"ptrace", try_ptrace}, {"mount", try_mount}, {"kill", try_kill}, {"unshare", try_unshare},
	{"executable-memory", try_executable_memory}, {"io-uring", try_io_uring}};

void jail_probe(const char *who)
{
	const char *want = getenv("HUTCH_TEST_PROBE");
	size_t len = strlen(who);
	char line[96];

	if (!want || strncmp(want, who, len) != 0 || want[len] != ':')
		return;
	for (size_t i = 0; i < ARRAY_SIZE(attempts); i++) {
		int errnum, n;

		if (strcmp(attempts[i].name, want + len + 1) != 0)
			continue;
		errnum = attempts[i].fn() == -1 ? errno : 0;
		n = snprintf(line, sizeof(line), "probe %s %s errno=%d\n", who, attempts[i].name, errnum);
		if (write(STDERR_FILENO, line, (size_t)n) < 0)
			return;
	}
}

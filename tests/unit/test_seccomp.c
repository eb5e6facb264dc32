/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of tools/gen-seccomp, the filters of our processes, Landlock and the jail: by a small
 * interpreter of the filters' language, and by the kernel in a child. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/jail.h"
#include "base/mem.h"
#include "tests/unit/seccomp_filters.h"
#include "tests/unit/seccomp_try.h"

#define NR_END 1024u /* far above the last call of today */
#define X32    0x40000000u
#define DENIED (SECCOMP_RET_ERRNO | EACCES)

/* ---- an interpreter ---- */

static uint32_t field(const struct seccomp_data *d, uint32_t off)
{
	uint32_t v;

	assert_true(off % 4 == 0 && off + 4 <= sizeof(*d));
	memcpy(&v, (const char *)d + off, 4);
	return v;
}

/* What the filter answers; every jump goes forward, and the end is a return. */
static uint32_t answer(const struct seccomp_filter *f, const struct seccomp_data *d)
{
	uint32_t a = 0;

	for (size_t pc = 0; pc < f->n; pc++) {
		const struct sock_filter *i = &f->code[pc];

		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			a = field(d, i->k);
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= i->k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			pc += a == i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			pc += a >= i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			pc += a & i->k ? i->jt : i->jf;
			break;
		case BPF_RET | BPF_K:
			return i->k;
		default:
			fail_msg("%s: instruction %#x", f->name, i->code);
		}
	}
	fail_msg("%s: runs off its end", f->name);
	return 0;
}

static uint32_t ask(const struct seccomp_filter *f, unsigned nr, unsigned arg, uint64_t value)
{
	struct seccomp_data d = {.nr = (int)nr, .arch = AUDIT_ARCH_X86_64};

	d.args[arg] = value;
	return answer(f, &d);
}

/* ---- the generator, against what lists.c means ---- */

static void lists_mean_what_they_say(void **state)
{
	const struct seccomp_filter *f = &filter_try;

	assert_int_equal(ask(f, __NR_read, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(f, __NR_getuid, 0, 0), SECCOMP_RET_ALLOW); /* whatever "sanitizer" says */
	assert_int_equal(ask(f, __NR_getgid, 0, 0), SECCOMP_RET_ERRNO | EXDEV);
	assert_int_equal(ask(f, __NR_ptrace, 0, 0), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(ask(f, __NR_openat, 0, 0), DENIED);
	assert_int_equal(ask(f, __NR_mprotect, 2, PROT_READ | PROT_WRITE), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(f, __NR_mprotect, 2, PROT_EXEC), DENIED);
	assert_int_equal(ask(f, __NR_mprotect, 2, PROT_EXEC | PROT_READ), DENIED);
	assert_int_equal(ask(f, __NR_socket, 0, AF_UNIX), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(f, __NR_socket, 0, AF_INET), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(f, __NR_socket, 0, AF_INET6), DENIED);
	assert_int_equal(ask(f, __NR_socket, 1, AF_UNIX), DENIED); /* another argument */
	/* The kernel looks at 32 bits of a family. */
	assert_int_equal(ask(f, __NR_socket, 0, (1ULL << 32) | AF_UNIX), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(f, __NR_clone, 0, CLONE_VM | CLONE_THREAD | CLONE_FS), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(f, __NR_clone, 0, CLONE_VM), DENIED);
	assert_int_equal(ask(f, __NR_clone, 0, SIGCHLD), DENIED);
	assert_int_equal(ask(f, __NR_prctl, 0, PR_GET_NAME), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(f, __NR_prctl, 0, PR_GET_DUMPABLE), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(f, __NR_prctl, 0, PR_SET_DUMPABLE), DENIED);
	/* What allows more wins, in any order. */
	assert_int_equal(ask(&filter_strict, __NR_prctl, 0, PR_SET_DUMPABLE), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(&filter_strict, __NR_uname, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(&filter_strict, __NR_getgid, 0, 0), SECCOMP_RET_KILL_PROCESS);
#ifdef __SANITIZE_ADDRESS__
	assert_int_equal(ask(&filter_strict, __NR_rt_sigaction, 0, 0), SECCOMP_RET_ALLOW);
#else
	assert_int_equal(ask(&filter_strict, __NR_rt_sigaction, 0, 0), SECCOMP_RET_KILL_PROCESS);
#endif
}

/* ---- every filter, every call ---- */

static const struct subject {
	const struct seccomp_filter *f;
	const struct seccomp_entry *table;
	size_t n;
	uint32_t otherwise;
} subjects[] = {
#define SUBJECT(id) {&filter_##id, table_##id, ARRAY_SIZE(table_##id), default_##id}
	SUBJECT(try),
	SUBJECT(strict),
	SUBJECT(vmm),
	SUBJECT(vmm_files),
	SUBJECT(vmm_vcpu),
	SUBJECT(vmm_disk),
	SUBJECT(gate),
	SUBJECT(ssh),
	SUBJECT(box),
};

static const struct seccomp_entry *entry(const struct subject *s, unsigned nr)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->table[i].nr == nr)
			return &s->table[i];
	return NULL;
}

static void filters_are_their_lists(void **state)
{
	for (const struct subject *s = subjects; s < subjects + ARRAY_SIZE(subjects); s++) {
		for (unsigned nr = 0; nr < NR_END; nr++) {
			const struct seccomp_entry *e = entry(s, nr);
			uint32_t got = ask(s->f, nr, 0, 0);

			if (e && e->conditional)
				assert_true(got == SECCOMP_RET_ALLOW || got == e->action);
			else
				assert_int_equal(got, e ? e->action : s->otherwise);
		}
	}
}

static void other_architectures_end_the_process(void **state)
{
	for (const struct subject *s = subjects; s < subjects + ARRAY_SIZE(subjects); s++) {
		for (unsigned nr = 0; nr < NR_END; nr++) {
			struct seccomp_data d = {.nr = (int)nr, .arch = AUDIT_ARCH_I386};

			assert_int_equal(answer(s->f, &d), SECCOMP_RET_KILL_PROCESS);
			assert_int_equal(ask(s->f, nr | X32, 0, 0), SECCOMP_RET_KILL_PROCESS);
		}
		assert_int_equal(ask(s->f, ~0u, 0, 0), SECCOMP_RET_KILL_PROCESS);
	}
}

/* Whatever the lists become: some calls belong into none of them. */
static void nobody_may_do_these(void **state)
{
	static const unsigned never[] = {__NR_execve, __NR_execveat, __NR_mount, __NR_umount2,
		__NR_pivot_root, __NR_chroot, __NR_setns, __NR_unshare, __NR_bpf, __NR_perf_event_open,
		__NR_userfaultfd, __NR_keyctl, __NR_io_uring_setup, __NR_init_module, __NR_kill,
		__NR_tkill, __NR_process_vm_writev, __NR_setuid, __NR_capset, __NR_open_by_handle_at,
		__NR_iopl, __NR_modify_ldt, __NR_seccomp, __NR_memfd_create, __NR_pidfd_getfd};

	for (const struct subject *s = &subjects[2]; s < subjects + ARRAY_SIZE(subjects); s++) {
		for (size_t i = 0; i < ARRAY_SIZE(never); i++)
			for (unsigned arg = 0; arg < 6; arg++)
				assert_int_not_equal(ask(s->f, never[i], arg, ~0ULL), SECCOMP_RET_ALLOW);
		assert_int_not_equal(ask(s->f, __NR_socket, 0, AF_UNIX), SECCOMP_RET_ALLOW);
		/* A descriptor that signals whom one likes is as good as kill(). */
		assert_int_not_equal(ask(s->f, __NR_fcntl, 1, F_SETOWN), SECCOMP_RET_ALLOW);
		assert_int_not_equal(ask(s->f, __NR_fcntl, 1, F_SETOWN_EX), SECCOMP_RET_ALLOW);
	}
	/* Opening by name is the file server's alone among the threads of hutch-vmm. */
	assert_int_equal(ask(&filter_vmm_files, __NR_openat2, 0, 0), SECCOMP_RET_ALLOW);
	assert_int_equal(ask(&filter_vmm, __NR_openat2, 0, 0), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(ask(&filter_vmm_vcpu, __NR_openat2, 0, 0), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(ask(&filter_vmm_disk, __NR_openat2, 0, 0), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(ask(&filter_vmm, __NR_socket, 0, AF_UNIX), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(ask(&filter_vmm_vcpu, __NR_ioctl, 1, KVM_RUN), SECCOMP_RET_ALLOW);
	assert_int_not_equal(ask(&filter_vmm_vcpu, __NR_ioctl, 1, TIOCSTI), SECCOMP_RET_ALLOW);
	assert_int_not_equal(ask(&filter_vmm, __NR_ioctl, 1, KVM_RUN), SECCOMP_RET_ALLOW);
}

/* ---- the kernel agrees ---- */

/* Run @fn in a child below @f: its result, or minus the signal that ended it. */
static int confined(const struct seccomp_filter *f, int (*fn)(void))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		if (seccomp_enter(f, NULL) != 1)
			syscall(SYS_exit_group, 250);
		syscall(SYS_exit_group, fn());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int call_errno(long r)
{
	return r < 0 ? errno : 0;
}

static int do_nothing(void)
{
	return 0;
}

static int do_getgid(void)
{
	return call_errno(syscall(SYS_getgid));
}

static int do_openat(void)
{
	return call_errno(syscall(SYS_openat, AT_FDCWD, "/", O_RDONLY));
}

static int do_ptrace(void)
{
	return call_errno(syscall(SYS_ptrace, 0, 0, 0, 0));
}

static int do_execve(void)
{
	return call_errno(syscall(SYS_execve, "/", NULL, NULL));
}

static int do_protect_exec(void)
{
	return call_errno(syscall(SYS_mprotect, 0, 4096, PROT_EXEC));
}

static int do_protect_none(void)
{
	return call_errno(syscall(SYS_mprotect, 0, 0, PROT_NONE));
}

static int do_socket(void)
{
	return call_errno(syscall(SYS_socket, AF_PACKET, SOCK_RAW, 0));
}

static int do_read(void)
{
	return call_errno(syscall(SYS_read, -1, NULL, 0));
}

static int do_preadv(void)
{
	return call_errno(syscall(SYS_preadv, -1, NULL, 0, 0, 0));
}

static void kernel_agrees(void **state)
{
	static const struct {
		const struct seccomp_filter *f;
		int (*fn)(void);
		int want; /* exit status: an errno; or minus a signal */
	} cases[] = {
		{&filter_try, do_nothing, 0},
		{&filter_try, do_getgid, EXDEV},
		{&filter_try, do_openat, EACCES},
		{&filter_try, do_ptrace, -SIGSYS},
		{&filter_try, do_protect_exec, EACCES},
		{&filter_try, do_protect_none, 0},
		{&filter_try, do_socket, EACCES},
		{&filter_strict, do_openat, -SIGSYS},
		{&filter_strict, do_read, EBADF},
		{&filter_vmm, do_read, EBADF},
		{&filter_vmm, do_execve, -SIGSYS},
		{&filter_vmm, do_socket, -SIGSYS},
		{&filter_vmm, do_preadv, -SIGSYS},
		{&filter_vmm_files, do_preadv, EBADF},
		{&filter_vmm_files, do_execve, -SIGSYS},
		{&filter_vmm_files, do_socket, -SIGSYS},
		{&filter_vmm_vcpu, do_nothing, 0},
		{&filter_vmm_vcpu, do_socket, -SIGSYS},
		{&filter_vmm_vcpu, do_preadv, -SIGSYS},
		{&filter_vmm_vcpu, do_execve, -SIGSYS},
		{&filter_vmm_disk, do_preadv, EBADF},
		{&filter_vmm_disk, do_socket, -SIGSYS},
		{&filter_gate, do_socket, EPERM},
		{&filter_gate, do_execve, -SIGSYS},
		{&filter_ssh, do_socket, EPERM},
		{&filter_ssh, do_execve, -SIGSYS},
		{&filter_box, do_socket, EPERM},
		{&filter_box, do_execve, -SIGSYS},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int got = confined(cases[i].f, cases[i].fn);

		if (got != cases[i].want)
			fail_msg("case %zu (%s): %d, not %d", i, cases[i].f->name, got, cases[i].want);
	}
}

/* ---- Landlock ---- */

static char top[] = "/tmp/hutch-landlock-XXXXXX";

/* In a child: 0, or the number of the first expectation that did not hold. */
static int reach(const char *dir)
{
	struct landlock_rule rules[] = {
		{.path = "rw", .access = LANDLOCK_LOOK | LANDLOCK_MODIFY},
		{.path = "ro", .access = LANDLOCK_LOOK},
		{.path = "absent", .access = LANDLOCK_LOOK},
		{.path = "rm", .access = LANDLOCK_REMOVE_DIRS},
	};

	if (chdir(dir) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return 100;
	if (landlock_enter(rules, ARRAY_SIZE(rules), 0, NULL) != 1)
		return 101;
	if (open("rw/f", O_RDWR | O_CREAT, 0600) < 0 || truncate("rw/f", 1) < 0)
		return 1;
	if (rename("rw/f", "rw/sub/f") < 0 || link("rw/sub/f", "rw/g") < 0 || unlink("rw/g") < 0)
		return 2;
	if (mkfifo("rw/fifo", 0600) < 0 || symlink("x", "rw/l") < 0 || mkdir("rw/d", 0700) < 0)
		return 3;
	if (open("ro/f", O_RDONLY) < 0)
		return 4;
	if (open("ro/f", O_WRONLY) >= 0 || errno != EACCES || truncate("ro/f", 0) == 0)
		return 5;
	if (open("ro/new", O_RDWR | O_CREAT, 0600) >= 0 || unlink("ro/f") == 0 || errno != EACCES)
		return 6;
	if (rename("rw/sub/f", "ro/g") == 0 || link("ro/f", "rw/h") == 0)
		return 7;
	if (open("no/f", O_RDONLY) >= 0 || errno != EACCES || open("no", O_RDONLY) >= 0)
		return 8;
	if (open("rm/f", O_RDONLY) >= 0 || unlink("rm/f") == 0 || rmdir("rm/d") < 0)
		return 9;
	return 0;
}

static void landlock_reaches_what_it_says(void **state)
{
	static const char *const dirs[] = {"rw", "rw/sub", "ro", "no", "rm", "rm/d"};
	static const char *const files[] = {"ro/f", "no/f", "rm/f"};
	_close_ int fd = -1;
	pid_t pid;
	int status;

	if (landlock_version() < 2) {
		print_message("no Landlock here\n");
		skip();
	}
	assert_non_null(mkdtemp(top));
	fd = open(top, O_RDONLY | O_DIRECTORY);
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		assert_int_equal(mkdirat(fd, dirs[i], 0700), 0);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		close(openat(fd, files[i], O_WRONLY | O_CREAT, 0600));
	pid = fork();
	if (pid == 0)
		_exit(reach(top));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(fs_remove_tree(AT_FDCWD, top, NULL), 0);
	assert_int_equal(status, 0);
}

/* ---- children in a jail ---- */

static void child_is_the_first_of_its_namespace(void **state)
{
	_free_ char *out = NULL;
	char **argv = ARGV("sh", "-c", "echo $$; id -u");
	char want[32];
	struct child_spec spec = {.path = "/bin/sh", .argv = argv, .in = CHILD_NULL, .jail = JAIL_PID};

	if (jail_refused() & (JAIL_PID | JAIL_USERNS))
		skip();
	snprintf(want, sizeof(want), "1\n%u\n", (unsigned)geteuid());
	assert_int_equal(child_run(&spec, &out, 100, NULL), 0);
	assert_string_equal(out, want);
}

static void child_failure_is_still_told(void **state)
{
	char **argv = ARGV("/nowhere");
	struct err err = {0};
	struct child c;

	assert_int_equal(child_spawn(&(struct child_spec){.path = argv[0],
					     .argv = argv,
					     .in = CHILD_NULL,
					     .jail = JAIL_PID | JAIL_NET | JAIL_NEWPRIVS},
				 &c, &err),
		-1);
	assert_int_equal(err.errnum, ENOENT);
}

static void child_sees_what_its_rules_say(void **state)
{
	struct landlock_rule rules[] = {{.path = "/", .access = LANDLOCK_RUN | LANDLOCK_LOOK}};
	char **argv = ARGV("sh", "-c", "cat /etc/passwd >/dev/null && ! echo x >/dev/shm/hutch-no");
	struct child_spec spec = {.path = "/bin/sh",
		.argv = argv,
		.in = CHILD_NULL,
		.out = CHILD_NULL,
		.errout = CHILD_NULL,
		.jail = JAIL_NEWPRIVS,
		.rules = rules,
		.n_rules = 1};

	if (landlock_version() < 2)
		skip();
	/* The redirection to /dev/null is refused as well. */
	assert_int_not_equal(child_run(&spec, NULL, 0, NULL), 0);
	argv[2] = (char *)(uintptr_t)"cat /etc/passwd && ! echo x >/dev/shm/hutch-no";
	assert_int_equal(child_run(&spec, NULL, 0, NULL), 0);
}

/* What the rules do not name is not there: no socket file that could be connected to. */
static void child_has_a_root_of_its_own(void **state)
{
	static char dir[] = "/tmp/hutch-root-XXXXXX";
	_free_ char *ours = NULL, *theirs = NULL, *disk = NULL, *script = NULL, *out = NULL;
	struct landlock_rule rules[] = {{.path = "/usr", .access = LANDLOCK_RUN | LANDLOCK_LOOK},
		{.path = "/lib", .access = LANDLOCK_RUN | LANDLOCK_LOOK},
		{.path = "/lib64", .access = LANDLOCK_RUN | LANDLOCK_LOOK},
		{.path = "/bin", .access = LANDLOCK_RUN | LANDLOCK_LOOK},
		{.path = "/usr/bin", .access = LANDLOCK_RUN | LANDLOCK_LOOK},
		{.path = "/nowhere/at/all", .access = LANDLOCK_LOOK},
		{.access = LANDLOCK_LOOK | LANDLOCK_MODIFY},
		{.access = LANDLOCK_LOOK}};
	char **argv = ARGV("sh", "-c", "");
	struct child_spec spec = {.path = "/bin/sh",
		.argv = argv,
		.in = CHILD_NULL,
		.jail = JAIL_PID | JAIL_USERNS | JAIL_ROOT | JAIL_CAPS | JAIL_NEWPRIVS,
		.rules = rules,
		.n_rules = ARRAY_SIZE(rules)};

	if (jail_refused() & (JAIL_PID | JAIL_USERNS | JAIL_ROOT))
		skip();
	assert_non_null(mkdtemp(dir));
	ours = xasprintf("%s/ours", dir);
	theirs = xasprintf("%s/theirs", dir);
	disk = xasprintf("%s/disk", dir);
	assert_int_equal(mknod(ours, S_IFSOCK | 0600, 0), 0);
	assert_int_equal(mknod(theirs, S_IFSOCK | 0600, 0), 0);
	assert_int_equal(mknod(disk, S_IFREG | 0600, 0), 0);
	rules[ARRAY_SIZE(rules) - 1].path = ours;
	rules[ARRAY_SIZE(rules) - 2].path = disk;
	script = xasprintf("test -S %s && test ! -e %s && test ! -e /etc && test ! -e /proc/self &&"
			   " ! mkdir %s/d 2>&- && ! mkdir /d 2>&- && echo x >%s && echo good",
		ours, theirs, dir, disk);
	argv[2] = script;
	assert_int_equal(child_run(&spec, &out, 1000, NULL), 0);
	assert_string_equal(out, "good\n");
	assert_int_equal(access(ours, F_OK) | access(theirs, F_OK), 0); /* the host's are as they were */
	unlink(ours);
	unlink(theirs);
	unlink(disk);
	assert_int_equal(rmdir(dir), 0);
}

/* A child that hangs in the middle of its work still dies with its parent. */
static void child_dies_with_its_parent(void **state)
{
	int pipefd[2], status;
	pid_t parent, seen;
	char byte;

	assert_int_equal(pipe2(pipefd, 0), 0);
	parent = fork();
	if (parent == 0) {
		char **argv = ARGV("sleep", "600");
		struct child c;

		close(pipefd[0]);
		if (child_spawn(&(struct child_spec){.path = "sleep",
					.argv = argv,
					.in = CHILD_NULL,
					.out = pipefd[1],
					.jail = JAIL_PID | JAIL_USERNS | JAIL_NET | JAIL_CAPS |
						JAIL_NEWPRIVS},
			    &c, NULL) < 0)
			_exit(1);
		if (write(pipefd[1], &c.pid, sizeof(c.pid)) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	close(pipefd[1]);
	assert_int_equal(fd_read_all(pipefd[0], &seen, sizeof(seen)), 0);
	kill(seen, SIGSTOP);
	kill(parent, SIGKILL);
	waitpid(parent, &status, 0);
	alarm(120);
	assert_int_equal(read(pipefd[0], &byte, 1), 0); /* its end of the pipe goes with it */
	alarm(0);
	close(pipefd[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_mean_what_they_say),
		cmocka_unit_test(filters_are_their_lists),
		cmocka_unit_test(other_architectures_end_the_process),
		cmocka_unit_test(nobody_may_do_these),
		cmocka_unit_test(kernel_agrees),
		cmocka_unit_test(landlock_reaches_what_it_says),
		cmocka_unit_test(child_is_the_first_of_its_namespace),
		cmocka_unit_test(child_failure_is_still_told),
		cmocka_unit_test(child_sees_what_its_rules_say),
		cmocka_unit_test(child_has_a_root_of_its_own),
		cmocka_unit_test(child_dies_with_its_parent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Installing system call filters, and what every program of ours may call. */
#include "base/seccomp.h"

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

/* What the C library does on its own account. It is refused tgkill() softly: abort() then ends by
 * its own trap instead of looking like an attack. It tries clone3() before clone(), whose flags can
 * be checked. Memory never becomes executable. */
/* syscalls(libc): futex clock_gettime brk mmap(-PROT_EXEC) munmap mremap mprotect(-PROT_EXEC)
 *	madvise getrandom rt_sigreturn restart_syscall rt_sigprocmask rt_sigaction getpid gettid
 *	clock_nanosleep nanosleep sched_yield exit exit_group rseq set_robust_list
 *	clone3=ENOSYS tgkill=EPERM */

/* What only an intruder would do. */
/* syscalls(attack): execve=KILL execveat=KILL fork=KILL vfork=KILL ptrace=KILL process_vm_readv=KILL
 *	process_vm_writev=KILL kill=KILL tkill=KILL mount=KILL umount2=KILL pivot_root=KILL chroot=KILL
 *	move_mount=KILL open_tree=KILL fsopen=KILL fsmount=KILL mount_setattr=KILL setns=KILL
 *	unshare=KILL bpf=KILL perf_event_open=KILL userfaultfd=KILL keyctl=KILL add_key=KILL
 *	request_key=KILL io_uring_setup=KILL io_uring_enter=KILL io_uring_register=KILL
 *	init_module=KILL finit_module=KILL delete_module=KILL kexec_load=KILL
 *	kexec_file_load=KILL open_by_handle_at=KILL setuid=KILL setgid=KILL setreuid=KILL
 *	setregid=KILL setresuid=KILL setresgid=KILL setgroups=KILL capset=KILL personality=KILL */

/* The run-time of ASan, UBSan and TSan, in builds that have it and nowhere else. What it would open
 * to make a report prettier is refused softly, so that there is a report at all. */
/* syscalls(sanitizer): mmap mprotect write sigaltstack sched_getaffinity prlimit64 getrlimit
 *	getpid gettid getppid clock_gettime gettimeofday nanosleep sched_yield futex munmap madvise
 *	rt_sigaction rt_sigprocmask uname sysinfo tgkill exit_group
 *	open=EACCES openat=EACCES readlink=EACCES readlinkat=EACCES stat=EACCES lstat=EACCES
 *	fstat newfstatat=EACCES access=EACCES getcwd=EACCES getdents64=EBADF ioctl=ENOTTY
 *	pipe=EPERM pipe2=EPERM fork=EPERM clone=EPERM prctl=EPERM lseek=EPERM read=EPERM
 *	close=EPERM dup2=EPERM fcntl=EPERM getuid geteuid */

/* A test build leaves each refusal in the kernel's log, those with a mere error too. */
#ifdef HUTCH_TEST_HOOKS
#define FLAGS SECCOMP_FILTER_FLAG_LOG
#else
#define FLAGS 0
#endif

int seccomp_enter(const struct seccomp_filter *f, struct err *err)
{
	struct sock_fprog prog = {.len = f->n, .filter = (struct sock_filter *)(uintptr_t)f->code};

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, FLAGS, &prog) == 0)
		return 1;
	/* A kernel without it would not get as far as looking at a program that is not there. */
	if (errno == ENOSYS ||
		(errno == EINVAL && syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, NULL) < 0 &&
			errno == EINVAL))
		return 0;
	return err_errno(err, "system call filter %s", f->name);
}

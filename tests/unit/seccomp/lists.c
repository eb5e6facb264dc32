/* SPDX-License-Identifier: Apache-2.0 */
/* Lists for test_seccomp.c, which states by hand what each filter must answer. */

/* syscalls(try): +shared getuid mprotect(-PROT_EXEC) socket(AF_UNIX|AF_INET) clone(+CLONE_VM|CLONE_THREAD)
 *	getgid=EXDEV ptrace=KILL -- free text, openat is not meant */

/* syscalls(shared): read write exit_group
 *	prctl(PR_GET_NAME) prctl(PR_GET_DUMPABLE) */

/* syscalls(strict): +shared prctl uname=ENOSYS uname */

/* syscalls(sanitizer): rt_sigaction getuid=EPERM */

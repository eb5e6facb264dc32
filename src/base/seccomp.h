/* SPDX-License-Identifier: Apache-2.0 */
/* System call filters. tools/gen-seccomp makes them from the lists in comments, as a header per
 * process (filters.h in the build directory). HACKING.md, "a system call". */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/err.h"

/* Younger than the oldest headers that we build with. */
#ifndef __NR_fchmodat2
#define __NR_fchmodat2 452
#endif

struct seccomp_filter {
	const char *name;
	const struct sock_filter *code;
	unsigned short n;
};

/* One row of the list that a filter was made from (gen-seccomp --table). */
struct seccomp_entry {
	const char *name;
	unsigned nr, action;
	bool conditional; /* allowed for some arguments, @action for the others */
};

/* Confine the calling thread for ever, and every thread it makes. It must have no_new_privs.
 * 1: done, 0: this kernel has no filters, -1 with @err. */
int seccomp_enter(const struct seccomp_filter *f, struct err *err);

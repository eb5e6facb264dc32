/* SPDX-License-Identifier: Apache-2.0 */
/* What hutch-box keeps when its children run: it watches them, hands out streams, keeps logs, and takes
 * the sandbox's directory and sockets away. A restart is a new hutch-box, so it never starts a program
 * again. What is not listed fails; what only an intruder does ends the process. */
#include <sys/resource.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/jail.h"
#include "base/paths.h"
#include "base/probe.h"
#include "box/box.h"
#include "box/filters.h"

/* syscalls(box): +libc +loop +fd accept4 socketpair(AF_UNIX) getsockopt(SO_PEERCRED) shutdown sendto
 *	recvfrom readv writev openat open newfstatat fstat lstat stat statx access faccessat faccessat2
 *	readlink readlinkat lseek getdents64 unlink unlinkat rmdir rename renameat mkdir mkdirat
 *	fchmod ftruncate fsync fdatasync wait4 waitid pidfd_send_signal getuid geteuid umask
 *	+attack */

int box_seal(struct box *b, unsigned *missing, struct err *err)
{
	_free_ char *boxes = path_state("boxes", err), *runtime = path_runtime(err);
	_free_ char *config = path_config("", err);
	struct landlock_rule rules[] = {
		{.fd = b->dir_fd, .access = LANDLOCK_LOOK | LANDLOCK_MODIFY},
		{.path = boxes, .access = LANDLOCK_REMOVE_DIRS},
		{.path = runtime, .access = LANDLOCK_REMOVE_FILES},
		/* The user's rules for all sandboxes, which may change. */
		{.path = config, .access = LANDLOCK_LOOK},
	};

	if (!boxes || !runtime || !config)
		return -1;
	jail_limit(RLIMIT_CORE, 0);
	if (jail_enter(JAIL_NEWPRIVS | JAIL_CAPS, missing, err) < 0)
		return -1;
	if (jail_seal(&(struct jail_seal){.rules = rules,
			      .n_rules = ARRAY_SIZE(rules),
			      .more = LANDLOCK_NO_TCP,
			      .filter = &filter_box},
		    missing, err) < 0)
		return -1;
	jail_probe("box");
	return 0;
}

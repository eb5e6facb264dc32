/* SPDX-License-Identifier: Apache-2.0 */
/* What hutch-ssh keeps when it has started: the sockets it has, and those that it is handed. No
 * file, no network, no program. hutch-box has put it into namespaces of its own. A call that is not
 * listed fails, since libcrypto's differ from version to version; what only an intruder does ends
 * it. */
#include "ssh/seal.h"

#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/jail.h"
#include "base/probe.h"
#include "ssh/filters.h"

/* syscalls(ssh): +libc +loop +fd recvfrom sendto setsockopt sysinfo getuid geteuid +attack */

int ssh_seal(unsigned *ret_missing, struct err *err)
{
	jail_limit(RLIMIT_CORE, 0);
	prctl(PR_SET_DUMPABLE, TRACEABLE, 0, 0, 0);
	if (jail_enter(JAIL_USERNS | JAIL_NET | JAIL_IPC | JAIL_ROOT | JAIL_NEWPRIVS | JAIL_CAPS,
		    ret_missing, err) < 0)
		return -1;
	jail_limit(RLIMIT_NPROC, 0);
	if (jail_seal(&(struct jail_seal){.more = LANDLOCK_NO_TCP | LANDLOCK_ALONE,
			      .filter = &filter_ssh},
		    ret_missing, err) < 0)
		return -1;
	jail_probe("ssh");
	return 0;
}

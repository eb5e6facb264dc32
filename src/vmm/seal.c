/* SPDX-License-Identifier: Apache-2.0 */
/* What each thread of hutch-vmm may still do.
 *
 * A call that is not listed ends the process with SIGSYS: the program links libc only, does nothing
 * of which it does not know, and so such a call is somebody else's. All threads share memory: the
 * filters of the others are what a taken-over thread has to reach through. */
#include "vmm/seal.h"

#include <sys/resource.h>
#include <unistd.h>

#include "base/jail.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/probe.h"
#include "fuse/fuse.h"
#include "vmm/filters.h"

/* The main thread, which runs the loop of the network, vsock and links. socketpair() makes no
 * connection to anywhere; socket() is not there. */
/* syscalls(vmm): +libc +loop +fd +vhost-user +netgate +vsock accept4 socketpair(AF_UNIX) fdatasync */

/* The thread of the file server. */
/* syscalls(vmm-files): +libc +loop +fd +vhost-user +fuse */

/* The thread that deletes for it, by closing descriptors. */
/* syscalls(vmm-closer): +libc close */

/* A thread that runs a virtual CPU: guest code, registers, exits that end in a device's register or
 * an eventfd. */
/* syscalls(vmm-vcpu): +hv-run write +libc */

/* Threads that do the I/O of block devices on descriptors that are open, and their loop. */
/* syscalls(vmm-disk): preadv pwritev preadv2 pwritev2 fdatasync fallocate read write +libc +loop */

int seal_main(unsigned *missing, struct err *err)
{
	static const struct jail_seal seal = {.more = LANDLOCK_NO_TCP, .filter = &filter_vmm};

	/* No thread, no process, no locked memory any more. */
	jail_limit(RLIMIT_NPROC, 0);
	jail_limit(RLIMIT_CORE, 0);
	jail_limit(RLIMIT_MEMLOCK, 0);
	if (jail_seal(&seal, missing, err) < 0)
		return -1;
	jail_probe("vmm");
	return 0;
}

static void seal_thread(const char *name, const struct jail_seal *seal)
{
	unsigned missing;
	struct err err;

	if (jail_seal(seal, &missing, &err) < 0) {
		log_error("%s: %s", name, err.msg);
		_exit(1);
	}
	jail_probe(name);
}

void seal_files(const struct seal_export *exports, size_t n)
{
	struct landlock_rule rules[FUSE_EXPORTS_MAX];

	n = MIN(n, ARRAY_SIZE(rules));
	for (size_t i = 0; i < n; i++)
		rules[i] = (struct landlock_rule){.fd = exports[i].fd,
			.access = LANDLOCK_LOOK | (exports[i].read_only ? 0 : LANDLOCK_MODIFY)};
	seal_thread("vmm-files",
		&(struct jail_seal){.rules = rules,
			.n_rules = n,
			.more = LANDLOCK_NO_TCP,
			.filter = &filter_vmm_files});
}

void seal_closer(void)
{
	seal_thread("vmm-closer",
		&(struct jail_seal){.more = LANDLOCK_NO_TCP, .filter = &filter_vmm_closer});
}

void seal_vcpu(void)
{
	seal_thread("vmm-vcpu",
		&(struct jail_seal){.more = LANDLOCK_NO_TCP, .filter = &filter_vmm_vcpu});
}

void seal_disk(void)
{
	seal_thread("vmm-disk",
		&(struct jail_seal){.more = LANDLOCK_NO_TCP, .filter = &filter_vmm_disk});
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What hutch-gate keeps when it has started.
 *
 * Files: its log and its CA in a directory of its own, OAuth tokens to keep, and what the resolver and OpenSSL read during operation: the first at each change, the second for each certificate that it
 * looks up. These are below /etc on every system, with links to a few places elsewhere. Everything
 * else, the user's home above all, is out of reach.
 *
 * Calls: sockets of the internet, files, and what three libraries do on their own account. These
 * differ from version to version, so a call that is not listed fails instead of ending the process;
 * those that only an intruder makes do end it. */
#include "gate/seal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <openssl/x509.h>

#include "base/jail.h"
#include "base/mem.h"
#include "base/paths.h"
#include "gate/filters.h"

#define RULES_MAX 48

/* No UNIX sockets: behind the one of a session's bus somebody runs programs for whoever asks, and
 * Landlock has no say about connecting to it. */
/* syscalls(gate): +libc +loop +fd socket(AF_INET|AF_INET6) connect getsockname getpeername
 *	getsockopt setsockopt shutdown sendto recvfrom readv writev poll ioctl(FIONREAD|FIONBIO) bind
 *	sendmmsg mlock munlock openat open newfstatat stat lstat fstat statx access faccessat faccessat2
 *	readlink lseek pread64 pwrite64 getdents64 renameat rename unlinkat unlink fsync fdatasync ftruncate
 *	fchmod umask uname sysinfo getuid geteuid getgid getegid sched_getaffinity prlimit64
 *	eventfd2 +attack */

/* The leak check at the end of a build with ASan traces the process from a thread. */
/* syscalls(sanitizer-gate): +sanitizer clone(+CLONE_UNTRACED) ptrace wait4 prctl pipe2 sigaltstack arch_prctl
 *	process_vm_readv getdents getdents64 readlink open tgkill */

static const char *const read_paths[] = {"/etc", "/run/systemd/resolve", "/run/NetworkManager",
	"/run/resolvconf", "/run/connman", "/usr/lib/ssl", "/usr/share/ca-certificates",
	"/usr/local/share/ca-certificates", "/usr/share/pki", "/usr/share/zoneinfo", "/dev/urandom"};

struct rules {
	struct landlock_rule r[RULES_MAX];
	size_t n;
	char *owned[RULES_MAX];
	size_t n_owned;
};

static void allow(struct rules *l, const char *path, int fd, unsigned access)
{
	if (l->n < RULES_MAX)
		l->r[l->n++] = (struct landlock_rule){.path = path, .fd = fd, .access = access};
}

static void allow_copy(struct rules *l, char *path /* taken */)
{
	if (!path || l->n_owned == RULES_MAX) {
		free(path);
		return;
	}
	l->owned[l->n_owned++] = path;
	allow(l, path, -1, LANDLOCK_LOOK);
}

/* As OpenSSL finds its trust store: a file, and directories separated by colons. */
static void allow_trust_store(struct rules *l)
{
	const char *file = getenv(X509_get_default_cert_file_env());
	const char *dirs = getenv(X509_get_default_cert_dir_env());
	_free_ char *copy = xstrdup(dirs ? dirs : X509_get_default_cert_dir());
	char *save = NULL;

	allow_copy(l, xstrdup(file ? file : X509_get_default_cert_file()));
	for (char *d = strtok_r(copy, ":", &save); d; d = strtok_r(NULL, ":", &save))
		allow_copy(l, xstrdup(d));
}

int gate_seal(int dirfd, int tokens, unsigned *missing, struct err *err)
{
	struct rules l = {.n = 0};
	int result;

	allow(&l, NULL, dirfd, LANDLOCK_LOOK | LANDLOCK_MODIFY);
	allow(&l, NULL, tokens, LANDLOCK_LOOK | LANDLOCK_MODIFY);
	for (size_t i = 0; i < ARRAY_SIZE(read_paths); i++)
		allow(&l, read_paths[i], -1, LANDLOCK_LOOK);
	/* Files that may be replaced: where they really are, with their neighbours. */
	allow_copy(&l, path_dir("/etc/resolv.conf"));
	allow_copy(&l, path_dir("/etc/hosts"));
	allow_trust_store(&l);
	if (TRACEABLE)
		allow(&l, "/proc", -1, LANDLOCK_LOOK);
	else
		jail_limit(RLIMIT_NPROC, 0); /* the check's thread as well, unless root runs it */
	result = jail_seal(&(struct jail_seal){.rules = l.r,
				   .n_rules = l.n,
				   .more = LANDLOCK_ALONE,
				   .filter = &filter_gate},
		missing, err);
	for (size_t i = 0; i < l.n_owned; i++)
		free(l.owned[i]);
	return result;
}

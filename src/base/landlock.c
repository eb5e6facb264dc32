/* SPDX-License-Identifier: Apache-2.0 */
/* Landlock by raw system calls: the interface is ours to declare, because the headers that we build
 * with may be older than the kernel that we run on (Documentation/userspace-api/landlock.rst). */
#include "base/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

enum {
	FS_EXECUTE = 1 << 0,
	FS_WRITE_FILE = 1 << 1,
	FS_READ_FILE = 1 << 2,
	FS_READ_DIR = 1 << 3,
	FS_REMOVE_DIR = 1 << 4,
	FS_REMOVE_FILE = 1 << 5,
	FS_MAKE_CHAR = 1 << 6,
	FS_MAKE_DIR = 1 << 7,
	FS_MAKE_REG = 1 << 8,
	FS_MAKE_SOCK = 1 << 9,
	FS_MAKE_FIFO = 1 << 10,
	FS_MAKE_BLOCK = 1 << 11,
	FS_MAKE_SYM = 1 << 12,
	FS_REFER = 1 << 13,	/* version 2 */
	FS_TRUNCATE = 1 << 14,	/* 3 */
	FS_IOCTL_DEV = 1 << 15, /* 5 */
};
#define FS_OF_A_FILE (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)

enum { NET_BIND_TCP = 1 << 0, NET_CONNECT_TCP = 1 << 1 };	     /* 4 */
enum { SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0, SCOPE_SIGNAL = 1 << 1 }; /* 6 */

#define CREATE_VERSION	  1u
#define RULE_PATH_BENEATH 1

struct ruleset_attr {
	uint64_t fs, net, scoped;
};

struct path_beneath {
	uint64_t access;
	int32_t fd;
} __attribute__((packed));

int landlock_version(void)
{
	long v = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_VERSION);

	return v < 0 ? 0 : (int)v;
}

static uint64_t fs_rights(int version)
{
	if (version >= 5)
		return FS_IOCTL_DEV * 2 - 1;
	if (version >= 3)
		return FS_TRUNCATE * 2 - 1;
	return version >= 2 ? FS_REFER * 2 - 1 : FS_MAKE_SYM * 2 - 1;
}

static uint64_t translate(unsigned access)
{
	uint64_t fs = 0;

	if (access & LANDLOCK_LOOK)
		fs |= FS_READ_FILE | FS_READ_DIR;
	if (access & LANDLOCK_RUN)
		fs |= FS_EXECUTE;
	if (access & LANDLOCK_REMOVE_FILES)
		fs |= FS_REMOVE_FILE;
	if (access & LANDLOCK_REMOVE_DIRS)
		fs |= FS_REMOVE_DIR;
	if (access & LANDLOCK_MODIFY)
		fs |= FS_WRITE_FILE | FS_TRUNCATE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR |
		      FS_MAKE_REG | FS_MAKE_SOCK | FS_MAKE_FIFO | FS_MAKE_SYM | FS_REFER;
	return fs;
}

static int add_rule(int ruleset, const struct landlock_rule *r, uint64_t handled, struct err *err)
{
	_close_ int own = r->path ? open(r->path, O_PATH | O_CLOEXEC) : -1;
	struct path_beneath beneath = {.access = translate(r->access) & handled,
		.fd = r->path ? own : r->fd};
	struct stat st;

	if (beneath.fd < 0)
		return 0;
	if (fstat(beneath.fd, &st) < 0)
		return err_errno(err, "landlock");
	if (!S_ISDIR(st.st_mode))
		beneath.access &= FS_OF_A_FILE;
	if (syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &beneath, 0) < 0)
		return err_errno(err, "landlock rule%s%s", r->path ? " for " : "", r->path ? r->path : "");
	return 0;
}

size_t landlock_programs(struct landlock_rule rules[static LANDLOCK_PROGRAMS])
{
	static const char *const places[] = {"/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt",
		"/nix/store", "/gnu/store", "/etc/ld.so.cache", "/etc/ld.so.preload"};

	_Static_assert(ARRAY_SIZE(places) == LANDLOCK_PROGRAMS, "a rule for each");
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		rules[i] = (struct landlock_rule){
			.path = places[i], .access = LANDLOCK_LOOK | LANDLOCK_RUN};
	return ARRAY_SIZE(places);
}

int landlock_enter(const struct landlock_rule *rules, size_t n, unsigned more, struct err *err)
{
	int version = landlock_version();
	struct ruleset_attr attr = {.fs = fs_rights(version)};
	size_t size = sizeof(attr.fs);
	_close_ int ruleset = -1;

	/* Version 1 cannot allow renames across directories, which every program of ours needs. */
	if (version < 2)
		return 0;
	if (version >= 4) {
		size = offsetof(struct ruleset_attr, scoped);
		attr.net = more & LANDLOCK_NO_TCP ? NET_BIND_TCP | NET_CONNECT_TCP : 0;
	}
	if (version >= 6) {
		size = sizeof(attr);
		attr.scoped = more & LANDLOCK_ALONE ? SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL : 0;
	}
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (ruleset < 0)
		return err_errno(err, "landlock");
	for (size_t i = 0; i < n; i++)
		if (add_rule(ruleset, &rules[i], attr.fs, err) < 0)
			return -1;
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		return err_errno(err, "landlock");
	return 1;
}

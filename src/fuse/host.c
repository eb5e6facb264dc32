/* SPDX-License-Identifier: Apache-2.0 */
/* System calls that cannot leave the tree beneath their directory descriptor. */
#include "fuse/server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

/* All of the file server: by descriptor, or by one name beneath a descriptor. */
/* syscalls(fuse): openat2 close statx fstat newfstatat fstatfs readlinkat getdents64 lseek preadv
 *	pwritev preadv2 pwritev2 read write copy_file_range fallocate ftruncate fsync fdatasync syncfs
 *	mkdirat mknodat unlinkat renameat renameat2 linkat symlinkat fchmod fchmodat2 utimensat
 *	fgetxattr fsetxattr flistxattr fremovexattr fcntl(F_GETFL|F_DUPFD_CLOEXEC) */

int host_err(int errnum)
{
	/* ENOSYS would make the guest's kernel give up the operation for the whole mount, though
	 * only one export's file system lacks it. Values outside Linux' table do not exist for a
	 * guest. */
	if (errnum == ENOSYS)
		return -EOPNOTSUPP;
	if (errnum <= 0 || errnum > EHWPOISON)
		return -EIO;
	return -errnum;
}

int host_open(int dirfd, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC | O_NOFOLLOW),
		.mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd;
	int tries = 4;

	if (!(flags & O_PATH))
		how.flags |= O_NONBLOCK | O_NOCTTY;
	/* EAGAIN: the kernel saw a rename while it walked. */
	do
		fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || (errno == EAGAIN && --tries > 0)));
	if (fd >= 0)
		return (int)fd;
	if (errno == ELOOP || errno == EXDEV || errno == EAGAIN)
		return -ESTALE;
	return host_err(errno);
}

int host_stat(int dirfd, const char *name, struct statx *ret)
{
	int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH);

	if (statx(dirfd, name, flags, STATX_BASIC_STATS | STATX_BTIME, ret) < 0)
		return host_err(errno);
	return 0;
}

dev_t host_dev(const struct statx *st)
{
	return makedev(st->stx_dev_major, st->stx_dev_minor);
}

int host_chmod_path(int fd, mode_t mode)
{
	if (syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0)
		return 0;
	return errno == ENOSYS ? -ENOSYS : host_err(errno);
}

/* File systems whose files are the kernel's switches, not anybody's data. Someone who shares /
 * wants to show files, not /proc/PID/mem of this very process. */
bool host_is_kernel_fs(int fd)
{
	static const uint32_t magic[] = {PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP_SUPER_MAGIC,
		CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, TRACEFS_MAGIC, SECURITYFS_MAGIC, BPF_FS_MAGIC,
		BINFMTFS_MAGIC, DEVPTS_SUPER_MAGIC, EFIVARFS_MAGIC, PSTOREFS_MAGIC, NSFS_MAGIC,
		SELINUX_MAGIC, SMACK_MAGIC, 0x62656570 /* configfs */, 0x65735543 /* fusectl */};
	struct statfs st;

	if (fstatfs(fd, &st) < 0)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(magic); i++)
		if ((uint32_t)st.f_type == magic[i])
			return true;
	return false;
}

int host_stat_below(int dirfd, dev_t dev, const char *name, struct statx *ret)
{
	_close_ int fd = -1;
	int r = host_stat(dirfd, name, ret);

	if (r < 0 || host_dev(ret) == dev)
		return r;
	/* Another file system begins here. */
	fd = host_open(dirfd, name, O_PATH, 0);
	if (fd < 0)
		return fd;
	return host_is_kernel_fs(fd) ? -EACCES : host_stat(fd, "", ret);
}

bool host_links_nameless(int dirfd)
{
	/* The kernel asks that the process opened the source itself: the export's descriptor, which
	 * came from elsewhere, would not do. That right is checked first; then the new name "." can
	 * only exist already. Nothing is ever made. */
	_close_ int own = host_open(dirfd, ".", O_PATH | O_DIRECTORY, 0);

	return own >= 0 && linkat(own, "", dirfd, ".", AT_EMPTY_PATH) < 0 && errno == EEXIST;
}

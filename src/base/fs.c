/* SPDX-License-Identifier: Apache-2.0 */
/* Host files. */
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

int fs_read_file(int dirfd, const char *path, struct buf *b, struct err *err)
{
	_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return err_errno(err, "%s", path);
	for (;;) {
		uint8_t probe;
		ssize_t n;

		if (buf_room(b) == 0) {
			n = read(fd, &probe, 1);
			if (n == 0)
				return 0;
			return err_set(err, ERR_USER, "%s: larger than %zu bytes", path, b->max);
		}
		n = buf_read(b, fd, 65536);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, "%s", path);
		if (n == 0)
			return 0;
	}
}

int fs_write_file(
	int dirfd, const char *path, const void *data, size_t len, mode_t mode, struct err *err)
{
	_free_ char *tmp = xasprintf("%s.%d.tmp", path, (int)getpid());
	_close_ int fd = -1;

	unlinkat(dirfd, tmp, 0);
	fd = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return err_errno(err, "%s", path);
	if (fchmod(fd, mode) < 0 || fd_write_all(fd, data, len) < 0 || fsync(fd) < 0 ||
		renameat(dirfd, tmp, dirfd, path) < 0) {
		err_errno(err, "%s", path);
		unlinkat(dirfd, tmp, 0);
		return -1;
	}
	return 0;
}

int fs_mkdirs(const char *path, mode_t mode, struct err *err)
{
	_free_ char *p = xstrdup(path);
	struct stat st;

	for (char *c = p + 1; *c; c++) {
		if (*c != '/')
			continue;
		*c = '\0';
		if (mkdir(p, mode) < 0 && errno != EEXIST)
			return err_errno(err, "%s", p);
		*c = '/';
	}
	if (mkdir(p, mode) < 0 && errno != EEXIST)
		return err_errno(err, "%s", p);
	if (stat(p, &st) < 0)
		return err_errno(err, "%s", p);
	if (!S_ISDIR(st.st_mode)) {
		errno = ENOTDIR;
		return err_errno(err, "%s", p);
	}
	return 0;
}

/* What its owner may not read, search or change still has to go. */
static int open_to_remove(int dirfd, const char *name)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dirfd, name, flags);

	if (fd < 0 && errno == EACCES) {
		if (fchmodat(dirfd, name, 0700, AT_SYMLINK_NOFOLLOW) < 0)
			errno = EACCES;
		else
			fd = openat(dirfd, name, flags);
	}
	if (fd >= 0 && faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) < 0)
		(void)fchmod(fd, 0700);
	return fd;
}

static int remove_in(int dirfd, const char *name, int depth)
{
	DIR *dir = NULL;
	struct dirent *e;
	int fd, why, result = 0;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	/* EACCES: Landlock, which may allow to remove directories alone. */
	why = errno;
	if (why != EISDIR && why != EPERM && why != EACCES)
		return -1;
	if (depth > 256) {
		errno = ELOOP;
		return -1;
	}
	fd = open_to_remove(dirfd, name);
	if (fd < 0) {
		if (errno == ENOTDIR)
			errno = why;
		return -1;
	}
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -1;
	}
	while ((e = readdir(dir))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (remove_in(fd, e->d_name, depth + 1) < 0)
			result = -1;
	}
	closedir(dir);
	if (result == 0 && unlinkat(dirfd, name, AT_REMOVEDIR) < 0)
		result = -1;
	return result;
}

int fs_remove_tree(int dirfd, const char *name, struct err *err)
{
	if (remove_in(dirfd, name, 0) < 0)
		return err_errno(err, "remove %s", name);
	return 0;
}

int fs_copy_sparse(int from, int to, struct err *err)
{
	off_t end = lseek(from, 0, SEEK_END), at = 0;
	_free_ char *chunk = xmalloc(1 << 16);

	if (end < 0 || ftruncate(to, end) < 0)
		return err_errno(err, "copy");
	while (at < end) {
		off_t data = lseek(from, at, SEEK_DATA), hole;

		if (data < 0 && errno == ENXIO)
			return 0;
		if (data < 0)
			return err_errno(err, "copy");
		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			return err_errno(err, "copy");
		for (at = data; at < hole;) {
			ssize_t n = pread(from, chunk, MIN((size_t)(hole - at), (size_t)1 << 16), at);

			if (n == 0)
				return err_set(err, ERR_ENV, "copy: the file shrank meanwhile");
			if (n < 0)
				return err_errno(err, "copy");
			n = pwrite(to, chunk, (size_t)n, at); /* a full disk takes part of it first */
			if (n < 0)
				return err_errno(err, "copy");
			at += n;
		}
	}
	return 0;
}

char *fs_join(const char *b, const char *a)
{
	return xasprintf("%s/%s", b, a);
}

bool fs_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

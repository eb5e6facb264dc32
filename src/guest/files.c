/* SPDX-License-Identifier: Apache-2.0 */
/* Small files of the guest: read with a ceiling, written only when they differ. */
#include "guest/init.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

int file_read(const char *path, struct buf *b, struct err *err)
{
	/* O_NONBLOCK: a FIFO in this place must not stop PID 1. */
	_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, "%s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_ENV, "%s: not a regular file", path);
	if ((uint64_t)st.st_size > buf_room(b))
		return err_set(err, ERR_ENV, "%s: larger than %zu bytes", path, b->max);
	do {
		/* One byte more than its size tells the end of the file in the same call. */
		n = buf_room(b) ? buf_read(b, fd, MAX((size_t)st.st_size, (size_t)4095) + 1) : 0;
		if (n < 0 && errno != EINTR)
			return err_errno(err, "%s", path);
	} while (n != 0);
	return 0;
}

static bool file_holds(const char *path, const void *data, size_t len)
{
	struct stat st;
	_buf_ struct buf have;

	buf_init(&have, len + 1);
	if (lstat(path, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != len)
		return false;
	return file_read(path, &have, NULL) == 0 && buf_len(&have) == len &&
	       (len == 0 || memcmp(buf_head(&have), data, len) == 0);
}

/* No fsync: these files are made again at the next start, and the file system orders the rename
 * after the data. */
int file_put(const char *path, const void *data, size_t len, mode_t mode, struct err *err)
{
	_free_ char *tmp = NULL;
	_close_ int fd = -1;

	if (file_holds(path, data, len))
		return 0;
	tmp = xasprintf("%s.hutch", path);
	unlink(tmp);
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(err, "%s", path);
	if (fd_write_all(fd, data, len) < 0 || fchmod(fd, mode) < 0 || rename(tmp, path) < 0) {
		err_errno(err, "%s", path);
		unlink(tmp);
		return -1;
	}
	return 0;
}

int file_put_text(const char *path, const char *text, mode_t mode, struct err *err)
{
	return file_put(path, text, strlen(text), mode, err);
}

void file_set(const char *path, const char *text)
{
	_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && fd_write_all(fd, text, strlen(text)) < 0)
		say("%s: %s", path, strerror(errno));
}

static int make_one(const char *path, uid_t uid, gid_t gid)
{
	if (mkdir(path, 0755) < 0)
		return errno == EEXIST ? 0 : -1;
	if ((uid || gid) && lchown(path, uid, gid) < 0 && errno != EPERM)
		return -1;
	return 0;
}

int dirs_make(const char *path, uid_t uid, gid_t gid, struct err *err)
{
	_free_ char *p = xstrdup(path);
	struct stat st;

	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return 0;
	for (char *c = p + 1; *c; c++) {
		if (*c != '/')
			continue;
		*c = '\0';
		if (make_one(p, uid, gid) < 0)
			return err_errno(err, "%s", p);
		*c = '/';
	}
	if (make_one(p, uid, gid) < 0 || stat(p, &st) < 0)
		return err_errno(err, "%s", p);
	if (!S_ISDIR(st.st_mode)) {
		errno = ENOTDIR;
		return err_errno(err, "%s", p);
	}
	return 0;
}

int dirs_make_parent(const char *path, uid_t uid, gid_t gid, struct err *err)
{
	const char *slash = strrchr(path, '/');
	_free_ char *dir = NULL;

	if (!slash || slash == path)
		return 0;
	dir = xstrndup(path, (size_t)(slash - path));
	return dirs_make(dir, uid, gid, err);
}

bool path_is_plain(const char *path)
{
	if (path[0] != '/' || strlen(path) >= PATH_MAX)
		return false;
	for (const char *c = path; *c;) {
		size_t len = strcspn(++c, "/");

		if (len == 0 || len > NAME_MAX || (len == 1 && c[0] == '.') ||
			(len == 2 && c[0] == '.' && c[1] == '.'))
			return false;
		c += len;
	}
	return true;
}

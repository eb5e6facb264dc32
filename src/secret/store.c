/* SPDX-License-Identifier: Apache-2.0 */
/* The secret store. */
#include "secret/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"

#define NAME_MAX_LEN 64u

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool secret_name_valid(const char *name)
{
	size_t n = strnlen(name, NAME_MAX_LEN + 1);

	if (n == 0 || n > NAME_MAX_LEN || !is_alnum(name[0]) || !is_alnum(name[n - 1]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!is_alnum(name[i]) && !strchr("._-", name[i]))
			return false;
	return true;
}

static int check_name(const char *name, struct err *err)
{
	if (secret_name_valid(name))
		return 0;
	return err_set(err, ERR_USER,
		"'%.80s' cannot name a secret: letters, digits, '.', '_' and '-', at most %u, "
		"starting and ending with a letter or digit",
		name, NAME_MAX_LEN);
}

int secret_store_open(const char *path, struct err *err)
{
	_close_ int fd = -1;
	struct stat st;

	if (fs_mkdirs(path, 0700, err) < 0)
		return -1;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, "%s", path);
	if (st.st_uid != geteuid())
		return err_set(err, ERR_ENV, "%s belongs to another user", path);
	if (st.st_mode & 077) {
		err_set(err, ERR_ENV, "%s can be read by other users (mode %04o)", path,
			(unsigned)st.st_mode & 07777);
		return err_hint(err, "chmod 700 %s", path);
	}
	return steal_fd(&fd);
}

/* Temporary files start with '.', so they are never a valid name and never listed. */
static int write_value(int store, const char *tmp, struct secret *value)
{
	_close_ int fd =
		openat(store, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || fchmod(fd, 0600) < 0)
		return -1;
	if (fd_write_all(fd, secret_bytes(value), secret_len(value)) < 0)
		return -1;
	return fsync(fd);
}

int secret_store_set(int store, const char *name, struct secret *value, struct err *err)
{
	_free_ char *tmp = NULL;
	struct timespec now;

	/* Process numbers alone do not tell writers apart: each gate is number 1 of its own. */
	clock_gettime(CLOCK_MONOTONIC, &now);
	tmp = xasprintf(".%s.%d.%lld.%ld", name, (int)getpid(), (long long)now.tv_sec, now.tv_nsec);
	if (check_name(name, err) < 0)
		return -1;
	unlinkat(store, tmp, 0);
	if (write_value(store, tmp, value) < 0 || renameat(store, tmp, store, name) < 0) {
		err_errno(err, "store secret %s", name);
		unlinkat(store, tmp, 0);
		return -1;
	}
	if (fsync(store) < 0)
		return err_errno(err, "store secret %s", name);
	return 0;
}

int secret_store_get(int store, const char *name, struct secret **ret, struct err *err)
{
	_close_ int fd = -1;
	struct stat st;

	if (check_name(name, err) < 0)
		return -1;
	fd = openat(store, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 && errno == ENOENT) {
		*ret = NULL;
		return 0;
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, "secret %s", name);
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_ENV, "secret %s: not a regular file", name);
	*ret = secret_read(fd, err);
	return *ret ? 0 : err_wrap(err, "secret %s", name);
}

int secret_store_remove(int store, const char *name, bool *ret_existed, struct err *err)
{
	if (check_name(name, err) < 0)
		return -1;
	if (unlinkat(store, name, 0) < 0) {
		if (errno != ENOENT)
			return err_errno(err, "remove secret %s", name);
		*ret_existed = false;
		return 0;
	}
	*ret_existed = true;
	if (fsync(store) < 0)
		return err_errno(err, "remove secret %s", name);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int secret_store_list(int store, struct strv *ret, struct err *err)
{
	/* A descriptor of its own: the position of @store belongs to everyone who holds it. */
	int fd = openat(store, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	size_t first = ret->n;
	struct dirent *e;
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir) {
		err_errno(err, "list secrets");
		if (fd >= 0)
			close(fd);
		return -1;
	}
	while ((e = readdir(dir)))
		if (secret_name_valid(e->d_name))
			strv_add(ret, e->d_name);
	closedir(dir);
	if (ret->n > first)
		qsort(ret->v + first, ret->n - first, sizeof(*ret->v), by_name);
	return 0;
}

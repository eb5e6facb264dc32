/* SPDX-License-Identifier: Apache-2.0 */
/* Archive entries become files: below one directory, nothing is ever overwritten. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive/extract.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/tree.h"

/* The directory that holds the last component of @path, made where it is missing. */
static int open_parent(int dirfd, const char *path, const char **ret_name, struct err *err)
{
	_close_ int fd = tree_open(dirfd, ".", O_RDONLY | O_DIRECTORY, 0);
	const char *at = path, *slash;

	while (fd >= 0 && (slash = strchr(at, '/')) != NULL) {
		_free_ char *name = xstrndup(at, (size_t)(slash - at));
		int next;

		if (mkdirat(fd, name, 0755) < 0 && errno != EEXIST)
			return err_errno(err, "%s", path);
		next = tree_open(fd, name, O_RDONLY | O_DIRECTORY, 0);
		close(fd);
		fd = next;
		at = slash + 1;
	}
	if (fd < 0)
		return err_errno(err, "%s", path);
	*ret_name = at;
	return steal_fd(&fd);
}

static int make_dir(void *arg, const char *path, struct err *err)
{
	struct extract_dir *d = arg;
	const char *name;
	_close_ int parent = open_parent(d->dirfd, path, &name, err);

	if (parent < 0)
		return -1;
	return mkdirat(parent, name, 0755) < 0 && errno != EEXIST ? err_errno(err, "%s", path) : 0;
}

static int make_file(void *arg, const char *path, bool exec, struct err *err)
{
	struct extract_dir *d = arg;
	const char *name;
	_close_ int parent = open_parent(d->dirfd, path, &name, err);

	if (parent < 0)
		return -1;
	close_and_reset(&d->file);
	d->file = tree_open(parent, name, O_WRONLY | O_CREAT | O_EXCL, exec ? 0755 : 0644);
	return d->file < 0 ? err_errno(err, "%s", path) : 0;
}

static int write_data(void *arg, const void *p, size_t len, struct err *err)
{
	struct extract_dir *d = arg;

	return fd_write_all(d->file, p, len) < 0 ? err_errno(err, "write") : 0;
}

static int make_link(void *arg, const char *path, const char *target, struct err *err)
{
	struct extract_dir *d = arg;
	const char *name;
	_close_ int parent = open_parent(d->dirfd, path, &name, err);

	if (parent < 0)
		return -1;
	return symlinkat(target, parent, name) < 0 ? err_errno(err, "%s", path) : 0;
}

struct extract_sink extract_dir_sink(struct extract_dir *d)
{
	d->file = -1;
	return (struct extract_sink){make_dir, make_file, write_data, make_link, d};
}

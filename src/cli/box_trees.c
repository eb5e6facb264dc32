/* SPDX-License-Identifier: Apache-2.0 */
/* The file trees of kits in the directory of a sandbox. */
#include "cli/box_trees.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "cli/boxes.h"
#include "kit/kit.h"

/* A file that refers to arguments of its kit. */
static int copy_expanded(int from_dir, int to, const char *name, const struct strv *args, struct err *err)
{
	_buf_ struct buf text, out;

	buf_init(&text, KIT_EXPAND_MAX);
	buf_init(&out, 4 * KIT_EXPAND_MAX);
	if (fs_read_file(from_dir, name, &text, err) < 0)
		return -1;
	if (kit_put_args(args, buf_cstr(&text), buf_len(&text), &out) < 0)
		return err_set(err, ERR_USER, "%s: larger than 4 MiB with its arguments", name);
	if (fd_write_all(to, buf_head(&out), buf_len(&out)) < 0)
		return err_errno(err, "%s", name);
	return 0;
}

static int copy_file(int from_dir, int to_dir, const char *name, const struct stat *st,
	const struct strv *args, struct err *err)
{
	mode_t mode = st->st_mode;
	_close_ int from = openat(from_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	_close_ int to = -1;

	if (from < 0)
		return err_errno(err, "%s", name);
	to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode & 0777);
	if (to < 0 || fchmod(to, mode & 0777) < 0)
		return err_errno(err, "%s", name);
	if (args->n && st->st_size <= KIT_EXPAND_MAX)
		return copy_expanded(from_dir, to, name, args, err);
	return fs_copy_sparse(from, to, err);
}

/* Copy a kit's files; the kit loader has checked what is in there, links included. */
static int copy_tree(int from, int to, int depth, const struct strv *args, struct err *err)
{
	DIR *dir = fdopendir(dup(from));
	struct dirent *d;
	int result = 0;

	if (!dir || depth > 64) {
		if (dir) {
			closedir(dir);
			errno = ELOOP;
		}
		return err_errno(err, "files");
	}
	while (result == 0 && (d = readdir(dir))) {
		const char *n = d->d_name;
		struct stat st;

		if (strcmp(n, ".") == 0 || strcmp(n, "..") == 0)
			continue;
		if (fstatat(from, n, &st, AT_SYMLINK_NOFOLLOW) < 0) {
			result = err_errno(err, "%s", n);
		} else if (S_ISDIR(st.st_mode)) {
			_close_ int sub = openat(from, n, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			_close_ int new = -1;

			if (mkdirat(to, n, 0700) == 0)
				new = openat(to, n, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			if (sub < 0 || new < 0)
				result = err_errno(err, "%s", n);
			else if (copy_tree(sub, new, depth + 1, args, err) < 0)
				result = -1;
			else
				fchmod(new, st.st_mode & 0777);
		} else if (S_ISLNK(st.st_mode)) {
			char target[4096];
			ssize_t len = readlinkat(from, n, target, sizeof(target) - 1);

			target[MAX(len, 0)] = '\0';
			if (len <= 0 || symlinkat(target, to, n) < 0)
				result = err_errno(err, "%s", n);
		} else if (S_ISREG(st.st_mode)) {
			result = copy_file(from, to, n, &st, args, err);
		}
	}
	closedir(dir);
	return result;
}

int box_trees_copy(int files_fd, const struct spec_tree *t, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		_close_ int from = open(t[i].source, O_RDONLY | O_DIRECTORY | O_CLOEXEC), to = -1;

		if (mkdirat(files_fd, t[i].dir, 0700) == 0)
			to = openat(files_fd, t[i].dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (from < 0 || to < 0)
			return err_errno(err, "%s", t[i].source);
		if (copy_tree(from, to, 0, &t[i].args, err) < 0)
			return err_wrap(err, "%s", t[i].source);
	}
	return 0;
}

int box_trees_add(const struct box_spec *s, struct err *err)
{
	_free_ char *path = boxes_path(s->name, "files");
	_close_ int files = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (files < 0)
		return err_errno(err, "%s", path);
	/* What a command that was killed had begun. */
	for (size_t i = 0; i < s->n_home_trees; i++)
		fs_remove_tree(files, s->home_trees[i].dir, NULL);
	for (size_t i = 0; i < s->n_workspace_trees; i++)
		fs_remove_tree(files, s->workspace_trees[i].dir, NULL);
	if (box_trees_copy(files, s->home_trees, s->n_home_trees, err) < 0)
		return -1;
	return box_trees_copy(files, s->workspace_trees, s->n_workspace_trees, err);
}

static bool has_tree(const struct spec_tree *t, size_t n, const char *dir)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(t[i].dir, dir) == 0)
			return true;
	return false;
}

void box_trees_sweep(const struct box_spec *s)
{
	_free_ char *path = boxes_path(s->name, "files");
	DIR *dir = opendir(path);
	struct strv old = {0};
	struct dirent *d;

	while (dir && (d = readdir(dir)))
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 &&
			!has_tree(s->home_trees, s->n_home_trees, d->d_name) &&
			!has_tree(s->workspace_trees, s->n_workspace_trees, d->d_name))
			strv_add(&old, d->d_name);
	for (size_t i = 0; i < old.n; i++)
		fs_remove_tree(dirfd(dir), old.v[i], NULL);
	if (dir)
		closedir(dir);
	strv_done(&old);
}

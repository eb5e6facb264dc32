/* SPDX-License-Identifier: Apache-2.0 */
/* All that a directory holds. */
#include "base/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/mem.h"

struct walk {
	struct tree *t;
	uint64_t bytes;
	struct err *err;
};

int tree_open(int dirfd, const char *path, int flags, unsigned mode)
{
	struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
		.mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};

	return (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
}

static int walk_dir(struct walk *w, int fd, const char *path, unsigned depth);

static int walk_entry(
	struct walk *w, int dirfd, const char *name, char *path /* taken */, unsigned depth)
{
	_free_ char *own = path;
	struct stat st;

	if (strlen(path) > TREE_PATH_MAX)
		return err_set(w->err, ERR_USER, "a path of more than %d bytes", TREE_PATH_MAX);
	if (strpbrk(name, "\n\r"))
		return err_set(w->err, ERR_USER, "%s: a line break in a name", path);
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(w->err, "%s", path);
	if (S_ISDIR(st.st_mode)) {
		_close_ int fd = tree_open(dirfd, name, O_RDONLY | O_DIRECTORY, 0);

		if (fd < 0)
			return err_errno(w->err, "%s", path);
		return walk_dir(w, fd, path, depth + 1);
	}
	if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode))
		return err_set(w->err, ERR_USER, "%s: neither file, directory nor link", path);
	if (w->t->n == TREE_FILES_MAX)
		return err_set(w->err, ERR_USER, "more than %d files", TREE_FILES_MAX);
	w->bytes += (uint64_t)st.st_size;
	if (w->bytes > TREE_BYTES_MAX)
		return err_set(w->err, ERR_USER, "more than 256 MiB of files");
	w->t->v = xrealloc(w->t->v, w->t->n + 1, sizeof(*w->t->v));
	w->t->v[w->t->n++] = (struct tree_entry){.path = steal_ptr(&own),
		.link = S_ISLNK(st.st_mode),
		.exec = S_ISREG(st.st_mode) && (st.st_mode & S_IXUSR),
		.size = (uint64_t)st.st_size};
	return 0;
}

/* @path: of the directory @fd, "" for the top. */
static int walk_dir(struct walk *w, int fd, const char *path, unsigned depth)
{
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 3), result = 0;
	DIR *d = own < 0 ? NULL : fdopendir(own);
	struct dirent *e;

	if (!d) {
		err_errno(w->err, "%s", path);
		if (own >= 0)
			close(own);
		return -1;
	}
	rewinddir(d); /* the duplicate shares its place with @fd */
	if (depth > TREE_DEPTH_MAX)
		result = err_set(w->err, ERR_USER, "%.100s...: nested too deeply", path);
	while (result == 0 && (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
			(!*path && strcmp(e->d_name, ".git") == 0))
			continue;
		result = walk_entry(w, fd, e->d_name,
			xasprintf("%s%s%s", path, *path ? "/" : "", e->d_name), depth);
	}
	closedir(d);
	return result;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct tree_entry *)a)->path, ((const struct tree_entry *)b)->path);
}

int tree_list(int dirfd, struct tree *ret, struct err *err)
{
	struct tree t = {0};
	struct walk w = {.t = &t, .err = err};

	if (walk_dir(&w, dirfd, "", 0) < 0) {
		tree_done(&t);
		return -1;
	}
	if (t.n)
		qsort(t.v, t.n, sizeof(*t.v), by_path);
	*ret = t;
	return 0;
}

void tree_done(struct tree *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->v[i].path);
	free(t->v);
	*t = (struct tree){0};
}

static int link_target(int dirfd, const char *path, char *ret, size_t size, struct err *err)
{
	_close_ int fd = tree_open(dirfd, path, O_PATH, 0);
	ssize_t n = fd < 0 ? -1 : readlinkat(fd, "", ret, size - 1);

	if (n < 0)
		return err_errno(err, "%s", path);
	ret[n] = '\0';
	return 0;
}

static int digest_entry(
	int dirfd, const struct tree_entry *e, char ret[static SHA256_HEX], struct err *err)
{
	_close_ int fd = -1;
	char chunk[16384];
	struct sha256 s;
	ssize_t n;

	sha256_init(&s);
	if (e->link) {
		if (link_target(dirfd, e->path, chunk, sizeof(chunk), err) < 0)
			return -1;
		sha256_add(&s, chunk, strlen(chunk));
		sha256_hex(&s, ret);
		return 0;
	}
	fd = tree_open(dirfd, e->path, O_RDONLY | O_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(err, "%s", e->path);
	while ((n = read(fd, chunk, sizeof(chunk))) > 0)
		sha256_add(&s, chunk, (size_t)n);
	if (n < 0)
		return err_errno(err, "%s", e->path);
	sha256_hex(&s, ret);
	return 0;
}

int tree_text(int dirfd, const struct tree *t, bool (*wants)(const char *path, const void *arg),
	const void *arg, struct buf *text, struct err *err)
{
	char hex[SHA256_HEX];

	for (size_t i = 0; i < t->n; i++) {
		const struct tree_entry *e = &t->v[i];

		if (wants && !wants(e->path, arg))
			continue;
		if (digest_entry(dirfd, e, hex, err) < 0)
			return -1;
		if (buf_printf(text, "%s %s %s\n",
			    e->link ? "120000" : (e->exec ? "100755" : "100644"), hex, e->path) < 0)
			return err_set(err, ERR_USER, "too many files");
	}
	return 0;
}

int tree_digest(int dirfd, char ret[static SHA256_HEX], struct err *err)
{
	_buf_ struct buf text = {.max = TREE_FILES_MAX * (TREE_PATH_MAX + 80)};
	struct tree t;
	struct sha256 s;
	int result;

	if (tree_list(dirfd, &t, err) < 0)
		return -1;
	result = tree_text(dirfd, &t, NULL, NULL, &text, err);
	tree_done(&t);
	if (result < 0)
		return -1;
	sha256_init(&s);
	sha256_add(&s, buf_head(&text), buf_len(&text));
	sha256_hex(&s, ret);
	return 0;
}

/* The directories above @path. */
static int make_parents(int dirfd, const char *path, struct err *err)
{
	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		_free_ char *dir = xstrndup(path, (size_t)(slash - path));

		if (mkdirat(dirfd, dir, 0755) < 0 && errno != EEXIST)
			return err_errno(err, "%s", dir);
	}
	return 0;
}

static int copy_entry(int from, int to, const struct tree_entry *e, struct err *err)
{
	_close_ int in = -1, out = -1;
	char target[4096];

	if (make_parents(to, e->path, err) < 0)
		return -1;
	if (e->link) {
		if (link_target(from, e->path, target, sizeof(target), err) < 0)
			return -1;
		return symlinkat(target, to, e->path) < 0 ? err_errno(err, "%s", e->path) : 0;
	}
	in = tree_open(from, e->path, O_RDONLY | O_NONBLOCK, 0);
	out = in < 0 ? -1
		     : tree_open(to, e->path, O_WRONLY | O_CREAT | O_EXCL, e->exec ? 0755 : 0644);
	if (out < 0)
		return err_errno(err, "%s", e->path);
	return fs_copy_sparse(in, out, err);
}

int tree_copy(int from, int to, struct err *err)
{
	struct tree t;
	int result = 0;

	if (tree_list(from, &t, err) < 0)
		return -1;
	for (size_t i = 0; result == 0 && i < t.n; i++)
		result = copy_entry(from, to, &t.v[i], err);
	tree_done(&t);
	return result;
}

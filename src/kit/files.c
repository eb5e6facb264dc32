/* SPDX-License-Identifier: Apache-2.0 */
/* The files tree of a kit: what may be copied into a sandbox.
 *
 * files/home and files/workspace are copied as they are, so that the check here is the whole story:
 * directories, regular files and relative links that stay inside their tree, with ceilings on
 * count, depth and size. The walk never follows a link. */
#include "kit/args.h"
#include "kit/grammar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"

#define FILES_COUNT_MAX 10000
#define FILES_DEPTH_MAX 32
#define FILES_BYTES_MAX (256ULL * 1024 * 1024)

struct walk {
	struct kit_errors *errs;
	const struct kit *kit;
	char path[PATH_MAX]; /* as the user would name it */
	size_t count;
	uint64_t bytes;
	bool stop;
};

static void report(struct walk *w, const char *what)
{
	kit_errors_add(w->errs, false, w->path, 0, 0, "", "%s", what);
}

/* Whether a link @depth directories below its tree stays inside when read as text. */
static bool link_stays(const char *target, unsigned depth)
{
	if (*target == '/' || !*target)
		return false;
	while (*target) {
		size_t len = strcspn(target, "/");

		if (len == 2 && target[0] == '.' && target[1] == '.') {
			if (depth-- == 0)
				return false;
		} else if (len && !(len == 1 && target[0] == '.')) {
			depth++;
		}
		target += len;
		target += strspn(target, "/");
	}
	return true;
}

static void check_link(struct walk *w, int dirfd, const char *name, unsigned depth)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dirfd, name, target, sizeof(target) - 1);

	if (n < 0) {
		report(w, strerror(errno));
		return;
	}
	target[n] = '\0';
	if (!link_stays(target, depth))
		report(w, "a link out of the kit, expected a relative one that stays inside");
}

/* References to arguments are replaced when the file is copied: they must be declared. */
static void check_references(struct walk *w, int dirfd, const char *name)
{
	_buf_ struct buf text = {.max = KIT_EXPAND_MAX};
	struct load l = {.file = w->path, .errs = w->errs};
	_buf_ struct buf out = {.max = ARGS_TEXT_MAX};

	if (fs_read_file(dirfd, name, &text, NULL) == 0 && buf_len(&text) &&
		args_expand(&l, (const char *)buf_head(&text), buf_len(&text), w->kit, &out, NULL) <
			0)
		report(w, "larger than 4 MiB with its arguments");
}

static void walk_dir(struct walk *w, int fd, unsigned depth);

static void check_entry(struct walk *w, int dirfd, const char *name, unsigned depth)
{
	struct stat st;
	_close_ int fd = -1;

	if (++w->count > FILES_COUNT_MAX) {
		report(w, "more than 10000 files in one kit");
		w->stop = true;
	} else if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		report(w, strerror(errno));
	} else if (S_ISREG(st.st_mode)) {
		w->bytes += (uint64_t)st.st_size;
		if (w->bytes > FILES_BYTES_MAX) {
			report(w, "more than 256 MiB of files in one kit");
			w->stop = true;
		} else if (w->kit->schema == 2 && st.st_size <= KIT_EXPAND_MAX) {
			check_references(w, dirfd, name);
		}
	} else if (S_ISLNK(st.st_mode)) {
		check_link(w, dirfd, name, depth);
	} else if (!S_ISDIR(st.st_mode)) {
		report(w, "neither a regular file, a directory nor a link");
	} else if (depth == FILES_DEPTH_MAX) {
		report(w, "nested too deeply");
	} else {
		fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			report(w, strerror(errno));
		else
			walk_dir(w, fd, depth + 1);
	}
}

/* @depth: directories between the tree's root and @fd. */
static void walk_dir(struct walk *w, int fd, unsigned depth)
{
	size_t len = strlen(w->path);
	int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	DIR *d = own < 0 ? NULL : fdopendir(own);
	struct dirent *e;

	if (!d) {
		report(w, strerror(errno));
		if (own >= 0)
			close(own);
		return;
	}
	while (!w->stop && (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (len + strlen(e->d_name) + 2 > sizeof(w->path)) {
			report(w, "a path that is too long");
			continue;
		}
		snprintf(w->path + len, sizeof(w->path) - len, "/%s", e->d_name);
		check_entry(w, fd, e->d_name, depth);
		w->path[len] = '\0';
	}
	closedir(d);
}

/* One of the two trees. */
static bool check_tree(struct walk *w, int files_fd, const char *name)
{
	_close_ int fd = openat(files_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		report(w, errno == ELOOP || errno == ENOTDIR ? "not a directory" : strerror(errno));
		return false;
	}
	walk_dir(w, fd, 0);
	return true;
}

void kit_check_files(struct kit *k, struct kit_errors *errs)
{
	struct walk w = {.errs = errs, .kit = k};
	const char *slash = strrchr(k->file, '/');
	_free_ char *path = fs_join(k->dir, "files");
	_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *e;
	size_t len;
	DIR *d;

	snprintf(w.path, sizeof(w.path), "%.*sfiles", slash ? (int)(slash - k->file) + 1 : 0,
		k->file);
	if (fd < 0) {
		if (errno != ENOENT)
			report(&w, errno == ELOOP || errno == ENOTDIR ? "not a directory"
								      : strerror(errno));
		return;
	}
	d = opendir(path);
	len = strlen(w.path);
	while (d && (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(w.path + len, sizeof(w.path) - len, "/%s", e->d_name);
		if (strcmp(e->d_name, "home") == 0)
			k->has_home = check_tree(&w, fd, e->d_name);
		else if (strcmp(e->d_name, "workspace") == 0)
			k->has_workspace = check_tree(&w, fd, e->d_name);
		else
			kit_errors_add(errs, true, w.path, 0, 0, "",
				"ignored, only files/home and files/workspace are copied");
		w.path[len] = '\0';
	}
	if (d)
		closedir(d);
}

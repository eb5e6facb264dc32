/* SPDX-License-Identifier: Apache-2.0 */
/* The key of the install cache: a digest of everything that the install steps can depend on. Files
 * are taken as they were copied for the sandbox, so arguments are in them. The workspace is not
 * part of it: install steps are about the sandbox; --no-cache is for those that are not. */
#include "cli/cache_key.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "image/cache.h"

#define INPUT "cache-input"

static int put_file(FILE *out, int dir, const char *name, struct err *err)
{
	_close_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char chunk[65536];
	ssize_t n;

	if (fd < 0)
		return err_errno(err, "%s", name);
	while ((n = read(fd, chunk, sizeof(chunk))) > 0)
		fwrite(chunk, 1, (size_t)n, out);
	return n < 0 ? err_errno(err, "%s", name) : 0;
}

static int put_tree(FILE *out, int dir, struct err *err);

/* Kind, mode, size and name are separated by NULs: no name can look like the next entry. */
static int put_entry(FILE *out, int dir, const char *name, struct err *err)
{
	char target[4096];
	struct stat st;
	ssize_t n;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(err, "%s", name);
	fprintf(out, "%c%04o%c%jd%c%s%c",
		S_ISDIR(st.st_mode) ? 'd' : (S_ISLNK(st.st_mode) ? 'l' : 'f'), st.st_mode & 07777,
		0, S_ISREG(st.st_mode) ? (intmax_t)st.st_size : 0, 0, name, 0);
	if (S_ISDIR(st.st_mode)) {
		_close_ int sub =
			openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

		return sub < 0 ? err_errno(err, "%s", name) : put_tree(out, sub, err);
	}
	if (S_ISREG(st.st_mode))
		return put_file(out, dir, name, err);
	n = readlinkat(dir, name, target, sizeof(target));
	if (n < 0)
		return err_errno(err, "%s", name);
	fwrite(target, 1, (size_t)n, out);
	fputc(0, out);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int put_tree(FILE *out, int dir, struct err *err)
{
	struct strv names = {0};
	int own = fcntl(dir, F_DUPFD_CLOEXEC, 3), result = 0;
	DIR *d = own < 0 ? NULL : fdopendir(own);
	struct dirent *e;

	if (!d) {
		err_errno(err, "files");
		if (own >= 0)
			close(own);
		return -1;
	}
	while ((e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			strv_add(&names, e->d_name);
	closedir(d);
	if (names.n)
		qsort(names.v, names.n, sizeof(*names.v), by_name);
	for (size_t i = 0; result == 0 && i < names.n; i++)
		result = put_entry(out, dir, names.v[i], err);
	fprintf(out, "end%c", 0);
	strv_done(&names);
	return result;
}

/* What of the plan the steps see. */
static void put_plan(FILE *out, const struct box_spec *s)
{
	static const char *const keys[] = {
		"image", "layers", "user", "env", "disk_bytes", "prepare", "install", "network"};
	json_t *all = spec_to_json(s), *some = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		json_object_set(some, keys[i], json_object_get(all, keys[i]));
	fprintf(out, "hutch %s\n", HUTCH_VERSION);
	json_dumpf(some, out, JSON_COMPACT | JSON_SORT_KEYS);
	fputc(0, out);
	json_decref(some);
	json_decref(all);
}

static int put_all(FILE *out, int box_dir, const struct box_spec *s, struct err *err)
{
	put_plan(out, s);
	for (size_t i = 0; i < s->n_home_trees; i++) {
		_free_ char *path = xasprintf("files/%s", s->home_trees[i].dir);
		_close_ int dir = openat(box_dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		fprintf(out, "tree%c%s%c", 0, s->home_trees[i].dest, 0);
		if (dir < 0)
			return err_errno(err, "%s", path);
		if (put_tree(out, dir, err) < 0)
			return -1;
	}
	return 0;
}

int cache_key(const char *box_dir, const struct box_spec *s, char ret[static 65], struct err *err)
{
	_free_ char *input = fs_join(box_dir, INPUT);
	_close_ int dir = open(box_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	FILE *out = dir < 0 ? NULL : fopen(input, "wxe");
	int result;

	if (!out)
		return err_errno(err, "%s", input);
	result = put_all(out, dir, s, err);
	if ((ferror(out) | fclose(out)) != 0 && result == 0)
		result = err_errno(err, "%s", input);
	if (result == 0)
		result = image_cache_digest(input, ret, err);
	unlink(input);
	return result;
}

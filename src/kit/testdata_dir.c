/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a kit's testdata/ that are tests. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "kit/testdata.h"
#include "kit/ynode.h"

#define FILES_MAX 1000

static bool ends_in(const char *s, const char *tail)
{
	size_t n = strlen(s), m = strlen(tail);

	return n > m && strcmp(s + n - m, tail) == 0;
}

static int is_test(const struct dirent *e)
{
	return e->d_name[0] != '.' && (ends_in(e->d_name, ".sh") || ends_in(e->d_name, ".yaml"));
}

static int load_file(struct testdata_dir *d, const char *dir, int dirfd, const char *name,
	struct kit_errors *errs, struct err *err)
{
	_free_ char *path = fs_join(dir, name);
	_buf_ struct buf text = {.max = YNODE_FILE_MAX};
	struct testdata_file f = {.script = ends_in(name, ".sh")};

	if (d->n == FILES_MAX)
		return err_set(err, ERR_USER, "%s: more than %d tests", dir, FILES_MAX);
	if (!f.script && fs_read_file(dirfd, name, &text, err) < 0)
		return err_wrap(err, "%s", path);
	if (!f.script && testdata_load_text((const char *)buf_head(&text), buf_len(&text), path,
				 &f.t, errs) < 0)
		return 0; /* said with the errors of the others */
	f.name = xstrdup(name);
	d->files = xrealloc(d->files, d->n + 1, sizeof(*d->files));
	d->files[d->n++] = f;
	return 0;
}

int testdata_load_dir(const char *kit_dir, struct testdata_dir *ret, struct kit_errors *errs,
	struct err *err)
{
	_free_ char *path = fs_join(kit_dir, "testdata");
	_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent **names = NULL;
	size_t before = errs->n_errors;
	int n, result = 0;

	*ret = (struct testdata_dir){0};
	if (fd < 0)
		return errno == ENOENT ? 0 : err_errno(err, "%s", path);
	n = scandir(path, &names, is_test, alphasort);
	for (int i = 0; i < n; i++) {
		if (result == 0)
			result = load_file(ret, path, fd, names[i]->d_name, errs, err);
		free(names[i]);
	}
	free(names);
	if (result == 0 && errs->n_errors != before)
		result = err_set(err, ERR_USER, "%s: %zu error%s", path, errs->n_errors - before,
			errs->n_errors - before == 1 ? "" : "s");
	return result;
}

void testdata_dir_done(struct testdata_dir *d)
{
	for (size_t i = 0; i < d->n; i++) {
		free(d->files[i].name);
		testdata_done(&d->files[i].t);
	}
	free(d->files);
	*d = (struct testdata_dir){0};
}

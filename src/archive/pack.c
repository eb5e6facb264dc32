/* SPDX-License-Identifier: Apache-2.0 */
/* Writing archives of kits. Sorted names, fixed times and owners: the same bytes for the same files
 * (and the same zlib). */
#include "archive/pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "archive/names.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/tree.h"

#define ZIP_EPOCH 315532800 /* 1980-01-01: what DOS counts from */

struct pack {
	struct archive *a;
	int dirfd;
	bool layer;
};

static int fail(struct pack *p, struct err *err)
{
	const char *text = archive_error_string(p->a);

	return err_set(
		err, ERR_ENV, "cannot write the archive: %s", text ? text : "no reason given");
}

static int put_data(struct pack *p, const struct tree_entry *e, struct err *err)
{
	_close_ int fd = tree_open(p->dirfd, e->path, O_RDONLY | O_NONBLOCK, 0);
	char chunk[16384];
	uint64_t left = e->size;

	if (fd < 0)
		return err_errno(err, "%s", e->path);
	while (left) {
		ssize_t n = read(fd, chunk, sizeof(chunk));

		if (n <= 0 || (uint64_t)n > left)
			return err_set(err, ERR_ENV, "%s: changed meanwhile", e->path);
		if (archive_write_data(p->a, chunk, (size_t)n) != n)
			return fail(p, err);
		left -= (uint64_t)n;
	}
	return 0;
}

/* @name: in the archive. */
static int put(struct pack *p, const struct tree_entry *e, const char *name, struct err *err)
{
	struct archive_entry *a = archive_entry_new();
	int r;

	archive_entry_set_pathname_utf8(a, name);
	archive_entry_set_filetype(a, AE_IFREG);
	archive_entry_set_perm(a, e->exec && !p->layer ? 0755 : 0644);
	archive_entry_set_size(a, (int64_t)e->size);
	archive_entry_set_uid(a, p->layer ? 1000 : 0);
	archive_entry_set_gid(a, p->layer ? 1000 : 0);
	archive_entry_set_mtime(a, p->layer ? 0 : ZIP_EPOCH, 0);
	r = archive_write_header(p->a, a);
	archive_entry_free(a);
	return r == ARCHIVE_OK ? put_data(p, e, err) : fail(p, err);
}

static int put_entry(struct pack *p, const struct tree_entry *e, struct err *err)
{
	_free_ char *name = NULL;

	if (p->layer && strncmp(e->path, "files/home/", 11) == 0)
		name = xasprintf("home/agent/%s", e->path + 11);
	else if (p->layer && strncmp(e->path, "files/workspace/", 16) == 0)
		name = xstrdup(e->path + 6);
	else if (p->layer)
		return 0;
	else
		name = xstrdup(e->path);
	if (e->link)
		return err_set(err, ERR_USER, "%s: a link, which an archive of a kit cannot hold",
			e->path);
	if (name_check(name, err) < 0)
		return -1;
	return put(p, e, name, err);
}

static int put_all(struct pack *p, struct err *err)
{
	struct names names = {0};
	struct tree t;
	int result = 0;

	if (tree_list(p->dirfd, &t, err) < 0)
		return -1;
	for (size_t i = 0; result == 0 && i < t.n; i++)
		if (names_add(&names, t.v[i].path, false, err) < 0 ||
			put_entry(p, &t.v[i], err) < 0)
			result = -1;
	names_done(&names);
	tree_done(&t);
	if (result == 0 && archive_write_close(p->a) != ARCHIVE_OK)
		return fail(p, err);
	return result;
}

int pack_zip(int dirfd, int out, struct err *err)
{
	struct pack p = {.a = archive_write_new(), .dirfd = dirfd};
	int result;

	if (archive_write_set_format_zip(p.a) != ARCHIVE_OK ||
		archive_write_open_fd(p.a, out) != ARCHIVE_OK)
		result = fail(&p, err);
	else
		result = put_all(&p, err);
	archive_write_free(p.a);
	return result;
}

int pack_layer(int dirfd, int out, struct err *err)
{
	struct pack p = {.a = archive_write_new(), .dirfd = dirfd, .layer = true};
	static const char no_system = 0;
	int result;

	if (archive_write_set_format_ustar(p.a) != ARCHIVE_OK ||
		archive_write_add_filter_gzip(p.a) != ARCHIVE_OK ||
		archive_write_set_options(p.a, "gzip:!timestamp") != ARCHIVE_OK ||
		archive_write_open_fd(p.a, out) != ARCHIVE_OK)
		result = fail(&p, err);
	else
		result = put_all(&p, err);
	archive_write_free(p.a);
	/* RFC 1952: the tenth byte of the header names the file system. No checksum covers it. */
	if (result == 0 && pwrite(out, &no_system, 1, 9) != 1)
		return err_errno(err, "write");
	return result;
}

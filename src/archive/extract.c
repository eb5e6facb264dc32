/* SPDX-License-Identifier: Apache-2.0 */
/* Reading archives of kits.
 *
 * libarchive takes the archive apart; what comes out is hostile still. Names pass names.c, types
 * are a short list, and bytes are counted against ceilings while they come, whatever a header says.
 */
#include "archive/extract.h"

#include <archive.h>
#include <archive_entry.h>
#include <string.h>

#include "archive/names.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/tree.h"

#define RATIO_MAX  200          /* bytes out for each byte in … */
#define RATIO_FROM (4ULL << 20) /* … from here on: a small file of zeros is no bomb */

struct job {
	struct archive *a;
	enum extract_kind kind;
	const struct extract_sink *sink;
	struct names names;
	size_t in_len, files;
	uint64_t bytes;
};

static int fail(struct job *j, struct err *err)
{
	const char *text = archive_error_string(j->a);
	char safe[200];

	if (!text)
		text = "cannot be read";
	return err_set(err, ERR_USER, "not a whole archive: %s",
		log_safe(safe, sizeof(safe), text, strlen(text)));
}

static struct archive *open_archive(const void *data, size_t len, enum extract_kind kind)
{
	struct archive *a = archive_read_new();
	int r = ARCHIVE_FATAL;

	if (!a)
		return NULL;
	if (kind == EXTRACT_ZIP) {
		/* By its directory alone: what a stream reader sees may differ from it. */
		r = archive_read_support_format_zip_seekable(a);
	} else {
		r = archive_read_support_format_tar(a);
		if (r == ARCHIVE_OK && kind == EXTRACT_LAYER)
			r = archive_read_support_filter_gzip(a);
		/* An empty layer is no tar for libarchive. */
		if (r == ARCHIVE_OK)
			r = archive_read_support_format_empty(a);
	}
	if (r == ARCHIVE_OK)
		archive_read_open_memory(a, data, len); /* the next call tells what went wrong */
	return a;
}

/* The path in the kit of an entry of a layer; owned. NULL: nothing to make, or with *ret_bad. */
static char *layer_path(const char *path, bool dir, bool *ret_bad)
{
	*ret_bad = false;
	if (strncmp(path, "home/agent/", 11) == 0)
		return xasprintf("files/home/%s", path + 11);
	if (strncmp(path, "workspace/", 10) == 0)
		return xasprintf("files/workspace/%s", path + 10);
	*ret_bad = !dir || (strcmp(path, "home") != 0 && strcmp(path, "home/agent") != 0 &&
				   strcmp(path, "workspace") != 0);
	return NULL;
}

/* What libarchive calls the entry, checked; owned. NULL with @err, or for the top directory. */
static char *entry_path(
	struct job *j, struct archive_entry *e, bool dir, bool *ret_bad, struct err *err)
{
	const char *raw = archive_entry_pathname_utf8(e);
	_free_ char *path = NULL;
	char *in_kit;
	size_t len;

	*ret_bad = true;
	if (!raw) {
		err_set(err, ERR_USER, "a name that is not UTF-8");
		return NULL;
	}
	path = xstrdup(raw);
	len = strlen(path);
	while (dir && len && path[len - 1] == '/')
		path[--len] = '\0';
	if (dir && len == 0) {
		*ret_bad = *raw == '/';
		if (*ret_bad)
			err_set(err, ERR_USER, "/: an absolute path");
		return NULL;
	}
	if (name_check(path, err) < 0)
		return NULL;
	*ret_bad = false;
	if (strcmp(path, ".git") == 0 || strncmp(path, ".git/", 5) == 0)
		return NULL; /* how it was made, no part of it */
	if (j->kind != EXTRACT_LAYER)
		return steal_ptr(&path);
	in_kit = layer_path(path, dir, ret_bad);
	if (*ret_bad)
		err_set(err, ERR_USER, "%.200s: neither below home/agent nor below workspace",
			path);
	return in_kit;
}

static int copy_data(struct job *j, const char *path, struct err *err)
{
	int64_t expect = 0, at;
	const void *p;
	size_t len;
	int r;

	while ((r = archive_read_data_block(j->a, &p, &len, &at)) == ARCHIVE_OK) {
		if (at != expect)
			return err_set(err, ERR_USER, "%s: a file with holes", path);
		expect += (int64_t)len;
		j->bytes += len;
		if (j->bytes > TREE_BYTES_MAX)
			return err_set(err, ERR_USER, "more than 256 MiB of files");
		if (j->bytes > RATIO_FROM && j->bytes / RATIO_MAX > j->in_len)
			return err_set(
				err, ERR_USER, "expands to more than %d times its size", RATIO_MAX);
		if (j->sink->data(j->sink->arg, p, len, err) < 0)
			return err_wrap(err, "%s", path);
	}
	return r == ARCHIVE_EOF ? 0 : fail(j, err);
}

static int take_link(struct job *j, const char *path, struct archive_entry *e, struct err *err)
{
	const char *target = archive_entry_symlink_utf8(e);

	if (j->kind != EXTRACT_TAR)
		return err_set(err, ERR_USER, "%s: a symbolic link", path);
	if (!target || !name_link_stays(path, target))
		return err_set(err, ERR_USER,
			"%s: a link, expected a relative one that stays inside files/home or "
			"files/workspace",
			path);
	return j->sink->link(j->sink->arg, path, target, err);
}

/* An entry with a good path. */
static int take(struct job *j, const char *path, struct archive_entry *e, struct err *err)
{
	mode_t type = archive_entry_filetype(e);

	if (archive_entry_is_encrypted(e) > 0)
		return err_set(err, ERR_USER, "%s: encrypted", path);
	if (archive_entry_hardlink(e))
		return err_set(err, ERR_USER, "%s: a hard link", path);
	if (type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK)
		return err_set(err, ERR_USER, "%s: a device, pipe or socket", path);
	if (names_add(&j->names, path, type == AE_IFDIR, err) < 0)
		return -1;
	if (type == AE_IFDIR)
		return j->sink->dir(j->sink->arg, path, err);
	if (++j->files > TREE_FILES_MAX)
		return err_set(err, ERR_USER, "more than %d files", TREE_FILES_MAX);
	if (type == AE_IFLNK)
		return take_link(j, path, e, err);
	if (j->sink->file(j->sink->arg, path, archive_entry_perm(e) & 0100, err) < 0)
		return -1;
	return copy_data(j, path, err);
}

static int take_all(struct job *j, struct err *err)
{
	struct archive_entry *e;
	int r;

	while ((r = archive_read_next_header(j->a, &e)) == ARCHIVE_OK) {
		bool dir = archive_entry_filetype(e) == AE_IFDIR, bad;
		_free_ char *path = entry_path(j, e, dir, &bad, err);

		if (bad || (path && take(j, path, e, err) < 0))
			return -1;
	}
	if (r != ARCHIVE_EOF)
		return fail(j, err);
	return 0;
}

int extract(const void *data, size_t len, enum extract_kind kind, const struct extract_sink *sink,
	struct err *err)
{
	struct job j = {.kind = kind, .sink = sink, .in_len = len};
	int result;

	j.a = open_archive(data, len, kind);
	if (!j.a)
		return err_set(err, ERR_ENV, "out of memory");
	result = take_all(&j, err);
	archive_read_free(j.a);
	names_done(&j.names);
	return result;
}

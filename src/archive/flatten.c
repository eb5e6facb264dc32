/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of an image → one tar stream.
 *
 * libarchive takes layers apart; what comes out is hostile still. Owners, modes, times, devices and
 * extended attributes are passed on as they are: they have a meaning in the guest alone, where
 * nobody reads them but a kernel that is the guest's own. Names are merge.c's business. Bytes are
 * counted against ceilings by what the headers announce, before anything is expanded. */
#include "archive/flatten.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive/layer.h"
#include "archive/merge.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#define BYTES_MAX  (64ULL << 30) /* of all files in all layers */
#define XATTRS_MAX (256u << 10)  /* bytes at one file */
#define CA_MAX     (8u << 20)    /* a larger bundle is not taken: the guest would not, either */
#define BLOCK      (256u << 10)
#define TIME_MAX   UINT32_MAX /* what squashfs can say */

struct job {
	struct flatten *f;
	struct merge *merge;
	struct archive *out;
	const struct merge_inode *ca;
	uint64_t bytes, total, done; /* of files; to read and read of the blobs, both times */
};

static void on_bytes(void *arg, uint64_t n)
{
	struct job *j = arg;

	j->done += n;
	j->f->progress(j->done, j->total);
}

static int fail(struct archive *out, struct err *err)
{
	const char *text = archive_error_string(out);

	return err_set(err, ERR_USER, "tar: %s", text ? text : "cannot be written");
}

/* ---- first time: names ---- */

/* True: of a kind that can be in an image. */
static bool entry_type(struct archive_entry *e, enum merge_type *ret)
{
	switch (archive_entry_filetype(e)) {
	case AE_IFDIR:
		*ret = MERGE_DIR;
		return true;
	case AE_IFREG:
		*ret = MERGE_FILE;
		return true;
	case AE_IFLNK:
		*ret = MERGE_SYMLINK;
		return true;
	case AE_IFCHR:
	case AE_IFBLK:
	case AE_IFIFO:
		*ret = MERGE_OTHER;
		return true;
	default:
		return false;
	}
}

static int count_bytes(struct job *j, struct layer *l, struct archive_entry *e, struct err *err)
{
	int64_t size = archive_entry_size(e);

	if (size < 0)
		return err_set(err, ERR_USER, "a file of negative size");
	j->bytes += (uint64_t)size;
	if ((uint64_t)size > BYTES_MAX || j->bytes > BYTES_MAX)
		return err_set(err, ERR_USER, "more than %llu GiB of files", BYTES_MAX >> 30);
	return layer_announce(l, (uint64_t)size, err);
}

static int take_name(struct job *j, struct layer *l, struct archive_entry *e, struct err *err)
{
	struct merge_entry m = {.path = archive_entry_pathname(e),
		.hardlink = archive_entry_hardlink(e),
		.target = archive_entry_symlink(e)};
	char safe[200];

	if (!m.path)
		return err_set(err, ERR_USER, "a name that cannot be read");
	if (!m.hardlink && (!entry_type(e, &m.type) || (m.type == MERGE_SYMLINK && !m.target)))
		return err_set(err, ERR_USER, "%s: of a kind that is in no image",
			log_safe(safe, sizeof(safe), m.path, strlen(m.path)));
	if (!m.hardlink && m.type == MERGE_FILE && count_bytes(j, l, e, err) < 0)
		return err_wrap(err, "%s", log_safe(safe, sizeof(safe), m.path, strlen(m.path)));
	return merge_add(j->merge, &m, err);
}

static int read_names(struct job *j, const struct layer_name *name, struct err *err)
{
	struct layer *l = layer_open(j->f->dir, name, LAYER_BLOB, on_bytes, j, err);
	struct archive_entry *e;
	struct err why;
	int result;

	if (!l)
		return -1;
	merge_begin_layer(j->merge);
	while ((result = layer_next(l, &e, &why)) > 0)
		if ((result = take_name(j, l, e, &why)) < 0)
			break;
	/* That a blob is not what it should be explains every other error. */
	if (layer_check_blob(l, &j->f->damaged, err) < 0)
		result = -1;
	else if (result < 0)
		*err = why;
	layer_close(l);
	return result;
}

/* ---- second time: data ---- */

static bool keep_xattr(const char *name)
{
	/* Those of squashfs; overlayfs keeps its own books there. */
	return (strncmp(name, "user.", 5) == 0 || strncmp(name, "security.", 9) == 0 ||
		       strncmp(name, "trusted.", 8) == 0) &&
	       !strstr(name, ".overlay.");
}

static int copy_xattrs(struct archive_entry *from, struct archive_entry *to, struct err *err)
{
	const char *name;
	const void *value;
	size_t len, all = 0;

	archive_entry_xattr_reset(from);
	while (archive_entry_xattr_next(from, &name, &value, &len) == ARCHIVE_OK) {
		if (!name || !keep_xattr(name))
			continue;
		all += strlen(name) + len;
		if (all > XATTRS_MAX)
			return err_set(err, ERR_USER, "more than 256 KiB of extended attributes");
		archive_entry_xattr_add_entry(to, name, value, len);
	}
	return 0;
}

/* All that is passed on of @from, but for its names. */
static struct archive_entry *copy_entry(struct archive_entry *from, struct err *err)
{
	struct archive_entry *e = archive_entry_new();
	int64_t time = archive_entry_mtime(from);

	archive_entry_set_filetype(e, archive_entry_filetype(from));
	archive_entry_set_perm(e, archive_entry_perm(from) & 07777);
	archive_entry_set_uid(e, archive_entry_uid(from) & UINT32_MAX);
	archive_entry_set_gid(e, archive_entry_gid(from) & UINT32_MAX);
	archive_entry_set_mtime(e, time < 0 ? 0 : MIN(time, (int64_t)TIME_MAX), 0);
	archive_entry_set_size(e, 0);
	switch (archive_entry_filetype(from)) {
	case AE_IFREG:
		archive_entry_set_size(e, archive_entry_size(from));
		break;
	case AE_IFLNK:
		archive_entry_copy_symlink(e, archive_entry_symlink(from));
		break;
	case AE_IFCHR:
	case AE_IFBLK:
		archive_entry_set_rdevmajor(e, archive_entry_rdevmajor(from));
		archive_entry_set_rdevminor(e, archive_entry_rdevminor(from));
		break;
	default:
		break;
	}
	if (copy_xattrs(from, e, err) < 0) {
		archive_entry_free(e);
		return NULL;
	}
	return e;
}

static int put_header(
	struct job *j, struct archive_entry *e, const struct merge_node *n, struct err *err)
{
	char path[MERGE_PATH];

	merge_path(n, path);
	archive_entry_copy_pathname(e, path);
	return archive_write_header(j->out, e) == ARCHIVE_OK ? 0 : fail(j->out, err);
}

/* Holes come as zeros. */
static int copy_data(struct job *j, struct layer *l, bool is_ca, struct err *err)
{
	char chunk[65536];
	int64_t n;

	while ((n = layer_data(l, chunk, sizeof(chunk), err)) > 0) {
		if (archive_write_data(j->out, chunk, (size_t)n) != n)
			return fail(j->out, err);
		if (is_ca && fd_write_all(j->f->ca, chunk, (size_t)n) < 0)
			return err_errno(err, "CA bundle");
	}
	return n < 0 ? -1 : 0;
}

/* The other names of what has been written as @e. */
static int put_aliases(
	struct job *j, struct archive_entry *e, const struct merge_node *first, struct err *err)
{
	bool file = archive_entry_filetype(e) == AE_IFREG;
	char path[MERGE_PATH];

	merge_path(first, path);
	for (const struct merge_node *n = merge_next_name(first); n; n = merge_next_name(n)) {
		/* Of anything but files, copies do as well. */
		if (file) {
			archive_entry_set_size(e, 0);
			archive_entry_xattr_clear(e);
			archive_entry_copy_hardlink(e, path);
		}
		if (put_header(j, e, n, err) < 0)
			return -1;
	}
	return 0;
}

static int put_entry(struct job *j, struct layer *l, struct archive_entry *from,
	const struct merge_inode *i, struct err *err)
{
	const struct merge_node *first = merge_first_name(i);
	struct archive_entry *e;
	enum merge_type type;
	bool is_ca = i == j->ca && archive_entry_size(from) <= CA_MAX;
	int result;

	if (archive_entry_hardlink(from) || !entry_type(from, &type) || type != merge_inode_type(i))
		return err_set(err, ERR_ENV, "a layer changed while it was read");
	e = copy_entry(from, err);
	if (!e)
		return -1;
	result = put_header(j, e, first, err);
	if (result == 0 && type == MERGE_FILE)
		result = copy_data(j, l, is_ca, err);
	if (result == 0)
		result = put_aliases(j, e, first, err);
	archive_entry_free(e);
	return result;
}

static int write_layer(struct job *j, unsigned number, struct err *err)
{
	struct layer *l =
		layer_open(j->f->dir, &j->f->layers[number], LAYER_DIFF, on_bytes, j, err);
	uint64_t end;
	struct archive_entry *e;
	uint32_t index = 0;
	int result;

	if (!l)
		return -1;
	end = j->done + layer_size(l);
	while ((result = layer_next(l, &e, err)) > 0) {
		const struct merge_inode *i = merge_at(j->merge, number, index++);

		if (i && (result = put_entry(j, l, e, i, err)) < 0)
			break;
	}
	/* Of the very bytes that were passed on. */
	if (result == 0)
		result = layer_check_diff(l, err);
	j->done = end; /* what is behind it all is not read */
	layer_close(l);
	return result;
}

/* ---- the whole ---- */

static int put_implied(struct job *j, struct err *err)
{
	const struct merge_node *n;
	int result = 0;

	for (size_t i = 0; result == 0 && (n = merge_implied(j->merge, i)) != NULL; i++) {
		struct archive_entry *e = archive_entry_new();

		archive_entry_set_filetype(e, AE_IFDIR);
		archive_entry_set_perm(e, 0755);
		result = put_header(j, e, n, err);
		archive_entry_free(e);
	}
	return result;
}

/* Where systems keep the certificates that they trust. */
static void find_ca(struct job *j)
{
	static const char *const places[] = {"etc/ssl/certs/ca-certificates.crt",
		"etc/pki/tls/certs/ca-bundle.crt", "etc/ssl/ca-bundle.pem", "etc/ssl/cert.pem"};

	for (size_t i = 0; i < ARRAY_SIZE(places) && !j->ca; i++) {
		const struct merge_inode *found = merge_find(j->merge, places[i]);

		if (found && merge_inode_type(found) == MERGE_FILE)
			j->ca = found;
	}
}

static int write_all(struct job *j, struct err *err)
{
	int r, result;

	j->out = archive_write_new();
	r = archive_write_set_format_pax_restricted(j->out);
	if (r == ARCHIVE_OK)
		r = archive_write_set_options(j->out, "pax:xattrheader=SCHILY");
	if (r == ARCHIVE_OK)
		r = archive_write_set_bytes_per_block(j->out, BLOCK);
	if (r == ARCHIVE_OK) /* no padding behind the end mark: nobody would read it */
		r = archive_write_set_bytes_in_last_block(j->out, 1);
	if (r == ARCHIVE_OK)
		r = archive_write_open_fd(j->out, j->f->out);
	if (r != ARCHIVE_OK)
		return fail(j->out, err);
	result = put_implied(j, err);
	for (size_t i = 0; result == 0 && i < j->f->n_layers; i++)
		if (write_layer(j, (unsigned)i, err) < 0)
			result = err_wrap(err, "layer %zu", i + 1);
	if (result == 0 && archive_write_close(j->out) != ARCHIVE_OK)
		result = fail(j->out, err);
	return result;
}

static int run(struct job *j, struct err *err)
{
	struct stat st;

	for (size_t i = 0; i < j->f->n_layers; i++) {
		if (fstatat(j->f->dir, j->f->layers[i].blob, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return err_errno(err, "layer %s", j->f->layers[i].blob);
		j->total += 2 * (uint64_t)st.st_size;
	}
	for (size_t i = 0; i < j->f->n_layers; i++)
		if (read_names(j, &j->f->layers[i], err) < 0)
			return err_wrap(err, "layer %zu", i + 1);
	merge_finish(j->merge);
	find_ca(j);
	return write_all(j, err);
}

int flatten(struct flatten *f, struct err *err)
{
	struct job j = {.f = f, .merge = merge_new()};
	int result;

	if (f->n_layers > FLATTEN_LAYERS_MAX)
		result = err_set(err, ERR_USER, "more than %d layers", FLATTEN_LAYERS_MAX);
	else
		result = run(&j, err);
	archive_write_free(j.out);
	merge_free(j.merge);
	return result;
}

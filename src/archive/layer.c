/* SPDX-License-Identifier: Apache-2.0 */
/* One layer of an image, as it is read.
 *
 * libarchive reads it twice in a row: one reader takes the compression off, the other takes the tar
 * apart, and what passes between the two is what an image's configuration has the digest of. How
 * much that may be is bounded there, too. */
#include "archive/layer.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"

#define RATIO_MAX  200            /* bytes of files for each byte of a layer … */
#define RATIO_FROM (256ULL << 20) /* … from here on */
#define CHUNK      (256u << 10)

struct layer {
	const struct layer_name *name;
	enum layer_sum sum;
	void (*on_bytes)(void *arg, uint64_t n);
	void *arg;
	int fd;
	uint64_t size, announced, unpacked; /* of the blob; of its files, of the tar so far */
	struct archive *packed, *tar;       /* NULL before the first entry */
	bool empty, bomb;
	struct sha256 digest; /* of what sum says */
	uint8_t chunk[CHUNK];
};

static ssize_t on_read(struct archive *a, void *arg, const void **ret)
{
	struct layer *l = arg;
	ssize_t n = read(l->fd, l->chunk, sizeof(l->chunk));

	(void)a;
	if (n > 0 && l->sum == LAYER_BLOB)
		sha256_add(&l->digest, l->chunk, (size_t)n);
	if (n > 0)
		l->on_bytes(l->arg, (uint64_t)n);
	*ret = l->chunk;
	return n;
}

static bool is_bomb(const struct layer *l, uint64_t bytes)
{
	return bytes > RATIO_FROM && bytes / RATIO_MAX > l->size;
}

static ssize_t on_unpack(struct archive *a, void *arg, const void **ret)
{
	struct layer *l = arg;
	int64_t offset;
	size_t len;
	int r = l->empty ? ARCHIVE_EOF : archive_read_data_block(l->packed, ret, &len, &offset);

	if (r == ARCHIVE_EOF)
		return 0;
	if (r != ARCHIVE_OK) {
		archive_set_error(a, EILSEQ, "%s", archive_error_string(l->packed));
		return -1;
	}
	l->unpacked += len;
	l->bomb = is_bomb(l, l->unpacked);
	if (l->bomb)
		return -1;
	if (l->sum == LAYER_DIFF)
		sha256_add(&l->digest, *ret, len);
	return (ssize_t)len;
}

static int too_large(struct err *err)
{
	return err_set(err, ERR_USER, "a layer expands to more than %d times its size", RATIO_MAX);
}

static int fail(const struct layer *l, struct archive *a, struct err *err)
{
	const char *text = a ? archive_error_string(a) : NULL;
	char safe[200];

	if (l->bomb)
		return too_large(err);
	if (!text)
		text = "cannot be read";
	return err_set(err, ERR_USER, "not a whole archive: %s",
		log_safe(safe, sizeof(safe), text, strlen(text)));
}

/* Begin to read @a, which fills with @fn. */
static int begin(struct layer *l, struct archive *a, bool tar, archive_read_callback *fn)
{
	int r = ARCHIVE_FATAL;

	if (a && tar)
		r = archive_read_support_format_tar(a);
	else if (a)
		r = archive_read_support_format_raw(a);
	if (r == ARCHIVE_OK && !tar)
		r = archive_read_support_filter_gzip(a);
	if (r == ARCHIVE_OK && !tar)
		r = archive_read_support_filter_zstd(a);
	/* Where there is nothing, there is neither. */
	if (r == ARCHIVE_OK)
		r = archive_read_support_format_empty(a);
	return r == ARCHIVE_OK ? archive_read_open(a, l, NULL, fn, NULL) : r;
}

static int start(struct layer *l, struct err *err)
{
	struct archive_entry *e;
	int r;

	l->packed = archive_read_new();
	r = begin(l, l->packed, false, on_read);
	if (r == ARCHIVE_OK)
		r = archive_read_next_header(l->packed, &e);
	l->empty = r == ARCHIVE_EOF;
	if (r != ARCHIVE_OK && !l->empty)
		return fail(l, l->packed, err);
	l->tar = archive_read_new();
	return begin(l, l->tar, true, on_unpack) == ARCHIVE_OK ? 0 : fail(l, l->tar, err);
}

struct layer *layer_open(int dir, const struct layer_name *name, enum layer_sum sum,
	void (*on_bytes)(void *arg, uint64_t n), void *arg, struct err *err)
{
	struct layer *l = xcalloc(1, sizeof(*l));
	struct stat st;

	l->name = name;
	l->sum = sum;
	l->on_bytes = on_bytes;
	l->arg = arg;
	sha256_init(&l->digest);
	l->fd = openat(dir, name->blob, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (l->fd < 0 || fstat(l->fd, &st) < 0) {
		err_errno(err, "layer %s", name->blob);
		layer_close(l);
		return NULL;
	}
	l->size = (uint64_t)st.st_size;
	return l;
}

void layer_close(struct layer *l)
{
	if (!l)
		return;
	archive_read_free(l->tar);
	archive_read_free(l->packed);
	close_and_reset(&l->fd);
	free(l);
}

uint64_t layer_size(const struct layer *l)
{
	return l->size;
}

/* A warning is about what we do not use. */
int layer_next(struct layer *l, struct archive_entry **ret, struct err *err)
{
	int r;

	if (!l->tar && start(l, err) < 0)
		return -1;
	r = archive_read_next_header(l->tar, ret);
	if (r == ARCHIVE_EOF)
		return 0;
	return r == ARCHIVE_OK || r == ARCHIVE_WARN ? 1 : fail(l, l->tar, err);
}

int64_t layer_data(struct layer *l, void *to, size_t max, struct err *err)
{
	ssize_t n = archive_read_data(l->tar, to, max);

	return n < 0 ? fail(l, l->tar, err) : n;
}

int layer_announce(struct layer *l, uint64_t bytes, struct err *err)
{
	l->announced += bytes;
	return is_bomb(l, l->announced) ? too_large(err) : 0;
}

int layer_check_blob(struct layer *l, bool *ret_damaged, struct err *err)
{
	char got[SHA256_HEX];
	const void *p;
	ssize_t n;

	while ((n = on_read(l->packed, l, &p)) > 0)
		;
	if (n < 0)
		return err_errno(err, "layer %s", l->name->blob);
	sha256_hex(&l->digest, got);
	*ret_damaged = strcmp(got, l->name->blob) != 0;
	if (*ret_damaged)
		return err_set(err, ERR_ENV, "layer %s is not what its digest says", l->name->blob);
	return 0;
}

/* What is behind the archive belongs to the tar, too. */
int layer_check_diff(struct layer *l, struct err *err)
{
	char got[SHA256_HEX];
	const void *p;
	ssize_t n;

	while ((n = on_unpack(l->tar, l, &p)) > 0)
		;
	if (n < 0)
		return fail(l, l->tar, err);
	sha256_hex(&l->digest, got);
	if (strcmp(got, l->name->diff) == 0)
		return 0;
	return err_set(err, ERR_USER,
		"unpacked it is sha256:%s, the image's configuration says sha256:%s", got,
		l->name->diff);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Images from an OCI registry.
 *
 * A blob grows as ".DIGEST.part" and gets its name when size and digest fit; what a broken
 * connection or a killed process leaves goes on where it ended. */
#include "fetch/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "fetch/registry_int.h"
#include "oci/config.h"
#include "oci/manifest.h"

#define ATTEMPTS   4 /* of one blob, each from where the last one ended */
#define ANSWER_MAX (64u << 10)

struct progress {
	uint64_t done, total, last;
};

/* A line for each hundredth. */
static void tell(struct progress *p)
{
	uint64_t step = p->total / 100 + 1;

	if (p->done / step == p->last / step)
		return;
	p->last = p->done;
	printf("progress %llu %llu\n", (unsigned long long)p->done, (unsigned long long)p->total);
	fflush(stdout);
}

/* A blob that is being fetched. */
struct part {
	const struct oci_blob *blob;
	struct progress *progress; /* or NULL */
	int fd;
	uint64_t at; /* bytes in the file, which are in the sum */
	struct sha256 sum;
	int errnum; /* of writing */
};

static void account(struct part *p, int64_t bytes)
{
	if (!p->progress)
		return;
	p->progress->done += (uint64_t)bytes;
	tell(p->progress);
}

static int restart(struct part *p)
{
	account(p, -(int64_t)p->at);
	p->at = 0;
	sha256_init(&p->sum);
	if (ftruncate(p->fd, 0) == 0 && lseek(p->fd, 0, SEEK_SET) == 0)
		return 0;
	p->errnum = errno;
	return -1;
}

/* What an earlier attempt left. */
static int take_up(struct part *p, struct err *err)
{
	char chunk[65536];
	struct stat st;
	ssize_t n;

	sha256_init(&p->sum);
	if (fstat(p->fd, &st) < 0)
		return err_errno(err, "%s", p->blob->digest);
	if ((uint64_t)st.st_size > p->blob->size)
		return restart(p) < 0 ? err_errno(err, "%s", p->blob->digest) : 0;
	while ((n = read(p->fd, chunk, sizeof(chunk))) > 0) {
		sha256_add(&p->sum, chunk, (size_t)n);
		p->at += (uint64_t)n;
	}
	account(p, (int64_t)p->at);
	return n < 0 ? err_errno(err, "%s", p->blob->digest) : 0;
}

static int on_begin(void *arg, uint64_t from)
{
	struct part *p = arg;

	return from == p->at ? 0 : restart(p);
}

static int on_data(void *arg, const void *data, size_t len)
{
	struct part *p = arg;

	if (len > p->blob->size - p->at)
		return -1; /* more than was announced */
	if (fd_write_all(p->fd, data, len) < 0) {
		p->errnum = errno;
		return -1;
	}
	sha256_add(&p->sum, data, len);
	p->at += len;
	account(p, (int64_t)len);
	return 0;
}

/* One request for what is missing. 1: some of it came, it may go on. */
static int request(struct registry *r, struct part *p, struct err *err)
{
	_free_ char *url = xasprintf("/v2/%s/blobs/%s", r->repo, p->blob->digest);
	struct http_sink sink = {.begin = on_begin, .data = on_data, .arg = p, .from = p->at};
	struct http_request q = {.method = "GET", .url = url, .max = ANSWER_MAX, .sink = &sink};
	struct http_answer a;
	uint64_t before = p->at;
	int result = 0;

	if (registry_do(r, &q, &a, err) < 0) {
		errno = p->errnum;
		if (p->errnum)
			return err_errno(err, "%s", p->blob->digest);
		return p->at > before && p->at < p->blob->size ? 1 : -1;
	}
	if (a.status == 416) /* it does not know the range */
		result = restart(p) < 0 ? -1 : 1;
	else if (a.status != 200 && a.status != 206)
		result = registry_status(r, "layer", &a, err);
	http_answer_done(&a);
	return result;
}

/* Whether all of it is there and right. What does not fit may come of an earlier attempt: once
 * more, from the beginning. */
static int verify(struct registry *r, struct part *p, bool whole, struct err *err)
{
	char got[SHA256_HEX];

	sha256_hex(&p->sum, got);
	if (strcmp(got, p->blob->digest + 7) == 0)
		return 0;
	if (restart(p) < 0)
		return err_errno(err, "%s", p->blob->digest);
	return whole ? err_set(err, ERR_PEER, "%s/%s: %s is not what its digest says", r->host,
			       r->repo, p->blob->digest)
		     : 1;
}

static int complete(struct registry *r, struct part *p, struct err *err)
{
	for (int i = 0; i < ATTEMPTS; i++) {
		bool whole = p->at == 0;
		int result = p->at < p->blob->size ? request(r, p, err) : 0;

		if (result == 0 && p->at < p->blob->size)
			result = err_set(err, ERR_PEER, "%s/%s: %s is shorter than was announced",
				r->host, r->repo, p->blob->digest);
		if (result == 0)
			result = verify(r, p, whole, err);
		if (result <= 0)
			return result;
	}
	return err_set(
		err, ERR_PEER, "%s/%s: the connection breaks again and again", r->host, r->repo);
}

static int fetch_blob(struct registry *r, const struct oci_blob *b, int dirfd,
	struct progress *progress, struct err *err)
{
	const char *name = b->digest + 7;
	_free_ char *tmp = xasprintf(".%s.part", name);
	struct part p = {.blob = b, .progress = progress};
	_close_ int fd = -1;
	struct stat st;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		(uint64_t)st.st_size == b->size) {
		p.at = b->size;
		account(&p, (int64_t)b->size);
		return 0;
	}
	fd = p.fd = openat(dirfd, tmp, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(err, "%s", tmp);
	if (take_up(&p, err) < 0)
		return -1;
	if (complete(r, &p, err) < 0) {
		/* A full disk is no place to keep it. */
		if (p.at == 0 || p.errnum)
			unlinkat(dirfd, tmp, 0);
		return -1;
	}
	if (fsync(fd) < 0 || renameat(dirfd, tmp, dirfd, name) < 0) {
		err_errno(err, "%s", name);
		unlinkat(dirfd, tmp, 0);
		return -1;
	}
	return 0;
}

static int fetch_layers(
	struct registry *r, const struct oci_manifest *m, int dirfd, struct err *err)
{
	struct progress p = {0};

	for (size_t i = 0; i < m->n_layers; i++)
		p.total += m->layers[i].size;
	for (size_t i = 0; i < m->n_layers; i++)
		if (fetch_blob(r, &m->layers[i], dirfd, &p, err) < 0)
			return -1;
	return 0;
}

/* The manifest that @reference means, and on the way the index; parsed and kept. */
static int fetch_manifest(struct registry *r, const char *reference, int dirfd,
	struct image_blobs *ret, struct oci_manifest *m, struct err *err)
{
	_free_ char *next = xstrdup(reference);

	for (int level = 0; level < 2; level++) {
		_buf_ struct buf text = {0};

		if (registry_manifest(r, next, "image", &text, ret->manifest, err) < 0)
			return -1;
		if (level == 0)
			memcpy(ret->top, ret->manifest, sizeof(ret->top));
		if (oci_manifest_parse(buf_cstr(&text), buf_len(&text), m, err) < 0)
			return err_wrap(err, "%s/%s", r->host, r->repo);
		if (fs_write_file(dirfd, ret->manifest + 7, buf_head(&text), buf_len(&text), 0600,
			    err) < 0) {
			oci_manifest_done(m);
			return -1;
		}
		if (!m->is_index)
			return 0;
		free(next);
		next = xstrdup(m->next.digest);
		oci_manifest_done(m);
	}
	return err_set(err, ERR_PEER, "%s/%s: an index of indexes", r->host, r->repo);
}

int image_pull(struct registry *r, const char *reference, int dirfd, bool layers,
	struct image_blobs *ret, struct err *err)
{
	struct oci_manifest m;
	struct image_blobs got;
	int result;

	if (fetch_manifest(r, reference, dirfd, &got, &m, err) < 0)
		return -1;
	result = fetch_blob(r, &m.config, dirfd, NULL, err);
	if (result == 0 && layers)
		result = fetch_layers(r, &m, dirfd, err);
	oci_manifest_done(&m);
	if (result == 0)
		*ret = got;
	return result;
}

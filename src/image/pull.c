/* SPDX-License-Identifier: Apache-2.0 */
/* Images from registries: from a reference to a root image.
 *
 * hutch-fetch brings blobs and verifies them, hutch-archive merges the layers into one tar stream,
 * and sqfstar makes the root image of it: nothing is unpacked on the host, nothing needs a
 * privilege, and neither program reaches anything of the user's. A root image that is there under
 * its pins was made to its end; what a crash leaves is two temporary files and blobs, which the
 * next pull takes up. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/paths.h"
#include "base/sha256.h"
#include "image/internal.h"
#include "image/records.h"
#include "image/registry.h"
#include "oci/manifest.h"
#include "oci/ref.h"

#define DAMAGED 3 /* hutch-archive: a layer is not what its digest says */

static int open_blobs(struct err *err)
{
	_free_ char *path = image_dir("blobs", err);
	int fd = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	if (path && fd < 0)
		return err_errno(err, "%s", path);
	return fd;
}

/* ---- what is there ---- */

/* The blob @digest of at most ret->max bytes; one that is not what it should be is not there. */
static int read_blob(int blobs, const char *digest, struct buf *ret, struct err *err)
{
	char got[SHA256_HEX];
	struct sha256 s;

	if (fs_read_file(blobs, digest + 7, ret, err) < 0)
		return -1;
	sha256_init(&s);
	sha256_add(&s, buf_head(ret), buf_len(ret));
	sha256_hex(&s, got);
	if (strcmp(got, digest + 7) == 0)
		return 0;
	unlinkat(blobs, digest + 7, 0);
	return err_set(err, ERR_ENV, "%s is not what its digest says", digest);
}

/* The manifest for our platform that @digest is or leads to. @used (or NULL) collects the blobs. */
static int read_manifest(
	int blobs, const char *digest, struct strv *used, struct oci_manifest *ret, struct err *err)
{
	_free_ char *next = xstrdup(digest);

	for (int level = 0; level < 2; level++) {
		_buf_ struct buf text = {.max = OCI_MANIFEST_MAX};

		if (read_blob(blobs, next, &text, err) < 0 ||
			oci_manifest_parse(buf_cstr(&text), buf_len(&text), ret, err) < 0)
			return -1;
		if (used)
			strv_add(used, next + 7);
		if (!ret->is_index)
			return 0;
		free(next);
		next = xstrdup(ret->next.digest);
		oci_manifest_done(ret);
	}
	return err_set(err, ERR_PEER, "an index of indexes");
}

/* The configuration of the image @digest. */
static int read_config(int blobs, const char *digest, struct image_config *ret, struct err *err)
{
	_buf_ struct buf text = {.max = OCI_CONFIG_MAX};
	struct oci_manifest m;
	int result;

	if (read_manifest(blobs, digest, NULL, &m, err) < 0)
		return -1;
	result = read_blob(blobs, m.config.digest, &text, err);
	oci_manifest_done(&m);
	return result < 0 ? -1 : image_config_parse(buf_cstr(&text), buf_len(&text), ret, err);
}

void oci_blobs(const char *pin, struct strv *ret)
{
	_close_ int blobs = open_blobs(NULL);
	const char *at = strrchr(pin, '@');
	struct oci_manifest m;

	if (blobs < 0 || !at || !oci_digest_valid(at + 1) ||
		read_manifest(blobs, at + 1, ret, &m, NULL) < 0)
		return;
	strv_add(ret, m.config.digest + 7);
	for (size_t i = 0; i < m.n_layers; i++)
		strv_add(ret, m.layers[i].digest + 7);
	oci_manifest_done(&m);
}

/* ---- resolving ---- */

static int ask(const char *op, const struct oci_ref *r, int blobs, image_progress_fn *progress,
	void *arg, char **ret_digest, struct err *err)
{
	_free_ char *text = oci_ref_text(r), *what = xasprintf("pulling %s", text);
	const char *digest;
	json_t *answer;

	if (registry_ask(&(struct registry_ask){.op = op,
				 .host = r->host,
				 .repo = r->repo,
				 .reference = r->digest ? r->digest : r->tag,
				 .dirfd = blobs,
				 .progress = progress,
				 .arg = arg,
				 .what = what},
		    &answer, err) < 0)
		return -1;
	digest = json_string_value(json_object_get(answer, "digest"));
	if (!digest || !oci_digest_valid(digest) || (r->digest && strcmp(r->digest, digest) != 0)) {
		json_decref(answer);
		return err_set(err, ERR_BUG, "hutch-fetch: no answer");
	}
	*ret_digest = xstrdup(digest);
	json_decref(answer);
	return 0;
}

/* A tag that cannot be looked up may have been before. */
static void hint_pinned(const struct oci_ref *r, const char *text, struct err *err)
{
	_free_ char *known = r->digest ? NULL : tags_get(text);

	if (known && !err->hint[0] && strlen(known) < sizeof(err->hint) - 40)
		err_hint(err, "it was %s when last looked up", known);
}

static int resolve(const struct oci_ref *r, const char *text, int blobs, char **ret_pinned,
	struct image_config *ret, struct err *err)
{
	_free_ char *digest = r->digest ? xstrdup(r->digest) : NULL;
	_close_ int lock = -1;

	/* What is pinned and there needs nobody. */
	if (!digest || read_config(blobs, digest, ret, NULL) < 0) {
		free(digest);
		digest = NULL;
		lock = records_lock(NULL, NULL, err);
		if (lock < 0)
			return -1;
		if (ask("inspect", r, blobs, NULL, NULL, &digest, err) < 0) {
			hint_pinned(r, text, err);
			return -1;
		}
		if (read_config(blobs, digest, ret, err) < 0)
			return -1;
	}
	*ret_pinned = oci_ref_pinned(r, digest);
	if (!r->tag || tags_set(text, *ret_pinned, err) == 0)
		return 0;
	image_config_done(ret);
	free(*ret_pinned);
	return -1;
}

int oci_resolve(const char *ref, char **ret_pinned, struct image_config *ret, struct err *err)
{
	_free_ char *text = NULL;
	_close_ int blobs = open_blobs(err);
	struct oci_ref r;
	int result;

	if (blobs < 0 || oci_ref_parse(ref, &r, err) < 0)
		return -1;
	text = oci_ref_text(&r);
	result = resolve(&r, text, blobs, ret_pinned, ret, err);
	oci_ref_done(&r);
	return result < 0 ? err_wrap(err, "image %s", ref) : 0;
}

/* ---- making ---- */

/* What goes into a root image. */
struct build {
	struct record record;
	struct strv layers; /* the lowest first: the digits of its digest, and of its DiffID */
	image_progress_fn *progress;
	void *arg;
	int blobs;
};

/* Whether nothing of the image @digest has to be fetched. */
static bool is_complete(int blobs, const char *digest)
{
	struct image_config config;
	struct oci_manifest m;
	struct stat st;
	bool all = true;

	if (read_config(blobs, digest, &config, NULL) < 0)
		return false;
	image_config_done(&config);
	if (read_manifest(blobs, digest, NULL, &m, NULL) < 0)
		return false;
	for (size_t i = 0; all && i < m.n_layers; i++)
		all = fstatat(blobs, m.layers[i].digest + 7, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		      (uint64_t)st.st_size == m.layers[i].size;
	oci_manifest_done(&m);
	return all;
}

static int add_layers(
	struct build *b, const struct oci_manifest *m, const struct strv *diff_ids, struct err *err)
{
	if (m->n_layers && m->n_layers != diff_ids->n)
		return err_set(err, ERR_USER,
			"%zu layers in its manifest, but %zu in its configuration (diff_ids)",
			m->n_layers, diff_ids->n);
	strv_add(&b->record.blobs, m->config.digest + 7);
	for (size_t i = 0; i < m->n_layers; i++) {
		strv_add(&b->record.blobs, m->layers[i].digest + 7);
		strv_add(&b->layers, m->layers[i].digest + 7);
		strv_add(&b->layers, diff_ids->v[i] + 7);
	}
	return 0;
}

/* All blobs of one image, and what of them matters. */
static int fetch(struct build *b, const char *pin, struct err *err)
{
	struct image_config config;
	struct oci_manifest m;
	_free_ char *digest = NULL;
	struct oci_ref r;
	int result = 0;

	if (oci_ref_parse(pin, &r, err) < 0)
		return -1;
	if (is_complete(b->blobs, r.digest))
		digest = xstrdup(r.digest);
	else
		result = ask("image", &r, b->blobs, b->progress, b->arg, &digest, err);
	oci_ref_done(&r);
	if (result < 0 || read_config(b->blobs, digest, &config, err) < 0)
		return -1;
	result = read_manifest(b->blobs, digest, &b->record.blobs, &m, err);
	if (result == 0) {
		result = add_layers(b, &m, &config.diff_ids, err);
		oci_manifest_done(&m);
	}
	image_config_done(&config);
	return result;
}

/* hutch-archive, writing to the pipe @tar and the file @ca. 1: it met the end of the reader. */
static int merge(struct build *b, int tar, int ca, struct err *err)
{
	_free_ char *program = path_program("hutch-archive");
	_free_ char *what = xasprintf("unpacking %s", b->record.pins.v[0] + strlen(OCI_SCHEME));
	struct words words = {.progress = b->progress, .arg = b->arg, .what = what};
	struct strv argv = {0};
	int result, status = 0;

	strv_add(&argv, program);
	strv_add(&argv, "merge");
	strv_copy(&argv, &b->layers);
	result = words_run(&(struct job){.what = "hutch-archive",
				   .argv = argv.v,
				   .in = CHILD_NULL,
				   .out = -1,
				   .fds = (const int[]){b->blobs, tar, ca},
				   .nfds = 3},
		&words, &status, err);
	/* It will be fetched anew. */
	if (WIFEXITED(status) && WEXITSTATUS(status) == DAMAGED) {
		for (size_t i = 0; i < b->layers.n; i += 2)
			if (words.reason && strstr(words.reason, b->layers.v[i]))
				unlinkat(b->blobs, b->layers.v[i], 0);
		err_hint(err, "try again: it will be fetched anew");
	}
	words_done(&words);
	strv_done(&argv);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE ? 1 : result;
}

/* The layers as squashfs at @img, their CA bundle at @ca. */
static int flatten(struct build *b, const char *img, const char *ca, struct err *err)
{
	_close_ int ca_fd = open(ca, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct squash squash;
	struct err squash_err;
	int tar[2], result, squash_result;

	if (ca_fd < 0)
		return err_errno(err, "%s", ca);
	if (pipe2(tar, O_CLOEXEC) < 0)
		return err_errno(err, "pipe");
	result = squash_start(img, tar[0], &squash, err);
	close(tar[0]);
	if (result < 0) {
		close(tar[1]);
		return -1;
	}
	result = merge(b, tar[1], ca_fd, err);
	close(tar[1]);
	squash_result = squash_end(&squash, "root image", &squash_err);
	if (result < 0)
		return -1;
	if (squash_result < 0)
		*err = squash_err;
	/* A reader that is content has seen the end mark: only padding was left. */
	return squash_result;
}

/* Give the finished files their names. */
static int publish(
	struct build *b, const char *images, const char *img, const char *ca, struct err *err)
{
	_free_ char *path = NULL, *ca_path = NULL;
	char digest[65];
	struct stat st;

	if (file_digest(img, digest, err) < 0)
		return -1;
	path = xasprintf("%s/%s.img", images, digest);
	ca_path = xasprintf("%s/%s.ca", images, digest);
	/* An image without a bundle has no such file: the guest is sent everything. */
	if (stat(ca, &st) == 0 && st.st_size > 0 && rename(ca, ca_path) < 0)
		return err_errno(err, "%s", ca_path);
	if (chmod(img, 0444) < 0)
		return err_errno(err, "%s", img);
	if (file_publish(img, path, err) < 0)
		return -1;
	b->record.image = xstrdup(digest);
	b->record.pulled = time(NULL);
	return record_add(&b->record, err);
}

static int make(struct build *b, struct err *err)
{
	_free_ char *images = image_dir("images", err), *img = NULL, *ca = NULL;
	int result = 0;

	if (!images)
		return -1;
	img = fs_join(images, ".oci.tmp");
	ca = fs_join(images, ".oci.ca.tmp");
	/* Of one that was killed: we have the lock. */
	unlink(img);
	unlink(ca);
	for (size_t i = 0; result == 0 && i < b->record.pins.n; i++)
		result = fetch(b, b->record.pins.v[i], err);
	if (result == 0 && !b->layers.n)
		result = err_set(err, ERR_USER, "it has no layers");
	if (result == 0)
		result = flatten(b, img, ca, err);
	if (result == 0)
		result = publish(b, images, img, ca, err);
	unlink(img);
	unlink(ca);
	if (result < 0 && err->errnum == ENOSPC)
		err_hint(err, "free some space, or set XDG_DATA_HOME to a larger disk");
	return result;
}

/* @pins when they are there, else made. */
static int find_or_make(const struct strv *pins, image_progress_fn *progress, void *arg,
	char **ret_image, struct err *err)
{
	struct build b = {.progress = progress, .arg = arg, .blobs = -1};
	_close_ int lock = -1;
	int result = 0;

	if (!record_find(pins, &b.record)) {
		lock = records_lock(progress, arg, err);
		if (lock < 0)
			return -1;
		/* Whoever held it may have made the same. */
		if (!record_find(pins, &b.record)) {
			strv_copy(&b.record.pins, pins);
			b.blobs = open_blobs(err);
			result = b.blobs < 0 ? -1 : make(&b, err);
		}
	}
	if (result == 0)
		*ret_image = xstrdup(b.record.image);
	close_and_reset(&b.blobs);
	record_done(&b.record);
	strv_done(&b.layers);
	return result;
}

/* ---- the doors ---- */

/* The image and what lies on top, each pinned. */
static int collect_pins(
	const char *ref, const struct strv *layers, struct strv *pins, struct err *err)
{
	for (size_t i = 0; i <= (layers ? layers->n : 0); i++) {
		const char *text = i ? layers->v[i - 1] : ref;
		_free_ char *pin = NULL;
		struct oci_ref r;

		if (oci_ref_parse(text, &r, err) < 0)
			return -1;
		pin = r.digest ? oci_ref_pinned(&r, r.digest) : NULL;
		oci_ref_done(&r);
		if (!pin)
			return err_set(err, ERR_USER, "image %s: not pinned", text);
		strv_add(pins, pin);
	}
	return 0;
}

static char *image_path(const char *digits)
{
	_free_ char *images = image_dir("images", NULL);

	return xasprintf("%s/%s.img", images ? images : "", digits);
}

int oci_root(const char *ref, const struct strv *layers, image_progress_fn *progress, void *arg,
	char **ret_path, char **ret_pinned, struct err *err)
{
	_free_ char *resolved = NULL, *digits = NULL;
	struct image_config config;
	struct strv pins = {0};
	int result = 0;

	if (!strchr(ref, '@')) {
		if (oci_resolve(ref, &resolved, &config, err) < 0)
			return -1;
		image_config_done(&config);
		ref = resolved;
	}
	result = collect_pins(ref, layers, &pins, err);
	if (result == 0 && find_or_make(&pins, progress, arg, &digits, err) < 0)
		result = err_wrap(err, "image %s", ref);
	if (result == 0) {
		*ret_path = image_path(digits);
		*ret_pinned = xstrdup(pins.v[0]);
	}
	strv_done(&pins);
	return result;
}

int oci_find(const char *ref, const struct strv *layers, char **ret_path, char **ret_pinned,
	struct err *err)
{
	struct strv pins = {0};
	struct record r;
	int result = collect_pins(ref, layers, &pins, err);

	if (result == 0 && !record_find(&pins, &r)) {
		err_set(err, ERR_ENV, "the root image %s is not there", ref);
		result = err_hint(err, "hutch run pulls it");
	} else if (result == 0) {
		*ret_path = image_path(r.image);
		*ret_pinned = xstrdup(pins.v[0]);
		record_done(&r);
	}
	strv_done(&pins);
	return result;
}

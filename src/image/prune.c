/* SPDX-License-Identifier: Apache-2.0 */
/* Removing what nobody needs.
 *
 * Needed is what a sandbox is made of, what a disk of the install cache lies on, and what a tag or
 * "base" names; of that the root images, and the manifests, configurations and layers that they
 * were made of. All that changes these waits meanwhile: builds, pulls, and the making of sandboxes.
 */
#include "image/prune.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/fd.h"
#include "base/fs.h"
#include "image/cache.h"
#include "image/internal.h"
#include "image/records.h"
#include "oci/ref.h"

#define DIGITS 64

struct prune {
	const struct image_prune *p;
	struct image_users users;
	struct record *records;
	size_t n_records;
	struct strv roots, keys, blobs; /* to stay: digits, names of records, digits */
	json_t *rows;
	uint64_t bytes;
	bool packs_stay; /* some that would go, but for a sandbox that runs */
};

/* ---- what goes ---- */

static uint64_t tree_bytes(int dirfd, const char *name)
{
	_close_ int fd = -1;
	uint64_t sum = 0;
	struct dirent *e;
	struct stat st;
	DIR *d;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	sum = (uint64_t)st.st_blocks * 512;
	if (!S_ISDIR(st.st_mode))
		return sum;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	d = fd >= 0 ? fdopendir(dup(fd)) : NULL;
	while (d && (e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			sum += tree_bytes(fd, e->d_name);
	if (d)
		closedir(d);
	return sum;
}

/* @kind NULL: a part of something else, which is said. */
static int drop(struct prune *s, int dirfd, const char *name, const char *kind, const char *id,
	struct err *err)
{
	uint64_t bytes = tree_bytes(dirfd, name);

	if (!s->p->dry_run && unlinkat(dirfd, name, 0) < 0 && errno != ENOENT) {
		if (errno != EISDIR)
			return err_errno(err, "%s", name);
		if (fs_remove_tree(dirfd, name, err) < 0)
			return -1;
	}
	s->bytes += bytes;
	if (kind)
		json_array_append_new(s->rows, json_pack("{s:s, s:s, s:I}", "kind", kind, "id", id,
						       "bytes", (json_int_t)bytes));
	return 0;
}

static bool is_digits(const char *s)
{
	return strlen(s) == DIGITS && strspn(s, "0123456789abcdef") == DIGITS;
}

/* What people know a root image by; owned. */
static char *root_name(const struct prune *s, const char *digits)
{
	for (size_t i = 0; i < s->n_records; i++) {
		const struct strv *pins = &s->records[i].pins;

		if (strcmp(s->records[i].image, digits) != 0)
			continue;
		return pins->n > 1
			       ? xasprintf("%s +%zu", pins->v[0] + strlen(OCI_SCHEME), pins->n - 1)
			       : xstrdup(pins->v[0] + strlen(OCI_SCHEME));
	}
	return xasprintf("base@%s", digits);
}

static int sweep_image(struct prune *s, int dirfd, const char *name, struct err *err)
{
	static const char *const partial[] = {".oci.tmp", ".oci.ca.tmp", ".base.tmp"};
	const char *dot = strrchr(name, '.');
	_free_ char *stem = xstrndup(name, dot ? (size_t)(dot - name) : strlen(name)), *id = NULL;
	bool root = dot && strcmp(dot, ".img") == 0;

	for (size_t i = 0; i < ARRAY_SIZE(partial); i++)
		if (strcmp(name, partial[i]) == 0)
			return drop(s, dirfd, name, "partial", name, err);
	if (dot && strcmp(dot, ".oci") == 0 && !strv_has(&s->keys, name))
		return drop(s, dirfd, name, NULL, NULL, err);
	if (!dot || !is_digits(stem) || (!root && strcmp(dot, ".ca") != 0) ||
		strv_has(&s->roots, stem))
		return 0;
	if (!root)
		return drop(s, dirfd, name, NULL, NULL, err);
	id = root_name(s, stem);
	return drop(s, dirfd, name, strncmp(id, "base@", 5) == 0 ? "root" : "image", id, err);
}

static int sweep_blob(struct prune *s, int dirfd, const char *name, struct err *err)
{
	_free_ char *id = xasprintf("sha256:%s", name);

	if (strv_has(&s->blobs, name))
		return 0;
	return is_digits(name) ? drop(s, dirfd, name, "blob", id, err)
			       : drop(s, dirfd, name, "partial", name, err);
}

/* Initial RAM disks of a pack that is gone. */
static int drop_initrds(struct prune *s, int packs, const char *pack, struct err *err)
{
	_close_ int fd = openat(packs, "initrd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(dup(fd)) : NULL;
	size_t len = strlen(pack);
	struct dirent *e;
	int result = 0;

	while (d && result == 0 && (e = readdir(d)) != NULL)
		if (strncmp(e->d_name, pack, len) == 0 && e->d_name[len] == '+')
			result = drop(s, fd, e->d_name, NULL, NULL, err);
	if (d)
		closedir(d);
	return result;
}

static bool is_linked(int packs, const char *link, const struct stat *st)
{
	struct stat to;

	return fstatat(packs, link, &to, 0) == 0 && to.st_dev == st->st_dev &&
	       to.st_ino == st->st_ino;
}

static int sweep_pack(struct prune *s, int dirfd, const char *name, struct err *err)
{
	_free_ char *current = kernel_current(NULL), *kernel = xasprintf("%s/kernel", name);
	struct stat st;

	if (name[0] == '.' || fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		!S_ISDIR(st.st_mode) || faccessat(dirfd, kernel, F_OK, 0) < 0 ||
		is_linked(dirfd, "default", &st) || is_linked(dirfd, "small", &st) ||
		(current && is_linked(AT_FDCWD, current, &st)))
		return 0;
	/* Its guest may still load modules from there. */
	s->packs_stay |= s->users.running;
	if (s->users.running)
		return 0;
	return drop(s, dirfd, name, "kernel", name, err) < 0 ? -1
							     : drop_initrds(s, dirfd, name, err);
}

static int sweep(struct prune *s, const char *sub,
	int (*each)(struct prune *s, int dirfd, const char *name, struct err *err), struct err *err)
{
	_free_ char *path = image_dir(sub, err);
	DIR *d = path ? opendir(path) : NULL;
	struct dirent *e;
	int result = 0;

	if (!d)
		return path ? err_errno(err, "%s", path) : -1;
	while (result == 0 && (e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			result = each(s, dirfd(d), e->d_name, err);
	closedir(d);
	return result;
}

/* ---- what stays ---- */

static void keep_users(struct prune *s)
{
	for (size_t i = 0; i < s->users.n; i++) {
		const struct image_user *u = &s->users.list[i];

		if (image_is_base(u->image)) {
			if (strchr(u->image, '@'))
				strv_add(&s->roots, strchr(u->image, '@') + 1);
			continue;
		}
		/* Its root image can be made again of these. */
		oci_blobs(u->image, &s->blobs);
		for (size_t l = 0; l < u->layers.n; l++)
			oci_blobs(u->layers.v[l], &s->blobs);
	}
}

static void keep_records(struct prune *s)
{
	for (size_t i = 0; i < s->n_records; i++) {
		const struct record *r = &s->records[i];
		_free_ char *path =
			image_users_need(&s->users, &r->pins) ? record_path(&r->pins, NULL) : NULL;

		if (!path)
			continue;
		strv_add(&s->keys, strrchr(path, '/') + 1);
		strv_add(&s->roots, r->image);
		strv_copy(&s->blobs, &r->blobs);
	}
}

static int find_users(struct prune *s, struct err *err)
{
	_free_ char *images = image_dir("images", err), *base = images ? base_digest(images) : NULL;
	static const struct strv none;
	struct strv tags = {0};

	if (!images || s->p->users(&s->users, err) < 0 || image_cache_users(&s->users, err) < 0 ||
		records_all(&s->records, &s->n_records, err) < 0)
		return -1;
	tags_all(&tags);
	for (size_t i = 0; i < tags.n; i++)
		image_users_add(&s->users, tags.v[i], &none);
	strv_done(&tags);
	strv_add(&s->roots, base);
	keep_users(s);
	keep_records(s);
	return 0;
}

/* ---- the whole ---- */

static void print(const struct prune *s)
{
	double mib = (double)s->bytes / (1 << 20);
	json_t *row, *whole;
	size_t i;

	if (s->p->json) {
		whole = json_pack("{s:b, s:I, s:O}", "dry_run", s->p->dry_run, "bytes",
			(json_int_t)s->bytes, "removed", s->rows);
		json_dumpf(whole, s->p->out, JSON_INDENT(2));
		fprintf(s->p->out, "\n");
		json_decref(whole);
		return;
	}
	json_array_foreach(s->rows, i, row)
	{
		fprintf(s->p->out, "%-7s %-48s %7.1f MiB\n",
			json_string_value(json_object_get(row, "kind")),
			json_string_value(json_object_get(row, "id")),
			(double)json_integer_value(json_object_get(row, "bytes")) / (1 << 20));
	}
	if (s->packs_stay)
		fprintf(s->p->out, "kernel packs stay while a sandbox runs\n");
	fprintf(s->p->out, "%.1f MiB %s\n", mib, s->p->dry_run ? "would be freed" : "freed");
}

static int run(struct prune *s, struct err *err)
{
	if (find_users(s, err) < 0)
		return -1;
	if (sweep(s, "images", sweep_image, err) < 0 || sweep(s, "blobs", sweep_blob, err) < 0)
		return -1;
	return sweep(s, "kernels", sweep_pack, err);
}

int image_prune(const struct image_prune *p, struct err *err)
{
	struct prune s = {.p = p};
	_close_ int build = -1, use = -1, pull = -1;
	int result;

	build = store_lock(err);
	use = build < 0 ? -1 : image_hold_alone(p->progress, p->arg, err);
	pull = use < 0 ? -1 : records_lock(p->progress, p->arg, err);
	if (pull < 0)
		return -1;
	s.rows = json_array();
	result = run(&s, err);
	/* What was removed before a failure is removed. */
	if (result == 0 || json_array_size(s.rows))
		print(&s);
	json_decref(s.rows);
	records_free(s.records, s.n_records);
	image_users_done(&s.users);
	strv_done(&s.roots);
	strv_done(&s.keys);
	strv_done(&s.blobs);
	return result;
}

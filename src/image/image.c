/* SPDX-License-Identifier: Apache-2.0 */
/* Root image references, the whole build, the listing. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/fs.h"
#include "image/internal.h"

#define BASE	     "base"
#define DEFAULT_DISK (16ull << 30)

static bool is_digest(const char *s)
{
	return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

/* What base.ref says; "" when there is none. */
static char *read_ref(const char *images, const char *name)
{
	_free_ char *path = xasprintf("%s/%s.ref", images, name);
	_buf_ struct buf b;

	buf_init(&b, 256);
	if (fs_read_file(AT_FDCWD, path, &b, NULL) < 0 || !is_digest(buf_cstr(&b)))
		return xstrdup("");
	return xstrdup(buf_cstr(&b));
}

static int find_base(const char *ref, char **ret_path, char **ret_pinned, struct err *err)
{
	_free_ char *images = image_dir("images", err), *name = NULL, *digest = NULL, *path = NULL;
	const char *at = strchr(ref, '@');

	if (!images)
		return -1;
	name = xstrndup(ref, at ? (size_t)(at - ref) : strlen(ref));
	digest = at ? xstrdup(at + 1) : read_ref(images, name);
	if (at && !is_digest(digest))
		return err_set(err, ERR_USER, "image %s: not a digest", ref);
	path = xasprintf("%s/%s.img", images, digest);
	if (!digest[0] || !fs_exists(path)) {
		err_set(err, ERR_ENV, "the root image %s is not there", ref);
		return err_hint(err, at ? "the sandbox was made from an image that is gone: hutch rm it"
					: "hutch image build");
	}
	*ret_pinned = xasprintf("%s@%s", name, digest);
	*ret_path = steal_ptr(&path);
	return 0;
}

bool image_is_base(const char *ref)
{
	return strcmp(ref, BASE) == 0 || strncmp(ref, BASE "@", strlen(BASE "@")) == 0;
}

static int not_yet(const char *ref, struct err *err)
{
	err_set(err, ERR_USER, "image %s: only \"base\", Hutch's own image, is supported yet", ref);
	return err_hint(err, "set sandbox.image to base");
}

int image_find(const char *ref, const struct strv *layers, char **ret_path, char **ret_pinned,
	struct err *err)
{
	if (!image_is_base(ref) || (layers && layers->n))
		return not_yet(ref, err);
	return find_base(ref, ret_path, ret_pinned, err);
}

int image_root(const char *ref, const struct strv *layers, image_progress_fn *progress, void *arg,
	char **ret_path, char **ret_pinned, struct err *err)
{
	(void)progress;
	(void)arg;
	return image_find(ref, layers, ret_path, ret_pinned, err);
}

int image_resolve(const char *ref, char **ret_pinned, struct image_config *ret, struct err *err)
{
	if (!image_is_base(ref))
		return not_yet(ref, err);
	*ret_pinned = xstrdup(ref);
	*ret = (struct image_config){0};
	return 0;
}

int image_ca(const char *path, struct buf *pem)
{
	_free_ char *ca = xasprintf("%.*s.ca", (int)(strlen(path) - strlen(".img")), path);

	return fs_read_file(AT_FDCWD, ca, pem, NULL);
}

int image_build(bool force, image_progress_fn *progress, void *arg, struct err *err)
{
	_free_ char *images = image_dir("images", err), *packs = image_dir("kernels", err);
	_free_ char *root = NULL, *pinned = NULL, *disk = NULL;
	struct kernel_pack pack = {0};
	_close_ int lock = -1;
	struct err none;

	if (!images || !packs)
		return -1;
	lock = store_lock(err);
	if (lock < 0)
		return -1;
	if ((force || image_kernel(&pack, &none) < 0 || !kernel_is_current(packs)) &&
		kernel_build(packs, progress, arg, err) < 0)
		return -1;
	kernel_pack_done(&pack);
	if ((force || find_base(BASE, &root, &pinned, &none) < 0) &&
		root_build(images, progress, arg, err) < 0)
		return -1;
	progress(arg, "preparing disk and initramfs", -1);
	if (disk_template(images, DEFAULT_DISK, &disk, err) < 0 || image_kernel(&pack, err) < 0)
		return -1;
	kernel_pack_done(&pack);
	return 0;
}

static void add_row(json_t *rows, const char *kind, const char *id, const char *path, bool current)
{
	struct stat st;
	json_int_t size = stat(path, &st) == 0 ? (json_int_t)st.st_size : 0;

	json_array_append_new(rows,
		json_pack("{s:s, s:s, s:I, s:s, s:b}", "kind", kind, "id", id, "bytes", size, "path",
			path, "current", current));
}

static void list_kernels(json_t *rows, const char *packs)
{
	_free_ char *current = kernel_current(NULL), *here = realpath(packs, NULL);
	DIR *d = opendir(packs);
	struct dirent *e;

	while (d && here && (e = readdir(d))) {
		_free_ char *dir = fs_join(here, e->d_name), *kernel = fs_join(dir, "kernel");
		struct stat st;

		/* Not once more by a link. */
		if (e->d_name[0] != '.' && lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) &&
			fs_exists(kernel))
			add_row(rows, "kernel", e->d_name, kernel,
				current && strcmp(current, dir) == 0);
	}
	if (d)
		closedir(d);
}

static void list_roots(json_t *rows, const char *images)
{
	_free_ char *current = read_ref(images, "base");
	DIR *d = opendir(images);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char *dot = strrchr(e->d_name, '.');
		_free_ char *path = fs_join(images, e->d_name), *id = NULL;

		if (!dot || strcmp(dot, ".img") != 0 || strlen(e->d_name) != 68)
			continue;
		*dot = '\0';
		id = xasprintf("base@%s", e->d_name);
		add_row(rows, "root", id, path, strcmp(current, e->d_name) == 0);
	}
	if (d)
		closedir(d);
}

int image_list(FILE *out, bool json, struct err *err)
{
	_free_ char *images = image_dir("images", err), *packs = image_dir("kernels", err);
	json_t *rows, *row;
	size_t i;

	if (!images || !packs)
		return -1;
	rows = json_array();
	list_kernels(rows, packs);
	list_roots(rows, images);
	if (json) {
		json_dumpf(rows, out, JSON_INDENT(2));
		fprintf(out, "\n");
	} else {
		json_array_foreach(rows, i, row)
			fprintf(out, "%-7s %-48.48s %7.1f MiB%s\n",
				json_string_value(json_object_get(row, "kind")),
				json_string_value(json_object_get(row, "id")),
				(double)json_integer_value(json_object_get(row, "bytes")) / (1 << 20),
				json_is_true(json_object_get(row, "current")) ? "  current" : "");
	}
	json_decref(rows);
	return 0;
}

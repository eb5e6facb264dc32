/* SPDX-License-Identifier: Apache-2.0 */
/* Root image references, the whole build, the listing. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

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
char *base_digest(const char *images)
{
	_free_ char *path = fs_join(images, BASE ".ref");
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
	digest = at ? xstrdup(at + 1) : base_digest(images);
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

static int check_layers(const char *ref, const struct strv *layers, struct err *err)
{
	return layers && layers->n
		       ? err_set(err, ERR_USER, "image %s: Hutch's own takes no layers of other images", ref)
		       : 0;
}

int image_find(const char *ref, const struct strv *layers, char **ret_path, char **ret_pinned,
	struct err *err)
{
	if (!image_is_base(ref))
		return oci_find(ref, layers, ret_path, ret_pinned, err);
	if (check_layers(ref, layers, err) < 0)
		return -1;
	return find_base(ref, ret_path, ret_pinned, err);
}

int image_root(const char *ref, const struct strv *layers, image_progress_fn *progress, void *arg,
	char **ret_path, char **ret_pinned, struct err *err)
{
	if (image_is_base(ref))
		return image_find(ref, layers, ret_path, ret_pinned, err);
	return oci_root(ref, layers, progress, arg, ret_path, ret_pinned, err);
}

int image_resolve(const char *ref, char **ret_pinned, struct image_config *ret, struct err *err)
{
	if (!image_is_base(ref))
		return oci_resolve(ref, ret_pinned, ret, err);
	*ret_pinned = xstrdup(ref);
	*ret = (struct image_config){0};
	return 0;
}

int image_ca(const char *path, struct buf *pem)
{
	_free_ char *ca = xasprintf("%.*s.ca", (int)(strlen(path) - strlen(".img")), path);

	return fs_read_file(AT_FDCWD, ca, pem, NULL);
}

bool image_is_current(void)
{
	_free_ char *images = image_dir("images", NULL), *packs = image_dir("kernels", NULL);

	return images && packs && kernel_is_current(packs) && root_is_current(images);
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
	if ((force || find_base(BASE, &root, &pinned, &none) < 0 || !root_is_current(images)) &&
		root_build(images, progress, arg, err) < 0)
		return -1;
	progress(arg, "preparing disk and initramfs", -1);
	if (disk_template(images, DEFAULT_DISK, &disk, err) < 0 || image_kernel(&pack, err) < 0)
		return -1;
	kernel_pack_done(&pack);
	return 0;
}

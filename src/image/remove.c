/* SPDX-License-Identifier: Apache-2.0 */
/* Removing images from registries. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "image/internal.h"
#include "image/records.h"
#include "image/use.h"
#include "oci/ref.h"

/* The only pulled image whose digest begins with @digits; owned. NULL with @err: none or several.
 */
static char *find_digits(const char *digits, struct err *err)
{
	struct record *list;
	char *found = NULL;
	bool several = false;
	size_t n;

	if (records_all(&list, &n, err) < 0)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		const char *at = strrchr(list[i].pins.v[0], ':');

		if (!at || strncmp(at + 1, digits, strlen(digits)) != 0)
			continue;
		several |= found && strcmp(found, list[i].pins.v[0]) != 0;
		if (!found)
			found = xstrdup(list[i].pins.v[0]);
	}
	records_free(list, n);
	if (several) {
		free(found);
		err_set(err, ERR_USER, "%s: several images begin so", digits);
		return NULL;
	}
	return found;
}

int image_known(const char *ref, char **ret_pin, char **ret_tag, struct err *err)
{
	_free_ char *text = NULL, *pin = NULL;
	const char *digits = strncmp(ref, "sha256:", 7) == 0 ? ref + 7 : ref;
	struct oci_ref r;

	if (image_is_base(ref)) {
		err_set(err, ERR_USER, "%s is Hutch's own image", ref);
		return err_hint(err, "hutch image build --force makes it anew");
	}
	if (strlen(digits) >= 6 && strspn(digits, "0123456789abcdef") == strlen(digits)) {
		struct err why = {0};

		pin = find_digits(digits, &why);
		if (!pin && why.class) {
			*err = why;
			return -1;
		}
	}
	if (!pin) {
		if (oci_ref_parse(ref, &r, err) < 0)
			return -1;
		text = oci_ref_text(&r);
		pin = r.digest ? oci_ref_pinned(&r, r.digest) : tags_get(text);
		if (r.digest) {
			free(text);
			text = NULL;
		}
		oci_ref_done(&r);
	}
	if (!pin) {
		err_set(err, ERR_USER, "%s: no such image here", ref);
		return err_hint(err, "hutch image ls");
	}
	*ret_pin = steal_ptr(&pin);
	*ret_tag = steal_ptr(&text);
	return 0;
}

/* Files of @dir that no record names, which @keep decides. */
static int sweep(const char *dir, const struct record *list, size_t n,
	bool (*keep)(const char *name, const struct record *list, size_t n), struct err *err)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	if (!d)
		return err_errno(err, "%s", dir);
	while ((e = readdir(d)) != NULL)
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
			!keep(e->d_name, list, n))
			unlinkat(dirfd(d), e->d_name, 0);
	closedir(d);
	return 0;
}

static bool keep_blob(const char *name, const struct record *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strv_has(&list[i].blobs, name))
			return true;
	return false;
}

/* Whether a root image is still one of the records'. */
static bool is_wanted(const char *digits, const struct record *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i].image, digits) == 0)
			return true;
	return false;
}

/* Take away the records of which @pin is a part, then what is left over. */
static int remove_all(const char *pin, struct err *err)
{
	_free_ char *images = image_dir("images", err), *blobs = image_dir("blobs", err);
	struct record *list, *left;
	size_t n, n_left;
	int result = 0;

	if (!images || !blobs || records_all(&list, &n, err) < 0)
		return -1;
	for (size_t i = 0; result == 0 && i < n; i++)
		if (strv_has(&list[i].pins, pin))
			result = record_remove(&list[i].pins, err);
	if (result == 0)
		result = records_all(&left, &n_left, err);
	for (size_t i = 0; result == 0 && i < n; i++) {
		_free_ char *img = xasprintf("%s/%s.img", images, list[i].image);
		_free_ char *ca = xasprintf("%s/%s.ca", images, list[i].image);

		if (is_wanted(list[i].image, left, n_left))
			continue;
		unlink(img);
		unlink(ca);
	}
	if (result == 0) {
		result = sweep(blobs, left, n_left, keep_blob, err);
		records_free(left, n_left);
	}
	records_free(list, n);
	return result;
}

int image_remove(const char *pin, const char *tag, int (*in_use)(const char *pin, struct err *err),
	bool *ret_gone, struct err *err)
{
	_close_ int use = image_hold_alone(NULL, NULL, err), lock = -1;
	struct strv tags = {0};
	int result = 0;

	lock = use < 0 ? -1 : records_lock(NULL, NULL, err);
	if (lock < 0)
		return -1;
	tags_of(pin, &tags);
	*ret_gone = !tag || tags.n <= 1;
	if (*ret_gone)
		result = in_use(pin, err);
	if (result == 0 && *ret_gone)
		result = remove_all(pin, err);
	for (size_t i = 0; result == 0 && i < tags.n; i++)
		if (!tag || strcmp(tags.v[i], tag) == 0)
			result = tags_set(tags.v[i], NULL, err);
	strv_done(&tags);
	return result;
}

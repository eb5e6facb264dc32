/* SPDX-License-Identifier: Apache-2.0 */
/* Which root images were made of images from registries. */
#include "image/records.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <jansson.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/sha256.h"
#include "image/internal.h"

#define FORMAT     1 /* another one makes other root images of the same layers */
#define RECORD_MAX (1u << 20)
#define TAGS_MAX   (4u << 20)

void record_done(struct record *r)
{
	strv_done(&r->pins);
	strv_done(&r->blobs);
	free(r->image);
	*r = (struct record){0};
}

char *record_path(const struct strv *pins, struct err *err)
{
	_free_ char *images = image_dir("images", err);
	char key[SHA256_HEX];
	struct sha256 s;

	if (!images)
		return NULL;
	sha256_init(&s);
	for (size_t i = 0; i < pins->n; i++) {
		const char *at = strrchr(pins->v[i], '@');

		/* Wherever it comes from: the digest says what it is. */
		sha256_add(&s, at ? at : pins->v[i], strlen(at ? at : pins->v[i]) + 1);
	}
	sha256_hex(&s, key);
	return xasprintf("%s/%s.%d.oci", images, key, FORMAT);
}

static json_t *list_of(const struct strv *l)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(a, json_string(l->v[i]));
	return a;
}

static void read_list(const json_t *o, const char *key, struct strv *to)
{
	const json_t *s;
	size_t i;

	json_array_foreach(json_object_get(o, key), i, s)
	{
		if (json_is_string(s))
			strv_add(to, json_string_value(s));
	}
}

static json_t *read_json(const char *path, size_t max)
{
	_buf_ struct buf text = {.max = max};

	if (fs_read_file(AT_FDCWD, path, &text, NULL) < 0)
		return NULL;
	return json_loadb((char *)buf_head(&text), buf_len(&text), 0, NULL);
}

static int write_json(const char *path, const json_t *j, struct err *err)
{
	_free_ char *text = json_dumps(j, JSON_INDENT(1) | JSON_SORT_KEYS);

	if (!text)
		return err_set(err, ERR_BUG, "%s: cannot be encoded", path);
	return fs_write_file(AT_FDCWD, path, text, strlen(text), 0600, err);
}

static bool read_record(const char *path, struct record *ret)
{
	_free_ char *images = image_dir("images", NULL), *image = NULL;
	json_t *j = read_json(path, RECORD_MAX);
	const char *digits = json_string_value(json_object_get(j, "image"));
	struct record r = {0};

	if (images && digits && strlen(digits) == 64 && strspn(digits, "0123456789abcdef") == 64) {
		r.image = xstrdup(digits);
		r.pulled = json_integer_value(json_object_get(j, "pulled"));
		read_list(j, "pins", &r.pins);
		read_list(j, "blobs", &r.blobs);
		image = xasprintf("%s/%s.img", images, digits);
	}
	json_decref(j);
	if (!r.pins.n || !fs_exists(image)) {
		record_done(&r);
		return false;
	}
	*ret = r;
	return true;
}

bool record_find(const struct strv *pins, struct record *ret)
{
	_free_ char *path = record_path(pins, NULL);

	return path && read_record(path, ret);
}

int record_add(const struct record *r, struct err *err)
{
	_free_ char *path = record_path(&r->pins, err);
	json_t *j;
	int result;

	if (!path)
		return -1;
	j = json_pack("{s:s, s:I, s:o, s:o}", "image", r->image, "pulled", (json_int_t)r->pulled,
		"pins", list_of(&r->pins), "blobs", list_of(&r->blobs));
	result = write_json(path, j, err);
	json_decref(j);
	return result;
}

int record_remove(const struct strv *pins, struct err *err)
{
	_free_ char *path = record_path(pins, err);

	if (!path)
		return -1;
	return unlink(path) < 0 && errno != ENOENT ? err_errno(err, "%s", path) : 0;
}

int records_all(struct record **ret, size_t *ret_n, struct err *err)
{
	_free_ char *images = image_dir("images", err);
	DIR *d = images ? opendir(images) : NULL;
	struct record *list = NULL, r;
	struct dirent *e;
	size_t n = 0;

	if (!d)
		return images ? err_errno(err, "%s", images) : -1;
	while ((e = readdir(d)) != NULL) {
		_free_ char *path = fs_join(images, e->d_name);
		const char *dot = strrchr(e->d_name, '.');

		if (!dot || strcmp(dot, ".oci") != 0 || !read_record(path, &r))
			continue;
		list = xrealloc(list, n + 1, sizeof(*list));
		list[n++] = r;
	}
	closedir(d);
	*ret = list;
	*ret_n = n;
	return 0;
}

void records_free(struct record *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		record_done(&list[i]);
	free(list);
}

int records_lock(image_progress_fn *progress, void *arg, struct err *err)
{
	return images_lock("pull.lock", LOCK_EX, "waiting for another pull", progress, arg, err);
}

/* ---- tags ---- */

static json_t *load_tags(char **ret_path)
{
	_free_ char *images = image_dir("images", NULL);
	json_t *j;

	*ret_path = images ? fs_join(images, "tags.json") : NULL;
	j = *ret_path ? read_json(*ret_path, TAGS_MAX) : NULL;
	if (json_is_object(j))
		return j;
	json_decref(j);
	return json_object();
}

char *tags_get(const char *text)
{
	_free_ char *path = NULL;
	json_t *j = load_tags(&path);
	const char *pin = json_string_value(json_object_get(j, text));
	char *ret = pin ? xstrdup(pin) : NULL;

	json_decref(j);
	return ret;
}

int tags_set(const char *text, const char *pin, struct err *err)
{
	_free_ char *path = NULL;
	json_t *j = load_tags(&path);
	int result;

	if (pin)
		json_object_set_new(j, text, json_string(pin));
	else
		json_object_del(j, text);
	result = path ? write_json(path, j, err) : err_set(err, ERR_ENV, "no directory for images");
	json_decref(j);
	return result;
}

void tags_all(struct strv *ret)
{
	_free_ char *path = NULL;
	json_t *j = load_tags(&path), *value;
	const char *text;

	json_object_foreach(j, text, value)
	{
		if (json_is_string(value))
			strv_add(ret, json_string_value(value));
	}
	json_decref(j);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void tags_of(const char *pin, struct strv *ret)
{
	_free_ char *path = NULL;
	json_t *j = load_tags(&path), *value;
	const char *text;

	json_object_foreach(j, text, value)
	{
		if (json_is_string(value) && strcmp(json_string_value(value), pin) == 0)
			strv_add(ret, text);
	}
	if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), by_text);
	json_decref(j);
}

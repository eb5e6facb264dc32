/* SPDX-License-Identifier: Apache-2.0 */
/* Disks kept after the install steps of kits, for sandboxes that would run the same steps.
 *
 * An entry is cache/KEY.img; KEY is the SHA-256 of everything that the steps depend on. KEY.json
 * beside it is for people. The image is renamed into place last, so an entry is whole or not there.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "base/fd.h"
#include "base/fs.h"
#include "image/cache.h"
#include "image/internal.h"
#include "image/use.h"

#define INFO_MAX 65536

bool image_cache_key_valid(const char *key)
{
	return strlen(key) == 64 && strspn(key, "0123456789abcdef") == 64;
}

static char *entry_path(const char *key, const char *end, struct err *err)
{
	_free_ char *dir = NULL;

	if (!image_cache_key_valid(key)) {
		err_set(err, ERR_USER, "%.80s: not a key of the cache", key);
		return NULL;
	}
	dir = image_dir("cache", err);
	return dir ? xasprintf("%s/%s%s", dir, key, end) : NULL;
}

int image_cache_digest(const char *path, char ret[static 65], struct err *err)
{
	return file_digest(path, ret, err);
}

int image_cache_restore(const char *key, const char *to, struct err *err)
{
	_free_ char *from = entry_path(key, ".img", err), *tmp = xasprintf("%s.tmp", to);
	_close_ int in = -1, out = -1;
	int result = 0;

	if (!from)
		return -1;
	in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (in < 0)
		return errno == ENOENT ? 0 : err_errno(err, "%s", from);
	out = open(tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (out < 0)
		return err_errno(err, "%s", tmp);
	if (ioctl(out, FICLONE, in) < 0)
		result = fs_copy_sparse(in, out, err);
	if (result == 0 && rename(tmp, to) < 0)
		result = err_errno(err, "%s", to);
	if (result < 0) {
		unlink(tmp);
		return -1;
	}
	futimens(in, NULL); /* ls shows when an entry was last of use */
	return 1;
}

bool image_cache_has(const char *key)
{
	_free_ char *path = entry_path(key, ".img", NULL);

	return path && fs_exists(path);
}

char *image_cache_entry(const char *key, struct err *err)
{
	return entry_path(key, "", err);
}

/* ---- for people ---- */

static json_t *read_info(const char *key)
{
	_free_ char *path = entry_path(key, ".json", NULL);
	_buf_ struct buf text = {.max = INFO_MAX};
	json_t *j = NULL;

	if (path && fs_read_file(AT_FDCWD, path, &text, NULL) == 0)
		j = json_loads(buf_cstr(&text), 0, NULL);
	return json_is_object(j) ? j : json_object();
}

/* For each entry; the order is nobody's. */
static int each_entry(
	void (*fn)(void *arg, const char *dir, const char *key), void *arg, struct err *err)
{
	_free_ char *dir = image_dir("cache", err);
	DIR *d = dir ? opendir(dir) : NULL;
	struct dirent *e;

	if (!d)
		return dir ? err_errno(err, "%s", dir) : -1;
	while ((e = readdir(d)) != NULL) {
		_free_ char *key = xstrndup(e->d_name, strcspn(e->d_name, "."));

		if (image_cache_key_valid(key) && strcmp(e->d_name + 64, ".img") == 0)
			fn(arg, dir, key);
	}
	closedir(d);
	return 0;
}

static void add_user(void *arg, const char *dir, const char *key)
{
	json_t *info = read_info(key), *layers = json_object_get(info, "layers"), *o;
	const char *image = json_string_value(json_object_get(info, "image"));
	struct strv list = {0};
	size_t i;

	(void)dir;
	json_array_foreach(layers, i, o)
	{
		if (json_is_string(o))
			strv_add(&list, json_string_value(o));
	}
	/* An earlier Hutch did not note the layers. */
	if (image)
		image_users_add(arg, image, json_is_array(layers) ? &list : NULL);
	strv_done(&list);
	json_decref(info);
}

int image_cache_users(struct image_users *u, struct err *err)
{
	return each_entry(add_user, u, err);
}

struct listing {
	FILE *out;
	json_t *list; /* or NULL */
};

static void list_entry(void *arg, const char *dir, const char *key)
{
	const struct listing *l = arg;
	_free_ char *path = xasprintf("%s/%s.img", dir, key);
	char used[32] = "";
	struct stat st;
	struct tm tm;
	json_t *info;

	if (stat(path, &st) < 0)
		return;
	info = read_info(key);
	if (localtime_r(&st.st_mtime, &tm))
		strftime(used, sizeof(used), "%F %R", &tm);
	if (l->list)
		json_array_append_new(
			l->list, json_pack("{s:s, s:I, s:I, s:O}", "key", key, "bytes",
					 (json_int_t)st.st_blocks * 512, "used",
					 (json_int_t)st.st_mtime, "info", info));
	else
		fprintf(l->out, "%.16s  %6llu MiB  %s  %s\n", key,
			(unsigned long long)st.st_blocks * 512 >> 20, used,
			json_string_value(json_object_get(info, "kits"))
				? json_string_value(json_object_get(info, "kits"))
				: "?");
	json_decref(info);
}

int image_cache_list(FILE *out, bool json, struct err *err)
{
	struct listing l = {.out = out, .list = json ? json_array() : NULL};
	int result = each_entry(list_entry, &l, err);

	if (result == 0 && json) {
		json_dumpf(l.list, out, JSON_INDENT(2));
		fputc('\n', out);
	}
	json_decref(l.list);
	return result;
}

int image_cache_remove(const char *prefix, struct err *err)
{
	_free_ char *dir = image_dir("cache", err);
	size_t len = strlen(prefix);
	DIR *d = dir ? opendir(dir) : NULL;
	struct dirent *e;
	int found = 0;

	if (!d)
		return dir ? err_errno(err, "%s", dir) : -1;
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.' || strncmp(e->d_name, prefix, len) != 0)
			continue;
		/* Everything of an entry, and what a crash left of one. */
		found += unlinkat(dirfd(d), e->d_name, 0) == 0 &&
			 strcmp(e->d_name + strcspn(e->d_name, "."), ".img") == 0;
	}
	closedir(d);
	if (!found && len) {
		err_set(err, ERR_USER, "%s: no such entry of the cache", prefix);
		return err_hint(err, "hutch kit cache ls");
	}
	return 0;
}

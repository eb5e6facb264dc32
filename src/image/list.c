/* SPDX-License-Identifier: Apache-2.0 */
/* What there is to boot from. */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <jansson.h>

#include "base/fs.h"
#include "image/internal.h"
#include "image/records.h"
#include "oci/ref.h"

static void add_row(json_t *rows, const char *kind, const char *id, const char *path, bool current)
{
	struct stat st;
	json_int_t size = stat(path, &st) == 0 ? (json_int_t)st.st_size : 0;

	json_array_append_new(rows, json_pack("{s:s, s:s, s:I, s:s, s:b}", "kind", kind, "id", id,
					    "bytes", size, "path", path, "current", current));
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

static bool is_pulled(const char *digits, const struct record *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i].image, digits) == 0)
			return true;
	return false;
}

static void list_own(json_t *rows, const char *images, const struct record *list, size_t n)
{
	_free_ char *current = base_digest(images);
	DIR *d = opendir(images);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char *dot = strrchr(e->d_name, '.');
		_free_ char *path = fs_join(images, e->d_name), *id = NULL;

		if (!dot || strcmp(dot, ".img") != 0 || strlen(e->d_name) != 68)
			continue;
		*dot = '\0';
		if (is_pulled(e->d_name, list, n))
			continue;
		id = xasprintf("base@%s", e->d_name);
		add_row(rows, "root", id, path, strcmp(current, e->d_name) == 0);
	}
	if (d)
		closedir(d);
}

static void add_pulled(json_t *rows, const char *images, const char *name, const struct record *r)
{
	_free_ char *path = xasprintf("%s/%s.img", images, r->image), *more = NULL;
	json_t *row, *layers = json_array();

	if (r->pins.n > 1)
		more = xasprintf("%s +%zu", name, r->pins.n - 1);
	for (size_t i = 1; i < r->pins.n; i++)
		json_array_append_new(layers, json_string(r->pins.v[i]));
	add_row(rows, "image", more ? more : name, path, false);
	row = json_array_get(rows, json_array_size(rows) - 1);
	json_object_set_new(row, "pinned", json_string(r->pins.v[0]));
	json_object_set_new(row, "layers", layers);
	json_object_set_new(row, "pulled", json_integer(r->pulled));
}

/* A line for each tag, or for the digest where there is none. */
static void list_pulled(json_t *rows, const char *images, const struct record *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct strv tags = {0};

		tags_of(list[i].pins.v[0], &tags);
		if (!tags.n)
			strv_add(&tags, list[i].pins.v[0] + strlen(OCI_SCHEME));
		for (size_t t = 0; t < tags.n; t++)
			add_pulled(rows, images, tags.v[t], &list[i]);
		strv_done(&tags);
	}
}

static void print_row(FILE *out, json_t *row)
{
	const char *id = json_string_value(json_object_get(row, "id"));
	time_t pulled = json_integer_value(json_object_get(row, "pulled"));
	char when[32] = "";
	struct tm tm;

	if (pulled && localtime_r(&pulled, &tm))
		strftime(when, sizeof(when), "  %Y-%m-%d %H:%M", &tm);
	fprintf(out, "%-7s %-48.*s %7.1f MiB%s%s\n",
		json_string_value(json_object_get(row, "kind")), pulled ? 200 : 48, id,
		(double)json_integer_value(json_object_get(row, "bytes")) / (1 << 20), when,
		json_is_true(json_object_get(row, "current")) ? "  current" : "");
}

int image_list(FILE *out, bool json, struct err *err)
{
	_free_ char *images = image_dir("images", err), *packs = image_dir("kernels", err);
	struct record *list;
	json_t *rows, *row;
	size_t n, i;

	if (!images || !packs || records_all(&list, &n, err) < 0)
		return -1;
	rows = json_array();
	list_kernels(rows, packs);
	list_own(rows, images, list, n);
	list_pulled(rows, images, list, n);
	records_free(list, n);
	if (json) {
		json_dumpf(rows, out, JSON_INDENT(2));
		fprintf(out, "\n");
	} else {
		json_array_foreach(rows, i, row) print_row(out, row);
	}
	json_decref(rows);
	return 0;
}

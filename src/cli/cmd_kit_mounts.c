/* SPDX-License-Identifier: Apache-2.0 */
/* hutch kit mounts: directories that kits share between their sandboxes, which outlive these. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/paths.h"
#include "cli/boxes.h"
#include "cli/kit.h"
#include "kit/host_mounts.h"

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Directories in @path, sorted; none where there is none. */
static int list_dirs(const char *path, struct strv *ret, struct err *err)
{
	DIR *d = opendir(path);
	struct dirent *e;

	if (!d)
		return errno == ENOENT ? 0 : err_errno(err, "%s", path);
	while ((e = readdir(d)))
		if (e->d_name[0] != '.' && e->d_type == DT_DIR)
			strv_add(ret, e->d_name);
	closedir(d);
	if (ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), compare);
	return 0;
}

/* Which one of them is the kit's. */
static char *find_kit(struct remote *r, const char *ref, struct err *err)
{
	struct kit_inputs in = {.placeholders = true};
	struct kit_errors errs = {0};
	struct kit_place place = {0};
	struct kit k = {0};
	char *kit = NULL;

	if (kit_find(r, ref, &place, err) == 0 && kit_load(place.path, &in, &k, &errs, err) == 0) {
		k.source = steal_ptr(&place.source);
		kit = host_mount_kit(&k);
	}
	kit_errors_print(&errs, stderr);
	kit_errors_done(&errs);
	kit_place_done(&place);
	kit_done(&k);
	return kit;
}

static void show(const char *kit, const char *name, const char *host, json_t *list)
{
	_free_ char *path = host_mount_decode(name), *id = xasprintf("%s/%s", kit, name);

	if (!path) /* none of ours */
		return;
	if (list)
		json_array_append_new(list,
			json_pack("{s:s, s:s, s:s}", "id", id, "path", path, "hostPath", host));
	else
		printf("%-48s %-32s %s\n", id, path, host);
}

static int list(struct remote *r, const char *ref, bool json)
{
	struct err err;
	_free_ char *all = path_state(HOST_MOUNTS_DIR, &err), *only = NULL;
	struct strv kits = {0};
	json_t *out = json ? json_array() : NULL;
	int result = all ? 0 : -1;

	if (result == 0 && ref) {
		only = find_kit(r, ref, &err);
		result = only ? 0 : -1;
	}
	if (only)
		strv_add(&kits, only);
	else if (result == 0)
		result = list_dirs(all, &kits, &err);
	for (size_t i = 0; result == 0 && i < kits.n; i++) {
		_free_ char *dir = fs_join(all, kits.v[i]);
		struct strv names = {0};

		result = list_dirs(dir, &names, &err);
		for (size_t m = 0; m < names.n; m++) {
			_free_ char *host = fs_join(dir, names.v[m]);

			show(kits.v[i], names.v[m], host, out);
		}
		strv_done(&names);
	}
	strv_done(&kits);
	if (result == 0 && json) {
		json_dumpf(out, stdout, JSON_INDENT(2));
		printf("\n");
	}
	json_decref(out);
	return result < 0 ? cli_fail(&err) : 0;
}

/* A sandbox keeps the directory open, and would find another one at its next start. */
static int check_unused(const char *id, const char *host, struct err *err)
{
	struct strv names = {0};
	int result = boxes_names(&names, err);

	for (size_t i = 0; result == 0 && i < names.n; i++) {
		struct box_spec s = {0};

		if (boxes_spec(names.v[i], &s, NULL) == 0)
			for (size_t m = 0; m < s.n_mounts; m++)
				if (s.mounts[m].kit && strcmp(s.mounts[m].host_path, host) == 0)
					result = err_set(err, ERR_USER, "%s: sandbox %s shares it", id,
						names.v[i]);
		if (result < 0)
			err_hint(err, "hutch rm %s", names.v[i]);
		spec_done(&s);
	}
	strv_done(&names);
	return result;
}

static int remove_one(const char *id, struct err *err)
{
	const char *slash = strchr(id, '/');
	_free_ char *all = path_state(HOST_MOUNTS_DIR, err), *host = all ? fs_join(all, id) : NULL;
	_free_ char *kit = slash ? xstrndup(id, (size_t)(slash - id)) : NULL;
	_free_ char *path = slash ? host_mount_decode(slash + 1) : NULL;
	_close_ int top = -1, dir = -1;

	if (!all)
		return -1;
	if (path && *kit && *kit != '.' && (top = open(all, O_PATH | O_DIRECTORY | O_CLOEXEC)) >= 0)
		dir = openat(top, kit, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || faccessat(dir, slash + 1, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
		err_set(err, ERR_USER, "%s: no such shared directory", id);
		return err_hint(err, "hutch kit mounts ls");
	}
	if (check_unused(id, host, err) < 0 || fs_remove_tree(dir, slash + 1, err) < 0)
		return -1;
	unlinkat(top, kit, AT_REMOVEDIR); /* with the last one */
	return 0;
}

int kit_mounts(struct remote *r, const struct kit_options *o)
{
	struct err err;
	int result = 0;

	if (strcmp(o->refs.v[0], "ls") == 0 && o->refs.n <= 2)
		return list(r, o->refs.n == 2 ? o->refs.v[1] : NULL, o->json);
	if (strcmp(o->refs.v[0], "rm") != 0 || o->refs.n == 1 || o->json)
		return cli_usage("kit");
	for (size_t i = 1; result == 0 && i < o->refs.n; i++)
		result = remove_one(o->refs.v[i], &err);
	return result < 0 ? cli_fail(&err) : 0;
}

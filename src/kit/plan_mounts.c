/* SPDX-License-Identifier: Apache-2.0 */
/* Which host directories a sandbox shares, and what may not be covered by them in the guest. */
#include "kit/plan_parts.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "base/paths.h"
#include "kit/check.h"
#include "kit/host_mounts.h"

/* A shared directory appears at its own path in the guest, over whatever is there. These paths
 * belong to the guest's system. @depth: how many components below the path are refused too. */
static const struct {
	const char *path;
	unsigned depth;
	const char *why;
} guest_owned[] = {
	{"/", 0, "the whole root of the sandbox"},
	{"/bin", UINT_MAX, "programs of the sandbox"},
	{"/boot", UINT_MAX, "part of the sandbox's own system"},
	{"/dev", UINT_MAX, "devices of the sandbox"},
	{"/etc", UINT_MAX, "configuration of the sandbox's own system"},
	{"/home", 0, "the home directories of the sandbox"},
	{PLAN_HOME, 0, "the agent's home directory in the sandbox"},
	{"/lib", UINT_MAX, "libraries of the sandbox"},
	{"/lib32", UINT_MAX, "libraries of the sandbox"},
	{"/lib64", UINT_MAX, "libraries of the sandbox"},
	{"/libx32", UINT_MAX, "libraries of the sandbox"},
	{"/opt", 0, "part of the sandbox's own system"},
	{"/proc", UINT_MAX, "processes of the sandbox"},
	{"/run", UINT_MAX, "runtime files of the sandbox"},
	{"/sbin", UINT_MAX, "programs of the sandbox"},
	{"/sys", UINT_MAX, "the kernel of the sandbox"},
	{"/tmp", 0, "temporary files of the sandbox"},
	{"/usr", 1, "part of the sandbox's own system"},
	{"/usr/bin", UINT_MAX, "programs of the sandbox"},
	{"/usr/lib", UINT_MAX, "libraries of the sandbox"},
	{"/usr/sbin", UINT_MAX, "programs of the sandbox"},
	{"/var", 1, "part of the sandbox's own system"},
};

static const char *why_refused(const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(guest_owned); i++) {
		const char *own = guest_owned[i].path;
		size_t len = strcmp(own, "/") == 0 ? 0 : strlen(own);
		unsigned below = 0;

		if (strcmp(path, own) == 0)
			return guest_owned[i].why;
		if (len == 0 || strncmp(path, own, len) != 0 || path[len] != '/')
			continue;
		for (const char *p = path + len; *p; p++)
			below += *p == '/';
		if (below <= guest_owned[i].depth)
			return guest_owned[i].why;
	}
	return NULL;
}

static bool names(const struct stat *dir, const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && st.st_dev == dir->st_dev && st.st_ino == dir->st_ino;
}

/* Whether @dir is @path or above it: as it is written, for who may write there may put something else
 * into its place, and as links lead. */
static bool holds(const struct stat *dir, const char *path)
{
	_free_ char *written = xstrdup(path), *real = NULL;
	char *slash;

	for (;;) {
		if (!real)
			real = realpath(written, NULL);
		if (names(dir, written))
			return true;
		slash = strrchr(written, '/');
		if (!slash || slash == written)
			break;
		*slash = '\0';
	}
	while (real && (slash = strrchr(real, '/')) && slash != real) {
		if (names(dir, real))
			return true;
		*slash = '\0';
	}
	return false;
}

/* Where secrets, rules and sandboxes are kept, and commands that the host runs for a secret. */
static int check_not_own(const char *path, const char *real, const struct stat *st, struct err *err)
{
	struct strv own = {0};
	struct stat own_st;
	int result = 0;

	path_own(&own);
	for (size_t i = 0; result == 0 && i < own.n; i++) {
		if (!holds(st, own.v[i]) &&
			(stat(own.v[i], &own_st) < 0 || !holds(&own_st, real)))
			continue;
		result = err_set(err, ERR_USER,
			"%s: cannot be shared, Hutch keeps its secrets and rules in %s", path, own.v[i]);
		err_hint(err, "name a directory that does not hold it");
	}
	strv_done(&own);
	return result;
}

/* @check: it will really be shared. */
static int add_mount(struct box_spec *s, const char *arg, bool check, struct err *err)
{
	size_t len = strlen(arg);
	bool ro = len > 3 && strcmp(arg + len - 3, ":ro") == 0;
	_free_ char *path = xstrndup(arg, ro ? len - 3 : len), *real = realpath(path, NULL);
	const char *why;
	struct stat st;

	if (!real || stat(real, &st) < 0)
		return err_set(err, ERR_USER, "%s: %s", path,
			errno == ENOENT ? "no such directory" : strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ERR_USER, "%s: not a directory", path);
	if (!plan_is_text(real))
		return err_set(err, ERR_USER, "%s: the path is not UTF-8 text", path);
	why = check ? why_refused(real) : NULL;
	if (why) {
		err_set(err, ERR_USER, "%s: cannot be shared, it would cover %s: %s", path, real,
			why);
		return err_hint(err, "name a directory further down");
	}
	if (check && check_not_own(path, real, &st, err) < 0)
		return -1;
	for (size_t i = 0; i < s->n_mounts; i++)
		if (strcmp(s->mounts[i].guest_path, real) == 0)
			return err_set(err, ERR_USER, "%s: given twice", path);
	s->mounts[s->n_mounts++] = (struct spec_mount){
		.host_path = xstrdup(real), .guest_path = xstrdup(real), .read_only = ro};
	return 0;
}

/* Whether @path is @dir or below it. */
static bool is_below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return strncmp(path, dir, len) == 0 && (!path[len] || path[len] == '/');
}

/* Outer directories first, so that none covers one inside it. Stable. */
static void sort_mounts(struct box_spec *s)
{
	for (size_t i = 1; i < s->n_mounts; i++) {
		struct spec_mount m = s->mounts[i];
		size_t to = i;

		for (size_t k = i; k > 0; k--)
			if (is_below(s->mounts[k - 1].guest_path, m.guest_path))
				to = k - 1;
		memmove(&s->mounts[to + 1], &s->mounts[to], (i - to) * sizeof(m));
		s->mounts[to] = m;
	}
}

/* Nothing is shared: the command starts where the image says, else at home. $2 is empty where the
 * directory becomes the agent's, unless it is somebody's already. */
static void add_own_workdir(struct box_spec *s, const struct image_config *image)
{
	static const char *const head[] = {"sh", "-c",
		"mkdir -p \"$1\" && { [ \"$2\" ] || ! [ -O \"$1\" ] || chown 1000:1000 \"$1\"; }",
		"workdir"};
	const char *wanted = image ? image->workdir : NULL;
	struct spec_step *step = s->prepare = xcalloc(1, sizeof(*step));

	s->n_prepare = 1;
	s->workdir = xstrdup(wanted && !check_guest_path(wanted) && plan_is_text(wanted) ? wanted
											   : PLAN_HOME);
	*step = (struct spec_step){.user = xstrdup("0"),
		.description = xstrdup("working directory"),
		.kit = xstrdup("")};
	for (size_t i = 0; i < ARRAY_SIZE(head); i++)
		strv_add(&step->argv, head[i]);
	strv_add(&step->argv, s->workdir);
	strv_add(&step->argv, why_refused(s->workdir) ? "keep" : "");
}

int plan_add_mounts(struct box_spec *s, const struct plan_request *req, struct err *err)
{
	const struct strv *args = &req->mounts;

	if (req->no_workspace) {
		add_own_workdir(s, req->image_config);
		return 0;
	}
	s->mounts = xcalloc(args->n ? args->n : 1, sizeof(*s->mounts));
	if (!args->n && add_mount(s, ".", !req->inspecting, err) < 0)
		return -1;
	for (size_t i = 0; i < args->n; i++)
		if (add_mount(s, args->v[i], true, err) < 0)
			return -1;
	s->workdir = xstrdup(s->mounts[0].guest_path);
	sort_mounts(s);
	return 0;
}

/* ---- directories that sandboxes share ---- */

/* Where it lies is Hutch's business. It belongs to a kit that no other can pass for. */
static char *host_directory(const struct kit *k, const char *path, struct err *err)
{
	_free_ char *all = path_state(HOST_MOUNTS_DIR, err), *kit = host_mount_kit(k);
	_free_ char *name = host_mount_encode(path);

	if (!all)
		return NULL;
	if (!name) {
		err_set(err, ERR_USER, "kit %s: shared folder %s: the path is too long", k->name, path);
		return NULL;
	}
	return xasprintf("%s/%s/%s", all, kit, name);
}

int plan_add_host_mounts(struct box_spec *s, const struct kit *k, struct err *err)
{
	for (size_t i = 0; i < k->n_host_mounts; i++) {
		const struct kit_host_mount *m = &k->host_mounts[i];
		const char *why = why_refused(m->path);
		char *host = why ? NULL : host_directory(k, m->path, err);

		if (why)
			return err_set(err, ERR_REFUSED, "kit %s: shared folder %s would cover %s",
				k->name, m->path, why);
		if (!host)
			return -1;
		for (size_t o = 0; o < s->n_mounts; o++)
			if (strcmp(s->mounts[o].guest_path, m->path) == 0) {
				free(host);
				return err_set(err, ERR_REFUSED,
					"kit %s: shared folder %s is a directory of yours", k->name,
					m->path);
			}
		s->mounts = xrealloc(s->mounts, s->n_mounts + 1, sizeof(*s->mounts));
		s->mounts[s->n_mounts++] = (struct spec_mount){.host_path = host,
			.guest_path = xstrdup(m->path),
			.kit = xstrdup(k->name),
			.mode = m->mode ? m->mode : 0755};
	}
	sort_mounts(s);
	return 0;
}

bool plan_in_mount(const struct box_spec *s, const char *path)
{
	for (size_t i = 0; i < s->n_mounts; i++)
		if (is_below(path, s->mounts[i].guest_path))
			return true;
	return false;
}

bool plan_path_read_only(const struct box_spec *s, const char *path)
{
	bool ro = false;

	/* The innermost comes last. */
	for (size_t i = 0; i < s->n_mounts; i++)
		if (is_below(path, s->mounts[i].guest_path))
			ro = s->mounts[i].read_only;
	return ro;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What the user approved of kits from elsewhere. */
#include "remote/approve.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/fs.h"
#include "base/paths.h"
#include "base/sha256.h"
#include "remote/grants.h"

#define FILE_MAX (1u << 20)

static char *file_of(const char *source, struct err *err)
{
	_free_ char *dir = path_config("approved", err);
	char key[SHA256_HEX];
	struct sha256 s;

	sha256_init(&s);
	sha256_add(&s, source, strlen(source));
	sha256_hex(&s, key);
	return dir ? fs_join(dir, key) : NULL;
}

/* A file that cannot be read approves nothing: that is an error, not a first use. */
static int load(const char *source, bool *ret_known, struct strv *ret, struct err *err)
{
	_free_ char *path = file_of(source, err);
	_buf_ struct buf text = {.max = FILE_MAX};
	json_t *j, *grants, *g;
	size_t i;

	if (!path)
		return -1;
	*ret_known = fs_exists(path);
	if (!*ret_known)
		return 0;
	if (fs_read_file(AT_FDCWD, path, &text, err) < 0)
		return -1;
	j = json_loads(buf_cstr(&text), JSON_REJECT_DUPLICATES, NULL);
	grants = json_object_get(j, "grants");
	if (!json_is_array(grants)) {
		json_decref(j);
		err_set(err, ERR_ENV, "%s: not a list of grants", path);
		return err_hint(err, "remove it, to be asked anew");
	}
	json_array_foreach(grants, i, g) if (json_is_string(g)) strv_add(ret, json_string_value(g));
	json_decref(j);
	return 0;
}

int approvals_save(const struct approval *a, struct err *err)
{
	_free_ char *path = file_of(a->source, err), *text = NULL;
	json_t *grants = json_array(), *j;

	if (!path) {
		json_decref(grants);
		return -1;
	}
	for (size_t i = 0; i < a->grants.n; i++)
		json_array_append_new(grants, json_string(a->grants.v[i]));
	j = json_pack("{s:s, s:o}", "source", a->source, "grants", grants);
	text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
	json_decref(j);
	if (!text)
		return err_set(err, ERR_BUG, "grants that cannot be encoded");
	return fs_write_file(AT_FDCWD, path, text, strlen(text), 0600, err);
}

static void approval_done(struct approval *a)
{
	free(a->source);
	free(a->digest);
	free(a->name);
	strv_done(&a->grants);
	strv_done(&a->diff);
}

static int check(
	const struct kit *kits, size_t n, size_t at, struct approvals *ret, struct err *err)
{
	struct approval a = {.source = xstrdup(kits[at].source),
		.digest = xstrdup(kits[at].digest),
		.name = xstrdup(kits[at].name)};
	struct strv old = {0};
	int result = load(a.source, &a.known, &old, err);

	grants_of(kits, n, a.source, &a.grants);
	grants_widen(&old, &a.grants, &a.diff);
	strv_done(&old);
	for (size_t i = 0; i < n; i++)
		if (kits[i].source && strcmp(kits[i].source, a.source) == 0)
			a.n_install += kits[i].n_install;
	if (result < 0 || (a.known && !a.diff.n)) {
		approval_done(&a);
		return result;
	}
	ret->v = xrealloc(ret->v, ret->n + 1, sizeof(*ret->v));
	ret->v[ret->n++] = a;
	return 0;
}

int approvals_find(const struct kit *kits, size_t n, struct approvals *ret, struct err *err)
{
	struct approvals found = {0};

	for (size_t i = 0; i < n; i++) {
		bool again = false;

		for (size_t m = 0; m < i && kits[i].source; m++)
			again |= kits[m].source && strcmp(kits[m].source, kits[i].source) == 0;
		if (!kits[i].source || again)
			continue;
		if (check(kits, n, i, &found, err) < 0) {
			approvals_done(&found);
			return -1;
		}
	}
	*ret = found;
	return 0;
}

void approvals_done(struct approvals *a)
{
	for (size_t i = 0; i < a->n; i++)
		approval_done(&a->v[i]);
	free(a->v);
	*a = (struct approvals){0};
}

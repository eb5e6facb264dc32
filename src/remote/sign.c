/* SPDX-License-Identifier: Apache-2.0 */
/* Signatures of kits: what is signed, and by whom. The cryptography is hutch-sign's. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/tree.h"
#include "remote/remote.h"
#include "remote/tools.h"

#define KEYS_MAX 16
#define TEXT_MAX (16u << 20)

struct wanted {
	const char *spec, *extra;
};

char *sign_spec_name(int dirfd)
{
	struct tree t;
	char *name = NULL;
	bool more = false;

	if (faccessat(dirfd, "spec.yaml", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return xstrdup("spec.yaml");
	if (tree_list(dirfd, &t, NULL) < 0)
		return NULL;
	for (size_t i = 0; i < t.n; i++) {
		const char *dot = strrchr(t.v[i].path, '.');

		if (!dot || strcmp(dot, ".yaml") != 0 || strchr(t.v[i].path, '/'))
			continue;
		more |= name != NULL;
		if (!name)
			name = xstrdup(t.v[i].path);
	}
	tree_done(&t);
	if (more) {
		free(name);
		return NULL;
	}
	return name;
}

static bool is_wanted(const char *path, const void *arg)
{
	const struct wanted *w = arg;

	return strcmp(path, w->spec) == 0 || strncmp(path, "files/", 6) == 0 ||
	       (w->extra && strcmp(path, w->extra) == 0);
}

int sign_text(int dirfd, const char *extra, struct buf *ret, struct err *err)
{
	_free_ char *spec = sign_spec_name(dirfd);
	struct wanted w = {spec, extra};
	struct tree t;
	int result;

	if (!spec)
		return err_set(err, ERR_USER, "no spec.yaml in this directory");
	if (tree_list(dirfd, &t, err) < 0)
		return -1;
	buf_puts(ret, "hutch-kit 1\n");
	result = tree_text(dirfd, &t, is_wanted, &w, ret, err);
	tree_done(&t);
	return result;
}

int sign_make(const char *dir, const char *extra, const char *key, bool plain, struct err *err)
{
	_close_ int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_close_ int key_fd = open(key, O_RDONLY | O_CLOEXEC | O_NOCTTY), out = -1;
	const char *name = plain ? SIGN_PLAIN : SIGN_BUNDLE;
	_buf_ struct buf text = {.max = TEXT_MAX};
	_free_ char *said = NULL, *tmp = xasprintf(".%s.tmp", name);

	if (dirfd < 0)
		return err_errno(err, "%s", dir);
	if (key_fd < 0)
		return err_errno(err, "%s", key);
	if (sign_text(dirfd, extra, &text, err) < 0)
		return -1;
	unlinkat(dirfd, tmp, 0);
	out = openat(dirfd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (out < 0)
		return err_errno(err, "%s", name);
	if (tool_sign("sign", plain ? "plain" : "bundle", buf_head(&text), buf_len(&text),
		    (const int[]){key_fd, out}, 2, &said, err) < 0)
		err_wrap(err, "%s", key);
	else if (fsync(out) == 0 && renameat(dirfd, tmp, dirfd, name) == 0)
		return 0;
	else
		err_errno(err, "%s", name);
	unlinkat(dirfd, tmp, 0);
	return -1;
}

/* One of the two kinds of signature. 1: there is none. */
static int check_one(int dirfd, const char *name, const char *form, const struct buf *text,
	const struct strv *keys, size_t *ret_key, struct err *err)
{
	int fds[1 + KEYS_MAX], result;
	_free_ char *out = NULL;
	size_t n = 1;

	fds[0] = tree_open(dirfd, name, O_RDONLY | O_NONBLOCK, 0);
	if (fds[0] < 0)
		return errno == ENOENT ? 1 : err_errno(err, "%s", name);
	result = keys->n > KEYS_MAX ? err_set(err, ERR_USER, "more than %d keys", KEYS_MAX) : 0;
	for (size_t i = 0; result == 0 && i < keys->n; i++) {
		fds[n] = open(keys->v[i], O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (fds[n] < 0)
			result = err_errno(err, "key %s", keys->v[i]);
		else
			n++;
	}
	if (result == 0)
		result =
			tool_sign("verify", form, buf_head(text), buf_len(text), fds, n, &out, err);
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
	if (result == 0)
		*ret_key = MIN((size_t)strtoul(out, NULL, 10), keys->n - 1);
	return result;
}

int sign_check(const char *dir, const char *extra, const struct strv *keys, size_t *ret_key,
	struct err *err)
{
	_close_ int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_buf_ struct buf text = {.max = TEXT_MAX};
	int first, second;

	if (dirfd < 0)
		return err_errno(err, "%s", dir);
	if (!keys->n)
		return err_set(err, ERR_USER, "no key is trusted");
	if (sign_text(dirfd, extra, &text, err) < 0)
		return -1;
	first = check_one(dirfd, SIGN_BUNDLE, "bundle", &text, keys, ret_key, err);
	if (first == 0)
		return 0;
	second =
		check_one(dirfd, SIGN_PLAIN, "plain", &text, keys, ret_key, first < 0 ? NULL : err);
	if (second == 0 || first < 0 || second < 0)
		return second == 0 ? 0 : -1;
	return err_set(err, ERR_USER, "not signed: neither " SIGN_BUNDLE " nor " SIGN_PLAIN);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The names of an archive's entries. */
#include "archive/names.h"

#include <search.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/tree.h"

struct name {
	char *folded, *exact; /* owned */
	bool dir;
};

static int refuse(struct err *err, const char *path, const char *why)
{
	char safe[128];

	return err_set(
		err, ERR_USER, "%s: %s", log_safe(safe, sizeof(safe), path, strlen(path)), why);
}

/* The length of the UTF-8 character at @s, 0 when it is none; overlong forms and surrogates are not
 * told apart, they only ever become names of files. */
static size_t utf8_len(const unsigned char *s)
{
	size_t n = *s < 0x80         ? 1
		   : (*s >> 5) == 6  ? 2
		   : (*s >> 4) == 14 ? 3
		   : (*s >> 3) == 30 ? 4
				     : 0;

	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

static int check_characters(const char *path, struct err *err)
{
	const unsigned char *s = (const unsigned char *)path;

	while (*s) {
		size_t n = utf8_len(s);

		if (!n)
			return refuse(err, path, "a name that is not UTF-8");
		if (*s < 0x20 || *s == 0x7f || (*s == 0xc2 && s[1] < 0xa0))
			return refuse(err, path, "a control character in a name");
		if (*s == '\\')
			return refuse(err, path, "a backslash in a name");
		s += n;
	}
	return 0;
}

int name_check(const char *path, struct err *err)
{
	unsigned depth = 0;

	if (!*path)
		return err_set(err, ERR_USER, "an entry without a name");
	if (*path == '/')
		return refuse(err, path, "an absolute path");
	if (strlen(path) > TREE_PATH_MAX)
		return refuse(err, path, "a path of more than 1024 bytes");
	for (const char *at = path;; at += 1) {
		size_t len = strcspn(at, "/");

		if (len == 2 && memcmp(at, "..", 2) == 0)
			return refuse(err, path, "a path with \"..\"");
		if (len == 0 || (len == 1 && *at == '.'))
			return refuse(err, path, "not a normal path");
		if (len > 255)
			return refuse(err, path, "a name of more than 255 bytes");
		if (++depth > TREE_DEPTH_MAX)
			return refuse(err, path, "nested too deeply");
		at += len;
		if (!*at)
			break;
	}
	return check_characters(path, err);
}

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct name *)a)->folded, ((const struct name *)b)->folded);
}

static void name_free(void *p)
{
	struct name *n = p;

	free(n->folded);
	free(n->exact);
	free(n);
}

/* @last: the entry itself, not a directory that its path names. */
static int add_one(
	struct names *names, const char *path, size_t len, bool dir, bool last, struct err *err)
{
	struct name *n = xcalloc(1, sizeof(*n)), **at;

	n->exact = xstrndup(path, len);
	n->folded = xstrdup(n->exact);
	n->dir = dir;
	for (char *c = n->folded; *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c = (char)(*c - 'A' + 'a');
	at = tsearch(n, &names->root, compare);
	if (at && *at == n) {
		if (++names->n > NAMES_MAX)
			return err_set(
				err, ERR_USER, "more than %d files and directories", NAMES_MAX);
		return 0;
	}
	name_free(n);
	if (!at)
		return err_set(err, ERR_ENV, "out of memory");
	if (strncmp((*at)->exact, path, len) != 0)
		return refuse(err, path, "differs from another name only in upper and lower case");
	if ((*at)->dir != dir)
		return refuse(err, path, "both a file and a directory");
	if (!dir && last)
		return refuse(err, path, "twice in the archive");
	return 0;
}

int names_add(struct names *names, const char *path, bool dir, struct err *err)
{
	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/'))
		if (add_one(names, path, (size_t)(slash - path), true, false, err) < 0)
			return -1;
	return add_one(names, path, strlen(path), dir, true, err);
}

void names_done(struct names *names)
{
	tdestroy(names->root, name_free);
	*names = (struct names){0};
}

bool name_link_stays(const char *path, const char *target)
{
	unsigned depth = 0;

	if (strncmp(path, "files/home/", 11) != 0 && strncmp(path, "files/workspace/", 16) != 0)
		return false;
	for (const char *c = strchr(path + 6, '/') + 1; (c = strchr(c, '/')) != NULL; c++)
		depth++;
	if (!*target || *target == '/' || strlen(target) > TREE_PATH_MAX)
		return false;
	while (*target) {
		size_t len = strcspn(target, "/");

		if (len == 2 && memcmp(target, "..", 2) == 0) {
			if (depth-- == 0)
				return false;
		} else if (len && !(len == 1 && *target == '.')) {
			depth++;
		}
		target += len;
		target += strspn(target, "/");
	}
	return true;
}

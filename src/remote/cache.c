/* SPDX-License-Identifier: Apache-2.0 */
/* Fetched kits. */
#include "remote/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/tree.h"

#define STAGE_PREFIX  ".stage-"
#define STAGE_SECONDS 3600 /* nothing takes that long: a fetch that was killed */

static void remove_old_stages(const char *kits)
{
	DIR *d = opendir(kits);
	struct dirent *e;
	struct stat st;

	while (d && (e = readdir(d)) != NULL)
		if (strncmp(e->d_name, STAGE_PREFIX, strlen(STAGE_PREFIX)) == 0 &&
			fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			time(NULL) - st.st_mtime > STAGE_SECONDS)
			fs_remove_tree(dirfd(d), e->d_name, NULL);
	if (d)
		closedir(d);
}

int stage_open(struct stage *ret, struct err *err)
{
	_free_ char *kits = path_data("kits", err), *path = NULL;
	int fd;

	if (!kits)
		return -1;
	remove_old_stages(kits);
	path = xasprintf("%s/" STAGE_PREFIX "XXXXXX", kits);
	if (!mkdtemp(path))
		return err_errno(err, "%s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, "%s", path);
	*ret = (struct stage){steal_ptr(&path), fd};
	return 0;
}

void stage_close(struct stage *s)
{
	if (!s->path)
		return;
	fs_remove_tree(AT_FDCWD, s->path, NULL);
	close(s->fd);
	free(s->path);
	*s = (struct stage){0};
}

/* The file that knows what @pinned is; owned. */
static char *note_path(const char *pinned, struct err *err)
{
	_free_ char *refs = path_data("kits/refs", err);
	char key[SHA256_HEX];
	struct sha256 s;

	sha256_init(&s);
	sha256_add(&s, pinned, strlen(pinned));
	sha256_hex(&s, key);
	return refs ? fs_join(refs, key) : NULL;
}

static bool tree_is(const char *path, const char *digest)
{
	_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char got[SHA256_HEX];

	return fd >= 0 && tree_digest(fd, got, NULL) == 0 && strcmp(got, digest) == 0;
}

char *cache_find(const char *pinned, char digest[static SHA256_HEX])
{
	_free_ char *note = note_path(pinned, NULL), *kits = path_data("kits", NULL), *path = NULL;
	_buf_ struct buf text = {.max = 4096};

	if (!note || !kits || !fs_exists(note) || fs_read_file(AT_FDCWD, note, &text, NULL) < 0 ||
		buf_len(&text) < SHA256_HEX ||
		strspn(buf_cstr(&text), "0123456789abcdef") != SHA256_HEX - 1)
		return NULL;
	memcpy(digest, buf_head(&text), SHA256_HEX - 1);
	digest[SHA256_HEX - 1] = '\0';
	path = fs_join(kits, digest);
	return tree_is(path, digest) ? steal_ptr(&path) : NULL;
}

char *cache_add(const struct stage *s, const char *name, const char *pinned,
	char digest[static SHA256_HEX], struct err *err)
{
	_free_ char *note = note_path(pinned, err), *kits = path_data("kits", err);
	_free_ char *path = NULL, *text = NULL;
	_close_ int fd = tree_open(s->fd, name, O_RDONLY | O_DIRECTORY, 0);

	if (!note || !kits)
		return NULL;
	if (fd < 0) {
		err_errno(err, "%s", name);
		return NULL;
	}
	if (tree_digest(fd, digest, err) < 0)
		return NULL;
	path = fs_join(kits, digest);
	if (fs_exists(path) && !tree_is(path, digest))
		fs_remove_tree(AT_FDCWD, path, NULL);
	/* Somebody else may have brought the same. */
	if (renameat(s->fd, name, AT_FDCWD, path) < 0 && errno != EEXIST && errno != ENOTEMPTY) {
		err_errno(err, "%s", path);
		return NULL;
	}
	text = xasprintf("%s\n%s\n", digest, pinned);
	if (fs_write_file(AT_FDCWD, note, text, strlen(text), 0600, err) < 0)
		return NULL;
	return steal_ptr(&path);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The initramfs: hutch-init, the list of modules, the modules. Format "newc" (cpio), uncompressed,
 * because unpacking a compressed one costs an emulated CPU more than reading a few megabytes. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "image/internal.h"
#include "image/module_slim.h"

#define ARCHIVE_MAX (256u << 20)
#define MODULE_MAX  (64u << 20)

/* One member: header, name, data, each padded to four bytes (cpio(5), "New ASCII Format"). */
static void put_member(struct buf *b, const char *name, unsigned mode, unsigned rdev_major,
	unsigned rdev_minor, const void *data, size_t len)
{
	static const char zeros[4];

	/* The offset serves as a unique inode number. */
	buf_printf(b, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		(unsigned)buf_len(b) + 1, mode, 0u,
		0u, S_ISDIR(mode) ? 2u : 1u, 0u, (unsigned)len, 0u, 0u, rdev_major, rdev_minor,
		(unsigned)strlen(name) + 1, 0u);
	buf_put(b, name, strlen(name) + 1);
	buf_put(b, zeros, (4 - buf_len(b) % 4) % 4);
	buf_put(b, data, len);
	buf_put(b, zeros, (4 - buf_len(b) % 4) % 4);
}

static int put_file(struct buf *b, const char *name, unsigned mode, const char *path, struct err *err)
{
	_buf_ struct buf data;

	buf_init(&data, 64u << 20);
	if (fs_read_file(AT_FDCWD, path, &data, err) < 0)
		return -1;
	put_member(b, name, S_IFREG | mode, 0, 0, buf_head(&data), buf_len(&data));
	return 0;
}

static int put_module(struct buf *b, const char *name, const char *path, struct err *err)
{
	_buf_ struct buf whole, slim;

	buf_init(&whole, MODULE_MAX);
	buf_init(&slim, MODULE_MAX);
	if (fs_read_file(AT_FDCWD, path, &whole, err) < 0)
		return -1;
	if (module_slim(buf_head(&whole), buf_len(&whole), &slim) == 0)
		put_member(b, name, S_IFREG | 0644, 0, 0, buf_head(&slim), buf_len(&slim));
	else
		put_member(b, name, S_IFREG | 0644, 0, 0, buf_head(&whole), buf_len(&whole));
	return 0;
}

/* Modules are stored as /hutch/m/NAME.ko; the list in the pack names them relative to the pack. */
static int put_modules(struct buf *b, const char *pack_dir, struct err *err)
{
	_free_ char *list_path = fs_join(pack_dir, "modules.list");
	_buf_ struct buf list, out;

	buf_init(&list, 1u << 20);
	buf_init(&out, 1u << 20);
	if (fs_read_file(AT_FDCWD, list_path, &list, err) < 0)
		return -1;
	for (char *line = buf_cstr(&list), *next; *line; line = next) {
		_free_ char *path = NULL, *name = NULL;
		const char *file;

		next = line + strcspn(line, "\n");
		if (*next)
			*next++ = '\0';
		file = strchr(line, ' ');
		if (!file || strchr(file + 1, '/'))
			return err_set(err, ERR_ENV, "%s: corrupt", list_path);
		path = xasprintf("%s/modules/%s", pack_dir, file + 1);
		name = xasprintf("hutch/m/%s", file + 1);
		if (put_module(b, name, path, err) < 0)
			return -1;
		buf_printf(&out, "%.*s /%s\n", (int)(file - line), line, name);
	}
	put_member(b, "hutch/modules", S_IFREG | 0644, 0, 0, buf_head(&out), buf_len(&out));
	return 0;
}

int initramfs_write(const char *pack_dir, const char *init, const char *to, struct err *err)
{
	static const char *const dirs[] = {"dev", "proc", "sys", "hutch", "hutch/m"};
	_free_ char *tmp = xasprintf("%s.%d.tmp", to, (int)getpid());
	_buf_ struct buf b;

	buf_init(&b, ARCHIVE_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		put_member(&b, dirs[i], S_IFDIR | 0755, 0, 0, NULL, 0);
	put_member(&b, "dev/console", S_IFCHR | 0600, 5, 1, NULL, 0);
	if (put_file(&b, "init", 0755, init, err) < 0 || put_modules(&b, pack_dir, err) < 0)
		return -1;
	put_member(&b, "TRAILER!!!", 0, 0, 0, NULL, 0);
	if (b.failed)
		return err_set(err, ERR_ENV, "%s: the kernel's modules are too large", to);
	if (fs_write_file(AT_FDCWD, tmp, buf_head(&b), buf_len(&b), 0600, err) < 0)
		return -1;
	if (rename(tmp, to) < 0) {
		err_errno(err, "%s", to);
		unlink(tmp);
		return -1;
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Kernel packs: which one to boot, whether it is whole, and its initramfs.
 *
 * A pack is a directory: kernel, config, release, modules.list, modules/, and a manifest with the
 * digest, size and time of each file. Two makers put packs here: kernel_build.c, which points the link
 * "default" at its pack, and tools/build-kernel with the link "small", which goes first. Neither
 * touches the other's link. Hashing a kernel at every start would cost more than booting a
 * small one takes, so a file whose size and time match the manifest is believed, and any other is
 * hashed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/paths.h"
#include "image/internal.h"

#define LAYOUT "2"      /* of an initramfs: another number is another file */
#define RECIPE "recipe" /* in the packs of tools/build-kernel: what they were made from */

void kernel_pack_done(struct kernel_pack *p)
{
	free(p->id);
	free(p->kernel);
	free(p->initrd);
	free(p->release);
	free(p->modules);
	*p = (struct kernel_pack){0};
}

/* How to make the pack of a directory anew, by its maker. */
static const char *remedy(const char *dir)
{
	_free_ char *recipe = fs_join(dir, RECIPE);

	return fs_exists(recipe) ? "tools/build-kernel --force" : "hutch image build --force";
}

static int corrupt(const char *dir, const char *path, struct err *err)
{
	err_set(err, ERR_ENV, "the kernel pack is corrupt: %s", path);
	return err_hint(err, "%s", remedy(dir));
}

/* One manifest line: digest, size, mtime in ns, name. */
static int check_file(const char *dir, char *line, struct err *err)
{
	char digest[65], name[256], now[65];
	long long size, mtime;
	struct stat st;
	_free_ char *path = NULL;

	if (sscanf(line, "%64s %lld %lld %255s", digest, &size, &mtime, name) != 4)
		return corrupt(dir, "manifest", err);
	path = fs_join(dir, name);
	if (stat(path, &st) < 0 || st.st_size != size)
		return corrupt(dir, path, err);
	if (st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec == mtime)
		return 0;
	if (file_digest(path, now, err) < 0)
		return -1;
	return strcmp(now, digest) == 0 ? 0 : corrupt(dir, path, err);
}

static int check_pack(const char *dir, struct err *err)
{
	_free_ char *path = fs_join(dir, "manifest");
	_buf_ struct buf b;

	buf_init(&b, 1u << 20);
	if (fs_read_file(AT_FDCWD, path, &b, NULL) < 0)
		return corrupt(dir, path, err);
	if (!strstr(buf_cstr(&b), " kernel\n"))
		return corrupt(dir, path, err);
	for (char *line = buf_cstr(&b), *next; *line; line = next) {
		next = line + strcspn(line, "\n");
		if (*next)
			*next++ = '\0';
		if (check_file(dir, line, err) < 0)
			return -1;
	}
	return 0;
}

/* Remove initramfs files of this pack that belong to another hutch-init, and that no start of an hour
 * ago can still be about to read. */
static void remove_old(const char *dir, const char *id, const char *keep)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		size_t n = strlen(id);
		struct stat st;

		if (strncmp(e->d_name, id, n) == 0 && e->d_name[n] == '+' &&
			strcmp(e->d_name, keep) != 0 &&
			fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
			st.st_mtime < time(NULL) - 3600)
			unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d)
		closedir(d);
}

/* The initramfs of @dir with today's hutch-init. */
static int find_initrd(const char *dir, const char *id, char **ret, struct err *err)
{
	_free_ char *init = path_program("hutch-init"), *store = image_dir("kernels/initrd", err);
	_free_ char *name = NULL, *path = NULL;
	struct stat st;

	if (!store)
		return -1;
	if (stat(init, &st) < 0)
		return err_errno(err, "%s", init);
	name = xasprintf("%s+" LAYOUT ".%llx.%llx.cpio", id, (unsigned long long)st.st_size,
		(unsigned long long)st.st_mtim.tv_sec * 1000000000ull +
			(unsigned long long)st.st_mtim.tv_nsec);
	path = fs_join(store, name);
	if (!fs_exists(path)) {
		if (initramfs_write(dir, init, path, err) < 0)
			return -1;
		remove_old(store, id, name);
	}
	*ret = steal_ptr(&path);
	return 0;
}

static char *read_line(const char *dir, const char *file)
{
	_free_ char *path = fs_join(dir, file);
	_buf_ struct buf b;

	buf_init(&b, 4096);
	if (fs_read_file(AT_FDCWD, path, &b, NULL) < 0)
		return xstrdup("unknown");
	buf_cstr(&b)[strcspn(buf_cstr(&b), "\n")] = '\0';
	return xstrdup(buf_cstr(&b));
}

/* Whether the pack's configuration has a line that says exactly @line. */
static bool config_says(const char *dir, const char *line)
{
	_free_ char *path = fs_join(dir, "config");
	_buf_ struct buf b;
	const char *at;
	size_t n = strlen(line);

	buf_init(&b, 4u << 20);
	if (fs_read_file(AT_FDCWD, path, &b, NULL) < 0)
		return false;
	for (at = strstr(buf_cstr(&b), line); at; at = strstr(at + 1, line))
		if ((at == buf_cstr(&b) || at[-1] == '\n') && (at[n] == '\n' || at[n] == '\0'))
			return true;
	return false;
}

/* Where the pack has modules with the indexes that modprobe needs. */
static char *find_modules(const char *dir)
{
	_free_ char *index = fs_join(dir, "modules/modules.dep.bin");

	return fs_exists(index) ? fs_join(dir, "modules") : NULL;
}

/* A kernel file on its own: everything it needs is built in. It becomes a pack without modules. */
static int lone_kernel(const char *file, struct kernel_pack *p, struct err *err)
{
	_free_ char *dir = image_dir("kernels/lone", err), *list = NULL;

	if (!dir)
		return -1;
	list = fs_join(dir, "modules.list");
	if (fs_write_file(AT_FDCWD, list, "", 0, 0600, err) < 0)
		return -1;
	p->id = xstrdup("lone");
	p->kernel = xstrdup(file);
	p->release = xstrdup(file);
	return find_initrd(dir, p->id, &p->initrd, err);
}

char *kernel_current(struct err *err)
{
	static const char *const links[] = {"small", "default"};
	const char *named = getenv("HUTCH_KERNEL");
	_free_ char *packs = NULL;
	char *path = NULL;

	if (named && *named) {
		path = realpath(named, NULL);
		if (!path)
			err_errno(err, "HUTCH_KERNEL %s", named);
		return path;
	}
	packs = image_dir("kernels", err);
	if (!packs)
		return NULL;
	for (size_t i = 0; !path && i < ARRAY_SIZE(links); i++) {
		_free_ char *link = fs_join(packs, links[i]);

		path = realpath(link, NULL);
	}
	if (!path) {
		err_set(err, ERR_ENV, "there is no kernel pack yet");
		err_hint(err, "hutch image build");
	}
	return path;
}

int image_kernel(struct kernel_pack *ret, struct err *err)
{
	_free_ char *dir = kernel_current(err);
	struct stat st;

	*ret = (struct kernel_pack){0};
	if (!dir)
		return -1;
	if (stat(dir, &st) < 0)
		return err_errno(err, "%s", dir);
	if (S_ISREG(st.st_mode))
		return lone_kernel(dir, ret, err);
	if (check_pack(dir, err) < 0)
		return -1;
	ret->id = xstrdup(strrchr(dir, '/') + 1);
	ret->kernel = fs_join(dir, "kernel");
	ret->release = read_line(dir, "release");
	ret->modules = find_modules(dir);
	ret->paravirtual = config_says(dir, "CONFIG_PVM_GUEST=y");
	return find_initrd(dir, ret->id, &ret->initrd, err);
}

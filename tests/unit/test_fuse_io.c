/* SPDX-License-Identifier: Apache-2.0 */
/* File server: open files, directories and extended attributes, against a real directory. */
#include "fuse_client.h"

#include <linux/falloc.h>
#include <sys/utsname.h>
#include <sys/xattr.h>

static int setup(void **state)
{
	*state = client_new(256, 0);
	return 0;
}

static int teardown(void **state)
{
	client_free(*state);
	return 0;
}

static void test_create_write_read(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e;
	struct fuse_write_in win = {.size = 100};
	uint64_t fh, fh2;
	mode_t mask = umask(022);

	assert_int_equal(c_create(c, c->w, "f", O_RDWR | O_EXCL, 0666, &e, &fh), 0);
	umask(mask);
	assert_int_equal(e.attr.mode, S_IFREG | 0666); /* the guest's umask counts, not ours */
	assert_int_equal(mode_of(c->share, "f"), S_IFREG | 0666);
	assert_int_equal(c_write(c, e.nodeid, fh, 0, "hello world", 11), 11);
	assert_int_equal(c_write(c, e.nodeid, fh, 6, "earth", 5), 5);
	assert_int_equal(c_read(c, e.nodeid, fh, 0, 4096), 11);
	assert_memory_equal(c->rep, "hello earth", 11);
	assert_int_equal(c_read(c, e.nodeid, fh, 6, 3), 3);
	assert_memory_equal(c->rep, "ear", 3);
	assert_int_equal(c_read(c, e.nodeid, fh, 100, 10), 0);
	assert_string_equal(get_file(c->share, "f"), "hello earth");

	assert_int_equal(c_create(c, c->w, "f", O_RDWR | O_EXCL, 0600, &e, &fh2), -EEXIST);
	assert_int_equal(c_create(c, c->w, "f", O_WRONLY | O_TRUNC, 0600, &e, &fh2), 0);
	assert_int_equal(e.attr.size, 0);
	assert_int_equal(e.attr.mode, S_IFREG | 0666);
	assert_int_equal(c_read(c, e.nodeid, fh2, 0, 10), -EBADF); /* write-only */
	assert_int_equal(c_release(c, FUSE_RELEASE, e.nodeid, fh2), 0);
	assert_int_equal(c_release(c, FUSE_RELEASE, e.nodeid, fh2), -EBADF);
	assert_int_equal(c_read(c, e.nodeid, fh2, 0, 10), -EBADF);

	/* the size field must be the size */
	assert_int_equal(
		client_call(c, FUSE_WRITE, e.nodeid, &win, sizeof(win), "abc", 3), -EINVAL);
	assert_int_equal(c_write(c, e.nodeid, fh, UINT64_MAX, "x", 1), -EINVAL);
	assert_int_equal(c_read(c, e.nodeid, fh, UINT64_MAX - 5, 10), -EINVAL);
}

static void test_append(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e;
	uint64_t fh;

	assert_int_equal(c_create(c, c->w, "log", O_WRONLY | O_APPEND, 0644, &e, &fh), 0);
	assert_int_equal(c_write_flags(c, e.nodeid, fh, 0, "a\n", 2, O_WRONLY | O_APPEND, 0), 2);
	put_file(c->share, "log", "host\n"); /* the guest's idea of the end is old */
	assert_int_equal(c_write_flags(c, e.nodeid, fh, 2, "b\n", 2, O_WRONLY | O_APPEND, 0), 2);
	assert_string_equal(get_file(c->share, "log"), "host\nb\n");
	/* a page of a shared mapping goes to its place, through whatever handle */
	assert_int_equal(
		c_write_flags(c, e.nodeid, fh, 0, "HOST", 4, O_WRONLY | O_APPEND, FUSE_WRITE_CACHE),
		4);
	assert_string_equal(get_file(c->share, "log"), "HOST\nb\n");
}

static void test_large(void **state)
{
	struct client *c = *state;
	const size_t size = 1 << 20;
	uint8_t *data = malloc(size + 1);
	struct fuse_entry_out e;
	uint64_t fh;

	for (size_t i = 0; i <= size; i++)
		data[i] = (uint8_t)(i * 7 + i / 251);
	assert_int_equal(c_create(c, c->w, "big", O_RDWR, 0644, &e, &fh), 0);
	assert_int_equal(c_write(c, e.nodeid, fh, 3, data, size), (int)size);
	assert_int_equal(c_read(c, e.nodeid, fh, 3, (uint32_t)size), (int)size);
	assert_memory_equal(c->rep, data, size);
	assert_int_equal(c_write(c, e.nodeid, fh, 0, data, size + 1), -EINVAL);
	/* more wanted than there is room for: what fits */
	c->room = 16 + 1000;
	assert_int_equal(c_read(c, e.nodeid, fh, 3, (uint32_t)size), 1000);
	c->room = CLIENT_ROOM;
	assert_int_equal(c_read(c, e.nodeid, fh, 0, UINT32_MAX), (int)size);
	free(data);
}

static void test_open(void **state)
{
	struct client *c = *state;
	struct fuse_setattr_in sa = {.valid = FATTR_MTIME, .mtime = 1000000};
	struct timespec past[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
	uint32_t flags;
	uint64_t n, d, fh;

	put_file(c->share, "f", "content");
	n = c_node(c, c->w, "f");
	assert_int_equal(c_open(c, n, O_ACCMODE, &fh), -EINVAL);
	assert_int_equal(c_open(c, n, O_RDONLY | O_DIRECT | O_PATH | O_ASYNC, &fh), 0);
	assert_int_equal(c_read(c, n, fh, 0, 100), 7);
	assert_int_equal(c_write(c, n, fh, 0, "x", 1), -EBADF);
	assert_int_equal(c_release(c, FUSE_RELEASE, n, fh), 0);
	assert_int_equal(c_open(c, n, O_WRONLY | O_TRUNC, &fh), 0);
	assert_string_equal(get_file(c->share, "f"), "");
	assert_int_equal(c_release(c, FUSE_RELEASE, n, fh), 0);
	assert_int_equal(c_mkdir(c, c->w, "d", 0755, NULL), 0);
	d = c_node(c, c->w, "d");
	assert_int_equal(c_open(c, d, O_RDONLY, &fh), -EISDIR);

	/* A change within the last second may not be the last with its time stamp. */
	assert_int_equal(c_open_op(c, FUSE_OPEN, n, O_RDONLY, &fh, &flags), 0);
	assert_int_equal(flags & FOPEN_KEEP_CACHE, 0);
	assert_int_equal(c_open_op(c, FUSE_OPEN, n, O_RDONLY, &fh, &flags), 0);
	assert_int_equal(flags & FOPEN_KEEP_CACHE, 0);
	assert_int_equal(c_setattr(c, n, sa), 0);
	usleep(2100000);
	assert_int_equal(c_open_op(c, FUSE_OPEN, n, O_RDONLY, &fh, &flags), 0);
	assert_int_equal(flags & FOPEN_KEEP_CACHE, 0); /* seen for the first time */
	assert_int_equal(c_open_op(c, FUSE_OPEN, n, O_RDONLY, &fh, &flags), 0);
	assert_int_equal(flags & FOPEN_KEEP_CACHE, FOPEN_KEEP_CACHE);
	/* same size, and a forged old date: the change time tells */
	assert_int_equal(utimensat(c->share, "f", past, 0), 0);
	assert_int_equal(c_open_op(c, FUSE_OPEN, n, O_RDONLY, &fh, &flags), 0);
	assert_int_equal(flags & FOPEN_KEEP_CACHE, 0);
}

static void test_readdir(void **state)
{
	static const uint32_t sizes[] = {280, 300, 512, 4096, 1 << 17};
	struct client *c = *state;
	char name[32];
	uint64_t fh, d;

	assert_int_equal(c_mkdir(c, c->w, "d", 0755, NULL), 0);
	d = c_node(c, c->w, "d");
	for (unsigned i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "d/file-%u", i);
		put_file(c->share, name, "");
	}
	assert_int_equal(c_opendir(c, d, &fh), 0);
	for (unsigned k = 0; k < 2 * ARRAY_SIZE(sizes); k++) {
		bool plus = k % 2, seen[300] = {0}, dot = false, dotdot = false;
		uint64_t off = 0;
		unsigned total = 0;
		int n;

		while ((n = c_readdir(c, plus ? FUSE_READDIRPLUS : FUSE_READDIR, d, fh, off,
				sizes[k / 2])) > 0) {
			for (int at = 0; at < n;) {
				const uint8_t *p = (const uint8_t *)c->rep + at;
				struct fuse_entry_out e = {0};
				struct fuse_dirent de;
				unsigned num;

				if (plus) {
					memcpy(&e, p, sizeof(e));
					p += sizeof(e);
				}
				memcpy(&de, p, FUSE_NAME_OFFSET);
				assert_true(de.namelen < sizeof(name));
				memcpy(name, p + FUSE_NAME_OFFSET, de.namelen);
				name[de.namelen] = '\0';
				at += (int)FUSE_DIRENT_ALIGN(
					(plus ? sizeof(e) : 0) + FUSE_NAME_OFFSET + de.namelen);
				off = de.off;
				total++;
				if (strcmp(name, ".") == 0) {
					dot = true;
					assert_true(e.nodeid == 0);
				} else if (strcmp(name, "..") == 0) {
					dotdot = true;
					assert_true(e.nodeid == 0);
				} else {
					assert_int_equal(sscanf(name, "file-%u", &num), 1);
					assert_false(seen[num]);
					seen[num] = true;
					assert_int_equal(e.nodeid != 0, plus);
				}
			}
		}
		assert_int_equal(n, 0);
		assert_int_equal(total, 302);
		assert_true(dot && dotdot);
	}
	assert_int_equal(fuse_usage(c->s).inodes, 1 + 2 + 1 + 300);
	/* too small for one entry: an error, not the end */
	assert_int_equal(c_readdir(c, FUSE_READDIR, d, fh, 0, 16), -EINVAL);
	assert_int_equal(c_readdir(c, FUSE_READDIRPLUS, d, fh, 0, 100), -EINVAL);
	assert_int_equal(c_readdir(c, FUSE_READDIR, d, fh, 0, 0), -EINVAL);
	assert_int_equal(c_readdir(c, FUSE_READDIR, d, fh, UINT64_MAX, 4096), -EINVAL);
	assert_int_equal(c_read(c, d, fh, 0, 100), -EBADF); /* no file */
	assert_int_equal(c_release(c, FUSE_RELEASEDIR, d, fh), 0);
	assert_int_equal(c_readdir(c, FUSE_READDIR, d, fh, 0, 4096), -EBADF);
}

static void test_readdir_root(void **state)
{
	static const char *const want[] = {".", "..", "w", "r"};
	struct client *c = *state;
	struct stat st;
	uint64_t fh, off = 0;

	assert_int_equal(c_opendir(c, FUSE_ROOT_ID, &fh), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(want); i++) { /* one at a time */
		struct fuse_dirent de;

		assert_int_equal(c_readdir(c, FUSE_READDIR, FUSE_ROOT_ID, fh, off, 32), 32);
		memcpy(&de, c->rep, FUSE_NAME_OFFSET);
		assert_int_equal(de.namelen, strlen(want[i]));
		assert_memory_equal(
			(const uint8_t *)c->rep + FUSE_NAME_OFFSET, want[i], de.namelen);
		off = de.off;
	}
	assert_int_equal(c_readdir(c, FUSE_READDIR, FUSE_ROOT_ID, fh, off, 4096), 0);
	assert_int_equal(c_readdir(c, FUSE_READDIRPLUS, FUSE_ROOT_ID, fh, 0, 4096), 4 * 160);
	assert_int_equal(c_readdir(c, FUSE_READDIR, FUSE_ROOT_ID, fh, UINT64_MAX, 4096), 0);
	assert_int_equal(c_release(c, FUSE_RELEASEDIR, FUSE_ROOT_ID, fh), 0);

	/* ".." of an export does not tell the number of the directory above it */
	assert_int_equal(fstatat(c->share, "..", &st, 0), 0);
	assert_int_equal(c_opendir(c, c->w, &fh), 0);
	assert_int_equal(c_readdir(c, FUSE_READDIR, c->w, fh, 0, 4096), 64);
	for (unsigned i = 0; i < 2; i++) {
		struct fuse_dirent de;

		memcpy(&de, (const uint8_t *)c->rep + 32 * i, FUSE_NAME_OFFSET);
		assert_true(de.ino != st.st_ino);
	}
}

static void test_file_ops(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e, e2;
	struct fuse_fsync_in fsync_in = {0};
	struct fuse_fallocate_in fa;
	struct fuse_lseek_in ls;
	struct fuse_lseek_out lo;
	struct fuse_copy_file_range_in cp = {0};
	struct fuse_write_out wo;
	struct fuse_syncfs_in sy = {0};
	uint64_t fh, fh2;
	struct stat st;

	assert_int_equal(c_create(c, c->w, "f", O_RDWR, 0644, &e, &fh), 0);
	assert_int_equal(c_write(c, e.nodeid, fh, 1 << 20, "end", 3), 3);
	fsync_in.fh = fh;
	assert_int_equal(CALL(c, FUSE_FSYNC, e.nodeid, fsync_in), 0);
	fsync_in.fsync_flags = FUSE_FSYNC_FDATASYNC;
	assert_int_equal(CALL(c, FUSE_FSYNC, e.nodeid, fsync_in), 0);
	assert_int_equal(CALL(c, FUSE_FSYNCDIR, e.nodeid, fsync_in), -ENOTDIR);
	assert_int_equal(CALL(c, FUSE_SYNCFS, c->w, sy), 0);
	assert_int_equal(CALL(c, FUSE_SYNCFS, FUSE_ROOT_ID, sy), 0);

	ls = (struct fuse_lseek_in){.fh = fh, .offset = 0, .whence = SEEK_DATA};
	assert_int_equal(CALL(c, FUSE_LSEEK, e.nodeid, ls), 0);
	memcpy(&lo, c->rep, sizeof(lo));
	assert_int_equal(lo.offset, 1 << 20);
	ls.whence = SEEK_HOLE;
	assert_int_equal(CALL(c, FUSE_LSEEK, e.nodeid, ls), 0);
	memcpy(&lo, c->rep, sizeof(lo));
	assert_int_equal(lo.offset, 0);
	ls.whence = SEEK_END;
	assert_int_equal(CALL(c, FUSE_LSEEK, e.nodeid, ls), -EINVAL);

	fa = (struct fuse_fallocate_in){.fh = fh, .offset = 0, .length = 8192};
	assert_int_equal(CALL(c, FUSE_FALLOCATE, e.nodeid, fa), 0);
	fa.offset = 4 << 20;
	fa.mode = FALLOC_FL_KEEP_SIZE;
	assert_int_equal(CALL(c, FUSE_FALLOCATE, e.nodeid, fa), 0);
	assert_int_equal(fstatat(c->share, "f", &st, 0), 0);
	assert_int_equal(st.st_size, (1 << 20) + 3);
	fa = (struct fuse_fallocate_in){.fh = fh,
		.offset = 1 << 20,
		.length = 2,
		.mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE};
	assert_int_equal(CALL(c, FUSE_FALLOCATE, e.nodeid, fa), 0);
	assert_int_equal(c_read(c, e.nodeid, fh, 1 << 20, 10), 3);
	assert_memory_equal(c->rep, "\0\0d", 3);
	fa.mode = FALLOC_FL_COLLAPSE_RANGE;
	assert_int_equal(CALL(c, FUSE_FALLOCATE, e.nodeid, fa), -EOPNOTSUPP);

	assert_int_equal(c_create(c, c->w, "copy", O_RDWR, 0644, &e2, &fh2), 0);
	cp = (struct fuse_copy_file_range_in){.fh_in = fh,
		.off_in = 1 << 20,
		.nodeid_out = e2.nodeid,
		.fh_out = fh2,
		.off_out = 1,
		.len = UINT64_MAX / 2};
	assert_int_equal(CALL(c, FUSE_COPY_FILE_RANGE, e.nodeid, cp), 0);
	memcpy(&wo, c->rep, sizeof(wo));
	assert_int_equal(wo.size, 3);
	assert_int_equal(c_read(c, e2.nodeid, fh2, 0, 10), 4);
	assert_memory_equal(c->rep, "\0\0\0d", 4);
	cp.fh_out = fh;
	assert_int_equal(
		CALL(c, FUSE_COPY_FILE_RANGE, e.nodeid, cp), -EBADF); /* not of that node */
	cp.fh_out = fh2;
	cp.flags = 1;
	assert_int_equal(CALL(c, FUSE_COPY_FILE_RANGE, e.nodeid, cp), -EINVAL);
}

static bool linux_at_least(unsigned major, unsigned minor)
{
	struct utsname u;
	unsigned a = 0, b = 0;

	assert_int_equal(uname(&u), 0);
	assert_int_equal(sscanf(u.release, "%u.%u", &a, &b), 2);
	return a > major || (a == major && b >= minor);
}

static void test_tmpfile(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e, e2;
	struct stat st;
	uint64_t fh;
	int err;

	err = c_create_op(c, FUSE_TMPFILE, c->w, "/", O_RDWR | O_EXCL, 0600, &e, &fh);
	if (err == -EOPNOTSUPP)
		skip(); /* the file system has none */
	assert_int_equal(err, 0);
	assert_int_equal(e.attr.nlink, 0);
	assert_int_equal(c_write(c, e.nodeid, fh, 0, "tmp", 3), 3);
	assert_int_equal(c_getattr(c, e.nodeid, NULL), 0);
	assert_int_equal(c_link(c, e.nodeid, c->w, "no", NULL), -ENOENT); /* O_EXCL: never */
	assert_int_equal(c_release(c, FUSE_RELEASE, e.nodeid, fh), 0);
	assert_int_equal(c_create_op(c, FUSE_TMPFILE, c->w, "/", O_RDONLY, 0600, &e, &fh), -EINVAL);

	err = c_create_op(c, FUSE_TMPFILE, c->w, "/", O_RDWR, 0600, &e, &fh);
	if (err == -EOPNOTSUPP) { /* this kernel could not name it later, and we said so */
		assert_false(linux_at_least(6, 10));
		return;
	}
	assert_int_equal(err, 0);
	assert_int_equal(c_write(c, e.nodeid, fh, 0, "tmp", 3), 3);
	assert_int_equal(c_link(c, e.nodeid, c->w, "named", &e2), 0);
	assert_true(e.nodeid == e2.nodeid);
	assert_int_equal(fstatat(c->share, "named", &st, 0), 0);
	assert_int_equal(st.st_size, 3);
	assert_int_equal(c_release(c, FUSE_RELEASE, e.nodeid, fh), 0);
	assert_int_equal(c_open(c, e.nodeid, O_RDONLY, &fh), 0); /* by its new name */
}

static int c_getxattr(struct client *c, uint64_t node, const char *name, uint32_t size)
{
	struct fuse_getxattr_in in = {.size = size};

	return CALLN(c, FUSE_GETXATTR, node, in, name);
}

static int c_setxattr(
	struct client *c, uint64_t node, const char *name, const char *value, uint32_t size)
{
	struct {
		uint32_t size, flags;
	} in = {.size = size};
	char both[1024];
	int n = snprintf(both, sizeof(both), "%s%c%s", name, 0, value);

	return client_call(c, FUSE_SETXATTR, node, &in, sizeof(in), both, (size_t)n);
}

static void test_xattr(void **state)
{
	struct client *c = *state;
	struct fuse_getxattr_in ls = {0};
	uint64_t n, l;
	uint32_t size;

	put_file(c->share, "f", "");
	n = c_node(c, c->w, "f");
	if (c_setxattr(c, n, "user.a", "value", 5) == -EOPNOTSUPP)
		skip(); /* the file system has none */
	assert_int_equal(c_getxattr(c, n, "user.a", 100), 0);
	assert_int_equal(c->rep_len, 5);
	assert_memory_equal(c->rep, "value", 5);
	assert_int_equal(c_getxattr(c, n, "user.a", 0), 0);
	memcpy(&size, c->rep, 4);
	assert_int_equal(size, 5);
	assert_int_equal(c_getxattr(c, n, "user.a", 4), -ERANGE);
	assert_int_equal(c_getxattr(c, n, "user.b", 4), -ENODATA);
	assert_int_equal(c_setxattr(c, n, "user.a", "value", 7), -EINVAL); /* size field lies */
	assert_int_equal(c_setxattr(c, c->w, "user.dir", "d", 1), 0);
	assert_int_equal(c_getxattr(c, c->w, "user.dir", 10), 0);
	/* other name spaces */
	assert_int_equal(c_setxattr(c, n, "security.capability", "x", 1), -EOPNOTSUPP);
	assert_int_equal(c_setxattr(c, n, "trusted.overlay.opaque", "y", 1), -EOPNOTSUPP);
	assert_int_equal(c_setxattr(c, n, "user.", "y", 1), -EOPNOTSUPP);
	assert_int_equal(c_getxattr(c, n, "system.posix_acl_access", 100), -EOPNOTSUPP);
	ls.size = 100;
	assert_int_equal(CALL(c, FUSE_LISTXATTR, n, ls), 0);
	assert_int_equal(c->rep_len, 7);
	assert_memory_equal(c->rep, "user.a", 7);
	ls.size = 0;
	assert_int_equal(CALL(c, FUSE_LISTXATTR, n, ls), 0);
	memcpy(&size, c->rep, 4);
	assert_int_equal(size, 7);
	ls.size = 3;
	assert_int_equal(CALL(c, FUSE_LISTXATTR, n, ls), -ERANGE);
	assert_int_equal(NAME(c, FUSE_REMOVEXATTR, n, "user.a"), 0);
	assert_int_equal(c_getxattr(c, n, "user.a", 4), -ENODATA);
	assert_int_equal(NAME(c, FUSE_REMOVEXATTR, n, "security.x"), -EOPNOTSUPP);
	assert_int_equal(c_symlink(c, c->w, "l", "f", NULL), 0);
	l = c_node(c, c->w, "l");
	assert_int_equal(c_getxattr(c, l, "user.a", 4), -EOPNOTSUPP);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_create_write_read),
		T(test_append),
		T(test_large),
		T(test_open),
		T(test_readdir),
		T(test_readdir_root),
		T(test_file_ops),
		T(test_tmpfile),
		T(test_xattr),
	};

	return cmocka_run_group_tests_name("fuse-io", tests, NULL, NULL);
}

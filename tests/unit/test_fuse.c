/* SPDX-License-Identifier: Apache-2.0 */
/* File server: every operation, against a real directory. */
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

static void test_init(void **state)
{
	struct client *c = *state;
	struct fuse_init_in in = {.major = 7, .minor = 31, .max_readahead = 4096};
	struct fuse_init_out o;
	struct fuse_getattr_in ga = {0};

	in.flags = FUSE_MAX_PAGES | FUSE_POSIX_LOCKS | FUSE_WRITEBACK_CACHE | FUSE_DO_READDIRPLUS;
	assert_int_equal(client_call(c, FUSE_INIT, 0, &in, 16, NULL, 0), 0); /* old, short form */
	assert_int_equal(c->rep_len, sizeof(o));
	memcpy(&o, c->rep, sizeof(o));
	assert_int_equal(o.major, 7);
	assert_int_equal(o.flags, FUSE_MAX_PAGES | FUSE_DO_READDIRPLUS); /* offered and wanted */
	assert_int_equal(o.max_pages, 256);
	assert_int_equal(o.max_write, 1 << 20);
	assert_int_equal(o.max_readahead, 4096);
	/* INIT forgets what the guest before knew */
	assert_int_equal(c_getattr(c, c->w, NULL), -ESTALE);
	assert_int_equal(fuse_usage(c->s).inodes, 1);

	in.minor = 30;
	assert_int_equal(CALL(c, FUSE_INIT, 0, in), -EPROTO);
	assert_int_equal(CALL(c, FUSE_GETATTR, FUSE_ROOT_ID, ga), -EIO); /* not mounted */
	in.major = 8;
	assert_int_equal(CALL(c, FUSE_INIT, 0, in), 0); /* told our version */
	memcpy(&o, c->rep, sizeof(o));
	assert_int_equal(o.major, 7);
	assert_int_equal(CALL(c, FUSE_GETATTR, FUSE_ROOT_ID, ga), -EIO);
	assert_int_equal(client_mount(c), 0);
	assert_int_equal(client_call(c, FUSE_DESTROY, 0, NULL, 0, NULL, 0), 0);
	assert_int_equal(CALL(c, FUSE_GETATTR, FUSE_ROOT_ID, ga), -EIO);
}

static void test_root(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e;
	struct fuse_attr a;
	struct fuse_setattr_in sa = {.valid = FATTR_MODE};
	struct err err;
	uint64_t fh;

	assert_int_equal(c_getattr(c, FUSE_ROOT_ID, &a), 0);
	assert_int_equal(a.mode, S_IFDIR | 0555);
	assert_int_equal(a.nlink, 4);
	assert_int_equal(c_lookup(c, FUSE_ROOT_ID, "new", NULL), -ENOENT);
	assert_int_equal(c->rep_len, 0); /* not as a cacheable negative entry */
	assert_int_equal(c_lookup(c, FUSE_ROOT_ID, "w", &e), 0);
	assert_true(e.nodeid == c->w);
	assert_true(S_ISDIR(e.attr.mode));
	assert_int_equal(e.entry_valid, 1);
	assert_int_equal(c_mkdir(c, FUSE_ROOT_ID, "x", 0755, NULL), -EROFS);
	assert_int_equal(NAME(c, FUSE_RMDIR, FUSE_ROOT_ID, "w"), -EROFS);
	assert_int_equal(c_rename(c, FUSE_ROOT_ID, "w", c->w, "x", 0), -EROFS);
	assert_int_equal(c_rename(c, c->w, "x", FUSE_ROOT_ID, "x", 0), -EXDEV);
	assert_int_equal(c_setattr(c, FUSE_ROOT_ID, sa), -EROFS);
	assert_int_equal(c_open(c, FUSE_ROOT_ID, O_RDONLY, &fh), -EACCES);

	/* an export that is added while mounted */
	assert_int_equal(fuse_export_add(c->s, "new", dup(c->outside), true, &err), 0);
	assert_int_equal(c_lookup(c, FUSE_ROOT_ID, "new", &e), 0);
	assert_int_equal(c_lookup(c, e.nodeid, "secret", &e), 0);
	assert_int_equal(fuse_export_add(c->s, "new", dup(c->outside), true, &err), -1);
	assert_int_equal(fuse_export_add(c->s, "a/b", dup(c->outside), true, &err), -1);
	assert_int_equal(fuse_export_add(c->s, "..", dup(c->outside), true, &err), -1);
	assert_int_equal(fuse_export_add(c->s, "", dup(c->outside), true, &err), -1);
	assert_int_equal(
		fuse_export_add(c->s, "f", openat(c->outside, "secret", O_RDONLY), true, &err), -1);
	assert_int_equal(c_getattr(c, FUSE_ROOT_ID, &a), 0);
	assert_int_equal(a.nlink, 5);
}

static void test_lookup_forget(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e, e2;
	struct {
		struct fuse_batch_forget_in in;
		struct fuse_forget_one one[2];
	} batch = {.in = {.count = 2}};
	unsigned before = fuse_usage(c->s).inodes;

	put_file(c->share, "f", "hello");
	assert_int_equal(c_lookup(c, c->w, "f", &e), 0);
	assert_int_equal(e.attr.size, 5);
	assert_int_equal(e.attr.mode, S_IFREG | 0644);
	assert_int_equal(e.attr.uid, AGENT);
	assert_int_equal(e.attr.gid, AGENT);
	assert_int_equal(c_lookup(c, c->w, "f", &e2), 0);
	assert_true(e.nodeid == e2.nodeid);
	assert_int_equal(c_lookup(c, c->w, "none", &e2), -ENOENT);
	assert_int_equal(c->rep_len, sizeof(e2)); /* negative entry, cached for a while */
	assert_int_equal(e2.entry_valid, 0);
	assert_true(e2.entry_valid_nsec > 0);
	assert_int_equal(c_lookup(c, e.nodeid, "x", NULL), -ENOTDIR);

	c_forget(c, e.nodeid, 1);
	assert_int_equal(c_getattr(c, e.nodeid, NULL), 0);
	c_forget(c, e.nodeid, 1);
	assert_int_equal(c_getattr(c, e.nodeid, NULL), -ESTALE);
	assert_int_equal(fuse_usage(c->s).inodes, before);

	assert_int_equal(c_lookup(c, c->w, "f", &e2), 0);
	assert_true(e.nodeid != e2.nodeid); /* a slot again, another generation */
	batch.one[0] = (struct fuse_forget_one){e2.nodeid, 1};
	batch.one[1] = (struct fuse_forget_one){c->r, UINT64_MAX};
	assert_int_equal(CALL(c, FUSE_BATCH_FORGET, 0, batch), 1);
	assert_int_equal(c_getattr(c, e2.nodeid, NULL), -ESTALE);
	assert_int_equal(c_getattr(c, c->r, NULL), -ESTALE);
	assert_int_equal(fuse_usage(c->s).inodes, before - 1);
	c_forget(c, FUSE_ROOT_ID, UINT64_MAX); /* the root stays */
	assert_int_equal(c_getattr(c, FUSE_ROOT_ID, NULL), 0);
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
	assert_int_equal(client_call(c, FUSE_WRITE, e.nodeid, &win, sizeof(win), "abc", 3), -EINVAL);
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
	assert_int_equal(c_write_flags(c, e.nodeid, fh, 0, "HOST", 4, O_WRONLY | O_APPEND,
				 FUSE_WRITE_CACHE), 4);
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

static void test_make_nodes(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e;
	mode_t mask = umask(077);
	uint64_t fh;

	assert_int_equal(c_mkdir(c, c->w, "d", 01777, &e), 0);
	assert_int_equal(e.attr.mode, S_IFDIR | 01777);
	assert_int_equal(c_mkdir(c, c->w, "d", 0755, NULL), -EEXIST);
	assert_int_equal(c_mkdir(c, c->w, "locked", 0, &e), 0);
	assert_int_equal(e.attr.mode, S_IFDIR);
	assert_int_equal(NAME(c, FUSE_RMDIR, c->w, "locked"), 0);
	assert_int_equal(c_mknod(c, c->w, "reg", S_IFREG | 0664, &e), 0);
	assert_int_equal(e.attr.mode, S_IFREG | 0664);
	assert_int_equal(c_mknod(c, c->w, "fifo", S_IFIFO | 0600, &e), 0);
	assert_true(S_ISFIFO(e.attr.mode));
	assert_int_equal(c_open(c, e.nodeid, O_RDONLY, &fh), -EACCES); /* and does not hang */
	assert_int_equal(c_mknod(c, c->w, "sock", S_IFSOCK | 0600, &e), 0);
	assert_true(S_ISSOCK(mode_of(c->share, "sock")));
	assert_int_equal(c_open(c, e.nodeid, O_RDWR, &fh), -EACCES);
	assert_int_equal(c_mknod(c, c->w, "null", S_IFCHR | 0666, NULL), -EPERM);
	assert_int_equal(c_mknod(c, c->w, "sda", S_IFBLK | 0666, NULL), -EPERM);
	assert_int_equal(c_mknod(c, c->w, "dir", S_IFDIR | 0666, NULL), -EPERM);
	umask(mask);
}

static void test_symlink(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e;
	char longest[4096];

	assert_int_equal(c_symlink(c, c->w, "l", "/etc/passwd", &e), 0);
	assert_true(S_ISLNK(e.attr.mode));
	assert_int_equal(client_call(c, FUSE_READLINK, e.nodeid, NULL, 0, NULL, 0), 0);
	assert_int_equal(c->rep_len, 11);
	assert_memory_equal(c->rep, "/etc/passwd", 11);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[4095] = '\0';
	assert_int_equal(c_symlink(c, c->w, "l2", longest, &e), 0);
	assert_int_equal(client_call(c, FUSE_READLINK, e.nodeid, NULL, 0, NULL, 0), 0);
	assert_int_equal(c->rep_len, 4095);
	c->room = 16 + 100;
	assert_int_equal(client_call(c, FUSE_READLINK, e.nodeid, NULL, 0, NULL, 0), -EINVAL);
	c->room = CLIENT_ROOM;
	assert_int_equal(client_call(c, FUSE_READLINK, c->w, NULL, 0, NULL, 0), -EINVAL);
	/* a renamed link is still the same link */
	assert_int_equal(c_rename(c, c->w, "l2", c->w, "l3", 0), 0);
	assert_int_equal(client_call(c, FUSE_READLINK, e.nodeid, NULL, 0, NULL, 0), 0);
	assert_int_equal(c_symlink(c, c->w, "l", "again", &e), -EEXIST);
}

static void test_unlink(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e;
	struct fuse_attr a;
	struct fuse_setattr_in sa = {.valid = FATTR_SIZE, .size = 2};
	uint64_t fh, n;

	/* unlinked while open: the handle goes on, attributes too */
	assert_int_equal(c_create(c, c->w, "f", O_RDWR, 0644, &e, &fh), 0);
	assert_int_equal(c_write(c, e.nodeid, fh, 0, "data", 4), 4);
	assert_int_equal(NAME(c, FUSE_UNLINK, c->w, "f"), 0);
	assert_int_equal(c_lookup(c, c->w, "f", NULL), -ENOENT);
	assert_int_equal(c_read(c, e.nodeid, fh, 0, 10), 4);
	assert_int_equal(c_getattr(c, e.nodeid, &a), 0);
	assert_int_equal(a.nlink, 0);
	assert_int_equal(c_setattr(c, e.nodeid, sa), 0);
	assert_int_equal(c_read(c, e.nodeid, fh, 0, 10), 2);
	assert_int_equal(c_release(c, FUSE_RELEASE, e.nodeid, fh), 0);
	assert_int_equal(c_getattr(c, e.nodeid, &a), 0); /* pinned until forgotten */
	assert_int_equal(c_open(c, e.nodeid, O_RDONLY, &fh), -ESTALE);
	c_forget(c, e.nodeid, 1);
	assert_int_equal(c_getattr(c, e.nodeid, NULL), -ESTALE);

	/* known, but not open */
	put_file(c->share, "g", "x");
	n = c_node(c, c->w, "g");
	assert_int_equal(NAME(c, FUSE_UNLINK, c->w, "g"), 0);
	assert_int_equal(c_getattr(c, n, &a), 0);
	assert_int_equal(a.nlink, 0);

	assert_int_equal(NAME(c, FUSE_UNLINK, c->w, "g"), -ENOENT);
	assert_int_equal(c_mkdir(c, c->w, "d", 0755, &e), 0);
	put_file(c->share, "d/x", "");
	assert_int_equal(NAME(c, FUSE_UNLINK, c->w, "d"), -EISDIR);
	assert_int_equal(NAME(c, FUSE_RMDIR, c->w, "d"), -ENOTEMPTY);
	assert_int_equal(NAME(c, FUSE_UNLINK, e.nodeid, "x"), 0);
	assert_int_equal(NAME(c, FUSE_RMDIR, c->w, "d"), 0);
	assert_int_equal(c_getattr(c, e.nodeid, &a), 0); /* someone's working directory */
	assert_int_equal(c_lookup(c, e.nodeid, "x", NULL), -ENOENT);
	assert_int_equal(c_mkdir(c, e.nodeid, "y", 0755, NULL), -ENOENT);
	put_file(c->share, "file", "");
	assert_int_equal(NAME(c, FUSE_RMDIR, c->w, "file"), -ENOTDIR);
}

static void test_rename(void **state)
{
	struct client *c = *state;
	struct fuse_rename_in ri = {.newdir = c->w};
	struct fuse_entry_out d1, d2, e;
	struct fuse_attr a;
	uint64_t f, g, deep, fh;

	assert_int_equal(c_mkdir(c, c->w, "d1", 0755, &d1), 0);
	assert_int_equal(c_mkdir(c, c->w, "d2", 0755, &d2), 0);
	put_file(c->share, "d1/f", "f");
	put_file(c->share, "d2/g", "gg");
	f = c_node(c, d1.nodeid, "f");
	g = c_node(c, d2.nodeid, "g");
	assert_int_equal(c_rename(c, d1.nodeid, "f", d2.nodeid, "g", RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(c_rename(c, d1.nodeid, "f", d2.nodeid, "g", RENAME_EXCHANGE), 0);
	assert_true(c_node(c, d2.nodeid, "g") == f);
	assert_true(c_node(c, d1.nodeid, "f") == g);
	assert_int_equal(c_getattr(c, f, &a), 0);
	assert_int_equal(a.size, 1);
	assert_int_equal(c_rename(c, d2.nodeid, "g", d1.nodeid, "f", RENAME_WHITEOUT), -EINVAL);
	/* replacing: the replaced file lives on for those who know it */
	assert_int_equal(c_rename(c, d2.nodeid, "g", d1.nodeid, "f", 0), 0);
	assert_true(c_node(c, d1.nodeid, "f") == f);
	assert_int_equal(c_getattr(c, g, &a), 0);
	assert_int_equal(a.nlink, 0);
	assert_int_equal(c_getattr(c, f, &a), 0);
	assert_int_equal(c_open(c, f, O_RDONLY, &fh), 0); /* by its new name */
	/* a directory with known content */
	assert_int_equal(c_mkdir(c, d1.nodeid, "sub", 0755, &e), 0);
	put_file(c->share, "d1/sub/x", "x");
	deep = c_node(c, e.nodeid, "x");
	assert_int_equal(c_rename(c, d1.nodeid, "sub", d2.nodeid, "moved", 0), 0);
	assert_int_equal(c_open(c, deep, O_RDONLY, &fh), 0);
	assert_int_equal(c_rename(c, c->w, "d2", d2.nodeid, "x", 0), -EINVAL); /* into itself */
	assert_int_equal(c_rename(c, c->w, "nothing", d2.nodeid, "x", 0), -ENOENT);
	/* the older message */
	assert_int_equal(client_call(c, FUSE_RENAME, c->w, &ri, sizeof(ri), "d2\0d3", 6), 0);
	assert_int_equal(c_open(c, deep, O_RDONLY, &fh), 0);
	assert_true(c_node(c, c->w, "d3") == d2.nodeid);
	/* two links of one file: nothing happens, both stay */
	assert_int_equal(c_link(c, f, d1.nodeid, "f2", NULL), 0);
	assert_int_equal(c_rename(c, d1.nodeid, "f", d1.nodeid, "f2", 0), 0);
	assert_true(c_node(c, d1.nodeid, "f") == f);
	/* across exports */
	assert_int_equal(c_rename(c, c->w, "d1", c->r, "d1", 0), -EXDEV);
	assert_int_equal(c_rename(c, c->w, "d1", f, "d1", 0), -ENOTDIR);
	assert_int_equal(c_rename(c, c->w, "d1", 12345, "d1", 0), -ESTALE);
}

static void test_exchange_nested(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out a, b;
	uint64_t n, fh;

	assert_int_equal(c_mkdir(c, c->w, "a", 0755, &a), 0);
	assert_int_equal(c_mkdir(c, c->w, "b", 0755, &b), 0);
	put_file(c->share, "a/in-a", "1");
	n = c_node(c, a.nodeid, "in-a");
	assert_int_equal(c_rename(c, c->w, "a", c->w, "b", RENAME_EXCHANGE), 0);
	assert_true(c_node(c, c->w, "b") == a.nodeid);
	assert_true(c_node(c, c->w, "a") == b.nodeid);
	assert_int_equal(c_open(c, n, O_RDONLY, &fh), 0);
	assert_non_null(get_file(c->share, "b/in-a"));
}

static void test_link(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e, e2;
	struct fuse_attr a;
	uint64_t fh;

	put_file(c->share, "f", "text");
	assert_int_equal(c_lookup(c, c->w, "f", &e), 0);
	assert_int_equal(c_link(c, e.nodeid, c->w, "g", &e2), 0);
	assert_true(e.nodeid == e2.nodeid);
	assert_int_equal(e2.attr.nlink, 2);
	/* either name may go */
	assert_int_equal(NAME(c, FUSE_UNLINK, c->w, "f"), 0);
	assert_int_equal(c_open(c, e.nodeid, O_RDONLY, &fh), 0);
	assert_int_equal(c_link(c, e.nodeid, c->w, "h", &e2), 0);
	assert_int_equal(NAME(c, FUSE_UNLINK, c->w, "h"), 0);
	/* its remembered name is gone, another one exists */
	assert_int_equal(c_getattr(c, e.nodeid, &a), 0);
	assert_int_equal(a.nlink, 1);
	assert_true(c_node(c, c->w, "g") == e.nodeid);
	assert_int_equal(c_open(c, e.nodeid, O_RDONLY, &fh), 0);
	assert_int_equal(c_link(c, e.nodeid, c->w, "g", NULL), -EEXIST);
	assert_int_equal(c_link(c, c->w, c->w, "dir", NULL), -EPERM);
	assert_int_equal(c_link(c, e.nodeid, c->r, "x", NULL), -EROFS);
	/* a symbolic link is linked, not what it points to */
	assert_int_equal(c_symlink(c, c->w, "l", "/etc/passwd", &e), 0);
	assert_int_equal(c_link(c, e.nodeid, c->w, "l2", &e2), 0);
	assert_true(S_ISLNK(mode_of(c->share, "l2")));
}

static void test_setattr(void **state)
{
	struct client *c = *state;
	struct fuse_setattr_in in;
	struct fuse_attr a;
	struct stat st;
	uint64_t n, d, fh;

	put_file(c->share, "f", "0123456789");
	n = c_node(c, c->w, "f");
	in = (struct fuse_setattr_in){.valid = FATTR_SIZE, .size = 4};
	assert_int_equal(c_setattr(c, n, in), 0);
	assert_string_equal(get_file(c->share, "f"), "0123");
	assert_int_equal(c_open(c, n, O_RDWR, &fh), 0);
	in = (struct fuse_setattr_in){.valid = FATTR_SIZE | FATTR_FH, .fh = fh, .size = 2};
	assert_int_equal(c_setattr(c, n, in), 0);
	assert_string_equal(get_file(c->share, "f"), "01");
	in.fh++;
	assert_int_equal(c_setattr(c, n, in), -EBADF);
	in = (struct fuse_setattr_in){.valid = FATTR_SIZE, .size = UINT64_MAX};
	assert_int_equal(c_setattr(c, n, in), -EFBIG);

	in = (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = S_IFREG | 0600};
	assert_int_equal(c_setattr(c, n, in), 0);
	assert_int_equal(mode_of(c->share, "f"), S_IFREG | 0600);
	assert_int_equal(c_release(c, FUSE_RELEASE, n, fh), 0);
	in.mode = 0400; /* now without an open handle */
	assert_int_equal(c_setattr(c, n, in), 0);
	assert_int_equal(mode_of(c->share, "f"), S_IFREG | 0400);
	assert_int_equal(c_mkdir(c, c->w, "d", 0755, NULL), 0);
	d = c_node(c, c->w, "d");
	in.mode = 0711;
	assert_int_equal(c_setattr(c, d, in), 0);
	assert_int_equal(mode_of(c->share, "d"), S_IFDIR | 0711);

	in = (struct fuse_setattr_in){.valid = FATTR_ATIME | FATTR_MTIME, .atime = 11,
		.atimensec = 1, .mtime = (uint64_t)-5, .mtimensec = 999999999};
	assert_int_equal(c_setattr(c, n, in), 0);
	assert_int_equal(fstatat(c->share, "f", &st, 0), 0);
	assert_int_equal(st.st_atim.tv_sec, 11);
	assert_int_equal(st.st_atim.tv_nsec, 1);
	assert_int_equal(st.st_mtim.tv_sec, -5);
	in.mtimensec = UTIME_NOW;
	assert_int_equal(c_setattr(c, n, in), -EINVAL);
	in = (struct fuse_setattr_in){.valid = FATTR_MTIME | FATTR_MTIME_NOW};
	assert_int_equal(c_setattr(c, n, in), 0);
	assert_int_equal(fstatat(c->share, "f", &st, 0), 0);
	assert_int_equal(st.st_atim.tv_sec, 11);
	assert_true(st.st_mtim.tv_sec > 1000000);
	/* a symbolic link's own times */
	assert_int_equal(c_symlink(c, c->w, "l", "f", NULL), 0);
	in = (struct fuse_setattr_in){.valid = FATTR_MTIME, .mtime = 77};
	assert_int_equal(c_setattr(c, c_node(c, c->w, "l"), in), 0);
	assert_int_equal(c_getattr(c, c_node(c, c->w, "l"), &a), 0);
	assert_int_equal(a.mtime, 77);
	assert_int_equal(fstatat(c->share, "f", &st, 0), 0);
	assert_true(st.st_mtim.tv_sec > 1000000);
}

static void test_owner(void **state)
{
	static const struct {
		uint32_t uid, gid;
		int err;
	} tries[] = {{0, 0, 0}, {AGENT, AGENT, 0}, {UINT32_MAX, AGENT, 0}, {AGENT, UINT32_MAX, 0},
		{1, 0, -EPERM}, {0, 1, -EPERM}, {65534, 65534, -EPERM}};
	struct client *c = *state;
	struct stat before, after;
	struct fuse_attr a;
	uint64_t n;

	put_file(c->share, "f", "");
	n = c_node(c, c->w, "f");
	assert_int_equal(fstatat(c->share, "f", &before, 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(tries); i++) {
		struct fuse_setattr_in in = {.valid = FATTR_UID | FATTR_GID,
			.uid = tries[i].uid, .gid = tries[i].gid};

		assert_int_equal(c_setattr(c, n, in), tries[i].err);
	}
	assert_int_equal(fstatat(c->share, "f", &after, 0), 0);
	assert_int_equal(before.st_uid, after.st_uid);
	assert_int_equal(before.st_gid, after.st_gid);
	if (fchownat(c->share, "f", 12345, 54321, 0) < 0)
		skip();
	assert_int_equal(c_getattr(c, n, &a), 0);
	assert_int_equal(a.uid, 65534);
	assert_int_equal(a.gid, 65534);
	assert_int_equal(c_setattr(c, n, (struct fuse_setattr_in){.valid = FATTR_UID}), -EPERM);
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
	fa = (struct fuse_fallocate_in){.fh = fh, .offset = 1 << 20, .length = 2,
		.mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE};
	assert_int_equal(CALL(c, FUSE_FALLOCATE, e.nodeid, fa), 0);
	assert_int_equal(c_read(c, e.nodeid, fh, 1 << 20, 10), 3);
	assert_memory_equal(c->rep, "\0\0d", 3);
	fa.mode = FALLOC_FL_COLLAPSE_RANGE;
	assert_int_equal(CALL(c, FUSE_FALLOCATE, e.nodeid, fa), -EOPNOTSUPP);

	assert_int_equal(c_create(c, c->w, "copy", O_RDWR, 0644, &e2, &fh2), 0);
	cp = (struct fuse_copy_file_range_in){.fh_in = fh, .off_in = 1 << 20,
		.nodeid_out = e2.nodeid, .fh_out = fh2, .off_out = 1, .len = UINT64_MAX / 2};
	assert_int_equal(CALL(c, FUSE_COPY_FILE_RANGE, e.nodeid, cp), 0);
	memcpy(&wo, c->rep, sizeof(wo));
	assert_int_equal(wo.size, 3);
	assert_int_equal(c_read(c, e2.nodeid, fh2, 0, 10), 4);
	assert_memory_equal(c->rep, "\0\0\0d", 4);
	cp.fh_out = fh;
	assert_int_equal(CALL(c, FUSE_COPY_FILE_RANGE, e.nodeid, cp), -EBADF); /* not of that node */
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

static int c_setxattr(struct client *c, uint64_t node, const char *name, const char *value,
	uint32_t size)
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

static void test_statfs_and_absent(void **state)
{
	static const uint32_t absent[] = {FUSE_FLUSH, FUSE_ACCESS, FUSE_GETLK, FUSE_SETLK,
		FUSE_SETLKW, FUSE_IOCTL, FUSE_POLL, FUSE_BMAP, FUSE_INTERRUPT, FUSE_NOTIFY_REPLY,
		FUSE_SETUPMAPPING, 0, 7, 19, 52, 4096, UINT32_MAX};
	struct client *c = *state;
	struct fuse_statfs_out o;
	uint64_t zeros[8] = {0};

	assert_int_equal(client_call(c, FUSE_STATFS, c->w, NULL, 0, NULL, 0), 0);
	memcpy(&o, c->rep, sizeof(o));
	assert_true(o.st.blocks > 0);
	assert_int_equal(client_call(c, FUSE_STATFS, FUSE_ROOT_ID, NULL, 0, NULL, 0), 0);
	put_file(c->share, "f", "");
	assert_int_equal(
		client_call(c, FUSE_STATFS, c_node(c, c->w, "f"), NULL, 0, NULL, 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(absent); i++)
		assert_int_equal(CALL(c, absent[i], c->w, zeros), -ENOSYS);
}

static void test_read_only(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e;
	uint64_t n, d, fh;

	put_file(c->ro, "f", "text");
	assert_int_equal(mkdirat(c->ro, "d", 0755), 0);
	n = c_node(c, c->r, "f");
	d = c_node(c, c->r, "d");
	assert_int_equal(c_open(c, n, O_RDWR, &fh), -EROFS);
	assert_int_equal(c_open(c, n, O_WRONLY, &fh), -EROFS);
	assert_int_equal(c_open(c, n, O_RDONLY | O_TRUNC, &fh), -EROFS);
	assert_int_equal(c_create(c, c->r, "f", O_RDONLY, 0644, &e, &fh), -EROFS);
	assert_int_equal(c_create(c, d, "new", O_RDWR, 0644, &e, &fh), -EROFS);
	assert_int_equal(c_create_op(c, FUSE_TMPFILE, d, "/", O_RDWR, 0644, &e, &fh), -EROFS);
	assert_int_equal(c_mkdir(c, d, "new", 0755, NULL), -EROFS);
	assert_int_equal(c_mknod(c, d, "new", S_IFREG, NULL), -EROFS);
	assert_int_equal(c_symlink(c, d, "new", "x", NULL), -EROFS);
	assert_int_equal(c_link(c, n, d, "new", NULL), -EROFS);
	assert_int_equal(c_rename(c, c->r, "f", d, "g", 0), -EROFS);
	assert_int_equal(c_rename(c, c->w, "f", d, "g", 0), -EXDEV);
	assert_int_equal(NAME(c, FUSE_UNLINK, c->r, "f"), -EROFS);
	assert_int_equal(NAME(c, FUSE_RMDIR, c->r, "d"), -EROFS);
	assert_int_equal(c_setattr(c, n, (struct fuse_setattr_in){.valid = FATTR_SIZE}), -EROFS);
	assert_int_equal(c_setattr(c, n, (struct fuse_setattr_in){.valid = FATTR_MTIME}), -EROFS);
	assert_int_equal(c_setxattr(c, n, "user.a", "v", 1), -EROFS);
	assert_int_equal(NAME(c, FUSE_REMOVEXATTR, n, "user.a"), -EROFS);
	assert_int_equal(c_open(c, n, O_RDONLY, &fh), 0);
	assert_int_equal(c_write(c, n, fh, 0, "x", 1), -EROFS);
	assert_int_equal(c_read(c, n, fh, 0, 10), 4);
	assert_string_equal(get_file(c->ro, "f"), "text");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_init), T(test_root), T(test_lookup_forget), T(test_create_write_read),
		T(test_append), T(test_large), T(test_open), T(test_make_nodes), T(test_symlink),
		T(test_unlink), T(test_rename), T(test_exchange_nested), T(test_link),
		T(test_setattr), T(test_owner), T(test_readdir), T(test_readdir_root),
		T(test_file_ops), T(test_tmpfile), T(test_xattr), T(test_statfs_and_absent),
		T(test_read_only),
	};

	return cmocka_run_group_tests_name("fuse", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* File server: sessions, names and attributes, against a real directory. */
#include "fuse_client.h"

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
	uint64_t fh, fh2, n;

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
	assert_int_equal(c_open(c, e.nodeid, O_RDONLY, &fh2), 0); /* through /proc/self/fd */
	assert_int_equal(c_release(c, FUSE_RELEASE, e.nodeid, fh), 0);
	assert_int_equal(c_read(c, e.nodeid, fh2, 0, 10), 2);
	assert_int_equal(c_release(c, FUSE_RELEASE, e.nodeid, fh2), 0);
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

	in = (struct fuse_setattr_in){.valid = FATTR_ATIME | FATTR_MTIME,
		.atime = 11,
		.atimensec = 1,
		.mtime = (uint64_t)-5,
		.mtimensec = 999999999};
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
		struct fuse_setattr_in in = {
			.valid = FATTR_UID | FATTR_GID, .uid = tries[i].uid, .gid = tries[i].gid};

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
	assert_int_equal(client_call(c, FUSE_STATFS, c_node(c, c->w, "f"), NULL, 0, NULL, 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(absent); i++)
		assert_int_equal(CALL(c, absent[i], c->w, zeros), -ENOSYS);
}

static void test_read_only(void **state)
{
	struct client *c = *state;
	uint32_t xattr[2] = {0};
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
	assert_int_equal(client_call(c, FUSE_SETXATTR, n, xattr, 8, "user.a", 7), -EROFS);
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
		T(test_init),
		T(test_root),
		T(test_lookup_forget),
		T(test_make_nodes),
		T(test_symlink),
		T(test_unlink),
		T(test_rename),
		T(test_exchange_nested),
		T(test_link),
		T(test_setattr),
		T(test_owner),
		T(test_statfs_and_absent),
		T(test_read_only),
	};

	umask(022); /* modes are asserted */
	return cmocka_run_group_tests_name("fuse", tests, NULL, NULL);
}

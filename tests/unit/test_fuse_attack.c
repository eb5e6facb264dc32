/* SPDX-License-Identifier: Apache-2.0 */
/* File server against a hostile guest and a host that changes things under its hands. */
#include "fuse_client.h"

#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>

static int setup(void **state)
{
	*state = client_new(256, 0);
	return 0;
}

/* The smallest budget: 10 handles, 2 pinned, the rest for directories. */
static int setup_tight(void **state)
{
	*state = client_new(FUSE_FDS_MIN, 0);
	return 0;
}

static int setup_few_inodes(void **state)
{
	*state = client_new(64, 40);
	return 0;
}

static int teardown(void **state)
{
	client_free(*state);
	return 0;
}

static void path_of(struct client *c, char *to, size_t size, const char *rest)
{
	snprintf(to, size, "%s/%s", c->base, rest);
}

/* --- names --- */

static void test_bad_names(void **state)
{
	static const struct {
		const char *name;
		size_t len; /* with NUL, if there is one */
		int err;
	} bad[] = {
		{"", 1, -EINVAL},
		{".", 2, -EINVAL},
		{"..", 3, -EINVAL},
		{"/", 2, -EINVAL},
		{"/etc/passwd", 12, -EINVAL},
		{"../outside/secret", 18, -EINVAL},
		{"a/b", 4, -EINVAL},
		{"a/", 3, -EINVAL},
		{"./", 3, -EINVAL},
		{"no-nul", 6, -EINVAL},
		{"", 0, -EINVAL},
		{"two\0", 5, -EINVAL},
		{"two\0names", 10, -EINVAL},
	};
	struct client *c = *state;
	char longest[300];

	put_file(c->share, "a", "");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		static const struct {
			uint32_t op;
			size_t fixed;
		} ops[] = {{FUSE_LOOKUP, 0}, {FUSE_UNLINK, 0}, {FUSE_RMDIR, 0}, {FUSE_MKDIR, 8},
			{FUSE_MKNOD, 16}, {FUSE_CREATE, 16}, {FUSE_LINK, 8}};

		for (size_t k = 0; k < ARRAY_SIZE(ops); k++) {
			uint64_t fixed[2] = {0};

			assert_int_equal(client_call(c, ops[k].op, c->w, fixed, ops[k].fixed,
						 bad[i].name, bad[i].len),
				bad[i].err);
		}
	}
	memset(longest, 'n', sizeof(longest));
	longest[256] = '\0';
	assert_int_equal(c_lookup(c, c->w, longest, NULL), -ENAMETOOLONG);
	longest[255] = '\0';
	assert_int_equal(c_mkdir(c, c->w, longest, 0755, NULL), 0);
	assert_int_equal(c_rename(c, c->w, longest, c->w, "../x", 0), -EINVAL);
	assert_int_equal(c_rename(c, c->w, "..", c->w, "x", 0), -EINVAL);
	assert_int_equal(c_symlink(c, c->w, "../l", "t", NULL), -EINVAL);
}

/* --- ids --- */

static void test_stale_ids(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e;
	uint64_t fh, n;

	put_file(c->share, "f", "x");
	n = c_node(c, c->w, "f");
	for (unsigned bit = 0; bit < 64; bit++) {
		uint64_t other = n ^ 1ull << bit;

		if (other == c->w || other == c->r || other == FUSE_ROOT_ID)
			continue;
		assert_int_equal(c_getattr(c, other, NULL), -ESTALE);
		c_forget(c, other, 1);
	}
	assert_int_equal(c_getattr(c, 0, NULL), -ESTALE);
	assert_int_equal(c_getattr(c, UINT64_MAX, NULL), -ESTALE);
	assert_int_equal(c_open(c, n, O_RDONLY, &fh), 0);
	for (unsigned bit = 0; bit < 64; bit++)
		assert_int_equal(c_read(c, n, fh ^ 1ull << bit, 0, 1), -EBADF);
	assert_int_equal(c_read(c, c->w, fh, 0, 1), -EBADF); /* a handle of another node */
	assert_int_equal(c_readdir(c, FUSE_READDIR, n, fh, 0, 100), -ENOTDIR);
	assert_int_equal(c_readdir(c, FUSE_READDIR, c->w, fh, 0, 100), -EBADF);
	assert_int_equal(c_release(c, FUSE_RELEASE, n, fh), 0);
	{
		uint64_t again;

		assert_int_equal(c_open(c, n, O_RDONLY, &again), 0);
		assert_true(again != fh);
		assert_int_equal(c_read(c, n, fh, 0, 1), -EBADF);
	}
	/* a forgotten directory that a known child needs is not the guest's any more */
	assert_int_equal(c_mkdir(c, c->w, "d", 0755, &e), 0);
	put_file(c->share, "d/x", "x");
	n = c_node(c, e.nodeid, "x");
	c_forget(c, e.nodeid, 1);
	assert_int_equal(c_getattr(c, e.nodeid, NULL), -ESTALE);
	assert_int_equal(c_lookup(c, e.nodeid, "x", NULL), -ESTALE);
	assert_int_equal(c_open(c, n, O_RDONLY, &fh), 0);
	/* forgetting more than was looked up */
	c_forget(c, n, UINT64_MAX);
	assert_int_equal(c_read(c, n, fh, 0, 1), -ESTALE);
	assert_int_equal(fuse_usage(c->s).handles, 2);
	assert_int_equal(client_mount(c), 0);
	assert_int_equal(fuse_usage(c->s).handles, 0);
	assert_int_equal(fuse_usage(c->s).inodes, 1);
	assert_int_equal(fuse_usage(c->s).fds, 0);
}

/* --- lengths --- */

static void test_lengths(void **state)
{
	struct client *c = *state;
	struct fuse_in_header h = {
		.len = sizeof(h) + 2, .opcode = FUSE_LOOKUP, .unique = 7, .nodeid = c->w};
	struct fuse_out_header o;
	uint8_t msg[200] = {0};
	unsigned inodes = fuse_usage(c->s).inodes;

	put_file(c->share, "a", "");
	memcpy(msg, &h, sizeof(h));
	msg[sizeof(h)] = 'a';
	for (size_t len = 0; len < sizeof(msg); len++) {
		size_t got = client_raw(c, msg, len);

		if (len < sizeof(h)) {
			assert_int_equal(got, 0);
			continue;
		}
		memcpy(&o, c->ans, sizeof(o));
		assert_int_equal(o.error, len == h.len ? 0 : -EINVAL);
	}
	assert_int_equal(fuse_usage(c->s).inodes, inodes + 1);
	/* room for the answer: too little means that nothing happens */
	for (c->room = 0; c->room < 16 + sizeof(struct fuse_entry_out); c->room++) {
		size_t got = client_raw(c, msg, h.len);

		assert_int_equal(got, c->room < 16 ? 0 : 16);
		assert_int_equal(c->ans[c->room], 0xee);
	}
	assert_int_equal(client_raw(c, msg, h.len), 16 + sizeof(struct fuse_entry_out));
	c->room = 15;
	assert_int_equal(c_mkdir(c, c->w, "d", 0755, NULL), 1);
	c->room = CLIENT_ROOM;
	assert_int_equal(faccessat(c->share, "d", F_OK, 0), -1);

	/* arguments too short and too long, for every operation */
	for (uint32_t op = 1; op < 60; op++)
		for (uint32_t len = 0; len < 120; len++) {
			memset(msg, 0, sizeof(msg));
			h = (struct fuse_in_header){
				.len = (uint32_t)sizeof(h) + len, .opcode = op, .nodeid = c->w};
			memcpy(msg, &h, sizeof(h));
			client_raw(c, msg, h.len);
			if (op == FUSE_INIT || op == FUSE_DESTROY) {
				assert_int_equal(client_mount(c), 0);
				c->w = c_node(c, FUSE_ROOT_ID, "w");
			}
		}
}

/* --- what the host changes between two requests --- */

static void test_swapped_symlink(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e;
	char target[128];
	uint64_t f, d, in, fh;

	path_of(c, target, sizeof(target), "outside");
	put_file(c->share, "secret", "mine");
	assert_int_equal(c_mkdir(c, c->w, "d", 0755, NULL), 0);
	put_file(c->share, "d/secret", "mine");
	f = c_node(c, c->w, "secret");
	d = c_node(c, c->w, "d");
	in = c_node(c, d, "secret");
	/* a known file becomes a link to the outside */
	assert_int_equal(unlinkat(c->share, "secret", 0), 0);
	assert_int_equal(symlinkat("../outside/secret", c->share, "secret"), 0);
	assert_int_equal(c_open(c, f, O_RDONLY, &fh), -ESTALE);
	assert_int_equal(c_setattr(c, f, (struct fuse_setattr_in){.valid = FATTR_SIZE}), -ESTALE);
	assert_int_equal(c_setattr(c, f, (struct fuse_setattr_in){.valid = FATTR_MODE}), -ESTALE);
	assert_int_equal(c_setattr(c, f, (struct fuse_setattr_in){.valid = FATTR_MTIME}), -ESTALE);
	assert_int_equal(c_create(c, c->w, "secret", O_RDWR | O_TRUNC, 0644, &e, &fh), -ESTALE);
	assert_int_equal(c_lookup(c, c->w, "secret", &e), 0);
	assert_true(S_ISLNK(e.attr.mode));
	assert_int_equal(c_open(c, e.nodeid, O_RDWR, &fh), -EACCES);
	/* a known directory becomes a link to the outside; its descriptor shows the old one */
	assert_int_equal(renameat(c->share, "d", c->share, "old"), 0);
	assert_int_equal(symlinkat(target, c->share, "d"), 0);
	assert_int_equal(c_open(c, in, O_RDWR | O_TRUNC, &fh), 0);
	assert_string_equal(get_file(c->share, "old/secret"), "");
	assert_int_equal(c_lookup(c, c->w, "d", &e), 0);
	assert_true(S_ISLNK(e.attr.mode));
	assert_int_equal(c_lookup(c, e.nodeid, "secret", NULL), -ENOTDIR);
	assert_int_equal(c_opendir(c, e.nodeid, &fh), -ENOTDIR);
}

/* A file replaced by another one, by a FIFO, by a device; and a reused inode number. */
static void test_replaced_file(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e;
	uint64_t f, fh;

	put_file(c->share, "f", "old");
	put_file(c->share, "other", "other");
	f = c_node(c, c->w, "f");
	assert_int_equal(renameat(c->share, "other", c->share, "f"), 0);
	assert_int_equal(c_open(c, f, O_RDWR | O_TRUNC, &fh), -ESTALE);
	assert_int_equal(c_getattr(c, f, NULL), -ESTALE);
	assert_string_equal(get_file(c->share, "f"), "other");
	assert_true(c_node(c, c->w, "f") != f);

	f = c_node(c, c->w, "f");
	assert_int_equal(unlinkat(c->share, "f", 0), 0);
	assert_int_equal(mkfifoat(c->share, "f", 0644), 0);
	assert_int_equal(c_open(c, f, O_RDONLY, &fh), -ESTALE); /* and does not hang */
	assert_int_equal(c_open(c, f, O_WRONLY, &fh), -ESTALE);
	assert_int_equal(c_create(c, c->w, "f", O_RDWR, 0644, &e, &fh), -ESTALE);

	/* numbers are soon reused; an id must not come to mean the new file */
	for (unsigned i = 0; i < 50; i++) {
		uint64_t old, now;
		struct stat st, st2;

		put_file(c->share, "a", "one");
		old = c_node(c, c->w, "a");
		assert_int_equal(fstatat(c->share, "a", &st, 0), 0);
		assert_int_equal(unlinkat(c->share, "a", 0), 0);
		usleep(5000); /* birth times have the resolution of a tick */
		put_file(c->share, "b", "two");
		assert_int_equal(fstatat(c->share, "b", &st2, 0), 0);
		now = c_node(c, c->w, "b");
		assert_true(old != now);
		assert_int_equal(c_getattr(c, old, NULL), -ESTALE);
		assert_int_equal(c_getattr(c, now, NULL), 0);
		c_forget(c, old, 1);
		c_forget(c, now, 1);
		assert_int_equal(unlinkat(c->share, "b", 0), 0);
	}
	assert_int_equal(fuse_usage(c->s).inodes, 5);
}

/* Work in so many other directories that all descriptors kept so far are evicted. */
static void fill_budget(struct client *c)
{
	char name[32];

	for (unsigned i = 0; i < 40; i++) {
		struct fuse_entry_out e;

		snprintf(name, sizeof(name), "fill-%u", i);
		if (c_lookup(c, c->w, name, &e) < 0)
			assert_int_equal(c_mkdir(c, c->w, name, 0755, &e), 0);
		assert_int_equal(c_lookup(c, e.nodeid, "none", NULL), -ENOENT);
		assert_true(fuse_usage(c->s).fds <= FUSE_FDS_MIN);
	}
}

/* The host moves a directory out while its descriptor is evicted; links in its place. */
static void test_moved_out(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out a, b;
	char target[128];
	uint64_t f, fh;

	assert_int_equal(c_mkdir(c, c->w, "a", 0755, &a), 0);
	assert_int_equal(c_mkdir(c, a.nodeid, "b", 0755, &b), 0);
	put_file(c->share, "a/b/f", "x");
	f = c_node(c, b.nodeid, "f");
	fill_budget(c);
	assert_int_equal(c_open(c, f, O_RDONLY, &fh), 0); /* reopened by path */
	assert_int_equal(c_release(c, FUSE_RELEASE, f, fh), 0);

	fill_budget(c);
	assert_int_equal(renameat(c->share, "a/b", c->outside, "b"), 0);
	assert_int_equal(c_open(c, f, O_RDONLY, &fh), -ESTALE);
	assert_int_equal(c_lookup(c, b.nodeid, "f", NULL), -ESTALE);
	path_of(c, target, sizeof(target), "outside/b");
	assert_int_equal(symlinkat(target, c->share, "a/b"), 0);
	fill_budget(c);
	assert_int_equal(c_open(c, f, O_RDONLY, &fh), -ESTALE);
	assert_int_equal(c_lookup(c, b.nodeid, "f", NULL), -ESTALE);
	assert_int_equal(c_create(c, b.nodeid, "new", O_RDWR, 0644, &a, &fh), -ESTALE);
	assert_int_equal(c_opendir(c, b.nodeid, &fh), -ESTALE);
	/* a link in the middle of the path */
	assert_int_equal(unlinkat(c->share, "a/b", 0), 0);
	assert_int_equal(unlinkat(c->share, "a", AT_REMOVEDIR), 0);
	path_of(c, target, sizeof(target), "outside");
	assert_int_equal(symlinkat(target, c->share, "a"), 0);
	assert_int_equal(c_lookup(c, b.nodeid, "f", NULL), -ESTALE);
}

/* What is remembered can contradict itself after moves on the host. */
static void test_name_cycle(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out a, b;
	uint64_t fh;

	assert_int_equal(c_mkdir(c, c->w, "a", 0755, &a), 0);
	assert_int_equal(c_mkdir(c, a.nodeid, "b", 0755, &b), 0);
	assert_int_equal(c_lookup(c, b.nodeid, "none", NULL), -ENOENT); /* holds b */
	assert_int_equal(renameat(c->share, "a/b", c->share, "b"), 0);
	assert_int_equal(renameat(c->share, "a", c->share, "b/a"), 0);
	/* b is remembered in a; now a is seen in b */
	assert_true(c_node(c, b.nodeid, "a") == a.nodeid);
	assert_int_equal(c_getattr(c, a.nodeid, NULL), 0);
	assert_true(c_node(c, c->w, "b") == b.nodeid);
	assert_int_equal(c_opendir(c, a.nodeid, &fh), 0);
	assert_int_equal(c_release(c, FUSE_RELEASEDIR, a.nodeid, fh), 0);
	c_forget(c, a.nodeid, 2);
	c_forget(c, b.nodeid, 2);
	assert_int_equal(fuse_usage(c->s).inodes, 3);
}

/* The same, of a directory that the guest has forgotten and only its child keeps. */
static void test_name_cycle_forgotten(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out a, b;
	uint64_t seen;

	assert_int_equal(c_mkdir(c, c->w, "a", 0755, &a), 0);
	assert_int_equal(c_mkdir(c, a.nodeid, "b", 0755, &b), 0);
	assert_int_equal(c_lookup(c, b.nodeid, "none", NULL), -ENOENT); /* holds b */
	c_forget(c, a.nodeid, 1);
	assert_int_equal(renameat(c->share, "a/b", c->share, "b"), 0);
	assert_int_equal(renameat(c->share, "a", c->share, "b/a"), 0);
	seen = c_node(c, b.nodeid, "a");
	assert_int_equal(c_getattr(c, seen, NULL), 0);
	assert_int_equal(fuse_usage(c->s).inodes, 5); /* root, two exports, a, b */
	assert_int_equal(client_mount(c), 0);
	assert_int_equal(fuse_usage(c->s).inodes, 1);
}

/* --- privileges --- */

static void test_setuid(void **state)
{
	struct client *c = *state;
	struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = 07755};
	struct fuse_entry_out e;
	struct fuse_attr a;
	uint64_t n, fh;

	assert_int_equal(c_create(c, c->w, "f", O_RDWR, 06755, &e, &fh), 0);
	assert_int_equal(mode_of(c->share, "f"), S_IFREG | 0755);
	assert_int_equal(c_setattr(c, e.nodeid, in), 0);
	assert_int_equal(mode_of(c->share, "f"), S_IFREG | 01755);
	assert_int_equal(c_release(c, FUSE_RELEASE, e.nodeid, fh), 0);
	assert_int_equal(c_setattr(c, e.nodeid, in), 0);
	assert_int_equal(mode_of(c->share, "f"), S_IFREG | 01755);
	assert_int_equal(c_mknod(c, c->w, "g", S_IFREG | 06755, NULL), 0);
	assert_int_equal(mode_of(c->share, "g"), S_IFREG | 0755);
	assert_int_equal(c_mkdir(c, c->w, "d", 07755, NULL), 0);
	assert_int_equal(mode_of(c->share, "d"), S_IFDIR | 01755);
	if (c_create_op(c, FUSE_TMPFILE, c->w, "/", O_RDWR | O_EXCL, 06755, &e, &fh) == 0)
		assert_int_equal(e.attr.mode & 06000, 0);

	/* a set-id program of the host: not shown as one, and none before the guest can write */
	put_file(c->share, "prog", "#!/bin/true\n");
	assert_int_equal(fchmodat(c->share, "prog", 06755, 0), 0);
	n = c_node(c, c->w, "prog");
	assert_int_equal(c_getattr(c, n, &a), 0);
	assert_int_equal(a.mode, S_IFREG | 0755);
	assert_int_equal(c_open(c, n, O_RDONLY, &fh), 0);
	assert_int_equal(mode_of(c->share, "prog"), S_IFREG | 06755);
	assert_int_equal(c_open(c, n, O_WRONLY, &fh), 0);
	assert_int_equal(mode_of(c->share, "prog"), S_IFREG | 0755);
}

static void test_device_node(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e;
	uint64_t fh;

	if (geteuid() != 0 || mknodat(c->share, "null", S_IFCHR | 0666, 1 << 8 | 3) < 0)
		skip();
	assert_int_equal(c_lookup(c, c->w, "null", &e), 0);
	assert_int_equal(e.attr.rdev, 0);
	assert_int_equal(c_open(c, e.nodeid, O_RDWR, &fh), -EACCES);
	assert_int_equal(
		c_setattr(c, e.nodeid, (struct fuse_setattr_in){.valid = FATTR_SIZE}), -EACCES);
}

/* Sharing / shows files; the kernel's switches below it stay out of reach. */
static void test_kernel_file_systems(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e;
	struct statfs st;
	struct err err;
	uint64_t root, fh;
	int n, seen = 0;

	if (statfs("/proc", &st) < 0 || st.f_type != PROC_SUPER_MAGIC)
		skip();
	assert_int_equal(fuse_export_add(c->s, "p", open("/proc", O_PATH), true, &err), -1);
	assert_int_equal(fuse_export_add(c->s, "all", open("/", O_RDONLY), false, &err), 0);
	root = c_node(c, FUSE_ROOT_ID, "all");
	assert_int_equal(c_lookup(c, root, "proc", &e), -EACCES);
	assert_int_equal(c_create(c, root, "proc", O_RDWR, 0600, &e, &fh), -EACCES);
	assert_int_equal(c_lookup(c, root, "tmp", &e), 0);
	assert_int_equal(c_opendir(c, root, &fh), 0);
	n = c_readdir(c, FUSE_READDIRPLUS, root, fh, 0, 65536);
	for (int at = 0; at < n;) {
		struct fuse_direntplus d;

		memcpy(&d, (const uint8_t *)c->rep + at, FUSE_NAME_OFFSET_DIRENTPLUS);
		if (d.dirent.namelen == 4 &&
			memcmp((const uint8_t *)c->rep + at + FUSE_NAME_OFFSET_DIRENTPLUS, "proc",
				4) == 0) {
			seen++;
			assert_true(d.entry_out.nodeid == 0);
		}
		at += (int)FUSE_DIRENTPLUS_SIZE(&d);
	}
	assert_int_equal(seen, 1);
}

/* Kernels before 6.6 lack fchmodat2 (452): the mode is set through an opened file then. */
static int chmod_on_old_kernel(struct client *c, uint64_t f, uint64_t d, uint64_t fifo)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 452, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {ARRAY_SIZE(code), code};
	struct fuse_setattr_in in = {.valid = FATTR_MODE, .mode = 04200};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
		prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		return 1;
	if (c_setattr(c, f, in) != 0 || mode_of(c->share, "f") != (S_IFREG | 0200))
		return 2;
	in.mode = 0644; /* only writable now */
	if (c_setattr(c, f, in) != 0 || mode_of(c->share, "f") != (S_IFREG | 0644))
		return 3;
	in.mode = 0700;
	if (c_setattr(c, d, in) != 0 || mode_of(c->share, "d") != (S_IFDIR | 0700))
		return 4;
	return c_setattr(c, fifo, in) == -EOPNOTSUPP ? 0 : 5;
}

static void test_old_kernel(void **state)
{
	struct client *c = *state;
	uint64_t f, d, fifo;
	int status;
	pid_t pid;

	put_file(c->share, "f", "");
	f = c_node(c, c->w, "f");
	assert_int_equal(c_mkdir(c, c->w, "d", 0755, NULL), 0);
	d = c_node(c, c->w, "d");
	assert_int_equal(c_mknod(c, c->w, "fifo", S_IFIFO | 0600, NULL), 0);
	fifo = c_node(c, c->w, "fifo");
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(chmod_on_old_kernel(c, f, d, fifo));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* --- budgets --- */

static void test_fd_budget(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e;
	uint64_t dirs[500], fh[16];
	char name[32];
	unsigned opened = 0;

	for (unsigned i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		assert_int_equal(c_mkdir(c, c->w, name, 0755, &e), 0);
		dirs[i] = e.nodeid;
		assert_int_equal(c_create(c, dirs[i], "f", O_RDWR, 0644, &e, &fh[0]), 0);
		assert_int_equal(c_write(c, e.nodeid, fh[0], 0, name, 4), 4);
		assert_int_equal(c_release(c, FUSE_RELEASE, e.nodeid, fh[0]), 0);
		assert_true(fuse_usage(c->s).fds <= FUSE_FDS_MIN);
	}
	for (unsigned i = 0; i < 500; i++) { /* all of them evicted once */
		uint64_t f = c_node(c, dirs[i], "f");

		assert_int_equal(c_open(c, f, O_RDONLY, &fh[0]), 0);
		assert_int_equal(c_read(c, f, fh[0], 0, 10), 4);
		assert_int_equal(c_release(c, FUSE_RELEASE, f, fh[0]), 0);
		assert_int_equal(c_rename(c, dirs[i], "f", dirs[(i + 250) % 500], "g", 0), 0);
		assert_int_equal(c_open(c, f, O_RDONLY, &fh[0]), 0);
		assert_int_equal(c_release(c, FUSE_RELEASE, f, fh[0]), 0);
		assert_true(fuse_usage(c->s).fds <= FUSE_FDS_MIN);
	}
	/* open files cannot take it all: directories go on working */
	for (unsigned i = 0; i < ARRAY_SIZE(fh); i++)
		if (c_open(c, c_node(c, dirs[i], "g"), O_RDONLY, &fh[i]) == 0)
			opened++;
	assert_int_equal(opened, 10);
	assert_int_equal(c_create(c, dirs[20], "no", O_RDWR, 0644, &e, &fh[15]), -ENFILE);
	assert_int_equal(c_lookup(c, dirs[20], "no", NULL), -ENOENT); /* not half done */
	assert_int_equal(c_rename(c, dirs[30], "g", dirs[40], "h", 0), 0);
	assert_int_equal(c_node(c, dirs[40], "h") != 0, 1);
	/* unlinked files: the oldest ones are lost, no more than that */
	for (unsigned i = 100; i < 110; i++) {
		uint64_t f = c_node(c, dirs[i], "g");

		assert_int_equal(NAME(c, FUSE_UNLINK, dirs[i], "g"), 0);
		assert_int_equal(c_getattr(c, f, NULL), 0);
		assert_true(fuse_usage(c->s).fds <= FUSE_FDS_MIN);
	}
	assert_int_equal(client_mount(c), 0);
	assert_int_equal(fuse_usage(c->s).fds, 0);
}

static void test_inode_ceiling(void **state)
{
	struct client *c = *state;
	uint64_t nodes[64], fh;
	char name[32];
	unsigned known = 0;
	int err = 0;

	for (unsigned i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		put_file(c->share, name, "");
	}
	for (unsigned i = 0; i < 60 && !err; i++) {
		struct fuse_entry_out e;

		snprintf(name, sizeof(name), "f%u", i);
		err = c_lookup(c, c->w, name, &e);
		if (!err)
			nodes[known++] = e.nodeid;
	}
	assert_int_equal(err, -ENOMEM);
	assert_int_equal(known, 40 - 3);
	assert_int_equal(NAME(c, FUSE_REMOVEXATTR, c->w, "user.a"), -ENOSYS); /* not configured */
	/* listings still work: names without inodes */
	assert_int_equal(c_opendir(c, c->w, &fh), 0);
	assert_true(c_readdir(c, FUSE_READDIRPLUS, c->w, fh, 0, 4096) > 0);
	c_forget(c, nodes[0], UINT64_MAX);
	assert_int_equal(c_lookup(c, c->w, "f59", NULL), 0);
}

static void test_deep(void **state)
{
	struct client *c = *state;
	struct fuse_entry_out e = {.nodeid = c->w};
	unsigned inodes = fuse_usage(c->s).inodes;
	uint64_t chain[21];
	char name[201];
	uint64_t fh;

	/* As deep as a path can name, and not one deeper. */
	memset(name, 'd', 200);
	name[200] = '\0';
	for (unsigned i = 0; i < ARRAY_SIZE(chain); i++) {
		assert_int_equal(c_mkdir(c, e.nodeid, name, 0755, &e), 0);
		chain[i] = e.nodeid;
	}
	assert_int_equal(c_getattr(c, chain[20], NULL), 0);
	assert_int_equal(c_mkdir(c, chain[20], name, 0755, NULL), -ENAMETOOLONG);
	assert_int_equal(c_opendir(c, chain[20], &fh), -ENAMETOOLONG);
	assert_int_equal(NAME(c, FUSE_RMDIR, chain[19], name), 0);
	c_forget(c, chain[20], 1);
	/* an ancestor moves: everything below follows */
	assert_int_equal(c_rename(c, c->w, name, c->w, "renamed", 0), 0);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(c_opendir(c, chain[i], &fh), 0);
		assert_int_equal(c_release(c, FUSE_RELEASEDIR, chain[i], fh), 0);
	}
	/* forgotten from the top: the children keep it until the last one goes */
	for (unsigned i = 0; i < 20; i++)
		c_forget(c, chain[i], 1);
	assert_int_equal(fuse_usage(c->s).inodes, inodes);
}

/* --- threads --- */

static void *add_exports(void *arg)
{
	struct client *c = arg;

	for (unsigned i = 0; i < 100; i++) {
		struct err err;
		char name[32];

		snprintf(name, sizeof(name), "x%u", i);
		fuse_export_add(c->s, name, dup(c->outside), true, &err);
	}
	return NULL;
}

static void test_add_while_running(void **state)
{
	struct client *c = *state;
	unsigned seen = 0;
	pthread_t t;
	uint64_t fh;

	assert_int_equal(pthread_create(&t, NULL, add_exports, c), 0);
	for (unsigned i = 0; i < 200; i++) {
		char name[32];
		struct fuse_entry_out e;

		assert_int_equal(c_opendir(c, FUSE_ROOT_ID, &fh), 0);
		assert_true(c_readdir(c, FUSE_READDIRPLUS, FUSE_ROOT_ID, fh, 0, 65536) > 0);
		assert_int_equal(c_release(c, FUSE_RELEASEDIR, FUSE_ROOT_ID, fh), 0);
		snprintf(name, sizeof(name), "x%u", i % 62);
		if (c_lookup(c, FUSE_ROOT_ID, name, &e) == 0) {
			seen++;
			assert_int_equal(c_lookup(c, e.nodeid, "secret", NULL), 0);
		}
	}
	pthread_join(t, NULL);
	assert_int_equal(c_lookup(c, FUSE_ROOT_ID, "x61", NULL), 0);
	assert_int_equal(c_lookup(c, FUSE_ROOT_ID, "x62", NULL), -ENOENT); /* 64 in all */
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_bad_names),
		T(test_stale_ids),
		T(test_lengths),
		T(test_swapped_symlink),
		T(test_replaced_file),
		T(test_name_cycle),
		T(test_name_cycle_forgotten),
		T(test_setuid),
		T(test_device_node),
		T(test_old_kernel),
		T(test_kernel_file_systems),
		T(test_add_while_running),
		cmocka_unit_test_setup_teardown(test_deep, setup_tight, teardown),
		cmocka_unit_test_setup_teardown(test_moved_out, setup_tight, teardown),
		cmocka_unit_test_setup_teardown(test_fd_budget, setup_tight, teardown),
		cmocka_unit_test_setup_teardown(test_inode_ceiling, setup_few_inodes, teardown),
	};

	return cmocka_run_group_tests_name("fuse-attack", tests, NULL, NULL);
}

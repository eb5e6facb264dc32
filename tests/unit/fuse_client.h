/* SPDX-License-Identifier: Apache-2.0 */
/* A guest for tests: speaks FUSE messages to the server, over a scratch directory.
 *
 *   BASE/share    exported as "w"
 *   BASE/ro       exported as "r", read-only
 *   BASE/outside  must never be reached; holds "secret" */
#pragma once

#include <linux/capability.h>
#include <linux/fuse.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "fuse/fuse.h"

#define AGENT 1000u

struct client {
	struct fuse_server *s;
	char base[64];
	int share, ro, outside; /* directory descriptors of our own */
	uint64_t unique;
	uint64_t w, r; /* nodeids of the exports */
	size_t room;   /* writable bytes offered per request */
	uint8_t *msg, *ans;
	/* the last answer */
	const void *rep;
	size_t rep_len, got;
};

#define CLIENT_ROOM (sizeof(struct fuse_out_header) + FUSE_WRITE_MAX)

/* Cut [p, p + len) into segments of uneven sizes, so that no code relies on the layout. */
static inline unsigned client_cut(struct iovec *v, void *p, size_t len, size_t first)
{
	unsigned n = 0;

	while (len && n < 200) {
		size_t part = MIN(len, first);

		v[n++] = (struct iovec){p, part};
		p = (uint8_t *)p + part;
		len -= part;
		first = n < 8 ? first / 2 + 3 : 65521;
	}
	return n;
}

/* Send raw bytes. Returns what fuse_handle returned; the answer is in c->ans. */
static inline size_t client_raw(struct client *c, const void *msg, size_t len)
{
	struct iovec out[200], in[200];
	unsigned n_out, n_in;

	memmove(c->msg, msg, len);
	n_out = client_cut(out, c->msg, len, 33);
	n_in = client_cut(in, c->ans, c->room, 13);
	memset(c->ans, 0xee, MIN(c->room + 64, 4096u));
	c->got = fuse_handle(c->s, out, n_out, in, n_in);
	assert_true(c->got <= c->room);
	return c->got;
}

/* Send opcode, fixed argument and trailing bytes; 0 or -errno from the answer. */
static inline int client_call(struct client *c, uint32_t op, uint64_t node, const void *arg,
	size_t arg_len, const void *more, size_t more_len)
{
	struct fuse_in_header h = {.len = (uint32_t)(sizeof(h) + arg_len + more_len),
		.opcode = op,
		.unique = ++c->unique,
		.nodeid = node};
	struct fuse_out_header o;
	uint8_t *m = malloc(h.len);

	memcpy(m, &h, sizeof(h));
	if (arg_len)
		memcpy(m + sizeof(h), arg, arg_len);
	if (more_len)
		memcpy(m + sizeof(h) + arg_len, more, more_len);
	client_raw(c, m, h.len);
	free(m);
	if (c->got == 0)
		return 1; /* no answer */
	memcpy(&o, c->ans, sizeof(o));
	assert_int_equal(o.len, c->got);
	assert_true(o.unique == h.unique);
	assert_true(o.error <= 0 && o.error > -512);
	if (o.error)
		assert_int_equal(o.len, sizeof(o));
	c->rep = c->ans + sizeof(o);
	c->rep_len = o.len - sizeof(o);
	return o.error;
}

#define CALL(c, op, node, arg) client_call(c, op, node, &(arg), sizeof(arg), NULL, 0)
#define CALLN(c, op, node, arg, str)                                                               \
	client_call(c, op, node, &(arg), sizeof(arg), str, strlen(str) + 1)
#define NAME(c, op, node, str) client_call(c, op, node, NULL, 0, str, strlen(str) + 1)

static inline int client_entry(struct client *c, int err, struct fuse_entry_out *e)
{
	struct fuse_entry_out tmp = {0};

	if (e)
		*e = tmp;
	if (err)
		return err;
	assert_true(c->rep_len >= sizeof(tmp));
	memcpy(&tmp, c->rep, sizeof(tmp));
	if (e)
		*e = tmp;
	return tmp.nodeid ? 0 : -ENOENT; /* negative entry */
}

static inline int c_lookup(
	struct client *c, uint64_t dir, const char *name, struct fuse_entry_out *e)
{
	return client_entry(c, NAME(c, FUSE_LOOKUP, dir, name), e);
}

/* nodeid of an existing name */
static inline uint64_t c_node(struct client *c, uint64_t dir, const char *name)
{
	struct fuse_entry_out e = {0};

	assert_int_equal(c_lookup(c, dir, name, &e), 0);
	return e.nodeid;
}

static inline void c_forget(struct client *c, uint64_t node, uint64_t n)
{
	struct fuse_forget_in in = {n};

	assert_int_equal(CALL(c, FUSE_FORGET, node, in), 1);
}

static inline int c_getattr(struct client *c, uint64_t node, struct fuse_attr *a)
{
	struct fuse_getattr_in in = {0};
	struct fuse_attr_out o;
	int err = CALL(c, FUSE_GETATTR, node, in);

	if (err)
		return err;
	memcpy(&o, c->rep, sizeof(o));
	if (a)
		*a = o.attr;
	return 0;
}

static inline int c_setattr(struct client *c, uint64_t node, struct fuse_setattr_in in)
{
	return CALL(c, FUSE_SETATTR, node, in);
}

static inline int c_mkdir(
	struct client *c, uint64_t dir, const char *name, uint32_t mode, struct fuse_entry_out *e)
{
	struct fuse_mkdir_in in = {.mode = mode};

	return client_entry(c, CALLN(c, FUSE_MKDIR, dir, in, name), e);
}

static inline int c_mknod(
	struct client *c, uint64_t dir, const char *name, uint32_t mode, struct fuse_entry_out *e)
{
	struct fuse_mknod_in in = {.mode = mode};

	return client_entry(c, CALLN(c, FUSE_MKNOD, dir, in, name), e);
}

static inline int c_symlink(struct client *c, uint64_t dir, const char *name, const char *target,
	struct fuse_entry_out *e)
{
	char both[8192];
	int n = snprintf(both, sizeof(both), "%s%c%s", name, 0, target);

	return client_entry(c, client_call(c, FUSE_SYMLINK, dir, NULL, 0, both, (size_t)n + 1), e);
}

static inline int c_link(
	struct client *c, uint64_t node, uint64_t dir, const char *name, struct fuse_entry_out *e)
{
	struct fuse_link_in in = {node};

	return client_entry(c, CALLN(c, FUSE_LINK, dir, in, name), e);
}

static inline int c_rename(struct client *c, uint64_t dir, const char *name, uint64_t newdir,
	const char *newname, uint32_t flags)
{
	struct fuse_rename2_in in = {.newdir = newdir, .flags = flags};
	char both[1024];
	int n = snprintf(both, sizeof(both), "%s%c%s", name, 0, newname);

	return client_call(c, FUSE_RENAME2, dir, &in, sizeof(in), both, (size_t)n + 1);
}

static inline int c_open_op(struct client *c, uint32_t op, uint64_t node, uint32_t flags,
	uint64_t *fh, uint32_t *open_flags)
{
	struct fuse_open_in in = {.flags = flags};
	struct fuse_open_out o;
	int err = CALL(c, op, node, in);

	*fh = 0;
	if (err)
		return err;
	assert_int_equal(c->rep_len, sizeof(o));
	memcpy(&o, c->rep, sizeof(o));
	*fh = o.fh;
	if (open_flags)
		*open_flags = o.open_flags;
	return 0;
}

static inline int c_open(struct client *c, uint64_t node, uint32_t flags, uint64_t *fh)
{
	return c_open_op(c, FUSE_OPEN, node, flags, fh, NULL);
}

static inline int c_opendir(struct client *c, uint64_t node, uint64_t *fh)
{
	return c_open_op(c, FUSE_OPENDIR, node, O_RDONLY | O_DIRECTORY, fh, NULL);
}

static inline int c_create_op(struct client *c, uint32_t op, uint64_t dir, const char *name,
	uint32_t flags, uint32_t mode, struct fuse_entry_out *e, uint64_t *fh)
{
	struct fuse_create_in in = {.flags = flags, .mode = mode};
	struct fuse_open_out o;
	int err = client_entry(c, CALLN(c, op, dir, in, name), e);

	*fh = 0;
	if (err)
		return err;
	assert_int_equal(c->rep_len, sizeof(*e) + sizeof(o));
	memcpy(&o, (const uint8_t *)c->rep + sizeof(*e), sizeof(o));
	*fh = o.fh;
	return 0;
}

static inline int c_create(struct client *c, uint64_t dir, const char *name, uint32_t flags,
	uint32_t mode, struct fuse_entry_out *e, uint64_t *fh)
{
	return c_create_op(c, FUSE_CREATE, dir, name, flags, mode, e, fh);
}

/* Bytes read or -errno; they are at c->rep. */
static inline int c_read(struct client *c, uint64_t node, uint64_t fh, uint64_t off, uint32_t size)
{
	struct fuse_read_in in = {.fh = fh, .offset = off, .size = size};
	int err = CALL(c, FUSE_READ, node, in);

	return err ? err : (int)c->rep_len;
}

static inline int c_write_flags(struct client *c, uint64_t node, uint64_t fh, uint64_t off,
	const void *p, size_t len, uint32_t flags, uint32_t wflags)
{
	struct fuse_write_in in = {.fh = fh,
		.offset = off,
		.size = (uint32_t)len,
		.flags = flags,
		.write_flags = wflags};
	struct fuse_write_out o;
	int err = client_call(c, FUSE_WRITE, node, &in, sizeof(in), p, len);

	if (err)
		return err;
	memcpy(&o, c->rep, sizeof(o));
	return (int)o.size;
}

static inline int c_write(
	struct client *c, uint64_t node, uint64_t fh, uint64_t off, const void *p, size_t len)
{
	return c_write_flags(c, node, fh, off, p, len, O_RDWR, 0);
}

static inline int c_release(struct client *c, uint32_t op, uint64_t node, uint64_t fh)
{
	struct fuse_release_in in = {.fh = fh};

	return CALL(c, op, node, in);
}

/* READDIR(PLUS) into c->rep; bytes or -errno. */
static inline int c_readdir(
	struct client *c, uint32_t op, uint64_t node, uint64_t fh, uint64_t off, uint32_t size)
{
	struct fuse_read_in in = {.fh = fh, .offset = off, .size = size};
	int err = CALL(c, op, node, in);

	return err ? err : (int)c->rep_len;
}

/* --- host side --- */

static inline void put_file(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

/* The content of a small file, in a static buffer; NULL when it is not there. */
static inline const char *get_file(int dir, const char *name)
{
	static char text[65536];
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	ssize_t n;

	if (fd < 0)
		return NULL;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	assert_true(n >= 0);
	text[n] = '\0';
	return text;
}

static inline mode_t mode_of(int dir, const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_mode;
}

static inline int sub_dir(int base, const char *name)
{
	int fd;

	assert_int_equal(mkdirat(base, name, 0755), 0);
	fd = openat(base, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	return fd;
}

static inline int client_mount(struct client *c)
{
	struct fuse_init_in in = {
		.major = 7, .minor = 37, .max_readahead = 131072, .flags = UINT32_MAX};

	return CALL(c, FUSE_INIT, 0, in);
}

/* Exports are opened by one process and used by another: descriptors opened so far become those of
 * other credentials, for which the kernel grants less. */
static inline void other_credentials(void)
{
	struct __user_cap_header_struct hdr = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	assert_int_equal(syscall(SYS_capget, &hdr, data), 0);
	assert_int_equal(syscall(SYS_capset, &hdr, data), 0);
}

/* A server with a budget of @fds descriptors (and extended attributes, when that is more than 100),
 * mounted, exports looked up. */
static inline struct client *client_new(unsigned fds, unsigned inodes)
{
	struct fuse_config cfg = {AGENT, AGENT, fds, inodes, fds > 100};
	struct client *c = calloc(1, sizeof(*c));
	struct err err;
	int base;

	snprintf(c->base, sizeof(c->base), "/tmp/hutch-fuse-XXXXXX");
	assert_non_null(mkdtemp(c->base));
	base = open(c->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	c->share = sub_dir(base, "share");
	c->ro = sub_dir(base, "ro");
	c->outside = sub_dir(base, "outside");
	close(base);
	put_file(c->outside, "secret", "secret");
	other_credentials();
	c->s = fuse_server_new(&cfg, &err);
	assert_non_null(c->s);
	assert_int_equal(fuse_start_closer(c->s, NULL, &err), 0);
	assert_int_equal(fuse_export_add(c->s, "w", dup(c->share), false, &err), 0);
	assert_int_equal(fuse_export_add(c->s, "r", dup(c->ro), true, &err), 0);
	c->room = CLIENT_ROOM;
	c->msg = malloc(CLIENT_ROOM + 4096);
	c->ans = malloc(CLIENT_ROOM + 4096);
	assert_int_equal(client_mount(c), 0);
	c->w = c_node(c, FUSE_ROOT_ID, "w");
	c->r = c_node(c, FUSE_ROOT_ID, "r");
	return c;
}

static inline void client_free(struct client *c)
{
	struct err err;

	fuse_server_free(c->s);
	assert_string_equal(get_file(c->outside, "secret"), "secret");
	close(c->share);
	close(c->ro);
	close(c->outside);
	assert_int_equal(fs_remove_tree(AT_FDCWD, c->base, &err), 0);
	free(c->msg);
	free(c->ans);
	free(c);
}

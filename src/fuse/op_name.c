/* SPDX-License-Identifier: Apache-2.0 */
/* Names: looking up, making and removing them; what an entry looks like to the guest. */
#include "fuse/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

/* How long the guest may believe a name and its attributes: long enough to spare most round trips
 * of a compiler or of git, short enough that edits on the host show up at once for a human. */
#define ENTRY_VALID_S     1u
#define NEGATIVE_VALID_NS 500000000u

#define OVERFLOW_ID 65534u

void attr_fill(struct fuse_server *s, const struct statx *st, struct fuse_attr *a)
{
	*a = (struct fuse_attr){
		.ino = inode_number(s, host_dev(st), st->stx_ino),
		.size = st->stx_size,
		.blocks = st->stx_blocks,
		.atime = (uint64_t)st->stx_atime.tv_sec,
		.mtime = (uint64_t)st->stx_mtime.tv_sec,
		.ctime = (uint64_t)st->stx_ctime.tv_sec,
		.atimensec = st->stx_atime.tv_nsec,
		.mtimensec = st->stx_mtime.tv_nsec,
		.ctimensec = st->stx_ctime.tv_nsec,
		/* No setuid, setgid; and no device number, so that a device node on the host
		 * opens nothing in the guest. */
		.mode = st->stx_mode & (S_IFMT | 01777),
		.nlink = st->stx_nlink,
		.uid = st->stx_uid == s->uid ? s->guest_uid : OVERFLOW_ID,
		.gid = st->stx_gid == s->gid ? s->guest_gid : OVERFLOW_ID,
		.blksize = st->stx_blksize,
	};
}

void entry_fill(
	struct fuse_server *s, struct inode *n, const struct statx *st, struct fuse_entry_out *e)
{
	*e = (struct fuse_entry_out){
		.nodeid = inode_id(n), .entry_valid = ENTRY_VALID_S, .attr_valid = ENTRY_VALID_S};
	attr_fill(s, st, &e->attr);
}

int reply_entry(struct req *r, struct inode *n, const struct statx *st)
{
	struct fuse_entry_out e;

	entry_fill(r->s, n, st, &e);
	n->nlookup++;
	return reply_put(r, &e, sizeof(e));
}

int node_lookup(struct fuse_server *s, struct inode *parent, const char *name, struct statx *st,
	struct inode **ret)
{
	int dir = inode_fd(s, parent);
	int r;

	if (dir < 0)
		return dir;
	r = host_stat_below(dir, parent->dev, name, st);
	if (r < 0)
		return r;
	return inode_get(s, parent->export, parent, name, st, ret);
}

static int root_lookup(struct req *r, const char *name)
{
	unsigned n = exports_count(r->s);
	struct inode *node;
	struct statx st;

	for (unsigned i = 0; i < n; i++) {
		int err;

		if (strcmp(r->s->exports[i].name, name) != 0)
			continue;
		err = inode_get_export(r->s, i, &st, &node);
		return err < 0 ? err : reply_entry(r, node, &st);
	}
	return -ENOENT; /* not cached: an export may be added at any moment */
}

int op_lookup(struct req *r)
{
	struct fuse_entry_out none = {.entry_valid_nsec = NEGATIVE_VALID_NS};
	struct inode *n;
	struct statx st;
	const char *name;
	int err;

	if ((err = req_name(r, &name)) < 0 || (err = req_end(r)) < 0)
		return err;
	if (r->node->index == NODE_ROOT)
		return root_lookup(r, name);
	err = node_lookup(r->s, r->node, name, &st, &n);
	if (err == -ENOENT)
		return reply_put(r, &none, sizeof(none));
	return err < 0 ? err : reply_entry(r, n, &st);
}

int op_forget(struct req *r)
{
	uint64_t nlookup = rd_le64(&r->args);

	if (rd_done(&r->args))
		inode_forget(r->s, r->node, nlookup);
	return 0;
}

int op_batch_forget(struct req *r)
{
	uint32_t count = rd_le32(&r->args);

	rd_le32(&r->args);
	for (uint32_t i = 0; i < count && rd_left(&r->args) >= 16; i++) {
		uint64_t id = rd_le64(&r->args), nlookup = rd_le64(&r->args);
		struct inode *n = inode_by_id(r->s, id);

		if (n)
			inode_forget(r->s, n, nlookup);
	}
	return 0;
}

/* --- making --- */

/* The process may have a umask; the guest has applied its own already. */
static int fix_mode(struct req *r, struct inode *n, mode_t want, struct statx *st)
{
	if ((st->stx_mode & 01777) == (want & 01777))
		return 0;
	if (node_chmod(r->s, n, want) < 0)
		return 0; /* it exists; a stricter mode is no reason to hide that */
	return inode_stat(r->s, n, st);
}

/* The answer to an operation that made @name. @mode 0: as it is. */
static int made(struct req *r, const char *name, mode_t mode)
{
	struct inode *n;
	struct statx st;
	int err = node_lookup(r->s, r->node, name, &st, &n);

	if (err < 0)
		return err;
	if (mode && (err = fix_mode(r, n, mode, &st)) < 0) {
		inode_gc(r->s, n);
		return err;
	}
	return reply_entry(r, n, &st);
}

int op_mknod(struct req *r)
{
	mode_t mode = rd_le32(&r->args);
	const char *name;
	int dir, err;

	rd_bytes(&r->args, sizeof(struct fuse_mknod_in) - 4);
	if ((err = req_name(r, &name)) < 0 || (err = req_end(r)) < 0)
		return err;
	if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode))
		return -EPERM;
	dir = inode_fd(r->s, r->node);
	if (dir < 0)
		return dir;
	mode &= S_IFMT | 01777;
	if (mknodat(dir, name, mode, 0) < 0)
		return host_err(errno);
	return made(r, name, mode);
}

int op_mkdir(struct req *r)
{
	mode_t mode = rd_le32(&r->args);
	const char *name;
	int dir, err;

	rd_le32(&r->args);
	if ((err = req_name(r, &name)) < 0 || (err = req_end(r)) < 0)
		return err;
	dir = inode_fd(r->s, r->node);
	if (dir < 0)
		return dir;
	mode &= 01777;
	if (mkdirat(dir, name, mode) < 0)
		return host_err(errno);
	return made(r, name, mode | S_IFDIR);
}

int op_symlink(struct req *r)
{
	const char *name, *target;
	int dir, err;

	if ((err = req_name(r, &name)) < 0 || (err = req_string(r, &target, PATH_MAX - 1)) < 0 ||
		(err = req_end(r)) < 0)
		return err;
	dir = inode_fd(r->s, r->node);
	if (dir < 0)
		return dir;
	if (symlinkat(target, dir, name) < 0)
		return host_err(errno);
	return made(r, name, 0);
}

/* --- removing --- */

struct inode *victim_find(struct req *r, struct inode *parent, int dir, const char *name)
{
	struct fuse_server *s = r->s;
	struct inode *n;
	struct statx st;
	_close_ int fd = -1;

	if (host_stat(dir, name, &st) < 0)
		return NULL;
	n = inode_find(s, parent->export, &st);
	if (!n || n->export_root || !inode_named(n, parent, name))
		return NULL;
	if (n->fd < 0) {
		fd = host_open(dir, name, O_PATH, 0);
		if (fd >= 0 && host_stat(fd, "", &st) == 0 && inode_same(n, &st))
			inode_hold(s, n, steal_fd(&fd));
	}
	n->used_op = s->op;
	return n;
}

void victim_gone(struct req *r, struct inode *n)
{
	if (!n)
		return;
	inode_detach(r->s, n);
	inode_gc(r->s, n);
}

static int remove_name(struct req *r, int flags)
{
	struct inode *victim;
	const char *name;
	int dir, err;

	if ((err = req_name(r, &name)) < 0 || (err = req_end(r)) < 0)
		return err;
	dir = inode_fd(r->s, r->node);
	if (dir < 0)
		return dir;
	victim = victim_find(r, r->node, dir, name);
	if (unlinkat(dir, name, flags) < 0)
		return host_err(errno);
	victim_gone(r, victim);
	return 0;
}

int op_unlink(struct req *r)
{
	return remove_name(r, 0);
}

int op_rmdir(struct req *r)
{
	return remove_name(r, AT_REMOVEDIR);
}

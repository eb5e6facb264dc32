/* SPDX-License-Identifier: Apache-2.0 */
/* RENAME, RENAME2, LINK. */
#include "fuse/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The inode that lives at @name in @parent, by identity (whatever name it is remembered by). */
static struct inode *known_at(
	struct fuse_server *s, const struct inode *parent, int dir, const char *name)
{
	struct statx st;

	if (host_stat(dir, name, &st) < 0)
		return NULL;
	return inode_find(s, parent->export, &st);
}

/* The other directory of a request: known, a directory, of the same export. */
static int other_node(struct req *r, uint64_t id, bool dir, struct inode **ret)
{
	struct inode *n = inode_by_id(r->s, id);

	if (!n)
		return -ESTALE;
	if (n->index == NODE_ROOT || n->export != r->node->export)
		return -EXDEV;
	if (dir && n->type != S_IFDIR)
		return -ENOTDIR;
	*ret = n;
	return 0;
}

static int move(struct req *r, struct inode *to, unsigned flags)
{
	struct fuse_server *s = r->s;
	struct inode *from = r->node, *src, *dst, *victim = NULL;
	const char *name, *newname;
	int dir, newdir, err;

	if ((err = req_name(r, &name)) < 0 || (err = req_name(r, &newname)) < 0 ||
		(err = req_end(r)) < 0)
		return err;
	if ((dir = inode_fd(s, from)) < 0)
		return dir;
	if ((newdir = inode_fd(s, to)) < 0)
		return newdir;
	src = known_at(s, from, dir, name);
	dst = known_at(s, to, newdir, newname);
	if (dst && !(flags & RENAME_EXCHANGE))
		victim = victim_find(r, to, newdir, newname);
	if (renameat2(dir, name, newdir, newname, flags) < 0)
		return host_err(errno);
	if (src && src == dst)
		return 0; /* two links of one file: nothing happened */
	/* Keep what is touched alive until both names are settled. */
	if (src)
		inode_ref(src);
	if (dst)
		inode_ref(dst);
	if (victim)
		inode_detach(s, victim);
	if (dst && (flags & RENAME_EXCHANGE))
		inode_detach(s, dst); /* else its parent could be its own child for a moment */
	if (src)
		inode_rename(s, src, to, newname);
	if (dst && (flags & RENAME_EXCHANGE))
		inode_rename(s, dst, from, name);
	if (src)
		inode_unref(s, src);
	if (dst)
		inode_unref(s, dst);
	return 0;
}

int op_rename(struct req *r)
{
	uint64_t newdir = rd_le64(&r->args);
	struct inode *to;
	int err = other_node(r, newdir, true, &to);

	return err < 0 ? err : move(r, to, 0);
}

int op_rename2(struct req *r)
{
	uint64_t newdir = rd_le64(&r->args);
	uint32_t flags = rd_le32(&r->args);
	struct inode *to;
	int err;

	rd_le32(&r->args);
	/* WHITEOUT makes a device node. */
	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	err = other_node(r, newdir, true, &to);
	return err < 0 ? err : move(r, to, flags);
}

/* Link a file that has no name any more, or never had one (O_TMPFILE). */
static int link_nameless(struct fuse_server *s, struct inode *n, int newdir, const char *name)
{
	int fd = handle_any(s, n, false);

	if (fd < 0)
		fd = inode_fd(s, n);
	if (fd < 0)
		return fd;
	return linkat(fd, "", newdir, name, AT_EMPTY_PATH) < 0 ? host_err(errno) : 0;
}

static int link_named(struct fuse_server *s, struct inode *n, int newdir, const char *name)
{
	struct statx st;
	int dir = inode_fd(s, inode_at(s, n->parent)), err;

	if (dir < 0)
		return dir;
	err = host_stat(dir, n->name, &st);
	if (err < 0)
		return err == -ENOENT ? -ESTALE : err;
	if (!inode_same(n, &st))
		return -ESTALE;
	return linkat(dir, n->name, newdir, name, 0) < 0 ? host_err(errno) : 0;
}

int op_link(struct req *r)
{
	uint64_t id = rd_le64(&r->args);
	struct inode *old, *n;
	struct statx st;
	const char *name;
	int newdir, err;

	if ((err = req_name(r, &name)) < 0 || (err = req_end(r)) < 0 ||
		(err = other_node(r, id, false, &old)) < 0)
		return err;
	if (old->type == S_IFDIR)
		return -EPERM;
	if ((newdir = inode_fd(r->s, r->node)) < 0)
		return newdir;
	if (old->parent == NODE_NONE)
		err = link_nameless(r->s, old, newdir, name);
	else
		err = link_named(r->s, old, newdir, name);
	if (err < 0)
		return err;
	err = node_lookup(r->s, r->node, name, &st, &n);
	if (err < 0)
		return err;
	if (n != old) { /* the host moved something in between; the guest looks again */
		inode_gc(r->s, n);
		return -ESTALE;
	}
	return reply_entry(r, n, &st);
}

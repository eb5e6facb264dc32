/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors of inodes: a bounded cache, reopening, and every way to look at a file. */
#include "fuse/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

/* --- lists: first is the most recently used --- */

static void list_remove(struct fuse_server *s, struct inode *n)
{
	if (n->list == LRU_NONE)
		return;
	if (n->lru_prev)
		inode_at(s, n->lru_prev)->lru_next = n->lru_next;
	else
		s->lru[n->list].first = n->lru_next;
	if (n->lru_next)
		inode_at(s, n->lru_next)->lru_prev = n->lru_prev;
	else
		s->lru[n->list].last = n->lru_prev;
	s->lru[n->list].n--;
	n->list = LRU_NONE;
}

static void list_add(struct fuse_server *s, struct inode *n, enum lru_list list)
{
	n->list = (uint8_t)list;
	n->lru_prev = 0;
	n->lru_next = s->lru[list].first;
	if (n->lru_next)
		inode_at(s, n->lru_next)->lru_prev = n->index;
	else
		s->lru[list].last = n->index;
	s->lru[list].first = n->index;
	s->lru[list].n++;
}

void inode_drop_fd(struct fuse_server *s, struct inode *n)
{
	bool removed = n->list == LRU_PINNED;

	if (n->fd < 0)
		return;
	list_remove(s, n);
	if (removed)
		closer_close(s->closer, n->fd);
	else
		close(n->fd);
	n->fd = -1;
	s->n_fds--;
}

void inode_pin(struct fuse_server *s, struct inode *n)
{
	if (n->list != LRU_NAMED)
		return;
	list_remove(s, n);
	/* The oldest nameless file is lost then: ESTALE, except through its open handles. */
	while (s->lru[LRU_PINNED].n >= s->max_pinned)
		inode_drop_fd(s, inode_at(s, s->lru[LRU_PINNED].last));
	list_add(s, n, LRU_PINNED);
}

void inode_unpin(struct fuse_server *s, struct inode *n)
{
	if (n->list != LRU_PINNED)
		return;
	list_remove(s, n);
	list_add(s, n, LRU_NAMED);
}

static bool evict_one(struct fuse_server *s)
{
	uint32_t last = s->lru[LRU_NAMED].last;
	struct inode *n;

	if (!last)
		return false;
	n = inode_at(s, last);
	if (n->used_op == s->op)
		return false; /* then all of them are in use by this request */
	inode_drop_fd(s, n);
	return true;
}

int fds_room(struct fuse_server *s)
{
	while (s->n_fds >= s->max_fds)
		if (!evict_one(s))
			return -ENFILE;
	return 0;
}

void inode_hold(struct fuse_server *s, struct inode *n, int fd)
{
	n->used_op = s->op;
	if (n->fd >= 0 || n->export_root || fds_room(s) < 0) {
		close(fd);
		return;
	}
	n->fd = fd;
	s->n_fds++;
	list_add(s, n, LRU_NAMED);
	if (n->parent == NODE_NONE)
		inode_pin(s, n);
}

/* --- opening --- */

/* The path of @n beneath *base, written at the end of @buf; *base is an export's directory or a
 * nameless ancestor that is still held. */
static int path_of(struct fuse_server *s, struct inode *n, char buf[static PATH_MAX],
	const char **ret, int *base)
{
	size_t at = PATH_MAX - 1;

	buf[at] = '\0';
	while (n->parent != NODE_NONE) {
		size_t len = strlen(n->name);

		if (len + 1 > at)
			return -ENAMETOOLONG;
		if (buf[at])
			buf[--at] = '/';
		at -= len;
		memcpy(buf + at, n->name, len);
		n = inode_at(s, n->parent);
	}
	*base = n->export_root ? s->exports[n->export].dirfd : n->fd;
	*ret = buf + at;
	return *base < 0 ? -ESTALE : 0;
}

/* A fresh O_PATH descriptor of @n by its remembered place, verified. */
static int reopen(struct fuse_server *s, struct inode *n)
{
	char buf[PATH_MAX];
	const char *path;
	_close_ int fd = -1;
	struct statx st;
	int base, r;

	if (n->parent == NODE_NONE)
		return -ESTALE;
	r = path_of(s, n, buf, &path, &base);
	if (r < 0)
		return r;
	fd = host_open(base, path, O_PATH, 0);
	if (fd == -ENOENT || fd == -ENOTDIR)
		return -ESTALE;
	if (fd < 0)
		return fd;
	r = host_stat(fd, "", &st);
	if (r < 0)
		return r;
	return inode_same(n, &st) ? steal_fd(&fd) : -ESTALE;
}

int inode_fd(struct fuse_server *s, struct inode *n)
{
	int fd, r;

	n->used_op = s->op;
	if (n->index == NODE_ROOT)
		return -EACCES;
	if (n->export_root)
		return s->exports[n->export].dirfd;
	if (n->fd >= 0) {
		enum lru_list list = n->list;

		list_remove(s, n);
		list_add(s, n, list);
		return n->fd;
	}
	r = fds_room(s);
	if (r < 0)
		return r;
	fd = reopen(s, n);
	if (fd < 0)
		return fd;
	inode_hold(s, n, fd);
	return n->fd;
}

int inode_path_fd(struct fuse_server *s, struct inode *n, int *tmp)
{
	struct statx st;
	_close_ int fd = -1;
	int dir, r;

	if (n->type == S_IFDIR || n->fd >= 0)
		return inode_fd(s, n);
	if (n->parent == NODE_NONE)
		return -ESTALE;
	dir = inode_fd(s, inode_at(s, n->parent));
	if (dir < 0)
		return dir;
	fd = host_open(dir, n->name, O_PATH, 0);
	if (fd < 0)
		return fd == -ENOENT ? -ESTALE : fd;
	r = host_stat(fd, "", &st);
	if (r < 0)
		return r;
	if (!inode_same(n, &st))
		return -ESTALE;
	*tmp = steal_fd(&fd);
	return *tmp;
}

static int stat_by_name(struct fuse_server *s, struct inode *n, struct statx *ret)
{
	int dir, r;

	if (n->parent == NODE_NONE)
		return -ESTALE;
	dir = inode_fd(s, inode_at(s, n->parent));
	if (dir < 0)
		return dir;
	r = host_stat(dir, n->name, ret);
	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	return inode_same(n, ret) ? 0 : -ESTALE;
}

int inode_stat(struct fuse_server *s, struct inode *n, struct statx *ret)
{
	int fd;

	if (n->index == NODE_ROOT) {
		root_stat(s, ret);
		return 0;
	}
	fd = handle_any(s, n, false);
	if (fd < 0 && (n->fd >= 0 || n->export_root))
		fd = inode_fd(s, n);
	if (fd >= 0)
		return host_stat(fd, "", ret);
	return stat_by_name(s, n, ret);
}

/* A file that is opened for writing loses setuid and setgid, whoever runs this process: the guest
 * must not choose what such a program does. */
static int strip_ids(int fd, const struct statx *st)
{
	if (!(st->stx_mode & (S_ISUID | S_ISGID)))
		return 0;
	return fchmod(fd, st->stx_mode & 01777) < 0 ? host_err(errno) : 0;
}

int inode_open(struct fuse_server *s, struct inode *n, int flags, struct statx *st)
{
	_close_ int fd = -1;
	int dir, r;

	if (n->type != S_IFREG)
		return n->type == S_IFDIR ? -EISDIR : -EACCES;
	if (n->parent == NODE_NONE) {
		fd = handle_dup(s, n, flags & O_ACCMODE);
		if (fd < 0)
			return host_err(errno);
		r = host_stat(fd, "", st);
		return r < 0 ? r : steal_fd(&fd);
	}
	/* Look before opening: the name may have become a device, and opening one can act. */
	r = stat_by_name(s, n, st);
	if (r < 0)
		return r;
	dir = inode_fd(s, inode_at(s, n->parent));
	if (dir < 0)
		return dir;
	fd = host_open(dir, n->name, flags & O_ACCMODE, 0);
	if (fd < 0)
		return fd == -ENOENT || fd == -ENXIO ? -ESTALE : fd;
	r = host_stat(fd, "", st);
	if (r < 0)
		return r;
	if (!inode_same(n, st))
		return -ESTALE;
	if ((flags & O_ACCMODE) != O_RDONLY) {
		r = strip_ids(fd, st);
		if (r < 0)
			return r;
	}
	return steal_fd(&fd);
}

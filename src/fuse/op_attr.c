/* SPDX-License-Identifier: Apache-2.0 */
/* Attributes: GETATTR, SETATTR, READLINK, STATFS, SYNCFS. */
#include "fuse/server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"

#define ATTR_VALID_S 1u
#define NSEC         1000000000u

void root_stat(struct fuse_server *s, struct statx *st)
{
	*st = (struct statx){.stx_mask = STATX_BASIC_STATS,
		.stx_mode = S_IFDIR | 0555,
		.stx_nlink = 2 + exports_count(s),
		.stx_uid = s->uid,
		.stx_gid = s->gid,
		.stx_blksize = 4096,
		/* No host file has this number: devices mark the top byte with 0 … DEVS_MAX. */
		.stx_ino = 0xff00000000000001ull};
}

static int reply_attr(struct req *r)
{
	struct fuse_attr_out o = {.attr_valid = ATTR_VALID_S};
	struct statx st;
	int err = inode_stat(r->s, r->node, &st);

	if (err < 0)
		return err;
	attr_fill(r->s, &st, &o.attr);
	return reply_put(r, &o, sizeof(o));
}

int op_getattr(struct req *r)
{
	/* The handle that may be named here is found anyway, through the inode. */
	rd_bytes(&r->args, sizeof(struct fuse_getattr_in));
	return req_end(r) < 0 ? -EINVAL : reply_attr(r);
}

/* --- SETATTR --- */

/* Kernels before 6.6 cannot change the mode through an O_PATH descriptor: open the file. A file
 * that its owner may neither read nor write stays as it is there. */
static int chmod_opened(struct fuse_server *s, struct inode *n, mode_t mode)
{
	_close_ int fd = -1;
	struct statx st;
	int dir;

	if (n->type == S_IFDIR) {
		if ((dir = inode_fd(s, n)) < 0)
			return dir;
		fd = host_open(dir, ".", O_RDONLY | O_DIRECTORY, 0);
	} else if (n->type == S_IFREG) {
		fd = inode_open(s, n, O_RDONLY, &st);
		if (fd == -EACCES)
			fd = inode_open(s, n, O_WRONLY, &st);
	} else {
		return -EOPNOTSUPP;
	}
	if (fd < 0)
		return fd;
	return fchmod(fd, mode) < 0 ? host_err(errno) : 0;
}

int node_chmod(struct fuse_server *s, struct inode *n, mode_t mode)
{
	_close_ int tmp = -1;
	int fd = handle_any(s, n, false), r;

	if (n->type == S_IFLNK)
		return -EOPNOTSUPP;
	mode &= 01777;
	if (fd >= 0)
		return fchmod(fd, mode) < 0 ? host_err(errno) : 0;
	fd = inode_path_fd(s, n, &tmp);
	if (fd < 0)
		return fd;
	r = host_chmod_path(fd, mode);
	return r == -ENOSYS ? chmod_opened(s, n, mode) : r;
}

/* Everything on the share belongs to one user: "root" and "agent" are the same owner, so giving a
 * file from one to the other is done by doing nothing. */
static int set_owner(struct req *r, const struct fuse_setattr_in *in)
{
	struct fuse_server *s = r->s;
	struct statx st;
	int err = inode_stat(s, r->node, &st);

	if (err < 0)
		return err;
	if ((in->valid & FATTR_UID) && in->uid != UINT32_MAX &&
		(st.stx_uid != s->uid || (in->uid != 0 && in->uid != s->guest_uid)))
		return -EPERM;
	if ((in->valid & FATTR_GID) && in->gid != UINT32_MAX &&
		(st.stx_gid != s->gid || (in->gid != 0 && in->gid != s->guest_gid)))
		return -EPERM;
	return 0;
}

static int set_size(struct req *r, const struct fuse_setattr_in *in)
{
	_close_ int tmp = -1;
	struct handle *h = NULL;
	struct statx st;
	int fd;

	if (in->size > INT64_MAX)
		return -EFBIG;
	if (in->valid & FATTR_FH) {
		h = handle_get(r->s, r->node, in->fh, false);
		if (!h || !h->writable)
			return -EBADF;
	}
	fd = h ? h->fd : handle_any(r->s, r->node, true);
	if (fd < 0) {
		fd = tmp = inode_open(r->s, r->node, O_WRONLY, &st);
		if (fd < 0)
			return fd;
	}
	r->s->dirty[r->node->export] = true;
	return ftruncate(fd, (off_t)in->size) < 0 ? host_err(errno) : 0;
}

static struct timespec when(uint32_t valid, uint32_t set, uint32_t now, uint64_t s, uint32_t ns)
{
	if (!(valid & set))
		return (struct timespec){.tv_nsec = UTIME_OMIT};
	if (valid & now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	return (struct timespec){.tv_sec = (time_t)s, .tv_nsec = (long)ns};
}

static int set_times(struct req *r, const struct fuse_setattr_in *in)
{
	const struct timespec t[2] = {
		when(in->valid, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
		when(in->valid, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec)};
	_close_ int tmp = -1;
	int fd;

	/* UTIME_NOW and UTIME_OMIT are not for the guest to write. */
	if (t[0].tv_nsec != UTIME_OMIT && in->atimensec >= NSEC && !(in->valid & FATTR_ATIME_NOW))
		return -EINVAL;
	if (t[1].tv_nsec != UTIME_OMIT && in->mtimensec >= NSEC && !(in->valid & FATTR_MTIME_NOW))
		return -EINVAL;
	fd = handle_any(r->s, r->node, false);
	if (fd >= 0)
		return futimens(fd, t) < 0 ? host_err(errno) : 0;
	fd = inode_path_fd(r->s, r->node, &tmp);
	if (fd < 0)
		return fd;
	return utimensat(fd, "", t, AT_EMPTY_PATH) < 0 ? host_err(errno) : 0;
}

int op_setattr(struct req *r)
{
	struct fuse_setattr_in in;
	int err;

	rd_copy(&r->args, &in, sizeof(in));
	if ((err = req_end(r)) < 0)
		return err;
	if (in.valid & (FATTR_UID | FATTR_GID) && (err = set_owner(r, &in)) < 0)
		return err;
	if (in.valid & FATTR_MODE && (err = node_chmod(r->s, r->node, in.mode)) < 0)
		return err;
	if (in.valid & FATTR_SIZE && (err = set_size(r, &in)) < 0)
		return err;
	if (in.valid & (FATTR_ATIME | FATTR_MTIME) && (err = set_times(r, &in)) < 0)
		return err;
	return reply_attr(r);
}

/* --- the rest --- */

int op_readlink(struct req *r)
{
	char target[PATH_MAX];
	_close_ int tmp = -1;
	ssize_t n;
	int fd;

	if (req_end(r) < 0 || r->node->type != S_IFLNK)
		return -EINVAL;
	fd = inode_path_fd(r->s, r->node, &tmp);
	if (fd < 0)
		return fd;
	n = readlinkat(fd, "", target, sizeof(target));
	if (n < 0)
		return host_err(errno);
	return reply_put(r, target, (size_t)n);
}

/* A descriptor on the file system that holds @n. */
static int fs_fd(struct fuse_server *s, struct inode *n)
{
	if (n->type != S_IFDIR && n->fd < 0 && n->parent != NODE_NONE)
		n = inode_at(s, n->parent);
	return inode_fd(s, n);
}

int op_statfs(struct req *r)
{
	struct fuse_statfs_out o = {.st = {.bsize = 4096, .frsize = 4096, .namelen = NAME_MAX_}};
	struct statfs st;
	int fd;

	if (req_end(r) < 0)
		return -EINVAL;
	if (r->node->index == NODE_ROOT)
		return reply_put(r, &o, sizeof(o));
	fd = fs_fd(r->s, r->node);
	if (fd < 0)
		return fd;
	if (fstatfs(fd, &st) < 0)
		return host_err(errno);
	o.st.blocks = st.f_blocks;
	o.st.bfree = st.f_bfree;
	o.st.bavail = st.f_bavail;
	o.st.files = st.f_files;
	o.st.ffree = st.f_ffree;
	o.st.bsize = (uint32_t)st.f_bsize;
	o.st.namelen = (uint32_t)st.f_namelen;
	o.st.frsize = (uint32_t)(st.f_frsize ? st.f_frsize : st.f_bsize);
	return reply_put(r, &o, sizeof(o));
}

/* Flushes whole host file systems, so only those that the guest has written to since the last time:
 * an idle guest's umount must not wait for what other programs wrote. */
int op_syncfs(struct req *r)
{
	unsigned n = exports_count(r->s);
	int err = 0;

	rd_le64(&r->args);
	if (req_end(r) < 0)
		return -EINVAL;
	for (unsigned i = 0; i < n; i++) {
		_close_ int fd = -1;

		if (!r->s->dirty[i])
			continue;
		fd = host_open(r->s->exports[i].dirfd, ".", O_RDONLY | O_DIRECTORY, 0);
		if (fd < 0 || syncfs(fd) < 0)
			err = fd < 0 ? fd : host_err(errno);
		else
			r->s->dirty[i] = false;
	}
	return err;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* OPEN, CREATE, TMPFILE, RELEASE. */
#include "fuse/server.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"

/* A change this fresh may be followed by another one with the same time stamp. */
#define RACY_S 1

/* Whether the guest's page cache may survive this open: nothing has changed since an earlier open
 * looked. The change time also moves when a program forges the modification time. */
static uint32_t open_flags(struct inode *n, const struct statx *st)
{
	bool same = n->seen_sec == st->stx_ctime.tv_sec && n->seen_nsec == st->stx_ctime.tv_nsec &&
		    n->seen_size == st->stx_size;
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (st->stx_ctime.tv_sec + RACY_S >= now.tv_sec) {
		n->seen_sec = 0;
		n->seen_nsec = UINT32_MAX; /* matches nothing */
		return 0;
	}
	n->seen_sec = st->stx_ctime.tv_sec;
	n->seen_nsec = st->stx_ctime.tv_nsec;
	n->seen_size = st->stx_size;
	return same ? FOPEN_KEEP_CACHE : 0;
}

static int reply_open(struct req *r, struct handle *h, uint32_t flags)
{
	struct fuse_open_out o = {.fh = handle_id(r->s, h), .open_flags = flags};

	return reply_put(r, &o, sizeof(o));
}

/* Of the guest's flags only the access mode and O_TRUNC matter here. O_APPEND comes with each
 * WRITE, O_SYNC arrives as FSYNC, O_EXCL and O_CREAT select the operation; the rest (O_DIRECT,
 * O_NOATIME, O_PATH, O_ASYNC …) is not for the host. */
static int access_mode(uint32_t flags)
{
	int mode = (int)(flags & O_ACCMODE);

	if (mode == O_ACCMODE)
		return -EINVAL;
	return mode == O_RDONLY && (flags & O_TRUNC) ? O_RDWR : mode;
}

/* Open a known file; on success a descriptor, verified and truncated if asked. */
static int open_known(struct req *r, struct inode *n, uint32_t flags, struct statx *st)
{
	_close_ int fd = -1;
	int mode = access_mode(flags);

	if (mode < 0)
		return mode;
	if (mode != O_RDONLY && read_only(r, n))
		return -EROFS;
	fd = inode_open(r->s, n, mode, st);
	if (fd < 0)
		return fd;
	if (flags & O_TRUNC) {
		/* Only now: O_TRUNC in open would act before the file is verified. */
		if (ftruncate(fd, 0) < 0)
			return host_err(errno);
		r->s->dirty[n->export] = true;
		st->stx_size = 0;
	}
	return steal_fd(&fd);
}

int op_open(struct req *r)
{
	uint32_t flags = rd_le32(&r->args);
	struct handle *h;
	struct statx st;
	int fd, err;

	rd_le32(&r->args);
	if ((err = req_end(r)) < 0)
		return err;
	if (r->node->parent == NODE_NONE)
		err = handle_room(r->s);
	else
		err = handle_room_in(r->s, inode_at(r->s, r->node->parent));
	if (err < 0)
		return err;
	fd = open_known(r, r->node, flags, &st);
	if (fd < 0)
		return fd;
	h = handle_new(r->s, r->node, fd, false, access_mode(flags) != O_RDONLY);
	return reply_open(r, h, flags & O_TRUNC ? 0 : open_flags(r->node, &st));
}

/* A new file's descriptor becomes inode, handle and answer. Takes @fd. */
static int created(struct req *r, const char *name, int fd_, mode_t mode, bool writable)
{
	struct fuse_server *s = r->s;
	_close_ int fd = fd_;
	struct inode *n;
	struct statx st;
	int err = host_stat(fd, "", &st);

	if (err < 0)
		return err;
	if ((st.stx_mode & 07777) != mode && fchmod(fd, mode) == 0)
		st.stx_mode = (uint16_t)(S_IFREG | mode);
	err = inode_get(s, r->node->export, r->node, name, &st, &n);
	if (err < 0)
		return err;
	s->dirty[n->export] = true;
	err = reply_entry(r, n, &st);
	return err < 0 ? err : reply_open(r, handle_new(s, n, steal_fd(&fd), false, writable), 0);
}

/* CREATE found the name taken, which the guest's kernel did not expect. */
static int create_existing(struct req *r, const char *name, uint32_t flags)
{
	struct inode *n;
	struct statx st;
	int fd, err = node_lookup(r->s, r->node, name, &st, &n);

	if (err < 0)
		return err == -ENOENT ? -ESTALE : err;
	/* Links and special files are the guest's to resolve: it has to look again. */
	fd = n->type == S_IFREG ? open_known(r, n, flags, &st) : -ESTALE;
	if (fd < 0) {
		inode_gc(r->s, n);
		return fd;
	}
	err = reply_entry(r, n, &st);
	return err < 0 ? err
		       : reply_open(r,
				 handle_new(r->s, n, fd, false, access_mode(flags) != O_RDONLY), 0);
}

int op_create(struct req *r)
{
	uint32_t flags = rd_le32(&r->args);
	mode_t mode = rd_le32(&r->args) & 01777;
	const char *name;
	int dir, fd, err;

	rd_le64(&r->args); /* umask, open flags */
	if ((err = req_name(r, &name)) < 0 || (err = req_end(r)) < 0)
		return err;
	if (access_mode(flags) < 0)
		return -EINVAL;
	if ((dir = handle_room_in(r->s, r->node)) < 0)
		return dir;
	fd = host_open(dir, name, access_mode(flags) | O_CREAT | O_EXCL, mode);
	if (fd == -EEXIST && !(flags & O_EXCL))
		return create_existing(r, name, flags);
	if (fd < 0)
		return fd;
	return created(r, name, fd, mode, access_mode(flags) != O_RDONLY);
}

int op_tmpfile(struct req *r)
{
	uint32_t flags = rd_le32(&r->args);
	mode_t mode = rd_le32(&r->args) & 01777;
	const char *name; /* "/": of no meaning */
	int dir, fd, err;

	rd_le64(&r->args);
	if ((err = req_string(r, &name, NAME_MAX_)) < 0 || (err = req_end(r)) < 0)
		return err;
	if (access_mode(flags) <= O_RDONLY)
		return -EINVAL;
	if ((dir = handle_room_in(r->s, r->node)) < 0)
		return dir;
	/* Without O_EXCL the program means to name it later. If that cannot work, say so now:
	 * programs have another way for file systems without O_TMPFILE. */
	if (!(flags & O_EXCL) && !host_links_nameless(dir))
		return -EOPNOTSUPP;
	fd = host_open(dir, ".", access_mode(flags) | O_TMPFILE | (int)(flags & O_EXCL), mode);
	if (fd < 0)
		return fd == -EISDIR ? -EOPNOTSUPP : fd;
	return created(r, NULL, fd, mode, true);
}

int op_release(struct req *r)
{
	uint64_t fh = rd_le64(&r->args);
	struct handle *h;

	rd_bytes(&r->args, sizeof(struct fuse_release_in) - 8);
	if (req_end(r) < 0)
		return -EINVAL;
	h = handle_get(r->s, r->node, fh, false);
	if (!h)
		return -EBADF;
	handle_free(r->s, h);
	return 0;
}

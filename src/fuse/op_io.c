/* SPDX-License-Identifier: Apache-2.0 */
/* Operations on open files: READ, WRITE, FSYNC, FALLOCATE, LSEEK, COPY_FILE_RANGE. */
#include "fuse/server.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/mem.h"

/* One COPY_FILE_RANGE; the caller asks again for the rest. Bounds the time away from other requests
 * on file systems that really copy. */
#define COPY_MAX (64u << 20)

/* Directly from the file into guest memory. */
int op_read(struct req *r)
{
	struct iovec v[FUSE_IOV_MAX];
	uint64_t fh = rd_le64(&r->args), off = rd_le64(&r->args);
	size_t size = rd_le32(&r->args);
	struct handle *h;
	ssize_t got;
	int n;

	rd_bytes(&r->args, sizeof(struct fuse_read_in) - 20);
	if (req_end(r) < 0 || off > INT64_MAX)
		return -EINVAL;
	h = handle_get(r->s, r->node, fh, false);
	if (!h)
		return -EBADF;
	size = MIN(MIN(size, r->room), FUSE_WRITE_MAX);
	n = iov_slice(r->in, r->n_in, sizeof(struct fuse_out_header), size, v);
	if (n < 0)
		return n;
	got = preadv(h->fd, v, n, (off_t)off);
	if (got < 0)
		return host_err(errno);
	r->written = (size_t)got;
	return 0;
}

/* Directly from guest memory into the file. Appending is decided per request: a shared mapping's
 * pages are written back through any handle of the file, an appending one included. */
int op_write(struct req *r)
{
	struct fuse_write_out o = {0};
	struct iovec v[FUSE_IOV_MAX];
	uint64_t fh = rd_le64(&r->args), off = rd_le64(&r->args);
	uint32_t size = rd_le32(&r->args), wflags = rd_le32(&r->args), flags;
	const size_t fixed = sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in);
	struct handle *h;
	ssize_t put;
	bool append;
	int n;

	rd_le64(&r->args); /* lock owner */
	flags = rd_le32(&r->args);
	rd_le32(&r->args);
	if (req_end(r) < 0 || off > INT64_MAX || size > FUSE_WRITE_MAX ||
		r->out_len != fixed + size)
		return -EINVAL;
	h = handle_get(r->s, r->node, fh, false);
	if (!h || !h->writable)
		return -EBADF;
	n = iov_slice(r->out, r->n_out, fixed, size, v);
	if (n < 0)
		return n;
	append = (flags & O_APPEND) && !(wflags & FUSE_WRITE_CACHE);
	put = pwritev2(h->fd, v, n, (off_t)off, append ? RWF_APPEND : 0);
	if (put < 0)
		return host_err(errno);
	r->s->dirty[r->node->export] = true;
	o.size = (uint32_t)put;
	return reply_put(r, &o, sizeof(o));
}

int op_fsync(struct req *r)
{
	uint64_t fh = rd_le64(&r->args);
	uint32_t flags = rd_le32(&r->args);
	struct handle *h;

	rd_le32(&r->args);
	if (req_end(r) < 0)
		return -EINVAL;
	h = handle_get(r->s, r->node, fh, false);
	if (!h)
		return -EBADF;
	if ((flags & FUSE_FSYNC_FDATASYNC ? fdatasync(h->fd) : fsync(h->fd)) < 0)
		return host_err(errno);
	return 0;
}

int op_fallocate(struct req *r)
{
	uint64_t fh = rd_le64(&r->args), off = rd_le64(&r->args), len = rd_le64(&r->args);
	uint32_t mode = rd_le32(&r->args);
	struct handle *h;

	rd_le32(&r->args);
	if (req_end(r) < 0 || off > INT64_MAX || len > INT64_MAX)
		return -EINVAL;
	h = handle_get(r->s, r->node, fh, false);
	if (!h || !h->writable)
		return -EBADF;
	switch (mode) {
	case 0:
	case FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_ZERO_RANGE:
	case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
		break;
	default:
		return -EOPNOTSUPP;
	}
	r->s->dirty[r->node->export] = true;
	return fallocate(h->fd, (int)mode, (off_t)off, (off_t)len) < 0 ? host_err(errno) : 0;
}

int op_lseek(struct req *r)
{
	uint64_t fh = rd_le64(&r->args), off = rd_le64(&r->args);
	uint32_t whence = rd_le32(&r->args);
	struct fuse_lseek_out o;
	struct handle *h;
	off_t at;

	rd_le32(&r->args);
	/* The guest's kernel serves the other ones itself; a position is of no use here. */
	if (req_end(r) < 0 || off > INT64_MAX || (whence != SEEK_DATA && whence != SEEK_HOLE))
		return -EINVAL;
	h = handle_get(r->s, r->node, fh, false);
	if (!h)
		return -EBADF;
	at = lseek(h->fd, (off_t)off, (int)whence);
	if (at < 0)
		return host_err(errno);
	o.offset = (uint64_t)at;
	return reply_put(r, &o, sizeof(o));
}

int op_copy(struct req *r)
{
	uint64_t fh_in = rd_le64(&r->args), off_in = rd_le64(&r->args);
	uint64_t node_out = rd_le64(&r->args), fh_out = rd_le64(&r->args);
	uint64_t off_out = rd_le64(&r->args), len = rd_le64(&r->args), flags = rd_le64(&r->args);
	struct fuse_write_out o = {0};
	struct handle *in, *out;
	struct inode *to;
	off_t from_off, to_off;
	ssize_t n;

	if (req_end(r) < 0 || off_in > INT64_MAX || off_out > INT64_MAX || flags != 0)
		return -EINVAL;
	to = inode_by_id(r->s, node_out);
	if (!to)
		return -ESTALE;
	in = handle_get(r->s, r->node, fh_in, false);
	out = handle_get(r->s, to, fh_out, false);
	if (!in || !out || !out->writable)
		return -EBADF;
	from_off = (off_t)off_in;
	to_off = (off_t)off_out;
	n = copy_file_range(in->fd, &from_off, out->fd, &to_off, MIN(len, COPY_MAX), 0);
	if (n < 0)
		return host_err(errno);
	r->s->dirty[to->export] = true;
	o.size = (uint32_t)n;
	return reply_put(r, &o, sizeof(o));
}

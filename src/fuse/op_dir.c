/* SPDX-License-Identifier: Apache-2.0 */
/* Directories: OPENDIR, READDIR, READDIRPLUS, RELEASEDIR, FSYNCDIR.
 *
 * Offsets are the host's d_off cookies, which are stable for one open descriptor. Nothing is kept
 * between requests: as much is read as the reply can take, and what does not fit is read again, by
 * seeking to the last offset that the guest has got. */
#include "fuse/server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

/* What getdents64 writes. */
struct host_dirent {
	uint64_t d_ino;
	int64_t d_off;
	uint16_t d_reclen;
	uint8_t d_type;
	char d_name[];
};
#define HOST_DIRENT_MAX 280u /* longest record: 19 + 256 bytes, aligned */

/* A reply under construction, in the server's reply buffer. */
struct listing {
	struct req *r;
	bool plus;
	size_t len, max;
};

int op_opendir(struct req *r)
{
	struct fuse_open_out o = {0};
	int dir, fd = -1, err;

	rd_le64(&r->args);
	if ((err = req_end(r)) < 0)
		return err;
	if (r->node->index == NODE_ROOT) {
		if ((err = handle_room(r->s)) < 0)
			return err;
	} else {
		if ((dir = handle_room_in(r->s, r->node)) < 0)
			return dir;
		fd = host_open(dir, ".", O_RDONLY | O_DIRECTORY, 0);
		if (fd < 0)
			return fd;
	}
	o.fh = handle_id(r->s, handle_new(r->s, r->node, fd, true, false));
	return reply_put(r, &o, sizeof(o));
}

/* Append one entry. False: it does not fit. @n (may be NULL) and @st are for READDIRPLUS; the guest
 * gains a lookup reference on @n. */
static bool list_entry(struct listing *l, uint64_t ino, uint64_t off, unsigned type,
	const char *name, struct inode *n, const struct statx *st)
{
	size_t name_len = strlen(name);
	size_t head = l->plus ? sizeof(struct fuse_entry_out) : 0;
	size_t size = FUSE_DIRENT_ALIGN(head + FUSE_NAME_OFFSET + name_len);
	uint8_t *p = l->r->s->reply + l->len;
	struct fuse_dirent d = {
		.ino = ino, .off = off, .namelen = (uint32_t)name_len, .type = type};

	if (size > l->max - l->len)
		return false;
	memset(p, 0, size);
	if (n) {
		struct fuse_entry_out e;

		entry_fill(l->r->s, n, st, &e);
		memcpy(p, &e, sizeof(e));
		n->nlookup++;
	}
	memcpy(p + head, &d, FUSE_NAME_OFFSET);
	memcpy(p + head + FUSE_NAME_OFFSET, name, name_len);
	l->len += size;
	return true;
}

static bool list_fits(const struct listing *l, const char *name)
{
	size_t head = l->plus ? sizeof(struct fuse_entry_out) : 0;

	return FUSE_DIRENT_ALIGN(head + FUSE_NAME_OFFSET + strlen(name)) <= l->max - l->len;
}

/* ".", "..", then exports in the order they were added: entry i has offset i + 1. */
static int list_root(struct listing *l, uint64_t off)
{
	struct fuse_server *s = l->r->s;
	unsigned total = exports_count(s) + 2;
	struct statx st;

	root_stat(s, &st);
	for (uint64_t i = off; i < total; i++) {
		const char *name = i == 0 ? "." : i == 1 ? ".." : s->exports[i - 2].name;
		uint64_t ino = inode_number(s, host_dev(&st), st.stx_ino);
		struct inode *n = NULL;
		struct statx est;

		if (!list_fits(l, name))
			return l->len ? 0 : -EINVAL;
		if (i >= 2 && inode_get_export(s, (unsigned)i - 2, &est, &n) == 0)
			ino = inode_number(s, host_dev(&est), est.stx_ino);
		list_entry(l, ino, i + 1, DT_DIR, name, l->plus ? n : NULL, &est);
		if (n)
			inode_gc(s, n);
	}
	return 0;
}

/* The number of ".." : never that of a directory outside the export. */
static uint64_t parent_number(struct fuse_server *s, const struct inode *n)
{
	const struct inode *up = n->parent == NODE_NONE ? n : inode_at(s, n->parent);
	struct statx st;

	if (!n->export_root)
		return inode_number(s, up->dev, up->ino);
	root_stat(s, &st);
	return inode_number(s, host_dev(&st), st.stx_ino);
}

/* One record of the host. False: the reply is full. */
static bool list_host(struct listing *l, const struct handle *h, const struct host_dirent *d)
{
	struct fuse_server *s = l->r->s;
	struct inode *dir = l->r->node, *n = NULL;
	uint64_t ino = inode_number(s, dir->dev, d->d_ino);
	struct statx st;
	bool fits;

	if (!list_fits(l, d->d_name))
		return false;
	if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0) {
		if (d->d_name[1])
			ino = parent_number(s, dir);
		return list_entry(l, ino, (uint64_t)d->d_off, DT_DIR, d->d_name, NULL, NULL);
	}
	if (l->plus && host_stat_below(h->fd, dir->dev, d->d_name, &st) == 0 &&
		inode_get(s, dir->export, dir, d->d_name, &st, &n) == 0)
		ino = inode_number(s, host_dev(&st), st.stx_ino);
	/* Without an inode the guest gets the name alone and asks when it needs more. */
	fits = list_entry(l, ino, (uint64_t)d->d_off, d->d_type, d->d_name, n, &st);
	if (n)
		inode_gc(s, n);
	return fits;
}

static int list_dir(struct listing *l, struct handle *h, uint64_t off)
{
	uint8_t buf[16384] __attribute__((aligned(8)));
	/* An entry takes at least 24 bytes here and at least 32 or 160 in the reply. */
	size_t want = l->plus ? l->max / 5 : l->max;
	long got;

	if (off > INT64_MAX)
		return -EINVAL;
	if ((int64_t)off != h->pos && lseek(h->fd, (off_t)off, SEEK_SET) < 0)
		return host_err(errno);
	h->pos = (int64_t)off;
	got = syscall(SYS_getdents64, h->fd, buf, MIN(MAX(want, HOST_DIRENT_MAX), sizeof(buf)));
	if (got < 0)
		return host_err(errno);
	for (long at = 0; at < got;) {
		const struct host_dirent *d = (const void *)(buf + at);

		at += d->d_reclen;
		if (!list_host(l, h, d)) {
			/* The descriptor stands behind the records that were not used. */
			h->pos = -1;
			return l->len ? 0 : -EINVAL;
		}
		if (at == got)
			h->pos = d->d_off;
	}
	return 0;
}

static int list(struct req *r, bool plus)
{
	struct listing l = {.r = r, .plus = plus};
	uint64_t fh = rd_le64(&r->args), off = rd_le64(&r->args);
	size_t size = rd_le32(&r->args);
	struct handle *h;
	int err;

	rd_bytes(&r->args, sizeof(struct fuse_read_in) - 20);
	if (req_end(r) < 0)
		return -EINVAL;
	h = handle_get(r->s, r->node, fh, true);
	if (!h)
		return -EBADF;
	l.max = MIN(MIN(size, r->room), SCRATCH);
	err = r->node->index == NODE_ROOT ? list_root(&l, off) : list_dir(&l, h, off);
	return err < 0 ? err : reply_put(r, r->s->reply, l.len);
}

int op_readdir(struct req *r)
{
	return list(r, false);
}

int op_readdirplus(struct req *r)
{
	return list(r, true);
}

int op_releasedir(struct req *r)
{
	uint64_t fh = rd_le64(&r->args);
	struct handle *h;

	rd_bytes(&r->args, sizeof(struct fuse_release_in) - 8);
	if (req_end(r) < 0)
		return -EINVAL;
	h = handle_get(r->s, r->node, fh, true);
	if (!h)
		return -EBADF;
	handle_free(r->s, h);
	return 0;
}

int op_fsyncdir(struct req *r)
{
	uint64_t fh = rd_le64(&r->args);
	struct handle *h;

	rd_le64(&r->args);
	if (req_end(r) < 0)
		return -EINVAL;
	h = handle_get(r->s, r->node, fh, true);
	if (!h)
		return -EBADF;
	if (h->fd < 0)
		return 0;
	return fsync(h->fd) < 0 ? host_err(errno) : 0;
}

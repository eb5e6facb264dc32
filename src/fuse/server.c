/* SPDX-License-Identifier: Apache-2.0 */
/* Message dispatch, INIT, exports. */
#include "fuse/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

#define MINOR_MIN 31u /* Linux 5.4, the first with virtio-fs */
#define MINOR     38u /* what these sources were written against */

/* ASYNC_READ, BIG_WRITES, MAX_PAGES, PARALLEL_DIROPS, READDIRPLUS: fewer and larger requests.
 * ATOMIC_O_TRUNC: one request instead of two. AUTO_INVAL_DATA: the guest drops cached pages when a
 * host program has changed the file. HANDLE_KILLPRIV_V2: without it the guest's kernel asks for a
 * security.capability attribute before every write; setuid bits are our business anyway.
 * Left out on purpose: POSIX_LOCKS and FLOCK_LOCKS (the guest's kernel then serves all locks
 * itself: they hold among guest programs, not against the host), WRITEBACK_CACHE (the guest would
 * stop believing sizes and times that the host changed), DONT_MASK, POSIX_ACL, NO_OPEN, NO_OPENDIR
 * (open handles keep unlinked files and directory positions alive), EXPORT_SUPPORT (no lookups of
 * ".."). */
#define INIT_FLAGS                                                                                 \
	(FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA |          \
		FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_PARALLEL_DIROPS |               \
		FUSE_MAX_PAGES | FUSE_CACHE_SYMLINKS | FUSE_HANDLE_KILLPRIV_V2)

enum op_flag {
	OP_ROOT = 1 << 0,  /* makes sense on the synthetic root */
	OP_WRITE = 1 << 1, /* changes something: refused on read-only exports */
	OP_DIR = 1 << 2,   /* the node is a directory */
	OP_QUIET = 1 << 3, /* has no answer */
	OP_FREE = 1 << 4,  /* needs no node, and may come before INIT */
	OP_XATTR = 1 << 5, /* absent unless configured */
};

struct op {
	op_fn *fn;
	uint16_t reply; /* least room for the answer's payload */
	uint8_t flags;
};

static op_fn op_init, op_destroy;

/* An absent operation is ENOSYS; the guest's kernel remembers that and does not ask again:
 *   FLUSH      a round trip on every close() with nothing to do, since writes are synchronous
 *   ACCESS     the guest checks permissions itself (virtio-fs implies default_permissions)
 *   GETLK, SETLK, SETLKW, IOCTL, POLL, BMAP, INTERRUPT  see INIT_FLAGS; every request is served
 *              before the next is looked at, so that nothing can be interrupted */
static const struct op ops[] = {
	[FUSE_INIT] = {op_init, sizeof(struct fuse_init_out), OP_FREE},
	[FUSE_DESTROY] = {op_destroy, 0, OP_FREE},
	[FUSE_LOOKUP] = {op_lookup, sizeof(struct fuse_entry_out), OP_DIR | OP_ROOT},
	[FUSE_FORGET] = {op_forget, 0, OP_QUIET | OP_ROOT},
	[FUSE_BATCH_FORGET] = {op_batch_forget, 0, OP_QUIET | OP_FREE},
	[FUSE_GETATTR] = {op_getattr, sizeof(struct fuse_attr_out), OP_ROOT},
	[FUSE_SETATTR] = {op_setattr, sizeof(struct fuse_attr_out), OP_WRITE},
	[FUSE_READLINK] = {op_readlink, 0, 0},
	[FUSE_SYMLINK] = {op_symlink, sizeof(struct fuse_entry_out), OP_DIR | OP_WRITE},
	[FUSE_MKNOD] = {op_mknod, sizeof(struct fuse_entry_out), OP_DIR | OP_WRITE},
	[FUSE_MKDIR] = {op_mkdir, sizeof(struct fuse_entry_out), OP_DIR | OP_WRITE},
	[FUSE_UNLINK] = {op_unlink, 0, OP_DIR | OP_WRITE},
	[FUSE_RMDIR] = {op_rmdir, 0, OP_DIR | OP_WRITE},
	[FUSE_RENAME] = {op_rename, 0, OP_DIR | OP_WRITE},
	[FUSE_RENAME2] = {op_rename2, 0, OP_DIR | OP_WRITE},
	[FUSE_LINK] = {op_link, sizeof(struct fuse_entry_out), OP_DIR | OP_WRITE},
	[FUSE_OPEN] = {op_open, sizeof(struct fuse_open_out), 0},
	[FUSE_CREATE] = {op_create, sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out),
		OP_DIR | OP_WRITE},
	[FUSE_TMPFILE] = {op_tmpfile, sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out),
		OP_DIR | OP_WRITE},
	[FUSE_RELEASE] = {op_release, 0, 0},
	[FUSE_READ] = {op_read, 0, 0},
	[FUSE_WRITE] = {op_write, sizeof(struct fuse_write_out), OP_WRITE},
	[FUSE_FSYNC] = {op_fsync, 0, 0},
	[FUSE_FALLOCATE] = {op_fallocate, 0, OP_WRITE},
	[FUSE_LSEEK] = {op_lseek, sizeof(struct fuse_lseek_out), 0},
	[FUSE_COPY_FILE_RANGE] = {op_copy, sizeof(struct fuse_write_out), 0},
	[FUSE_STATFS] = {op_statfs, sizeof(struct fuse_statfs_out), OP_ROOT},
	[FUSE_SYNCFS] = {op_syncfs, 0, OP_ROOT},
	[FUSE_OPENDIR] = {op_opendir, sizeof(struct fuse_open_out), OP_DIR | OP_ROOT},
	[FUSE_READDIR] = {op_readdir, 0, OP_DIR | OP_ROOT},
	[FUSE_READDIRPLUS] = {op_readdirplus, 0, OP_DIR | OP_ROOT},
	[FUSE_RELEASEDIR] = {op_releasedir, 0, OP_DIR | OP_ROOT},
	[FUSE_FSYNCDIR] = {op_fsyncdir, 0, OP_DIR | OP_ROOT},
	[FUSE_SETXATTR] = {op_setxattr, 0, OP_WRITE | OP_XATTR},
	[FUSE_GETXATTR] = {op_getxattr, 0, OP_ROOT | OP_XATTR},
	[FUSE_LISTXATTR] = {op_listxattr, 0, OP_ROOT | OP_XATTR},
	[FUSE_REMOVEXATTR] = {op_removexattr, 0, OP_WRITE | OP_XATTR},
};

/* --- INIT, DESTROY --- */

void fuse_reset(struct fuse_server *s)
{
	handles_reset(s);
	inodes_reset(s);
	s->ready = false;
}

static int op_init(struct req *r)
{
	struct fuse_init_out o = {.major = FUSE_KERNEL_VERSION, .minor = MINOR};
	uint32_t major = rd_le32(&r->args), minor = rd_le32(&r->args);
	uint32_t readahead, flags;

	/* Later kernels append fields: what follows the known ones is not for us. */
	readahead = rd_le32(&r->args);
	flags = rd_le32(&r->args);
	if (!rd_ok(&r->args))
		return -EINVAL;
	fuse_reset(r->s); /* a guest that rebooted knows nothing */
	if (major > FUSE_KERNEL_VERSION)
		return reply_put(r, &o, sizeof(o)); /* it asks again with ours */
	if (major < FUSE_KERNEL_VERSION || minor < MINOR_MIN)
		return -EPROTO;
	o.max_readahead = MIN(readahead, FUSE_WRITE_MAX);
	o.flags = flags & INIT_FLAGS;
	o.max_background = 64;
	o.congestion_threshold = 48;
	o.max_write = FUSE_WRITE_MAX;
	o.time_gran = 1;
	o.max_pages = flags & FUSE_MAX_PAGES ? FUSE_WRITE_MAX / 4096 : 0;
	r->s->ready = true;
	return reply_put(r, &o, sizeof(o));
}

static int op_destroy(struct req *r)
{
	fuse_reset(r->s);
	return 0;
}

/* --- messages --- */

size_t iov_len(const struct iovec *v, unsigned n)
{
	size_t len = 0;

	for (unsigned i = 0; i < n; i++)
		if (__builtin_add_overflow(len, v[i].iov_len, &len))
			return SIZE_MAX;
	return len;
}

int iov_slice(const struct iovec *src, unsigned n, size_t skip, size_t len, struct iovec *to)
{
	unsigned k = 0;

	for (unsigned i = 0; i < n && len; i++) {
		size_t part = src[i].iov_len;

		if (skip >= part) {
			skip -= part;
			continue;
		}
		part = MIN(part - skip, len);
		if (k == FUSE_IOV_MAX)
			return -EINVAL;
		to[k].iov_base = (uint8_t *)src[i].iov_base + skip;
		to[k++].iov_len = part;
		len -= part;
		skip = 0;
	}
	return (int)k;
}

static void iov_read(const struct iovec *v, unsigned n, size_t skip, void *to, size_t len)
{
	uint8_t *p = to;

	for (unsigned i = 0; i < n && len; i++) {
		size_t part = v[i].iov_len;

		if (skip >= part) {
			skip -= part;
			continue;
		}
		part = MIN(part - skip, len);
		memcpy(p, (const uint8_t *)v[i].iov_base + skip, part);
		p += part;
		len -= part;
		skip = 0;
	}
}

static void iov_write(const struct iovec *v, unsigned n, size_t skip, const void *from, size_t len)
{
	const uint8_t *p = from;

	for (unsigned i = 0; i < n && len; i++) {
		size_t part = v[i].iov_len;

		if (skip >= part) {
			skip -= part;
			continue;
		}
		part = MIN(part - skip, len);
		memcpy((uint8_t *)v[i].iov_base + skip, p, part);
		p += part;
		len -= part;
		skip = 0;
	}
}

int reply_put(struct req *r, const void *p, size_t len)
{
	if (len > r->room - r->written)
		return -EINVAL;
	iov_write(r->in, r->n_in, sizeof(struct fuse_out_header) + r->written, p, len);
	r->written += len;
	return 0;
}

int req_string(struct req *r, const char **ret, size_t max)
{
	size_t len = strnlen((const char *)r->args.p, rd_left(&r->args));

	if (len == rd_left(&r->args))
		return -EINVAL; /* no NUL */
	if (len > max)
		return -ENAMETOOLONG;
	*ret = (const char *)rd_bytes(&r->args, len + 1);
	return 0;
}

int req_name(struct req *r, const char **ret)
{
	const char *name;
	int err = req_string(r, &name, NAME_MAX_);

	if (err < 0)
		return err;
	if (!*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	*ret = name;
	return 0;
}

int req_end(const struct req *r)
{
	return rd_done(&r->args) ? 0 : -EINVAL;
}

bool read_only(const struct req *r, const struct inode *n)
{
	return n->index == NODE_ROOT || r->s->exports[n->export].read_only;
}

/* Everything that can be checked without knowing the operation. */
static int req_check(struct req *r, const struct op *op)
{
	if (!op->fn || ((op->flags & OP_XATTR) && !r->s->xattr))
		return -ENOSYS;
	if (r->room < op->reply)
		return -EINVAL;
	if (op->flags & OP_FREE)
		return 0;
	if (!r->s->ready)
		return -EIO;
	r->node = inode_by_id(r->s, r->h.nodeid);
	if (!r->node)
		return -ESTALE;
	if ((op->flags & OP_WRITE) && read_only(r, r->node))
		return -EROFS;
	if (r->node->index == NODE_ROOT && !(op->flags & OP_ROOT))
		return -EACCES;
	if ((op->flags & OP_DIR) && r->node->type != S_IFDIR)
		return -ENOTDIR;
	return 0;
}

static int req_run(struct req *r, const struct op *op)
{
	size_t body = r->out_len - sizeof(r->h);
	int err = req_check(r, op);

	if (err < 0)
		return err;
	if (op->fn == op_write)
		body = MIN(body, sizeof(struct fuse_write_in)); /* the data stays where it is */
	if (body > SCRATCH)
		return -EINVAL;
	iov_read(r->out, r->n_out, sizeof(r->h), r->s->scratch, body);
	r->args = rd_make(r->s->scratch, body);
	return op->fn(r);
}

size_t fuse_handle(struct fuse_server *s, const struct iovec *out, unsigned n_out,
	const struct iovec *in, unsigned n_in)
{
	static const struct op absent;
	struct req r = {.s = s, .out = out, .n_out = n_out, .in = in, .n_in = n_in};
	struct fuse_out_header o = {.len = sizeof(o)};
	size_t in_len = iov_len(in, n_in);
	const struct op *op = &absent;

	r.out_len = iov_len(out, n_out);
	if (r.out_len < sizeof(r.h))
		return 0;
	iov_read(out, n_out, 0, &r.h, sizeof(r.h));
	r.room = in_len < sizeof(o) ? 0 : MIN(in_len - sizeof(o), UINT32_MAX / 2);
	if (r.h.opcode < ARRAY_SIZE(ops))
		op = &ops[r.h.opcode];
	s->op++;
	/* Without room for a header there is nobody to tell the outcome: do nothing. */
	if (in_len < sizeof(o) && !(op->flags & OP_QUIET))
		return 0;
	o.unique = r.h.unique;
	o.error = r.h.len == r.out_len ? req_run(&r, op) : -EINVAL;
	if (op->flags & OP_QUIET)
		return 0;
	if (o.error == 0)
		o.len += (uint32_t)r.written;
	iov_write(in, n_in, 0, &o, sizeof(o));
	return o.len;
}

/* --- exports, construction --- */

unsigned exports_count(struct fuse_server *s)
{
	return atomic_load_explicit(&s->n_exports, memory_order_acquire);
}

static int export_check(
	const struct fuse_server *s, unsigned n, const char *name, int dirfd, struct err *err)
{
	struct stat st;

	if (!*name || strlen(name) > NAME_MAX_ || strchr(name, '/') || strcmp(name, ".") == 0 ||
		strcmp(name, "..") == 0)
		return err_set(
			err, ERR_BUG, "shared folder name \"%s\" is not one component", name);
	if (n == FUSE_EXPORTS_MAX)
		return err_set(err, ERR_USER, "more than %u shared folders", FUSE_EXPORTS_MAX);
	for (unsigned i = 0; i < n; i++)
		if (strcmp(s->exports[i].name, name) == 0)
			return err_set(err, ERR_USER, "shared folder name \"%s\" is taken", name);
	if (fstat(dirfd, &st) < 0)
		return err_errno(err, "shared folder \"%s\"", name);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ERR_USER, "shared folder \"%s\" is no directory", name);
	if (host_is_kernel_fs(dirfd))
		return err_set(err, ERR_USER, "shared folder \"%s\" is a kernel file system", name);
	return 0;
}

int fuse_export_add(struct fuse_server *s, const char *name, int dirfd, bool ro, struct err *err)
{
	_close_ int fd = dirfd;
	unsigned n;
	int r;

	pthread_mutex_lock(&s->adding);
	n = atomic_load_explicit(&s->n_exports, memory_order_relaxed);
	r = export_check(s, n, name, dirfd, err);
	if (r == 0) {
		s->exports[n] = (struct export){xstrdup(name), steal_fd(&fd), ro};
		atomic_store_explicit(&s->n_exports, n + 1, memory_order_release);
	}
	pthread_mutex_unlock(&s->adding);
	return r;
}

struct fuse_server *fuse_server_new(const struct fuse_config *cfg, struct err *err)
{
	struct fuse_server *s;

	if (cfg->max_fds < FUSE_FDS_MIN || cfg->max_inodes > FUSE_INODES_MAX) {
		err_set(err, ERR_BUG, "file server budget out of range");
		return NULL;
	}
	s = xcalloc(1, sizeof(*s));
	s->guest_uid = cfg->guest_uid;
	s->guest_gid = cfg->guest_gid;
	s->xattr = cfg->xattr;
	s->uid = geteuid();
	s->gid = getegid();
	s->max_fds = cfg->max_fds;
	s->max_handles = cfg->max_fds / 8 * 5;
	s->max_pinned = cfg->max_fds / 8;
	s->max_inodes = cfg->max_inodes ? cfg->max_inodes : FUSE_INODES_MAX;
	pthread_mutex_init(&s->adding, NULL);
	s->scratch = xmalloc(SCRATCH);
	s->reply = xmalloc(SCRATCH);
	if (inodes_init(s) < 0 || handles_init(s) < 0) {
		err_set(err, ERR_ENV, "out of memory for the file server");
		fuse_server_free(s);
		return NULL;
	}
	return s;
}

int fuse_start_closer(struct fuse_server *s, void (*begin)(void), struct err *err)
{
	s->closer = closer_new(begin, err);
	return s->closer ? 0 : -1;
}

void fuse_server_free(struct fuse_server *s)
{
	if (!s)
		return;
	handles_done(s);
	inodes_done(s);
	closer_free(s->closer);
	for (unsigned i = 0; i < exports_count(s); i++) {
		free(s->exports[i].name);
		close(s->exports[i].dirfd);
	}
	pthread_mutex_destroy(&s->adding);
	free(s->scratch);
	free(s->reply);
	free(s);
}

struct fuse_usage fuse_usage(const struct fuse_server *s)
{
	return (struct fuse_usage){s->n_inodes, s->n_handles, s->n_fds};
}

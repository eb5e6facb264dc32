/* SPDX-License-Identifier: Apache-2.0 */
/* Private to src/fuse: tables, request context and the helpers that operations share.
 *
 * Who the guest is to us: hostile. It may send any bytes, any order, any id. Every operation runs
 * with the authority of the invoking user, but only beneath the export directories:
 *
 *   - A guest gives names, never paths. A name is one component (req_name checks it) and is used
 *     relative to an O_PATH descriptor of its parent directory, without following symbolic links.
 *     Paths that we build ourselves, to reopen a directory, go through openat2 with RESOLVE_BENEATH
 *     and RESOLVE_NO_SYMLINKS from the export's descriptor. /proc is never used (there is none).
 *   - An id (nodeid, file handle) is an index and a generation; both are checked before use.
 *   - What was opened by name is compared with the remembered identity (device, inode number,
 *     type, birth time) before it is used; a difference is ESTALE, on which the guest's kernel
 *     looks the name up again.
 *   - Only regular files and directories are ever opened for more than O_PATH. FIFOs, sockets and
 *     devices are names with attributes; the guest's own kernel implements FIFOs and sockets.
 *   - Mounts below an export are followed, except those of procfs and its like.
 *   - setuid and setgid bits neither appear nor can be set: a file that the guest prepares must not
 *     change anyone's identity on the host.
 *
 * Inodes (inode.c, inode_fd.c). One per file that the guest knows (nlookup) or that something else
 * here needs (refs: children, open handles). It remembers one (parent, name) under which the file
 * was last seen. Directories that are worked in hold an O_PATH descriptor: `named` ones are evicted
 * in LRU order and reopened by path; an unlinked file cannot be reopened, so its descriptor is
 * `pinned`, up to an eighth of the budget. Other files hold none: their attributes are read by
 * name.
 *
 * Handles (handle.c). One per open file or directory; up to five eighths of the budget, so that
 * open files cannot starve directories.
 *
 * Threads: everything belongs to the thread that calls fuse_handle, except the export table, where
 * entries below n_exports (release/acquire) never change again; `adding` orders the writers. */
#pragma once

#include <linux/fuse.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/rd.h"
#include "fuse/closer.h"
#include "fuse/fuse.h"

/* Linux <= 6.0 headers */
#if FUSE_KERNEL_MINOR_VERSION < 37
#define FUSE_TMPFILE 51
#endif

#define NODE_NONE  0u
#define NODE_ROOT  1u /* the synthetic root; its nodeid is FUSE_ROOT_ID */
#define NODE_CHUNK 4096u
#define HASH_SIZE  (1u << 18)
#define NAME_MAX_  255u
#define DEVS_MAX   127u
#define SCRATCH    (128u << 10) /* one request without WRITE data; one directory or xattr reply */
#define XATTR_MAX  65536u

enum lru_list { LRU_NONE, LRU_NAMED, LRU_PINNED, LRU_LISTS };

struct inode {
	uint32_t index, gen; /* together the nodeid; index never changes */
	bool used;
	bool export_root; /* its directory is the export's own descriptor */
	bool hashed;      /* found by identity; a file whose number was reused is not */
	uint8_t list;     /* enum lru_list; LRU_NONE exactly when fd is -1 */
	uint16_t export;
	uint64_t nlookup; /* references that the guest holds */
	uint32_t refs;    /* references from children and handles */
	uint32_t parent;  /* NODE_NONE: export root, the root, or nameless (unlinked, lost) */
	char *name;       /* owned; NULL exactly when parent is NODE_NONE */
	/* identity */
	dev_t dev;
	uint64_t ino;
	mode_t type; /* S_IFMT part */
	int64_t btime_sec;
	uint32_t btime_nsec;
	bool has_btime;

	int fd;           /* O_PATH, owned; -1: none */
	uint64_t used_op; /* request that used fd last: not evicted while it runs */
	uint32_t lru_prev, lru_next;
	uint32_t hash_next; /* also links free slots */
	uint32_t handles;   /* first open handle, or 0 */
	/* state of the file when the guest's page cache was last known to be right */
	int64_t seen_sec;
	uint32_t seen_nsec;
	uint64_t seen_size;
};

struct handle {
	uint32_t gen;
	bool used, dir, writable;
	int fd;         /* owned; -1: the synthetic root */
	uint32_t inode; /* holds a reference */
	uint32_t next;  /* handles of the same inode; free slots */
	int64_t pos;    /* dir: where the descriptor stands */
};

struct export
{
	char *name;
	int dirfd;
	bool read_only;
};

struct fuse_server {
	uint32_t guest_uid, guest_gid;
	uid_t uid; /* ours */
	gid_t gid;
	unsigned max_fds, max_handles, max_pinned, max_inodes;

	pthread_mutex_t adding;
	atomic_uint n_exports;
	struct export exports[FUSE_EXPORTS_MAX];
	bool dirty[FUSE_EXPORTS_MAX]; /* written to since the last SYNCFS */

	bool ready; /* INIT was answered */
	bool xattr;
	uint64_t op; /* serial number of the request */

	struct inode **chunks;
	unsigned n_chunks, n_inodes;
	uint32_t n_slots; /* ever used, from index 1 */
	uint32_t free_inode;
	uint32_t *hash;
	struct {
		uint32_t first, last;
		unsigned n;
	} lru[LRU_LISTS];
	dev_t devs[DEVS_MAX];
	unsigned n_devs;

	struct handle *handles; /* [max_handles + 1]; 0 is unused */
	uint32_t free_handle, fresh_handle;
	unsigned n_handles, n_fds;

	struct closer *closer; /* or NULL */
	uint8_t *scratch;      /* the request */
	uint8_t *reply;	       /* SCRATCH bytes for building replies */
};

struct req {
	struct fuse_server *s;
	struct fuse_in_header h;
	struct inode *node; /* h.nodeid, alive for the whole request */
	struct rd args;     /* what follows the header (of WRITE: only the fixed part) */
	const struct iovec *out, *in;
	unsigned n_out, n_in;
	size_t out_len; /* bytes of the whole message */
	size_t room;    /* bytes for the reply's payload */
	size_t written; /* payload so far */
};

/* --- host.c: system calls that cannot leave the tree. All return -errno. --- */

/* openat2 beneath @dirfd, without links; O_CLOEXEC and O_NOFOLLOW are added. Races that show as
 * ELOOP or EXDEV come back as -ESTALE. */
int host_open(int dirfd, const char *path, int flags, mode_t mode);
/* @name beneath @dirfd, not followed; "" is the descriptor itself. */
int host_stat(int dirfd, const char *name, struct statx *ret);
/* The same for @name in a directory on device @dev. Where another file system begins, one that is
 * the kernel's own (procfs …) is -EACCES. */
int host_stat_below(int dirfd, dev_t dev, const char *name, struct statx *ret);
bool host_is_kernel_fs(int fd);
/* The errno value that the guest may see. */
int host_err(int errnum);
/* Set the mode of what the O_PATH descriptor @fd shows. -ENOSYS: the kernel is too old (< 6.6). */
int host_chmod_path(int fd, mode_t mode);
/* Whether linkat can link a nameless file (AT_EMPTY_PATH without privilege: Linux 6.10). */
bool host_links_nameless(int dirfd);
/* The device of @st. */
dev_t host_dev(const struct statx *st);

/* --- inode.c --- */

int inodes_init(struct fuse_server *s);
void inodes_done(struct fuse_server *s);
/* Drop all but the root. */
void inodes_reset(struct fuse_server *s);
struct inode *inode_at(const struct fuse_server *s, uint32_t index);
uint64_t inode_id(const struct inode *n);
/* The inode that the guest means, or NULL: unknown, of an older generation, or forgotten. */
struct inode *inode_by_id(const struct fuse_server *s, uint64_t id);
/* The known inode with this identity, or NULL. */
struct inode *inode_find(const struct fuse_server *s, unsigned export, const struct statx *st);
/* Find or make the inode for @name in @parent (NULL @name: nameless). The caller adds a reference
 * or calls inode_gc. */
int inode_get(struct fuse_server *s, unsigned export, struct inode *parent, const char *name,
	const struct statx *st, struct inode **ret);
/* The root inode of an export, looked at afresh. */
int inode_get_export(struct fuse_server *s, unsigned export, struct statx *st, struct inode **ret);
void inode_forget(struct fuse_server *s, struct inode *n, uint64_t nlookup);
void inode_ref(struct inode *n);
void inode_unref(struct fuse_server *s, struct inode *n);
/* Free it when nobody needs it. */
void inode_gc(struct fuse_server *s, struct inode *n);
void inode_rename(struct fuse_server *s, struct inode *n, struct inode *parent, const char *name);
/* Its name is gone. Keeps the descriptor, if it has one, pinned. */
void inode_detach(struct fuse_server *s, struct inode *n);
/* Whether this is the name it is remembered by. */
bool inode_named(const struct inode *n, const struct inode *parent, const char *name);
bool inode_same(const struct inode *n, const struct statx *st);
/* Inode number as the guest sees it: unique over all devices. */
uint64_t inode_number(struct fuse_server *s, dev_t dev, uint64_t ino);

/* --- inode_fd.c --- */

/* O_PATH descriptor of a directory (or of anything pinned), borrowed until the request ends. */
int inode_fd(struct fuse_server *s, struct inode *n);
/* The same for any file; *tmp is set when the caller has to close it. */
int inode_path_fd(struct fuse_server *s, struct inode *n, int *tmp);
/* Give it the O_PATH descriptor @fd (taken; closed when the budget has no room). */
void inode_hold(struct fuse_server *s, struct inode *n, int fd);
/* Attributes by the surest way there is: an open handle, the descriptor, the name. */
int inode_stat(struct fuse_server *s, struct inode *n, struct statx *ret);
/* Open a regular file for input and output: @flags O_RDONLY, O_WRONLY or O_RDWR. The descriptor is
 * verified and not accounted for; *st is what it shows. */
int inode_open(struct fuse_server *s, struct inode *n, int flags, struct statx *st);
/* Make room in the budget for one descriptor. -ENFILE: there is none. */
int fds_room(struct fuse_server *s);

/* Move the descriptor, if there is one, to the pinned or the evictable list; close it. */
void inode_pin(struct fuse_server *s, struct inode *n);
void inode_unpin(struct fuse_server *s, struct inode *n);
void inode_drop_fd(struct fuse_server *s, struct inode *n);

/* --- handle.c --- */

int handles_init(struct fuse_server *s);
void handles_done(struct fuse_server *s);
void handles_reset(struct fuse_server *s);
/* 0 when handle_new is sure to succeed. */
int handle_room(struct fuse_server *s);
/* The same, and the descriptor of directory @dir, which would need room as well. */
int handle_room_in(struct fuse_server *s, struct inode *dir);
/* Needs a preceding handle_room. @fd is taken. */
struct handle *handle_new(struct fuse_server *s, struct inode *n, int fd, bool dir, bool writable);
uint64_t handle_id(const struct fuse_server *s, const struct handle *h);
/* The handle @fh of inode @n, or NULL. */
struct handle *handle_get(struct fuse_server *s, const struct inode *n, uint64_t fh, bool dir);
void handle_free(struct fuse_server *s, struct handle *h);
/* A descriptor of the file that is open anyway, or -1. @writable: one that can write. */
int handle_any(const struct fuse_server *s, const struct inode *n, bool writable);
/* A new descriptor of a file that is open at least for @mode (O_RDONLY …), or -1 with errno.
 * Nothing else can open a file without a name; positions are not shared, because none is ever used.
 */
int handle_dup(const struct fuse_server *s, const struct inode *n, int mode);

/* --- server.c: what operations share --- */

/* Append to the reply. The dispatcher has checked the room for fixed-size replies. */
int reply_put(struct req *r, const void *p, size_t len);
/* Reply with an entry; the guest gains one lookup reference. */
int reply_entry(struct req *r, struct inode *n, const struct statx *st);
void entry_fill(
	struct fuse_server *s, struct inode *n, const struct statx *st, struct fuse_entry_out *e);
void attr_fill(struct fuse_server *s, const struct statx *st, struct fuse_attr *a);
/* Attributes of the synthetic root. */
void root_stat(struct fuse_server *s, struct statx *st);
unsigned exports_count(struct fuse_server *s);
/* Take a NUL-terminated string / a checked single component from the arguments. */
int req_string(struct req *r, const char **ret, size_t max);
int req_name(struct req *r, const char **ret);
/* 0 when all arguments were there and nothing follows. */
int req_end(const struct req *r);
/* Up to @max segments of @src covering @len bytes after @skip. The count, or -EINVAL. */
int iov_slice(const struct iovec *src, unsigned n, size_t skip, size_t len, struct iovec *to);
size_t iov_len(const struct iovec *v, unsigned n);
bool read_only(const struct req *r, const struct inode *n);
int node_lookup(struct fuse_server *s, struct inode *parent, const char *name, struct statx *st,
	struct inode **ret);

/* The known inode that is remembered as @name in @parent (whose descriptor is @dir), or NULL. When
 * the name is about to go, it has to be found before, and held by a descriptor. */
struct inode *victim_find(struct req *r, struct inode *parent, int dir, const char *name);
/* The name went. NULL is fine. May free the inode. */
void victim_gone(struct req *r, struct inode *n);

/* --- operations. 0 or -errno; the reply has been put. --- */
typedef int op_fn(struct req *r);
op_fn op_lookup, op_forget, op_batch_forget;                              /* op_name.c */
op_fn op_mknod, op_mkdir, op_symlink, op_unlink, op_rmdir;                /* op_name.c */
op_fn op_rename, op_rename2, op_link;                                     /* op_move.c */
op_fn op_open, op_create, op_tmpfile, op_release;                         /* op_open.c */
op_fn op_read, op_write, op_fsync, op_fallocate, op_lseek, op_copy;       /* op_io.c */
op_fn op_opendir, op_readdir, op_readdirplus, op_releasedir, op_fsyncdir; /* op_dir.c */
op_fn op_getattr, op_setattr, op_readlink, op_statfs, op_syncfs;          /* op_attr.c */
op_fn op_setxattr, op_getxattr, op_listxattr, op_removexattr;             /* op_xattr.c */

/* Change the mode of an inode; setuid and setgid are dropped. */
int node_chmod(struct fuse_server *s, struct inode *n, mode_t mode);

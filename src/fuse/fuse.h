/* SPDX-License-Identifier: Apache-2.0 */
/* FUSE server: file operations of a hostile guest beneath directory descriptors. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

#define FUSE_EXPORTS_MAX 64u        /* children of the root directory */
#define FUSE_INODES_MAX  (1u << 20) /* files the guest may know at a time; beyond: ENOMEM */
#define FUSE_FDS_MIN     16u
#define FUSE_FDS_SPARE   16u        /* descriptors used for the length of one request */
#define FUSE_IOV_MAX     320u       /* segments of one request, each direction */
#define FUSE_WRITE_MAX   (1u << 20) /* data of one READ or WRITE */

struct fuse_server;

struct fuse_config {
	/* Files of the server's own user and group appear to belong to these, others to 65534. */
	uint32_t guest_uid, guest_gid;
	/* Ceiling on descriptors held for the guest (open files and directories in use); exports
	 * are not counted. Leave FUSE_FDS_SPARE below RLIMIT_NOFILE. At least FUSE_FDS_MIN. */
	unsigned max_fds;
	unsigned max_inodes; /* 0: FUSE_INODES_MAX */
	/* Offer extended attributes ("user." only). Then the guest's kernel asks for one whenever
	 * it first writes to a new file, a round trip that nobody needs; without, it never asks. */
	bool xattr;
};

/* What the guest occupies, for tests and the log. */
struct fuse_usage {
	unsigned inodes, handles, fds;
};

/* The process should ignore SIGXFSZ (a guest can reach the user's file size limit), and umask(0)
 * saves a chmod per new file. NULL with @err on failure. */
struct fuse_server *fuse_server_new(const struct fuse_config *cfg, struct err *err);
void fuse_server_free(struct fuse_server *s);
/* Let a thread delete what the guest removed (fuse/closer.h), which calls @begin first. Once, before the
 * server is used. Without it the server's own thread does. */
int fuse_start_closer(struct fuse_server *s, void (*begin)(void), struct err *err);

/* Show the directory @dirfd (taken, also on failure) as child @name of the root directory. The one
 * function that may be called from any thread while another one is in fuse_handle. Exports stay
 * until the server is freed. @name: one path component of at most 255 bytes, not in use yet. */
int fuse_export_add(
	struct fuse_server *s, const char *name, int dirfd, bool read_only, struct err *err);

/* Answer one FUSE message: @out are the bytes that the guest sent, @in the memory for the answer
 * (borrowed; both may change under our hands). Returns the bytes written to @in, 0 for messages
 * without an answer. Never fails: what is wrong with a message is answered to the guest. */
size_t fuse_handle(struct fuse_server *s, const struct iovec *out, unsigned n_out,
	const struct iovec *in, unsigned n_in);

/* Forget everything that the guest knew: inodes, open files. Exports stay. */
void fuse_reset(struct fuse_server *s);
struct fuse_usage fuse_usage(const struct fuse_server *s);

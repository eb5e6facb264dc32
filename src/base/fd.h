/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors: ownership, flags, and passing them over UNIX sockets. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <unistd.h>

static inline void cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define _close_ __attribute__((cleanup(cleanup_close)))

static inline int steal_fd(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}

static inline void close_and_reset(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int fd_set_nonblock(int fd, bool on);
int fd_set_cloexec(int fd, bool on);

/* The most descriptors in one message of ours. */
#define FD_PASS_MAX 8

/* One sendmsg() of @len bytes and @nfds descriptors (borrowed). Byte count, or -1 with errno.
 * Never raises SIGPIPE. */
ssize_t fd_send(int sock, const void *p, size_t len, const int *fds, size_t nfds);
/* One recvmsg(). Received descriptors are close-on-exec and owned by the caller; *ret_nfds <=
 * FD_PASS_MAX. A truncated message or truncated descriptor list is -1 with EMSGSIZE, with
 * everything received closed. 0 is end of file. */
ssize_t fd_recv(int sock, void *p, size_t len, int fds[static FD_PASS_MAX], size_t *ret_nfds);

/* Write or read exactly @len bytes on a blocking descriptor. 0, or -1 with errno (EPIPE: end of
 * file before @len). */
int fd_write_all(int fd, const void *p, size_t len);
int fd_read_all(int fd, void *p, size_t len);

/* SPDX-License-Identifier: Apache-2.0 */
/* Open files and directories of the guest: index and generation, never a descriptor number. */
#include "fuse/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int handles_init(struct fuse_server *s)
{
	s->handles = calloc((size_t)s->max_handles + 1, sizeof(*s->handles));
	s->fresh_handle = 1;
	return s->handles ? 0 : -ENOMEM;
}

int handle_room(struct fuse_server *s)
{
	if (s->n_handles >= s->max_handles)
		return -ENFILE;
	return fds_room(s);
}

int handle_room_in(struct fuse_server *s, struct inode *dir)
{
	int fd = inode_fd(s, dir), r;

	if (fd < 0)
		return fd;
	r = handle_room(s);
	return r < 0 ? r : fd;
}

struct handle *handle_new(struct fuse_server *s, struct inode *n, int fd, bool dir, bool writable)
{
	uint32_t i = s->free_handle;
	struct handle *h;

	if (i)
		s->free_handle = s->handles[i].next;
	else
		i = s->fresh_handle++;
	h = &s->handles[i];
	*h = (struct handle){.gen = h->gen,
		.used = true,
		.dir = dir,
		.writable = writable,
		.fd = fd,
		.inode = n->index,
		.next = n->handles};
	n->handles = i;
	inode_ref(n);
	s->n_handles++;
	if (fd >= 0)
		s->n_fds++;
	return h;
}

uint64_t handle_id(const struct fuse_server *s, const struct handle *h)
{
	return (uint64_t)h->gen << 32 | (uint64_t)(h - s->handles);
}

struct handle *handle_get(struct fuse_server *s, const struct inode *n, uint64_t fh, bool dir)
{
	uint32_t i = (uint32_t)fh;
	struct handle *h;

	if (i == 0 || i >= s->fresh_handle)
		return NULL;
	h = &s->handles[i];
	if (!h->used || h->gen != (uint32_t)(fh >> 32) || h->inode != n->index || h->dir != dir)
		return NULL;
	return h;
}

void handle_free(struct fuse_server *s, struct handle *h)
{
	uint32_t i = (uint32_t)(h - s->handles);
	struct inode *n = inode_at(s, h->inode);
	uint32_t *p = &n->handles;

	while (*p != i)
		p = &s->handles[*p].next;
	*p = h->next;
	if (h->fd >= 0) {
		close(h->fd);
		s->n_fds--;
	}
	h->used = false;
	h->gen++;
	h->next = s->free_handle;
	s->free_handle = i;
	s->n_handles--;
	inode_unref(s, n);
}

int handle_any(const struct fuse_server *s, const struct inode *n, bool writable)
{
	uint32_t i = n->handles;

	while (i && writable && !s->handles[i].writable)
		i = s->handles[i].next;
	return i ? s->handles[i].fd : -1;
}

int handle_dup(const struct fuse_server *s, const struct inode *n, int mode)
{
	for (uint32_t i = n->handles; i; i = s->handles[i].next) {
		int fd = s->handles[i].fd, have = fcntl(fd, F_GETFL);

		if (have >= 0 && ((have & O_ACCMODE) == O_RDWR || (have & O_ACCMODE) == mode))
			return fcntl(fd, F_DUPFD_CLOEXEC, 3);
	}
	errno = ESTALE;
	return -1;
}

void handles_reset(struct fuse_server *s)
{
	for (uint32_t i = 1; s->handles && i < s->fresh_handle; i++)
		if (s->handles[i].used)
			handle_free(s, &s->handles[i]);
}

void handles_done(struct fuse_server *s)
{
	handles_reset(s);
	free(s->handles);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes between two connections. */
#include "base/duplex.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"

void duplex_init(struct duplex_end *e, int fd)
{
	*e = (struct duplex_end){.fd = fd, .w = {.fd = -1}};
	buf_init(&e->in, DUPLEX_MAX);
}

void duplex_done(struct duplex_end *e, struct loop *l)
{
	loop_del(l, &e->w);
	close_and_reset(&e->fd);
	buf_done(&e->in);
}

int duplex_pull(struct duplex_end *e)
{
	ssize_t n;

	if (e->eof || !buf_room(&e->in))
		return 0;
	n = buf_read(&e->in, e->fd, DUPLEX_MAX);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	e->eof = n == 0;
	return 0;
}

int duplex_push(struct duplex_end *from, struct duplex_end *to)
{
	while (buf_len(&from->in)) {
		ssize_t n = send(to->fd, buf_head(&from->in), buf_len(&from->in),
			MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -1;
		buf_consume(&from->in, (size_t)n);
	}
	if (from->eof && !to->shut) {
		to->shut = true;
		shutdown(to->fd, SHUT_WR);
	}
	return 0;
}

bool duplex_over(const struct duplex_end *a, const struct duplex_end *b)
{
	return a->shut && b->shut;
}

uint32_t duplex_wants(const struct duplex_end *e, const struct duplex_end *other)
{
	return (!e->eof && buf_room(&e->in) ? EPOLLIN : 0u) |
	       (buf_len(&other->in) ? EPOLLOUT : 0u);
}

int duplex_watch(struct duplex_end *e, struct loop *l, uint32_t events, loop_fn *fn)
{
	if (!events) {
		loop_del(l, &e->w);
		return 0;
	}
	if (e->w.fd >= 0)
		return loop_mod(l, &e->w, events);
	return loop_add(l, &e->w, e->fd, events, fn);
}

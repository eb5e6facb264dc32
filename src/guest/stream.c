/* SPDX-License-Identifier: Apache-2.0 */
/* One agent stream: framing and buffering, no meaning. */
#include "guest/server.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "guest/server_internal.h"

#define READ_SIZE (32u << 10)
#define OUT_MAX   (1u << 20)
#define OUT_HIGH  (128u << 10) /* unsent bytes above which producers pause, */
#define OUT_LOW   (64u << 10)  /* and down to which they are called again */

static void stream_event(struct loop *l, struct loop_watch *w, uint32_t events);

/* Watch exactly what can be acted upon: a hung-up descriptor without interest would keep the loop
 * awake. */
static void update(struct stream *s)
{
	uint32_t want = 0;

	if (!s->held && !s->closing && !s->eof)
		want |= EPOLLIN;
	if (buf_len(&s->out) || s->congested)
		want |= EPOLLOUT;
	if (!want)
		loop_del(s->loop, &s->w);
	else if (s->w.fd >= 0)
		loop_mod(s->loop, &s->w, want);
	else
		loop_add(s->loop, &s->w, s->fd, want, stream_event);
}

struct stream *stream_new(struct loop *l, int fd, const struct stream_ops *ops, void *owner)
{
	struct stream *s = xcalloc(1, sizeof(*s));
	int errnum;

	s->loop = l;
	s->fd = fd;
	s->ops = ops;
	s->owner = owner;
	buf_init(&s->in, AGENT_HEADER + AGENT_PAYLOAD_MAX);
	buf_init(&s->out, OUT_MAX);
	if (fd_set_nonblock(fd, true) < 0 || loop_add(l, &s->w, fd, EPOLLIN, stream_event) < 0) {
		errnum = errno;
		s->w.fd = -1;
		stream_free(s);
		errno = errnum;
		return NULL;
	}
	return s;
}

void stream_free(struct stream *s)
{
	if (!s)
		return;
	loop_del(s->loop, &s->w);
	server_unlink(s);
	if (s->fd >= 0)
		close(s->fd);
	buf_done(&s->in);
	buf_done(&s->out);
	free(s);
}

/* Write what the socket takes. On failure the rest is dropped and the socket shut down, so that the
 * loop reports the end in its own time. */
static void send_out(struct stream *s)
{
	while (buf_len(&s->out)) {
		ssize_t n = send(s->fd, buf_head(&s->out), buf_len(&s->out), MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			buf_reset(&s->out);
			shutdown(s->fd, SHUT_RDWR);
			return;
		}
		buf_consume(&s->out, (size_t)n);
	}
}

void stream_flush(struct stream *s)
{
	if (s->out.failed) { /* over a ceiling that producers must respect */
		buf_reset(&s->out);
		shutdown(s->fd, SHUT_RDWR);
	}
	send_out(s);
	update(s);
}

/* Deliver whole frames. May free the stream. */
static void deliver(struct stream *s)
{
	while (!s->held) {
		struct rd payload;
		uint8_t type;
		int r = agent_next(&s->in, &type, &payload);

		if (r == 0)
			break;
		if (r > 0)
			r = s->ops->frame(s, type, payload);
		if (r == STREAM_GONE)
			return;
		if (r < 0) {
			s->eof = true;
			s->held = false;
			break;
		}
		agent_consume(&s->in);
	}
	if (s->eof && !s->held)
		s->ops->end(s);
	else
		update(s);
}

static void input(struct stream *s)
{
	ssize_t n = buf_read(&s->in, s->fd, READ_SIZE);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		s->eof = true;
	deliver(s);
}

static void stream_event(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct stream *s = container_of(w, struct stream, w);

	if (events & EPOLLOUT)
		send_out(s);
	if (s->closing) {
		if (!buf_len(&s->out) || (events & (EPOLLERR | EPOLLHUP)))
			stream_free(s);
		return;
	}
	if (s->congested && (events & EPOLLOUT) && buf_len(&s->out) <= OUT_LOW) {
		s->congested = false;
		s->ops->drained(s);
	}
	update(s);
	if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) && !s->held)
		input(s);
}

bool stream_congested(struct stream *s)
{
	if (buf_len(&s->out) <= OUT_HIGH)
		return false;
	s->congested = true;
	update(s);
	return true;
}

void stream_hold(struct stream *s)
{
	s->held = true;
	update(s);
}

void stream_resume(struct stream *s)
{
	s->held = false;
	deliver(s);
}

void stream_finish(struct stream *s)
{
	s->closing = true;
	s->congested = false;
	stream_flush(s);
	if (!buf_len(&s->out))
		stream_free(s);
}

int stream_take(struct stream *s, struct buf *ret_in)
{
	int fd = steal_fd(&s->fd);

	*ret_in = s->in;
	buf_init(&s->in, 0);
	loop_del(s->loop, &s->w);
	stream_free(s);
	return fd;
}

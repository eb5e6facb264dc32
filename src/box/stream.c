/* SPDX-License-Identifier: Apache-2.0 */
/* One agent stream on the supervisor's loop. */
#include "box/stream.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"

#define OUT_MAX (1u << 20)

static void finish(struct stream *s)
{
	if (s->ended)
		return;
	s->ended = true;
	s->ops->end(s);
}

/* Serve whole frames. False: the stream is gone (the owner may have freed it). */
static bool serve_frames(struct stream *s)
{
	uint8_t type;
	struct rd payload;
	int more;

	while ((more = agent_next(&s->in, &type, &payload)) > 0) {
		int verdict = s->ops->frame(s, type, payload);

		if (verdict < 0)
			finish(s);
		if (verdict)
			return false;
		agent_consume(&s->in);
	}
	if (more < 0) {
		finish(s);
		return false;
	}
	return true;
}

static bool send_some(struct stream *s)
{
	while (buf_len(&s->out)) {
		ssize_t n = send(s->fd, buf_head(&s->out), buf_len(&s->out), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		buf_consume(&s->out, (size_t)n);
	}
	return true;
}

static void on_event(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct stream *s = container_of(w, struct stream, w);

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		ssize_t n = buf_read(&s->in, s->fd, AGENT_PAYLOAD_MAX);

		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			finish(s);
			return;
		}
		if (!serve_frames(s))
			return;
	}
	stream_flush(s);
}

int stream_open(struct stream *s, struct loop *loop, int fd, const struct stream_ops *ops)
{
	*s = (struct stream){.loop = loop, .fd = fd, .ops = ops};
	buf_init(&s->in, AGENT_PAYLOAD_MAX + AGENT_HEADER);
	buf_init(&s->out, OUT_MAX);
	if (fd_set_nonblock(fd, true) < 0 || loop_add(loop, &s->w, fd, EPOLLIN, on_event) < 0) {
		stream_close(s);
		return -1;
	}
	return 0;
}

void stream_flush(struct stream *s)
{
	if (s->fd < 0)
		return;
	if (s->out.failed || !send_some(s)) {
		finish(s);
		return;
	}
	while (buf_len(&s->out) == 0 && s->ops->drained) {
		s->ops->drained(s);
		if (s->fd < 0 || buf_len(&s->out) == 0)
			break;
		if (!send_some(s)) {
			finish(s);
			return;
		}
	}
	if (s->fd >= 0)
		loop_mod(s->loop, &s->w, EPOLLIN | (buf_len(&s->out) ? EPOLLOUT : 0u));
}

void stream_close(struct stream *s)
{
	if (s->loop && s->w.fn)
		loop_del(s->loop, &s->w);
	s->ended = true;
	close_and_reset(&s->fd);
	buf_done(&s->in);
	buf_done(&s->out);
}

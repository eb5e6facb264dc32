/* SPDX-License-Identifier: Apache-2.0 */
/* One end of a connection. */
#include "gate/stream.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/mem.h"

#define NET_OUT_MAX 131072u

void stream_init(struct stream *s)
{
	*s = (struct stream){.fd = -1, .watch = {.fd = -1}};
	buf_init(&s->in, STREAM_FULL);
	buf_init(&s->out, STREAM_OUT_MAX);
	buf_init(&s->net_in, STREAM_FULL);
	buf_init(&s->net_out, NET_OUT_MAX);
}

void stream_done(struct stream *s, struct loop *l)
{
	loop_del(l, &s->watch);
	close_and_reset(&s->fd);
	tls_free(s->tls);
	s->tls = NULL;
	buf_done(&s->in);
	if (s->wipe)
		buf_wipe(&s->out);
	else
		buf_done(&s->out);
	buf_done(&s->net_in);
	buf_done(&s->net_out);
}

int stream_attach(struct stream *s, struct loop *l, int fd, loop_fn *fn)
{
	if (loop_add(l, &s->watch, fd, EPOLLIN, fn) < 0)
		return -1;
	s->fd = fd;
	return 0;
}

void stream_start_tls(struct stream *s, struct tls *tls)
{
	s->tls = tls;
	stream_move(&s->in, &s->net_in);
}

void stream_abandon(struct stream *s)
{
	tls_free(s->tls);
	s->tls = NULL;
	buf_consume(&s->in, buf_len(&s->in));
	buf_consume(&s->out, buf_len(&s->out));
	buf_consume(&s->net_in, buf_len(&s->net_in));
	buf_consume(&s->net_out, buf_len(&s->net_out));
}

void stream_event(struct stream *s, struct loop *l, uint32_t events)
{
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		s->may_read = true;
	/* Always reported, and for ever: leave the loop and read the rest as room permits. */
	if (events & (EPOLLHUP | EPOLLERR)) {
		s->hup = true;
		loop_del(l, &s->watch);
	}
}

bool stream_move(struct buf *from, struct buf *to)
{
	size_t n = MIN(buf_len(from), buf_room(to));

	if (n == 0)
		return false;
	if (buf_len(to) == 0 && n == buf_len(from) && from->cap <= to->max) {
		struct buf tmp = *to;
		size_t from_max = from->max;

		*to = *from;
		to->max = tmp.max;
		buf_init(from, from_max);
		buf_wipe(&tmp);
		return true;
	}
	buf_put(to, buf_head(from), n);
	buf_consume(from, n);
	return true;
}

static size_t read_room(const struct stream *s)
{
	return s->tls ? buf_room(&s->net_in) : buf_room(&s->in);
}

static void end_reading(struct stream *s, int errnum)
{
	s->net_eof = true;
	/* With TLS on top there may be more to decrypt: filter() decides. */
	if (!s->tls || errnum)
		s->eof = true;
	if (!errnum || s->read_failed)
		return;
	s->read_failed = true;
	snprintf(s->err.msg, sizeof(s->err.msg), "connection: %s", strerror(errnum));
}

/* MSG_DONTWAIT rather than O_NONBLOCK: whoever handed us the guest's socket still holds the same
 * open file and could change its flags. */
static bool read_once(struct stream *s)
{
	struct buf *to = s->tls ? &s->net_in : &s->in;
	size_t room = read_room(s);
	uint8_t *at;
	ssize_t n;

	if (s->fd < 0 || s->net_eof || room == 0 || (!s->may_read && !s->hup))
		return false;
	at = buf_reserve(to, room);
	s->may_read = false;
	n = recv(s->fd, at, room, MSG_DONTWAIT);
	if (n > 0) {
		buf_commit(to, (size_t)n);
		return true;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	end_reading(s, n < 0 ? errno : 0);
	return true;
}

static bool write_out(struct stream *s)
{
	struct buf *from = s->tls ? &s->net_out : &s->out;
	bool moved = false;

	while (s->fd >= 0 && !s->write_failed && buf_len(from) > 0) {
		ssize_t n = send(s->fd, buf_head(from), buf_len(from), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		moved = true;
		if (n < 0)
			s->write_failed = true;
		else
			buf_consume(from, (size_t)n);
	}
	if (s->write_failed && (buf_len(&s->out) > 0 || buf_len(&s->net_out) > 0)) {
		buf_consume(&s->out, buf_len(&s->out));
		buf_consume(&s->net_out, buf_len(&s->net_out));
		moved = true;
	}
	return moved;
}

static bool filter(struct stream *s)
{
	size_t before = buf_len(&s->net_in) + buf_len(&s->out), in = buf_len(&s->in);
	bool ready = tls_ready(s->tls), eof = s->eof;
	struct err err;

	/* A peer that takes nothing more may have said why. */
	if (s->read_failed)
		return false;
	if (tls_pump(s->tls, &s->net_in, &s->in, &s->out, &s->net_out, &err) < 0) {
		snprintf(s->err.msg, sizeof(s->err.msg), "%.*s", (int)sizeof(s->err.msg) - 1, err.msg);
		/* What is in net_out (an alert) is still sent; nothing else ever will be. */
		s->eof = s->read_failed = true;
		buf_consume(&s->out, buf_len(&s->out));
		return true;
	}
	/* The filter stops early only for want of room. */
	if (tls_ended(s->tls) || (s->net_eof && buf_room(&s->in) > 0 && buf_len(&s->net_in) == 0))
		s->eof = true;
	return before != buf_len(&s->net_in) + buf_len(&s->out) || in != buf_len(&s->in) ||
	       ready != tls_ready(s->tls) || eof != s->eof;
}

static bool finish(struct stream *s)
{
	if (!s->fin || s->fin_sent || s->fd < 0 || buf_len(&s->out) > 0)
		return false;
	if (s->tls && !s->read_failed && !s->write_failed) {
		tls_end(s->tls);
		filter(s);
		write_out(s);
	}
	if (buf_len(&s->net_out) > 0 && !s->write_failed)
		return false;
	shutdown(s->fd, SHUT_WR);
	s->fin_sent = true;
	return true;
}

bool stream_pump(struct stream *s)
{
	bool moved = read_once(s);

	if (s->tls)
		moved |= filter(s);
	moved |= write_out(s);
	moved |= finish(s);
	return moved;
}

static void give_back(struct buf *b, bool wipe)
{
	if (buf_len(b) > 0 || !b->data)
		return;
	if (wipe)
		buf_wipe(b);
	else
		buf_done(b);
}

void stream_settle(struct stream *s, struct loop *l)
{
	uint32_t want = 0;

	give_back(&s->in, false);
	give_back(&s->out, s->wipe);
	give_back(&s->net_in, false);
	give_back(&s->net_out, false);
	if (s->fd < 0 || s->hup)
		return;
	if (!s->net_eof && !s->eof && read_room(s) > 0)
		want |= EPOLLIN;
	if (!s->write_failed && buf_len(s->tls ? &s->net_out : &s->out) > 0)
		want |= EPOLLOUT;
	loop_mod(l, &s->watch, want);
}

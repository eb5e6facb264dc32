/* SPDX-License-Identifier: Apache-2.0 */
/* One connection to a published port: bytes between a client on this machine and a stream on which
 * the guest was asked to DIAL. They are passed on unread, with half-close; a slow end stalls only
 * itself. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "box/ports.h"
#include "wire/agent.h"

#define RELAY_MAX (64u << 10)

/* One side; data read from it goes to the other one. */
struct side {
	struct relay *r;
	int fd; /* owned */
	struct loop_watch w;
	struct buf in;  /* read here, not yet written to the other side */
	bool eof, shut; /* no more to read; writing side closed */
};

struct relay {
	struct box *box;
	unsigned port;
	bool connected; /* the guest has said DONE: from here on bytes are the client's and server's
			 */
	struct side client, guest;
	relay_done_fn *done;
	void *arg;
};

void relay_free(struct relay *r)
{
	struct loop *l = r->box->loop;
	struct side *sides[] = {&r->client, &r->guest};

	for (size_t i = 0; i < ARRAY_SIZE(sides); i++) {
		loop_del(l, &sides[i]->w);
		close_and_reset(&sides[i]->fd);
		buf_done(&sides[i]->in);
	}
	free(r);
}

static void end(struct relay *r)
{
	relay_done_fn *done = r->done;
	void *arg = r->arg;

	done(arg, r);
	relay_free(r);
}

/* Write to @to what was read from @from; pass the end on when all of it is written. */
static int push(struct side *from, struct side *to)
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

static int pull(struct side *s)
{
	ssize_t n;

	if (s->eof || !buf_room(&s->in))
		return 0;
	n = buf_read(&s->in, s->fd, RELAY_MAX);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	s->eof = n == 0;
	return 0;
}

static void on_event(struct loop *l, struct loop_watch *w, uint32_t events);

static int watch_side(struct side *s, const struct side *other)
{
	struct loop *l = s->r->box->loop;
	uint32_t want = 0;

	if (!s->eof && buf_room(&s->in) && (s->r->connected || s == &s->r->guest))
		want |= EPOLLIN;
	if (buf_len(&other->in) && s->r->connected)
		want |= EPOLLOUT;
	if (!want) {
		loop_del(l, &s->w);
		return 0;
	}
	if (s->w.fd >= 0)
		return loop_mod(l, &s->w, want);
	return loop_add(l, &s->w, s->fd, want, on_event);
}

/* The guest's answer. 0: it is not whole yet, or it has connected. */
static int shake_hands(struct relay *r)
{
	_free_ char *why = NULL;
	uint32_t errnum;
	struct rd payload;
	uint8_t type;
	int more = agent_next(&r->guest.in, &type, &payload);

	if (more == 0)
		return r->guest.eof ? -1 : 0;
	if (more > 0 && type == AGENT_DONE && rd_done(&payload)) {
		agent_consume(&r->guest.in);
		r->connected = true;
		return 0;
	}
	if (more > 0 && type == AGENT_ERROR && agent_get_error(payload, &errnum, &why) == 0) {
		char safe[200];

		log_limited(LOG_INFO, "port=%u refused: %s", r->port,
			log_safe(safe, sizeof(safe), why, strlen(why)));
	}
	return -1;
}

static void on_event(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct side *s = container_of(w, struct side, w);
	struct relay *r = s->r;

	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && pull(s) < 0) {
		end(r);
		return;
	}
	if (!r->connected && shake_hands(r) < 0) {
		end(r);
		return;
	}
	if ((r->connected &&
		    (push(&r->client, &r->guest) < 0 || push(&r->guest, &r->client) < 0)) ||
		(r->client.shut && r->guest.shut) || watch_side(&r->client, &r->guest) < 0 ||
		watch_side(&r->guest, &r->client) < 0)
		end(r);
}

static int ask_guest(struct relay *r, struct err *err)
{
	_buf_ struct buf frame = {.max = 64};

	if (workers_open_stream(r->box, &r->guest.fd, err) < 0)
		return -1;
	agent_put_port(&frame, AGENT_DIAL, (uint16_t)r->port);
	if (fd_set_nonblock(r->guest.fd, true) < 0 ||
		send(r->guest.fd, buf_head(&frame), buf_len(&frame), MSG_NOSIGNAL) !=
			(ssize_t)buf_len(&frame))
		return err_errno(err, "port %u", r->port);
	return 0;
}

struct relay *relay_new(struct box *b, int client, unsigned port, relay_done_fn *done, void *arg)
{
	struct relay *r = xcalloc(1, sizeof(*r));
	struct err err;

	r->box = b;
	r->port = port;
	r->done = done;
	r->arg = arg;
	r->client.r = r->guest.r = r;
	r->client.w.fd = r->guest.w.fd = r->guest.fd = -1;
	r->client.fd = client;
	buf_init(&r->client.in, RELAY_MAX);
	buf_init(&r->guest.in, RELAY_MAX);
	if (ask_guest(r, &err) < 0 || watch_side(&r->guest, &r->client) < 0) {
		log_limited(LOG_WARN, "port=%u: no stream", port);
		relay_free(r);
		return NULL;
	}
	return r;
}

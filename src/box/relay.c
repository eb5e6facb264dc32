/* SPDX-License-Identifier: Apache-2.0 */
/* One connection to a published port: bytes between a client on this machine and a stream on which
 * the guest was asked to DIAL. They are passed on unread, with half-close; a slow end stalls only
 * itself. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/duplex.h"
#include "base/fd.h"
#include "base/log.h"
#include "box/ports.h"
#include "wire/agent.h"

struct relay {
	struct box *box;
	unsigned port;
	bool connected; /* the guest has said DONE: from here on bytes are the client's and server's
			 */
	struct duplex_end client, guest;
	relay_done_fn *done;
	void *arg;
};

void relay_free(struct relay *r)
{
	duplex_done(&r->client, r->box->loop);
	duplex_done(&r->guest, r->box->loop);
	free(r);
}

static void end(struct relay *r)
{
	relay_done_fn *done = r->done;
	void *arg = r->arg;

	done(arg, r);
	relay_free(r);
}

static void on_client(struct loop *l, struct loop_watch *w, uint32_t events);
static void on_guest(struct loop *l, struct loop_watch *w, uint32_t events);

/* Of the client nothing is read before the guest has connected. */
static int watch(struct relay *r)
{
	uint32_t client = duplex_wants(&r->client, &r->guest);
	uint32_t guest = duplex_wants(&r->guest, &r->client);

	if (!r->connected) {
		client = 0;
		guest &= EPOLLIN;
	}
	if (duplex_watch(&r->client, r->box->loop, client, on_client) < 0)
		return -1;
	return duplex_watch(&r->guest, r->box->loop, guest, on_guest);
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

static void on_event(struct relay *r, struct duplex_end *e, uint32_t events)
{
	if (((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) && duplex_pull(e) < 0) ||
		(!r->connected && shake_hands(r) < 0) ||
		(r->connected && (duplex_push(&r->client, &r->guest) < 0 ||
					 duplex_push(&r->guest, &r->client) < 0)) ||
		duplex_over(&r->client, &r->guest) || watch(r) < 0)
		end(r);
}

static void on_client(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct relay *r = container_of(w, struct relay, client.w);

	on_event(r, &r->client, events);
}

static void on_guest(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct relay *r = container_of(w, struct relay, guest.w);

	on_event(r, &r->guest, events);
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
	duplex_init(&r->client, client);
	duplex_init(&r->guest, -1);
	if (ask_guest(r, &err) < 0 || watch(r) < 0) {
		log_limited(LOG_WARN, "port=%u: no stream", port);
		relay_free(r);
		return NULL;
	}
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* One end of a connection: a socket, perhaps with TLS on top, seen as two plain buffers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/loop.h"
#include "gate/tls.h"

/* Content is moved in steps until a buffer holds this much … */
#define STREAM_FULL 65536u
/* … and this is room for a message head on top of it. */
#define STREAM_OUT_MAX (4u * STREAM_FULL)

/* The owner reads from `in` and writes to `out` and `fin`; the rest is stream.c's. A stream without
 * descriptor yet (connecting) is valid: out collects. */
struct stream {
	struct loop_watch watch;
	int fd;                     /* owned; -1: none */
	struct tls *tls;            /* owned; NULL: plain */
	struct buf in;              /* from the peer */
	struct buf out;             /* to the peer */
	struct buf net_in, net_out; /* ciphertext, with tls only */
	bool wipe;                  /* out may hold a secret */
	bool fin; /* nothing more will be put into out: end our direction once it is sent */
	bool fin_sent;
	bool eof;          /* nothing more will appear in `in` */
	bool net_eof;      /* the socket has ended */
	bool read_failed;  /* eof because of an error (err) */
	bool write_failed; /* the peer takes nothing more; out is discarded */
	bool may_read;     /* the descriptor was reported readable and not read since */
	bool hup;          /* taken out of the loop: both directions have ended */
	struct { /* with read_failed or a failed TLS; a whole struct err would be most of a stream */
		char msg[160];
	} err;
};

void stream_init(struct stream *s);
void stream_done(struct stream *s, struct loop *l); /* closes; twice is fine */
/* Takes @fd (a connected stream socket). -1 with errno: not taken. */
int stream_attach(struct stream *s, struct loop *l, int fd, loop_fn *fn);
/* Takes @tls. What was already read becomes ciphertext. */
void stream_start_tls(struct stream *s, struct tls *tls);
/* Drop everything in the buffers, and TLS. Nothing will be sent any more. */
void stream_abandon(struct stream *s);
/* To be called from the watch's callback. */
void stream_event(struct stream *s, struct loop *l, uint32_t events);
/* Read at most once per event, filter, write. Returns whether anything changed. */
bool stream_pump(struct stream *s);
/* Set the loop's interest to what the state asks for; give back the memory of empty buffers. */
void stream_settle(struct stream *s, struct loop *l);
/* Move all bytes that fit from one buffer to another, without copying where possible. */
bool stream_move(struct buf *from, struct buf *to);
static inline bool stream_has_room(const struct stream *s)
{
	return buf_len(&s->out) < STREAM_FULL;
}
/* The peer takes nothing more and will send nothing more than what is on its way. */
static inline bool stream_gone(const struct stream *s)
{
	return s->hup || s->read_failed || s->write_failed;
}

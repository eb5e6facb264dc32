/* SPDX-License-Identifier: Apache-2.0 */
/* The agent server: operation streams of wire/agent.h on PID 1's loop.
 *
 * PID 1 must neither block nor die, so everything that touches the guest's files (user lookup,
 * working directory, PUT) happens in a forked child. Commands are supervised here, with pipes or a
 * pseudo-terminal; a DIAL is relayed here. The number of streams and every buffer is bounded. */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/mem.h"
#include "wire/agent.h"

struct server;
struct stream;

/* A frame callback's answer, besides 0 (go on) and -1 (protocol broken: the stream ends). */
enum { STREAM_GONE = 1 }; /* the stream was finished or freed by the callback */

struct stream_ops {
	int (*frame)(struct stream *s, uint8_t type, struct rd payload);
	/* After stream_congested said so: little is unsent now. Must not end the stream. May be NULL
	 * for owners that never ask. */
	void (*drained)(struct stream *s);
	/* The peer is gone or broke the protocol. Must free the stream. */
	void (*end)(struct stream *s);
};

/* stream.c: framing and buffering of one connection. */
struct stream {
	struct loop *loop;          /* borrowed */
	struct server *srv;         /* borrowed; NULL: not one of a server's */
	struct stream *prev, *next; /* the server's list */
	int fd;                     /* owned */
	struct loop_watch w;
	struct buf in, out;
	const struct stream_ops *ops;
	void *owner;  /* for the callbacks */
	bool held;    /* frames stay in the buffer */
	bool congested; /* a producer waits for drained */
	bool eof;     /* no more input, or input that made no sense */
	bool closing; /* flushes and is freed; callbacks are over */
};

/* Serve @fd (taken). NULL with errno (and @fd closed) when it cannot be watched. */
struct stream *stream_new(struct loop *l, int fd, const struct stream_ops *ops, void *owner);
/* Send what was put into s->out, now as far as possible and later the rest. Never ends the stream:
 * failure shows up as the end of its input. */
void stream_flush(struct stream *s);
/* Whether so much is unsent that producers should pause. After a true answer ops->drained is called
 * once, on a later turn of the loop, however the output gets sent meanwhile. */
bool stream_congested(struct stream *s);
/* Stop and resume the delivery of frames. Resuming may end the stream. */
void stream_hold(struct stream *s);
void stream_resume(struct stream *s);
/* Flush, then close and free. The callbacks are not called any more. */
void stream_finish(struct stream *s);
void stream_free(struct stream *s); /* at once; NULL is fine */
/* Give the descriptor and unread input (a struct buf of the caller's, initialised here) out of the
 * stream, which is freed. */
int stream_take(struct stream *s, struct buf *ret_in);

/* server.c */
struct server_config {
	const char *root;       /* directory with etc/passwd and etc/group; "" for real */
	const struct strv *env; /* borrowed: K=V for every command */
};
struct server *server_new(struct loop *l, const struct server_config *config);
void server_free(struct server *srv); /* hangs up on all commands */
/* Accept streams from the host on the vsock port. */
int server_listen(struct server *srv, uint32_t port, struct err *err);
/* Offer the host's ssh-agent on a socket file for AGENT_USER; hutch-ssh is at its other end. */
int server_offer_ssh(struct server *srv, const char *path, struct err *err);
/* Serve one connection (@fd is taken). */
void server_adopt(struct server *srv, int fd);
/* A child process ended; called for every reaped process. */
void server_reaped(struct server *srv, pid_t pid, int status);
/* In a forked child: default signals, nothing blocked. */
void child_reset(void);
/* In a forked child: move @fd to 3 and close everything above. Returns 3, or -1 with errno. */
int child_keep_fd(int fd);

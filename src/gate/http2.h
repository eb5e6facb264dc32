/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 between the guest and a server (RFC 9113), on nghttp2. Bytes in, bytes out: no I/O.
 *
 * Two sessions, one stream on each for every request. What the owner decides about is the head: it
 * is read by HTTP/1's strict parser, so that both versions have one idea of what a request is. Then
 * bodies, trailers, interim responses and resets pass in both directions. A sender's window opens
 * only as its bytes leave on the other side, so nothing piles up here beyond the windows.
 *
 * A stream that the owner refuses is answered here and never reaches the server. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "gate/filter.h"
#include "gate/http1.h"

#define HTTP2_STREAMS_MAX 100u /* at a time, towards the guest */
/* Windows: what one stream and one connection may have on its way to a receiver that is slower. */
#define HTTP2_GUEST_WINDOW      (256 * 1024)
#define HTTP2_GUEST_WINDOW_ALL  (1024 * 1024)
#define HTTP2_SERVER_WINDOW     (1024 * 1024)
#define HTTP2_SERVER_WINDOW_ALL (2 * 1024 * 1024)
#define HTTP2_SHARE             (256 * 1024)      /* bytes that a connection may always hold */
#define HTTP2_WHOLE_MAX         (64 * 1024)       /* bytes of a response that is held */
#define HTTP2_MEMORY_MAX        (2 * 1024 * 1024) /* nghttp2's own, of one session */

enum http2_side { HTTP2_GUEST, HTTP2_SERVER, HTTP2_SIDES };

/* How a stream ended. */
enum http2_end {
	HTTP2_COMPLETE,
	HTTP2_GUEST_RESET,  /* by the guest, or for what it sent */
	HTTP2_SERVER_RESET, /* the same of the server */
	HTTP2_DROPPED,      /* by the owner, or with the connection */
};

struct http2;

struct http2_stream {
	/* The owner's. */
	void *owner;
	/* To be read. */
	struct http1_head *head;     /* until it is forwarded or answered, else NULL */
	bool https;                  /* :scheme */
	unsigned status;             /* of the final response; 0: none yet */
	uint64_t bytes[HTTP2_SIDES]; /* of bodies, by sender */
	enum http2_end end;
	uint32_t error; /* the reset's code (RFC 9113 section 7) */
	struct http2 *http2;
	struct http2_private *private_;
	struct http2_stream *next, *prev;
};

/* What happens, from within http2_feed, _pull, _lost and _free. */
struct http2_ops {
	/* A request's head is there. http2_forward or http2_answer, now or later. */
	void (*request)(struct http2_stream *s);
	/* It cannot be read: to be answered with err->errnum. s->head is NULL. */
	void (*unreadable)(struct http2_stream *s, const struct err *err);
	/* The request's body is there, as http2_collect has asked, or longer than that. */
	void (*whole_request)(struct http2_stream *s);
	/* The head of a response, interim ones included: its values may be changed in place. 1:
	 * hold it until the body is there; -1 with @err: it must not pass. */
	int (*response)(struct http2_stream *s, struct http1_head *h, struct err *err);
	/* The body of a response that was held, to be changed. -1 with @err: it must not pass. */
	int (*whole_response)(struct http2_stream *s, struct buf *body, struct err *err);
	/* The server is gone, or has sent a head that cannot be read, before it answered:
	 * http2_answer now. */
	void (*failed)(struct http2_stream *s, const char *reason);
	/* The last that is heard of it; for every stream. */
	void (*ended)(struct http2_stream *s);
};

/* Memory of all connections together. */
struct http2_budget {
	size_t used, max;
};

/* @ops and @budget are borrowed for ever; @arg is what http2_arg gives. NULL: out of memory. */
struct http2 *http2_new(const struct http2_ops *ops, struct http2_budget *budget, void *arg);
void http2_free(struct http2 *h); /* NULL is fine */
void *http2_arg(const struct http2_stream *s);
struct http2_stream *http2_streams(const struct http2 *h);

/* The connection to the server is there: forwarding may begin. -1: out of memory. */
int http2_start_server(struct http2 *h);
bool http2_has_server(const struct http2 *h);
/* The server's connection has ended: streams that wait for it fail, and no other begins. */
void http2_lost_server(struct http2 *h, const char *reason);
/* The guest is to send no further request, once the streams that it has are over: some clients read
 * nothing behind a GOAWAY. */
void http2_leave(struct http2 *h);

/* Take what may be taken of @in now. -1 with @err: this side's connection is broken. */
int http2_feed(
	struct http2 *h, enum http2_side from, struct buf *in, uint64_t now_ns, struct err *err);
/* Append to @out what is due until it holds @full bytes. -1 as above. */
int http2_pull(struct http2 *h, enum http2_side to, struct buf *out, size_t full, struct err *err);
/* Whether this side's connection has nothing to say and nothing to hear any more. */
bool http2_over(const struct http2 *h, enum http2_side side);
/* What was wrong with what this side sent: static text, or NULL. */
const char *http2_why(const struct http2 *h, enum http2_side side);

/* Read the request's body whole before it is forwarded; more than @max bytes are too many. */
void http2_collect(struct http2_stream *s, size_t max);
struct buf *http2_body(struct http2_stream *s); /* then */
bool http2_body_ended(const struct http2_stream *s);
/* Pass a body through @f, which is borrowed until the stream has ended. From the server's side it
 * must keep lengths, and sees the trailer, too. */
void http2_filter(struct http2_stream *s, enum http2_side from, struct filter *f);
/* Send the request on, with the head's changes. -1: it is too long, or there is no server. */
int http2_forward(struct http2_stream *s, const struct http1_edit *edits, size_t n);
/* Answer in the server's place. The fields are name and value in turn, NULL behind the last. */
void http2_answer(struct http2_stream *s, unsigned status, const char *const *fields,
	const void *body, size_t len);
/* Break it off on both sides. */
void http2_drop(struct http2_stream *s);
const char *http2_error_name(uint32_t code);

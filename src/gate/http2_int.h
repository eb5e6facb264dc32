/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the http2*.c files that know nghttp2. */
#pragma once

#include <nghttp2/nghttp2.h>

#include "gate/http2.h"

#define HTTP2_FIELDS_MAX (HTTP1_HEADERS_MAX + 8)
/* What a head may have grown to when credentials are in it. */
#define HTTP2_SEND_MAX (512u * 1024u)

/* The head or trailer that arrives, as HTTP/1 text. One at a time on a connection. */
struct http2_block {
	struct buf method, path, authority, scheme, status;
	struct buf fields;                  /* "name: value\r\n" */
	size_t n_fields, size;              /* size: of everything that came, kept or not */
	uint8_t no_index[HTTP2_FIELDS_MAX]; /* the sender wants it kept out of HPACK's tables */
	const char *bad;                    /* static text: why it cannot be read */
};

/* One connection. */
struct http2_peer {
	struct http2 *http2;
	enum http2_side side;
	nghttp2_session *session; /* owned; NULL: the server is not there (any more) */
	nghttp2_mem mem;
	size_t allocated;
	struct http2_block block;
	const char *why; /* static text: what was wrong with what it sent */
};

struct http2 {
	struct http2_peer peer[HTTP2_SIDES];
	const struct http2_ops *ops;
	struct http2_budget *budget;
	void *arg;
	struct http2_stream *streams; /* owned */
	unsigned n_streams;
	size_t held[HTTP2_SIDES]; /* bytes of heads and bodies, by sender */
	bool leaving;             /* the guest will be told to go away … */
	bool left;                /* … and has been */
	bool no_server;           /* no more */
	uint32_t streams_max;     /* announced to the guest */
	uint64_t now_ns, refilled_ns;
	unsigned resets; /* that the guest may still cause */
};

/* A body on its way, from one side to the other. */
struct http2_pipe {
	struct buf data;
	size_t unread;         /* received, and not given back to the sender's window */
	bool waiting;          /* the reader sleeps */
	bool ended;            /* nothing more will come */
	bool discard;          /* nobody reads: given back at once */
	size_t collect;        /* up to so many bytes are kept, and are no concern of the window */
	struct filter *filter; /* borrowed; NULL: none */
	struct buf ready;      /* behind the filter */
	bool flushed;          /* the filter has nothing left */
	struct buf trailer;    /* fields, as in a block */
};

struct http2_private {
	int32_t id[HTTP2_SIDES]; /* 0: none */
	bool closed[HTTP2_SIDES];
	bool reset[HTTP2_SIDES]; /* by us */
	bool server_reset;       /* by the server */
	bool request_read;
	bool to_head;            /* the method is HEAD */
	bool own_answer;         /* the response is the owner's, not the server's */
	bool sent_all;           /* the guest has the whole response */
	struct buf text;         /* what the head points into */
	struct http1_head *held; /* owned; a response that waits for its body … */
	struct buf held_text;    /* … and what it points into */
	size_t head_held;
	uint8_t no_index[HTTP2_FIELDS_MAX];
	struct http2_pipe pipe[HTTP2_SIDES]; /* by sender */
};

/* http2.c: tell the guest to go away. */
void http2_goaway(struct http2 *h);

/* http2_head.c */
void http2_block_init(struct http2_block *b);
void http2_block_reset(struct http2_block *b);
void http2_block_done(struct http2_block *b);
/* One field as nghttp2 gives it. -1: more than anyone may send. */
int http2_block_add(struct http2_block *b, const uint8_t *name, size_t name_len,
	const uint8_t *value, size_t value_len, bool no_index);
/* Make the block the request of @s; @ended: without a body. -1 with the status in err->errnum. */
int http2_read_request(
	struct http2_stream *s, const struct http2_block *b, bool ended, struct err *err);
int http2_read_trailer(struct buf *ret, const struct http2_block *b, struct err *err);
/* The block as a response; *ret points into @text. */
int http2_read_response(const struct http2_stream *s, const struct http2_block *b, bool ended,
	struct buf *text, struct http1_head *ret, struct err *err);
int http2_submit_request(struct http2_stream *s, const struct http1_edit *edits, size_t n,
	nghttp2_data_provider *body);
/* @h: as read above. Interim responses, too. */
int http2_submit_response(struct http2_stream *s, const struct http1_head *h,
	const uint8_t *no_index, const struct http1_edit *edits, size_t n,
	nghttp2_data_provider *body);
int http2_submit_trailer(struct http2_stream *s, enum http2_side to, const struct buf *trailer);

/* http2_stream.c */
struct http2_stream *http2_stream_new(struct http2 *h, int32_t guest_id);
void http2_stream_free(struct http2_stream *s); /* with ended */
struct http2_stream *http2_find(const struct http2 *h, enum http2_side side, int32_t id);
/* What nghttp2 tells about one stream. None of these frees it. */
int http2_on_block(struct http2_stream *s, struct http2_peer *from, bool ended);
int http2_on_data(struct http2_stream *s, struct http2_peer *from, const uint8_t *p, size_t n);
void http2_on_ended(struct http2_stream *s, enum http2_side from);
void http2_on_sent_all(struct http2_stream *s);
/* May free @s. */
void http2_on_closed(struct http2_stream *s, enum http2_side side, uint32_t code);
/* The server will not answer, or not to the end. */
void http2_fail(struct http2_stream *s, const char *reason);

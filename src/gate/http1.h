/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1 message heads and body framing for a policy proxy (RFC 9110, 9112). No I/O.
 *
 * Where two readers could disagree about what a message is, it is refused: both framings, repeated
 * or odd Content-Length, a transfer coding other than exactly "chunked", obs-fold, bare CR or LF,
 * control bytes, space before a colon, two Hosts, an absolute URI that differs from Host.
 *
 * Reading a message:  http1_request_init (or _response_init); http1_parse with the unread bytes
 * from the head's first byte until it returns 1; consume head.size bytes; http1_body_init;
 * http1_body_feed with what follows until it returns 1. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "gate/filter.h"
#include "policy/name.h"

#define HTTP1_HEAD_MAX    65536u /* bytes of a head */
#define HTTP1_LINE_MAX    16384u /* bytes of the first line */
#define HTTP1_HEADERS_MAX 128
#define HTTP1_TRAILER_MAX 8192u /* bytes of a trailer section, and of a chunk's extensions */

/* Borrowed bytes, not terminated. */
struct http1_slice {
	const char *p;
	size_t n;
};

struct http1_header {
	struct http1_slice name;  /* as sent */
	struct http1_slice value; /* without surrounding blanks */
};

enum http1_form {
	HTTP1_ORIGIN,    /* /path?query */
	HTTP1_ABSOLUTE,  /* http://host/path?query, to a proxy */
	HTTP1_AUTHORITY, /* CONNECT host:port */
	HTTP1_ASTERISK,  /* OPTIONS * */
};

enum http1_framing {
	HTTP1_NO_BODY,
	HTTP1_LENGTH,
	HTTP1_CHUNKED,
	HTTP1_UNTIL_CLOSE, /* responses only */
	HTTP1_TUNNEL,      /* after 101, or 2xx to CONNECT: no longer HTTP */
};

/* Slices point into the bytes given to the http1_parse call that returned 1: borrowed until those
 * bytes move. */
struct http1_head {
	bool response;
	unsigned minor; /* HTTP/1.minor: 0 or 1 */
	/* requests */
	struct http1_slice method, target;
	enum http1_form form;
	struct http1_slice path, query; /* parts of target; query without '?', empty if none */
	/* Set by the owner: http1_write sends them instead; p is NULL where it shall not. */
	struct http1_slice send_path, send_query;
	bool has_host;                  /* only HTTP/1.0 may have none */
	struct policy_host host; /* from Host, equal to the target's authority if that has one */
	uint16_t port;           /* as written, else 0 (scheme's default) */
	bool https;              /* absolute form with https:// */
	bool expect_continue;
	/* responses */
	unsigned status;
	struct http1_slice reason;
	/* both */
	struct http1_header headers[HTTP1_HEADERS_MAX];
	size_t n_headers;
	enum http1_framing framing;
	uint64_t content_length; /* HTTP1_LENGTH; also what a HEAD response announces */
	bool keep_alive;         /* as far as this message says */
	bool upgrade; /* request: asks for Upgrade with Connection: upgrade (never for h2c) */
	size_t size;  /* bytes of the head, with the empty line */
	/* private to http1.c */
	size_t scanned_, line_start_;
	bool to_head_, to_connect_, to_upgrade_;
};

void http1_request_init(struct http1_head *h);
/* @request: the parsed request that is answered; its slices must still be valid in this call. After
 * a 1xx (but 101) the final response follows: init again. A 101 nobody asked for is refused. */
void http1_response_init(struct http1_head *h, const struct http1_head *request);
/* @data: the message from its first byte; may grow (and move) between calls. Returns 1: head
 * complete; 0: more bytes needed; -1: refused, ERR_PEER in @err with the status code to answer a
 * request with (400, 414, 417, 431, 501 or 505) in err->errnum. Do not call again after 1 or -1
 * without an init. */
int http1_parse(struct http1_head *h, const void *data, size_t len, struct err *err);

bool http1_slice_is(struct http1_slice s, const char *text);        /* exact */
bool http1_slice_is_nocase(struct http1_slice s, const char *text); /* ASCII case folded */
/* The header's first occurrence, or NULL. @name in any case. */
const struct http1_header *http1_find(const struct http1_head *h, const char *name);
/* Whether a comma-separated list header (all occurrences) has @token, case folded. */
bool http1_has_token(const struct http1_head *h, const char *name, const char *token);
/* A header field that the gate may write: a token name, a value without control bytes. */
bool http1_header_valid(const char *name, const char *value, size_t value_len);

/* A change to a head on its way. */
struct http1_edit {
	const char *name;  /* all occurrences in the head are dropped … */
	const char *value; /* … and this one added at the end; NULL: only dropped */
	size_t value_len;
};
/* Append the head to @out as an intermediary sends it on: first line in origin form, fields as
 * "Name: value" in their order, hop-by-hop fields (Connection and what it names, Keep-Alive,
 * Proxy-Connection, an Upgrade that was not taken) replaced by our own Connection, which says close
 * when !h->keep_alive; an edit of Connection replaces that. Then the edits. Fails, with nothing
 * written, when @out has less room than the head and its edits could need or an edit is invalid. */
int http1_write(
	const struct http1_head *h, const struct http1_edit *edits, size_t n, struct buf *out);

/* How a body is written. */
enum http1_written {
	HTTP1_AS_READ,  /* with the framing that it has */
	HTTP1_BARE,     /* without any, trailers dropped */
	HTTP1_IN_CHUNKS /* in chunks, whatever it was */
};

/* Streaming body. Output is the same body with its framing normalised: chunk extensions dropped,
 * sizes in plain hex; trailers are checked and kept. Output is never longer than its input, unless
 * the owner asks for another framing or a filter. */
struct http1_body {
	/* Set by the owner behind http1_body_init. A filter needs HTTP1_AS_READ with replacements
	 * that keep their length, or another framing. Borrowed until the body is done. */
	enum http1_written written;
	struct filter *filter;
	enum http1_framing framing;
	int state;
	uint64_t left;     /* of the length or the chunk */
	uint64_t received; /* payload bytes so far, for the audit log */
	size_t line;       /* bytes of the current chunk line or trailer section */
	unsigned digits;
	struct buf trailer; /* owned, bounded */
};

void http1_body_init(struct http1_body *b, const struct http1_head *h);
void http1_body_done(struct http1_body *b); /* {0} is fine */
/* Consume from @data what belongs to this body and what @out has room for (give at least 64 bytes
 * of room, with a filter filter_room() more), append to @out. Returns 1: the message is complete, the rest of @data is the next one;
 * 0: call again with more input or, even without input, when @out has more room; -1: malformed
 * (ERR_PEER), close both sides. *ret_used is set always. */
int http1_body_feed(struct http1_body *b, const void *data, size_t len, size_t *ret_used,
	struct buf *out, struct err *err);
/* The sender closed where http1_body_eof agrees: append what the filter holds back. Returns as
 * http1_body_feed. */
int http1_body_end(struct http1_body *b, struct buf *out);
/* The sender closed. True when the body is complete (also HTTP1_UNTIL_CLOSE), false: truncated. */
bool http1_body_eof(const struct http1_body *b);

/* The target's path for the audit log and for path rules: unreserved characters percent-decoded,
 * other escapes in upper case, dot segments removed, no query. Printable ASCII; at most @size - 1
 * bytes (@size at least 4), a cut is marked with "...". "*" and "" for the other forms. Returns
 * @buf. */
const char *http1_log_path(const struct http1_head *h, char *buf, size_t size);

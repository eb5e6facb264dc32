/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/1 bodies: byte by byte where framing is read, in runs where data is copied. */
#include "gate/http1_int.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"

/* The longest thing that is written in one go: CRLF, or a chunk line. */
#define OUT_MIN      24u
#define CHUNK_DIGITS 15 /* below 2^60: no overflow, no disagreement */
#define PIECE_MAX    16384u

/* States of a body; those below BODY_DONE want input. */
enum {
	BODY_DATA,  /* @left bytes of a length, or everything until the end */
	CHUNK_SIZE, /* hex digits */
	CHUNK_EXT,  /* behind ';' or a digit's CR is next */
	CHUNK_SIZE_LF,
	CHUNK_DATA, /* @left bytes */
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	TRAILER,       /* field lines up to the empty line, collected */
	FILTER_FLUSH,  /* the payload is complete, the filter holds something back */
	TRAILER_FLUSH, /* checked; on their way out */
	BODY_DONE,
};

void http1_body_init(struct http1_body *b, const struct http1_head *h)
{
	*b = (struct http1_body){.framing = h->framing};
	buf_init(&b->trailer, HTTP1_TRAILER_MAX + 8);
	switch (h->framing) {
	case HTTP1_NO_BODY:
		b->state = BODY_DONE;
		break;
	case HTTP1_LENGTH:
		b->left = h->content_length;
		b->state = b->left ? BODY_DATA : FILTER_FLUSH;
		break;
	case HTTP1_CHUNKED:
		b->state = CHUNK_SIZE;
		break;
	case HTTP1_UNTIL_CLOSE:
	case HTTP1_TUNNEL:
		b->left = UINT64_MAX;
		b->state = BODY_DATA;
		break;
	}
}

void http1_body_done(struct http1_body *b)
{
	buf_done(&b->trailer);
}

bool http1_body_eof(const struct http1_body *b)
{
	return b->state == BODY_DONE || b->state == FILTER_FLUSH || b->state == TRAILER_FLUSH ||
	       (b->state == BODY_DATA &&
		       (b->framing == HTTP1_UNTIL_CLOSE || b->framing == HTTP1_TUNNEL));
}

/* Whether payload goes out in chunks of our own, because what is read is not what is sent. */
static bool makes_chunks(const struct http1_body *b)
{
	return b->written == HTTP1_IN_CHUNKS ||
	       (b->written == HTTP1_AS_READ && b->framing == HTTP1_CHUNKED && b->filter);
}

/* Chunk lines pass as they are. */
static bool keeps_chunks(const struct http1_body *b)
{
	return b->framing == HTTP1_CHUNKED && b->written == HTTP1_AS_READ && !b->filter;
}

static void put_chunk(struct buf *piece, struct buf *out)
{
	char line[OUT_MIN];

	if (buf_len(piece) == 0)
		return;
	snprintf(line, sizeof(line), "%zx\r\n", buf_len(piece));
	buf_puts(out, line);
	buf_put(out, buf_head(piece), buf_len(piece));
	buf_puts(out, "\r\n");
}

/* Payload on its way out; with @last also what the filter holds back. Returns how much was taken,
 * or with @last whether nothing is left. */
static size_t put_payload(
	struct http1_body *b, const uint8_t *p, size_t len, bool last, struct buf *out)
{
	struct buf piece, *to = out;
	size_t n;

	if (makes_chunks(b)) {
		buf_init(&piece,
			MIN(buf_room(out) - OUT_MIN,
				MAX(b->filter ? filter_room(b->filter) : 0, (size_t)PIECE_MAX)));
		to = &piece;
	}
	if (!b->filter) {
		n = MIN(len, buf_room(to));
		buf_put(to, p, n);
	} else {
		n = last ? filter_flush(b->filter, to) : filter_feed(b->filter, p, len, to);
	}
	if (to == &piece) {
		put_chunk(&piece, out);
		buf_wipe(&piece);
	}
	return n;
}

/* The state behind the payload's last byte. */
static int after_payload(const struct http1_body *b)
{
	return b->filter || b->written == HTTP1_IN_CHUNKS ? FILTER_FLUSH : BODY_DONE;
}

/* Copy a run of data. Returns how much was taken. */
static size_t copy_data(struct http1_body *b, const uint8_t *p, size_t len, struct buf *out)
{
	size_t n = put_payload(b, p, (size_t)MIN((uint64_t)len, b->left), false, out);

	b->received += n;
	if (b->framing == HTTP1_LENGTH || b->framing == HTTP1_CHUNKED)
		b->left -= n;
	if (b->left == 0)
		b->state = b->framing == HTTP1_CHUNKED ? CHUNK_DATA_CR : after_payload(b);
	return n;
}

/* Behind the payload: what is held back, and the last chunk where the framing is ours. False when
 * @out has no room. */
static bool flush_filter(struct http1_body *b, struct buf *out)
{
	if (b->filter && !put_payload(b, NULL, 0, true, out))
		return false;
	if (b->framing == HTTP1_CHUNKED) {
		b->state = b->written == HTTP1_BARE ? BODY_DONE : TRAILER_FLUSH;
		return true;
	}
	if (b->written == HTTP1_IN_CHUNKS)
		buf_puts(out, "0\r\n\r\n");
	b->state = BODY_DONE;
	return true;
}

static int hex_value(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void end_chunk_line(struct http1_body *b, struct buf *out)
{
	char line[OUT_MIN];

	b->digits = 0;
	b->line = 0;
	if (b->left == 0) {
		b->state = TRAILER;
		buf_puts(&b->trailer, "0\r\n");
		return;
	}
	if (keeps_chunks(b)) {
		snprintf(line, sizeof(line), "%llx\r\n", (unsigned long long)b->left);
		buf_puts(out, line);
	}
	b->state = CHUNK_DATA;
}

/* One byte of a chunk's first line. */
static int chunk_line_byte(struct http1_body *b, uint8_t c, struct buf *out, struct err *err)
{
	int v = hex_value(c);

	if (++b->line > HTTP1_TRAILER_MAX)
		return http1_refuse(err, 400, "chunk line is too long");
	if (b->state == CHUNK_SIZE_LF) {
		if (c != '\n')
			return http1_refuse(err, 400, "chunk line does not end in CR LF");
		end_chunk_line(b, out);
		return 0;
	}
	if (b->state == CHUNK_SIZE && v >= 0) {
		if (++b->digits > CHUNK_DIGITS)
			return http1_refuse(err, 400, "chunk size is too large");
		b->left = b->left << 4 | (unsigned)v;
		return 0;
	}
	if (b->state == CHUNK_SIZE && (b->digits == 0 || (c != ';' && c != '\r')))
		return http1_refuse(err, 400, "chunk size is not a hexadecimal number");
	if (c == '\r')
		b->state = CHUNK_SIZE_LF;
	else if ((c < ' ' && c != '\t') || c == 0x7f)
		return http1_refuse(err, 400, "control byte in a chunk extension");
	else
		b->state = CHUNK_EXT;
	return 0;
}

bool http1_trailer_forbidden(struct http1_slice name)
{
	static const char *const forbidden[] = {"content-length", "transfer-encoding", "host",
		"connection", "keep-alive", "upgrade", "te", "trailer", "expect", "authorization",
		"proxy-authorization", "proxy-authenticate", "proxy-connection", "www-authenticate",
		"cookie", "set-cookie", "content-type", "content-encoding", "content-range",
		"range", "location", "max-forwards", "cache-control"};

	for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++) {
		if (http1_slice_is_nocase(name, forbidden[i]))
			return true;
	}
	return false;
}

/* The collected lines, from behind the "0" line to the empty line. */
static int check_trailer(const struct buf *trailer, struct err *err)
{
	const char *s = (const char *)buf_head(trailer) + 3;
	const char *end = (const char *)buf_head(trailer) + buf_len(trailer) - 2;

	for (size_t n = 0; s < end; n++) {
		const char *cr = memchr(s, '\r', (size_t)(end - s));
		struct http1_header f;

		if (n == HTTP1_HEADERS_MAX)
			return http1_refuse(
				err, 400, "more than %d trailer fields", HTTP1_HEADERS_MAX);
		if (http1_field(s, (size_t)(cr - s), &f, err) < 0)
			return -1;
		if (http1_trailer_forbidden(f.name))
			return http1_refuse(err, 400, "field %.*s in a trailer",
				(int)MIN(f.name.n, 64u), f.name.p);
		s = cr + 2;
	}
	return 0;
}

/* One byte of the trailer section. b->line counts the bytes of the current line. */
static int trailer_byte(struct http1_body *b, uint8_t c, struct err *err)
{
	const uint8_t *have = buf_head(&b->trailer);
	size_t n = buf_len(&b->trailer);
	bool after_cr = have[n - 1] == '\r';

	if (n > HTTP1_TRAILER_MAX)
		return http1_refuse(err, 400, "trailer section is too long");
	if (after_cr != (c == '\n'))
		return http1_refuse(err, 400, "line end in a trailer is not CR LF");
	if ((c < ' ' && c != '\t' && c != '\r' && c != '\n') || c == 0x7f)
		return http1_refuse(err, 400, "control byte in a trailer");
	buf_put_u8(&b->trailer, c);
	b->line++;
	if (c != '\n')
		return 0;
	if (b->line == 2) {
		if (check_trailer(&b->trailer, err) < 0)
			return -1;
		if (b->filter)
			filter_in_place(b->filter, buf_head(&b->trailer), buf_len(&b->trailer));
		b->state = FILTER_FLUSH;
		return 0;
	}
	b->line = 0;
	return 0;
}

static void flush_trailer(struct http1_body *b, struct buf *out)
{
	size_t n = MIN(buf_len(&b->trailer), buf_room(out));

	buf_put(out, buf_head(&b->trailer), n);
	buf_consume(&b->trailer, n);
	if (buf_len(&b->trailer) == 0)
		b->state = BODY_DONE;
}

int http1_body_end(struct http1_body *b, struct buf *out)
{
	if (b->state == BODY_DATA)
		b->state = after_payload(b);
	if (b->state == FILTER_FLUSH && buf_room(out) >= OUT_MIN)
		flush_filter(b, out);
	if (b->state == TRAILER_FLUSH)
		flush_trailer(b, out);
	return b->state == BODY_DONE;
}

/* One byte where framing is read. */
static int framing_byte(struct http1_body *b, uint8_t c, struct buf *out, struct err *err)
{
	switch (b->state) {
	case CHUNK_DATA_CR:
		b->state = CHUNK_DATA_LF;
		return c == '\r' ? 0 : http1_refuse(err, 400, "chunk does not end in CR LF");
	case CHUNK_DATA_LF:
		if (c != '\n')
			return http1_refuse(err, 400, "chunk does not end in CR LF");
		if (keeps_chunks(b))
			buf_puts(out, "\r\n");
		b->state = CHUNK_SIZE;
		b->left = 0;
		return 0;
	case TRAILER:
		return trailer_byte(b, c, err);
	default:
		return chunk_line_byte(b, c, out, err);
	}
}

int http1_body_feed(struct http1_body *b, const void *data, size_t len, size_t *ret_used,
	struct buf *out, struct err *err)
{
	const uint8_t *p = data;
	size_t used = 0;
	int r = 0;

	while (r == 0 && b->state != BODY_DONE && buf_room(out) >= OUT_MIN) {
		if (b->state == FILTER_FLUSH) {
			if (!flush_filter(b, out))
				break;
			continue;
		}
		if (b->state == TRAILER_FLUSH) {
			flush_trailer(b, out);
			continue;
		}
		if (used == len)
			break;
		if (b->state == BODY_DATA || b->state == CHUNK_DATA) {
			size_t n = copy_data(b, p + used, len - used, out);

			if (n == 0)
				break;
			used += n;
		} else {
			r = framing_byte(b, p[used++], out, err);
		}
	}
	*ret_used = used;
	if (r < 0)
		return -1;
	return b->state == BODY_DONE;
}

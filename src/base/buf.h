/* SPDX-License-Identifier: Apache-2.0 */
/* Byte buffer with a ceiling, read from the front and written at the back. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Invariant: off <= len <= cap <= max. Unread bytes are data[off..len). */
struct buf {
	uint8_t *data; /* owned */
	size_t off, len, cap;
	size_t max;   /* ceiling on unread bytes */
	bool failed;  /* a put went over the ceiling; sticky until buf_reset */
};

/* @max is the most unread bytes the buffer may ever hold. Nothing is allocated yet. */
void buf_init(struct buf *b, size_t max);
void buf_done(struct buf *b); /* frees; {0} and twice are fine */
/* As buf_done, and wipes the memory first. */
void buf_wipe(struct buf *b);
static inline void buf_cleanup(struct buf *b)
{
	buf_done(b);
}
#define _buf_ __attribute__((cleanup(buf_cleanup)))

static inline size_t buf_len(const struct buf *b)
{
	return b->len - b->off;
}
static inline uint8_t *buf_head(const struct buf *b)
{
	return b->data ? b->data + b->off : NULL; /* NULL + 0 is undefined */
}
static inline size_t buf_room(const struct buf *b)
{
	return b->max - buf_len(b);
}

/* Make room for @n more bytes and return where to write them, or NULL (failed is set). Follow
 * with buf_commit for what was really written. */
uint8_t *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);
/* Append; all of it or nothing. Returns 0, or -1 with failed set when it would pass the ceiling. */
int buf_put(struct buf *b, const void *p, size_t n);
int buf_puts(struct buf *b, const char *s);
int buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int buf_put_u8(struct buf *b, uint8_t v);
int buf_put_le16(struct buf *b, uint16_t v);
int buf_put_le32(struct buf *b, uint32_t v);
int buf_put_le64(struct buf *b, uint64_t v);
int buf_put_be16(struct buf *b, uint16_t v);
int buf_put_be32(struct buf *b, uint32_t v);
/* Drop @n bytes (at most all) from the front. */
void buf_consume(struct buf *b, size_t n);
void buf_reset(struct buf *b); /* forget content and failure, keep memory */
/* NUL-terminate in place (the NUL does not count) and return the unread bytes as a string. */
char *buf_cstr(struct buf *b);

/* One read()/write() on a file descriptor. Return the byte count, 0 at end of file (read) or an
 * empty buffer (write), -1 with errno set. buf_read reads at most @n bytes and what fits;
 * with no room it fails with ENOBUFS. */
ssize_t buf_read(struct buf *b, int fd, size_t n);
ssize_t buf_write(struct buf *b, int fd);

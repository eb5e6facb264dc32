/* SPDX-License-Identifier: Apache-2.0 */
/* Byte buffer with a ceiling. */
#include "base/buf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){.max = max};
}

void buf_done(struct buf *b)
{
	free(b->data);
	*b = (struct buf){.max = b->max};
}

void buf_wipe(struct buf *b)
{
	if (b->data)
		mem_wipe(b->data, b->cap);
	buf_done(b);
}

uint8_t *buf_reserve(struct buf *b, size_t n)
{
	size_t used = buf_len(b), cap;
	uint8_t *data;

	if (b->failed || n > b->max - used) {
		b->failed = true;
		return NULL;
	}
	/* One spare byte so that buf_cstr can always terminate. */
	if (b->cap > b->len && n < b->cap - b->len)
		return b->data + b->len;
	if (b->off > 0 && n < b->cap - used) {
		memmove(b->data, b->data + b->off, used);
		b->off = 0;
		b->len = used;
		return b->data + b->len;
	}
	cap = MAX(b->cap * 2, (size_t)256);
	cap = MIN(MAX(cap, used + n), b->max) + 1;
	/* Not realloc: the old block may hold a secret and must be left in a known state. */
	data = xmalloc(cap);
	if (used)
		memcpy(data, b->data + b->off, used);
	if (b->data)
		mem_wipe(b->data, b->cap);
	free(b->data);
	b->data = data;
	b->cap = cap;
	b->off = 0;
	b->len = used;
	return b->data + b->len;
}

void buf_commit(struct buf *b, size_t n)
{
	b->len += n;
}

int buf_put(struct buf *b, const void *p, size_t n)
{
	uint8_t *to = buf_reserve(b, n);

	if (!to)
		return -1;
	if (n)
		memcpy(to, p, n);
	b->len += n;
	return 0;
}

int buf_puts(struct buf *b, const char *s)
{
	return buf_put(b, s, strlen(s));
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	_free_ char *s = NULL;
	va_list ap;

	va_start(ap, fmt);
	s = xvasprintf(fmt, ap);
	va_end(ap);
	return buf_puts(b, s);
}

static int put_int(struct buf *b, uint64_t v, int bytes, bool big)
{
	uint8_t tmp[8];

	for (int i = 0; i < bytes; i++)
		tmp[big ? bytes - 1 - i : i] = (uint8_t)(v >> (8 * i));
	return buf_put(b, tmp, (size_t)bytes);
}

int buf_put_u8(struct buf *b, uint8_t v)
{
	return buf_put(b, &v, 1);
}

int buf_put_le16(struct buf *b, uint16_t v)
{
	return put_int(b, v, 2, false);
}

int buf_put_le32(struct buf *b, uint32_t v)
{
	return put_int(b, v, 4, false);
}

int buf_put_le64(struct buf *b, uint64_t v)
{
	return put_int(b, v, 8, false);
}

int buf_put_be16(struct buf *b, uint16_t v)
{
	return put_int(b, v, 2, true);
}

int buf_put_be32(struct buf *b, uint32_t v)
{
	return put_int(b, v, 4, true);
}

void buf_consume(struct buf *b, size_t n)
{
	b->off += MIN(n, buf_len(b));
	if (b->off == b->len)
		b->off = b->len = 0;
}

void buf_reset(struct buf *b)
{
	b->off = b->len = 0;
	b->failed = false;
}

char *buf_cstr(struct buf *b)
{
	if (!b->data) {
		b->data = xmalloc(1);
		b->cap = 1;
	}
	b->data[b->len] = '\0';
	return (char *)b->data + b->off;
}

ssize_t buf_read(struct buf *b, int fd, size_t n)
{
	size_t room = buf_room(b);
	uint8_t *to;
	ssize_t got;

	if (room == 0 || b->failed) {
		errno = ENOBUFS;
		return -1;
	}
	n = MIN(n, room);
	to = buf_reserve(b, n);
	if (!to) {
		errno = ENOBUFS;
		return -1;
	}
	got = read(fd, to, n);
	if (got > 0)
		b->len += (size_t)got;
	return got;
}

ssize_t buf_write(struct buf *b, int fd)
{
	ssize_t put;

	if (buf_len(b) == 0)
		return 0;
	put = write(fd, buf_head(b), buf_len(b));
	if (put > 0)
		buf_consume(b, (size_t)put);
	return put;
}

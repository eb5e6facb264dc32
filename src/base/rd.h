/* SPDX-License-Identifier: Apache-2.0 */
/* Bounds-checked reader over hostile bytes.
 *
 * A reader only ever moves forward and never past its end. A read that does not fit sets `bad`,
 * which sticks: callers read a whole structure and test once, with rd_ok() (more may follow) or
 * rd_done() (everything was consumed). Failed reads return zeros, never stale memory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct rd {
	const uint8_t *p, *end; /* borrowed */
	bool bad;
};

static inline struct rd rd_make(const void *p, size_t len)
{
	return (struct rd){.p = p, .end = len ? (const uint8_t *)p + len : p};
}

static inline size_t rd_left(const struct rd *r)
{
	return r->bad ? 0 : (size_t)(r->end - r->p);
}

static inline bool rd_ok(const struct rd *r)
{
	return !r->bad;
}

static inline bool rd_done(const struct rd *r)
{
	return !r->bad && r->p == r->end;
}

/* The next @n bytes in place, or NULL. */
static inline const uint8_t *rd_bytes(struct rd *r, size_t n)
{
	const uint8_t *p = r->p;

	if (n > rd_left(r)) {
		r->bad = true;
		return NULL;
	}
	if (n)
		r->p += n;
	return p;
}

static inline void rd_copy(struct rd *r, void *to, size_t n)
{
	const uint8_t *p = rd_bytes(r, n);

	if (!n)
		return;
	if (p)
		memcpy(to, p, n);
	else
		memset(to, 0, n);
}

static inline uint64_t rd_int_(struct rd *r, size_t bytes, bool big)
{
	const uint8_t *p = rd_bytes(r, bytes);
	uint64_t v = 0;

	if (!p)
		return 0;
	for (size_t i = 0; i < bytes; i++)
		v |= (uint64_t)p[big ? bytes - 1 - i : i] << (8 * i);
	return v;
}

static inline uint8_t rd_u8(struct rd *r)
{
	return (uint8_t)rd_int_(r, 1, false);
}
static inline uint16_t rd_le16(struct rd *r)
{
	return (uint16_t)rd_int_(r, 2, false);
}
static inline uint32_t rd_le32(struct rd *r)
{
	return (uint32_t)rd_int_(r, 4, false);
}
static inline uint64_t rd_le64(struct rd *r)
{
	return rd_int_(r, 8, false);
}
static inline uint16_t rd_be16(struct rd *r)
{
	return (uint16_t)rd_int_(r, 2, true);
}
static inline uint32_t rd_be24(struct rd *r)
{
	return (uint32_t)rd_int_(r, 3, true);
}
static inline uint32_t rd_be32(struct rd *r)
{
	return (uint32_t)rd_int_(r, 4, true);
}

/* A reader over the next @n bytes; the outer reader moves past them. Bad when they do not fit. */
static inline struct rd rd_sub(struct rd *r, size_t n)
{
	const uint8_t *p = rd_bytes(r, n);

	if (!p || r->bad)
		return (struct rd){.bad = true};
	return rd_make(p, n);
}

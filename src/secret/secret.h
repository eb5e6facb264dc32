/* SPDX-License-Identifier: Apache-2.0 */
/* A secret value in memory that is locked, left out of core dumps and wiped.
 *
 * The type is opaque on purpose: there is no way to print it, and the bytes come out of one
 * function whose name is easy to search for. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define SECRET_VALUE_MAX (64u * 1024u) /* bytes */

struct secret;

/* A zeroed value of @len bytes (1..SECRET_VALUE_MAX) to fill through secret_bytes. Owned by the
 * caller. NULL with @err. Memory that the host refuses to lock (RLIMIT_MEMLOCK) is used all the
 * same: it is still wiped and kept out of core dumps; see secret_locked. */
struct secret *secret_alloc(size_t len, struct err *err);
/* The same for what is made of values, which may be longer: never NULL, as xmalloc. */
struct secret *secret_room(size_t len);
/* A copy of @len bytes. The caller wipes its own. */
struct secret *secret_new(const void *p, size_t len, struct err *err);
/* All that @fd has, straight into locked memory, without one trailing line break. NULL with @err, also
 * when that is nothing or too long. */
struct secret *secret_read(int fd, struct err *err);
void secret_free(struct secret *s); /* wipes; NULL is fine */
static inline void secret_cleanup(struct secret **s)
{
	secret_free(*s);
}
#define _secret_ __attribute__((cleanup(secret_cleanup)))

/* The value itself; borrowed until secret_free. Not NUL-terminated. Never log or format it. */
char *secret_bytes(struct secret *s);
size_t secret_len(const struct secret *s);
bool secret_locked(const struct secret *s);
/* Shorten the value to @len bytes and wipe what is cut off. */
void secret_truncate(struct secret *s, size_t len);
/* Take one line break off the end. Whether anything is left. */
bool secret_trim(struct secret *s);
/* Compare in a time that depends on the lengths only. */
bool secret_equal(const struct secret *a, const struct secret *b);
bool secret_is(const struct secret *s, const void *p, size_t len);

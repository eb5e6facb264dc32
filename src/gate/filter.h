/* SPDX-License-Identifier: Apache-2.0 */
/* Replacing byte strings in a stream, wherever its pieces are cut. No I/O.
 *
 * At each place the longest of the strings that begin there is replaced, and the search goes on
 * behind it. What may still become one of them is held back: at most the longest one less a byte,
 * and nothing at all while no string can have begun.
 *
 * A filter that only masks does not hold back the first FILTER_LEAD bytes of what may become a
 * string: two sides that take turns would wait for each other whenever a message ends in the first
 * byte of one. When it does become one, only the rest is masked. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define FILTER_MIN   4u             /* bytes of the shortest string that can be looked for */
#define FILTER_MAX   (256u * 1024u) /* bytes of the longest one, and of what replaces it */
#define FILTER_LEAD  3u             /* bytes that a mask may show */
#define FILTER_COUNT 512u           /* strings */

struct filter;

struct filter *filter_new(void);
/* Another stream for the same strings. They are shared, not copied; what is added to one of the two
 * later is not in the other. */
struct filter *filter_like(const struct filter *other);
void filter_free(struct filter *f); /* wipes; NULL is fine */

/* Replace @find by @with; both are copied. A string that is there already keeps its replacement.
 * -1: too short, too long, or one too many. */
int filter_add(struct filter *f, const void *find, size_t n, const void *with, size_t with_n);
/* Replace @find by as many asterisks. */
int filter_add_mask(struct filter *f, const void *find, size_t n);
/* All strings of @other as well. -1: not all of them. */
int filter_add_all(struct filter *f, const struct filter *other);
bool filter_is_empty(const struct filter *f);
/* Whether there was one too many, so that something passes which should not. */
bool filter_is_over(const struct filter *f);
/* How much room @out needs for anything to move: the longest replacement. */
size_t filter_room(const struct filter *f);

/* Append to @out what is known of the stream with these bytes. Returns how many of them were taken:
 * fewer when @out has no room left. */
size_t filter_feed(struct filter *f, const void *data, size_t len, struct buf *out);
/* The stream has ended: append what was held back. True when nothing is left; false: call again
 * when
 * @out has more room. */
bool filter_flush(struct filter *f, struct buf *out);
/* Forget the stream, keep the strings. */
void filter_reset(struct filter *f);
/* What has been replaced so far. */
uint64_t filter_hits(const struct filter *f);

/* Replace inside @p, which is a stream of its own: for strings that keep their length only. */
void filter_in_place(struct filter *f, void *p, size_t len);

/* SPDX-License-Identifier: Apache-2.0 */
/* Replacing byte strings in a stream.
 *
 * Plain comparison at every byte with which a string can begin. Its cost at one place is the length
 * of the part that agrees, and nobody outside knows more of a secret value than its prefix; what a
 * guest does know, placeholders, is short.
 *
 * Strings are secret values, forms of them, or become one, so they lie where values do: locked, left
 * out of core dumps, wiped. That memory costs system calls and whole pages, so many share a block. */
#include "gate/filter.h"

#include <string.h>

#include "base/mem.h"
#include "secret/secret.h"

#define STEP  16384u /* bytes looked at in one go */
#define BLOCK 3968u  /* bytes for strings, which with their head are a page */

struct block {
	struct block *next;
	struct secret *room; /* owned */
	size_t used;
};

struct entry {
	const uint8_t *find, *with; /* in a block; with NULL: asterisks */
	size_t n, with_n;
};

/* What is looked for. Filters of the same strings share one, until they differ. */
struct strings {
	unsigned refs;
	struct block *blocks;  /* owned */
	struct entry *entries; /* owned; the longest first */
	size_t n, room, longest_with;
	bool begins[256]; /* bytes with which an entry begins */
	bool grows;       /* some entry changes its length */
	bool over;        /* there was one too many */
};

struct filter {
	struct strings *strings; /* a reference */
	struct buf work;         /* what is held back, and the bytes under examination */
	size_t shown;            /* bytes at its begin that are in the output already */
	uint64_t hits;
};

static void strings_unref(struct strings *s)
{
	struct block *b;

	if (--s->refs)
		return;
	while ((b = s->blocks)) {
		s->blocks = b->next;
		secret_free(b->room);
		free(b);
	}
	free(s->entries);
	free(s);
}

static const uint8_t *keep(struct strings *s, const void *p, size_t n)
{
	struct block *b = s->blocks;
	uint8_t *to;

	if (!b || secret_len(b->room) - b->used < n) {
		b = xcalloc(1, sizeof(*b));
		b->room = secret_room(MAX(n, (size_t)BLOCK));
		b->next = s->blocks;
		s->blocks = b;
	}
	to = (uint8_t *)secret_bytes(b->room) + b->used;
	if (n)
		memcpy(to, p, n);
	b->used += n;
	return to;
}

static struct entry new_entry(
	struct strings *s, const void *find, size_t n, const void *with, size_t with_n)
{
	struct entry e = {.find = keep(s, find, n), .n = n, .with_n = with_n};

	if (with)
		e.with = keep(s, with, with_n);
	return e;
}

/* Strings that are this filter's alone. */
static struct strings *own_strings(struct filter *f)
{
	struct strings *old = f->strings, *s;

	if (old->refs == 1)
		return old;
	s = xmalloc(sizeof(*s));
	*s = *old;
	s->refs = 1;
	s->blocks = NULL;
	s->room = s->n;
	s->entries = xcalloc(s->n + 1, sizeof(*s->entries));
	for (size_t i = 0; i < s->n; i++) {
		const struct entry *e = &old->entries[i];

		s->entries[i] = new_entry(s, e->find, e->n, e->with, e->with_n);
	}
	strings_unref(old);
	return f->strings = s;
}

struct filter *filter_new(void)
{
	struct filter *f = xcalloc(1, sizeof(*f));

	f->strings = xcalloc(1, sizeof(*f->strings));
	f->strings->refs = 1;
	buf_init(&f->work, FILTER_MAX + STEP);
	return f;
}

struct filter *filter_like(const struct filter *other)
{
	struct filter *f = xcalloc(1, sizeof(*f));

	f->strings = other->strings;
	f->strings->refs++;
	buf_init(&f->work, FILTER_MAX + STEP);
	return f;
}

void filter_free(struct filter *f)
{
	if (!f)
		return;
	strings_unref(f->strings);
	buf_wipe(&f->work);
	free(f);
}

/* @with NULL: asterisks. */
static int add(struct filter *f, const void *find, size_t n, const void *with, size_t with_n)
{
	struct strings *s = f->strings;
	size_t at = 0;

	if (n < FILTER_MIN || n > FILTER_MAX || with_n > FILTER_MAX)
		return -1;
	for (; at < s->n && s->entries[at].n >= n; at++)
		if (s->entries[at].n == n && memcmp(s->entries[at].find, find, n) == 0)
			return 0;
	s = own_strings(f);
	if (s->n == FILTER_COUNT) {
		s->over = true;
		return -1;
	}
	if (s->n == s->room) {
		s->room = s->n * 2 + 8;
		s->entries = xrealloc(s->entries, s->room, sizeof(*s->entries));
	}
	memmove(&s->entries[at + 1], &s->entries[at], (s->n - at) * sizeof(*s->entries));
	s->entries[at] = new_entry(s, find, n, with, with_n);
	s->n++;
	s->begins[s->entries[at].find[0]] = true;
	s->longest_with = MAX(s->longest_with, with_n);
	s->grows = s->grows || with_n != n;
	return 0;
}

int filter_add(struct filter *f, const void *find, size_t n, const void *with, size_t with_n)
{
	return add(f, find, n, with ? with : "", with_n);
}

int filter_add_mask(struct filter *f, const void *find, size_t n)
{
	return add(f, find, n, NULL, n);
}

int filter_add_all(struct filter *f, const struct filter *other)
{
	const struct strings *from = other->strings;
	int result = 0;

	for (size_t i = 0; from != f->strings && i < from->n; i++) {
		const struct entry *e = &from->entries[i];

		if (add(f, e->find, e->n, e->with, e->with_n) < 0)
			result = -1;
	}
	return result;
}

bool filter_is_empty(const struct filter *f)
{
	return f->strings->n == 0;
}

bool filter_is_over(const struct filter *f)
{
	return f->strings->over;
}

size_t filter_room(const struct filter *f)
{
	return MAX(f->strings->longest_with, (size_t)1);
}

uint64_t filter_hits(const struct filter *f)
{
	return f->hits;
}

void filter_reset(struct filter *f)
{
	buf_wipe(&f->work);
	buf_init(&f->work, FILTER_MAX + STEP);
	f->shown = 0;
	f->hits = 0;
}

/* The longest entry that @p begins with, or, unless it is the @last of the stream, may begin with.
 */
static const struct entry *find_at(const struct filter *f, const uint8_t *p, size_t n, bool last)
{
	for (size_t i = 0; i < f->strings->n; i++) {
		const struct entry *e = &f->strings->entries[i];

		if (e->find[0] == p[0] && (e->n <= n || !last) &&
			memcmp(e->find, p, MIN(e->n, n)) == 0)
			return e;
	}
	return NULL;
}

/* The first place where an entry is or may be; @n for none. */
static size_t next_place(
	const struct filter *f, const uint8_t *p, size_t n, bool last, const struct entry **ret)
{
	for (size_t i = 0; i < n; i++) {
		if (!f->strings->begins[p[i]])
			continue;
		*ret = find_at(f, p + i, n - i, last);
		if (*ret)
			return i;
	}
	*ret = NULL;
	return n;
}

/* Move @n bytes of work, which become @as (NULL: asterisks), but for those that have been shown. */
static void move(struct filter *f, const uint8_t *as, size_t as_n, size_t n, struct buf *out)
{
	size_t shown = MIN(f->shown, n);
	uint8_t *stars;

	if (as_n > shown && as)
		buf_put(out, as + shown, as_n - shown);
	else if (as_n > shown && (stars = buf_reserve(out, as_n - shown))) {
		memset(stars, '*', as_n - shown);
		buf_commit(out, as_n - shown);
	}
	buf_consume(&f->work, n);
	f->shown -= shown;
}

/* Of @n bytes that may become a string, show the first. */
static void show_lead(struct filter *f, size_t n, struct buf *out)
{
	size_t lead = MIN(n, (size_t)FILTER_LEAD);

	if (f->strings->grows || lead <= f->shown || buf_room(out) < lead - f->shown)
		return;
	if (n <= FILTER_LEAD) {
		buf_put(out, buf_head(&f->work) + f->shown, lead - f->shown);
		f->shown = lead;
	}
}

/* Move from work to @out what is certain. False when @out is full. */
static bool scan(struct filter *f, struct buf *out, bool last)
{
	while (buf_len(&f->work) > 0) {
		const uint8_t *p = buf_head(&f->work);
		size_t n = buf_len(&f->work), plain, fits;
		const struct entry *e;

		plain = next_place(f, p, n, last, &e);
		fits = MIN(plain, buf_room(out) + f->shown);
		move(f, p, fits, fits, out);
		if (fits < plain)
			return false;
		if (e && e->n > n - plain)
			show_lead(f, n - plain, out);
		if (!e || e->n > n - plain)
			return true;
		if (buf_room(out) < e->with_n)
			return false;
		move(f, e->with, e->with_n, e->n, out);
		f->hits++;
	}
	return true;
}

/* How many of @len more bytes can be taken so that what is not held back fits. */
static size_t may_take(const struct filter *f, size_t len, const struct buf *out)
{
	size_t held = buf_len(&f->work) - f->shown, room = buf_room(out);

	len = MIN(len, (size_t)STEP);
	return f->strings->grows ? len : MIN(len, room > held ? room - held : 0);
}

/* Nothing but what may become a string stays in work: the caller would not know that it has to come
 * back for the rest. */
size_t filter_feed(struct filter *f, const void *data, size_t len, struct buf *out)
{
	const uint8_t *p = data;
	size_t used = 0, n;

	while ((n = may_take(f, len - used, out)) > 0) {
		size_t back = 0;

		buf_put(&f->work, p + used, n);
		if (!scan(f, out, false)) {
			back = MIN(buf_len(&f->work), n);
			f->work.len -= back;
		}
		used += n - back;
		if (back)
			break;
	}
	return used;
}

bool filter_flush(struct filter *f, struct buf *out)
{
	return scan(f, out, true);
}

void filter_in_place(struct filter *f, void *bytes, size_t len)
{
	uint8_t *p = bytes;
	const struct entry *e;

	for (size_t at = 0; at < len; at += e->n) {
		at += next_place(f, p + at, len - at, true, &e);
		if (!e)
			return;
		if (!e->with)
			memset(p + at, '*', e->n);
		else if (e->with_n == e->n)
			memcpy(p + at, e->with, e->n);
		f->hits++;
	}
}

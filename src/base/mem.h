/* SPDX-License-Identifier: Apache-2.0 */
/* Allocation that cannot fail, scope-bound cleanup, and the small macros used everywhere. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)	((a) < (b) ? (a) : (b))
#define MAX(a, b)	((a) > (b) ? (a) : (b))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

/* The x functions end the process with one line when memory is out: legitimate because every
 * size that a peer can influence has a ceiling long before. */
/* @p; without it the process ends. */
void *mem_check(void *p);
void *xmalloc(size_t size);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n, size_t size); /* overflow-checked n * size */
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *xvasprintf(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));

/* Overwrite memory in a way that the compiler keeps. */
void mem_wipe(void *p, size_t len);

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}
#define _free_ __attribute__((cleanup(cleanup_free)))

/* Hand an owned pointer out of its scope: the variable becomes NULL. */
static inline void *steal_ptr_(void *pp)
{
	void **slot = pp, *p = *slot;

	*slot = NULL;
	return p;
}
#define steal_ptr(pp) ((__typeof__(*(pp)))steal_ptr_(pp))

/* A growable NULL-terminated list of owned strings. {0} is a valid empty list. */
struct strv {
	char **v;
	size_t n;
};
void strv_add(struct strv *l, const char *s);  /* copies */
void strv_take(struct strv *l, char *s);       /* takes */
void strv_addf(struct strv *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void strv_copy(struct strv *dst, const struct strv *src); /* appends copies */
bool strv_has(const struct strv *l, const char *s);
void strv_done(struct strv *l);

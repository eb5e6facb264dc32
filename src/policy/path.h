/* SPDX-License-Identifier: Apache-2.0 */
/* Paths of HTTP requests, and the patterns of rules about them. Pure.
 *
 * Servers disagree about what a path means: whether %2F separates, whether "\" does, whether ";x"
 *is part of a name, how often escapes are decoded. A rule must not depend on which of them is
 *behind it, so every path has two readings, and a rule set allows a request only when it allows
 *both and denies neither:
 *
 *	exact   RFC 3986 6.2.2: unreserved characters decoded, other escapes in upper case, dot
 *segments removed. This is also what the gate sends on, so that no server sees anything else. loose
 *all escapes decoded, again and again; "\" is "/"; what follows ";" in a segment is dropped;
 *		repeated and trailing slashes are one and none.
 *
 * A path whose loose reading still has dot segments, control characters or broken UTF-8, or whose
 * escapes never end, is refused: nobody sends such a thing by accident. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

#define POLICY_PATH_MAX    8192u /* bytes of a path that rules are asked about */
#define POLICY_PATTERN_MAX 300u

struct policy_path {
	char *exact, *loose; /* owned; NULL in {0} */
};

/* The path of a request target, without query; "" is "/". ERR_USER says what is ambiguous. */
int policy_path_parse(const char *s, size_t len, struct policy_path *ret, struct err *err);
/* A pattern: segments are literal, "*" (one segment, not empty) or "**" (any number, also none). */
int policy_pattern_parse(const char *s, struct policy_path *ret, struct err *err);
void policy_path_done(struct policy_path *p); /* {0} is fine */

/* RFC 3986 5.2.4, in place, for @len bytes that start with '/'. Returns the new length. */
size_t policy_path_remove_dots(char *s, size_t len);
/* One reading of a pattern against the same reading of a path. @fold: whatever the case. */
bool policy_path_match(const char *pattern, const char *path, bool fold);
/* Whether everything that @inner matches is matched by @outer; errs towards false. */
bool policy_pattern_covers(const struct policy_path *outer, const struct policy_path *inner);

/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns of kit arguments: RE2 syntax, matched against a whole value. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define REGEX_PATTERN_MAX 1024 /* bytes */

struct regex;

/* NULL with *ret_why (a constant: what is wrong) when @pattern is not one. */
struct regex *regex_new(const char *pattern, const char **ret_why);
void regex_free(struct regex *re);
/* Whether all of @text matches. Time is bounded by length of the text times size of the pattern. */
bool regex_matches(const struct regex *re, const char *text);

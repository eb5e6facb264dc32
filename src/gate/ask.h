/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to the user: destinations that were refused only because no rule decides about them.
 *
 * A question is known by its rule, the narrowest that would allow it; its number is made of that
 * text, so that it means the same after a restart. Open questions are in pending.json in the
 * sandbox's directory, which hutch policy pending reads. The guest decides what is asked, so all is
 * bounded: open questions, new ones in a time, dismissed ones that are remembered, writes of the
 * file. */
#pragma once

#include <stddef.h>

#include "base/loop.h"
#include "policy/policy.h"

#define ASK_MAX     32 /* open questions */
#define ASK_ID_SIZE 9  /* eight hexadecimal digits, with NUL */

struct asks;

/* Told of every new question: "ID RULE". */
typedef void ask_fn(void *arg, const char *id, const char *rule);

/* @dirfd is borrowed for ever. A file of an earlier start is removed. */
struct asks *asks_new(struct loop *l, int dirfd, ask_fn *tell, void *arg);
void asks_free(struct asks *a); /* NULL is fine */

/* Something was refused. The question's id, borrowed until the next call, or NULL: it is not asked
 * (dismissed, or too many are open). */
const char *asks_note(struct asks *a, const char *rule);
/* The same, without counting. */
const char *asks_find(const struct asks *a, const char *rule);

/* Add what was approved for as long as this process lives to @p, and forget the questions that @p
 * answers now. For every new policy. */
void asks_apply(struct asks *a, struct policy *p);
/* A control line {"op":"approve"|"dismiss","id":…}: whether it was one. @p is in force. */
bool asks_answer(struct asks *a, const char *line, size_t len, struct policy *p);

/* SPDX-License-Identifier: Apache-2.0 */
/* Getting one value from where it is: the environment, a file, a program's output. */
#pragma once

#include "base/loop.h"
#include "secret/secret.h"
#include "secret/source.h"

#define FETCH_MS 30000u /* a command that takes longer is ended */

struct fetch;
/* The end, from the loop: a value (given), or neither when there is none, or why it cannot be had.
 * The fetch is gone. */
typedef void fetch_done_fn(void *arg, struct secret *value, const char *failure);

/* Run the program that prints the value: cmd: in a shell, keyring: hutch-keyring. @box: the sandbox
 * whose own secret it is, or NULL. NULL with @err. */
struct fetch *fetch_start(struct loop *l, const struct source *s, const char *service,
	const char *box, fetch_done_fn *done, void *arg, struct err *err);
/* End it without a word, and what it runs. NULL is fine. */
void fetch_cancel(struct fetch *f);
/* env: and file:, which need no time. As fetch_done_fn: *ret may be NULL. -1 with @err. */
int fetch_now(const struct source *s, struct secret **ret, struct err *err);

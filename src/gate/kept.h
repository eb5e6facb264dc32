/* SPDX-License-Identifier: Apache-2.0 */
/* Values that the next request may have as well, for a moment, as long as nothing has changed.
 *
 * hutch-secret hands over two descriptors that say so. @pending is readable from the moment at
 * which somebody changes the secret store, before that program goes on, until hutch-secret takes
 * notice. Before it does, hutch-secret writes to @changed, as it does when a value's time is over.
 * So whoever finds neither readable, in this order, knows that what hutch-secret would answer is
 * what it has answered. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "gate/values.h"

/* What no watch sees, such as a write through a mapping, acts after this time; and who breaks into
 * the gate finds no value that has not been used for so long. */
#define KEPT_MS 1000u

struct kept;

/* @broker: the socket to hutch-secret, borrowed until kept_stop; when its other end goes,
 * everything is forgotten. */
struct kept *kept_new(struct loop *l, int broker);
void kept_free(struct kept *k); /* wipes; NULL is fine */

/* Begin to keep, once; both are taken. -1: they are no such descriptors. */
int kept_watch(struct kept *k, int pending, int changed);
/* Forget everything and keep nothing any more. */
void kept_stop(struct kept *k);

/* Forget what is not true any more. A number that is another one after each change: what was asked
 * at one and arrives at another may be old. */
uint64_t kept_look(struct kept *k);
/* Whether @service's value is known, as of kept_look. *ret: borrowed; NULL when it has none. */
bool kept_find(const struct kept *k, const char *service, struct value **ret);
/* Keep @value, which is shared (NULL: that there is none), of a question asked at @asked. */
void kept_put(struct kept *k, const char *service, struct value *value, uint64_t asked);

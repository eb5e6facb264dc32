/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes between two connections, both ways and unread, each way with its own end. A slow side stalls
 * only the bytes that are for it. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/loop.h"

#define DUPLEX_MAX (64u << 10) /* bytes that wait, each way */

/* One side; what is read from it goes to the other one. */
struct duplex_end {
	int fd; /* owned, not blocking; -1: none */
	struct loop_watch w;
	struct buf in;  /* read here, not yet written to the other side */
	bool eof, shut; /* no more to read; writing side closed */
};

void duplex_init(struct duplex_end *e, int fd /* taken */);
void duplex_done(struct duplex_end *e, struct loop *l);
/* Read what there is room for. -1: the connection failed. */
int duplex_pull(struct duplex_end *e);
/* Write to @to what was read from @from; pass the end on when all of it is written. -1: it failed. */
int duplex_push(struct duplex_end *from, struct duplex_end *to);
/* Both ways have ended. */
bool duplex_over(const struct duplex_end *a, const struct duplex_end *b);
/* EPOLLIN, EPOLLOUT: what @e can be used for now. */
uint32_t duplex_wants(const struct duplex_end *e, const struct duplex_end *other);
/* Watch for just these: a hung-up descriptor without interest would keep the loop awake. */
int duplex_watch(struct duplex_end *e, struct loop *l, uint32_t events, loop_fn *fn);

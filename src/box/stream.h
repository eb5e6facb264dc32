/* SPDX-License-Identifier: Apache-2.0 */
/* One agent stream (wire/agent.h) on the supervisor's loop: framing and buffering, no meaning. */
#pragma once

#include "base/buf.h"
#include "base/loop.h"
#include "wire/agent.h"

struct stream;

struct stream_ops {
	/* One frame; 0 to go on, 1 when the owner has closed or freed the stream, -1 when the guest
	 * broke the protocol (the stream then ends). */
	int (*frame)(struct stream *s, uint8_t type, struct rd payload);
	/* The output buffer ran empty: a chance to produce more. May be NULL. */
	void (*drained)(struct stream *s);
	/* The stream ended, by the guest's doing. Called once; the owner may free it here. */
	void (*end)(struct stream *s);
};

struct stream {
	struct loop *loop; /* borrowed */
	struct loop_watch w;
	int fd; /* owned; -1: closed */
	struct buf in, out;
	const struct stream_ops *ops;
	bool ended;
};

/* Serve @fd (taken). */
int stream_open(struct stream *s, struct loop *loop, int fd, const struct stream_ops *ops);
/* Send what was put into s->out. */
void stream_flush(struct stream *s);
/* Close without calling end. Harmless twice and on a zeroed stream with fd -1. */
void stream_close(struct stream *s);

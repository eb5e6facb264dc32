/* SPDX-License-Identifier: Apache-2.0 */
/* The control stream to the supervisor (wire/agent.h). */
#pragma once

#include "guest/server.h"

struct control_ops {
	/* Everything that was received at once; the answer is READY or ERROR. */
	int (*setup)(void *ctx, const struct agent_setup *setup, struct buf *ca, struct err *err);
	int (*export)(void *ctx, const struct agent_export *e, struct err *err);
	void (*clock)(void *ctx, uint64_t ns);
	/* The host asks for the end, is gone, or cannot be understood. @why is a borrowed text. May
	 * be called again. */
	void (*shutdown)(void *ctx, const char *why);
};

struct control {
	struct stream *s; /* owned; NULL: ended */
	const struct control_ops *ops;
	void *ctx;
	struct buf ca;
	bool ready;
};

/* Connect to the host. The descriptor, or -1 with @err. */
int control_connect(struct err *err);
/* Say HELLO on @fd (taken) and serve it. */
int control_open(struct control *c, struct loop *l, int fd, const struct control_ops *ops,
	void *ctx, struct err *err);
void control_close(struct control *c);
/* For a boot that failed: ERROR on @fd (taken), after HELLO unless the host was @greeted, then wait
 * a moment for the host to read it. */
void control_fail(int fd, bool greeted, const struct err *err);

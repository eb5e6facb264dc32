/* SPDX-License-Identifier: Apache-2.0 */
/* One command in a sandbox, joined to this terminal or these pipes. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

struct box_conn;

/* Output that is kept instead of passed on. */
struct capture {
	struct buf out, err; /* initialized by the caller; what is above the ceiling is dropped */
	unsigned timeout_s;
	/* How it ended, if not by itself: the command is ended then. */
	bool timed_out;
	int signal; /* one that came for us; 0: none */
};

struct session {
	const char *user, *cwd; /* borrowed; "" for the guest's default */
	struct strv argv, env;	/* borrowed by session_run */
	bool tty;		/* a terminal inside, ours in raw mode */
	bool input;		/* forward stdin; else the command reads end of file */
	struct capture *capture; /* borrowed; or NULL */
	struct box_conn *events; /* borrowed; tells of questions to the user; or NULL */
};

/* Run it on an agent stream (taken). Returns the exit status for our own process: the command's,
 * 128 + signal, 126 or 127 as podman does; -1 with @err when Hutch failed. */
int session_run(int stream_fd, const struct session *s, struct err *err);

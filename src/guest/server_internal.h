/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the agent server only. */
#pragma once

#include "guest/server.h"

#define STREAMS_MAX 512 /* more than the host has published connections and flows */

struct exec;
struct dial;
struct udp_flow;

struct server {
	struct loop *loop; /* borrowed */
	struct server_config config;
	int listen_fd; /* owned; -1: none */
	struct loop_watch listen_w;
	struct stream *streams;
	unsigned n_streams;
	struct exec *execs;
	struct dial *dials;
	unsigned n_dials;
	struct udp_flow *udp_flows;
	int ssh_fd; /* owned; -1: none */
	struct loop_watch ssh_w;
};

/* stream.c tells the server that a stream of its own goes away. */
void server_unlink(struct stream *s);
/* A place became free: accept again. */
void server_room(struct server *srv);
/* AGENT_ERROR, then the stream is finished. Always STREAM_GONE. */
int stream_fail(struct stream *s, int errnum, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* The operations: each takes over @s on its first frame and answers like a frame callback. */
int exec_start(struct server *srv, struct stream *s, struct rd payload);
int put_start(struct server *srv, struct stream *s, struct rd payload);
int dial_start(struct server *srv, struct stream *s, struct rd payload);
int udp_start(struct server *srv, struct stream *s, struct rd payload);

/* dial.c: move bytes between two connections (taken, not blocking) until both have ended. */
void relay_start(struct server *srv, int host_fd, int local_fd);

void exec_reaped(struct server *srv, pid_t pid, int status);
void execs_free(struct server *srv);
void dials_free(struct server *srv);
void udp_flows_free(struct server *srv);

/* exec_child.c: become the command. Called in the forked child; reports failure on @report (struct
 * exec_report) and never returns. */
struct exec_io {
	int in, out, errout; /* child's ends; unused with a terminal */
	int master;          /* pseudo-terminal, or -1 */
	int report;
};
struct exec_report {
	int errnum;
	char text[252];
};
void exec_child(const struct server_config *config, const struct agent_exec *x,
	const struct exec_io *io) __attribute__((noreturn));

/* put.c: the PUT operation on a blocking socket, @in holding what was read already. For a process
 * of its own; returns its exit status. */
int put_serve(int fd, struct buf *in);

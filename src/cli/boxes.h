/* SPDX-License-Identifier: Apache-2.0 */
/* The sandboxes of this user, as the command line sees them: directories, and supervisors that may
 * be running. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "wire/spec.h"

/* Whether a sandbox directory exists. */
bool boxes_exists(const char *name);
/* All names, sorted. */
int boxes_names(struct strv *ret, struct err *err);
/* Its specification; released with spec_done in both cases. */
int boxes_spec(const char *name, struct box_spec *ret, struct err *err);
/* boxes/NAME/@file, owned. */
char *boxes_path(const char *name, const char *file);

/* Make the directory with spec.json and the kits' file trees, all or nothing. ERR_USER with errnum
 * EEXIST: the name is taken.
 * @cache: the disk after the install steps may come from the cache, or go there. */
int boxes_create(const struct box_spec *s, bool cache, struct err *err);
/* Write the specification of a sandbox that exists anew. */
int boxes_save_spec(const struct box_spec *s, struct err *err);
/* Keep supervisors from starting: a descriptor owned by the caller, which has to close it before one
 * can. *ret_fd is -1 when there is no such sandbox. */
int boxes_lock(const char *name, int *ret_fd, struct err *err);
/* Delete the directory of a sandbox that is not running. */
int boxes_delete(const char *name, struct err *err);

/* A connection to a running supervisor. */
struct box_conn {
	int fd; /* owned */
	char name[80];
	struct buf in;
};
void box_conn_close(struct box_conn *c);

/* Connect: 0, or -1 with errnum ENOENT when it is not running. */
int box_connect(const char *name, struct box_conn *ret, struct err *err);
/* Connect to what may start or end at this moment: 1; 0 when it is not running; -1 when it runs and
 * cannot be reached. */
int box_find(const char *name, struct box_conn *ret, struct err *err);
/* Connect and wait until the sandbox is ready, starting it when it is not running (one that is about
 * to stop is started again). Progress lines go to @progress (may be NULL). @hold: ask the supervisor
 * to end with this connection, for --rm. */
int box_up(const char *name, bool hold, void (*progress)(const char *text), struct box_conn *ret,
	struct err *err);
/* Ask a supervisor that runs to end, and wait until it has. @kill: at once. @remove: it takes the
 * directory along. */
int box_end(const char *name, bool kill, bool remove, struct err *err);
/* One request ({"op":…}, taken); *ret_answer (owned reference) and *ret_fd may be NULL. An answer
 * that is not ok becomes @err. */
int box_request(struct box_conn *c, json_t *request, json_t **ret_answer, int *ret_fd, struct err *err);
/* The same with a descriptor that goes along (borrowed). */
int box_pass(struct box_conn *c, json_t *request, int fd, struct err *err);
/* A fresh agent stream, owned. EAGAIN: the sandbox stops at this moment. A supervisor of another version,
 * whose guest would not understand us, is refused. */
int box_open(struct box_conn *c, int *ret_fd, struct err *err);
/* box_up and box_open, again when the sandbox was stopped in between. */
int box_up_open(const char *name, void (*progress)(const char *text), struct box_conn *ret, int *ret_fd,
	struct err *err);
/* The text of the next event on a connection that has asked to "watch"; owned. NULL: read again when
 * the descriptor is readable, or never when *ret_gone. */
char *box_next_event(struct box_conn *c, bool *ret_gone);

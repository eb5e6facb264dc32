/* SPDX-License-Identifier: Apache-2.0 */
/* From a plan to a running sandbox, and back. */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "cli/boxes.h"

/* What can be known to fail is found out before anything is made; pins the image. */
int start_check(struct box_spec *s, struct err *err);
/* Bring the sandbox up, with progress on stderr; a new one that does not come up leaves nothing
 * behind but the end of its logs there. */
int start_box(const struct box_spec *s, bool is_new, struct box_conn *conn, struct err *err);
/* The end of the logs of a start that failed, on stderr, where @err refers to them. */
void start_show_logs(const char *name, struct err *err);
/* --rm: end it, and wait until nothing is left. The connection stays the caller's. */
void start_undo(const char *name, struct box_conn *conn);
/* A name nobody has, for a sandbox that only lives for one command. Owned. */
char *start_name(const char *stem);

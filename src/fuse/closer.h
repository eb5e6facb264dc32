/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that closes descriptors. To close a removed file's last one deletes it, and a file system may
 * take long for that: 0.1 ms for a small file, a second for a large one. Other requests would wait. */
#pragma once

#include "base/err.h"

struct closer;

/* The thread calls @begin first, to be confined. NULL with @err on failure. */
struct closer *closer_new(void (*begin)(void), struct err *err);
/* Waits until everything is closed. NULL is harmless. */
void closer_free(struct closer *c);

/* Close @fd some time later; at once where @c is NULL or has much to do, so that whoever removes
 * files faster than they can be deleted waits, as everywhere. */
void closer_close(struct closer *c, int fd);

/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-console (virtio 1.2, 5.3): one port. */
#pragma once

#include "base/loop.h"
#include "virtio/vdev.h"

struct console;

/* The guest's output goes to @out_fd (-1: nowhere), its input comes from @in_fd (-1: there is
 * none). Both are duplicated, and made non-blocking. The process ignores SIGPIPE. @loop is
 * borrowed. NULL with @err on failure. */
struct console *console_new(struct loop *loop, int out_fd, int in_fd, struct err *err);
/* The transport must be gone. */
void console_free(struct console *c);
struct vdev *console_vdev(struct console *c);

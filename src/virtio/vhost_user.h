/* SPDX-License-Identifier: Apache-2.0 */
/* vhost-user back end: offers one vdev to QEMU over a connected UNIX socket (the vhost-user protocol
 * specification in QEMU's docs/interop). Owns guest memory mappings and the kick/call eventfds. */
#pragma once

#include "base/loop.h"
#include "virtio/vdev.h"

struct vhost_user;

/* Serve @dev (borrowed) on @sock (taken) from @loop. @on_close runs once when QEMU hangs up or
 * breaks the protocol; it may call vhost_user_free. */
struct vhost_user *vhost_user_new(struct loop *loop, int sock, struct vdev *dev,
	void (*on_close)(struct vhost_user *vu, void *arg), void *arg, struct err *err);
void vhost_user_free(struct vhost_user *vu);
/* Why the session ended; for on_close, which logs it. */
const struct err *vhost_user_error(const struct vhost_user *vu);

/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-fs (virtio 1.2, 5.11): carries FUSE messages to src/fuse. */
#pragma once

#include "fuse/fuse.h"
#include "virtio/vdev.h"

#define FSDEV_TAG "hutch" /* what the guest mounts */

struct fsdev;

/* @server is borrowed. The device and the server belong to one thread; see fuse_export_add for the
 * exception. */
struct fsdev *fsdev_new(struct fuse_server *server);
/* The transport must be gone. */
void fsdev_free(struct fsdev *fs);
struct vdev *fsdev_vdev(struct fsdev *fs);

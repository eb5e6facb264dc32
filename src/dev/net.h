/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net (virtio 1.2, 5.1): carries Ethernet frames between the guest and src/net. */
#pragma once

#include "base/loop.h"
#include "net/net.h"
#include "virtio/vdev.h"

struct netdev;

/* Becomes the link of @net. Both arguments are borrowed. */
struct netdev *netdev_new(struct loop *loop, struct net *net);
/* The transport must be gone. */
void netdev_free(struct netdev *nd);
struct vdev *netdev_vdev(struct netdev *nd);

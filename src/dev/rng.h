/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng (virtio 1.2, 5.4): the host's random numbers, at a bounded rate. */
#pragma once

#include "base/loop.h"
#include "virtio/vdev.h"

#define RNG_BURST (64u << 10) /* bytes that a guest gets at once */
#define RNG_RATE  (1u << 20)  /* bytes per second in the long run */

struct rngdev;

/* @loop is borrowed. */
struct rngdev *rngdev_new(struct loop *loop);
/* The transport must be gone. */
void rngdev_free(struct rngdev *r);
struct vdev *rngdev_vdev(struct rngdev *r);

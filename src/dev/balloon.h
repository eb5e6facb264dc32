/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon (virtio 1.2, 5.5): memory that the guest does not need goes back to the host. */
#pragma once

#include "base/loop.h"
#include "virtio/vdev.h"

struct balloon;

/* @loop is borrowed. */
struct balloon *balloon_new(struct loop *loop);
/* The transport must be gone. */
void balloon_free(struct balloon *b);
struct vdev *balloon_vdev(struct balloon *b);

/* Ask the guest to give up @bytes of its memory in all. It may take long, or refuse. Any thread. */
void balloon_set_target(struct balloon *b, uint64_t bytes);
/* What the guest says it has given up. Any thread. */
uint64_t balloon_actual(const struct balloon *b);
/* Bytes given back to the host so far, reported free pages included. Any thread. */
uint64_t balloon_returned(const struct balloon *b);

/* Ask the guest for fresh statistics; they come with a later kick. The device's thread. */
void balloon_poll_stats(struct balloon *b);
/* One of VIRTIO_BALLOON_S_* as the guest last told it, or UINT64_MAX. Any thread. */
uint64_t balloon_stat(const struct balloon *b, unsigned tag);

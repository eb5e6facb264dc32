/* SPDX-License-Identifier: Apache-2.0 */
/* The device contract. A device knows neither engine nor transport: it offers features and a
 * configuration space, is told about kicks, and answers through its queues. dev/fs.c shows it whole. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtio/virtq.h"

#define VDEV_QUEUES_MAX 4

/* Feature bits of the device-independent part (virtio 1.2, 6). */
#define VIRTIO_F_EVENT_IDX_BIT	    (1ull << 29)
#define VIRTIO_F_INDIRECT_DESC_BIT  (1ull << 28)
#define VIRTIO_F_VERSION_1_BIT	    (1ull << 32)

struct vdev;

struct vdev_ops {
	const char *name;      /* "fs", for the log */
	uint32_t id;	       /* virtio device id */
	unsigned n_queues;     /* at most VDEV_QUEUES_MAX */
	uint64_t features;     /* device-specific bits; the transport adds its own */
	/* Fill @len bytes of configuration space from @off; beyond its end are zeros. */
	void (*config_read)(struct vdev *d, size_t off, void *to, size_t len);
	/* May be NULL: configuration space is read-only. */
	void (*config_write)(struct vdev *d, size_t off, const void *from, size_t len);
	/* The guest kicked queue @q (which is ready), or it has just become ready. */
	void (*kick)(struct vdev *d, unsigned q);
	/* Driver reset or queue stop: forget requests in flight; their memory may go away. */
	void (*reset)(struct vdev *d);
};

struct vdev {
	const struct vdev_ops *ops;
	struct virtq vq[VDEV_QUEUES_MAX];
	uint64_t features; /* acknowledged by the driver */
	bool broken;	   /* NEEDS_RESET: queues are not served until the driver resets */
	/* transport: raise an interrupt for queue @q unconditionally */
	void (*interrupt)(struct vdev *d, unsigned q);
	void *transport; /* owned by the transport */
};

/* Interrupt the guest for queue @q if it wants that. Call after a batch of virtq_push. */
void vdev_flush(struct vdev *d, unsigned q);
/* The guest broke the protocol: stop serving this device until reset, log once. */
void vdev_break(struct vdev *d, const char *why);

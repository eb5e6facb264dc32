/* SPDX-License-Identifier: Apache-2.0 */
/* The device contract. A device knows neither engine nor transport: it offers features and a
 * configuration space, is told about kicks, and answers through its queues. dev/fs.c shows it whole. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "virtio/virtq.h"

#define VDEV_QUEUES_MAX 5

/* Feature bits of the device-independent part (virtio 1.2, 6). */
#define VIRTIO_F_EVENT_IDX_BIT	    (1ull << 29)
#define VIRTIO_F_INDIRECT_DESC_BIT  (1ull << 28)
#define VIRTIO_F_VERSION_1_BIT	    (1ull << 32)

struct vdev;

/* Threads. kick, quiesce and reset are called by one thread, the one that the transport serves the
 * device on. The configuration calls may come from any thread (a virtual CPU's): what they share with
 * the rest of the device is atomic. A device with threads of its own has quiesce. */
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
	/* May be NULL: only kick serves queues. Else: wait until the device's own threads hold no
	 * request; they leave the queues alone until the next kick. */
	void (*quiesce)(struct vdev *d);
	/* Driver reset (features are 0) or queue stop: forget requests in flight; their memory may go
	 * away. */
	void (*reset)(struct vdev *d);
};

struct vdev {
	const struct vdev_ops *ops;
	struct virtq vq[VDEV_QUEUES_MAX];
	_Atomic uint64_t features; /* acknowledged by the driver */
	_Atomic bool broken;  /* NEEDS_RESET: queues are not served until the driver resets */
	_Atomic unsigned breaks; /* how often that has happened; for the owner to read */
	/* What the transport does for the device, on any of the device's threads: raise an interrupt
	 * for queue @q unconditionally; announce that the configuration space has changed; show
	 * NEEDS_RESET. The last two may be NULL: the transport has no way to say it. */
	void (*interrupt)(struct vdev *d, unsigned q);
	void (*config_changed)(struct vdev *d);
	void (*needs_reset)(struct vdev *d);
	void *transport; /* owned by the transport */
};

/* For devices. Interrupt the guest for queue @q if it wants that. Call after a batch of virtq_push. */
void vdev_flush(struct vdev *d, unsigned q);
/* The guest broke the protocol: stop serving this device until reset, count it, log once. A device
 * with threads calls it under the lock of its queues. */
void vdev_break(struct vdev *d, const char *why);
/* What config_read returns has changed. */
void vdev_config_changed(struct vdev *d);

/* For transports. Nothing of the device is in flight when these return. */

/* Before anything of a running queue is changed, its call_fd and the memory behind it included. Kick
 * the queues that go on afterwards. */
void vdev_quiesce(struct vdev *d);
/* Stop queue @q. Returns the index at which a later start resumes. */
uint16_t vdev_stop_queue(struct vdev *d, unsigned q);
/* Driver reset: stop all queues; features and brokenness are forgotten. */
void vdev_reset(struct vdev *d);

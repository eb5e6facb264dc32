/* SPDX-License-Identifier: Apache-2.0 */
/* What a driver negotiates with a device through registers (virtio 1.2, 2.1 to 2.5 and 3.1),
 * whatever the layout of those registers: features, status, queues, configuration space. Both
 * register transports (vmm/mmio.c, vmm/virtio_pci.c) are layouts over this.
 *
 * Threads. Register accesses come from vCPU threads, several at once; the device lives on its
 * loop's thread and may have threads of its own. Three kinds of state:
 *   - atomic (status, generation): the device's threads write them as well;
 *   - under `lock`: what drivers select and set. Only vCPU threads take the lock, so one that holds
 *     it may wait for the loop; what runs there on its behalf may use the same state;
 *   - the vdev and its queues: touched on the loop's thread only, through loop_call. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "base/loop_call.h"
#include "virtio/vdev.h"

#define VREGS_QUEUE_SIZE 256u /* what every queue offers, and the most it takes */

enum {
	VREGS_ACKNOWLEDGE = 1,
	VREGS_DRIVER = 2,
	VREGS_DRIVER_OK = 4,
	VREGS_FEATURES_OK = 8,
	VREGS_NEEDS_RESET = 64,
	VREGS_FAILED = 128,
};

struct vregs;

/* Interrupts of a layout. Called on any of the device's threads. */
struct vregs_ops {
	void (*queue_interrupt)(struct vregs *r, unsigned q);
	void (*config_interrupt)(struct vregs *r);
	/* The driver has reset the device: forget vectors and pending interrupts. On the loop's
	 * thread, while the lock is held for it. */
	void (*reset)(struct vregs *r);
};

struct vregs_queue {
	uint16_t size;
	bool enabled;
	uint64_t desc, avail, used;
};

/* Where kicks of one queue arrive. */
struct vregs_kick {
	struct vregs *r;
	unsigned q;
	struct loop_watch watch;
};

struct vregs {
	struct vdev *dev;           /* borrowed */
	const struct gmem *mem;     /* borrowed, constant */
	struct loop *loop;          /* borrowed */
	struct loop_caller *caller; /* borrowed, of that loop */
	const struct vregs_ops *ops;
	struct vregs_kick kicks[VDEV_QUEUES_MAX]; /* on the vdev's kick_fd, which we own */

	_Atomic uint8_t status;
	_Atomic uint32_t generation;

	pthread_mutex_t lock;
	uint32_t device_sel, driver_sel, queue_sel;
	uint64_t features; /* as acknowledged so far */
	bool features_bad; /* a bit beyond the 64 that exist */
	struct vregs_queue queues[VDEV_QUEUES_MAX];
};

struct vregs_config {
	struct vdev *dev;
	const struct gmem *mem;
	struct loop *loop;
	struct loop_caller *caller;
};

/* Before the loop runs. */
int vregs_init(struct vregs *r, const struct vregs_config *c, const struct vregs_ops *ops,
	struct err *err);
/* After the loop has stopped and the vCPU threads are gone. */
void vregs_done(struct vregs *r);

/* The eventfd that is a kick of queue @q < n_queues. Constant. */
int vregs_kick_fd(const struct vregs *r, unsigned q);
/* A kick that arrived as a register write after all. */
void vregs_kick(struct vregs *r, uint32_t q);

/* Everything below on a vCPU thread that holds r->lock. */

uint32_t vregs_device_features(const struct vregs *r);
uint32_t vregs_driver_features(const struct vregs *r);
void vregs_set_driver_features(struct vregs *r, uint32_t v);
/* 0 is a reset, which is complete on return. Bits whose turn it is not are not taken. */
void vregs_set_status(struct vregs *r, uint32_t v);
/* The selected queue, or NULL: there is none, or it is enabled and must not be changed. */
struct vregs_queue *vregs_queue_idle(struct vregs *r);
/* Addresses come in halves. */
static inline void vregs_set_half(uint64_t *v, bool high, uint32_t half)
{
	if (high)
		*v = (*v & 0xffffffffull) | (uint64_t)half << 32;
	else
		*v = (*v & ~0xffffffffull) | half;
}
/* The selected queue, or NULL. */
struct vregs_queue *vregs_queue_get(struct vregs *r);
/* Enable the selected queue. One that cannot work breaks the device. */
void vregs_queue_enable(struct vregs *r);
/* Stop it; the driver may set it up anew. */
void vregs_queue_disable(struct vregs *r);
/* Configuration space; beyond its end are zeros. */
void vregs_config_read(struct vregs *r, size_t off, void *to, size_t len);
void vregs_config_write(struct vregs *r, size_t off, const void *from, size_t len);

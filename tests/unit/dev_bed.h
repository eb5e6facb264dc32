/* SPDX-License-Identifier: Apache-2.0 */
/* One device, its loop and a driver for its queues. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "virtio/vdev.h"
#include "vq_driver.h"

struct bed {
	struct loop *loop;
	struct vdev *d;
	struct vqd_mem mem;
	struct vqd q[VDEV_QUEUES_MAX];
	unsigned interrupts[VDEV_QUEUES_MAX];
	unsigned config_changes, resets_needed;
};

static inline void bed_interrupt(struct vdev *d, unsigned q)
{
	((struct bed *)d->transport)->interrupts[q]++;
}

static inline void bed_config_changed(struct vdev *d)
{
	((struct bed *)d->transport)->config_changes++;
}

static inline void bed_needs_reset(struct vdev *d)
{
	((struct bed *)d->transport)->resets_needed++;
}

/* Reset the device and start queues anew, empty. */
static inline void bed_start(struct bed *b, uint64_t features, bool event_idx)
{
	vdev_reset(b->d);
	b->d->features = features | VIRTIO_F_VERSION_1_BIT;
	b->mem.used = 0;
	memset(b->mem.host, 0, 65536);
	for (unsigned i = 0; i < b->d->ops->n_queues; i++) {
		vqd_init(&b->q[i], &b->mem, 128);
		assert_true(vqd_start(&b->q[i], &b->d->vq[i], event_idx));
		b->d->ops->kick(b->d, i);
	}
}

static inline void bed_init(struct bed *b, struct vdev *d)
{
	log_init("test", d->ops->name, LOG_ERROR + 1);
	b->d = d;
	d->transport = b;
	d->interrupt = bed_interrupt;
	d->config_changed = bed_config_changed;
	d->needs_reset = bed_needs_reset;
	vqd_mem_init(&b->mem, 16 << 20);
}

static inline void bed_done(struct bed *b)
{
	vqd_mem_done(&b->mem);
	loop_free(b->loop);
}

static inline void bed_add(struct bed *b, unsigned q, uint64_t gpa, uint32_t len, bool in)
{
	struct vqd_seg s = {gpa, len};

	assert_true(vqd_add(&b->q[q], &s, !in, in) >= 0);
}

static inline void bed_kick(struct bed *b, unsigned q)
{
	if (!b->d->broken)
		b->d->ops->kick(b->d, q);
}

/* Whether a driver would kick queue @q for its newest request. */
static inline bool bed_kick_wanted(struct bed *b, unsigned q, bool event_idx)
{
	if (!event_idx)
		return !(vqd_used(&b->q[q])[0] & 1);
	return vqd_avail_event(&b->q[q]) == (uint16_t)(b->q[q].avail_idx - 1);
}

static inline uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

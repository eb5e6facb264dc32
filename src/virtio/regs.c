/* SPDX-License-Identifier: Apache-2.0 */
/* The negotiation between driver and device, independent of the layout of registers.
 *
 * The status machine takes bits only in their order (3.1.1) and never gives one back but by reset:
 *
 *	ACKNOWLEDGE, DRIVER     remembered
 *	FEATURES_OK             taken if the features are a subset of the offer with VERSION_1
 *	DRIVER_OK               starts the queues that are enabled
 *	FAILED                  remembered; only a reset follows
 *	NEEDS_RESET             ours: the device is broken, and says so until reset
 *
 * A queue's addresses are checked for their whole extent when it is enabled; guest memory never
 * moves in this engine, so the pointers hold. A bad one breaks the device, as a bad descriptor
 * does. */
#include "virtio/regs.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/fd.h"
#include "base/mem.h"

static uint64_t offered(const struct vregs *r)
{
	return r->dev->ops->features | VIRTIO_F_VERSION_1_BIT | VIRTIO_F_EVENT_IDX_BIT |
	       VIRTIO_F_INDIRECT_DESC_BIT;
}

/* ---- what the device says, on its threads ---- */

static void on_interrupt(struct vdev *d, unsigned q)
{
	struct vregs *r = d->transport;

	r->ops->queue_interrupt(r, q);
}

/* The driver hears of changes only once it runs (2.1.2, 2.5). */
static void config_interrupt(struct vregs *r)
{
	if (atomic_load(&r->status) & VREGS_DRIVER_OK)
		r->ops->config_interrupt(r);
}

static void on_config_changed(struct vdev *d)
{
	struct vregs *r = d->transport;

	atomic_fetch_add(&r->generation, 1);
	config_interrupt(r);
}

static void on_needs_reset(struct vdev *d)
{
	struct vregs *r = d->transport;

	atomic_fetch_or(&r->status, VREGS_NEEDS_RESET);
	config_interrupt(r);
}

/* ---- kicks ---- */

static void on_kick(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct vregs_kick *k = container_of(w, struct vregs_kick, watch);
	struct vdev *d = k->r->dev;
	uint64_t count;

	if (read(w->fd, &count, sizeof(count)) < 0)
		return;
	/* Before DRIVER_OK nothing may be consumed (3.1.1); the start looks at every queue. */
	if (d->vq[k->q].ready && !d->broken)
		d->ops->kick(d, k->q);
}

int vregs_kick_fd(const struct vregs *r, unsigned q)
{
	return r->dev->vq[q].kick_fd;
}

void vregs_kick(struct vregs *r, uint32_t q)
{
	uint64_t one = 1;

	/* A counter that is full is a kick that is pending already. */
	if (q < r->dev->ops->n_queues && write(r->dev->vq[q].kick_fd, &one, sizeof(one)) < 0)
		return;
}

/* ---- features and status ---- */

uint32_t vregs_device_features(const struct vregs *r)
{
	return r->device_sel < 2 ? (uint32_t)(offered(r) >> (32 * r->device_sel)) : 0;
}

uint32_t vregs_driver_features(const struct vregs *r)
{
	return r->driver_sel < 2 ? (uint32_t)(r->features >> (32 * r->driver_sel)) : 0;
}

void vregs_set_driver_features(struct vregs *r, uint32_t v)
{
	/* Settled by FEATURES_OK. */
	if (atomic_load(&r->status) & VREGS_FEATURES_OK)
		return;
	if (r->driver_sel == 0)
		r->features = (r->features & ~0xffffffffull) | v;
	else if (r->driver_sel == 1)
		r->features = (r->features & 0xffffffffull) | (uint64_t)v << 32;
	else if (v)
		r->features_bad = true;
}

static bool features_acceptable(const struct vregs *r)
{
	return !r->features_bad && !(r->features & ~offered(r)) &&
	       r->features & VIRTIO_F_VERSION_1_BIT;
}

/* Rings of @q in host memory. False: no ring can be there. */
static bool queue_resolve(const struct vregs *r, const struct vregs_queue *q, void *ret[static 3])
{
	ret[0] = gmem_ptr(r->mem, q->desc, virtq_desc_bytes(q->size));
	ret[1] = gmem_ptr(r->mem, q->avail, virtq_avail_bytes(q->size));
	ret[2] = gmem_ptr(r->mem, q->used, virtq_used_bytes(q->size));
	return ret[0] && ret[1] && ret[2];
}

/* Serve what is enabled and does not run yet. On the loop's thread. */
static void start_queues(void *arg)
{
	struct vregs *r = arg;
	struct vdev *d = r->dev;
	bool started[VDEV_QUEUES_MAX] = {false};
	void *at[3];

	for (unsigned i = 0; i < d->ops->n_queues && !d->broken; i++) {
		const struct vregs_queue *q = &r->queues[i];

		if (!q->enabled || d->vq[i].ready)
			continue;
		started[i] = queue_resolve(r, q, at) &&
			     virtq_start(&d->vq[i], r->mem, q->size, at[0], at[1], at[2], 0,
				     r->features & VIRTIO_F_EVENT_IDX_BIT);
		if (!started[i])
			vdev_break(d, "queue outside memory or misaligned");
	}
	for (unsigned i = 0; i < d->ops->n_queues; i++)
		if (started[i] && d->vq[i].ready && !d->broken)
			d->ops->kick(d, i);
}

static void reset(void *arg)
{
	struct vregs *r = arg;

	vdev_reset(r->dev);
	r->device_sel = r->driver_sel = r->queue_sel = 0;
	r->features = 0;
	r->features_bad = false;
	memset(r->queues, 0, sizeof(r->queues));
	for (unsigned i = 0; i < r->dev->ops->n_queues; i++)
		r->queues[i].size = VREGS_QUEUE_SIZE;
	atomic_store(&r->status, 0);
	r->ops->reset(r);
}

void vregs_set_status(struct vregs *r, uint32_t v)
{
	static const struct {
		uint8_t bit, after;
	} order[] = {
		{VREGS_ACKNOWLEDGE, 0},
		{VREGS_DRIVER, VREGS_ACKNOWLEDGE},
		{VREGS_FEATURES_OK, VREGS_DRIVER},
		{VREGS_DRIVER_OK, VREGS_FEATURES_OK},
		{VREGS_FAILED, 0},
	};
	uint8_t old = atomic_load(&r->status), now = old;

	if (v == 0) {
		loop_call(r->caller, reset, r);
		return;
	}
	/* Taking a bit back is no way to any state, and nothing but reset leads out of FAILED. */
	if (v > 0xff || old & ~v & ~VREGS_NEEDS_RESET || old & VREGS_FAILED)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		if (!(v & order[i].bit) || (now & order[i].after) != order[i].after)
			continue;
		if (order[i].bit == VREGS_FEATURES_OK && !features_acceptable(r))
			continue;
		now |= order[i].bit;
	}
	if (now & ~old & VREGS_FEATURES_OK)
		r->dev->features = r->features; /* no queue runs yet */
	atomic_fetch_or(&r->status, now);
	if (now & ~old & VREGS_DRIVER_OK)
		loop_call(r->caller, start_queues, r);
}

/* ---- queues ---- */

struct vregs_queue *vregs_queue_get(struct vregs *r)
{
	return r->queue_sel < r->dev->ops->n_queues ? &r->queues[r->queue_sel] : NULL;
}

struct vregs_queue *vregs_queue_idle(struct vregs *r)
{
	struct vregs_queue *q = vregs_queue_get(r);

	return q && !q->enabled ? q : NULL;
}

static void enable(void *arg)
{
	struct vregs *r = arg;
	struct vregs_queue *q = &r->queues[r->queue_sel];
	void *at[3];

	/* A driver learns of a bad queue where it made it, not at DRIVER_OK. */
	if (q->size == 0 || q->size > VREGS_QUEUE_SIZE || q->size & (q->size - 1) || q->desc % 16 ||
		q->avail % 2 || q->used % 4 || !queue_resolve(r, q, at)) {
		vdev_break(r->dev, "queue outside memory, misaligned or of a bad size");
		return;
	}
	q->enabled = true;
	if (atomic_load(&r->status) & VREGS_DRIVER_OK)
		start_queues(r);
}

void vregs_queue_enable(struct vregs *r)
{
	if (vregs_queue_idle(r))
		loop_call(r->caller, enable, r);
}

static void disable(void *arg)
{
	struct vregs *r = arg;

	if (r->dev->vq[r->queue_sel].ready)
		vdev_stop_queue(r->dev, r->queue_sel);
	r->queues[r->queue_sel].enabled = false;
}

void vregs_queue_disable(struct vregs *r)
{
	struct vregs_queue *q = vregs_queue_get(r);

	if (q && q->enabled)
		loop_call(r->caller, disable, r);
}

/* ---- configuration space ---- */

/* On the caller's thread, a virtual CPU's: the contract has these calls come from any. Going to the
 * device's would cost a driver two changes of thread for each field that it reads. */

void vregs_config_read(struct vregs *r, size_t off, void *to, size_t len)
{
	memset(to, 0, len);
	if (r->dev->ops->config_read)
		r->dev->ops->config_read(r->dev, off, to, len);
}

void vregs_config_write(struct vregs *r, size_t off, const void *from, size_t len)
{
	if (r->dev->ops->config_write)
		r->dev->ops->config_write(r->dev, off, from, len);
}

/* ---- life ---- */

int vregs_init(
	struct vregs *r, const struct vregs_config *c, const struct vregs_ops *ops, struct err *err)
{
	struct vdev *d = c->dev;

	*r = (struct vregs){
		.dev = d, .mem = c->mem, .loop = c->loop, .caller = c->caller, .ops = ops};
	pthread_mutex_init(&r->lock, NULL);
	for (unsigned i = 0; i < VDEV_QUEUES_MAX; i++) {
		r->kicks[i] = (struct vregs_kick){.r = r, .q = i, .watch = {.fd = -1}};
		d->vq[i] = (struct virtq){.kick_fd = -1, .call_fd = -1};
	}
	d->transport = r;
	d->interrupt = on_interrupt;
	d->config_changed = on_config_changed;
	d->needs_reset = on_needs_reset;
	for (unsigned i = 0; i < d->ops->n_queues; i++) {
		int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

		r->queues[i].size = VREGS_QUEUE_SIZE;
		d->vq[i].kick_fd = fd;
		if (fd < 0 || loop_add(r->loop, &r->kicks[i].watch, fd, EPOLLIN, on_kick) < 0) {
			err_errno(err, "kicks of %s", d->ops->name);
			vregs_done(r);
			return -1;
		}
	}
	return 0;
}

void vregs_done(struct vregs *r)
{
	struct vdev *d = r->dev;

	vdev_reset(d);
	for (unsigned i = 0; i < VDEV_QUEUES_MAX; i++) {
		loop_del(r->loop, &r->kicks[i].watch);
		close_and_reset(&d->vq[i].kick_fd);
	}
	d->transport = NULL;
	d->interrupt = NULL;
	d->config_changed = NULL;
	d->needs_reset = NULL;
	pthread_mutex_destroy(&r->lock);
}

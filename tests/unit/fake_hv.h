/* SPDX-License-Identifier: Apache-2.0 */
/* A hypervisor without a machine, for tests of the transports: doorbells and interrupts as the real
 * one wires them, and accesses of a guest that knows no device but through its addresses.
 *
 * With it a toy device that turns text into capitals. */
#pragma once

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/loop_call.h"
#include "base/mem.h"
#include "virtio/vdev.h"
#include "vmm/bus.h"
#include "vmm/hv.h"
#include "vq_driver.h"

#define FAKE_BELLS 128u

struct hv {
	pthread_mutex_t lock; /* of bells and msis */
	struct hv_doorbell bells[FAKE_BELLS];
	unsigned n_bells;
	int lines[HV_LINES]; /* 0: none */
	struct {
		int fd; /* 0: none */
		uint64_t addr;
		uint32_t data;
	} msis[HV_MSIS_MAX];
	bool no_bells; /* as a machine that has run out of them */
	struct bus memory, ports;
	_Atomic unsigned exits; /* accesses that left the guest */
};

/* ---- what the engine offers ---- */

int hv_line(struct hv *hv, unsigned line, int eventfd, struct err *err)
{
	if (line >= HV_LINES || hv->lines[line])
		return err_set(err, ERR_BUG, "line");
	hv->lines[line] = eventfd;
	return 0;
}

int hv_msi(struct hv *hv, unsigned msi, int eventfd, uint64_t addr, uint32_t data, struct err *err)
{
	if (msi >= HV_MSIS_MAX)
		return err_set(err, ERR_BUG, "msi");
	pthread_mutex_lock(&hv->lock);
	hv->msis[msi].fd = eventfd < 0 ? 0 : eventfd;
	hv->msis[msi].addr = addr;
	hv->msis[msi].data = data;
	pthread_mutex_unlock(&hv->lock);
	return 0;
}

static inline bool bell_same(const struct hv_doorbell *a, const struct hv_doorbell *b)
{
	return a->gpa == b->gpa && a->len == b->len && a->match == b->match &&
	       (!a->match || a->value == b->value);
}

int hv_doorbell(struct hv *hv, const struct hv_doorbell *d, bool on, struct err *err)
{
	int r = -1;

	pthread_mutex_lock(&hv->lock);
	for (unsigned i = 0; i < hv->n_bells; i++) {
		if (!bell_same(&hv->bells[i], d))
			continue;
		if (!on && hv->bells[i].eventfd == d->eventfd) {
			hv->bells[i] = hv->bells[--hv->n_bells];
			r = 0;
		}
		goto out;
	}
	if (on && !hv->no_bells && hv->n_bells < FAKE_BELLS) {
		hv->bells[hv->n_bells++] = *d;
		r = 0;
	}
out:
	pthread_mutex_unlock(&hv->lock);
	return r < 0 ? err_set(err, ERR_ENV, "doorbell") : 0;
}

/* ---- what the guest does ---- */

static inline void guest_write(struct hv *hv, uint64_t gpa, unsigned len, uint64_t v)
{
	uint64_t one = 1;

	pthread_mutex_lock(&hv->lock);
	for (unsigned i = 0; i < hv->n_bells; i++) {
		const struct hv_doorbell *d = &hv->bells[i];

		if (d->gpa != gpa || (d->len && d->len != len) || (d->match && d->value != v))
			continue;
		if (write(d->eventfd, &one, sizeof(one)) < 0)
			abort();
		pthread_mutex_unlock(&hv->lock);
		return;
	}
	pthread_mutex_unlock(&hv->lock);
	atomic_fetch_add(&hv->exits, 1);
	bus_write(&hv->memory, gpa, &v, len);
}

static inline uint64_t guest_read(struct hv *hv, uint64_t gpa, unsigned len)
{
	uint64_t v = 0;

	atomic_fetch_add(&hv->exits, 1);
	bus_read(&hv->memory, gpa, &v, len);
	return v;
}

static inline void guest_out(struct hv *hv, uint16_t port, unsigned len, uint32_t v)
{
	atomic_fetch_add(&hv->exits, 1);
	bus_write(&hv->ports, port, &v, len);
}

static inline uint32_t guest_in(struct hv *hv, uint16_t port, unsigned len)
{
	uint32_t v = 0;

	atomic_fetch_add(&hv->exits, 1);
	bus_read(&hv->ports, port, &v, len);
	return v;
}

/* Whether an interrupt has arrived on @fd; takes it. */
static inline bool take_event(int fd)
{
	uint64_t count;

	return fd > 0 && read(fd, &count, sizeof(count)) == sizeof(count);
}

/* From here on another thread serves @loop, and the caller is a vCPU. */
static inline void *fake_loop_serve(void *arg)
{
	return loop_run(arg, NULL) == 7 ? NULL : arg;
}

static inline pthread_t fake_loop_start(struct loop *loop)
{
	pthread_t t;

	if (pthread_create(&t, NULL, fake_loop_serve, loop) != 0)
		abort();
	while (loop_is_mine(loop))
		usleep(100);
	return t;
}

static inline void fake_loop_end(void *loop)
{
	loop_stop(loop, 7);
}

static inline void fake_loop_join(struct loop *loop, struct loop_caller *caller, pthread_t t)
{
	void *bad = NULL;

	if (!loop_call(caller, fake_loop_end, loop) || pthread_join(t, &bad) != 0 || bad)
		abort();
}

static inline void fake_hv_init(struct hv *hv)
{
	*hv = (struct hv){0};
	pthread_mutex_init(&hv->lock, NULL);
}

static inline void fake_hv_done(struct hv *hv)
{
	pthread_mutex_destroy(&hv->lock);
}

/* ---- the device ---- */

#define F_TOY (1ull << 3)

struct toy {
	struct vdev dev;
	unsigned kicks[VDEV_QUEUES_MAX], resets, requests;
	uint8_t config[8];
};

static inline void toy_config_read(struct vdev *d, size_t off, void *to, size_t len)
{
	struct toy *t = container_of(d, struct toy, dev);

	for (size_t i = 0; i < len; i++)
		((uint8_t *)to)[i] = off + i < sizeof(t->config) ? t->config[off + i] : 0;
}

static inline void toy_config_write(struct vdev *d, size_t off, const void *from, size_t len)
{
	struct toy *t = container_of(d, struct toy, dev);

	for (size_t i = 0; i < len && off + i < sizeof(t->config); i++)
		t->config[off + i] = ((const uint8_t *)from)[i];
}

static inline void toy_kick(struct vdev *d, unsigned q)
{
	struct toy *t = container_of(d, struct toy, dev);
	static _Thread_local struct virtq_chain c;
	enum virtq_next r;

	t->kicks[q]++;
	while ((r = virtq_pop(&d->vq[q], &c)) == VIRTQ_CHAIN) {
		char text[64];
		size_t n = virtq_chain_read(&c, 0, text, sizeof(text));

		for (size_t i = 0; i < n; i++)
			text[i] = (char)toupper((unsigned char)text[i]);
		t->requests++;
		virtq_push(&d->vq[q], c.head, (uint32_t)virtq_chain_write(&c, 0, text, n));
	}
	if (r == VIRTQ_BAD)
		vdev_break(d, "test");
	vdev_flush(d, q);
}

static inline void toy_reset(struct vdev *d)
{
	container_of(d, struct toy, dev)->resets++;
}

static const struct vdev_ops toy_ops = {
	.name = "toy",
	.id = 42,
	.n_queues = 2,
	.features = F_TOY,
	.config_read = toy_config_read,
	.config_write = toy_config_write,
	.kick = toy_kick,
	.reset = toy_reset,
};

/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile vsock driver, and a host side that comes and goes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../unit/vq_driver.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "dev/vsock.h"

#define RING  16u
#define HOSTS 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct world {
	struct loop *loop;
	struct vsock *vs;
	struct vdev *dev;
	struct vqd_mem mem;
	struct vqd rx, tx;
	uint64_t buf;
	int host[HOSTS];
	unsigned next;
};

static int *slot(struct world *w)
{
	int *fd = &w->host[w->next++ % HOSTS];

	close_and_reset(fd);
	return fd;
}

static int accept_one(void *arg, uint32_t port)
{
	struct world *w = arg;
	int sv[2];

	if (port & 1 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv) < 0)
		return -1;
	*slot(w) = sv[0];
	return sv[1];
}

static void interrupt(struct vdev *d, unsigned q)
{
}

static const struct vsock_host host_ops = {.accept = accept_one};

static void start(struct world *w)
{
	w->mem.used = 0;
	memset(w->mem.host, 0, 65536);
	vqd_init(&w->rx, &w->mem, RING);
	vqd_init(&w->tx, &w->mem, RING);
	w->buf = vqd_alloc(&w->mem, 65536, 64);
	if (!vqd_start(&w->rx, &w->dev->vq[0], true) || !vqd_start(&w->tx, &w->dev->vq[1], true))
		abort();
}

/* Offer descriptor @i (and the next one, if @len2) on a queue that has room. The guest scribbles
 * over its rings, so nothing that lies there is believed here either. */
static void offer(
	struct vqd *d, const struct virtq *q, uint16_t i, struct vqd_desc e, uint32_t len2)
{
	if ((uint16_t)(d->avail_idx - q->last_avail) >= RING)
		return;
	if (len2) {
		e.flags |= VQD_NEXT;
		e.next = (uint16_t)(i + 1);
		*vqd_desc_at(d, e.next) = (struct vqd_desc){.addr = e.addr + e.len, .len = len2};
	}
	*vqd_desc_at(d, i) = e;
	vqd_publish(d, i);
}

/* A packet with few ports, so that connections are hit; a[0] op, a[1] ports and oddities, a[2]
 * flags or length, a[3] credit. */
static void packet(struct world *w, const uint8_t *a)
{
	uint8_t h[44] = {3, [8] = 2};
	uint32_t len = a[0] == 5 ? a[2] * 97u : 0;

	h[16] = a[1] & 3;            /* guest port */
	h[20] = a[1] >> 2 & 3;       /* host port */
	h[22] = a[1] & 0x10 ? 1 : 0; /* an ephemeral one */
	memcpy(h + 24, &len, 4);
	h[27] = a[1] & 0x20 ? 0xff : 0; /* a lie */
	h[28] = a[1] & 0x40 ? 2 : 1;    /* type */
	h[8] = a[1] & 0x80 ? 9 : 2;
	h[30] = a[0];
	h[32] = a[2];
	h[37] = a[3];                /* buf_alloc */
	h[40] = (uint8_t)(a[3] * 7); /* fwd_cnt */
	memcpy(vqd_ptr(&w->mem, w->buf), h, 44);
	offer(&w->tx, &w->dev->vq[1], 0, (struct vqd_desc){.addr = w->buf, .len = 44}, len);
	w->dev->ops->kick(w->dev, 1);
}

static void host(struct world *w, const uint8_t *a)
{
	static uint8_t bulk[65536];
	int sv[2], fd = w->host[a[1] % HOSTS];

	switch (a[0] & 7) {
	case 0:
		send(fd, bulk, a[2] * 200u, MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case 1:
		recv(fd, bulk, a[2] * 200u, MSG_DONTWAIT);
		break;
	case 2:
		close_and_reset(&w->host[a[1] % HOSTS]);
		break;
	case 3:
		shutdown(fd, a[2] % 3);
		break;
	case 4:
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, sv) < 0)
			abort();
		*slot(w) = sv[0];
		vsock_connect(w->vs, sv[1], a[1] & 3);
		break;
	default:
		break;
	}
}

static void step(struct world *w, const uint8_t *a)
{
	struct vqd_desc rx = {w->buf + 8192, a[3] & 1 ? 4096 : 44u + a[3], VQD_WRITE, 0};

	switch (a[0] >> 5) {
	case 0:
	case 1:
		packet(w, (const uint8_t[]){a[0] & 0x1f, a[1], a[2], a[3]});
		break;
	case 2:
	case 3:
		host(w, a);
		break;
	case 4: /* rx buffers, sometimes useless ones */
		for (uint16_t i = 0; i <= (a[1] & 7); i++)
			offer(&w->rx, &w->dev->vq[0], i, rx, 0);
		w->dev->ops->kick(w->dev, 0);
		break;
	case 5:
		w->dev->ops->kick(w->dev, a[1] % 3);
		break;
	case 6:
		if (a[1] & 0xf) /* the guest scribbles */
			memcpy((uint8_t *)vqd_ptr(&w->mem, VQD_GPA) + (a[1] << 2 & 0x3ff), a + 2,
				2);
		w->dev->ops->kick(w->dev, a[1] & 1);
		break;
	default:
		w->dev->ops->reset(w->dev);
		w->dev->broken = false;
		start(w);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world w = {.host = {-1, -1, -1, -1, -1, -1, -1, -1}};

	log_init("fuzz", "-", LOG_ERROR);
	w.loop = loop_new(NULL);
	w.vs = vsock_new(w.loop, 3, &host_ops, &w);
	w.dev = vsock_vdev(w.vs);
	w.dev->interrupt = interrupt;
	vqd_mem_init(&w.mem, 131072);
	start(&w);
	for (size_t i = 0; i + 4 <= size && i < 4 * 400; i += 4) {
		step(&w, data + i);
		if (loop_once(w.loop, 0, NULL) < 0)
			abort();
	}
	vsock_free(w.vs);
	for (int i = 0; i < HOSTS; i++)
		close_and_reset(&w.host[i]);
	vqd_mem_done(&w.mem);
	loop_free(w.loop);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-console (virtio 1.2, 5.3): one port.
 *
 * Nothing is buffered here. Output that its reader has no room for stays in guest memory: the chain
 * is held, kicks are off, and EPOLLOUT continues it. Input stays in its pipe until the guest has
 * posted a buffer. A guest that floods the console gets one turn after the other (BURST). A
 * descriptor that fails or ends is closed; from then on output is dropped. */
#include "dev/console.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include "base/fd.h"
#include "base/mem.h"

#define BURST        (64u << 10) /* bytes of one turn */
#define BURST_CHAINS 64u

enum { Q_RX, Q_TX, QUEUES };

struct console {
	struct vdev dev;
	struct loop *loop;             /* borrowed */
	int out_fd, in_fd;             /* owned */
	struct loop_watch out_w, in_w; /* active: waiting for room; the guest has buffers */
	struct loop_timer again;       /* the next turn of a flood */
	struct virtq_chain tx;         /* being written, if held; what is done is cut off */
	unsigned tx_at;
	bool held;
	struct virtq_chain rx; /* scratch */
};

/* ---- output ---- */

static void tx_serve(struct console *c);

static void on_room(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct console *c = container_of(w, struct console, out_w);

	loop_del(l, w);
	tx_serve(c);
}

static void on_turn(struct loop *l, struct loop_timer *t)
{
	tx_serve(container_of(t, struct console, again));
}

/* Hold the next chain. False: there is none. */
static bool tx_next(struct console *c)
{
	struct virtq *vq = &c->dev.vq[Q_TX];
	enum virtq_next got;

	while ((got = virtq_pop(vq, &c->tx)) == VIRTQ_EMPTY && virtq_kicks_on(vq))
		virtq_kicks_off(vq);
	if (got == VIRTQ_BAD || (got == VIRTQ_CHAIN && c->tx.n_in))
		vdev_break(&c->dev, "malformed output");
	c->held = got == VIRTQ_CHAIN && !c->dev.broken;
	c->tx_at = 0;
	return c->held;
}

/* Write what is left of the chain. False: the reader has to make room first. */
static bool tx_write(struct console *c)
{
	while (c->tx_at < c->tx.n_out && c->out_fd >= 0) {
		struct iovec *iov = c->tx.iov + c->tx_at;
		ssize_t n = writev(c->out_fd, iov, (int)(c->tx.n_out - c->tx_at));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN &&
			loop_add(c->loop, &c->out_w, c->out_fd, EPOLLOUT, on_room) == 0)
			return false;
		if (n < 0) {
			close_and_reset(&c->out_fd);
			break;
		}
		for (; n > 0 && (size_t)n >= iov->iov_len; iov++, c->tx_at++)
			n -= (ssize_t)iov->iov_len;
		if (n > 0) {
			iov->iov_base = (uint8_t *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
	}
	return true;
}

static void tx_serve(struct console *c)
{
	size_t bytes = 0;

	virtq_kicks_off(&c->dev.vq[Q_TX]);
	for (unsigned n = 0; c->held || tx_next(c); n++) {
		if (bytes >= BURST || n == BURST_CHAINS) {
			loop_timer_start(c->loop, &c->again, 0, on_turn);
			break;
		}
		if (!tx_write(c))
			break;
		bytes += c->tx.out_len;
		virtq_push(&c->dev.vq[Q_TX], c->tx.head, 0);
		c->held = false;
	}
	vdev_flush(&c->dev, Q_TX);
}

/* ---- input ---- */

/* One buffer. False: there is none, or nothing to put into it. */
static bool rx_one(struct console *c)
{
	struct virtq *vq = &c->dev.vq[Q_RX];
	enum virtq_next got = virtq_pop(vq, &c->rx);
	ssize_t n;

	if (got == VIRTQ_BAD || (got == VIRTQ_CHAIN && c->rx.n_out))
		vdev_break(&c->dev, "malformed input buffer");
	if (got != VIRTQ_CHAIN || c->dev.broken) {
		/* The next kick watches again. */
		loop_del(c->loop, &c->in_w);
		return false;
	}
	do
		n = readv(c->in_fd, c->rx.iov, (int)c->rx.n_in);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		virtq_push(vq, c->rx.head, (uint32_t)n);
		return true;
	}
	virtq_unpop(vq);
	if (n == 0 || errno != EAGAIN) {
		loop_del(c->loop, &c->in_w);
		close_and_reset(&c->in_fd);
	}
	return false;
}

static void on_input(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct console *c = container_of(w, struct console, in_w);

	for (unsigned n = 0; n < BURST_CHAINS && rx_one(c); n++)
		;
	vdev_flush(&c->dev, Q_RX);
}

/* ---- device ---- */

static void console_kick(struct vdev *d, unsigned q)
{
	struct console *c = container_of(d, struct console, dev);

	if (q == Q_TX && c->out_w.fd < 0 && !c->again.due_ns)
		tx_serve(c);
	/* A descriptor that cannot be watched (a file) gives no input. */
	if (q == Q_RX && c->in_fd >= 0 && c->in_w.fd < 0 &&
		loop_add(c->loop, &c->in_w, c->in_fd, EPOLLIN, on_input) < 0)
		close_and_reset(&c->in_fd);
}

static void console_reset(struct vdev *d)
{
	struct console *c = container_of(d, struct console, dev);

	loop_del(c->loop, &c->out_w);
	loop_del(c->loop, &c->in_w);
	loop_timer_stop(c->loop, &c->again);
	if (c->held)
		virtq_unpop(&d->vq[Q_TX]);
	c->held = false;
}

static void console_config_read(struct vdev *d, size_t off, void *to, size_t len)
{
	/* Size and ports belong to features that are not offered. */
	memset(to, 0, len);
}

static const struct vdev_ops console_ops = {
	.name = "console",
	.id = VIRTIO_ID_CONSOLE,
	.n_queues = QUEUES,
	.config_read = console_config_read,
	.kick = console_kick,
	.reset = console_reset,
};

static int take_copy(int fd, int *ret_fd, struct err *err)
{
	if (fd < 0)
		return 0;
	*ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (*ret_fd < 0 || fd_set_nonblock(*ret_fd, true) < 0)
		return err_errno(err, "console");
	return 0;
}

struct console *console_new(struct loop *loop, int out_fd, int in_fd, struct err *err)
{
	struct console *c = xcalloc(1, sizeof(*c));

	*c = (struct console){.dev = {.ops = &console_ops},
		.loop = loop,
		.out_fd = -1,
		.in_fd = -1,
		.out_w = {.fd = -1},
		.in_w = {.fd = -1}};
	if (take_copy(out_fd, &c->out_fd, err) < 0 || take_copy(in_fd, &c->in_fd, err) < 0) {
		console_free(c);
		return NULL;
	}
	return c;
}

void console_free(struct console *c)
{
	if (!c)
		return;
	loop_del(c->loop, &c->out_w);
	loop_del(c->loop, &c->in_w);
	loop_timer_stop(c->loop, &c->again);
	close_and_reset(&c->out_fd);
	close_and_reset(&c->in_fd);
	free(c);
}

struct vdev *console_vdev(struct console *c)
{
	return &c->dev;
}

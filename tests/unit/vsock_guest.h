/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's side of a vsock device and the sockets of its host side, for test_vsock.c. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "dev/vsock.h"
#include "vq_driver.h"

#define CID      3u
#define RING     64
#define RX_BYTES 4096u

enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };
enum { RCV = 1, SEND = 2 };

struct pkt {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

struct rig {
	struct loop *loop;
	struct vsock *vs;
	struct vdev *dev;
	struct vqd_mem mem;
	struct vqd rx, tx;
	uint64_t rx_buf[RING], tx_buf;
	unsigned n_rx;
	unsigned interrupts, accepts;
	int refuse_port;
	int sndbuf;                /* of the device's end of accepted connections; 0: default */
	int host[VSOCK_CONNS_MAX]; /* our ends, in order of acceptance */
	/* the guest's own credit, put into every packet */
	uint32_t buf_alloc, fwd_cnt;
};

static int on_accept(void *arg, uint32_t port)
{
	struct rig *r = arg;
	int sv[2];

	if ((int)port == r->refuse_port)
		return -1;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	if (r->sndbuf)
		setsockopt(sv[1], SOL_SOCKET, SO_SNDBUF, &r->sndbuf, sizeof(r->sndbuf));
	fd_set_nonblock(sv[0], true);
	r->host[r->accepts++] = sv[0];
	return sv[1];
}

static void on_interrupt(struct vdev *d, unsigned q)
{
	((struct rig *)d->transport)->interrupts++;
}

static const struct vsock_host host_ops = {.accept = on_accept};

/* Offer the guest's rx buffer @i: header and data in one or in two descriptors. */
static void post_rx(struct rig *r, unsigned i)
{
	uint64_t at = r->rx_buf[i];
	struct vqd_seg segs[] = {{at, 44}, {at + 44, RX_BYTES}};
	struct vqd_seg one[] = {{at, 44 + RX_BYTES}};
	int head = i & 1 ? vqd_add(&r->rx, one, 0, 1) : vqd_add(&r->rx, segs, 0, 2);

	assert_true(head >= 0);
}

static void rig_start(struct rig *r)
{
	r->mem.used = 0;
	memset(r->mem.host, 0, r->mem.len);
	vqd_init(&r->rx, &r->mem, 2 * RING);
	vqd_init(&r->tx, &r->mem, RING);
	assert_true(vqd_start(&r->rx, &r->dev->vq[0], true));
	assert_true(vqd_start(&r->tx, &r->dev->vq[1], true));
	for (unsigned i = 0; i < RING; i++)
		r->rx_buf[i] = vqd_alloc(&r->mem, 44 + RX_BYTES, 1);
	r->tx_buf = vqd_alloc(&r->mem, 44 + (128 << 10), 1);
}

static void rig_init(struct rig *r, unsigned n_rx)
{
	*r = (struct rig){.refuse_port = -1, .n_rx = n_rx, .buf_alloc = 256 << 10};
	r->loop = loop_new(NULL);
	r->vs = vsock_new(r->loop, CID, &host_ops, r);
	r->dev = vsock_vdev(r->vs);
	r->dev->transport = r;
	r->dev->interrupt = on_interrupt;
	vqd_mem_init(&r->mem, 2 << 20);
	rig_start(r);
	for (unsigned i = 0; i < n_rx; i++)
		post_rx(r, i);
}

static void rig_done(struct rig *r)
{
	for (unsigned i = 0; i < r->accepts; i++)
		close_and_reset(&r->host[i]);
	vsock_free(r->vs);
	loop_free(r->loop);
	vqd_mem_done(&r->mem);
}

static void turn(struct rig *r)
{
	for (int i = 0; i < 4; i++)
		assert_int_equal(loop_once(r->loop, 0, NULL), 0);
}

/* Send @h with @len bytes of payload behind it. */
static void send_raw(struct rig *r, const struct pkt *h, const void *payload, uint32_t len)
{
	struct vqd_seg segs[] = {{r->tx_buf, 44}, {r->tx_buf + 44, len}};

	memcpy(vqd_ptr(&r->mem, r->tx_buf), h, 44);
	if (len)
		memcpy(vqd_ptr(&r->mem, r->tx_buf + 44), payload, len);
	assert_true(vqd_add(&r->tx, segs, len ? 2 : 1, 0) >= 0);
	r->dev->ops->kick(r->dev, 1);
}

static struct pkt packet(const struct rig *r, uint32_t host_port, uint32_t guest_port, uint16_t op)
{
	return (struct pkt){
		.src_cid = CID,
		.dst_cid = VSOCK_HOST_CID,
		.src_port = guest_port,
		.dst_port = host_port,
		.type = 1,
		.op = op,
		.buf_alloc = r->buf_alloc,
		.fwd_cnt = r->fwd_cnt,
	};
}

static void send_flags(
	struct rig *r, uint32_t host_port, uint32_t guest_port, uint16_t op, uint32_t flags)
{
	struct pkt h = packet(r, host_port, guest_port, op);

	h.flags = flags;
	send_raw(r, &h, NULL, 0);
	assert_true(vqd_get_used(&r->tx, NULL) >= 0);
}

static void send_op(struct rig *r, uint32_t host_port, uint32_t guest_port, uint16_t op)
{
	send_flags(r, host_port, guest_port, op, 0);
}

static void send_data(
	struct rig *r, uint32_t host_port, uint32_t guest_port, const void *p, uint32_t len)
{
	struct pkt h = packet(r, host_port, guest_port, RW);

	h.len = len;
	send_raw(r, &h, p, len);
	assert_true(vqd_get_used(&r->tx, NULL) >= 0);
}

/* The next packet for the guest, or false. Its payload goes to @data (RX_BYTES). */
static bool get(struct rig *r, struct pkt *h, void *data)
{
	uint8_t flat[44 + RX_BYTES];
	uint32_t len;
	int head = vqd_get_used(&r->rx, &len);
	uint64_t at;
	unsigned i = 0;

	if (head < 0)
		return false;
	at = vqd_desc_at(&r->rx, (uint16_t)head)->addr;
	while (r->rx_buf[i] != at)
		i++;
	assert_true(len >= 44 && len <= sizeof(flat));
	memcpy(flat, vqd_ptr(&r->mem, at), len);
	memcpy(h, flat, 44);
	assert_int_equal(len, 44 + h->len);
	if (data)
		memcpy(data, flat + 44, h->len);
	post_rx(r, i);
	return true;
}

/* The next packet must be @op of this connection. */
static struct pkt want(struct rig *r, uint32_t host_port, uint32_t guest_port, uint16_t op)
{
	struct pkt h = {0};

	turn(r);
	if (!get(r, &h, NULL))
		fail_msg("no packet, wanted op %d", op);
	assert_int_equal(h.op, op);
	assert_int_equal(h.src_cid, VSOCK_HOST_CID);
	assert_int_equal(h.dst_cid, CID);
	assert_int_equal(h.src_port, host_port);
	assert_int_equal(h.dst_port, guest_port);
	assert_int_equal(h.type, 1);
	return h;
}

static void want_nothing(struct rig *r)
{
	struct pkt h;

	turn(r);
	if (get(r, &h, NULL))
		fail_msg("unexpected op %d", h.op);
}

static void want_text(struct rig *r, uint32_t host_port, uint32_t guest_port, const char *text)
{
	char data[RX_BYTES];
	struct pkt h;

	turn(r);
	assert_true(get(r, &h, data));
	assert_int_equal(h.op, RW);
	assert_int_equal(h.src_port, host_port);
	assert_int_equal(h.dst_port, guest_port);
	assert_int_equal(h.len, strlen(text));
	assert_memory_equal(data, text, h.len);
}

/* What the host side can read now, as text. */
static void want_host(int fd, const char *text)
{
	char got[256] = "";

	assert_int_equal(recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT), strlen(text));
	assert_string_equal(got, text);
}

static void want_eof(int fd)
{
	char c;

	assert_int_equal(recv(fd, &c, 1, MSG_DONTWAIT), 0);
}

/* Closed by the device, perhaps with bytes of ours unread. */
static void want_closed(int fd)
{
	char c;
	ssize_t n = recv(fd, &c, 1, MSG_DONTWAIT);

	assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
}

/* A guest connection to port 1024 from @guest_port; our end of it. */
static int guest_connect(struct rig *r, uint32_t guest_port)
{
	struct pkt h;

	send_op(r, 1024, guest_port, REQUEST);
	h = want(r, 1024, guest_port, RESPONSE);
	assert_int_equal(h.buf_alloc, VSOCK_BUF_ALLOC);
	assert_int_equal(h.fwd_cnt, 0);
	return r->host[r->accepts - 1];
}

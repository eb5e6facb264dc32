/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net with guest memory that is the input: rings, descriptors, headers and frames. The first
 * byte chooses the features; then memory, then patches that are applied between kicks, as a guest
 * would change its memory while we look at it. Two addresses mean something else: DATAGRAM has a
 * datagram come in for the guest, whose payload goes where the receive buffers say, RESET resets. */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/rd.h"
#include "dev/net.h"

#define GPA     0x10000u
#define BYTES   (128u << 10)
#define RING    16u
#define RX_AT   0u /* descriptors, then avail and used; the same for tx, 1 KiB on */
#define TX_AT   1024u
#define AVAIL   (16u * RING)
#define USED    (AVAIL + 64u)
#define INITIAL 2600u /* bytes of the input that are memory from the start */

enum { DATAGRAM = 0xfffe, RESET = 0xffff };

struct fuzz {
	struct net *net;
	struct net_flow last;
	bool asked;
	size_t have;
};

static bool owner_open(void *arg, struct net_flow f, uint32_t addr, uint16_t port)
{
	struct fuzz *z = arg;

	z->last = f;
	z->asked = true;
	z->have = 100000;
	return true;
}
static size_t owner_room(void *arg, struct net_flow f)
{
	return 200000;
}
static ssize_t owner_write(void *arg, struct net_flow f, const struct iovec *iov, unsigned n)
{
	volatile uint8_t sink = 0;
	size_t total = 0;

	for (unsigned i = 0; i < n; i++) {
		for (size_t j = 0; j < iov[i].iov_len; j++)
			sink ^= ((const uint8_t *)iov[i].iov_base)[j];
		total += iov[i].iov_len;
	}
	(void)sink;
	return (ssize_t)total;
}
static bool owner_shut(void *arg, struct net_flow f)
{
	return true;
}
static ssize_t owner_peek(
	void *arg, struct net_flow f, size_t off, const struct iovec *iov, unsigned n)
{
	struct fuzz *z = arg;
	size_t done = 0;

	for (unsigned i = 0; i < n && off + done < z->have; i++) {
		size_t k = MIN(iov[i].iov_len, z->have - off - done);

		memset(iov[i].iov_base, 0x5a, k);
		done += k;
	}
	return done ? (ssize_t)done : 0;
}
static void owner_discard(void *arg, struct net_flow f, size_t n)
{
	struct fuzz *z = arg;

	z->have -= MIN(z->have, n);
}
static void owner_close(void *arg, struct net_flow f)
{
}
static bool owner_dns(void *arg, uint32_t id, const uint8_t *msg, size_t len)
{
	return true;
}
static bool owner_udp(void *arg, uint16_t guest_port, uint32_t addr, uint16_t port,
	const struct iovec *iov, unsigned n, size_t len)
{
	size_t total = 0;

	for (unsigned i = 0; i < n; i++) {
		(void)owner_write(arg, (struct net_flow){0}, &iov[i], 1);
		total += iov[i].iov_len;
	}
	if (total != len)
		abort();
	return true;
}
static uint64_t owner_now(void *arg)
{
	return 1000;
}
static void owner_wake_at(void *arg, uint64_t due)
{
}
static const struct net_owner_ops owner_ops = {.open = owner_open,
	.room = owner_room,
	.write = owner_write,
	.shut = owner_shut,
	.peek = owner_peek,
	.discard = owner_discard,
	.close = owner_close,
	.dns = owner_dns,
	.udp = owner_udp,
	.now_ms = owner_now,
	.wake_at = owner_wake_at};

static void interrupt(struct vdev *d, unsigned q)
{
}

static void start(struct vdev *d, const struct gmem *m, uint8_t *mem, bool event_idx)
{
	static const size_t at[] = {RX_AT, TX_AT};

	d->broken = false;
	for (unsigned q = 0; q < 2; q++)
		if (!virtq_start(&d->vq[q], m, RING, mem + at[q], mem + at[q] + AVAIL,
			    mem + at[q] + USED, 0, event_idx))
			abort();
}

static void run(struct vdev *d, struct fuzz *z, const struct gmem *m, uint8_t *mem, struct rd *in)
{
	static const uint8_t payload[255 * 257];

	for (unsigned i = 0; i < 200; i++) {
		unsigned at = rd_be16(in), n = rd_u8(in);
		const uint8_t *p = rd_bytes(in, n);

		if (z->asked)
			net_flow_accept(z->net, z->last);
		z->asked = false;
		for (unsigned q = 0; q < 2; q++)
			if (!d->broken)
				d->ops->kick(d, q);
		if (!p)
			return;
		if (at == DATAGRAM) {
			net_udp_answer(z->net, 1000, 0x01020304, 53, payload, n * 257);
			net_flush(z->net);
			continue;
		}
		memcpy(mem + at % (BYTES - 256), p, n);
		if (at == RESET) {
			d->ops->reset(d);
			start(d, m, mem, n & 1);
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct net_config c = {.key = "fuzz", .flows_max = 4, .half_open_max = 4};
	struct rd in = rd_make(data, size);
	unsigned flags = rd_u8(&in);
	uint8_t *mem = aligned_alloc(4096, BYTES);
	struct gmem m = {0};
	struct fuzz z = {0};
	struct loop *loop = loop_new(NULL);
	struct netdev *nd;
	struct vdev *d;
	size_t n = MIN(rd_left(&in), (size_t)INITIAL);

	log_init("fuzz", "netdev", LOG_ERROR);
	memset(mem, 0, BYTES);
	rd_copy(&in, mem, n);
	if (gmem_add_host(&m, GPA, BYTES, mem, NULL) < 0)
		abort();
	z.net = net_new(&owner_ops, &z, &c);
	nd = netdev_new(loop, z.net);
	d = netdev_vdev(nd);
	d->interrupt = interrupt;
	d->features = d->ops->features & ~(flags & 1 ? 1ull << 15 : 0) & ~(flags & 2 ? 2ull : 0);
	start(d, &m, mem, flags & 4);
	run(d, &z, &m, mem, &in);
	for (unsigned q = 0; q < 2; q++)
		virtq_stop(&d->vq[q]);
	d->ops->reset(d);
	netdev_free(nd);
	net_free(z.net);
	loop_free(loop);
	gmem_clear(&m);
	free(mem);
	return 0;
}

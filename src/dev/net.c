/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-net (virtio 1.2, 5.1): carries Ethernet frames between the guest and src/net.
 *
 * Theory of operation. Frames are as large as IP allows, in both directions, because the guest's
 * CPU may be emulated and each frame costs it thousands of instructions: the MTU offered is
 * NET_MTU, TSO is offered both ways, and mergeable receive buffers let a 64 KiB frame span a dozen
 * of the guest's small ones. With the large MTU a guest socket starts with segments of 64 KiB
 * instead of growing its window from ten small ones; containers behind the guest's own bridge keep
 * their 1500 bytes and get GSO frames of their MSS. Checksums stay unfinished both ways: the link
 * is memory.
 *
 * Guest to host: a frame is handed to net_input() where it lies, and given back at once.
 *
 * Host to guest: the stack asks for room, fills payload in place, and commits with the headers.
 * Receive buffers are taken from the queue as they are needed and wait in `ready` (in queue order)
 * until a commit uses them up; a frame begun and not committed simply leaves them there. All
 * buffers of one frame are returned in one step, since the driver expects to find them together.
 * When the guest has no buffers left, the stack keeps its list of debts, and the guest's next kick
 * of the receive queue continues it. */
#include "dev/net.h"

#include <endian.h>
#include <string.h>

#include "base/mem.h"

#define VIRTIO_ID_NET 1u

#define F_CSUM       (1ull << 0) /* we take unfinished checksums */
#define F_GUEST_CSUM (1ull << 1) /* the guest takes them */
#define F_MTU        (1ull << 3)
#define F_MAC        (1ull << 5)
#define F_GUEST_TSO4 (1ull << 7)
#define F_HOST_TSO4  (1ull << 11)
#define F_MRG_RXBUF  (1ull << 15)
#define F_STATUS     (1ull << 16)

#define HDR_NEEDS_CSUM 1u
#define HDR_GSO_TCPV4  1u
#define STATUS_LINK_UP 1u

#define READY_MAX 64u  /* receive buffers at hand: 64 KiB of the smallest that Linux posts */
#define SEGS_MAX  20u  /* pieces of one receive buffer that we use; the driver posts at most 19 */
#define BURST     256u /* frames from the guest before others get their turn */

enum { Q_RX, Q_TX, Q_COUNT };

struct header { /* 5.1.6, little-endian */
	uint8_t flags, gso_type;
	uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
} __attribute__((packed));
_Static_assert(sizeof(struct header) == 12, "virtio_net_hdr");

struct rx_buffer {
	uint16_t head;
	unsigned n;
	size_t len;
	struct iovec iov[SEGS_MAX]; /* borrowed from guest memory */
};

struct netdev {
	struct vdev dev;
	struct loop *loop;                 /* borrowed */
	struct loop_timer again;           /* the rest of a long transmit queue */
	struct net *net;                   /* borrowed */
	struct rx_buffer ready[READY_MAX]; /* ring */
	unsigned at, n_ready;
	size_t ready_len;         /* bytes in all of them */
	bool drop;                /* the frame begun cannot fit the guest's buffers, ever */
	struct virtq_chain chain; /* scratch; large */
};

static bool mergeable(const struct netdev *nd)
{
	return nd->dev.features & F_MRG_RXBUF;
}

static struct rx_buffer *ready_at(struct netdev *nd, unsigned i)
{
	return &nd->ready[(nd->at + i) % READY_MAX];
}

/* Take one more receive buffer from the guest. False: there is none, or the device is broken. */
static bool fetch(struct netdev *nd)
{
	struct virtq_chain *c = &nd->chain;
	struct rx_buffer *b = ready_at(nd, nd->n_ready);

	switch (virtq_pop(&nd->dev.vq[Q_RX], c)) {
	case VIRTQ_BAD:
		vdev_break(&nd->dev, "receive queue");
		return false;
	case VIRTQ_EMPTY:
		return false;
	case VIRTQ_CHAIN:
		break;
	}
	if (c->n_out || c->in_len <= sizeof(struct header)) {
		vdev_break(&nd->dev, "receive buffer");
		return false;
	}
	b->head = c->head;
	b->n = MIN(c->n_in, SEGS_MAX);
	b->len = 0;
	for (unsigned i = 0; i < b->n; i++) {
		b->iov[i] = c->iov[i];
		b->len += c->iov[i].iov_len;
	}
	if (b->len <= sizeof(struct header)) {
		vdev_break(&nd->dev, "receive buffer in dust");
		return false;
	}
	nd->n_ready++;
	nd->ready_len += b->len;
	return true;
}

/* Bytes that one frame may use now. */
static size_t frame_room(struct netdev *nd, size_t need)
{
	if (!mergeable(nd)) {
		if (nd->n_ready == 0 && !fetch(nd))
			return 0;
		return ready_at(nd, 0)->len;
	}
	while (nd->ready_len < need && nd->n_ready < READY_MAX && fetch(nd))
		;
	return nd->ready_len;
}

static ssize_t tx_begin(
	void *arg, size_t hdr_len, size_t want, struct iovec iov[NET_IOV_MAX], unsigned *ret_n)
{
	struct netdev *nd = arg;
	size_t skip = sizeof(struct header) + hdr_len, room, left;
	unsigned k = 0;

	*ret_n = 0;
	room = nd->dev.broken ? 0 : frame_room(nd, skip + want);
	nd->drop = false;
	if (nd->dev.broken)
		return -1;
	if (room < skip + !!want) {
		/* Either more buffers will come, or these are all that one frame may have. */
		if (nd->n_ready < (mergeable(nd) ? READY_MAX : 1))
			return -1;
		if (want) {
			vdev_break(&nd->dev, "receive buffers too small for headers");
			return -1;
		}
		nd->drop = true;
		return 0;
	}
	want = left = MIN(want, room - skip);
	for (unsigned i = 0; i < nd->n_ready && left; i++) {
		const struct rx_buffer *b = ready_at(nd, i);

		for (unsigned j = 0; j < b->n && left && k < NET_IOV_MAX; j++) {
			struct iovec v = b->iov[j];

			if (skip >= v.iov_len) {
				skip -= v.iov_len;
				continue;
			}
			v.iov_base = (uint8_t *)v.iov_base + skip;
			v.iov_len = MIN(v.iov_len - skip, left);
			skip = 0;
			left -= v.iov_len;
			iov[k++] = v;
		}
	}
	*ret_n = k;
	return (ssize_t)(want - left);
}

/* Copy @len bytes to the front of the buffers at hand, @off bytes in. */
static void put_front(struct netdev *nd, size_t off, const void *from, size_t len)
{
	const uint8_t *p = from;

	for (unsigned i = 0; i < nd->n_ready && len; i++) {
		const struct rx_buffer *b = ready_at(nd, i);

		for (unsigned j = 0; j < b->n && len; j++) {
			size_t k;

			if (off >= b->iov[j].iov_len) {
				off -= b->iov[j].iov_len;
				continue;
			}
			k = MIN(len, b->iov[j].iov_len - off);
			memcpy((uint8_t *)b->iov[j].iov_base + off, p, k);
			p += k;
			len -= k;
			off = 0;
		}
	}
}

static struct header vnet_header(size_t hdr_len, const struct net_tx *tx)
{
	struct header h = {0};

	if (tx->partial) {
		h.flags = HDR_NEEDS_CSUM;
		h.csum_start = htole16(14 + 20);
		h.csum_offset = htole16(16);
	}
	if (tx->gso_size) {
		h.gso_type = HDR_GSO_TCPV4;
		h.gso_size = htole16(tx->gso_size);
		h.hdr_len = htole16((uint16_t)hdr_len);
	}
	return h;
}

static void tx_commit(
	void *arg, const uint8_t *hdr, size_t hdr_len, size_t payload_len, const struct net_tx *tx)
{
	struct netdev *nd = arg;
	size_t left = sizeof(struct header) + hdr_len + payload_len;
	struct header h = vnet_header(hdr_len, tx);
	uint16_t heads[READY_MAX];
	uint32_t written[READY_MAX];
	unsigned n = 0;

	if (nd->drop)
		return;
	for (; left && n < nd->n_ready; n++) {
		const struct rx_buffer *b = ready_at(nd, n);

		heads[n] = b->head;
		written[n] = (uint32_t)MIN(left, b->len);
		left -= written[n];
	}
	h.num_buffers = htole16((uint16_t)n);
	put_front(nd, 0, &h, sizeof(h));
	put_front(nd, sizeof(h), hdr, hdr_len);
	for (unsigned i = 0; i < n; i++)
		nd->ready_len -= ready_at(nd, i)->len;
	nd->at = (nd->at + n) % READY_MAX;
	nd->n_ready -= n;
	virtq_push_all(&nd->dev.vq[Q_RX], heads, written, n);
}

static void tx_flush(void *arg)
{
	struct netdev *nd = arg;

	vdev_flush(&nd->dev, Q_RX);
}

static const struct net_link_ops link_ops = {
	.tx_begin = tx_begin,
	.tx_commit = tx_commit,
	.tx_flush = tx_flush,
};

/* One frame from the guest, in nd->chain. False: it breaks the protocol. */
static bool guest_frame(struct netdev *nd)
{
	struct virtq_chain *c = &nd->chain;
	struct header h;
	size_t skip = sizeof(h);
	unsigned i = 0;

	if (c->n_in || virtq_chain_read(c, 0, &h, sizeof(h)) != sizeof(h))
		return false;
	/* Step over the header in place; nothing else looks at this chain. */
	while (i < c->n_out && skip >= c->iov[i].iov_len)
		skip -= c->iov[i++].iov_len;
	if (i < c->n_out) {
		c->iov[i].iov_base = (uint8_t *)c->iov[i].iov_base + skip;
		c->iov[i].iov_len -= skip;
	}
	net_input(nd->net, c->iov + i, c->n_out - i, h.flags & HDR_NEEDS_CSUM);
	return true;
}

static void serve(struct netdev *nd);

static void serve_again(struct loop *l, struct loop_timer *t)
{
	serve(container_of(t, struct netdev, again));
}

/* Take the guest's frames, then write what they (and everybody else) made due. */
static void serve(struct netdev *nd)
{
	struct virtq *vq = &nd->dev.vq[Q_TX];
	enum virtq_next r = VIRTQ_EMPTY;
	unsigned n = 0;

	while (n < BURST && (r = virtq_pop(vq, &nd->chain)) == VIRTQ_CHAIN) {
		uint16_t head = nd->chain.head;

		n++;
		if (!guest_frame(nd)) {
			vdev_break(&nd->dev, "frame without a header");
			return;
		}
		virtq_push(vq, head, 0);
	}
	if (r == VIRTQ_BAD) {
		vdev_break(&nd->dev, "transmit queue");
		return;
	}
	net_flush(nd->net);
	vdev_flush(&nd->dev, Q_TX);
	if (n == BURST)
		loop_timer_start(nd->loop, &nd->again, 0, serve_again);
}

static void net_kick(struct vdev *d, unsigned q)
{
	struct netdev *nd = container_of(d, struct netdev, dev);
	const uint64_t f = d->features;
	struct net_link_caps caps = {
		.csum = f & F_GUEST_CSUM,
		.tso = (f & F_GUEST_CSUM) && (f & F_GUEST_TSO4),
		.mtu = f & F_MTU ? NET_MTU : 1500,
	};

	net_link_caps(nd->net, &caps);
	if (q == Q_TX)
		serve(nd);
	else
		net_flush(nd->net);
}

static void net_dev_reset(struct vdev *d)
{
	struct netdev *nd = container_of(d, struct netdev, dev);

	/* A running queue (the memory behind it moves) gets its buffers back, unused. */
	for (; nd->n_ready; nd->n_ready--)
		virtq_unpop(&d->vq[Q_RX]);
	nd->ready_len = 0;
	loop_timer_stop(nd->loop, &nd->again);
	net_reset(nd->net);
}

static void net_config_read(struct vdev *d, size_t off, void *to, size_t len)
{
	struct { /* 5.1.4 */
		uint8_t mac[6];
		uint16_t status, max_pairs, mtu;
	} __attribute__((packed)) c = {
		.status = htole16(STATUS_LINK_UP),
		.max_pairs = htole16(1),
		.mtu = htole16(NET_MTU),
	};

	memcpy(c.mac, net_guest_mac, sizeof(c.mac));
	memset(to, 0, len);
	if (off < sizeof(c))
		memcpy(to, (const uint8_t *)&c + off, MIN(len, sizeof(c) - off));
}

static const struct vdev_ops net_ops = {
	.name = "net",
	.id = VIRTIO_ID_NET,
	.n_queues = Q_COUNT,
	.features = F_CSUM | F_GUEST_CSUM | F_MTU | F_MAC | F_GUEST_TSO4 | F_HOST_TSO4 |
		    F_MRG_RXBUF | F_STATUS,
	.config_read = net_config_read,
	.kick = net_kick,
	.reset = net_dev_reset,
};

struct netdev *netdev_new(struct loop *loop, struct net *net)
{
	struct netdev *nd = xcalloc(1, sizeof(*nd));

	nd->dev.ops = &net_ops;
	nd->loop = loop;
	nd->net = net;
	net_link(net, &link_ops, nd);
	return nd;
}

void netdev_free(struct netdev *nd)
{
	if (!nd)
		return;
	loop_timer_stop(nd->loop, &nd->again);
	net_link(nd->net, NULL, NULL);
	free(nd);
}

struct vdev *netdev_vdev(struct netdev *nd)
{
	return &nd->dev;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* vhost-user back end (QEMU's docs/interop/vhost-user.rst).
 *
 * A stream of messages over a UNIX socket: 12 bytes of header, a payload of at most 268 bytes, and
 * descriptors that travel with it. One table row per request names its payload size, its
 * descriptors and its handler; everything that does not fit the table ends the session, because a
 * front end that we no longer understand cannot be resynchronised.
 *
 * A ring is *set up* by NUM, BASE, ADDR and KICK in any order, and is served while it is also
 * enabled (rings start enabled unless VHOST_USER_F_PROTOCOL_FEATURES was acknowledged).
 * GET_VRING_BASE stops it and returns the index at which a later start resumes: requests popped but
 * never answered are offered again, so a stop tells the device to forget what it holds
 * (ops->reset).
 *
 * Ring addresses are the front end's own virtual addresses; the memory table translates them. They
 * are kept as given and resolved whenever a ring starts or the table changes. A table that repeats
 * a region keeps its mapping in place, so chains that a device holds stay valid; when a region
 * really goes away, running devices are reset first.
 *
 * Not offered, therefore errors: dirty logging, in-flight tracking, back-end requests, IOMMU,
 * status, polled rings. */
#include "virtio/vhost_user.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/mem.h"
#include "base/rd.h"

#define HEADER_BYTES  12u
#define PAYLOAD_MAX   268u /* GET_CONFIG with a full space, the largest message we know */
#define CONFIG_HEADER 12u
#define CONFIG_MAX    256u
#define BATCH         16 /* messages per wake-up */

#define FLAG_VERSION      1u
#define FLAG_VERSION_MASK 3u
#define FLAG_REPLY        (1u << 2)
#define FLAG_NEED_REPLY   (1u << 3)
#define VRING_NOFD        (1u << 8)

#define F_PROTOCOL_FEATURES (1ull << 30)
#define PROTOCOL_MQ         (1ull << 0)
#define PROTOCOL_REPLY_ACK  (1ull << 3)
#define PROTOCOL_CONFIG     (1ull << 9)

#define VIRTIO_ID_NET 1u
#define VIRTIO_ID_FS  26u

enum request {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	RESET_OWNER = 4,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	GET_VRING_BASE = 11,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	SET_VRING_ERR = 14,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	GET_QUEUE_NUM = 17,
	SET_VRING_ENABLE = 18,
	GET_CONFIG = 24,
	SET_CONFIG = 25,
	REQUEST_MAX,
};

struct ring {
	struct vhost_user *vu; /* borrowed: the container */
	unsigned q;
	struct loop_watch watch; /* on the queue's kick_fd */
	uint16_t num, base;
	bool enabled, have_addr;
	uint64_t desc, used, avail; /* front-end virtual addresses */
};

struct message {
	uint32_t request, flags, size;
	uint8_t payload[PAYLOAD_MAX];
	int fds[FD_PASS_MAX]; /* owned until a handler steals them; -1: taken */
	size_t nfds;
};

struct vhost_user {
	struct loop *loop; /* borrowed */
	struct vdev *dev;  /* borrowed */
	void (*on_close)(struct vhost_user *vu, void *arg);
	void *arg;
	int sock; /* owned */
	struct loop_watch watch;
	struct gmem mem;
	uint64_t features, protocol;
	struct ring rings[VDEV_QUEUES_MAX];
	uint8_t header[HEADER_BYTES];
	size_t have; /* bytes of the message that is arriving */
	struct message msg;
	struct err err; /* why the session ended */
};

static int broken(struct vhost_user *vu, const char *what)
{
	return err_set(&vu->err, ERR_PEER, "vhost-user %s: %s", vu->dev->ops->name, what);
}

static uint64_t offered_features(const struct vhost_user *vu)
{
	return vu->dev->ops->features | VIRTIO_F_VERSION_1_BIT | VIRTIO_F_EVENT_IDX_BIT |
	       VIRTIO_F_INDIRECT_DESC_BIT | F_PROTOCOL_FEATURES;
}

static uint64_t offered_protocol(const struct vhost_user *vu)
{
	const struct vdev_ops *ops = vu->dev->ops;
	uint64_t f = PROTOCOL_MQ | PROTOCOL_REPLY_ACK;

	/* QEMU keeps the configuration space of net and fs itself and complains about an offer. */
	if (ops->config_read && ops->id != VIRTIO_ID_NET && ops->id != VIRTIO_ID_FS)
		f |= PROTOCOL_CONFIG;
	return f;
}

/* ---- rings ---- */

static void interrupt(struct vdev *d, unsigned q)
{
	uint64_t one = 1;

	/* Not being able to count further is fine: the interrupt is pending already. */
	if (d->vq[q].call_fd >= 0 && write(d->vq[q].call_fd, &one, sizeof(one)) < 0)
		return;
}

/* Serve a ring no longer. Returns the index to resume at through ring->base. */
static void ring_stop(struct vhost_user *vu, struct ring *r)
{
	struct virtq *vq = &vu->dev->vq[r->q];
	bool any = false;

	if (!vq->ready)
		return;
	r->base = vdev_stop_queue(vu->dev, r->q);
	for (unsigned i = 0; i < vu->dev->ops->n_queues; i++)
		any |= vu->dev->vq[i].ready;
	if (!any)
		vu->dev->broken = false;
}

static void ring_close_kick(struct vhost_user *vu, struct ring *r)
{
	loop_del(vu->loop, &r->watch);
	close_and_reset(&vu->dev->vq[r->q].kick_fd);
}

static int ring_resolve(struct vhost_user *vu, const struct ring *r, void *ret[static 3])
{
	ret[0] = gmem_ptr_uva(&vu->mem, r->desc, virtq_desc_bytes(r->num));
	ret[1] = gmem_ptr_uva(&vu->mem, r->avail, virtq_avail_bytes(r->num));
	ret[2] = gmem_ptr_uva(&vu->mem, r->used, virtq_used_bytes(r->num));
	if (!ret[0] || !ret[1] || !ret[2])
		return broken(vu, "ring outside guest memory");
	return 0;
}

/* Start the ring if everything for it is known. */
static int ring_try_start(struct vhost_user *vu, struct ring *r)
{
	struct vdev *d = vu->dev;
	struct virtq *vq = &d->vq[r->q];
	void *at[3];

	if (vq->ready || !r->num || !r->have_addr || !r->enabled || vq->kick_fd < 0 ||
		!(vu->features & VIRTIO_F_VERSION_1_BIT))
		return 0;
	if (ring_resolve(vu, r, at) < 0)
		return -1;
	if (!virtq_start(vq, &vu->mem, r->num, at[0], at[1], at[2], r->base,
		    vu->features & VIRTIO_F_EVENT_IDX_BIT))
		return broken(vu, "misaligned ring");
	if (d->broken)
		vq->bad = true;
	else
		d->ops->kick(d, r->q);
	return 0;
}

/* The memory table or an address changed under a running ring. */
static int ring_move(struct vhost_user *vu, struct ring *r)
{
	struct virtq *vq = &vu->dev->vq[r->q];
	void *at[3];

	if (!vq->ready)
		return 0;
	if (ring_resolve(vu, r, at) < 0)
		return -1;
	if ((uintptr_t)at[0] % 16 || (uintptr_t)at[1] % 2 || (uintptr_t)at[2] % 4)
		return broken(vu, "misaligned ring");
	vdev_quiesce(vu->dev);
	vq->desc = at[0];
	vq->avail = at[1];
	vq->used = at[2];
	if (!vu->dev->broken)
		vu->dev->ops->kick(vu->dev, r->q);
	return 0;
}

static struct ring *ring_at(struct vhost_user *vu, uint32_t index)
{
	if (index < vu->dev->ops->n_queues)
		return &vu->rings[index];
	broken(vu, "no such queue");
	return NULL;
}

/* ---- requests ----
 *
 * A handler returns -1 (session over, vu->err set), 0 (done), or the length of a reply that it left
 * in @to. */

static int reply_u64(uint8_t *to, uint64_t v)
{
	memcpy(to, &v, sizeof(v));
	return sizeof(v);
}

static int do_get_features(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	return reply_u64(to, offered_features(vu));
}

static int do_set_features(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	uint64_t f = rd_le64(rd);

	if (f & ~offered_features(vu))
		return broken(vu, "feature acknowledged that was not offered");
	vu->features = f;
	vu->dev->features = f & ~F_PROTOCOL_FEATURES;
	for (unsigned i = 0; i < vu->dev->ops->n_queues; i++) {
		if (!(f & F_PROTOCOL_FEATURES))
			vu->rings[i].enabled = true;
		if (ring_try_start(vu, &vu->rings[i]) < 0)
			return -1;
	}
	return 0;
}

static int do_set_owner(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	return 0;
}

static int do_reset_owner(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	for (unsigned i = 0; i < vu->dev->ops->n_queues; i++) {
		ring_stop(vu, &vu->rings[i]);
		vu->rings[i].enabled = false;
	}
	return 0;
}

static int do_set_mem_table(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	uint32_t n = rd_le32(rd);
	struct gmem old = vu->mem;

	rd_le32(rd); /* padding */
	if (n > GMEM_REGIONS_MAX || n != m->nfds || rd_left(rd) != n * 32u)
		return broken(vu, "memory table does not match its descriptors");
	vdev_quiesce(vu->dev);
	vu->mem = (struct gmem){0};
	for (uint32_t i = 0; i < n; i++) {
		uint64_t gpa = rd_le64(rd), len = rd_le64(rd), uva = rd_le64(rd);
		uint64_t offset = rd_le64(rd);

		if (gmem_adopt(&vu->mem, &old, gpa, len, uva, m->fds[i], offset))
			continue;
		if (gmem_add_fd(&vu->mem, gpa, len, uva, m->fds[i], offset, &vu->err) < 0) {
			for (unsigned q = 0; q < vu->dev->ops->n_queues; q++)
				ring_stop(vu, &vu->rings[q]);
			gmem_clear(&old);
			return -1;
		}
	}
	if (old.n)
		vu->dev->ops->reset(vu->dev);
	gmem_clear(&old);
	for (unsigned i = 0; i < vu->dev->ops->n_queues; i++)
		if (ring_move(vu, &vu->rings[i]) < 0)
			return -1;
	return 0;
}

static int do_set_vring_num(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	struct ring *r = ring_at(vu, rd_le32(rd));
	uint32_t num = rd_le32(rd);

	if (!r)
		return -1;
	if (num == 0 || num > VIRTQ_SIZE_MAX || (num & (num - 1)))
		return broken(vu, "bad queue size");
	if (vu->dev->vq[r->q].ready)
		return broken(vu, "queue size changed while running");
	r->num = (uint16_t)num;
	return ring_try_start(vu, r);
}

static int do_set_vring_addr(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	struct ring *r = ring_at(vu, rd_le32(rd));
	uint32_t flags = rd_le32(rd);

	if (!r)
		return -1;
	if (flags)
		return broken(vu, "dirty logging was not offered");
	r->desc = rd_le64(rd);
	r->used = rd_le64(rd);
	r->avail = rd_le64(rd);
	rd_le64(rd); /* log address */
	r->have_addr = true;
	if (vu->dev->vq[r->q].ready)
		return ring_move(vu, r);
	return ring_try_start(vu, r);
}

static int do_set_vring_base(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	struct ring *r = ring_at(vu, rd_le32(rd));
	uint32_t base = rd_le32(rd);

	if (!r)
		return -1;
	if (base > UINT16_MAX)
		return broken(vu, "bad ring index");
	if (vu->dev->vq[r->q].ready)
		return broken(vu, "ring index changed while running");
	r->base = (uint16_t)base;
	return 0;
}

static int do_get_vring_base(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	uint32_t index = rd_le32(rd), base;
	struct ring *r = ring_at(vu, index);

	if (!r)
		return -1;
	ring_stop(vu, r);
	/* The next start needs a new kick descriptor. */
	ring_close_kick(vu, r);
	base = r->base;
	memcpy(to, &index, 4);
	memcpy(to + 4, &base, 4);
	return 8;
}

static void on_kick(struct loop *l, struct loop_watch *w, uint32_t events);

/* Take the message's descriptor for a vring request; *ret_fd is -1 when NOFD says so. An eventfd
 * has no file type; a pipe or socket could raise SIGPIPE in us. */
static struct ring *vring_fd(struct vhost_user *vu, struct message *m, struct rd *rd, int *ret_fd)
{
	uint64_t v = rd_le64(rd);
	struct ring *r = ring_at(vu, (uint32_t)(v & 0xff));
	struct stat st;

	if (!r)
		return NULL;
	if (m->nfds != (v & VRING_NOFD ? 0 : 1) || v & ~0x1ffull) {
		broken(vu, "queue descriptor missing or unexpected");
		return NULL;
	}
	*ret_fd = -1;
	if (m->nfds == 0)
		return r;
	if (fstat(m->fds[0], &st) < 0 || (st.st_mode & S_IFMT) != 0 ||
		fd_set_nonblock(m->fds[0], true) < 0) {
		broken(vu, "queue descriptor is no eventfd");
		return NULL;
	}
	*ret_fd = steal_fd(&m->fds[0]);
	return r;
}

static int do_set_vring_kick(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	int fd = -1;
	struct ring *r = vring_fd(vu, m, rd, &fd);

	if (!r)
		return -1;
	if (fd < 0)
		return broken(vu, "polled rings are not supported");
	ring_close_kick(vu, r);
	vu->dev->vq[r->q].kick_fd = fd;
	if (loop_add(vu->loop, &r->watch, fd, EPOLLIN, on_kick) < 0)
		return err_errno(&vu->err, "watch kick");
	return ring_try_start(vu, r);
}

static int do_set_vring_call(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	int fd = -1;
	struct ring *r = vring_fd(vu, m, rd, &fd);

	if (!r)
		return -1;
	vdev_quiesce(vu->dev);
	close_and_reset(&vu->dev->vq[r->q].call_fd);
	vu->dev->vq[r->q].call_fd = fd;
	/* An interrupt may have gone to the old descriptor after the front end stopped looking at
	 * it. */
	if (vu->dev->vq[r->q].ready)
		interrupt(vu->dev, r->q);
	if (vu->dev->vq[r->q].ready && !vu->dev->broken)
		vu->dev->ops->kick(vu->dev, r->q);
	return 0;
}

static int do_set_vring_err(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	/* Accepted and dropped: we end the session instead of signalling errors. */
	return ring_at(vu, (uint32_t)(rd_le64(rd) & 0xff)) ? 0 : -1;
}

static int do_get_protocol(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	return reply_u64(to, offered_protocol(vu));
}

static int do_set_protocol(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	vu->protocol = rd_le64(rd);
	if (vu->protocol & ~offered_protocol(vu))
		return broken(vu, "protocol feature set that was not offered");
	return 0;
}

static int do_get_queue_num(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	return reply_u64(to, vu->dev->ops->n_queues);
}

static int do_set_vring_enable(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	struct ring *r = ring_at(vu, rd_le32(rd));
	uint32_t on = rd_le32(rd);

	if (!r)
		return -1;
	if (on > 1)
		return broken(vu, "bad enable value");
	r->enabled = on;
	if (on)
		return ring_try_start(vu, r);
	ring_stop(vu, r);
	return 0;
}

/* The range of a configuration request, or false with vu->err set. */
static bool config_range(struct vhost_user *vu, struct rd *rd, uint32_t *ret_off, uint32_t *ret_len,
	uint32_t *ret_flags)
{
	*ret_off = rd_le32(rd);
	*ret_len = rd_le32(rd);
	*ret_flags = rd_le32(rd);
	if (rd_ok(rd) && vu->protocol & PROTOCOL_CONFIG && *ret_off <= CONFIG_MAX &&
		*ret_len <= CONFIG_MAX - *ret_off && rd_left(rd) == *ret_len)
		return true;
	broken(vu, "bad configuration request");
	return false;
}

static int do_get_config(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	uint32_t off, len, flags;

	if (!config_range(vu, rd, &off, &len, &flags))
		return -1;
	memcpy(to, m->payload, CONFIG_HEADER);
	memset(to + CONFIG_HEADER, 0, len);
	vu->dev->ops->config_read(vu->dev, off, to + CONFIG_HEADER, len);
	return (int)(CONFIG_HEADER + len);
}

static int do_set_config(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to)
{
	uint32_t off, len, flags;

	if (!config_range(vu, rd, &off, &len, &flags))
		return -1;
	if (!vu->dev->ops->config_write || flags)
		return broken(vu, "configuration space is read-only");
	vu->dev->ops->config_write(vu->dev, off, rd_bytes(rd, len), len);
	return 0;
}

static const struct {
	int (*fn)(struct vhost_user *vu, struct message *m, struct rd *rd, uint8_t *to);
	uint16_t min, max; /* payload bytes */
	uint8_t fds;       /* most descriptors */
} requests[REQUEST_MAX] = {
	[GET_FEATURES] = {do_get_features, 0, 0, 0},
	[SET_FEATURES] = {do_set_features, 8, 8, 0},
	[SET_OWNER] = {do_set_owner, 0, 0, 0},
	[RESET_OWNER] = {do_reset_owner, 0, 0, 0},
	[SET_MEM_TABLE] = {do_set_mem_table, 8, 264, GMEM_REGIONS_MAX},
	[SET_VRING_NUM] = {do_set_vring_num, 8, 8, 0},
	[SET_VRING_ADDR] = {do_set_vring_addr, 40, 40, 0},
	[SET_VRING_BASE] = {do_set_vring_base, 8, 8, 0},
	[GET_VRING_BASE] = {do_get_vring_base, 8, 8, 0},
	[SET_VRING_KICK] = {do_set_vring_kick, 8, 8, 1},
	[SET_VRING_CALL] = {do_set_vring_call, 8, 8, 1},
	[SET_VRING_ERR] = {do_set_vring_err, 8, 8, 1},
	[GET_PROTOCOL_FEATURES] = {do_get_protocol, 0, 0, 0},
	[SET_PROTOCOL_FEATURES] = {do_set_protocol, 8, 8, 0},
	[GET_QUEUE_NUM] = {do_get_queue_num, 0, 0, 0},
	[SET_VRING_ENABLE] = {do_set_vring_enable, 8, 8, 0},
	[GET_CONFIG] = {do_get_config, CONFIG_HEADER, PAYLOAD_MAX, 0},
	[SET_CONFIG] = {do_set_config, CONFIG_HEADER, PAYLOAD_MAX, 0},
};

/* ---- session ---- */

/* And to map and unmap guest memory, which +libc allows. */
/* syscalls(vhost-user): sendto recvmsg read write fstat newfstatat close */
static int send_reply(struct vhost_user *vu, uint32_t request, const uint8_t *p, size_t len)
{
	uint8_t out[HEADER_BYTES + PAYLOAD_MAX];
	uint32_t head[3] = {request, FLAG_VERSION | FLAG_REPLY, (uint32_t)len};
	ssize_t n;

	memcpy(out, head, HEADER_BYTES);
	memcpy(out + HEADER_BYTES, p, len);
	n = send(vu->sock, out, HEADER_BYTES + len, MSG_DONTWAIT | MSG_NOSIGNAL);
	/* The front end waits for every reply: a full socket means that it does not read. */
	if (n != (ssize_t)(HEADER_BYTES + len))
		return broken(vu, "cannot reply");
	return 0;
}

static int dispatch(struct vhost_user *vu, struct message *m)
{
	struct rd rd = rd_make(m->payload, m->size);
	uint8_t reply[PAYLOAD_MAX];
	bool ack = m->flags & FLAG_NEED_REPLY && vu->protocol & PROTOCOL_REPLY_ACK;
	int n;

	if (m->request >= REQUEST_MAX || !requests[m->request].fn ||
		m->size < requests[m->request].min || m->size > requests[m->request].max ||
		m->nfds > requests[m->request].fds)
		n = broken(vu, "unknown or malformed request");
	else
		n = requests[m->request].fn(vu, m, &rd, reply);
	if (n > 0)
		return send_reply(vu, m->request, reply, (size_t)n);
	if (ack && send_reply(vu, m->request, reply, (size_t)reply_u64(reply, n < 0)) < 0)
		return -1;
	return n;
}

static void message_done(struct vhost_user *vu)
{
	for (size_t i = 0; i < vu->msg.nfds; i++)
		close_and_reset(&vu->msg.fds[i]);
	vu->msg.nfds = 0;
	vu->have = 0;
}

/* Read towards the end of the current message. 1: complete, 0: more to come, -1: session over. */
static int receive(struct vhost_user *vu)
{
	struct message *m = &vu->msg;
	int fds[FD_PASS_MAX];
	size_t nfds, want;
	uint8_t *to;
	ssize_t n;

	if (vu->have < HEADER_BYTES) {
		to = vu->header + vu->have;
		want = HEADER_BYTES - vu->have;
	} else {
		to = m->payload + (vu->have - HEADER_BYTES);
		want = HEADER_BYTES + m->size - vu->have;
	}
	n = fd_recv(vu->sock, to, want, fds, &nfds);
	if (n < 0 && errno == EAGAIN)
		return 0;
	if (n <= 0)
		return n < 0 ? err_errno(&vu->err, "vhost-user socket") : broken(vu, "closed");
	for (size_t i = 0; i < nfds; i++) {
		if (m->nfds < FD_PASS_MAX)
			m->fds[m->nfds++] = fds[i];
		else
			close(fds[i]);
	}
	vu->have += (size_t)n;
	if (vu->have == HEADER_BYTES) {
		memcpy(&m->request, vu->header, 4);
		memcpy(&m->flags, vu->header + 4, 4);
		memcpy(&m->size, vu->header + 8, 4);
		if (m->size > PAYLOAD_MAX || m->flags & FLAG_REPLY ||
			(m->flags & FLAG_VERSION_MASK) != FLAG_VERSION)
			return broken(vu, "malformed header");
	}
	return vu->have >= HEADER_BYTES && vu->have == HEADER_BYTES + m->size;
}

/* Let go of everything that came from the front end. */
static void session_end(struct vhost_user *vu)
{
	loop_del(vu->loop, &vu->watch);
	close_and_reset(&vu->sock);
	message_done(vu);
	for (unsigned i = 0; i < vu->dev->ops->n_queues; i++) {
		ring_stop(vu, &vu->rings[i]);
		ring_close_kick(vu, &vu->rings[i]);
		close_and_reset(&vu->dev->vq[i].call_fd);
	}
	gmem_clear(&vu->mem);
}

static void fail(struct vhost_user *vu)
{
	session_end(vu);
	/* Last: the owner may free us. */
	vu->on_close(vu, vu->arg);
}

static void on_message(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct vhost_user *vu = container_of(w, struct vhost_user, watch);

	for (int i = 0; i < BATCH; i++) {
		int r = receive(vu);

		if (r > 0) {
			r = dispatch(vu, &vu->msg) < 0 ? -1 : 1;
			message_done(vu);
		} else if (r == 0 && vu->have != HEADER_BYTES) {
			return;
		}
		if (r < 0) {
			fail(vu);
			return;
		}
	}
}

static void on_kick(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct ring *r = container_of(w, struct ring, watch);
	struct vhost_user *vu = r->vu;
	uint64_t count;
	ssize_t n = read(w->fd, &count, sizeof(count));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != sizeof(count)) {
		broken(vu, "kick descriptor failed");
		fail(vu);
		return;
	}
	if (vu->dev->vq[r->q].ready && !vu->dev->broken)
		vu->dev->ops->kick(vu->dev, r->q);
}

struct vhost_user *vhost_user_new(struct loop *loop, int sock, struct vdev *dev,
	void (*on_close)(struct vhost_user *vu, void *arg), void *arg, struct err *err)
{
	struct vhost_user *vu = xcalloc(1, sizeof(*vu));

	*vu = (struct vhost_user){.loop = loop,
		.dev = dev,
		.on_close = on_close,
		.arg = arg,
		.sock = sock,
		.watch = {.fd = -1}};
	for (unsigned i = 0; i < VDEV_QUEUES_MAX; i++) {
		vu->rings[i] = (struct ring){.vu = vu, .q = i, .watch = {.fd = -1}};
		dev->vq[i] = (struct virtq){.kick_fd = -1, .call_fd = -1};
	}
	dev->transport = vu;
	dev->interrupt = interrupt;
	dev->broken = false;
	if (fd_set_nonblock(sock, true) < 0 ||
		loop_add(loop, &vu->watch, sock, EPOLLIN, on_message) < 0) {
		err_errno(err, "vhost-user socket");
		close(sock);
		free(vu);
		return NULL;
	}
	return vu;
}

void vhost_user_free(struct vhost_user *vu)
{
	if (!vu)
		return;
	session_end(vu);
	vu->dev->transport = NULL;
	free(vu);
}

const struct err *vhost_user_error(const struct vhost_user *vu)
{
	return &vu->err;
}

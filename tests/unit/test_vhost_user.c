/* SPDX-License-Identifier: Apache-2.0 */
/* The vhost-user back end against a fake front end: memfd memory, eventfds, and a device that turns
 * text into capitals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ctype.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "virtio/vhost_user.h"
#include "vq_driver.h"

#define MEM_BYTES  (4u << 20)
#define UVA        0x7f1234560000ull
#define F_TOY      (1ull << 3)
#define F_PROTO    (1ull << 30)
#define F_ALL      (F_TOY | F_PROTO | VIRTIO_F_VERSION_1_BIT | VIRTIO_F_EVENT_IDX_BIT)
#define NEED_REPLY 8u

enum {
	GET_FEATURES = 1,
	SET_FEATURES,
	SET_OWNER,
	RESET_OWNER,
	SET_MEM_TABLE,
	SET_LOG_BASE,
	SET_LOG_FD,
	SET_VRING_NUM,
	SET_VRING_ADDR,
	SET_VRING_BASE,
	GET_VRING_BASE,
	SET_VRING_KICK,
	SET_VRING_CALL,
	SET_VRING_ERR,
	GET_PROTOCOL_FEATURES,
	SET_PROTOCOL_FEATURES,
	GET_QUEUE_NUM,
	SET_VRING_ENABLE,
	GET_CONFIG = 24,
	SET_CONFIG = 25,
};

/* ---- the device ---- */

struct toy {
	struct vdev dev;
	unsigned kicks[VDEV_QUEUES_MAX], resets;
	uint8_t config[8];
};

static void toy_config_read(struct vdev *d, size_t off, void *to, size_t len)
{
	struct toy *t = container_of(d, struct toy, dev);

	for (size_t i = 0; i < len; i++)
		((uint8_t *)to)[i] = off + i < sizeof(t->config) ? t->config[off + i] : 0;
}

static void toy_config_write(struct vdev *d, size_t off, const void *from, size_t len)
{
	struct toy *t = container_of(d, struct toy, dev);

	for (size_t i = 0; i < len && off + i < sizeof(t->config); i++)
		t->config[off + i] = ((const uint8_t *)from)[i];
}

static void toy_kick(struct vdev *d, unsigned q)
{
	struct toy *t = container_of(d, struct toy, dev);
	struct virtq_chain c;
	enum virtq_next r;

	t->kicks[q]++;
	while ((r = virtq_pop(&d->vq[q], &c)) == VIRTQ_CHAIN) {
		char text[64];
		size_t n = virtq_chain_read(&c, 0, text, sizeof(text));

		for (size_t i = 0; i < n; i++)
			text[i] = (char)toupper((unsigned char)text[i]);
		virtq_push(&d->vq[q], c.head, (uint32_t)virtq_chain_write(&c, 0, text, n));
	}
	if (r == VIRTQ_BAD)
		vdev_break(d, "test");
	vdev_flush(d, q);
}

static void toy_reset(struct vdev *d)
{
	container_of(d, struct toy, dev)->resets++;
}

static const struct vdev_ops toy_ops = {
	.name = "toy",
	.id = 19,
	.n_queues = 2,
	.features = F_TOY,
	.config_read = toy_config_read,
	.config_write = toy_config_write,
	.kick = toy_kick,
	.reset = toy_reset,
};

/* ---- the front end ---- */

struct fe {
	struct loop *loop;
	struct toy toy;
	struct vhost_user *vu;
	int sock, memfd, kick[2], call[2];
	struct vqd_mem mem;
	struct vqd vq[2];
	unsigned closed;
};

static void on_close(struct vhost_user *vu, void *arg)
{
	struct fe *fe = arg;

	fe->closed++;
	assert_true(vhost_user_error(vu)->class != ERR_NONE);
	vhost_user_free(vu);
	fe->vu = NULL;
}

static void fe_init_id(struct fe *fe, const struct vdev_ops *ops)
{
	struct err err;
	int sv[2];

	*fe = (struct fe){.toy = {.dev.ops = ops}};
	fe->loop = loop_new(&err);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	fe->sock = sv[0];
	fe->vu = vhost_user_new(fe->loop, sv[1], &fe->toy.dev, on_close, fe, &err);
	assert_non_null(fe->vu);
	fe->memfd = memfd_create("guest", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fe->memfd, MEM_BYTES), 0);
	fe->mem = (struct vqd_mem){.len = MEM_BYTES};
	fe->mem.host = mmap(NULL, MEM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fe->memfd, 0);
	assert_ptr_not_equal(fe->mem.host, MAP_FAILED);
	for (int q = 0; q < 2; q++) {
		vqd_init(&fe->vq[q], &fe->mem, 16);
		fe->kick[q] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		fe->call[q] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	}
}

static void fe_init(struct fe *fe)
{
	fe_init_id(fe, &toy_ops);
}

static void fe_done(struct fe *fe)
{
	vhost_user_free(fe->vu);
	for (int q = 0; q < 2; q++) {
		assert_false(fe->toy.dev.vq[q].ready);
		assert_int_equal(fe->toy.dev.vq[q].kick_fd, -1);
		assert_int_equal(fe->toy.dev.vq[q].call_fd, -1);
		close(fe->kick[q]);
		close(fe->call[q]);
	}
	close_and_reset(&fe->sock);
	close(fe->memfd);
	munmap(fe->mem.host, MEM_BYTES);
	loop_free(fe->loop);
}

static void turn(struct fe *fe)
{
	for (int i = 0; i < 4; i++)
		assert_int_equal(loop_once(fe->loop, 0, NULL), 0);
}

static void send_fds(struct fe *fe, uint32_t req, uint32_t flags, const void *p, uint32_t len,
	const int *fds, size_t nfds)
{
	uint8_t out[1024];
	uint32_t head[3] = {req, flags | 1, len};

	memcpy(out, head, 12);
	if (len)
		memcpy(out + 12, p, len);
	assert_int_equal(fd_send(fe->sock, out, 12 + len, fds, nfds), 12 + len);
	turn(fe);
}

static void send_msg(struct fe *fe, uint32_t req, const void *p, uint32_t len)
{
	send_fds(fe, req, 0, p, len, NULL, 0);
}

static void send_u64(struct fe *fe, uint32_t req, uint64_t v)
{
	send_msg(fe, req, &v, 8);
}

static void send_state(struct fe *fe, uint32_t req, uint32_t index, uint32_t num)
{
	send_msg(fe, req, (uint32_t[]){index, num}, 8);
}

static void send_vring_fd(struct fe *fe, uint32_t req, uint64_t v, int fd)
{
	send_fds(fe, req, 0, &v, 8, &fd, fd >= 0);
}

/* Read a reply to @req; its payload length. */
static uint32_t reply(struct fe *fe, uint32_t req, void *to, size_t size)
{
	uint32_t head[3];

	assert_int_equal(recv(fe->sock, head, 12, MSG_DONTWAIT), 12);
	assert_int_equal(head[0], req);
	assert_int_equal(head[1], 1 | 4);
	assert_true(head[2] <= size);
	if (head[2])
		assert_int_equal(recv(fe->sock, to, head[2], MSG_DONTWAIT), head[2]);
	return head[2];
}

static uint64_t ask(struct fe *fe, uint32_t req)
{
	uint64_t v = 0;

	send_msg(fe, req, NULL, 0);
	assert_int_equal(reply(fe, req, &v, 8), 8);
	return v;
}

static void no_reply(struct fe *fe)
{
	char c;

	assert_int_equal(recv(fe->sock, &c, 1, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

static void send_memory(struct fe *fe)
{
	uint64_t t[5] = {1, VQD_GPA, MEM_BYTES, UVA, 0};

	send_fds(fe, SET_MEM_TABLE, 0, t, sizeof(t), &fe->memfd, 1);
}

static void send_addr(struct fe *fe, uint32_t q, uint32_t flags, uint64_t shift)
{
	const struct vqd *d = &fe->vq[q];
	uint64_t at = UVA - VQD_GPA + shift;
	uint64_t m[5] = {q | (uint64_t)flags << 32, d->desc + at, d->used + at, d->avail + at, 0};

	send_msg(fe, SET_VRING_ADDR, m, sizeof(m));
}

/* Everything that QEMU sends for one queue, in its order. */
static void send_ring(struct fe *fe, uint32_t q, uint32_t base)
{
	send_state(fe, SET_VRING_NUM, q, 16);
	send_state(fe, SET_VRING_BASE, q, base);
	send_addr(fe, q, 0, 0);
	send_vring_fd(fe, SET_VRING_KICK, q, fe->kick[q]);
	send_vring_fd(fe, SET_VRING_CALL, q, fe->call[q]);
}

static void handshake(struct fe *fe, uint64_t features)
{
	uint64_t p;

	assert_int_equal(ask(fe, GET_FEATURES) & features, features);
	p = ask(fe, GET_PROTOCOL_FEATURES);
	assert_int_equal(p, 1 | 1 << 3 | 1 << 9);
	send_u64(fe, SET_PROTOCOL_FEATURES, p);
	assert_int_equal(ask(fe, GET_QUEUE_NUM), 2);
	send_msg(fe, SET_OWNER, NULL, 0);
	send_u64(fe, SET_FEATURES, features);
	send_memory(fe);
}

static void start(struct fe *fe)
{
	handshake(fe, F_ALL);
	send_ring(fe, 0, 0);
	send_ring(fe, 1, 0);
	send_state(fe, SET_VRING_ENABLE, 0, 1);
	send_state(fe, SET_VRING_ENABLE, 1, 1);
	no_reply(fe);
	assert_int_equal(fe->closed, 0);
}

static uint64_t drain(int eventfd)
{
	uint64_t n = 0;

	return read(eventfd, &n, 8) == 8 ? n : 0;
}

static void kick(struct fe *fe, unsigned q)
{
	assert_int_equal(write(fe->kick[q], &(uint64_t){1}, 8), 8);
	turn(fe);
}

/* Put a request on the queue; where its answer will be. */
static const char *request(struct fe *fe, unsigned q, const char *text)
{
	uint32_t n = (uint32_t)strlen(text);
	uint64_t out = vqd_alloc(&fe->mem, n, 1), in = vqd_alloc(&fe->mem, n + 1, 1);

	memcpy(vqd_ptr(&fe->mem, out), text, n);
	assert_true(vqd_add(&fe->vq[q], (struct vqd_seg[]){{out, n}, {in, n}}, 1, 1) >= 0);
	return vqd_ptr(&fe->mem, in);
}

static void expect(struct fe *fe, unsigned q, const char *in, const char *want)
{
	uint32_t len = 0;

	assert_true(vqd_get_used(&fe->vq[q], &len) >= 0);
	assert_int_equal(len, strlen(want));
	assert_string_equal(in, want);
}

/* ---- tests ---- */

static void test_end_to_end(void **state)
{
	const char *a, *b;
	uint32_t st[2];
	struct fe fe;

	fe_init(&fe);
	start(&fe);
	assert_int_equal(fe.toy.dev.features, F_ALL & ~F_PROTO);
	assert_int_equal(fe.toy.kicks[0], 1); /* became ready */
	drain(fe.call[0]);
	a = request(&fe, 0, "carrot");
	b = request(&fe, 1, "lettuce");
	kick(&fe, 0);
	expect(&fe, 0, a, "CARROT");
	assert_int_equal(drain(fe.call[0]), 1);
	assert_string_equal(b, "");
	kick(&fe, 1);
	expect(&fe, 1, b, "LETTUCE");
	/* Stop: the reply names the next index; kicks do nothing any more. */
	send_state(&fe, GET_VRING_BASE, 0, 0);
	assert_int_equal(reply(&fe, GET_VRING_BASE, st, 8), 8);
	assert_int_equal(st[0], 0);
	assert_int_equal(st[1], 1);
	assert_true(fe.toy.resets > 0);
	assert_false(fe.toy.dev.vq[0].ready);
	a = request(&fe, 0, "clover");
	kick(&fe, 0);
	assert_string_equal(a, "");
	/* Resume where it stopped; the waiting request is served at once. */
	drain(fe.kick[0]);
	send_ring(&fe, 0, st[1]);
	expect(&fe, 0, a, "CLOVER");
	assert_int_equal(fe.closed, 0);
	/* Hang up with running rings. */
	close_and_reset(&fe.sock);
	turn(&fe);
	assert_int_equal(fe.closed, 1);
	fe_done(&fe);
}

static void test_enable(void **state)
{
	struct fe fe;
	const char *a;

	/* With protocol features a ring waits for SET_VRING_ENABLE … */
	fe_init(&fe);
	handshake(&fe, F_ALL);
	send_ring(&fe, 0, 0);
	a = request(&fe, 0, "hay");
	kick(&fe, 0);
	assert_string_equal(a, "");
	send_state(&fe, SET_VRING_ENABLE, 0, 1);
	expect(&fe, 0, a, "HAY");
	send_state(&fe, SET_VRING_ENABLE, 0, 0);
	a = request(&fe, 0, "oats");
	kick(&fe, 0);
	assert_string_equal(a, "");
	send_state(&fe, SET_VRING_ENABLE, 0, 1);
	expect(&fe, 0, a, "OATS");
	/* Deprecated, but allowed: disables all rings. */
	send_msg(&fe, RESET_OWNER, NULL, 0);
	assert_false(fe.toy.dev.vq[0].ready);
	fe_done(&fe);
	/* … without them it starts enabled. */
	fe_init(&fe);
	handshake(&fe, VIRTIO_F_VERSION_1_BIT);
	send_ring(&fe, 0, 0);
	a = request(&fe, 0, "hay");
	kick(&fe, 0);
	expect(&fe, 0, a, "HAY");
	fe_done(&fe);
	/* A legacy driver is not served. */
	fe_init(&fe);
	handshake(&fe, 0);
	send_ring(&fe, 0, 0);
	assert_false(fe.toy.dev.vq[0].ready);
	fe_done(&fe);
}

static void test_new_call_fd(void **state)
{
	struct fe fe;

	fe_init(&fe);
	start(&fe);
	drain(fe.call[1]);
	/* A replaced descriptor is signalled once, in case the old one got an interrupt too late.
	 */
	send_vring_fd(&fe, SET_VRING_CALL, 0, fe.call[1]);
	assert_int_equal(drain(fe.call[1]), 1);
	/* None at all: nothing is signalled, nothing breaks. */
	send_vring_fd(&fe, SET_VRING_CALL, 0 | 0x100, -1);
	request(&fe, 0, "dill");
	kick(&fe, 0);
	assert_int_equal(vqd_used(&fe.vq[0])[1], 1);
	assert_int_equal(drain(fe.call[1]), 0);
	assert_int_equal(fe.closed, 0);
	fe_done(&fe);
}

static void test_memory_moves(void **state)
{
	uint64_t two[9] = {2, VQD_GPA, MEM_BYTES, UVA, 0, 0x1000, 4096, 0x1000, 0};
	struct fe fe;
	const char *a;
	void *desc;
	int fds[2];

	fe_init(&fe);
	start(&fe);
	desc = fe.toy.dev.vq[0].desc;
	/* A table that only adds a region leaves everything in place. */
	fds[0] = fds[1] = fe.memfd;
	send_fds(&fe, SET_MEM_TABLE, 0, two, sizeof(two), fds, 2);
	assert_ptr_equal(fe.toy.dev.vq[0].desc, desc);
	assert_int_equal(fe.toy.resets, 0);
	/* Losing a region resets the device, because it may hold pointers; rings go on. */
	send_memory(&fe);
	assert_int_equal(fe.toy.resets, 1);
	assert_ptr_equal(fe.toy.dev.vq[0].desc, desc);
	/* The same memory at another place: rings move. */
	two[3] = UVA + 0x100000000;
	send_fds(&fe, SET_MEM_TABLE, 0, two, sizeof(two), fds, 2);
	assert_int_equal(fe.closed, 1);
	fe_done(&fe);

	fe_init(&fe);
	start(&fe);
	two[3] = UVA;
	two[2] = MEM_BYTES / 2; /* rings lie in the first half */
	send_fds(&fe, SET_MEM_TABLE, 0, two, sizeof(two), fds, 2);
	assert_int_equal(fe.closed, 0);
	a = request(&fe, 0, "parsley");
	kick(&fe, 0);
	expect(&fe, 0, a, "PARSLEY");
	fe_done(&fe);
}

static void test_config(void **state)
{
	struct vdev_ops net = toy_ops;
	uint8_t m[12 + 256] = {0}, got[300];
	struct fe fe;

	fe_init(&fe);
	memcpy(fe.toy.config, "rabbit!!", 8);
	handshake(&fe, F_ALL);
	memcpy(m, (uint32_t[]){2, 10, 0}, 12);
	send_msg(&fe, GET_CONFIG, m, 22);
	assert_int_equal(reply(&fe, GET_CONFIG, got, sizeof(got)), 22);
	assert_memory_equal(got, m, 12);
	assert_memory_equal(got + 12, "bbit!!\0\0\0\0", 10);
	/* The whole space, as QEMU may ask. */
	memcpy(m, (uint32_t[]){0, 256, 0}, 12);
	send_msg(&fe, GET_CONFIG, m, 268);
	assert_int_equal(reply(&fe, GET_CONFIG, got, sizeof(got)), 268);
	memcpy(m, (uint32_t[]){0, 4, 0}, 12);
	memcpy(m + 12, "hare", 4);
	send_msg(&fe, SET_CONFIG, m, 16);
	assert_memory_equal(fe.toy.config, "hareit!!", 8);
	assert_int_equal(fe.closed, 0);
	fe_done(&fe);
	/* QEMU does not want it for net. */
	net.id = 1;
	fe_init_id(&fe, &net);
	assert_int_equal(ask(&fe, GET_PROTOCOL_FEATURES), 1 | 1 << 3);
	fe_done(&fe);
}

static void test_reply_ack(void **state)
{
	uint64_t v = 0;
	struct fe fe;

	fe_init(&fe);
	/* Not negotiated: the flag means nothing. */
	v = F_ALL;
	send_fds(&fe, SET_FEATURES, NEED_REPLY, &v, 8, NULL, 0);
	no_reply(&fe);
	send_u64(&fe, SET_PROTOCOL_FEATURES, 1 << 3);
	send_fds(&fe, SET_FEATURES, NEED_REPLY, &v, 8, NULL, 0);
	assert_int_equal(reply(&fe, SET_FEATURES, &v, 8), 8);
	assert_int_equal(v, 0);
	/* Failure: a non-zero reply, then the end. */
	v = ~0ull;
	send_fds(&fe, SET_FEATURES, NEED_REPLY, &v, 8, NULL, 0);
	assert_int_equal(reply(&fe, SET_FEATURES, &v, 8), 8);
	assert_int_not_equal(v, 0);
	assert_int_equal(fe.closed, 1);
	fe_done(&fe);
}

static void test_fragments(void **state)
{
	uint32_t m[5] = {SET_VRING_NUM, 1, 8, 1, 32};
	uint64_t t[7] = {0};
	struct fe fe;

	fe_init(&fe);
	for (size_t i = 0; i < sizeof(m); i++) {
		assert_int_equal(send(fe.sock, (uint8_t *)m + i, 1, 0), 1);
		turn(&fe);
	}
	/* Several in one write. */
	memcpy(t, (uint32_t[]){GET_FEATURES, 1, 0}, 12);
	memcpy((uint8_t *)t + 12, (uint32_t[]){GET_QUEUE_NUM, 1, 0}, 12);
	assert_int_equal(send(fe.sock, t, 24, 0), 24);
	turn(&fe);
	assert_int_equal(reply(&fe, GET_FEATURES, t, 8), 8);
	assert_int_equal(reply(&fe, GET_QUEUE_NUM, t, 8), 8);
	assert_int_equal(fe.closed, 0);
	/* The end in the middle of a message. */
	assert_int_equal(send(fe.sock, m, 14, 0), 14);
	close_and_reset(&fe.sock);
	turn(&fe);
	assert_int_equal(fe.closed, 1);
	fe_done(&fe);
}

static void test_broken_guest(void **state)
{
	struct fe fe;
	uint32_t st[2];
	const char *a;

	fe_init(&fe);
	start(&fe);
	vqd_publish(&fe.vq[0], 77); /* no such descriptor */
	kick(&fe, 0);
	assert_true(fe.toy.dev.broken);
	assert_int_equal(fe.closed, 0); /* the session survives */
	/* The other queue of the device is not served either. */
	a = request(&fe, 1, "dead");
	kick(&fe, 1);
	assert_string_equal(a, "");
	/* Only when every queue was stopped is the device whole again. */
	send_state(&fe, GET_VRING_BASE, 0, 0);
	reply(&fe, GET_VRING_BASE, st, 8);
	assert_true(fe.toy.dev.broken);
	send_state(&fe, GET_VRING_BASE, 1, 0);
	reply(&fe, GET_VRING_BASE, st, 8);
	assert_false(fe.toy.dev.broken);
	fe.mem.used = 0;
	memset(fe.mem.host, 0, MEM_BYTES);
	vqd_init(&fe.vq[0], &fe.mem, 16);
	vqd_init(&fe.vq[1], &fe.mem, 16);
	send_ring(&fe, 0, 0);
	a = request(&fe, 0, "alive");
	kick(&fe, 0);
	expect(&fe, 0, a, "ALIVE");
	fe_done(&fe);
}

static void test_dead_kick_fd(void **state)
{
	struct fe fe;
	int ep = epoll_create1(EPOLL_CLOEXEC), fd = eventfd(1, EFD_CLOEXEC);

	/* An anonymous descriptor that becomes readable but cannot be read. */
	assert_int_equal(
		epoll_ctl(ep, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN}), 0);
	fe_init(&fe);
	start(&fe);
	send_vring_fd(&fe, SET_VRING_KICK, 0, ep);
	turn(&fe);
	assert_int_equal(fe.closed, 1);
	fe_done(&fe);
	close(ep);
	close(fd);
}

/* One message that must end the session. */
struct bad_msg {
	const char *what;
	bool running; /* rings are up */
	uint32_t req, flags, len;
	uint64_t p[36];
	unsigned fds; /* this many memfds */
};

#define S(index, num)              ((uint64_t)(index) | (uint64_t)(num) << 32)
#define REGION(gpa, len, uva, off) (gpa), (len), (uva), (off)

static const struct bad_msg bad_msgs[] = {
	{"request 0", false, 0, 0, 0},
	{"unknown request", false, 26, 0, 0},
	{"unknown request", false, 44, 0, 0},
	{"huge request", false, 0xffffffff, 0, 0},
	{"version 0", false, GET_FEATURES, 2 | 0x10, 0}, /* | 1 makes it 3 */
	{"reply flag", false, GET_FEATURES, 4, 0},
	{"payload too long", false, GET_FEATURES, 0, 8},
	{"payload too short", false, SET_FEATURES, 0, 4},
	{"over the limit", false, SET_CONFIG, 0, 272},
	{"descriptor with a plain request", false, GET_FEATURES, 0, 0, {0}, 1},
	{"feature not offered", false, SET_FEATURES, 0, 8, {1ull << 60}},
	{"log-all feature", false, SET_FEATURES, 0, 8, {1ull << 26}},
	{"protocol feature not offered", false, SET_PROTOCOL_FEATURES, 0, 8, {1 << 1}},
	{"dirty log", true, SET_LOG_BASE, 0, 16, {4096, 0}, 1},
	{"dirty log descriptor", true, SET_LOG_FD, 0, 0, {0}, 1},
	{"queue 2 of 2", false, SET_VRING_NUM, 0, 8, {S(2, 16)}},
	{"queue -1", false, SET_VRING_NUM, 0, 8, {S(0xffffffff, 16)}},
	{"size 0", false, SET_VRING_NUM, 0, 8, {S(0, 0)}},
	{"size 24", false, SET_VRING_NUM, 0, 8, {S(0, 24)}},
	{"size 2048", false, SET_VRING_NUM, 0, 8, {S(0, 2048)}},
	{"size 65536 + 16", false, SET_VRING_NUM, 0, 8, {S(0, 65552)}},
	{"size while running", true, SET_VRING_NUM, 0, 8, {S(0, 16)}},
	{"base while running", true, SET_VRING_BASE, 0, 8, {S(0, 0)}},
	{"base over 16 bits", false, SET_VRING_BASE, 0, 8, {S(0, 65536)}},
	{"base of queue 9", false, SET_VRING_BASE, 0, 8, {S(9, 0)}},
	{"stop queue 2", true, GET_VRING_BASE, 0, 8, {S(2, 0)}},
	{"enable queue 2", true, SET_VRING_ENABLE, 0, 8, {S(2, 1)}},
	{"enable 2", true, SET_VRING_ENABLE, 0, 8, {S(0, 2)}},
	{"polled ring", false, SET_VRING_KICK, 0, 8, {0x100}},
	{"kick without descriptor", false, SET_VRING_KICK, 0, 8, {0}},
	{"kick with two", false, SET_VRING_KICK, 0, 8, {0}, 2},
	{"kick with a file", false, SET_VRING_KICK, 0, 8, {0}, 1},
	{"kick of queue 2", false, SET_VRING_KICK, 0, 8, {2}, 1},
	{"kick, stray bits", false, SET_VRING_KICK, 0, 8, {0x200}, 1},
	{"call without descriptor", true, SET_VRING_CALL, 0, 8, {0}},
	{"call with NOFD and one", true, SET_VRING_CALL, 0, 8, {0x100}, 1},
	{"err of queue 200", true, SET_VRING_ERR, 0, 8, {200}},
	{"ring outside memory", true, SET_VRING_ADDR, 0, 40, {0, UVA + MEM_BYTES, UVA, UVA}},
	{"ring end outside", true, SET_VRING_ADDR, 0, 40, {0, UVA + MEM_BYTES - 240, UVA, UVA}},
	{"ring wraps", true, SET_VRING_ADDR, 0, 40, {0, UVA, ~7ull, UVA}},
	{"used ring end outside", true, SET_VRING_ADDR, 0, 40,
		{0, UVA, UVA + MEM_BYTES - 132, UVA}},
	{"guest address as ring", true, SET_VRING_ADDR, 0, 40, {0, VQD_GPA, VQD_GPA, VQD_GPA}},
	{"misaligned descriptors", true, SET_VRING_ADDR, 0, 40, {0, UVA + 8, UVA, UVA}},
	{"misaligned used", true, SET_VRING_ADDR, 0, 40, {0, UVA, UVA + 2, UVA}},
	{"misaligned avail", true, SET_VRING_ADDR, 0, 40, {0, UVA, UVA, UVA + 1}},
	{"ring logging", true, SET_VRING_ADDR, 0, 40, {S(0, 1), UVA, UVA, UVA}},
	{"address of queue 2", true, SET_VRING_ADDR, 0, 40, {2, UVA, UVA, UVA}},
	{"table, no descriptor", true, SET_MEM_TABLE, 0, 40, {1, REGION(0, 4096, UVA, 0)}},
	{"table, a descriptor too many", true, SET_MEM_TABLE, 0, 40, {1, REGION(0, 4096, UVA, 0)},
		2},
	{"table, short", true, SET_MEM_TABLE, 0, 40, {2, REGION(0, 4096, UVA, 0)}, 2},
	{"table, long", true, SET_MEM_TABLE, 0, 48, {1, REGION(0, 4096, UVA, 0)}, 1},
	{"table, count -1", true, SET_MEM_TABLE, 0, 8, {0xffffffff}},
	{"table loses the rings", true, SET_MEM_TABLE, 0, 8, {0}},
	{"region beyond file", true, SET_MEM_TABLE, 0, 40, {1, REGION(0, MEM_BYTES, UVA, 4096)}, 1},
	{"region of nothing", true, SET_MEM_TABLE, 0, 40, {1, REGION(0, 0, UVA, 0)}, 1},
	{"region wraps", true, SET_MEM_TABLE, 0, 40, {1, REGION(~0xfffull, 8192, UVA, 0)}, 1},
	{"offset wraps", true, SET_MEM_TABLE, 0, 40, {1, REGION(0, 8192, UVA, ~0xfffull)}, 1},
	{"regions overlap", true, SET_MEM_TABLE, 0, 72,
		{2, REGION(VQD_GPA, MEM_BYTES, UVA, 0), REGION(VQD_GPA + 4096, 4096, 4096, 0)}, 2},
	{"config not negotiated", false, GET_CONFIG, 0, 20, {S(0, 8)}},
	{"config too far", true, GET_CONFIG, 0, 20, {S(256, 8)}},
	{"config wraps", true, GET_CONFIG, 0, 20, {S(0xffffffff, 8)}},
	{"config size does not match", true, GET_CONFIG, 0, 20, {S(0, 7)}},
	{"config for migration", true, SET_CONFIG, 0, 20, {S(0, 8), 1}},
};

static void test_hostile(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(bad_msgs); i++) {
		const struct bad_msg *b = &bad_msgs[i];
		struct fe fe;
		int fds[8];

		fe_init(&fe);
		if (b->running)
			start(&fe);
		for (unsigned f = 0; f < b->fds; f++)
			fds[f] = fe.memfd;
		send_fds(&fe, b->req, b->flags, b->p, b->len, fds, b->fds);
		if (fe.closed != 1)
			fail_msg("accepted: %s", b->what);
		/* Nothing is left behind: neither session nor mapping nor descriptor. */
		assert_null(fe.vu);
		fe_done(&fe);
	}
}

static void test_hostile_fds(void **state)
{
	struct fe fe;
	int p[2];

	assert_int_equal(pipe(p), 0);
	for (int i = 0; i < 3; i++) {
		uint32_t req = i == 0 ? SET_VRING_KICK : SET_VRING_CALL;

		fe_init(&fe);
		/* Writing to it could raise SIGPIPE. */
		send_vring_fd(&fe, req, 0, i == 2 ? fe.sock : p[1]);
		assert_int_equal(fe.closed, 1);
		fe_done(&fe);
	}
	close(p[0]);
	close(p[1]);
}

/* No descriptor may stay open, however a session ends. */
static void test_no_leak(void **state)
{
	unsigned before = vqd_open_fds();

	test_hostile(state);
	test_end_to_end(state);
	assert_int_equal(vqd_open_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_end_to_end),
		cmocka_unit_test(test_enable),
		cmocka_unit_test(test_new_call_fd),
		cmocka_unit_test(test_memory_moves),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_reply_ack),
		cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_broken_guest),
		cmocka_unit_test(test_dead_kick_fd),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_hostile_fds),
		cmocka_unit_test(test_no_leak),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

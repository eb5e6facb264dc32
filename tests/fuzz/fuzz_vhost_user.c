/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile vhost-user front end with hostile guest memory behind it. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "virtio/vhost_user.h"

#define MEM 65536u
#define UVA 0x10000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct vhost_user *vu;
static int memfd = -1, evfd = -1;

static void config(struct vdev *d, size_t off, void *to, size_t len)
{
	memset(to, 1, len);
}

static void config_write(struct vdev *d, size_t off, const void *from, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum ^= ((const uint8_t *)from)[i];
	*(volatile uint8_t *)&sum;
}

static void kick(struct vdev *d, unsigned q)
{
	struct virtq_chain c;
	enum virtq_next r;
	uint8_t b[64];

	for (int i = 0; i < 64 && (r = virtq_pop(&d->vq[q], &c)) != VIRTQ_EMPTY; i++) {
		if (r == VIRTQ_BAD) {
			vdev_break(d, "fuzz");
			return;
		}
		virtq_chain_write(&c, 0, b, virtq_chain_read(&c, 0, b, sizeof(b)));
		virtq_push(&d->vq[q], c.head, 0);
	}
	vdev_flush(d, q);
}

static void reset(struct vdev *d)
{
}

static const struct vdev_ops ops = {
	.name = "fuzz",
	.id = 19,
	.n_queues = 2,
	.features = 7,
	.config_read = config,
	.config_write = config_write,
	.kick = kick,
	.reset = reset,
};

static void on_close(struct vhost_user *v, void *arg)
{
	vhost_user_free(v);
	vu = NULL;
}

/* @lie is added to the length in the header. */
static void send_lie(int sock, uint32_t req, uint32_t flags, const void *p, uint32_t len,
	uint32_t lie, const int *fds, size_t nfds)
{
	uint8_t out[12 + 256];
	uint32_t head[3] = {req, flags, len + lie};

	memcpy(out, head, 12);
	memcpy(out + 12, p, len);
	if (fd_send(sock, out, 12 + len, fds, nfds) < 0)
		return;
}

static void send_msg(int sock, uint32_t req, uint32_t flags, const void *p, uint32_t len,
	const int *fds, size_t nfds)
{
	send_lie(sock, req, flags, p, len, 0, fds, nfds);
}

/* What a correct front end sends first, so that the input can start behind it. */
static void handshake(int sock)
{
	uint64_t features = 7 | 1ull << 28 | 1ull << 29 | 1ull << 30 | 1ull << 32;

	send_msg(sock, 16, 1, &(uint64_t){1 | 1 << 3 | 1 << 9}, 8, NULL, 0);
	send_msg(sock, 2, 1, &features, 8, NULL, 0);
	send_msg(sock, 5, 1, (uint64_t[]){1, 0, MEM, UVA, 0}, 40, &memfd, 1);
	for (uint64_t q = 0; q < 2; q++) {
		uint64_t at = UVA + q * 0x1000;

		send_msg(sock, 8, 1, &(uint64_t){q | 8ull << 32}, 8, NULL, 0);
		send_msg(sock, 9, 1, (uint64_t[]){q, at, at + 0x200, at + 0x100, 0}, 40, NULL, 0);
		send_msg(sock, 12, 1, &q, 8, &evfd, 1);
		send_msg(sock, 13, 1, &q, 8, &evfd, 1);
		send_msg(sock, 18, 1, &(uint64_t){q | 1ull << 32}, 8, NULL, 0);
	}
}

static void turn(struct loop *l)
{
	for (int i = 0; i < 2; i++)
		if (loop_once(l, 0, NULL) < 0)
			abort();
}

/* Messages: request, flags, descriptors (low bits: how many, high: which), length, payload. Request
 * 255 writes guest memory and kicks. */
static void play(struct loop *l, int sock, const uint8_t *p, size_t n)
{
	for (unsigned i = 0; i < 64 && n >= 4 && vu; i++) {
		size_t len = MIN((size_t)p[3], n - 4);
		int fds[8];

		for (int f = 0; f < 8; f++)
			fds[f] = p[2] >> (3 + f % 5) & 1 ? memfd : evfd;
		if (p[0] == 255) {
			size_t at = (size_t)(p[1] << 8 | p[2]) % (MEM - 256);

			if (pwrite(memfd, p + 4, len, (off_t)at) < 0 ||
				write(evfd, &(uint64_t){1}, 8) < 0)
				abort();
		} else {
			send_lie(sock, p[0], p[1] ^ 1u, p + 4, (uint32_t)len, (p[1] >> 4) * 16u,
				fds, p[2] & 7);
		}
		turn(l);
		p += 4 + len;
		n -= 4 + len;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vdev dev = {.ops = &ops};
	struct loop *l;
	uint8_t trash[4096];
	int sv[2];

	log_init("fuzz", "-", LOG_ERROR);
	if (memfd < 0) {
		memfd = memfd_create("guest", MFD_CLOEXEC);
		evfd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	}
	if (size < 1 || ftruncate(memfd, 0) < 0 || ftruncate(memfd, MEM) < 0)
		return 0;
	l = loop_new(NULL);
	if (!l || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) < 0)
		abort();
	vu = vhost_user_new(l, sv[1], &dev, on_close, NULL, NULL);
	if (data[0] & 1) {
		handshake(sv[0]);
		turn(l);
		if (!vu || !dev.vq[1].ready)
			abort();
	}
	play(l, sv[0], data + 1, size - 1);
	while (vu && recv(sv[0], trash, sizeof(trash), MSG_DONTWAIT) > 0)
		;
	close(sv[0]);
	if (vu && data[0] & 2)
		turn(l);
	vhost_user_free(vu);
	vu = NULL;
	loop_free(l);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-vsock (virtio 1.2, 5.10): guest streams become UNIX streams of the host, and the reverse.
 */
#pragma once

#include "base/loop.h"
#include "virtio/vdev.h"

#define VSOCK_HOST_CID      2u
#define VSOCK_CONNS_MAX     1024u
#define VSOCK_BUF_ALLOC     (256u << 10) /* bytes of one connection that we hold for the host side */
#define VSOCK_HOST_PORT_MIN (1u << 16)   /* our ephemeral ports start here */

struct vsock;

struct vsock_host {
	/* The guest connects to @port of the host. Returns a connected UNIX stream socket (the
	 * device takes it), or -1 to refuse. */
	int (*accept)(void *arg, uint32_t port);
};

/* @loop and @ops are borrowed. */
struct vsock *vsock_new(
	struct loop *loop, uint64_t guest_cid, const struct vsock_host *ops, void *arg);
/* Closes all connections. The transport must be gone. */
void vsock_free(struct vsock *vs);
struct vdev *vsock_vdev(struct vsock *vs);

/* Connect @fd (a UNIX stream socket, taken in any case) to @guest_port. Bytes may be written to the
 * other end at once. -1: the driver is not up or there are too many connections; a refusal by the
 * guest shows as end of file. */
int vsock_connect(struct vsock *vs, int fd, uint32_t guest_port);

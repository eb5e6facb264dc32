/* SPDX-License-Identifier: Apache-2.0 */
/* hutch-vmm's own: what its two ways of running share (serve.c offers the devices to qemu, machine.c
 * runs the virtual machine here). */
#pragma once

#include "base/err.h"
#include "base/loop.h"
#include "fuse/fuse.h"
#include "vmm/seal.h"

struct vsock;
struct netgate;

/* The descriptor table (ARCHITECTURE.md). */
enum {
	VMM_FD_BOX = 3,
	VMM_FD_GATE,
	/* --serve */
	VMM_FD_FS = 5,
	VMM_FD_NET, /* listens: qemu's network device connects to it by path */
	VMM_FD_VSOCK,
	/* --kvm */
	VMM_FD_KERNEL = 5,
	VMM_FD_INITRD,
	VMM_FD_ROOT,
	VMM_FD_DISK,
	VMM_FD_CONSOLE,
};

/* The host's side of the devices, without any transport. */
struct vmm {
	struct loop *loop; /* the main thread's */
	struct loop_watch box_w;
	struct loop_watch net_w; /* serve.c */
	struct fuse_server *files;
	struct vsock *vsock;
	struct netgate *netgate;
	struct seal_export exports[FUSE_EXPORTS_MAX]; /* borrowed from @files */
	size_t n_exports;
	bool all_exports; /* LINK_SEAL has come: the two above do not change any more */
};

/* serve.c: wait for qemu on the vhost-user sockets. */
int serve_start(struct vmm *v, struct err *err);

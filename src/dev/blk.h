/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk (virtio 1.2, 5.2): a raw file or block device as the guest's disk. */
#pragma once

#include "base/err.h"
#include "virtio/vdev.h"

#define BLK_THREADS_MAX 64u

struct blk;

struct blk_config {
	int fd; /* taken on success. Its size is the disk's, now and for ever */
	bool read_only;
	bool own_loop;      /* the serving thread has nothing else to do: it may write, see blk.c */
	const char *serial; /* at most 20 bytes, shown in the guest's /dev/disk/by-id; borrowed */
};

/* NULL with @err: not a file or block device, empty, or not open for writing. */
struct blk *blk_new(const struct blk_config *config, struct err *err);
/* Create the threads that wait for storage; each calls @begin(@arg) first (NULL: nothing), and may
 * be confined there. Once, before the device is served. Without this call the thread that serves
 * the device waits itself. */
int blk_start(
	struct blk *b, unsigned threads, void (*begin)(void *arg), void *arg, struct err *err);
/* The transport must be gone. Waits for the threads. */
void blk_free(struct blk *b);
struct vdev *blk_vdev(struct blk *b);

/* SPDX-License-Identifier: Apache-2.0 */
/* One request of a virtio-blk device and the disk that it is for. Private to blk.c. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "virtio/virtq.h"

#define BLK_SECTOR              512u
#define BLK_DISCARD_SEGS_MAX    16u
#define BLK_DISCARD_SECTORS_MAX (1u << 22) /* 2 GiB */
#define BLK_ZERO_SECTORS_MAX    (1u << 19) /* 256 MiB: may have to be written out */
#define BLK_SERIAL_BYTES        20u

struct blk_disk {
	int fd; /* owned */
	bool read_only;
	bool can_punch; /* the file system takes holes */
	uint64_t sectors;
	char serial[BLK_SERIAL_BYTES]; /* not terminated when full */
	/* Only the thread that calls blk_request_try: whether the file can say "not now". */
	bool nowait_read, nowait_write;
	/* Shared by all threads. */
	_Atomic bool unsynced; /* write-through began after writes that were not synced */
	_Atomic bool lost;     /* a sync failed: written data may be gone, for good */
};

struct blk_request {
	struct virtq_chain chain;
	struct blk_request *next; /* of whatever list it is on */
	uint32_t type;
	bool sync;         /* stable before it is answered */
	int status;        /* VIRTIO_BLK_S_*, or BLK_UNDECIDED */
	uint64_t at;       /* byte offset of what is left */
	struct iovec *iov; /* data that is left: into chain.iov, header and status byte cut off */
	unsigned n;
	size_t left;
	uint8_t *status_at; /* in guest memory */
	size_t in_len;      /* writable bytes, the status byte included */
};

enum { BLK_UNDECIDED = -1 };

/* Make a request of r->chain, which virtq_pop has filled. @features are the acknowledged ones,
 * @sync asks for write-through. A request that is wrong in itself gets its status here. False: it
 * has no header, or no room for a status; the driver is broken. */
bool blk_request_parse(
	const struct blk_disk *d, struct blk_request *r, uint64_t features, bool sync);
/* Do what can be done without waiting for storage. True: the status is decided. False: the rest is
 * for blk_request_run. */
bool blk_request_try(struct blk_disk *d, struct blk_request *r);
/* Do it, and wait for it. */
void blk_request_run(struct blk_disk *d, struct blk_request *r);
/* Write the status; returns the length for virtq_push. */
uint32_t blk_request_answer(struct blk_request *r);

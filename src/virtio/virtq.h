/* SPDX-License-Identifier: Apache-2.0 */
/* Split virtqueues, device side (virtio 1.2, 2.7). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "virtio/gmem.h"

#define VIRTQ_SIZE_MAX	1024u
#define VIRTQ_IOV_MAX	288u	    /* segments in one chain, indirect tables included */
#define VIRTQ_BYTES_MAX (4u << 20) /* bytes in one chain, each direction, unless a device says otherwise */

/* One request: iov[0 .. n_out) may be read, iov[n_out .. n_out + n_in) may be written.
 * Pointers are borrowed from guest memory until virtq_push or a reset. */
struct virtq_chain {
	struct iovec iov[VIRTQ_IOV_MAX];
	unsigned n_out, n_in;
	size_t out_len, in_len;
	uint16_t head;
};

struct virtq {
	const struct gmem *mem; /* borrowed */
	uint16_t size;		/* power of two, at most VIRTQ_SIZE_MAX */
	bool ready, event_idx, bad;
	/* ring parts in host memory, checked for their whole extent when the queue was set up */
	void *desc, *avail, *used;
	uint16_t last_avail, used_idx; /* our own counters; never read back from the guest */
	uint16_t signalled_used;       /* for EVENT_IDX */
	bool signalled_valid;
	size_t bytes_max;  /* device's: another limit than VIRTQ_BYTES_MAX; 0: that one */
	bool kicks_wanted; /* virtq_pop re-arms the guest's kick when it runs dry */
	int kick_fd, call_fd; /* transport's; -1: none */
};

enum virtq_next { VIRTQ_BAD = -1, VIRTQ_EMPTY = 0, VIRTQ_CHAIN = 1 };

/* Use rings at these host addresses (already bounds-checked for @size by the caller through
 * virtq_*_bytes). @last_avail resumes a stopped queue. False: size is no power of two or too large,
 * or an address is misaligned. */
bool virtq_start(struct virtq *q, const struct gmem *mem, uint16_t size, void *desc, void *avail,
	void *used, uint16_t last_avail, bool event_idx);
void virtq_stop(struct virtq *q);
static inline size_t virtq_desc_bytes(uint16_t size)
{
	return 16u * size;
}
static inline size_t virtq_avail_bytes(uint16_t size)
{
	return 6u + 2u * size;
}
static inline size_t virtq_used_bytes(uint16_t size)
{
	return 6u + 8u * size;
}

/* The next request. A queue that is drained until VIRTQ_EMPTY gets a kick for what comes later, unless
 * virtq_kicks_off is in force. VIRTQ_BAD: the guest broke the ring (loop, address outside memory, too many
 * segments or bytes, writable before readable, index jump); the queue is dead until reset. */
enum virtq_next virtq_pop(struct virtq *q, struct virtq_chain *ret);
/* Take back the last pop (nothing was done with it yet). */
void virtq_unpop(struct virtq *q);
/* Give a request back (no effect on a stopped or bad queue) with @written bytes of its writable part filled. */
void virtq_push(struct virtq *q, uint16_t head, uint32_t written);
/* Give @n requests back at once: the guest sees all of them or none (one network frame that spans
 * several receive buffers). @heads[i] has @written[i] bytes filled. */
void virtq_push_all(struct virtq *q, const uint16_t *heads, const uint32_t *written, unsigned n);
/* Whether the guest wants an interrupt for what was pushed since the last call. */
bool virtq_should_interrupt(struct virtq *q);
/* Ask the guest (not) to kick. After enabling, look once more with virtq_pop: returns true when
 * requests are already waiting. */
void virtq_kicks_off(struct virtq *q);
bool virtq_kicks_on(struct virtq *q);

/* Copy between a chain and a flat buffer; @skip bytes of that direction are passed over first.
 * Return the bytes copied (less than @len when the chain is shorter). */
size_t virtq_chain_read(const struct virtq_chain *c, size_t skip, void *to, size_t len);
size_t virtq_chain_write(const struct virtq_chain *c, size_t skip, const void *from, size_t len);

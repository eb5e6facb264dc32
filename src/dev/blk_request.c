/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk requests (virtio 1.2, 5.2.6): from a descriptor chain to system calls on the disk's
 * file.
 *
 * A request is a 16-byte header, data in one direction, and a status byte, which is the last
 * writable byte however the driver cut the chain. Data moves directly between the file and guest
 * memory.
 *
 * Durability. With write-back, a write is answered when the page cache has it, and FLUSH is
 * fdatasync(). With write-through each write is stable before it is answered. A sync that fails
 * once makes every later one fail, too: the kernel reports lost pages only once, and then takes
 * what is left of them for clean. */
#include "dev/blk_request.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

#define F_DISCARD      (1ull << VIRTIO_BLK_F_DISCARD)
#define F_WRITE_ZEROES (1ull << VIRTIO_BLK_F_WRITE_ZEROES)

struct range {
	uint64_t at, len; /* bytes */
	bool unmap;
};

/* ---- parse ---- */

static bool inside(const struct blk_disk *d, uint64_t sector, uint64_t n)
{
	return sector <= d->sectors && n <= d->sectors - sector;
}

/* The data part of iov[0..n): @skip bytes are not part of it. */
static void take_data(struct blk_request *r, struct iovec *iov, unsigned n, size_t skip)
{
	while (n && skip >= iov->iov_len) {
		skip -= iov->iov_len;
		iov++;
		n--;
	}
	if (n) {
		iov->iov_base = (uint8_t *)iov->iov_base + skip;
		iov->iov_len -= skip;
	}
	r->iov = iov;
	r->n = n;
}

static int check_transfer(const struct blk_disk *d, const struct blk_request *r, uint64_t sector)
{
	if (r->left % BLK_SECTOR || !inside(d, sector, r->left / BLK_SECTOR))
		return VIRTIO_BLK_S_IOERR;
	return BLK_UNDECIDED;
}

/* What can be said about a request without doing it. */
static int check(const struct blk_disk *d, const struct blk_request *r, uint64_t features,
	uint64_t sector, size_t in, size_t out)
{
	switch (r->type) {
	case VIRTIO_BLK_T_IN:
		return out ? VIRTIO_BLK_S_IOERR : check_transfer(d, r, sector);
	case VIRTIO_BLK_T_OUT:
		return in || d->read_only ? VIRTIO_BLK_S_IOERR : check_transfer(d, r, sector);
	case VIRTIO_BLK_T_FLUSH:
	case VIRTIO_BLK_T_GET_ID:
		return BLK_UNDECIDED;
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		if (d->read_only)
			return VIRTIO_BLK_S_IOERR;
		if (!(features & (r->type == VIRTIO_BLK_T_DISCARD ? F_DISCARD : F_WRITE_ZEROES)))
			return VIRTIO_BLK_S_UNSUPP;
		return BLK_UNDECIDED;
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

bool blk_request_parse(
	const struct blk_disk *d, struct blk_request *r, uint64_t features, bool sync)
{
	struct virtq_chain *c = &r->chain;
	struct virtio_blk_outhdr h;
	struct iovec *last;
	size_t in, out;

	if (c->in_len == 0 || virtq_chain_read(c, 0, &h, sizeof(h)) != sizeof(h))
		return false;
	last = &c->iov[c->n_out + c->n_in - 1]; /* never empty: virtq refuses those */
	r->status_at = (uint8_t *)last->iov_base + --last->iov_len;
	r->in_len = c->in_len;
	r->type = le32toh(h.type);
	r->sync = sync;
	in = c->in_len - 1;
	out = c->out_len - sizeof(h);
	if (r->type == VIRTIO_BLK_T_IN || r->type == VIRTIO_BLK_T_GET_ID) {
		take_data(r, c->iov + c->n_out, c->n_in, 0);
		r->left = in;
	} else {
		take_data(r, c->iov, c->n_out, sizeof(h));
		r->left = out;
	}
	h.sector = le64toh(h.sector);
	r->status = check(d, r, features, h.sector, in, out);
	r->at = r->status == BLK_UNDECIDED ? h.sector * BLK_SECTOR : 0;
	return true;
}

/* ---- do ---- */

/* The host's disk is full or failing; the guest sees no more than an I/O error. */
static int host_error(const char *what)
{
	log_limited(LOG_WARN, "device=blk %s: %s", what, strerror(errno));
	return VIRTIO_BLK_S_IOERR;
}

static int disk_sync(struct blk_disk *d)
{
	if (!d->lost && fdatasync(d->fd) == 0)
		return VIRTIO_BLK_S_OK;
	if (!atomic_exchange(&d->lost, true))
		host_error("sync");
	return VIRTIO_BLK_S_IOERR;
}

static void advance(struct blk_request *r, size_t done)
{
	r->at += done;
	r->left -= done;
	while (done && done >= r->iov->iov_len) {
		done -= r->iov->iov_len;
		r->iov++;
		r->n--;
	}
	if (done) {
		r->iov->iov_base = (uint8_t *)r->iov->iov_base + done;
		r->iov->iov_len -= done;
	}
}

/* Move the data. BLK_UNDECIDED: with RWF_NOWAIT, and the rest has to wait. */
static int transfer(struct blk_disk *d, struct blk_request *r, int flags)
{
	bool in = r->type == VIRTIO_BLK_T_IN;

	while (r->left) {
		ssize_t n = in ? preadv2(d->fd, r->iov, (int)r->n, (off_t)r->at, flags)
			       : pwritev2(d->fd, r->iov, (int)r->n, (off_t)r->at, flags);

		if (n > 0) {
			advance(r, (size_t)n);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && flags & RWF_NOWAIT && errno == EAGAIN)
			return BLK_UNDECIDED;
		if (n < 0 && flags & RWF_NOWAIT && errno == EOPNOTSUPP) {
			*(in ? &d->nowait_read : &d->nowait_write) = false;
			return BLK_UNDECIDED;
		}
		if (n == 0)
			errno = ENODATA; /* somebody has cut the file */
		return host_error(in ? "read" : "write");
	}
	return VIRTIO_BLK_S_OK;
}

static int do_write(struct blk_disk *d, struct blk_request *r)
{
	int status;

	if (!r->sync)
		return transfer(d, r, 0);
	/* The first one after write-back also answers for what was written before. */
	if (!atomic_exchange(&d->unsynced, false))
		return transfer(d, r, RWF_DSYNC);
	status = transfer(d, r, 0);
	return status == VIRTIO_BLK_S_OK ? disk_sync(d) : status;
}

static int do_get_id(struct blk_disk *d, struct blk_request *r)
{
	size_t done = 0;

	/* A shorter buffer gets what fits; of a longer one the rest stays as it is. */
	for (unsigned i = 0; i < r->n && done < BLK_SERIAL_BYTES; i++) {
		size_t n = MIN(r->iov[i].iov_len, BLK_SERIAL_BYTES - done);

		memcpy(r->iov[i].iov_base, d->serial + done, n);
		done += n;
	}
	return VIRTIO_BLK_S_OK;
}

static int allocate(int fd, int mode, uint64_t at, uint64_t len)
{
	int r;

	do
		r = fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)len);
	while (r < 0 && errno == EINTR);
	return r;
}

/* For file systems without FALLOC_FL_ZERO_RANGE. */
static int write_zeros(struct blk_disk *d, uint64_t at, uint64_t len)
{
	static const uint8_t zeros[4096];
	struct iovec iov[64];

	while (len) {
		uint64_t part = MIN(len, sizeof(zeros) * ARRAY_SIZE(iov)), n = 0;
		ssize_t done;

		for (uint64_t i = 0; i < part; i += sizeof(zeros))
			iov[n++] = (struct iovec){
				(void *)(uintptr_t)zeros, MIN(part - i, sizeof(zeros))};
		done = pwritev(d->fd, iov, (int)n, (off_t)at);
		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return host_error("write zeroes");
		at += (uint64_t)done;
		len -= (uint64_t)done;
	}
	return VIRTIO_BLK_S_OK;
}

static int punch(struct blk_disk *d, const struct range *g)
{
	if (allocate(d->fd, FALLOC_FL_PUNCH_HOLE, g->at, g->len) == 0)
		return VIRTIO_BLK_S_OK;
	return errno == EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP : host_error("discard");
}

static int zero(struct blk_disk *d, const struct range *g)
{
	if (g->unmap && allocate(d->fd, FALLOC_FL_PUNCH_HOLE, g->at, g->len) == 0)
		return VIRTIO_BLK_S_OK;
	if (allocate(d->fd, FALLOC_FL_ZERO_RANGE, g->at, g->len) == 0)
		return VIRTIO_BLK_S_OK;
	if (errno != EOPNOTSUPP)
		return host_error("write zeroes");
	return write_zeros(d, g->at, g->len);
}

/* Take the next @len bytes of the data. */
static void pull(struct blk_request *r, void *to, size_t len)
{
	uint8_t *p = to;

	while (len) {
		size_t n = MIN(len, r->iov->iov_len);

		memcpy(p, r->iov->iov_base, n);
		advance(r, n);
		p += n;
		len -= n;
	}
}

/* The ranges of a DISCARD or WRITE_ZEROES request, all of them checked before any is touched. */
static int read_ranges(const struct blk_disk *d, struct blk_request *r,
	struct range ret[static BLK_DISCARD_SEGS_MAX], unsigned *ret_n)
{
	bool discard = r->type == VIRTIO_BLK_T_DISCARD;
	struct virtio_blk_discard_write_zeroes seg;
	size_t n = r->left / sizeof(seg);

	if (r->left % sizeof(seg) || n == 0 || n > BLK_DISCARD_SEGS_MAX)
		return VIRTIO_BLK_S_IOERR;
	for (size_t i = 0; i < n; i++) {
		uint32_t count, flags;

		pull(r, &seg, sizeof(seg));
		seg.sector = le64toh(seg.sector);
		count = le32toh(seg.num_sectors);
		flags = le32toh(seg.flags);
		if (flags & ~(discard ? 0u : VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
			return VIRTIO_BLK_S_UNSUPP;
		if (count > (discard ? BLK_DISCARD_SECTORS_MAX : BLK_ZERO_SECTORS_MAX) ||
			!inside(d, seg.sector, count))
			return VIRTIO_BLK_S_IOERR;
		ret[i] = (struct range){
			seg.sector * BLK_SECTOR, (uint64_t)count * BLK_SECTOR, flags != 0};
	}
	*ret_n = (unsigned)n;
	return VIRTIO_BLK_S_OK;
}

static int do_ranges(struct blk_disk *d, struct blk_request *r)
{
	struct range ranges[BLK_DISCARD_SEGS_MAX];
	unsigned n;
	int status = read_ranges(d, r, ranges, &n);

	if (status != VIRTIO_BLK_S_OK)
		return status;
	for (unsigned i = 0; i < n && status == VIRTIO_BLK_S_OK; i++) {
		if (ranges[i].len == 0)
			continue;
		status = r->type == VIRTIO_BLK_T_DISCARD ? punch(d, &ranges[i])
							 : zero(d, &ranges[i]);
	}
	/* Nobody relies on what a discarded sector holds, but zeros are data. */
	if (status == VIRTIO_BLK_S_OK && r->sync && r->type == VIRTIO_BLK_T_WRITE_ZEROES)
		status = disk_sync(d);
	return status;
}

bool blk_request_try(struct blk_disk *d, struct blk_request *r)
{
	if (r->status != BLK_UNDECIDED)
		return true;
	if (r->type == VIRTIO_BLK_T_GET_ID)
		r->status = do_get_id(d, r);
	else if (r->type == VIRTIO_BLK_T_IN && d->nowait_read)
		r->status = transfer(d, r, RWF_NOWAIT);
	else if (r->type == VIRTIO_BLK_T_OUT && d->nowait_write && !r->sync)
		r->status = transfer(d, r, RWF_NOWAIT);
	return r->status != BLK_UNDECIDED;
}

void blk_request_run(struct blk_disk *d, struct blk_request *r)
{
	if (r->status != BLK_UNDECIDED)
		return;
	switch (r->type) {
	case VIRTIO_BLK_T_IN:
		r->status = transfer(d, r, 0);
		break;
	case VIRTIO_BLK_T_OUT:
		r->status = do_write(d, r);
		break;
	case VIRTIO_BLK_T_FLUSH:
		r->status = d->read_only ? VIRTIO_BLK_S_OK : disk_sync(d);
		break;
	case VIRTIO_BLK_T_GET_ID:
		r->status = do_get_id(d, r);
		break;
	default:
		r->status = do_ranges(d, r);
	}
}

uint32_t blk_request_answer(struct blk_request *r)
{
	*r->status_at = (uint8_t)r->status;
	/* "Written" means from the beginning on: after a failure nothing is known to be. */
	if (r->status == VIRTIO_BLK_S_OK || r->in_len == 1)
		return (uint32_t)r->in_len;
	return 0;
}

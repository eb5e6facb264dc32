/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk (virtio 1.2, 5.2): a raw file or block device as the guest's disk.
 *
 * Threads. The thread that serves the device (its loop may serve others, too) must not wait for
 * storage, and a request that the page cache can answer must not pay for a second thread. So the
 * kick does what can be done at once: it reads with RWF_NOWAIT straight into guest memory. What
 * would wait goes to the list `todo`, from which the I/O threads take it. Requests finish in any
 * order.
 *
 * Few file systems can say that a write would wait, so writes are for the I/O threads. But a
 * write usually ends in the page cache, in less time than it takes to wake a thread, and writes
 * to one file do not run side by side anyway. With own_loop the serving thread therefore writes
 * itself, until one write is slow; then it leaves that to the I/O threads for a while, and for
 * longer if the next try is slow, too.
 *
 * All state is under `lock`, the queue included; system calls on the disk are made without it.
 * A chain lives in a request from a fixed set, twice as many as there are threads and one more;
 * to pop takes a free one. When there is none, kicks stay off and the queue is `starved`: an
 * I/O thread that has finished one request then takes the next from the queue itself, and
 * whoever finds the queue empty turns kicks on again. A kick that goes on for too long (BURST)
 * starves the queue on purpose, so that others on the loop have their turn.
 *
 * I/O threads are woken one at a time: whoever takes work and sees more wakes the next. A slow disk
 * has them all busy soon, and a run of writes into the page cache often ends before the second is
 * awake.
 *
 *	invariant: work is left (todo, or starved) and a thread is idle → one has been woken
 *	invariant: the queue is not empty → a kick will come, or it is starved, or a kick is at work
 *
 * Interrupts: the kick raises one for its batch, or for every 64 KiB; an I/O thread for each
 * request, because its next one may take long. EVENT_IDX spares what the guest does not want.
 *
 * vdev_quiesce: nothing is popped any more; it returns when all that was popped is answered. After
 * that the used ring is not written until the next kick. */
#include "dev/blk.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "dev/blk_request.h"

#define F(bit) (1ull << (bit))

/* SIZE_MAX × SEG_MAX, header and status fit VIRTQ_BYTES_MAX and VIRTQ_IOV_MAX whatever limits the
 * guest's administrator chooses. */
#define SIZE_MAX_BYTES 16384u
#define SEG_MAX        254u
_Static_assert(SIZE_MAX_BYTES *SEG_MAX + BLK_SECTOR <= VIRTQ_BYTES_MAX, "a request fits a chain");
_Static_assert(SEG_MAX + 2 <= VIRTQ_IOV_MAX, "a request fits a chain");

#define BURST       128u /* requests of one kick */
#define BURST_BYTES (2u << 20)
#define FLUSH_BYTES (64u << 10) /* answers that may wait for the end of the batch */
#define STACK_BYTES (256u << 10)
#define SLOW_NS     2000000ull   /* a write that had to wait */
#define PAUSE_MIN   250000000ull /* before the serving thread tries again */
#define PAUSE_MAX   16000000000ull

/* The driver's choice of cache mode. */
enum { CACHE_DEFAULT = -1, CACHE_WRITE_THROUGH, CACHE_WRITE_BACK };

struct blk {
	struct vdev dev;
	struct vdev_ops ops; /* its features are this disk's */
	struct blk_disk disk;
	_Atomic int cache;

	/* of the serving thread */
	bool own_loop;
	uint64_t slow_at,
		pause; /* when its last slow write ended, and for how long it then writes no more */

	unsigned n_threads;
	pthread_t threads[BLK_THREADS_MAX];
	void (*begin)(void *arg);
	void *begin_arg;

	pthread_mutex_t lock; /* what follows, and dev.vq */
	pthread_cond_t work;  /* for idle threads */
	pthread_cond_t calm;  /* for quiesce: busy and todo are empty */
	struct blk_request *requests, *free;
	struct blk_request *todo, **todo_end;
	unsigned idle, busy;
	bool waking;  /* a thread has been woken and has not looked yet */
	bool starved; /* I/O threads pop the queue */
	bool quiet;   /* nobody pops the queue until the next kick */
	bool ending;
};

/* ---- configuration space ---- */

static bool write_back(struct blk *b)
{
	uint64_t f = b->dev.features;
	int cache = b->cache;

	if (f & F(VIRTIO_BLK_F_CONFIG_WCE) && cache != CACHE_DEFAULT)
		return cache == CACHE_WRITE_BACK;
	/* Before the driver has chosen its features, what it would get with all of them. */
	return !f || f & F(VIRTIO_BLK_F_FLUSH);
}

static void blk_config_read(struct vdev *d, size_t off, void *to, size_t len)
{
	struct blk *b = container_of(d, struct blk, dev);
	struct virtio_blk_config c = {
		.capacity = htole64(b->disk.sectors),
		.size_max = htole32(SIZE_MAX_BYTES),
		.seg_max = htole32(SEG_MAX),
		.blk_size = htole32(BLK_SECTOR),
		.wce = write_back(b),
		.max_discard_sectors = htole32(BLK_DISCARD_SECTORS_MAX),
		.max_discard_seg = htole32(BLK_DISCARD_SEGS_MAX),
		.discard_sector_alignment = htole32(4096 / BLK_SECTOR), /* what a hole can free */
		.max_write_zeroes_sectors = htole32(BLK_ZERO_SECTORS_MAX),
		.max_write_zeroes_seg = htole32(BLK_DISCARD_SEGS_MAX),
		.write_zeroes_may_unmap = b->disk.can_punch,
	};

	memset(to, 0, len);
	if (off < sizeof(c))
		memcpy(to, (const uint8_t *)&c + off, MIN(len, sizeof(c) - off));
}

static void blk_config_write(struct vdev *d, size_t off, const void *from, size_t len)
{
	const size_t wce = offsetof(struct virtio_blk_config, wce);
	struct blk *b = container_of(d, struct blk, dev);
	bool on;

	if (!(d->features & F(VIRTIO_BLK_F_CONFIG_WCE)) || off > wce || len <= wce - off)
		return;
	on = ((const uint8_t *)from)[wce - off] != 0;
	if (!on && write_back(b))
		b->disk.unsynced = true;
	b->cache = on ? CACHE_WRITE_BACK : CACHE_WRITE_THROUGH;
}

/* ---- the queue; everything here is called with the lock ---- */

/* Wake one idle thread if there is something to do and none has been woken yet. */
static void wake_one(struct blk *b)
{
	if ((b->todo || b->starved) && b->idle && !b->waking) {
		b->waking = true;
		pthread_cond_signal(&b->work);
	}
}

static void give_back(struct blk *b, struct blk_request *r)
{
	r->next = b->free;
	b->free = r;
}

/* The next request of the queue. NULL: there is none, no room for one, or the device is broken. */
static struct blk_request *pop(struct blk *b)
{
	struct virtq *vq = &b->dev.vq[0];
	struct blk_request *r = b->free;
	enum virtq_next got;

	if (!r) {
		b->starved = true;
		return NULL;
	}
	while ((got = virtq_pop(vq, &r->chain)) == VIRTQ_EMPTY && virtq_kicks_on(vq))
		virtq_kicks_off(vq); /* something came in between */
	if (got == VIRTQ_CHAIN && blk_request_parse(&b->disk, r, b->dev.features, !write_back(b))) {
		b->free = r->next;
		r->next = NULL;
		return r;
	}
	b->starved = false;
	if (got != VIRTQ_EMPTY)
		vdev_break(&b->dev, got == VIRTQ_BAD ? "malformed descriptor chain"
						     : "request without header or status");
	return NULL;
}

/* Leave a request to the I/O threads. */
static void defer(struct blk *b, struct blk_request *r)
{
	*b->todo_end = r;
	b->todo_end = &r->next;
	wake_one(b);
}

static void answer(struct blk *b, struct blk_request *r)
{
	uint16_t head = r->chain.head;
	uint32_t len = blk_request_answer(r);

	give_back(b, r);
	virtq_push(&b->dev.vq[0], head, len);
}

/* Interrupt the guest if it wants that. Lets go of the lock in between. */
static void flush(struct blk *b)
{
	if (b->dev.broken || !virtq_should_interrupt(&b->dev.vq[0]))
		return;
	pthread_mutex_unlock(&b->lock);
	b->dev.interrupt(&b->dev, 0);
	pthread_mutex_lock(&b->lock);
}

/* ---- the thread that serves the device ---- */

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Write, unless that was slow of late. False: not done. */
static bool write_here(struct blk *b, struct blk_request *r)
{
	uint64_t start, end;

	if (!b->own_loop || r->type != VIRTIO_BLK_T_OUT || r->sync)
		return false;
	start = now_ns();
	if (start - b->slow_at < b->pause)
		return false;
	blk_request_run(&b->disk, r);
	end = now_ns();
	if (end - start >= SLOW_NS) {
		b->pause = start - b->slow_at < 4 * b->pause ? MIN(2 * b->pause, PAUSE_MAX)
							     : PAUSE_MIN;
		b->slow_at = end;
	}
	return true;
}

/* Do a request on this thread if it can be done at once. */
static bool do_here(struct blk *b, struct blk_request *r)
{
	if (b->n_threads)
		return blk_request_try(&b->disk, r) || write_here(b, r);
	blk_request_run(&b->disk, r);
	return true;
}

static void blk_kick(struct vdev *d, unsigned q)
{
	struct blk *b = container_of(d, struct blk, dev);
	struct blk_request *r;
	size_t bytes = 0, unflushed = 0;

	pthread_mutex_lock(&b->lock);
	b->quiet = false;
	virtq_kicks_off(&d->vq[q]);
	for (unsigned n = 0; (r = pop(b));) {
		size_t len = r->left;
		bool done;

		pthread_mutex_unlock(&b->lock);
		done = do_here(b, r);
		pthread_mutex_lock(&b->lock);
		if (!done) {
			defer(b, r);
			continue;
		}
		answer(b, r);
		bytes += len;
		unflushed += len;
		if (unflushed >= FLUSH_BYTES) {
			flush(b);
			unflushed = 0;
		}
		if (b->n_threads && (++n >= BURST || (bytes >= BURST_BYTES && !b->own_loop))) {
			b->starved = true;
			wake_one(b);
			break;
		}
	}
	flush(b);
	pthread_mutex_unlock(&b->lock);
}

static void blk_quiesce(struct vdev *d)
{
	struct blk *b = container_of(d, struct blk, dev);

	pthread_mutex_lock(&b->lock);
	b->quiet = true;
	while (b->busy || b->todo)
		pthread_cond_wait(&b->calm, &b->lock);
	b->starved = false;
	pthread_mutex_unlock(&b->lock);
}

static void blk_reset(struct vdev *d)
{
	struct blk *b = container_of(d, struct blk, dev);

	blk_quiesce(d);
	if (!d->features)
		b->cache = CACHE_DEFAULT;
}

/* ---- I/O threads ---- */

/* Work for an I/O thread, or NULL. With the lock. */
static struct blk_request *take(struct blk *b)
{
	struct blk_request *r = b->todo;

	if (!r)
		return b->starved && !b->quiet ? pop(b) : NULL;
	b->todo = r->next;
	if (!b->todo)
		b->todo_end = &b->todo;
	r->next = NULL;
	return r;
}

static void *io_thread(void *arg)
{
	struct blk *b = arg;
	struct blk_request *r;

	pthread_setname_np(pthread_self(), "blk");
	if (b->begin)
		b->begin(b->begin_arg);
	pthread_mutex_lock(&b->lock);
	while (!b->ending) {
		r = take(b);
		if (!r) {
			b->idle++;
			pthread_cond_wait(&b->work, &b->lock);
			b->idle--;
			b->waking = false;
			continue;
		}
		b->busy++;
		wake_one(b);
		pthread_mutex_unlock(&b->lock);
		blk_request_run(&b->disk, r);
		pthread_mutex_lock(&b->lock);
		answer(b, r);
		flush(b);
		if (--b->busy == 0 && b->quiet && !b->todo)
			pthread_cond_signal(&b->calm);
	}
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

static void end_threads(struct blk *b)
{
	pthread_mutex_lock(&b->lock);
	b->ending = true;
	pthread_cond_broadcast(&b->work);
	pthread_mutex_unlock(&b->lock);
	for (unsigned i = 0; i < b->n_threads; i++)
		pthread_join(b->threads[i], NULL);
	b->n_threads = 0;
	b->ending = false;
}

static void make_requests(struct blk *b, unsigned n)
{
	free(b->requests);
	b->requests = xcalloc(n, sizeof(*b->requests));
	b->free = NULL;
	while (n)
		give_back(b, &b->requests[--n]);
}

int blk_start(struct blk *b, unsigned threads, void (*begin)(void *arg), void *arg, struct err *err)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int r = 0;

	if (b->n_threads || threads == 0 || threads > BLK_THREADS_MAX)
		return err_set(err, ERR_BUG, "%u threads for a disk", threads);
	b->begin = begin;
	b->begin_arg = arg;
	make_requests(b, 2 * threads + 1);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	/* Signals are for the threads that expect them. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (unsigned i = 0; i < threads && r == 0; i++) {
		r = pthread_create(&b->threads[i], &attr, io_thread, b);
		if (r == 0)
			b->n_threads++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r == 0)
		return 0;
	end_threads(b);
	errno = r;
	return err_errno(err, "thread for a disk");
}

/* ---- life ---- */

static const struct vdev_ops blk_ops = {
	.name = "blk",
	.id = VIRTIO_ID_BLOCK,
	.n_queues = 1,
	.config_read = blk_config_read,
	.config_write = blk_config_write,
	.kick = blk_kick,
	.quiesce = blk_quiesce,
	.reset = blk_reset,
};

static uint64_t disk_features(const struct blk_disk *d)
{
	uint64_t f = F(VIRTIO_BLK_F_SIZE_MAX) | F(VIRTIO_BLK_F_SEG_MAX) | F(VIRTIO_BLK_F_BLK_SIZE) |
		     F(VIRTIO_BLK_F_FLUSH);

	if (d->read_only)
		return f | F(VIRTIO_BLK_F_RO);
	f |= F(VIRTIO_BLK_F_CONFIG_WCE) | F(VIRTIO_BLK_F_WRITE_ZEROES);
	return d->can_punch ? f | F(VIRTIO_BLK_F_DISCARD) : f;
}

static int disk_open(struct blk_disk *d, const struct blk_config *c, struct err *err)
{
	int flags = fcntl(c->fd, F_GETFL);
	struct stat st;
	off_t size;

	if (flags < 0 || fstat(c->fd, &st) < 0)
		return err_errno(err, "disk");
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(err, ERR_USER, "disk is neither a file nor a block device");
	if (!c->read_only && (flags & O_ACCMODE) != O_RDWR)
		return err_set(err, ERR_BUG, "disk is not open for writing");
	size = lseek(c->fd, 0, SEEK_END);
	if (size < 0)
		return err_errno(err, "disk");
	if (size < (off_t)BLK_SECTOR)
		return err_set(err, ERR_USER, "disk is empty");
	d->fd = c->fd;
	d->read_only = c->read_only;
	d->sectors = (uint64_t)size / BLK_SECTOR;
	d->nowait_read = d->nowait_write = true;
	if (c->serial)
		memcpy(d->serial, c->serial, strnlen(c->serial, BLK_SERIAL_BYTES));
	/* A hole behind the end changes nothing and tells whether the file system has holes. */
	d->can_punch =
		S_ISBLK(st.st_mode) ||
		(!c->read_only && fallocate(c->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, size,
					  4096) == 0);
	return 0;
}

struct blk *blk_new(const struct blk_config *config, struct err *err)
{
	struct blk *b = xcalloc(1, sizeof(*b));

	if (disk_open(&b->disk, config, err) < 0) {
		free(b);
		return NULL;
	}
	b->ops = blk_ops;
	b->ops.features = disk_features(&b->disk);
	b->dev.ops = &b->ops;
	b->cache = CACHE_DEFAULT;
	b->own_loop = config->own_loop;
	b->todo_end = &b->todo;
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->work, NULL);
	pthread_cond_init(&b->calm, NULL);
	make_requests(b, 1);
	return b;
}

void blk_free(struct blk *b)
{
	if (!b)
		return;
	blk_quiesce(&b->dev);
	end_threads(b);
	pthread_cond_destroy(&b->calm);
	pthread_cond_destroy(&b->work);
	pthread_mutex_destroy(&b->lock);
	close(b->disk.fd);
	free(b->requests);
	free(b);
}

struct vdev *blk_vdev(struct blk *b)
{
	return &b->dev;
}

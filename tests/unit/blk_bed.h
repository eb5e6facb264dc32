/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk through real queues, on a file whose system calls this program sees, delays and fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "dev/blk.h"
#include "vq_driver.h"

#define F(b)    (1ull << (b))
#define SECTORS 256u
#define DISK    (SECTORS * 512u)
#define RW                                                                                         \
	(F(VIRTIO_BLK_F_FLUSH) | F(VIRTIO_BLK_F_CONFIG_WCE) | F(VIRTIO_BLK_F_DISCARD) |            \
		F(VIRTIO_BLK_F_WRITE_ZEROES))
#define RWF_NOWAIT_ 8
#define RWF_DSYNC_  2

/* ---- the disk's system calls, between blk and the kernel ---- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	off_t hold;                 /* a waiting call at this offset is held up; -1: none */
	unsigned held;              /* how many are */
	_Atomic bool refuse_nowait; /* nothing is cached */
	_Atomic bool no_nowait;     /* the file system does not know RWF_NOWAIT */
	_Atomic bool slow;          /* what waits does so for 4 ms of the clock */
	_Atomic uint64_t clock;     /* ns; 0: the real one */
	_Atomic bool dice;          /* refuse now and then, and be slow now and then */
	_Atomic int fail;           /* errno of the next calls that move data; 0: none */
	_Atomic int fail_sync, fail_range;
	_Atomic unsigned syncs, dsyncs, moves_here, moves_elsewhere, ranges;
	size_t most; /* bytes that one call moves; 0: all */
	pthread_t main;
} sys = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static inline void sys_reset(void)
{
	sys.hold = -1;
	sys.held = 0;
	sys.refuse_nowait = sys.no_nowait = sys.dice = sys.slow = false;
	sys.fail = sys.fail_sync = sys.fail_range = 0;
	sys.syncs = sys.dsyncs = sys.moves_here = sys.moves_elsewhere = sys.ranges = 0;
	sys.most = 0;
	sys.clock = 0;
	sys.main = pthread_self();
}

/* errno for this call, or 0 to go on. */
static inline int before(off_t at, int flags)
{
	static unsigned long state = 1;
	unsigned long seed;
	int e = 0;

	pthread_mutex_lock(&sys.lock);
	seed = state = state * 6364136223846793005ul + 1442695040888963407ul;
	if (flags & RWF_NOWAIT_ && sys.no_nowait)
		e = EOPNOTSUPP;
	else if (flags & RWF_NOWAIT_ && (sys.refuse_nowait || (sys.dice && seed >> 62)))
		e = EAGAIN;
	else
		e = sys.fail;
	while (!e && !(flags & RWF_NOWAIT_) && sys.hold == at) {
		sys.held++;
		pthread_cond_broadcast(&sys.changed);
		pthread_cond_wait(&sys.changed, &sys.lock);
		sys.held--;
	}
	if (!e && flags & RWF_DSYNC_)
		sys.dsyncs++;
	if (!e && pthread_equal(sys.main, pthread_self()))
		sys.moves_here++;
	else if (!e)
		sys.moves_elsewhere++;
	pthread_mutex_unlock(&sys.lock);
	if (!e && sys.slow && !(flags & RWF_NOWAIT_))
		sys.clock += 4000000;
	if (!e && sys.dice && !(flags & RWF_NOWAIT_) && seed >> 59 == 1)
		nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
	return e;
}

static inline void hold(off_t at)
{
	pthread_mutex_lock(&sys.lock);
	sys.hold = at;
	pthread_cond_broadcast(&sys.changed);
	pthread_mutex_unlock(&sys.lock);
}

static inline void wait_held(unsigned n)
{
	pthread_mutex_lock(&sys.lock);
	while (sys.held != n)
		pthread_cond_wait(&sys.changed, &sys.lock);
	pthread_mutex_unlock(&sys.lock);
}

static inline ssize_t move(long nr, int fd, const struct iovec *iov, int n, off_t at, int flags)
{
	int e = before(at, flags);
	struct iovec one = n ? iov[0] : (struct iovec){0};

	if (e) {
		errno = e;
		return -1;
	}
	if (sys.most && one.iov_len) {
		one.iov_len = MIN(one.iov_len, sys.most);
		return syscall(nr, fd, &one, 1ul, at, 0, flags & ~RWF_NOWAIT_);
	}
	return syscall(nr, fd, iov, (unsigned long)n, at, 0, flags & ~RWF_NOWAIT_);
}

ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t at, int flags)
{
	return move(SYS_preadv2, fd, iov, n, at, flags);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t at, int flags)
{
	return move(SYS_pwritev2, fd, iov, n, at, flags);
}

int clock_gettime(clockid_t id, struct timespec *ret)
{
	uint64_t ns = sys.clock;

	if (!ns)
		return (int)syscall(SYS_clock_gettime, id, ret);
	*ret = (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
	return 0;
}

int fdatasync(int fd)
{
	sys.syncs++;
	errno = sys.fail_sync;
	return sys.fail_sync ? -1 : 0;
}

int fallocate(int fd, int mode, off_t at, off_t len)
{
	sys.ranges++;
	errno = sys.fail_range;
	return sys.fail_range ? -1 : (int)syscall(SYS_fallocate, fd, mode, at, len);
}

/* ---- the driver ---- */

struct bed {
	struct blk *blk;
	struct vdev *d;
	int fd; /* the disk, for looking at it */
	struct vqd_mem mem;
	struct vqd q;
	bool event_idx;
	_Atomic unsigned interrupts;
	unsigned resets_needed;
	uint64_t head, data, status; /* guest buffers of one request at a time */
	uint8_t image[DISK];         /* what the disk should hold */
};

static inline void interrupt(struct vdev *d, unsigned q)
{
	((struct bed *)d->transport)->interrupts++;
}

static inline void needs_reset(struct vdev *d)
{
	((struct bed *)d->transport)->resets_needed++;
}

static inline void start(struct bed *b, uint64_t features, uint16_t size)
{
	vdev_reset(b->d);
	b->d->features = features | VIRTIO_F_VERSION_1_BIT;
	b->mem.used = 0;
	vqd_init(&b->q, &b->mem, size);
	memset(vqd_ptr(&b->mem, b->q.desc), 0, b->mem.used);
	assert_true(vqd_start(&b->q, &b->d->vq[0], b->event_idx));
	b->head = vqd_alloc(&b->mem, 16, 1);
	b->data = vqd_alloc(&b->mem, 1 << 20, 1);
	b->status = vqd_alloc(&b->mem, 1, 1);
}

static inline void make(struct bed *b, bool read_only, unsigned threads, bool own_loop)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);

	log_init("test", "blk", LOG_ERROR + 1);
	sys_reset();
	for (unsigned i = 0; i < DISK; i++)
		b->image[i] = (uint8_t)(i >> 9) ^ (uint8_t)(i * 7);
	assert_int_equal(write(fd, b->image, DISK), DISK);
	b->fd = dup(fd);
	b->blk = blk_new(&(struct blk_config){.fd = fd,
				 .read_only = read_only,
				 .own_loop = own_loop,
				 .serial = "hutch-disk"},
		NULL);
	assert_non_null(b->blk);
	if (threads)
		assert_int_equal(blk_start(b->blk, threads, NULL, NULL, NULL), 0);
	b->d = blk_vdev(b->blk);
	b->d->transport = b;
	b->d->interrupt = interrupt;
	b->d->needs_reset = needs_reset;
	vqd_mem_init(&b->mem, 8 << 20);
	b->event_idx = true;
	start(b, read_only ? F(VIRTIO_BLK_F_RO) | F(VIRTIO_BLK_F_FLUSH) : RW, 256);
	sys_reset();
}

static inline int setup(void **state)
{
	struct bed *b = calloc(1, sizeof(*b));

	make(b, false, 0, false);
	*state = b;
	return 0;
}

static inline int setup_ro(void **state)
{
	struct bed *b = calloc(1, sizeof(*b));

	make(b, true, 0, false);
	*state = b;
	return 0;
}

static inline int setup_threads(void **state)
{
	struct bed *b = calloc(1, sizeof(*b));

	make(b, false, 3, false);
	*state = b;
	return 0;
}

static inline int setup_own_loop(void **state)
{
	struct bed *b = calloc(1, sizeof(*b));

	make(b, false, 3, true);
	*state = b;
	return 0;
}

static inline int teardown(void **state)
{
	struct bed *b = *state;

	hold(-1);
	vdev_reset(b->d);
	blk_free(b->blk);
	close(b->fd);
	vqd_mem_done(&b->mem);
	free(b);
	return 0;
}

static inline void put_head(struct bed *b, uint64_t gpa, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr h = {.type = type, .sector = sector};

	memcpy(vqd_ptr(&b->mem, gpa), &h, sizeof(h));
}

/* Cut @len bytes at @gpa into pieces of @cut. */
static inline unsigned pieces(struct vqd_seg *to, uint64_t gpa, size_t len, size_t cut)
{
	unsigned n = 0;

	for (size_t off = 0; off < len; off += cut)
		to[n++] = (struct vqd_seg){gpa + off, (uint32_t)MIN(cut, len - off)};
	return n;
}

/* Queue a request as Linux does: header, data, status. The chain's head. */
static inline int queue(struct bed *b, uint64_t head, uint64_t data, uint64_t status, uint32_t type,
	uint64_t sector, uint32_t len)
{
	bool in = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	struct vqd_seg segs[3] = {{head, 16}, {data, len}, {status, 1}};
	int r;

	put_head(b, head, type, sector);
	*(uint8_t *)vqd_ptr(&b->mem, status) = 0xee;
	if (len == 0)
		segs[1] = segs[2];
	r = vqd_add(
		&b->q, segs, in || !len ? 1 : 2, (in || !len ? 1 : 0) + (in && len ? 1 : !!len));
	assert_true(r >= 0);
	return r;
}

/* One request, answered at once. Its status; *ret_len is the used length. */
static inline int request(
	struct bed *b, uint32_t type, uint64_t sector, uint32_t len, uint32_t *ret_len)
{
	uint32_t used;

	queue(b, b->head, b->data, b->status, type, sector, len);
	b->d->ops->kick(b->d, 0);
	if (vqd_get_used(&b->q, ret_len ? ret_len : &used) < 0)
		return -1;
	return *(uint8_t *)vqd_ptr(&b->mem, b->status);
}

static inline void check_image(struct bed *b)
{
	static uint8_t got[DISK + 1];

	assert_int_equal(pread(b->fd, got, sizeof(got), 0), DISK);
	assert_memory_equal(got, b->image, DISK);
}

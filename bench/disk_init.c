/* SPDX-License-Identifier: Apache-2.0 */
/* The init of bench/kvm's guests: loads the pack's modules in their order, measures the writable disk
 * without the guest's page cache, and says on the console what it did in how many microseconds:
 *
 *	drivers 51234
 *	work rand-read-1 13245 2000113        name, requests, microseconds
 *
 * Kernel parameters: bench=NAME,… (which works), bench_late=1 (all modules, not only the early ones),
 * bench_ms=MS (how long each work runs). */
#include <linux/aio_abi.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "guest_init.h"

#define DEPTH_MAX 8u
#define BLOCK_MAX (128u << 10)
#define BLKGETSIZE64_ _IOR(0x12, 114, size_t)

static const struct work {
	const char *name;
	bool write, random;
	uint32_t block, depth;
} works[] = {
	{"seq-read", false, false, BLOCK_MAX, 4},
	{"seq-write", true, false, BLOCK_MAX, 4},
	{"rand-read-1", false, true, 4096, 1},
	{"rand-read-8", false, true, 4096, 8},
	{"rand-write-1", true, true, 4096, 1},
	{"rand-write-8", true, true, 4096, 8},
};

/* The first disk that can be written. Drivers probe on their own time. */
static int open_disk(void)
{
	char path[32], ro;

	for (int tries = 0; tries < 1000; tries++, usleep(10000)) {
		for (char c = 'a'; c <= 'c'; c++) {
			int fd;

			snprintf(path, sizeof(path), "/sys/block/vd%c/ro", c);
			fd = open(path, O_RDONLY | O_CLOEXEC);
			if (fd < 0 || read(fd, &ro, 1) != 1 || ro != '0') {
				close(fd);
				continue;
			}
			close(fd);
			snprintf(path, sizeof(path), "/dev/vd%c", c);
			fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
			if (fd >= 0)
				return fd;
		}
	}
	fail("no disk");
	return -1;
}

/* Where the next request goes: xorshift for random ones, always the same sequence. */
static uint64_t next_block(const struct work *w, uint64_t blocks, uint64_t *state)
{
	if (!w->random)
		return (*state)++ % blocks;
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state % blocks;
}

static void run(const struct work *w, int fd, uint64_t bytes, uint64_t time_us, uint8_t *buffers)
{
	uint64_t state = w->random ? 88172645463325252ull : 0, done = 0, begin, now;
	struct iocb cb[DEPTH_MAX], *list[DEPTH_MAX];
	struct io_event events[DEPTH_MAX];
	aio_context_t ctx = 0;
	long inflight = 0, n;

	if (syscall(SYS_io_setup, DEPTH_MAX, &ctx) < 0)
		fail("io_setup");
	for (uint32_t i = 0; i < w->depth; i++) {
		cb[i] = (struct iocb){.aio_lio_opcode = w->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
			.aio_fildes = (uint32_t)fd,
			.aio_buf = (uintptr_t)buffers + (size_t)i * BLOCK_MAX,
			.aio_nbytes = w->block};
		list[i] = &cb[i];
	}
	n = (long)w->depth;
	begin = now = now_us();
	do {
		for (long i = 0; i < n; i++)
			list[i]->aio_offset = (int64_t)(next_block(w, bytes / w->block, &state) * w->block);
		if (n && syscall(SYS_io_submit, ctx, n, list) != n)
			fail("io_submit");
		inflight += n;
		n = syscall(SYS_io_getevents, ctx, 1, inflight, events, NULL);
		if (n < 1)
			fail("io_getevents");
		for (long i = 0; i < n; i++) {
			if (events[i].res != (int64_t)w->block)
				fail(w->name);
			list[i] = (struct iocb *)(uintptr_t)events[i].obj;
		}
		inflight -= n;
		done += (uint64_t)n;
		now = now_us();
	} while (now - begin < time_us);
	printf("work %s %llu %llu\n", w->name, (unsigned long long)done,
		(unsigned long long)(now - begin));
	syscall(SYS_io_destroy, ctx); /* waits for what is in flight */
}

static bool asked_for(const char *names, const char *name)
{
	const char *at = strstr(names, name);

	return at && (at[strlen(name)] == ',' || !at[strlen(name)]);
}

int main(void)
{
	const char *names = getenv("bench"), *late = getenv("bench_late"), *ms = getenv("bench_ms");
	uint64_t bytes = 0, begin = now_us();
	uint8_t *buffers;
	int fd;

	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	if (mount("dev", "/dev", "devtmpfs", 0, NULL) < 0 || mount("sys", "/sys", "sysfs", 0, NULL) < 0)
		return 1;
	if (!freopen("/dev/console", "w", stdout))
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	load_modules(late && *late == '1');
	fd = open_disk();
	printf("drivers %llu\n", (unsigned long long)(now_us() - begin));
	buffers = mmap(NULL, (size_t)DEPTH_MAX * BLOCK_MAX, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (buffers == MAP_FAILED || ioctl(fd, BLKGETSIZE64_, &bytes) < 0)
		fail("disk");
	for (size_t i = 0; names && i < sizeof(works) / sizeof(works[0]); i++)
		if (asked_for(names, works[i].name))
			run(&works[i], fd, bytes, (ms ? strtoull(ms, NULL, 10) : 1000) * 1000, buffers);
	printf("end\n");
	return reboot(RB_AUTOBOOT);
}

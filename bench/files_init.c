/* SPDX-License-Identifier: Apache-2.0 */
/* The init of bench/workspace's guests: mounts the shared folder and does in it what the tools of a
 * project do, which it says on the console:
 *	work create 1600 1000123      name, operations or bytes, microseconds
 *
 * Kernel parameters: files_tag=TAG of the virtio-fs device, files_dir=DIRECTORY in it. */
#include <dirent.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "guest_init.h"

#define DIRS   16u
#define FILES  100u /* in each */
#define SMALL  4096u
#define BLOCK  1048576u
#define STREAM (128u * BLOCK)
#define RANDOM 4000u
#define LOCKS  400u

static uint8_t block[BLOCK];

static void said(const char *name, uint64_t n, uint64_t begin)
{
	printf("work %s %llu %llu\n", name, (unsigned long long)n,
		(unsigned long long)(now_us() - begin));
}

static void forget(void)
{
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	sync();
	if (fd < 0 || write(fd, "3", 1) != 1)
		fail("drop_caches");
	close(fd);
}

static int opened(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);

	if (fd < 0)
		fail(path);
	return fd;
}

static void file_name(char *to, size_t size, unsigned d, unsigned f)
{
	snprintf(to, size, "tree/%02u/file-%03u.js", d, f);
}

/* An archive is unpacked, a package installed. */
static void create(void)
{
	uint64_t begin = now_us();
	char path[64];

	mkdir("tree", 0755);
	for (unsigned d = 0; d < DIRS; d++) {
		snprintf(path, sizeof(path), "tree/%02u", d);
		if (mkdir(path, 0755) < 0)
			fail(path);
		for (unsigned f = 0; f < FILES; f++) {
			int fd;

			file_name(path, sizeof(path), d, f);
			fd = opened(path, O_WRONLY | O_CREAT | O_EXCL);
			if (write(fd, block, SMALL) != SMALL)
				fail("write");
			close(fd);
		}
	}
	said("create", DIRS * FILES, begin);
}

/* Every entry is looked at: git status, make, find. */
static void walk(const char *name)
{
	uint64_t begin = now_us(), n = 0;
	char path[320];

	for (unsigned d = 0; d < DIRS; d++) {
		struct dirent *e;
		struct stat st;
		DIR *dir;

		snprintf(path, sizeof(path), "tree/%02u", d);
		dir = opendir(path);
		if (!dir)
			fail(path);
		while ((e = readdir(dir)) != NULL) {
			if (e->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "tree/%02u/%s", d, e->d_name);
			if (lstat(path, &st) < 0 || st.st_size != SMALL)
				fail(path);
			n++;
		}
		closedir(dir);
	}
	if (n != DIRS * FILES)
		fail("walk");
	said(name, n, begin);
}

/* Every file is read: grep, a compiler, an interpreter with its modules. */
static void read_small(void)
{
	uint64_t begin = now_us();
	char path[64];

	for (unsigned d = 0; d < DIRS; d++) {
		for (unsigned f = 0; f < FILES; f++) {
			int fd;

			file_name(path, sizeof(path), d, f);
			fd = opened(path, O_RDONLY);
			if (read(fd, block, SMALL) != SMALL)
				fail("read");
			close(fd);
		}
	}
	said("read-small", DIRS * FILES, begin);
}

static void remove_all(void)
{
	uint64_t begin = now_us();
	char path[64];

	for (unsigned d = 0; d < DIRS; d++) {
		for (unsigned f = 0; f < FILES; f++) {
			file_name(path, sizeof(path), d, f);
			if (unlink(path) < 0)
				fail(path);
		}
		snprintf(path, sizeof(path), "tree/%02u", d);
		if (rmdir(path) < 0)
			fail(path);
	}
	rmdir("tree");
	said("delete", DIRS * FILES, begin);
}

/* What git does with its index: a new file beside it, which takes its place. */
static void replace(void)
{
	uint64_t begin = now_us();

	for (unsigned i = 0; i < LOCKS; i++) {
		int fd = opened("index.lock", O_WRONLY | O_CREAT | O_EXCL);

		if (write(fd, block, SMALL) != SMALL)
			fail("write");
		close(fd);
		if (rename("index.lock", "index") < 0)
			fail("rename");
	}
	unlink("index");
	said("replace", LOCKS, begin);
}

static void write_large(void)
{
	uint64_t begin = now_us();
	int fd = opened("large", O_WRONLY | O_CREAT | O_TRUNC);

	for (unsigned n = 0; n < STREAM; n += BLOCK)
		if (write(fd, block, BLOCK) != BLOCK)
			fail("write");
	close(fd);
	said("write", STREAM, begin);
}

static void read_large(void)
{
	uint64_t begin = now_us();
	int fd = opened("large", O_RDONLY);

	for (unsigned n = 0; n < STREAM; n += BLOCK)
		if (read(fd, block, BLOCK) != BLOCK)
			fail("read");
	close(fd);
	said("read", STREAM, begin);
}

static void read_random(void)
{
	uint64_t begin = now_us();
	int fd = opened("large", O_RDONLY);
	uint32_t x = 1;

	if (posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM) != 0)
		fail("fadvise");
	for (unsigned i = 0; i < RANDOM; i++) {
		x = x * 1664525u + 1013904223u;
		if (pread(fd, block, SMALL, (off_t)(x >> 8) % (STREAM / SMALL) * SMALL) != SMALL)
			fail("pread");
	}
	close(fd);
	said("random", RANDOM, begin);
}

static void work(void)
{
	create();
	forget();
	walk("walk");
	walk("walk-again");
	forget();
	read_small();
	remove_all();
	replace();
	write_large();
	forget();
	read_large();
	forget();
	read_random();
	unlink("large");
}

int main(void)
{
	const char *tag = getenv("files_tag"), *dir = getenv("files_dir");

	mkdir("/proc", 0755);
	mkdir("/dev", 0755);
	mkdir("/share", 0755);
	if (mount("dev", "/dev", "devtmpfs", 0, NULL) < 0 ||
		mount("proc", "/proc", "proc", 0, NULL) < 0)
		return 1;
	if (!freopen("/dev/console", "w", stdout))
		return 1;
	setvbuf(stdout, NULL, _IOLBF, 0);
	load_modules(true);
	/* The driver probes on its own time. */
	for (int tries = 0; mount(tag, "/share", "virtiofs", 0, NULL) < 0; tries++, usleep(10000))
		if (tries == 1000)
			fail("virtiofs");
	if (chdir("/share") < 0 || (dir && chdir(dir) < 0))
		fail("directory");
	work(); /* warm-up: under emulation the first time is translation */
	printf("warm\n");
	work();
	printf("end\n");
	return reboot(RB_AUTOBOOT);
}

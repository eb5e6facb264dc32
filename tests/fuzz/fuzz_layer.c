/* SPDX-License-Identifier: Apache-2.0 */
/* A whole layer of an image, compressed or not. It never passes with a wrong DiffID; with the one
 * that the error names it does, unless it cannot be in an image; and that is the file's own digest
 * where there was no compression to take off. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "archive/flatten.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/sha256.h"

#define NONE "0000000000000000000000000000000000000000000000000000000000000000"
#define SAYS "unpacked it is sha256:"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/dev/shm/hutch-fuzz-XXXXXX"; /* no disk to wait for */
static int dir_fd = -1, null_fd = -1;

static void end(void)
{
	fs_remove_tree(AT_FDCWD, dir, NULL);
}

static void begin(void)
{
	if (!mkdtemp(dir))
		abort();
	atexit(end);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (dir_fd < 0 || null_fd < 0)
		abort();
}

static void on_progress(uint64_t done, uint64_t total)
{
	if (done > total)
		abort();
}

static int run(const char *blob, const char *diff, struct err *err)
{
	struct layer_name name = {blob, diff};
	struct flatten f = {.dir = dir_fd,
		.layers = &name,
		.n_layers = 1,
		.out = null_fd,
		.ca = null_fd,
		.progress = on_progress};
	int result = flatten(&f, err);

	if (f.damaged)
		abort();
	return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char blob[SHA256_HEX], diff[SHA256_HEX];
	struct sha256 s;
	struct err err;
	const char *says;

	if (dir_fd < 0)
		begin();
	sha256_init(&s);
	sha256_add(&s, data, size);
	sha256_hex(&s, blob);
	if (fs_write_file(dir_fd, blob, data, size, 0600, NULL) < 0)
		abort();
	if (run(blob, NONE, &err) == 0)
		abort();
	says = strstr(err.msg, SAYS);
	if (says) {
		snprintf(diff, sizeof(diff), "%.64s", says + strlen(SAYS));
		/* The data of what was told as names may still be missing. */
		if (run(blob, diff, &err) < 0 && strstr(err.msg, SAYS))
			abort();
		if (size && data[0] != 0x1f && data[0] != 0x28 && data[0] != 0x50 &&
			strncmp(diff, blob, 64) != 0)
			abort();
	}
	unlinkat(dir_fd, blob, 0);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-blk, without threads: whatever the guest does, the disk keeps its size, what is read-only
 * keeps its contents, and every request is answered unless the device is broken. */
#include "vdev_fuzz.h"

#include <sys/mman.h>
#include <unistd.h>

#include "dev/blk.h"

#define DISK 16384u

struct check {
	int fd;
	bool read_only;
	const uint8_t *image;
};

static void after(struct vdev *d, void *arg)
{
	const struct check *c = arg;
	uint8_t got[DISK];

	if (lseek(c->fd, 0, SEEK_END) != DISK)
		abort();
	if (!d->broken && d->vq[0].used_idx != d->vq[0].last_avail)
		abort();
	if (c->read_only && (pread(c->fd, got, DISK, 0) != DISK || memcmp(got, c->image, DISK)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t image[DISK];
	static int fd = -1;
	struct rd in = rd_make(data, size);
	struct check c = {.read_only = rd_u8(&in) & 1, .image = image};
	struct blk *b;

	if (fd < 0) {
		fd = memfd_create("disk", MFD_CLOEXEC);
		for (unsigned i = 0; i < DISK; i++)
			image[i] = (uint8_t)(i * 7 >> 3);
	}
	c.fd = fd;
	if (pwrite(fd, image, DISK, 0) != DISK)
		abort();
	b = blk_new(&(struct blk_config){.fd = dup(fd), .read_only = c.read_only, .serial = "fuzz"},
		NULL);
	if (!b)
		abort();
	vdev_fuzz(blk_vdev(b), &in, after, &c);
	blk_free(b);
	return 0;
}

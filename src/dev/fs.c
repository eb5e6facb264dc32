/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-fs (virtio 1.2, 5.11): carries FUSE messages to src/fuse.
 *
 * Two queues: 0 "hiprio" for FORGET and INTERRUPT, 1 for everything else. A chain is a FUSE message
 * (readable) and the room for its answer (writable). Messages are answered in place, one after the
 * other, before the kick returns: nothing is ever in flight, so a stopped queue has nothing to
 * forget. What the guest knows (inodes, open files) outlives a queue stop, because a paused machine
 * stops its queues, too; the next mount's INIT clears it. */
#include "dev/fs.h"

#include <linux/virtio_fs.h>
#include <linux/virtio_ids.h>
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { QUEUE_HIPRIO, QUEUE_REQUEST, QUEUES };

struct fsdev {
	struct vdev vdev;
	struct fuse_server *server; /* borrowed */
};

static void fs_config_read(struct vdev *d, size_t off, void *to, size_t len)
{
	struct virtio_fs_config cfg = {.tag = FSDEV_TAG, .num_request_queues = htole32(1)};
	size_t n = off < sizeof(cfg) ? MIN(len, sizeof(cfg) - off) : 0;

	memset(to, 0, len);
	if (n)
		memcpy(to, (const uint8_t *)&cfg + off, n);
}

static void fs_kick(struct vdev *d, unsigned q)
{
	struct fsdev *fs = container_of(d, struct fsdev, vdev);
	struct virtq *vq = &d->vq[q];
	struct virtq_chain c;
	enum virtq_next got;

	if (d->broken)
		return;
	do {
		virtq_kicks_off(vq);
		while ((got = virtq_pop(vq, &c)) == VIRTQ_CHAIN) {
			size_t n = fuse_handle(fs->server, c.iov, c.n_out, c.iov + c.n_out, c.n_in);

			virtq_push(vq, c.head, (uint32_t)n);
			/* Not at the end of the batch: the guest can go on while the next is
			 * served. EVENT_IDX spares what it does not want. */
			vdev_flush(d, q);
		}
		if (got == VIRTQ_BAD) {
			vdev_break(d, "malformed descriptor chain");
			return;
		}
	} while (virtq_kicks_on(vq));
}

static void fs_reset(struct vdev *d)
{
}

static const struct vdev_ops fs_ops = {
	.name = "fs",
	.id = VIRTIO_ID_FS,
	.n_queues = QUEUES,
	.config_read = fs_config_read,
	.kick = fs_kick,
	.reset = fs_reset,
};

struct fsdev *fsdev_new(struct fuse_server *server)
{
	struct fsdev *fs = xcalloc(1, sizeof(*fs));

	fs->vdev.ops = &fs_ops;
	fs->server = server;
	return fs;
}

void fsdev_free(struct fsdev *fs)
{
	free(fs);
}

struct vdev *fsdev_vdev(struct fsdev *fs)
{
	return &fs->vdev;
}

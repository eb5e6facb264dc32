/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon with hostile queues: memory that is not the guest's keeps its contents. */
#include "vdev_fuzz.h"

#include "dev/balloon.h"

struct around {
	struct loop *loop;
	struct balloon *balloon;
	uint8_t *not_ours; /* a page */
};

static void after(struct vdev *d, void *arg)
{
	struct around *a = arg;

	balloon_poll_stats(a->balloon);
	if (loop_once(a->loop, 0, NULL) < 0)
		abort();
	for (unsigned i = 0; i < 4096; i++)
		if (a->not_ours[i] != 0x5a)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rd in = rd_make(data, size);
	struct around a = {.loop = loop_new(NULL), .not_ours = aligned_alloc(4096, 4096)};

	memset(a.not_ours, 0x5a, 4096);
	a.balloon = balloon_new(a.loop);
	vdev_fuzz(balloon_vdev(a.balloon), &in, after, &a);
	balloon_free(a.balloon);
	loop_free(a.loop);
	free(a.not_ours);
	return 0;
}

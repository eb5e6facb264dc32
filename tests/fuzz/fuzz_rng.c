/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng with hostile queues. */
#include "vdev_fuzz.h"

#include "dev/rng.h"

static void after(struct vdev *d, void *arg)
{
	if (loop_once(arg, 0, NULL) < 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rd in = rd_make(data, size);
	struct loop *loop = loop_new(NULL);
	struct rngdev *r = rngdev_new(loop);

	vdev_fuzz(rngdev_vdev(r), &in, after, loop);
	rngdev_free(r);
	loop_free(loop);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What every device shares: interrupts on demand, and the end of a device that the guest broke. */
#include "virtio/vdev.h"

#include "base/log.h"

void vdev_flush(struct vdev *d, unsigned q)
{
	if (!d->broken && virtq_should_interrupt(&d->vq[q]))
		d->interrupt(d, q);
}

void vdev_break(struct vdev *d, const char *why)
{
	if (d->broken)
		return;
	d->broken = true;
	/* Whatever the device still holds can neither be answered nor continued. vhost-user has no
	 * way to show NEEDS_RESET to the guest: the device falls silent until the driver resets it.
	 */
	for (unsigned i = 0; i < d->ops->n_queues; i++)
		d->vq[i].bad = true;
	log_limited(LOG_WARN, "device=%s broken-by-guest reason=\"%s\"", d->ops->name, why);
}

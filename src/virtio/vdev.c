/* SPDX-License-Identifier: Apache-2.0 */
/* What every device shares: interrupts on demand, orderly stops, and the end of a device that the
 * guest broke. */
#include "virtio/vdev.h"

#include "base/log.h"

void vdev_flush(struct vdev *d, unsigned q)
{
	if (!d->broken && virtq_should_interrupt(&d->vq[q]))
		d->interrupt(d, q);
}

void vdev_break(struct vdev *d, const char *why)
{
	if (atomic_exchange(&d->broken, true))
		return;
	d->breaks++;
	/* Whatever the device still holds can neither be answered nor continued. Without a transport
	 * that can show NEEDS_RESET the device falls silent until the driver resets it. */
	for (unsigned i = 0; i < d->ops->n_queues; i++)
		d->vq[i].bad = true;
	log_limited(LOG_WARN, "device=%s broken-by-guest reason=\"%s\"", d->ops->name, why);
	if (d->needs_reset)
		d->needs_reset(d);
}

void vdev_config_changed(struct vdev *d)
{
	if (d->config_changed)
		d->config_changed(d);
}

void vdev_quiesce(struct vdev *d)
{
	if (d->ops->quiesce)
		d->ops->quiesce(d);
}

uint16_t vdev_stop_queue(struct vdev *d, unsigned q)
{
	uint16_t at;

	vdev_quiesce(d);
	at = d->vq[q].used_idx;
	virtq_stop(&d->vq[q]);
	d->ops->reset(d);
	return at;
}

void vdev_reset(struct vdev *d)
{
	vdev_quiesce(d);
	for (unsigned i = 0; i < d->ops->n_queues; i++)
		virtq_stop(&d->vq[i]);
	d->features = 0;
	d->ops->reset(d);
	d->broken = false;
}

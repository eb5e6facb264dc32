/* SPDX-License-Identifier: Apache-2.0 */
/* The end of the machine. */
#include "guest/init.h"

#include <sys/mount.h>
#include <sys/reboot.h>
#include <unistd.h>

void power_off(int disk)
{
	/* The overlay on top has no open writer any more; a clean ext4 needs no recovery at the
	 * next start. The disk is mounted outside our root, hence by working directory. */
	sync();
	if (disk >= 0 && fchdir(disk) == 0)
		(void)mount(NULL, ".", NULL, MS_REMOUNT | MS_RDONLY, NULL);
	if (getpid() != 1)
		return;
	/* The hypervisor is told not to reboot, so a reset ends it: that is one instruction, where
	 * a power-off needs ACPI. */
	reboot(RB_AUTOBOOT);
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

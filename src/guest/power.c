/* SPDX-License-Identifier: Apache-2.0 */
/* The end of the machine. */
#include "guest/init.h"

#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <unistd.h>

/* Volumes with a size are files of the disk, which cannot be left alone before they are. */
static void unmount_volumes(void)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	const struct mntent *m;

	while (mounts && (m = getmntent(mounts)) != NULL)
		if (strncmp(m->mnt_fsname, "/dev/loop", 9) == 0)
			umount2(m->mnt_dir, 0);
	if (mounts)
		endmntent(mounts);
}

void power_off(int disk)
{
	/* The overlay on top has no open writer any more; a clean ext4 needs no recovery at the
	 * next start. The disk is mounted outside our root, hence by working directory. */
	if (getpid() == 1)
		unmount_volumes();
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

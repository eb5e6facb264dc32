/* SPDX-License-Identifier: Apache-2.0 */
/* The least that can be booted: one line on the console, then the end. Peer of bench/boot. */
#include <fcntl.h>
#include <sys/reboot.h>
#include <unistd.h>

int main(void)
{
	static const char line[] = "first line\n";
	int fd = open("/dev/console", O_WRONLY);

	if (write(fd, line, sizeof(line) - 1) < 0)
		return 1;
	return reboot(RB_AUTOBOOT);
}

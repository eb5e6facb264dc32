/* SPDX-License-Identifier: Apache-2.0 */
/* The least that can be booted: one line on the console, then the end, or with "stay" as the kernel's last
 * word nothing more. Peer of bench/boot and bench/idle. */
#include <fcntl.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static const char line[] = "first line\n";
	int fd = open("/dev/console", O_WRONLY);

	if (write(fd, line, sizeof(line) - 1) < 0)
		return 1;
	while (argc > 1 && strcmp(argv[argc - 1], "stay") == 0)
		pause();
	return reboot(RB_AUTOBOOT);
}

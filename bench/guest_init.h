/* SPDX-License-Identifier: Apache-2.0 */
/* What the inits of the benchmarks' guests share: the pack's modules, a clock, and a way to fail. */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline void fail(const char *what)
{
	printf("failed: %s: %s\n", what, strerror(errno));
	reboot(RB_AUTOBOOT);
}

static inline uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000;
}

/* In their order; without @late, only those that come before the root. */
static inline void load_modules(bool late)
{
	char when[8], name[64], path[80];
	FILE *list = fopen("/modules.list", "r");

	if (!list)
		fail("modules.list");
	while (fscanf(list, "%7s %63s", when, name) == 2) {
		int fd;

		if (!late && strcmp(when, "early") != 0)
			continue;
		snprintf(path, sizeof(path), "/modules/%s", name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
			fail(name);
		close(fd);
	}
	fclose(list);
}

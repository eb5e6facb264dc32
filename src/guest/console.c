/* SPDX-License-Identifier: Apache-2.0 */
/* Messages on the console, and where the boot time goes. */
#include "guest/init.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TRACE_MAX 48

static struct {
	const char *step;
	uint64_t at_us;
} steps[TRACE_MAX];
static size_t n_steps;

void say(const char *fmt, ...)
{
	char line[1024] = "hutch-init: ";
	size_t n = strlen(line);
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	n = MIN(n + (size_t)MAX(r, 0), sizeof(line) - 2);
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0)
		return; /* nobody else to tell */
}

uint64_t uptime_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000u + (uint64_t)ts.tv_nsec / 1000u;
}

void trace(const char *step)
{
	if (n_steps == TRACE_MAX)
		return;
	steps[n_steps].step = step;
	steps[n_steps++].at_us = uptime_us();
}

void trace_print(void)
{
	for (size_t i = 0; i < n_steps; i++) {
		uint64_t before = steps[i ? i - 1 : 0].at_us;

		say("trace %-16s at %5llu.%03llu ms, took %4llu.%03llu ms", steps[i].step,
			(unsigned long long)(steps[i].at_us / 1000),
			(unsigned long long)(steps[i].at_us % 1000),
			(unsigned long long)((steps[i].at_us - before) / 1000),
			(unsigned long long)((steps[i].at_us - before) % 1000));
	}
}

unsigned long cmdline_number(const char *cmdline, const char *key)
{
	const char *at = cmdline;

	while ((at = strstr(at, key)) != NULL) {
		if (at == cmdline || at[-1] == ' ')
			return strtoul(at + strlen(key), NULL, 10);
		at++;
	}
	return 0;
}

bool cmdline_has(const char *cmdline, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = cmdline; (at = strstr(at, word)); at += len) {
		bool starts = at == cmdline || at[-1] == ' ';

		if (starts && (at[len] == '\0' || at[len] == ' ' || at[len] == '\n'))
			return true;
	}
	return false;
}

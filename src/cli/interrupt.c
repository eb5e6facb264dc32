/* SPDX-License-Identifier: Apache-2.0 */
/* Signals that are let in only where something waits, so that none is missed. */
#include "cli/interrupt.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"

static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
static struct sigaction before[ARRAY_SIZE(signals)];
static sigset_t mask;
static volatile sig_atomic_t seen;
static bool active;

static void note(int sig)
{
	seen = sig;
}

void interrupt_begin(void)
{
	struct sigaction sa = {.sa_handler = note};
	sigset_t block;

	seen = 0;
	sigemptyset(&block);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(&block, signals[i]);
	sigprocmask(SIG_BLOCK, &block, &mask);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		sigaction(signals[i], NULL, &before[i]);
		if (before[i].sa_handler != SIG_IGN)
			sigaction(signals[i], &sa, NULL);
	}
	active = true;
}

void interrupt_end(void)
{
	for (size_t i = 0; active && i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &before[i], NULL);
	if (active)
		sigprocmask(SIG_SETMASK, &mask, NULL);
	active = false;
}

int interrupt_wait(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	while (active && !seen && ppoll(&p, 1, NULL, &mask) < 0 && errno == EINTR)
		;
	return active && seen ? -1 : 0;
}

int interrupt_signal(void)
{
	return seen;
}

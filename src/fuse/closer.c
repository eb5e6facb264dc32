/* SPDX-License-Identifier: Apache-2.0 */
#include "fuse/closer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"

#define WAITING_MAX 64u /* descriptors that are spent on it beyond the server's budget */
#define STACK_BYTES (64u << 10)

struct closer {
	pthread_t thread;
	void (*begin)(void);
	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* Under the lock. */
	int waiting[WAITING_MAX];
	unsigned n;
	bool ending;
};

static void *run(void *arg)
{
	struct closer *c = arg;

	if (c->begin)
		c->begin();
	pthread_mutex_lock(&c->lock);
	for (;;) {
		int fd;

		while (!c->n && !c->ending)
			pthread_cond_wait(&c->wake, &c->lock);
		if (!c->n)
			break;
		fd = c->waiting[--c->n];
		pthread_mutex_unlock(&c->lock);
		close(fd);
		pthread_mutex_lock(&c->lock);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

struct closer *closer_new(void (*begin)(void), struct err *err)
{
	struct closer *c = xcalloc(1, sizeof(*c));
	pthread_attr_t attr;
	sigset_t all, old;
	int r;

	c->begin = begin;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wake, NULL);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	/* Signals are for the threads that expect them. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&c->thread, &attr, run, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r == 0)
		return c;
	free(c);
	errno = r;
	err_errno(err, "thread");
	return NULL;
}

void closer_free(struct closer *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->ending = true;
	pthread_cond_signal(&c->wake);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->thread, NULL);
	pthread_cond_destroy(&c->wake);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

void closer_close(struct closer *c, int fd)
{
	bool taken = false;

	if (c) {
		pthread_mutex_lock(&c->lock);
		taken = c->n < WAITING_MAX;
		if (taken)
			c->waiting[c->n++] = fd;
		if (taken && c->n == 1)
			pthread_cond_signal(&c->wake);
		pthread_mutex_unlock(&c->lock);
	}
	if (!taken)
		close(fd);
}

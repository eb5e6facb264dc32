/* SPDX-License-Identifier: Apache-2.0 */
/* Run a function on the thread of a loop and wait for it.
 *
 * A call lies on the caller's stack and in one queue under one lock. Who makes the queue non-empty
 * writes the eventfd; the loop's thread takes calls one by one, runs each without the lock, and
 * answers through the condition. */
#include "base/loop_call.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/fd.h"
#include "base/mem.h"

enum call_state {
	CALL_WAITING, /* in the queue */
	CALL_RUNNING, /* taken out of it by the loop's thread, which will end it */
	CALL_DONE,
	CALL_REFUSED, /* taken out by loop_caller_close */
};

struct call {
	void (*fn)(void *arg);
	void *arg;
	enum call_state state; /* under the lock */
	struct call *next;
};

struct loop_caller {
	struct loop *loop; /* borrowed */
	struct loop_watch watch;
	int fd; /* owned eventfd: the queue is not empty */
	pthread_mutex_t lock;
	pthread_cond_t ended;
	struct call *first, **last; /* under the lock */
	bool closed;                /* under the lock */
};

/* The next call, or NULL. @done (may be NULL) has just run. */
static struct call *next_call(struct loop_caller *c, struct call *done)
{
	struct call *k;

	pthread_mutex_lock(&c->lock);
	if (done) {
		done->state = CALL_DONE;
		pthread_cond_broadcast(&c->ended);
	}
	k = c->first;
	if (k) {
		k->state = CALL_RUNNING;
		c->first = k->next;
		if (!c->first)
			c->last = &c->first;
	}
	pthread_mutex_unlock(&c->lock);
	return k;
}

static void on_calls(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct loop_caller *c = container_of(w, struct loop_caller, watch);
	uint64_t count;

	/* Nothing to read means that a nested turn of the loop was faster. */
	if (read(c->fd, &count, sizeof(count)) < 0)
		return;
	for (struct call *k = next_call(c, NULL); k; k = next_call(c, k))
		k->fn(k->arg);
}

struct loop_caller *loop_caller_new(struct loop *loop, struct err *err)
{
	struct loop_caller *c = xcalloc(1, sizeof(*c));

	c->loop = loop;
	c->last = &c->first;
	c->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->fd < 0 || loop_add(loop, &c->watch, c->fd, EPOLLIN, on_calls) < 0) {
		err_errno(err, "loop calls");
		if (c->fd >= 0)
			close(c->fd);
		free(c);
		return NULL;
	}
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->ended, NULL);
	return c;
}

void loop_caller_free(struct loop_caller *c)
{
	if (!c)
		return;
	loop_del(c->loop, &c->watch);
	close(c->fd);
	pthread_cond_destroy(&c->ended);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

bool loop_call(struct loop_caller *c, void (*fn)(void *arg), void *arg)
{
	struct call k = {.fn = fn, .arg = arg};
	uint64_t one = 1;

	if (loop_is_mine(c->loop)) {
		fn(arg);
		return true;
	}
	pthread_mutex_lock(&c->lock);
	if (c->closed) {
		pthread_mutex_unlock(&c->lock);
		return false;
	}
	/* Written under the lock, so that loop_caller_free never finds a writer at work. A counter
	 * that is full is as good as written. */
	if (!c->first && write(c->fd, &one, sizeof(one)) < 0)
		one = 0;
	*c->last = &k;
	c->last = &k.next;
	while (k.state == CALL_WAITING || k.state == CALL_RUNNING)
		pthread_cond_wait(&c->ended, &c->lock);
	pthread_mutex_unlock(&c->lock);
	return k.state == CALL_DONE;
}

void loop_caller_close(struct loop_caller *c)
{
	pthread_mutex_lock(&c->lock);
	c->closed = true;
	for (struct call *k = c->first; k; k = k->next)
		k->state = CALL_REFUSED;
	c->first = NULL;
	c->last = &c->first;
	pthread_cond_broadcast(&c->ended);
	pthread_mutex_unlock(&c->lock);
}

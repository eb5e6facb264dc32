/* SPDX-License-Identifier: Apache-2.0 */
/* The epoll loop. */
#include "base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/fd.h"
#include "base/mem.h"

/* syscalls(loop): epoll_wait epoll_pwait epoll_ctl epoll_create1 */
#define LOOP_BATCH 64

struct loop {
	int epfd; /* owned */
	bool stop;
	int status;
	uint64_t now_ns;
	struct loop_timer *timers; /* sorted by due_ns; borrowed */
	struct epoll_event ready[LOOP_BATCH];
	int n_ready, at; /* the batch being served, so that loop_del can strike events out */
	_Atomic pthread_t thread; /* that serves it; read by others (loop_is_mine) */
};

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

struct loop *loop_new(struct err *err)
{
	struct loop *l = xcalloc(1, sizeof(*l));

	l->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epfd < 0) {
		err_errno(err, "epoll");
		free(l);
		return NULL;
	}
	l->now_ns = clock_ns();
	return l;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	close(l->epfd);
	free(l);
}

int loop_add(struct loop *l, struct loop_watch *w, int fd, uint32_t events, loop_fn *fn)
{
	struct epoll_event ev = {.events = events, .data.ptr = w};

	*w = (struct loop_watch){.fd = fd, .events = events, .fn = fn};
	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		w->fd = -1;
		return -1;
	}
	return 0;
}

int loop_mod(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = w};

	if (w->fd < 0 || w->events == events)
		return 0;
	w->events = events;
	return epoll_ctl(l->epfd, EPOLL_CTL_MOD, w->fd, &ev);
}

void loop_del(struct loop *l, struct loop_watch *w)
{
	if (w->fd < 0 || !w->fn)
		return;
	epoll_ctl(l->epfd, EPOLL_CTL_DEL, w->fd, NULL);
	w->fd = -1;
	for (int i = l->at; i < l->n_ready; i++)
		if (l->ready[i].data.ptr == w)
			l->ready[i].data.ptr = NULL;
}

void loop_timer_start(struct loop *l, struct loop_timer *t, uint64_t after_ms, loop_timer_fn *fn)
{
	struct loop_timer **at = &l->timers;

	loop_timer_stop(l, t);
	t->due_ns = clock_ns() + after_ms * 1000000u;
	t->fn = fn;
	while (*at && (*at)->due_ns <= t->due_ns)
		at = &(*at)->next;
	t->next = *at;
	*at = t;
}

void loop_timer_stop(struct loop *l, struct loop_timer *t)
{
	if (!t->due_ns)
		return;
	for (struct loop_timer **at = &l->timers; *at; at = &(*at)->next) {
		if (*at == t) {
			*at = t->next;
			break;
		}
	}
	t->due_ns = 0;
	t->next = NULL;
}

uint64_t loop_now(const struct loop *l)
{
	return l->now_ns;
}

static int wait_ms(const struct loop *l, int timeout_ms)
{
	uint64_t ms;

	if (!l->timers)
		return timeout_ms;
	if (l->timers->due_ns <= l->now_ns)
		return 0;
	ms = (l->timers->due_ns - l->now_ns + 999999) / 1000000;
	ms = MIN(ms, (uint64_t)3600000);
	return timeout_ms < 0 ? (int)ms : MIN((int)ms, timeout_ms);
}

int loop_once(struct loop *l, int timeout_ms, struct err *err)
{
	int n;

	atomic_store_explicit(&l->thread, pthread_self(), memory_order_relaxed);
	l->now_ns = clock_ns();
	n = epoll_wait(l->epfd, l->ready, LOOP_BATCH, wait_ms(l, timeout_ms));
	if (n < 0 && errno != EINTR)
		return err_errno(err, "epoll_wait");
	l->now_ns = clock_ns();
	l->n_ready = MAX(n, 0);
	for (l->at = 0; l->at < l->n_ready; l->at++) {
		struct loop_watch *w = l->ready[l->at].data.ptr;

		if (w)
			w->fn(l, w, l->ready[l->at].events);
	}
	l->n_ready = 0;
	while (l->timers && l->timers->due_ns <= l->now_ns) {
		struct loop_timer *t = l->timers;

		loop_timer_stop(l, t);
		t->fn(l, t);
	}
	return 0;
}

int loop_run(struct loop *l, struct err *err)
{
	l->stop = false;
	while (!l->stop)
		if (loop_once(l, -1, err) < 0)
			return -1;
	return l->status;
}

void loop_stop(struct loop *l, int status)
{
	l->stop = true;
	l->status = status;
}

bool loop_is_mine(const struct loop *l)
{
	return atomic_load_explicit(&l->thread, memory_order_relaxed) == pthread_self();
}

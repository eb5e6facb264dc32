/* SPDX-License-Identifier: Apache-2.0 */
/* The epoll loop of every process.
 *
 * A watch is embedded in the object that it serves, so the callback needs no void pointer and no
 * lookup (container_of). A callback may remove and free any watch, its own included: removal
 * marks later events of the same wake-up as dead. Timers are one-shot. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct loop;
struct loop_watch;
struct loop_timer;
typedef void loop_fn(struct loop *l, struct loop_watch *w, uint32_t events);
typedef void loop_timer_fn(struct loop *l, struct loop_timer *t);

/* Private to loop.c except for fd and fn, which may be read. {.fd = -1} is an inactive watch. */
struct loop_watch {
	int fd; /* borrowed */
	uint32_t events;
	loop_fn *fn;
};

struct loop_timer {
	uint64_t due_ns; /* on loop_now's clock; 0: not armed */
	loop_timer_fn *fn;
	struct loop_timer *next;
};

/* NULL with @err on failure. */
struct loop *loop_new(struct err *err);
void loop_free(struct loop *l);

/* Watch @fd for @events (EPOLLIN …, level-triggered unless EPOLLET is in the mask). -1 with errno. */
int loop_add(struct loop *l, struct loop_watch *w, int fd, uint32_t events, loop_fn *fn);
/* Change interest; does nothing when it is what it was. */
int loop_mod(struct loop *l, struct loop_watch *w, uint32_t events);
/* Stop watching. Before the descriptor is closed. Harmless on an inactive watch. */
void loop_del(struct loop *l, struct loop_watch *w);

/* (Re-)arm a one-shot timer @after_ms from now; loop_timer_stop is harmless on an unarmed one. */
void loop_timer_start(struct loop *l, struct loop_timer *t, uint64_t after_ms, loop_timer_fn *fn);
void loop_timer_stop(struct loop *l, struct loop_timer *t);

/* CLOCK_MONOTONIC in nanoseconds, read once per wake-up. */
uint64_t loop_now(const struct loop *l);

/* Serve until loop_stop. Returns the status given there, or -1 with @err. */
int loop_run(struct loop *l, struct err *err);
/* One wake-up of at most @timeout_ms (-1: for ever). For tests. */
int loop_once(struct loop *l, int timeout_ms, struct err *err);
void loop_stop(struct loop *l, int status);

/* Whether the calling thread is the one that serves @l (the last that entered loop_run or loop_once). */
bool loop_is_mine(const struct loop *l);

/* SPDX-License-Identifier: Apache-2.0 */
/* Run a function on the thread of a loop and wait for it: how other threads reach what belongs to a
 * single-threaded loop. */
#pragma once

#include "base/loop.h"

struct loop_caller;

/* Calls for @loop (borrowed). To be made before the loop runs, or on its thread. */
struct loop_caller *loop_caller_new(struct loop *loop, struct err *err);
/* After the loop has stopped and no thread can call any more. NULL is harmless. */
void loop_caller_free(struct loop_caller *c);

/* Run @fn(@arg) on the loop's thread and return when it has run; what it wrote is visible then. Any
 * number of threads may call at once; calls run one after the other in the order in which they
 * came. On the loop's own thread it is a plain call. A call to a loop that does not run yet waits
 * until it does. False: loop_caller_close was called, and @fn has not run and never will. */
bool loop_call(struct loop_caller *c, void (*fn)(void *arg), void *arg);
/* The loop is about to stop: waiting calls and later ones return false. From any thread; the loop's own
 * must call it before it waits for a thread that may be calling. */
void loop_caller_close(struct loop_caller *c);

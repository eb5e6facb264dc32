/* SPDX-License-Identifier: Apache-2.0 */
/* Calls to a loop's thread: from others, from itself, many at once, and to a loop that ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/loop_call.h"
#include "base/mem.h"

#define CALLS 2000u

struct rig {
	struct loop *loop;
	struct loop_caller *caller;
	pthread_t thread;
	unsigned counter; /* the loop's thread only */
	_Atomic unsigned refused;
};

static void *serve(void *arg)
{
	struct rig *r = arg;

	loop_run(r->loop, NULL);
	return NULL;
}

static void stop(void *arg)
{
	loop_stop(arg, 0);
}

static void count(void *arg)
{
	struct rig *r = arg;

	if (!loop_is_mine(r->loop))
		abort();
	r->counter++;
}

static void count_nested(void *arg)
{
	struct rig *r = arg;

	assert_true(loop_call(r->caller, count, r));
	r->counter++;
}

static void rig_init(struct rig *r, bool start)
{
	*r = (struct rig){.loop = loop_new(NULL)};
	r->caller = loop_caller_new(r->loop, NULL);
	assert_non_null(r->caller);
	if (start)
		pthread_create(&r->thread, NULL, serve, r);
}

static void rig_done(struct rig *r)
{
	loop_caller_free(r->caller);
	loop_free(r->loop);
}

static void *caller(void *arg)
{
	struct rig *r = arg;

	for (unsigned i = 0; i < CALLS; i++)
		if (!loop_call(r->caller, count, r))
			atomic_fetch_add(&r->refused, 1);
	return NULL;
}

static void test_calls(void **state)
{
	static struct rig r;
	pthread_t t[4];

	/* A call before the loop runs waits for it. */
	rig_init(&r, true);
	assert_false(loop_is_mine(r.loop));
	assert_true(loop_call(r.caller, count, &r));
	assert_int_equal(r.counter, 1);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		pthread_create(&t[i], NULL, caller, &r);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	assert_int_equal(r.refused, 0);
	assert_int_equal(r.counter, 1 + CALLS * ARRAY_SIZE(t));
	assert_true(loop_call(r.caller, count_nested, &r));
	assert_int_equal(r.counter, 3 + CALLS * ARRAY_SIZE(t));
	assert_true(loop_call(r.caller, stop, r.loop));
	pthread_join(r.thread, NULL);
	rig_done(&r);
}

static void test_own_thread(void **state)
{
	static struct rig r;

	rig_init(&r, false);
	loop_once(r.loop, 0, NULL);
	assert_true(loop_call(r.caller, count_nested, &r));
	assert_int_equal(r.counter, 2);
	rig_done(&r);
}

/* Every call either runs or is refused, also those that wait while the loop ends. */
static void test_close(void **state)
{
	static struct rig r;
	pthread_t t[4];

	rig_init(&r, true);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		pthread_create(&t[i], NULL, caller, &r);
	assert_true(loop_call(r.caller, count, &r));
	usleep(2000);
	assert_true(loop_call(r.caller, stop, r.loop));
	pthread_join(r.thread, NULL);
	/* Nobody answers now: those who wait are let go. */
	loop_caller_close(r.caller);
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	assert_int_equal(r.counter + r.refused, 1 + CALLS * ARRAY_SIZE(t));
	assert_false(loop_call(r.caller, count, &r));
	rig_done(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_own_thread),
		cmocka_unit_test(test_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

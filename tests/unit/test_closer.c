/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that a thread closes: each of them, and no later than the thread's end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

#include "fuse/closer.h"

#define MANY 300u /* more than may wait */

static _Atomic unsigned begun;

static void begin(void)
{
	begun++;
}

/* The read end is at its end when the last write end is closed. */
static void wait_closed(int fd)
{
	char c;

	assert_int_equal(read(fd, &c, 1), 0);
	close(fd);
}

static void test_closes(void **state)
{
	struct closer *c = closer_new(begin, NULL);
	int p[2];

	assert_non_null(c);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pipe2(p, O_CLOEXEC), 0);
		closer_close(c, p[1]);
		wait_closed(p[0]);
	}
	assert_int_equal(begun, 1);
	closer_free(c);
}

static void test_many(void **state)
{
	struct closer *c = closer_new(NULL, NULL);
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	for (unsigned i = 0; i < MANY; i++)
		closer_close(c, dup(p[1]));
	closer_close(c, p[1]);
	closer_free(c);
	wait_closed(p[0]);
}

static void test_without(void **state)
{
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	closer_close(NULL, p[1]);
	wait_closed(p[0]);
	closer_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_closes),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_without),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Shared directories of kits: names that lead back to the path, and to no other. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "kit/host_mounts.h"

static void test_there_and_back(void **state)
{
	static const char *const t[][2] = {
		{"/a", "a"},
		{"/home/agent/.cache", "home%2Fagent%2F.cache"},
		{"/.cache", "%2Ecache"},
		{"/..", "%2E."},
		{"/100%/%2F", "100%25%2F%252F"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		_free_ char *name = host_mount_encode(t[i][0]), *path = host_mount_decode(t[i][1]);

		assert_string_equal(name, t[i][1]);
		assert_string_equal(path, t[i][0]);
	}
}

/* A name that only looks like one of ours. */
static void test_no_path(void **state)
{
	static const char *const t[] = {"", ".", "..", ".x", "a/b", "/", "..%2Fa", "a%zz", "%2f"};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		assert_null(host_mount_decode(t[i]));
	assert_null(host_mount_encode("/"));
}

static void test_length(void **state)
{
	char path[NAME_MAX + 3] = "/";
	_free_ char *name = NULL, *back = NULL;

	memset(path + 1, 'x', NAME_MAX);
	name = host_mount_encode(path);
	assert_non_null(name);
	back = host_mount_decode(name);
	assert_string_equal(back, path);
	path[NAME_MAX + 1] = 'x';
	assert_null(host_mount_encode(path));
	assert_null(host_mount_decode(path + 1));
}

/* The repository decides, where there is one, else the directory. */
static void test_identity(void **state)
{
	struct kit a = {.name = (char *)(uintptr_t)"k", .dir = (char *)(uintptr_t)"/x"}, b = a;
	_free_ char *one = host_mount_kit(&a), *two = NULL, *three = NULL;

	b.source = (char *)(uintptr_t)"oci://example.com/k";
	two = host_mount_kit(&b);
	b.dir = (char *)(uintptr_t)"/y";
	three = host_mount_kit(&b);
	assert_string_not_equal(one, two);
	assert_string_equal(two, three);
	assert_int_equal(strlen(one), strlen("k-") + 16);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_no_path),
		cmocka_unit_test(test_length),
		cmocka_unit_test(test_identity),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The key of the install cache: what the steps can see changes it, nothing else does. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/fs.h"
#include "cli/cache_key.h"

static void key_of(const char *dir, const struct box_spec *s, char ret[static 65])
{
	struct err err;

	if (cache_key(dir, s, ret, &err) < 0)
		fail_msg("%s", err.msg);
}

static void test_image_and_layers(void **state)
{
	char dir[] = "/tmp/hutch-test-key-XXXXXX", first[65], other[65], more[65], turned[65];
	struct box_spec s = {.name = xstrdup("a"),
		.agent = xstrdup(""),
		.user = xstrdup("agent"),
		.workdir = xstrdup("/w"),
		.image = xstrdup("oci://r.test/x@sha256:1"),
		.cache_key = xstrdup("")};

	assert_non_null(mkdtemp(dir));
	key_of(dir, &s, first);
	free(s.name);
	s.name = xstrdup("b"); /* not what steps see */
	key_of(dir, &s, other);
	assert_string_equal(first, other);
	free(s.image);
	s.image = xstrdup("oci://r.test/x@sha256:2");
	key_of(dir, &s, other);
	assert_string_not_equal(first, other);
	strv_add(&s.layers, "oci://r.test/l@sha256:3");
	key_of(dir, &s, more);
	assert_string_not_equal(other, more);
	strv_add(&s.layers, "oci://r.test/l@sha256:4");
	key_of(dir, &s, more);
	strv_done(&s.layers);
	strv_add(&s.layers, "oci://r.test/l@sha256:4");
	strv_add(&s.layers, "oci://r.test/l@sha256:3");
	key_of(dir, &s, turned);
	assert_string_not_equal(more, turned); /* their order counts */
	spec_done(&s);
	assert_int_equal(fs_remove_tree(AT_FDCWD, dir, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_image_and_layers)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

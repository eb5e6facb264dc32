/* SPDX-License-Identifier: Apache-2.0 */
/* A kit's own tests, testdata/NAME.yaml. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "kit/testdata.h"

static void test_full(void **state)
{
	static const char text[] =
		"tests:\n"
		"  - name: all of it\n"
		"    run: |\n      echo hello\n      exit 3\n"
		"    user: root\n    timeout: 7\n"
		"    expect:\n"
		"      exit: 3\n      stdout: hello\n      stdoutContains: [ell]\n"
		"      stderrContains: [a, b]\n"
		"      files:\n"
		"        - {path: /etc/x, content: \"\", mode: \"0600\", owner: root, contains: "
		"[y]}\n"
		"        - {path: /etc/gone, absent: true}\n"
		"  - {name: defaults, run: \"true\"}\n"
		"network:\n  allowed: [\"a.test:80\", GET https://b.test/x]\n  refused: [c.test]\n";
	struct kit_errors errs = {0};
	struct testdata t;

	assert_int_equal(testdata_load_text(text, strlen(text), "t", &t, &errs), 0);
	assert_int_equal(t.n_tests, 2);
	assert_int_equal(t.tests[0].line, 2);
	assert_string_equal(t.tests[0].name, "all of it");
	assert_string_equal(t.tests[0].run, "echo hello\nexit 3\n");
	assert_string_equal(t.tests[0].user, "root");
	assert_int_equal(t.tests[0].timeout_s, 7);
	assert_int_equal(t.tests[0].exit, 3);
	assert_string_equal(t.tests[0].out, "hello");
	assert_int_equal(t.tests[0].out_contains.n, 1);
	assert_int_equal(t.tests[0].err_contains.n, 2);
	assert_int_equal(t.tests[0].n_files, 2);
	assert_string_equal(t.tests[0].files[0].content, "");
	assert_string_equal(t.tests[0].files[0].mode, "0600");
	assert_true(t.tests[0].files[1].absent);
	assert_int_equal(t.tests[1].line, 16);
	assert_string_equal(t.tests[1].user, TESTDATA_USER);
	assert_int_equal(t.tests[1].timeout_s, TESTDATA_TIMEOUT_S);
	assert_int_equal(t.tests[1].exit, 0);
	assert_null(t.tests[1].out);
	assert_int_equal(t.n_hosts, 3);
	assert_true(t.hosts[1].allowed && !t.hosts[2].allowed);
	assert_int_equal(t.hosts[2].line, 19);
	testdata_done(&t);
	testdata_done(&t);
}

/* The text, and where and what it complains. */
static void test_errors(void **state)
{
	static const struct {
		const char *text, *says;
	} t[] = {
		{"", "t:1:1 the file is empty"},
		{"tests: []\nother: 1\n", "t:2:1"},
		{"tests:\n  - run: x\n", "name is missing"},
		{"tests:\n  - name: x\n", "run is missing"},
		{"tests:\n  - {name: x, run: \"\"}\n", "expected some text"},
		{"tests:\n  - {name: x, run: y, usr: z}\n", "did you mean user?"},
		{"tests:\n  - {name: x, run: true}\n", "quote it"},
		{"tests:\n  - {name: x, run: y, timeout: 0}\n", "from 1 to 3600"},
		{"tests:\n  - {name: x, run: y, timeout: 3601}\n", "from 1 to 3600"},
		{"tests:\n  - {name: x, run: y, timeout: \"1\"}\n", "from 1 to 3600"},
		{"tests:\n  - {name: x, run: y, expect: {exit: 256}}\n", "from 0 to 255"},
		{"tests:\n  - {name: x, run: y, expect: {exit: -1}}\n", "from 0 to 255"},
		{"tests:\n  - {name: x, run: y, expect: {exit: 1.5}}\n", "from 0 to 255"},
		{"tests:\n  - {name: x, run: y, expect: {exit: 01}}\n", "from 0 to 255"},
		{"tests:\n  - {name: x, run: y, expect: {files: [{path: x}]}}\n", "absolute path"},
		{"tests:\n  - {name: x, run: y, expect: {files: [{path: /x, absent: true, "
		 "owner: root}]}}\n",
			"nothing else"},
		{"tests:\n  - {name: x, run: y, expect: {stdoutContains: [\"\"]}}\n", "some text"},
		{"network: {allowed: x}\n", "a list of hosts"},
		{"network: {refused: [\"\"]}\n", "a host such as"},
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct kit_errors errs = {0};
		struct testdata d = {.n_tests = 77};
		char all[4096] = "", *end = all;

		assert_int_equal(
			testdata_load_text(t[i].text, strlen(t[i].text), "t", &d, &errs), -1);
		assert_int_equal(d.n_tests, 77);
		for (size_t k = 0; k < errs.n; k++)
			end += snprintf(end, sizeof(all) - (size_t)(end - all), "t:%d:%d %s\n",
				errs.v[k].line, errs.v[k].column, errs.v[k].message);
		if (!strstr(all, t[i].says))
			fail_msg("%s: %s, expected %s", t[i].text, all, t[i].says);
		kit_errors_done(&errs);
	}
}

static void test_too_many(void **state)
{
	struct kit_errors errs = {0};
	struct testdata d;
	char text[65536], *end = text;

	end += sprintf(end, "tests:\n");
	for (int i = 0; i <= TESTDATA_TESTS_MAX; i++)
		end += sprintf(end, "- {name: x, run: y}\n");
	assert_int_equal(testdata_load_text(text, (size_t)(end - text), "t", &d, &errs), -1);
	assert_non_null(strstr(errs.v[0].message, "at most 1000"));
	kit_errors_done(&errs);
}

static void test_schema(void **state)
{
	json_t *j = testdata_schema(), *p = json_object_get(j, "properties");

	assert_non_null(json_object_get(p, "tests"));
	assert_non_null(json_object_get(p, "network"));
	assert_true(json_is_false(json_object_get(j, "additionalProperties")));
	json_decref(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_full),
		cmocka_unit_test(test_errors), cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_schema)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

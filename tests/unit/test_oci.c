/* SPDX-License-Identifier: Apache-2.0 */
/* Images as registries have them: references and configurations. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "oci/config.h"
#include "oci/ref.h"

#define DIGEST "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_references(void **state)
{
	static const struct {
		const char *text, *want;
		bool local;
	} rows[] = {
		{"debian", "docker.io/library/debian:latest", false},
		{"debian:12", "docker.io/library/debian:12", false},
		{"docker.io/debian", "docker.io/library/debian:latest", false},
		{"index.docker.io/debian", "docker.io/library/debian:latest", false},
		{"docker/sandbox-templates:shell", "docker.io/docker/sandbox-templates:shell",
			false},
		{"ghcr.io/x/y@" DIGEST, "ghcr.io/x/y@" DIGEST, false},
		{"ghcr.io/x/y:1.2@" DIGEST, "ghcr.io/x/y@" DIGEST, false},
		{"oci://ghcr.io/x/y@" DIGEST, "ghcr.io/x/y@" DIGEST, false},
		{"127.0.0.1:5000/team/tool:1.2", "127.0.0.1:5000/team/tool:1.2", true},
		{"localhost/x", "localhost/x:latest", true},
		{"localhost:5000/x", "localhost:5000/x:latest", true},
		{"[::1]:5000/x", "[::1]:5000/x:latest", true},
		{"[2001:db8::1]/x", "[2001:db8::1]/x:latest", false},
		{"r.example/a.b/c__d/e-----f:V_1.x-y", "r.example/a.b/c__d/e-----f:V_1.x-y", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_free_ char *text = NULL;
		struct oci_ref r;
		struct err err;

		if (oci_ref_parse(rows[i].text, &r, &err) < 0)
			fail_msg("%s: %s", rows[i].text, err.msg);
		text = oci_ref_text(&r);
		assert_string_equal(text, rows[i].want);
		assert_int_equal(r.local, rows[i].local);
		oci_ref_done(&r);
	}
}

static void test_bad_references(void **state)
{
	static const char *const bad[] = {"", "/", "a/", "/a", "a//b", "UPPER", "a:", "a:-x",
		"a:x y", "a@", "a@sha256:00", "a@sha512:00", "a@" DIGEST "0", "a.example/",
		"Host.Example/x", "host:port/x", "host:/x", "host:123456/x", "-host.x/a", "h..x/a",
		"a/../b", "a/.b", "a/b.", "a___b", "a._b", "[::1/x", "[::1]x/y", "oci://", "a b",
		"a\nb", "http://a/b",
		("localhost" "\x7f")};
	char longer[400] = "r.example/";

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct oci_ref r;
		struct err err;

		if (oci_ref_parse(bad[i], &r, &err) == 0)
			fail_msg("\"%s\" was taken", bad[i]);
		assert_int_equal(err.class, ERR_USER);
	}
	memset(longer + 10, 'a', 256);
	assert_int_equal(oci_ref_parse(longer, &(struct oci_ref){0}, NULL), -1);
}

static void test_pin(void **state)
{
	_free_ char *pin = NULL;
	struct oci_ref r, again;

	assert_int_equal(oci_ref_parse("debian:12", &r, NULL), 0);
	pin = oci_ref_pinned(&r, DIGEST);
	assert_string_equal(pin, "oci://docker.io/library/debian@" DIGEST);
	assert_int_equal(oci_ref_parse(pin, &again, NULL), 0);
	assert_string_equal(again.digest, DIGEST);
	assert_null(again.tag);
	oci_ref_done(&r);
	oci_ref_done(&again);
}

static void test_config(void **state)
{
	static const char text[] =
		"{\"os\": \"linux\", \"architecture\": \"amd64\", \"config\": {\"User\": \"app\","
		"\"WorkingDir\": \"/srv\", \"Env\": [\"PATH=/bin\", \"A=b=c\"], \"Cmd\": [\"x\"],"
		"\"Entrypoint\": [\"/tini\", \"--\"]},"
		"\"rootfs\": {\"type\": \"layers\", \"diff_ids\": [\"" DIGEST "\"]}}";
	struct image_config c;

	assert_int_equal(image_config_parse(text, strlen(text), &c, NULL), 0);
	assert_int_equal(c.entrypoint.n, 2);
	assert_string_equal(c.entrypoint.v[0], "/tini");
	assert_string_equal(c.cmd.v[0], "x");
	assert_string_equal(c.env.v[1], "A=b=c");
	assert_string_equal(c.workdir, "/srv");
	assert_int_equal(c.diff_ids.n, 1);
	assert_string_equal(c.diff_ids.v[0], DIGEST);
	image_config_done(&c);
	/* What is not said is empty. */
	assert_int_equal(image_config_parse("{\"config\": {\"Cmd\": null}}", 25, &c, NULL), 0);
	assert_int_equal(c.entrypoint.n + c.cmd.n + c.env.n + c.diff_ids.n, 0);
	assert_null(c.workdir);
	image_config_done(&c);
	for (size_t i = 0; i < strlen(text); i++)
		assert_int_equal(image_config_parse(text, i, &c, NULL), -1);
}

static void test_bad_config(void **state)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{"[]", "its configuration is no JSON object"},
		{"{\"os\": \"windows\", \"architecture\": \"amd64\"}",
			"made for windows/amd64; this machine runs linux/amd64"},
		{"{\"os\": \"linux\", \"architecture\": \"arm64\"}",
			"made for linux/arm64; this machine runs linux/amd64"},
		{"{\"config\": {\"Env\": \"A=b\"}}",
			"its configuration: Env is not a list of strings"},
		{"{\"config\": {\"Cmd\": [1]}}", "its configuration: Cmd is not a list of strings"},
		{"{\"config\": {\"Cmd\": [\"a\\u0000b\"]}}", "its configuration is no JSON object"},
		{"{\"config\": {\"WorkingDir\": 7}}",
			"its configuration: WorkingDir is not a string"},
		{"{\"rootfs\": {\"diff_ids\": [\"" DIGEST "\", \"sha256:0\"]}}",
			"its configuration: diff_ids[1] is no sha256"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct image_config c;
		struct err err;

		assert_int_equal(
			image_config_parse(rows[i].text, strlen(rows[i].text), &c, &err), -1);
		assert_string_equal(err.msg, rows[i].want);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_references),
		cmocka_unit_test(test_bad_references), cmocka_unit_test(test_pin),
		cmocka_unit_test(test_config), cmocka_unit_test(test_bad_config)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

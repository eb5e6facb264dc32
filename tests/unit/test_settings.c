/* SPDX-License-Identifier: Apache-2.0 */
/* The user's settings file. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/fs.h"
#include "kit/settings.h"

static void test_full(void **state)
{
	static const char text[] =
		"# mine\nengine: qemu\ncpus: 4\nmemory: 4g\ndisk: \"20g\"\n"
		"allow: [\"**.example.com\", 10.0.0.0/8]\ncredentials: [github, npm]\ndeny:\n  - t.example.com\n"
		"resolve:\n  API.hello.test: 127.0.0.1:8443\n  v6.test: \"[::1]:80\"\n"
		"kit:\n  allowedSources: []\n  requireSignature: true\n  trustedKeys: [/k.pub]\n"
		"network:\n  proxy: http://u:p@proxy.test:3128\n  no_proxy: .a.test, 10.0.0.0/8\n"
		"  ca:\n    \"**.corp.test\": /etc/corp.pem\n    git.test:8443: ~/git.pem\n";
	struct kit_errors errs = {0};
	struct settings s;

	assert_int_equal(settings_load_text(text, strlen(text), "s", &s, &errs), 0);
	assert_int_equal(s.engine, SPEC_ENGINE_QEMU);
	assert_int_equal(s.cpus, 4);
	assert_true(s.memory_bytes == 4ULL << 30);
	assert_true(s.disk_bytes == 20ULL << 30);
	assert_int_equal(s.credentials.n, 2);
	assert_string_equal(s.credentials.v[1], "npm");
	assert_int_equal(s.allow.n, 2);
	assert_string_equal(s.allow.v[1], "10.0.0.0/8");
	assert_string_equal(s.deny.v[0], "t.example.com");
	assert_int_equal(s.n_resolves, 2);
	assert_string_equal(s.resolves[0].name, "api.hello.test");
	assert_string_equal(s.resolves[0].address, "127.0.0.1:8443");
	assert_string_equal(s.resolves[1].address, "[::1]:80");
	assert_true(s.kit.limit_sources && !s.kit.allowed_sources.n && s.kit.require_signature);
	assert_string_equal(s.kit.trusted_keys.v[0], "/k.pub");
	assert_string_equal(s.proxy, "http://u:p@proxy.test:3128");
	assert_false(settings_is_no_proxy(s.proxy));
	assert_string_equal(s.no_proxy, ".a.test, 10.0.0.0/8");
	assert_int_equal(s.n_cas, 2);
	assert_string_equal(s.cas[0].target, "**.corp.test");
	assert_string_equal(s.cas[1].file, "~/git.pem");
	settings_done(&s);
	settings_done(&s);
}

static void test_blank(void **state)
{
	static const char *const t[] = {"", "\n\n", "# cpus: 2\n\n  # disk: 1g", "#"};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct kit_errors errs = {0};
		struct settings s = {.cpus = 77};

		assert_int_equal(settings_load_text(t[i], strlen(t[i]), "s", &s, &errs), 0);
		assert_int_equal(s.cpus, 0);
	}
}

static void test_bad(void **state)
{
	static const struct {
		const char *text, *says;
	} t[] = {
		{"--- \n", "s:2:1: empty, expected a map\n"},
		{"[]\n", "s:1:1: a list, expected a map\n"},
		{"network: {proxy: \"http://a b\"}\n", "s:1:18: network.proxy: \"http://a b\", expected "
		 "http://[user:password@]host:port, none or off\n"},
		{"network: {proxies: none}\n", "s:1:11: network.proxies: unknown key, expected one of proxy, no_proxy, "
			"ca\n"},
		{"network:\n  ca: [a]\n", "s:2:7: network.ca: a list, expected a map\n"},
		{"network:\n  ca:\n    a.test: corp.pem\n", "s:3:13: network.ca.a.test: expected an "
			"absolute path, or one from ~/ on\n"},
		{"engin: kvm\n", "s:1:1: engin: unknown key, did you mean engine?\n"},
		{"presets: x\n",
			"s:1:1: presets: unknown key, expected one of engine, cpus, memory, "
			"disk, allow, deny, credentials, resolve, kit, network\n"},
		{"engine: hvf\n", "s:1:9: engine: \"hvf\", expected auto, kvm or qemu\n"},
		{"cpus: 0\n", "s:1:7: cpus: expected a whole number of cores, 1 or more\n"},
		{"cpus: 1.5\n", "s:1:7: cpus: expected a whole number of cores, 1 or more\n"},
		{"cpus: two\n", "s:1:7: cpus: expected a number of cores such as 2 or 0.5, without "
				"quotes\n"},
		{"cpus: [2]\n", "s:1:7: cpus: expected a number of cores such as 2 or 0.5, without "
				"quotes\n"},
		{"memory: big\ndisk: 0\n",
			"s:1:9: memory: \"big\", expected a size such as 512m or 8g\n"
			"s:2:7: disk: YAML takes 0 for a number, expected a string: quote it, "
			"\"0\"\n"},
		{"disk: \"0\"\n", "s:1:7: disk: \"0\", expected a size such as 512m or 8g\n"},
		{"allow: a.test\n", "s:1:8: allow: a string, expected a list of hosts\n"},
		{"resolve: [a]\n", "s:1:10: resolve: a list, expected a map\n"},
		{"resolve:\n  a.test: 127.0.0.1\n", "s:2:11: resolve.a.test: an address with port "
						    "was expected, such as 127.0.0.1:8443\n"},
		{"resolve:\n  a.test: b.test:80\n", "s:2:11: resolve.a.test: an address with port "
						    "was expected, such as 127.0.0.1:8443\n"},
		{"resolve:\n  a.test: 1\n",
			"s:2:11: resolve.a.test: YAML takes 1 for a number, expected an address "
			"with port: quote it, \"1\"\n"},
		{"kit: {allowedSources: [\"git+https://*/a\", example.com]}\n",
			"s:1:24: kit.allowedSources[0]: \"git+https://*/a\", expected oci:// or git+, with * "
			"only at the end\n"
			"s:1:43: kit.allowedSources[1]: \"example.com\", expected oci:// or git+, with * only "
			"at the end\n"},
		{"kit: {trustedKeys: [keys/a.pub]}\n",
			"s:1:21: kit.trustedKeys[0]: \"keys/a.pub\", expected an absolute path\n"},
		{"kit: {requireSignature: true}\n",
			"s:1:6: kit: requireSignature without trustedKeys, so no kit could be used\n"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct kit_errors errs = {0};
		struct settings s;
		char out[2048] = "";
		FILE *f = fmemopen(out, sizeof(out), "w");

		assert_int_equal(
			settings_load_text(t[i].text, strlen(t[i].text), "s", &s, &errs), -1);
		kit_errors_print(&errs, f);
		fclose(f);
		assert_string_equal(out, t[i].says);
		kit_errors_done(&errs);
	}
}

static void test_bad_names(void **state)
{
	static const char *const names[] = {"", "a..b", "1.2.3.4", "*.test", "a b", "-a.test"};
	struct spec_resolve r;
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_int_equal(settings_parse_resolve(names[i], "127.0.0.1:1", &r, &err), -1);
}

static void test_file(void **state)
{
	char dir[] = "/tmp/hutch-test-settings-XXXXXX";
	_free_ char *file = NULL, *want = NULL;
	struct kit_errors errs = {0};
	struct err err = {0};
	struct settings s;

	assert_non_null(mkdtemp(dir));
	setenv("XDG_CONFIG_HOME", dir, 1);
	file = xasprintf("%s/hutch/settings.yaml", dir);
	/* Absent is fine. */
	assert_int_equal(settings_load(NULL, &s, &errs, &err), 0);
	assert_int_equal(s.cpus, 0);
	assert_int_equal(fs_write_file(AT_FDCWD, file, "cpus: 3\n", 8, 0600, NULL), 0);
	assert_int_equal(settings_load(NULL, &s, &errs, &err), 0);
	assert_int_equal(s.cpus, 3);
	settings_done(&s);
	assert_int_equal(fs_write_file(AT_FDCWD, file, "cpu: 3\n", 7, 0600, NULL), 0);
	assert_int_equal(settings_load(NULL, &s, &errs, &err), -1);
	want = xasprintf("settings %s: 1 error", file);
	assert_string_equal(err.msg, want);
	assert_int_equal(errs.v[0].line, 1);
	kit_errors_done(&errs);
	/* One that was named must be there. */
	assert_int_equal(settings_load("/nonexistent/s.yaml", &s, &errs, &err), -1);
	assert_string_equal(err.msg, "settings: /nonexistent/s.yaml: No such file or directory");
	unsetenv("XDG_CONFIG_HOME");
	assert_int_equal(fs_remove_tree(AT_FDCWD, dir, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_blank),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_bad_names),
		cmocka_unit_test(test_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON form of a sandbox: complete, strict, and harmless on any input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "wire/spec.h"

/* Every member set, lists of different lengths. */
static const char full[] =
	"{\"version\":1,\"name\":\"shell-app\",\"agent\":\"shell\",\"kits\":[\"shell\",\"hello\"],"
	"\"engine\":\"qemu\",\"cpus\":2,\"memory_bytes\":2147483648,\"disk_bytes\":17179869184,"
	"\"image\":\"base\",\"layers\":[\"oci://r/x@y\"],\"user\":\"agent\",\"workdir\":\"/w\","
	"\"mounts\":[{\"host_path\":\"/w\",\"guest_path\":\"/w\",\"read_only\":false},"
	"{\"host_path\":\"/r\",\"guest_path\":\"/r\",\"read_only\":true}],"
	"\"env\":[\"A=1\",\"B=\"],\"entrypoint\":[\"bash\"],\"command_default\":[],"
	"\"command_interactive\":[\"-l\"],\"args\":[\"-c\",\"uname -r\"],"
	"\"prepare\":[{\"argv\":[\"m\"],\"user\":\"0\",\"description\":\"\",\"kit\":\"hello\","
	"\"background\":false}],"
	"\"install\":[{\"argv\":[\"sh\",\"-c\",\"x\"],\"user\":\"0\",\"description\":\"d\","
	"\"kit\":\"hello\",\"background\":false,\"bounded\":true,\"done\":true}],"
	"\"startup\":[{\"argv\":[\"y\"],\"user\":\"1000\",\"description\":\"\","
	"\"kit\":\"hello\",\"background\":true}],"
	"\"files\":[{\"path\":\"/f\",\"content\":\"l\\u00e9\\n\",\"kit\":\"hello\",\"mode\":420,"
	"\"only_if_missing\":true,\"as_root\":true}],"
	"\"home_trees\":[{\"dir\":\"0-home\",\"dest\":\"/home/agent\",\"source\":\"/k/files/home\","
	"\"kit\":\"hello\",\"args\":[\"a=b\"]}],\"workspace_trees\":[],"
	"\"ports\":[{\"container\":8080,\"udp\":true,\"name\":\"web\",\"kit\":\"hello\"},"
	"{\"container\":80,\"udp\":false,\"name\":\"\",\"kit\":\"user\",\"host\":8000}],"
	"\"volumes\":[{\"path\":\"/"
	"v\",\"kit\":\"hello\",\"tmpfs\":true,\"size_bytes\":7,\"mode\":448},"
	"{\"path\":\"/w\",\"kit\":\"hello\",\"tmpfs\":false,\"size_bytes\":0,\"zero_size\":true,"
	"\"zero_mode\":true,\"retained\":true}],"
	"\"network\":{\"rules\":[{\"allow\":true,\"target\":\"a.test:443\",\"source\":\"kit "
	"hello\"}],"
	"\"credentials\":[{\"service\":\"hello\",\"env\":\"K\",\"kit\":\"hello\",\"required\":true,"
	"\"injects\":[{\"domain\":\"a.test:443\",\"header\":\"Authorization\","
	"\"format\":\"Bearer %s\",\"username\":null},{\"domain\":\"b.test\","
	"\"header\":\"Authorization\",\"format\":\"Basic %s\",\"username\":\"u\"}]}],"
	"\"resolves\":[{\"name\":\"a.test\",\"address\":\"127.0.0.1:8443\"}]},"
	"\"remove_on_exit\":true,\"strict\":true,\"cache_key\":\"\",\"generation\":3,"
	"\"selection\":[{\"kit\":\"hello\",\"path\":\"capabilities[0]\",\"optional\":true,"
	"\"types\":[\"t\"],\"members\":[\"capabilities[0]\"],\"rejected\":[\"capabilities[0]\"]}],"
	"\"git_name\":\"n\",\"git_email\":\"e\",\"made_with\":[\"--kit=hello\",\"shell\"],\"made_"
	"in\":\"/w\","
	"\"origins\":[{\"what\":\"env A\",\"from\":\"kit hello\"}]}";

static json_t *parse(const char *text)
{
	json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

	assert_non_null(j);
	return j;
}

static void test_round_trip(void **state)
{
	json_t *in = parse(full), *out;
	struct box_spec s;
	struct err err = {0};

	assert_int_equal(spec_from_json(in, &s, &err), 0);
	assert_string_equal(s.name, "shell-app");
	assert_int_equal(s.engine, SPEC_ENGINE_QEMU);
	assert_int_equal(s.cpus, 2);
	assert_true(s.memory_bytes == 2147483648ULL);
	assert_int_equal(s.n_mounts, 2);
	assert_true(s.mounts[1].read_only);
	assert_string_equal(s.args.v[1], "uname -r");
	assert_null(s.args.v[2]);
	assert_int_equal(s.n_install, 1);
	assert_string_equal(s.install[0].argv.v[2], "x");
	assert_true(s.startup[0].background);
	assert_string_equal(s.files[0].content, "l\xc3\xa9\n");
	assert_int_equal(s.files[0].mode, 0644);
	assert_int_equal(s.n_workspace_trees, 0);
	assert_int_equal(s.net.credentials[0].n_injects, 2);
	assert_null(s.net.credentials[0].injects[0].username);
	assert_string_equal(s.net.credentials[0].injects[1].username, "u");
	assert_true(s.remove_on_exit);
	assert_true(s.strict);
	out = spec_to_json(&s);
	assert_non_null(out);
	assert_true(json_equal(in, out));
	json_decref(out);
	out = spec_net_to_json(&s.net);
	assert_true(json_equal(out, json_object_get(in, "network")));
	json_decref(out);
	json_decref(in);
	spec_done(&s);
	assert_null(s.name);
	spec_done(&s); /* twice is fine */
}

static void test_empty_spec_encodes(void **state)
{
	struct box_spec s = {.name = xstrdup("x")}, back;
	json_t *j = spec_to_json(&s);
	struct err err = {0};

	assert_non_null(j);
	assert_int_equal(spec_from_json(j, &back, &err), 0);
	assert_string_equal(back.workdir, "");
	spec_done(&back);
	spec_done(&s);
	json_decref(j);
}

static void test_not_utf8(void **state)
{
	struct box_spec s = {.name = xstrdup("x"), .workdir = xstrdup("/\xff")};

	assert_null(spec_to_json(&s));
	free(s.workdir);
	s.workdir = NULL;
	strv_add(&s.env, "A=\xc3");
	assert_null(spec_to_json(&s));
	spec_done(&s);
}

/* Each: @path in the full object is replaced by @value (NULL: removed; absent key: added). */
static void test_strict(void **state)
{
	static const struct {
		const char *path[4], *value, *msg;
	} t[] = {
		{{"version"}, "2", "version: 1 expected"},
		{{"version"}, NULL, "version: 1 expected"},
		{{"version"}, "\"1\"", "version: 1 expected"},
		{{"extra"}, "1", "extra: unknown key"},
		{{"bad\x1b key"}, "1", "bad? key: unknown key"},
		{{"name"}, NULL, "name: missing"},
		{{"network", "learn"}, "false", "network: learn: says nothing"},
		{{"name"}, "\"../x\"", "name: not a sandbox name"},
		{{"name"}, "\"\"", "name: not a sandbox name"},
		{{"name"}, "null", "name: a string expected"},
		{{"engine"}, "\"hvf\"", "engine: auto, kvm or qemu expected"},
		{{"engine"}, "1", "engine: auto, kvm or qemu expected"},
		{{"cpus"}, "-1", "cpus: a whole number in range expected"},
		{{"cpus"}, "4294967296", "cpus: a whole number in range expected"},
		{{"cpus"}, "2.0", "cpus: a whole number in range expected"},
		{{"env"}, "{}", "env: a list of strings expected"},
		{{"env"}, "[\"a\",1]", "env: [1]: a string expected"},
		{{"mounts"}, "{}", "mounts: a list expected"},
		{{"mounts"}, "[[]]", "mounts: [0]: an object expected"},
		{{"mounts", "1", "read_only"}, "0",
			"mounts: [1]: read_only: true or false expected"},
		{{"mounts", "0", "x"}, "0", "mounts: [0]: x: unknown key"},
		{{"network"}, "[]", "network: an object expected"},
		{{"network", "credentials", "0", "env"}, NULL,
			"network: credentials: [0]: env: missing"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		json_t *j = parse(full), *at = j, *v;
		struct box_spec s;
		struct err err = {0};
		size_t k = 0;

		for (; k < 3 && t[i].path[k + 1]; k++)
			at = json_is_array(at) ? json_array_get(at, strtoul(t[i].path[k], NULL, 10))
					       : json_object_get(at, t[i].path[k]);
		if (t[i].value) {
			v = json_loads(t[i].value, JSON_DECODE_ANY, NULL);
			assert_int_equal(json_object_set_new(at, t[i].path[k], v), 0);
		} else {
			json_object_del(at, t[i].path[k]);
		}
		assert_int_equal(spec_from_json(j, &s, &err), -1);
		assert_string_equal(err.msg, t[i].msg);
		assert_int_equal(err.class, ERR_PEER);
		spec_done(&s);
		json_decref(j);
	}
}

static void test_not_an_object(void **state)
{
	json_t *j = parse("[]");
	struct box_spec s;
	struct spec_net n;
	struct err err = {0};

	assert_int_equal(spec_from_json(j, &s, &err), -1);
	spec_done(&s);
	assert_int_equal(spec_net_from_json(j, &n, &err), -1);
	spec_net_done(&n);
	json_decref(j);
}

static void test_long_list_refused(void **state)
{
	json_t *j = parse(full), *a = json_array();
	struct box_spec s;
	struct err err = {0};

	for (int i = 0; i < 4097; i++)
		json_array_append_new(a, json_string(""));
	json_object_set_new(j, "args", a);
	assert_int_equal(spec_from_json(j, &s, &err), -1);
	assert_string_equal(err.msg, "args: a list of strings expected");
	spec_done(&s);
	json_decref(j);
}

static void test_names(void **state)
{
	char long_name[66];

	assert_true(spec_name_valid("a"));
	assert_true(spec_name_valid("0-9"));
	assert_true(spec_name_valid("shell-my-app2"));
	assert_false(spec_name_valid(""));
	assert_false(spec_name_valid("-a"));
	assert_false(spec_name_valid("a-"));
	assert_false(spec_name_valid("A"));
	assert_false(spec_name_valid("a_b"));
	assert_false(spec_name_valid("a/b"));
	assert_false(spec_name_valid(".."));
	memset(long_name, 'a', 65);
	long_name[65] = '\0';
	assert_false(spec_name_valid(long_name));
	long_name[64] = '\0';
	assert_true(spec_name_valid(long_name));
}

static void test_engine_names(void **state)
{
	assert_string_equal(spec_engine_name(SPEC_ENGINE_AUTO), "auto");
	assert_string_equal(spec_engine_name(SPEC_ENGINE_KVM), "kvm");
	assert_string_equal(spec_engine_name((enum spec_engine)9), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_empty_spec_encodes),
		cmocka_unit_test(test_not_utf8),
		cmocka_unit_test(test_strict),
		cmocka_unit_test(test_not_an_object),
		cmocka_unit_test(test_long_list_refused),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_engine_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

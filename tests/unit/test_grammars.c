/* SPDX-License-Identifier: Apache-2.0 */
/* Kits: the parts of "2" beside the basics, arguments, "1", "3", and kits that go together. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fs.h"
#include "kit/oauth_file.h"
#include "kit/plan.h"

#define SANDBOX "schemaVersion: \"2\"\nkind: sandbox\nname: k\nsandbox:\n  image: base\n"
#define MIXIN   "schemaVersion: \"2\"\nkind: mixin\nname: m\n"
#define ONE     "schemaVersion: \"1\"\nkind: mixin\nname: m\n"
#define THREE   "schemaVersion: \"3\"\nkind: mixin\n"

struct c {
	const char *text;
	const char *says; /* all that is printed; "" for a clean load */
	bool ok;
};

static struct kit load(const char *text, struct kit_inputs *in)
{
	struct kit_errors errs = {0};
	struct kit k;

	if (kit_load_text(text, strlen(text), "k", in, &k, &errs) < 0) {
		kit_errors_print(&errs, stderr);
		fail_msg("does not load: %s", text);
	}
	kit_errors_done(&errs);
	return k;
}

static void run(const struct c *c, struct kit_inputs *in)
{
	struct kit_errors errs = {0};
	char out[16384] = "";
	FILE *f = fmemopen(out, sizeof(out), "w");
	struct kit k;
	int rc = kit_load_text(c->text, strlen(c->text), "k", in, &k, &errs);

	kit_errors_print(&errs, f);
	fclose(f);
	if (strcmp(out, c->says) != 0)
		print_error("--- input\n%s\n--- printed\n%s\n--- expected\n%s\n", c->text, out,
			c->says);
	assert_string_equal(out, c->says);
	assert_int_equal(rc, c->ok ? 0 : -1);
	if (rc == 0)
		kit_done(&k);
	kit_errors_done(&errs);
}

#define RUN_ALL(cases, in)                                                                         \
	for (size_t i_ = 0; i_ < ARRAY_SIZE(cases); i_++)                                          \
	run(&(cases)[i_], in)

/* ---- "2" ---- */

static void test_identity(void **state)
{
	static const struct c t[] = {
		{SANDBOX "locked: [sandbox.image, permissions]\n", "", true},
		{SANDBOX "locked: [sandbox.image, sandbox.image]\n",
			"k:6:25: locked[1]: twice in the list\n"},
		{SANDBOX "locked: [Sandbox, a..b, \"a.\", a-b]\n",
			"k:6:10: locked[0]: \"Sandbox\", expected a dotted path such as "
			"sandbox.image\n"
			"k:6:19: locked[1]: \"a..b\", expected a dotted path such as "
			"sandbox.image\n"
			"k:6:25: locked[2]: \"a.\", expected a dotted path such as sandbox.image\n"
			"k:6:31: locked[3]: \"a-b\", expected a dotted path such as "
			"sandbox.image\n"},
		{SANDBOX "security: {privileged: \"yes\"}\n",
			"k:6:24: security.privileged: a string, expected true or false, without "
			"quotes\n"},
		{SANDBOX "extends: shell\nmixins: [github, ./local, \"../up\"]\n", "", true},
		{SANDBOX "mixins: [\"oci://r.test/a:1\", \"git+https://r.test/a#ref=main\"]\n",
			"k:6:10: mixins[0]: \"oci://r.test/a:1\", expected a pinned reference, "
			"oci://HOST/NAME@sha256:<64 hexadecimal digits>\n"
			"k:6:30: mixins[1]: \"git+https://r.test/a#ref=main\", expected a pinned "
			"reference, git+https://HOST/PATH#ref=<40 hexadecimal digits>\n"},
		{"schemaVersion: \"2\"\nkind: sandbox\nname: k\nextends: shell\nsandbox: {}\n", "",
			true},
		{"schemaVersion: \"2\"\nkind: sandbox\nname: k\nsandbox: {build: {}}\n",
			"k:4:10: sandbox: image is missing, next to build it is needed, too\n"
			"k:4:11: warning: sandbox.build: is not built, sandbox.image is used as it "
			"is\n"},
	};

	RUN_ALL(t, NULL);
}

static void test_ports_volumes(void **state)
{
	static const struct c t[] = {
		{MIXIN "ports: [{container: 0}]\n",
			"k:4:21: ports[0].container: expected a port number from 1 to 65535, "
			"without quotes\n"},
		{MIXIN "ports:\n  - {container: 65536, protocol: sctp}\n  - {name: x}\n"
		       "  - container: \"80\"\n",
			"k:5:17: ports[0].container: expected a port number from 1 to 65535, "
			"without quotes\n"
			"k:5:34: ports[0].protocol: expected tcp or udp\n"
			"k:6:5: ports[1]: container is missing\n"
			"k:7:16: ports[2].container: expected a port number from 1 to 65535, "
			"without quotes\n"},
		{MIXIN "ports:\n  - {container: 80}\n  - {container: 80, protocol: udp}\n"
		       "  - {container: 80, protocol: tcp}\n",
			"k:7:17: ports[2].container: twice in this kit\n"},
		{MIXIN "volumes: [{path: /v}, {path: /t, type: tmpfs, size: 1g, mode: \"1777\"}]\n",
			"", true},
		{MIXIN "volumes: [{path: v}, {path: /../v}, {path: /v, type: block}]\n",
			"k:4:18: volumes[0].path: \"v\", expected an absolute path without . and "
			".. "
			"in it\n"
			"k:4:29: volumes[1].path: \"/../v\", expected an absolute path without . "
			"and .. in it\n"
			"k:4:54: volumes[2].type: expected tmpfs, or no type for a volume on the "
			"disk\n"},
		{MIXIN "volumes: [{path: /v, size: 1m}, {path: /w, size: 1023k}]\n",
			"k:4:50: volumes[1].size: a volume on the disk has at least 1m\n"},
		{MIXIN "volumes: [{path: /v}, {path: /v}]\n",
			"k:4:30: volumes[1].path: twice in this kit\n"},
		{MIXIN "volumes: [{path: /v, size: lots, mode: \"9\"}]\n",
			"k:4:28: volumes[0].size: \"lots\", expected a size such as 512m or 8g\n"
			"k:4:40: volumes[0].mode: \"9\", expected an octal file mode such as "
			"0644\n"},
	};

	RUN_ALL(t, NULL);
}

#define OAUTH(rest) MIXIN "credentials:\n  - service: s\n    oauth:\n" rest

static void test_oauth(void **state)
{
	static const struct c t[] = {
		{OAUTH("      tokenEndpoint: {host: a.test, path: /t}\n"
		       "      sentinels: {accessToken: a-access, refreshToken: a-refresh}\n"
		       "      responseFields: {accessToken: a.b, scope: s}\n"
		       "      credentialFile: {path: ~/.x/y.json, structure: {a: {b: "
		       "'{{.AccessToken}}'}}}\n"),
			"", true},
		{OAUTH("      tokenEndpoint: {host: a.test, path: /t}\n"
		       "      sentinels: {}\n      passthrough: true\n"),
			"k:9:7: warning: credentials[0].oauth.passthrough: lets the sandbox see "
			"the tokens of this service\n",
			true},
		{OAUTH("      tokenEndpoint: {host: a.test, path: /t}\n"
		       "      sentinels: {accessToken: \"a b c\", refreshToken: abc}\n"
		       "      credentialFile: {path: /x}\n"),
			"k:8:32: credentials[0].oauth.sentinels.accessToken: \"a b c\", expected 4 "
			"to 4000 characters without blanks, quotes and backslashes\n"
			"k:8:55: credentials[0].oauth.sentinels.refreshToken: \"abc\", expected 4 "
			"to 4000 characters without blanks, quotes and backslashes\n"
			"k:9:23: credentials[0].oauth.credentialFile: structure is missing\n"},
		{OAUTH("      tokenEndpoint: {host: a.test, path: /t}\n"
		       "      sentinels: {accessToken: same, refreshToken: same}\n"
		       "      credentialFile: {path: /x, template: \"{{.Scopes}} {{if}}\"}\n"),
			"k:8:18: credentials[0].oauth.sentinels: both are the same\n"
			"k:9:34: warning: credentials[0].oauth.credentialFile.template: is "
			"deprecated, today it is structure\n"
			"k:9:44: credentials[0].oauth.credentialFile.template: an unknown "
			"placeholder, expected {{.AccessToken}}, {{.RefreshToken}}, "
			"{{.ExpiresAt}} or {{.Scopes}}\n"},
		{OAUTH("      tokenEndpoint: {host: a.test, path: t}\n"
		       "      sentinels: {accessToken: abcd}\n"
		       "      credentialFile: {path: x, structure: {a: '{{.Nope}}'}}\n"),
			"k:7:43: credentials[0].oauth.tokenEndpoint.path: \"t\", expected a path "
			"such as /token\n"
			"k:8:18: credentials[0].oauth.sentinels: refreshToken is missing\n"
			"k:9:30: credentials[0].oauth.credentialFile.path: \"x\", expected an "
			"absolute path, or one that begins with ~/\n"
			"k:9:48: credentials[0].oauth.credentialFile.structure.a: an unknown "
			"placeholder, expected {{.AccessToken}}, {{.RefreshToken}}, "
			"{{.ExpiresAt}} or {{.Scopes}}\n"},
	};

	RUN_ALL(t, NULL);
}

static void expect_file(const char *file, bool toml, const char *expected)
{
	const struct oauth_file_values v = {"acc\"ess", "refresh", 1700000000123, "a b"};
	_free_ char *text = xasprintf(
		"schemaVersion: \"3\"\nkind: mixin\ncapabilities:\n"
		"  - type: com.docker.sandbox/credential@1\n    config:\n      service: s\n"
		"      phase: runtime\n      oauth:\n"
		"        tokenEndpoint: {host: a.test, path: /t}\n"
		"        sentinels: {accessToken: a-access, refreshToken: a-refresh}\n"
		"        credentialFile: {path: /x, %sstructure: %s}\n",
		toml ? "format: toml, " : "", file);
	struct kit k = load(text, NULL);
	const struct kit_oauth *o = &k.credentials[0].oauth;
	_free_ char *got = oauth_file_fill(o->file_text, o->file_verbatim, &v);

	assert_string_equal(got, expected);
	kit_done(&k);
}

static void test_oauth_file(void **state)
{
	static const struct oauth_file_values v = {"access", "refresh", 5, "a b"};
	_free_ char *verbatim = NULL;

	expect_file("{a: '{{.AccessToken}}', b: {e: '{{.ExpiresAt}}', s: '{{.Scopes}}'}, n: 1.5, "
		    "t: true, x: null, q: \"12\", m: 'r={{.RefreshToken}};{{.ExpiresAt}}'}",
		false,
		"{\n  \"a\": \"acc\\\"ess\",\n  \"b\": {\n    \"e\": 1700000000123,\n    \"s\": "
		"[\"a\",\"b\"]\n  },\n  \"n\": 1.5,\n  \"t\": true,\n  \"x\": null,\n  \"q\": "
		"\"12\",\n  \"m\": \"r=refresh;1700000000123\"\n}");
	expect_file("{b: {e: '{{.ExpiresAt}}', c: {d: [1, 2]}}, a: '{{.AccessToken}}', t: false, p: "
		    "'{{.PrimaryApiKey}}'}",
		true,
		"\"a\" = \"acc\\\"ess\"\n\"t\" = false\n\"p\" = \"\"\n\n[\"b\"]\n\"e\" = "
		"1700000000123\n\n[\"b\".\"c\"]\n\"d\" = [1,2]\n");
	verbatim = oauth_file_fill("t={{.AccessToken}} \"{{.ExpiresAt}}\" {{.Scopes}} {{", true, &v);
	assert_string_equal(verbatim, "t=access \"5\" a b {{");
}

/* ---- arguments ---- */

#define ARGS(decl, rest) MIXIN "args:\n" decl rest

static void test_declarations(void **state)
{
	static const struct c t[] = {
		{ARGS("  a: {default: \"\"}\n  b-c: {default: x, enum: [x, y]}\n", ""), "", true},
		{ARGS("  a: {}\n", ""), "k:5:6: args.a: default is missing, or required: true\n"},
		{ARGS("  a: {default: x, required: true}\n", ""),
			"k:5:7: args.a.default: next to required: true, only one of the two is "
			"allowed\n"},
		{ARGS("  1a: {default: x}\n", ""),
			"k:5:3: args.1a: not the name of an argument, expected letters, digits, _ "
			"and -, beginning with a letter or _\n"},
		{ARGS("  a: {default: z, enum: [x, y]}\n", ""),
			"k:5:16: args.a.default: not allowed as default: not one of its enum\n"},
		{ARGS("  a: {default: z, enum: [x, x]}\n", ""),
			"k:5:16: args.a.default: not allowed as default: not one of its enum\n"
			"k:5:29: args.a.enum[1]: twice in the list\n"},
		{ARGS("  a: {default: z, pattern: '[0-9]+'}\n", ""),
			"k:5:16: args.a.default: not allowed as default: it does not match the "
			"pattern\n"},
		{ARGS("  a: {default: z, pattern: '(a'}\n", ""),
			"k:5:28: args.a.pattern: the pattern has a ( without ), expected RE2 "
			"syntax\n"},
		{ARGS("  a: {default: z, pattern: z, enum: [z]}\n", ""),
			"k:5:31: args.a.enum: next to pattern, only one of the two is allowed\n"},
		{ARGS("  a: {default: 1.20}\n", ""),
			"k:5:16: args.a.default: YAML takes 1.20 for a number, expected a string: "
			"quote it, \"1.20\"\n"},
		{ARGS("  a: {default: x, type: string}\n", ""),
			"k:5:19: args.a.type: unknown key, expected one of default, required, "
			"description, enum, pattern\n"},
		{ARGS("  a: {default: \"${{ kit.args.b }}\"}\n  b: {default: x}\n", ""),
			"k:4:1: args: refers to an argument in line 5, expected plain values "
			"here\n"},
		{MIXIN "description: ${{ kit.args.a }}\n",
			"k:4:14: the argument a is not declared, expected it under args\n"},
		{ARGS("  a: {default: x}\n", "description: ${{ kit.args.a }\n"),
			"k:6:14: a broken reference, expected ${{ kit.args.NAME }}\n"},
	};

	RUN_ALL(t, NULL);
}

/* Errors are where the user wrote them, whatever the values did to the text. */
static void test_places(void **state)
{
	static const struct c t[] = {
		{ARGS("  a: {default: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx}\n  b: {default: \"\"}\n",
			 "description: \"${{ kit.args.a }}\"\nnope: 1\n"),
			"k:8:1: nope: unknown key, did you mean name?\n"},
		{ARGS("  a: {default: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx}\n",
			 "permissions: {network: {allow: [\"${{ kit.args.a }}.test\", \"a "
			 "b\"]}}\n"),
			"k:6:59: permissions.network.allow[1]: rule has a blank or control "
			"character at position 2: expected HOST, HOST:PORT, HOST:80-443, HOST:*, "
			"*.HOST, **.HOST, 10.0.0.0/8 or **\n"},
		{ARGS("  a: {default: \"1.20\"}\n", "version: ${{ kit.args.a }}\n"),
			"k:6:10: version: YAML takes 1.20 for a number, expected a string: quote "
			"it, \"1.20\"\n"},
		{ARGS("  a: {default: \"1.20\"}\n", "version: \"${{ kit.args.a }}\"\n"), "", true},
		{ARGS("  a: {default: \"8080\"}\n", "ports: [{container: ${{kit.args.a}}}]\n"),
			"", true},
		{ARGS("  a: {default: \"l1\\nnope: 1\"}\n", "description: ${{ kit.args.a }}\n"
							    "kimd: 2\n"),
			"k:6:14: nope: unknown key, did you mean name?\n"
			"k:7:1: kimd: unknown key, did you mean kind?\n"},
	};

	RUN_ALL(t, NULL);
}

static void test_values(void **state)
{
	static const char text[] = ARGS("  a: {required: true, pattern: '[a-z]+'}\n"
					"  b: {default: one, enum: [one, two]}\n",
		"environment: {variables: {A: \"${{ kit.args.a }}\", B: \"${{kit.args.b}}-x\"}}\n");
	struct kit_inputs in = {0};
	struct err err;
	struct kit k;

	run(&(struct c){text, "k:5:3: args.a: has no value, expected --kit-arg m.a=VALUE\n"}, &in);
	assert_int_equal(kit_inputs_add(&in, "a=abc", &err), 0);
	k = load(text, &in);
	assert_string_equal(k.vars[0].value, "abc");
	assert_string_equal(k.vars[1].value, "one-x");
	assert_false(k.placeholders);
	kit_done(&k);
	/* A named kit wins over any, the later value over the earlier. */
	kit_inputs_add(&in, "m.a=named", &err);
	kit_inputs_add(&in, "a=later", &err);
	kit_inputs_add(&in, "m.b=two", &err);
	kit_inputs_add(&in, "other.b=three", &err);
	k = load(text, &in);
	assert_string_equal(k.vars[0].value, "named");
	assert_string_equal(k.vars[1].value, "two-x");
	kit_done(&k);
	assert_int_equal(kit_inputs_check_used(&in, &err), -1);
	assert_string_equal(err.msg, "argument other.b: no kit here declares it");
	kit_inputs_add(&in, "m.a=ABC", &err);
	run(&(struct c){text, "k:5:3: args.a: \"ABC\" is not allowed: it does not match the "
			      "pattern\n"},
		&in);
	kit_inputs_done(&in);
	assert_int_equal(kit_inputs_add(&in, "novalue", &err), -1);
	assert_int_equal(kit_inputs_add(&in, "=x", &err), -1);

	in.placeholders = true;
	k = load(text, &in);
	assert_true(k.placeholders);
	assert_int_equal(k.n_vars, 1); /* A is not known */
	kit_done(&k);
}

/* ---- "1" ---- */

static void test_one(void **state)
{
	static const struct c t[] = {
		{ONE, "", true},
		{"schemaVersion: \"1\"\nkind: agent\nname: k\n",
			"k:1:1: agent is missing, kind agent needs it\n"
			"k:2:1: warning: kind: of schemaVersion \"1\", today it is sandbox\n"},
		{ONE "permissions: {}\n",
			"k:4:1: permissions: not a key of schemaVersion \"1\", there it is "
			"network\n"},
		{ONE "network: {allowedDomains: [a.test], deniedDomains: [a.test]}\n",
			"k:4:1: warning: network: of schemaVersion \"1\", today it is "
			"permissions.network and credentials\n"
			"k:4:53: network.deniedDomains[0]: allowed in line 4\n"},
		{ONE "credentials: {sources: {s: {}}}\n",
			"k:4:1: warning: credentials: of schemaVersion \"1\", today it is a list\n"
			"k:4:28: credentials.sources.s: env is missing, or file\n"},
		{ONE "memory: a\nagentContext: b\n",
			"k:4:1: warning: memory: of schemaVersion \"1\", today it is "
			"agentInstructions.content\n"
			"k:5:1: warning: agentContext: of schemaVersion \"1\", today it is "
			"agentInstructions.content\n"
			"k:5:1: agentContext: the instructions are set twice, memory and "
			"agentContext\n"},
		{ONE "settings: {x: 1}\nkitDir: x\n",
			"k:4:1: warning: settings: has no effect\n"
			"k:5:1: warning: kitDir: has no effect\n",
			true},
		{ONE "network: {serviceDomains: {a.test: s}, serviceAuth: {s: {headerName: X}}}\n",
			"k:4:1: warning: network: of schemaVersion \"1\", today it is "
			"permissions.network and credentials\n"
			"k:4:28: warning: network.serviceDomains.a.test: has no effect, "
			"network.serviceAuth does not say how to send service s\n"
			"k:4:57: network.serviceAuth.s: valueFormat is missing\n"},
	};

	RUN_ALL(t, NULL);
}

static void test_one_folds(void **state)
{
	static const char text[] =
		"schemaVersion: \"1\"\nkind: agent\nname: k\n"
		"agent:\n  template: base\n  aiFilename: A.md\n  resources: {memoryMB: 512}\n"
		"  entrypoint: {run: [a, b], args: [c], ttyArgs: [d]}\n"
		"network:\n  allowedDomains: [a.test, b.test]\n  deniedDomains: [c.test]\n"
		"  serviceDomains: {a.test: My_Svc, b.test: My_Svc}\n"
		"  serviceAuth: {My_Svc: {headerName: X-Key, valueFormat: \"k %s\"}}\n"
		"  publishedPorts: [{container: 80}]\n"
		"credentials: {sources: {My_Svc: {env: [ONE, TWO], priority: env-first}}}\n"
		"environment: {variables: {V: v}, proxyManaged: [TWO, THREE]}\n"
		"commands:\n  install: [{command: x}]\n  startup: [{command: [y]}]\n"
		"  initFiles: [{path: /f, content: z}]\n"
		"tmpfs: [/t, {path: /u, size: 1m}]\nvolumes: {data: {path: /d}}\n"
		"agentContext: text\n";
	struct kit k = load(text, NULL);

	assert_int_equal(k.schema, 1);
	assert_int_equal(k.kind, KIT_SANDBOX);
	assert_string_equal(k.sandbox.image, "base");
	assert_string_equal(k.sandbox.entrypoint.v[1], "b");
	assert_string_equal(k.sandbox.command_default.v[0], "c");
	assert_string_equal(k.sandbox.command_interactive.v[0], "d");
	assert_true(k.sandbox.memory_bytes == 512ULL << 20);
	assert_string_equal(k.instructions_filename, "A.md");
	assert_string_equal(k.instructions, "text");
	assert_int_equal(k.n_rules, 3);
	assert_int_equal(k.n_credentials, 1);
	assert_string_equal(k.credentials[0].service, "my-svc");
	assert_string_equal(k.credentials[0].env, "TWO"); /* the placeholder one */
	assert_int_equal(k.credentials[0].n_injects, 2);
	assert_string_equal(k.credentials[0].injects[1].domain, "b.test");
	assert_string_equal(k.credentials[0].injects[1].format, "k %s");
	assert_int_equal(k.n_vars, 2);
	assert_string_equal(k.vars[1].name, "THREE");
	assert_string_equal(k.vars[1].value, "proxy-managed");
	assert_int_equal(k.n_install + k.n_startup + k.n_files + k.n_ports, 4);
	assert_int_equal(k.n_volumes, 3);
	assert_true(k.volumes[0].tmpfs && k.volumes[1].tmpfs && !k.volumes[2].tmpfs);
	kit_done(&k);
}

/* ---- "3" ---- */

#define CAP(type, config)                                                                          \
	THREE "capabilities:\n  - type: com.docker.sandbox/" type "\n    config: " config "\n"

static void test_three(void **state)
{
	static const struct c t[] = {
		{THREE, "", true},
		{THREE "name: x\n",
			"k:3:1: name: not a key of schemaVersion \"3\", today it is the "
			"reference that the kit is used by\n"},
		{"schemaVersion: \"3\"\nkind: set\n",
			"k:1:1: a set without kits, expected at least "
			"one\n"},
		{"schemaVersion: \"3\"\nkind: set\nkits: [{ref: ./here}, {ref: r.test/a/b:1, "
		 "digest: x}]\n",
			"k:3:14: kits[0].ref: \"./here\", expected a reference in a registry, such "
			"as registry.example.com/kits/x:1.0\n"
			"k:3:51: kits[1].digest: \"x\", expected sha256: and 64 hexadecimal "
			"digits\n"},
		{THREE "build: FROM x\ndockerfile: y\n",
			"k:4:1: dockerfile: next to build, only one of the two is allowed\n"},
		{THREE "iconUrl: http://a.test/i.png\n",
			"k:3:10: iconUrl: \"http://a.test/i.png\", expected an https URL\n"},
		{THREE "version: v1\n",
			"k:3:10: version: \"v1\", expected a version such as 1.4.2, "
			"without a leading v\n"},
		{THREE "provides: [a, \"b@1.2\", com.example/c, \"python-3.14@3\"]\n"
		       "requires: [\"a >= 1, < 2.0\", b]\nintegrates: [\"x = 1\"]\nconflicts: "
		       "[y]\n",
			"", true},
		{THREE "provides: [A, deb/bash, x/y, a@v1, a, a]\n",
			"k:3:12: provides[0]: \"A\", expected a name of lower-case letters, "
			"digits, "
			"hyphens, dots and pluses\n"
			"k:3:15: provides[1]: \"deb/bash\", deb/ and apk/ are derived from the "
			"image's packages, never written\n"
			"k:3:25: provides[2]: \"x/y\", expected a namespace of yours, such as "
			"com.example/\n"
			"k:3:30: provides[3]: \"a@v1\", expected a version such as 1.4.2 after @\n"
			"k:3:36: provides[4]: twice in the list\n"
			"k:3:39: provides[5]: twice in the list\n"},
		{THREE "requires: [\"a ~ 1\", \"a >=\", \"b >= 1,\"]\n",
			"k:3:12: requires[0]: \"a ~ 1\", expected NAME, or NAME >= VERSION with "
			">=, >, <=, < or =\n"
			"k:3:21: requires[1]: \"a >=\", expected a version such as 1.4.2, without "
			"a leading v\n"
			"k:3:21: requires[1]: twice in the list\n"
			"k:3:29: requires[2]: \"b >= 1,\", ends with a comma\n"},
		{THREE "args: {x: {default: a}}\nrequires: [\"${{ kit.args.x }}\"]\n",
			"k:4:12: requires[0]: refers to an argument, allowed in provides and "
			"version only\n"},
		{THREE "args: {x-y: {default: a}, z: {default: b, env: A, buildArg: B}}\n",
			"k:3:8: args.x-y: not the name of an argument, expected letters, digits "
			"and _, beginning with a letter or _\n"
			"k:3:51: args.z.buildArg: next to env, an argument is for one of the "
			"two\n"},
		/* A published kit has the value of its build where it refers to it. */
		{THREE "args: {v: {required: true, buildArg: V}}\nprovides: [a@1.2]\n", "", true},
		{THREE "args: {v: {required: true, buildArg: V}}\nprovides: [\"a@${{ kit.args.v "
		       "}}\"]\n",
			"k:4:12: provides[0]: the argument v has no value, expected --kit-arg "
			"k.v=VALUE\n"},
	};

	RUN_ALL(t, NULL);
}

static void test_capabilities(void **state)
{
	static const struct c t[] = {
		{THREE "capabilities:\n  - type: com.example/gpu@1\n",
			"k:4:11: capabilities[0].type: the kit requires com.example/gpu@1, which "
			"Hutch does not know; optional: true would let it go without\n"},
		{THREE "capabilities:\n  - type: com.example/gpu@1\n    optional: true\n"
		       "    config: {any: thing}\n",
			"k:4:5: warning: capabilities[0].type: unknown here and optional, so it is "
			"skipped\n",
			true},
		{THREE "capabilities:\n  - type: gpu\n",
			"k:4:11: capabilities[0].type: \"gpu\", expected a type such as "
			"com.docker.sandbox/volume@1\n"},
		{CAP("network-policy@1", "{runtime: {allow: [a.test], denny: []}}"),
			"k:5:41: capabilities[0].config.runtime.denny: unknown key, did you mean "
			"deny?\n"},
		{CAP("network-policy@2", "{runtime: {allow: [a.test, {hosts: [\"*.b.test\"], "
					 "methods: [GET]}]}}"),
			"k:5:40: capabilities[0].config.runtime.allow[1]: methods or paths for a "
			"pattern of hosts, expected literal hosts\n"},
		{CAP("network-policy@2", "{runtime: {deny: [{hosts: [b.test], paths: [/x]}]}}"),
			"k:5:31: capabilities[0].config.runtime.deny[0]: methods is missing, paths "
			"needs it; ANY means every method\n"},
		{CAP("privileged@1", "{}"),
			"k:5:5: capabilities[0].config: com.docker.sandbox/privileged@1 takes no "
			"config\n"},
		{CAP("volume@1", "{path: /v, tmpfs: true, size: 1g}"), "", true},
		{CAP("volume@1", "{size: 1g}"),
			"k:5:13: capabilities[0].config: path is missing\n"},
		{CAP("lifecycle@1", "{}"), "k:5:13: capabilities[0].config: empty, expected one of "
					   "install, startup, files, interactive\n"},
		{CAP("lifecycle@1", "{install: [{command: [a, b]}, {command: a b, env: [X]}]}"), "",
			true},
		{CAP("credential@1", "{service: s, phase: never, apiKey: {name: K}}"),
			"k:5:33: capabilities[0].config.phase: expected install or runtime\n"},
		{CAP("agent-sessions@1", "{prompt: [-p]}"),
			"k:5:22: capabilities[0].config.prompt: without {{.Prompt}}, which stands "
			"for what the user asks for\n"},
		{CAP("agent-context@1", "{content: a, contentFile: b}"),
			"k:5:26: capabilities[0].config.contentFile: next to content, only one of "
			"the two is allowed\n"},
		{THREE "capabilities:\n  - type: com.docker.sandbox/resources@1\n    config: {cpu: "
		       "1}\n"
		       "  - type: com.docker.sandbox/resources@1\n    config: {cpu: 2}\n",
			"k:6:5: capabilities[1]: com.docker.sandbox/resources@1 twice, one is "
			"allowed\n"},
		{THREE "capabilities:\n  - group:\n      capabilities: []\n",
			"k:5:21: capabilities[0].group.capabilities: an empty group\n"},
		{THREE "capabilities:\n  - group:\n      capabilities:\n"
		       "        - {type: com.docker.sandbox/privileged@1, optional: true}\n",
			"k:6:51: capabilities[0].group.capabilities[0].optional: not allowed in a "
			"group, which is optional as a whole\n"},
		{CAP("port@1", "{container: 1, nam: x}"), /* once, though read in two steps */
			"k:5:28: capabilities[0].config.nam: unknown key, did you mean name?\n"},
		/* A whole argument takes the type of its field. */
		{THREE "args: {p: {default: \"8080\"}, n: {default: \"1.0\"}}\n"
		       "version: ${{ kit.args.n }}\ncapabilities:\n"
		       "  - type: com.docker.sandbox/port@1\n"
		       "    config: {container: \"${{ kit.args.p }}\", name: \"p${{ kit.args.p "
		       "}}\"}\n",
			"", true},
		{THREE "description: ${{ kit.args.p }}\n",
			"k:3:14: description: the argument p is not declared, expected it under "
			"args\n"},
	};

	RUN_ALL(t, NULL);
}

static void test_three_model(void **state)
{
	static const char text[] =
		THREE "args: {h: {default: a.test}}\ncapabilities:\n"
		      "  - type: com.docker.sandbox/network-policy@1\n    config:\n"
		      "      install: {allow: [i.test]}\n      runtime: {allow: [\"${{ kit.args.h "
		      "}}\"]}\n"
		      "  - type: com.docker.sandbox/credential@1\n    optional: true\n    config:\n"
		      "      service: s\n      phase: [install, runtime]\n"
		      "      apiKey: {name: K, inject: [{domain: a.test, scheme: bearer}]}\n"
		      "  - group:\n      optional: true\n      capabilities:\n"
		      "        - type: com.docker.sandbox/lifecycle@1\n          config:\n"
		      "            files: [{path: /f, content: x, overwrite: false}]\n"
		      "        - type: com.docker.sandbox/volume@1\n          config: {path: /v}\n";
	struct kit k = load(text, NULL);

	assert_int_equal(k.schema, 3);
	assert_string_equal(k.name, "k");
	assert_int_equal(k.n_rules, 2);
	assert_int_equal(k.rules[0].phase, KIT_INSTALL);
	assert_string_equal(k.rules[1].target, "a.test:*");
	assert_int_equal(k.n_credentials, 1);
	assert_false(k.credentials[0].required);
	assert_int_equal(k.credentials[0].phase, KIT_INSTALL | KIT_RUNTIME);
	assert_int_equal(k.n_files, 1);
	assert_true(k.files[0].only_if_missing);
	assert_int_equal(k.n_volumes, 1);
	assert_int_equal(k.n_capabilities, 4);
	assert_int_equal(k.capabilities[0].group, -1);
	assert_true(
		k.capabilities[3].group == k.capabilities[2].group && k.capabilities[2].optional);
	kit_done(&k);
}

/* ---- kits that go together ---- */

struct fx {
	char root[32];
	struct strv refs;
	struct kit_inputs in;
	struct kit_set set;
	struct box_spec s;
	struct err err;
};

static int setup(void **state)
{
	struct fx *fx = xcalloc(1, sizeof(*fx));

	strcpy(fx->root, "/tmp/hutch-test-XXXXXX");
	assert_non_null(mkdtemp(fx->root));
	setenv("HUTCH_SHARE", fx->root, 1);
	*state = fx;
	return 0;
}

static int teardown(void **state)
{
	struct fx *fx = *state;

	unsetenv("HUTCH_SHARE");
	strv_done(&fx->refs);
	kit_inputs_done(&fx->in);
	kit_set_done(&fx->set);
	spec_done(&fx->s);
	assert_int_equal(fs_remove_tree(AT_FDCWD, fx->root, NULL), 0);
	free(fx);
	return 0;
}

static void put(struct fx *fx, const char *name, const char *head, const char *text)
{
	_free_ char *dir = xasprintf("%s/kits/%s", fx->root, name);
	_free_ char *file = fs_join(dir, "spec.yaml");
	_free_ char *all =
		xasprintf("schemaVersion: \"2\"\nkind: %s\nname: %s\n%s", head, name, text);

	assert_int_equal(fs_mkdirs(dir, 0755, NULL), 0);
	assert_int_equal(fs_write_file(AT_FDCWD, file, all, strlen(all), 0644, NULL), 0);
}

/* Compose and plan; 0 or the error is in fx->err. */
static int compose(struct fx *fx, const char *const *refs)
{
	struct kit_errors errs = {0};
	struct plan_request req = {.host_cpus = 4, .host_memory_bytes = 1ULL << 33};
	char *mounts[] = {fx->root, NULL};
	int rc;

	strv_done(&fx->refs);
	kit_set_done(&fx->set);
	spec_done(&fx->s);
	for (; *refs; refs++)
		strv_add(&fx->refs, *refs);
	memset(&fx->err, 0, sizeof(fx->err));
	rc = kit_set_load(&fx->refs, &fx->in, NULL, &fx->set, &errs, &fx->err);
	kit_errors_done(&errs);
	req.kits = fx->set.kits;
	req.n_kits = fx->set.n;
	req.mounts = (struct strv){mounts, 1};
	return rc < 0 ? rc : plan_make(&req, &fx->s, &fx->err);
}
#define COMPOSE(fx, ...) compose(fx, (const char *const[]){__VA_ARGS__, NULL})

static const char *origin(const struct box_spec *s, const char *what)
{
	for (size_t i = 0; i < s->n_origins; i++)
		if (strcmp(s->origins[i].what, what) == 0)
			return s->origins[i].from;
	return "";
}

static void test_extends(void **state)
{
	struct fx *fx = *state;

	put(fx, "root", "sandbox",
		"sandbox: {image: base, entrypoint: [a], command: [b], resources: {cpu: 1, memory: "
		"1g}}\n"
		"permissions: {network: {allow: [r.test], deny: [d.test]}}\n"
		"environment: {variables: {A: root, B: root}}\n"
		"credentials: [{service: s, apiKey: {name: K, inject: [{domain: r.test, scheme: "
		"bearer}]}}]\n"
		"volumes: [{path: /v, type: tmpfs}]\n"
		"agentInstructions: {filename: ROOT.md, content: \"root\\n\"}\n");
	put(fx, "mid", "sandbox",
		"extends: root\nsandbox: {command: [c]}\nmixins: [extra]\n"
		"environment: {variables: {B: mid}}\n");
	put(fx, "extra", "mixin",
		"environment: {variables: {A: extra}}\nrequires: {agent: root}\n");
	put(fx, "leaf", "sandbox",
		"extends: mid\nsandbox: {entrypoint: [e], resources: {cpu: 2}}\n"
		"permissions: {network: {allow: [d.test, l.test]}}\n"
		"credentials: [{service: s, apiKey: {name: L, inject: [{domain: l.test, scheme: "
		"bearer}]}}]\n"
		"volumes: [{path: /v}]\nagentInstructions: {content: leaf}\n");
	assert_int_equal(COMPOSE(fx, "leaf"), 0);
	assert_int_equal(fx->set.n, 4);
	assert_string_equal(fx->set.kits[0].name, "root");
	assert_string_equal(fx->set.kits[3].name, "extra");
	assert_string_equal(fx->s.agent, "leaf");
	assert_string_equal(fx->s.image, "base");
	assert_string_equal(fx->s.entrypoint.v[0], "e");
	assert_string_equal(fx->s.command_default.v[0], "c");
	assert_string_equal(origin(&fx->s, "command"), "kit mid");
	assert_string_equal(origin(&fx->s, "image"), "kit root");
	assert_int_equal(fx->s.cpus, 2);
	assert_true(fx->s.memory_bytes == 1ULL << 30);
	assert_true(strv_has(&fx->s.env, "A=extra"));
	assert_true(strv_has(&fx->s.env, "B=mid"));
	assert_string_equal(origin(&fx->s, "env B"), "kit mid");
	assert_int_equal(fx->s.net.n_rules, 4); /* the deny stays */
	assert_int_equal(fx->s.net.n_credentials, 1);
	assert_string_equal(fx->s.net.credentials[0].env, "L");
	assert_int_equal(fx->s.n_volumes, 1);
	assert_false(fx->s.volumes[0].tmpfs);
	assert_int_equal(fx->s.n_prepare, 1);
	assert_int_equal(fx->s.n_install, 0);
	assert_string_equal(fx->s.files[0].path, "/home/agent/ROOT.md");
	assert_string_equal(fx->s.files[0].content, "root\n\nleaf");
}

static void test_extends_refused(void **state)
{
	struct fx *fx = *state;

	put(fx, "a", "sandbox", "extends: b\nsandbox: {}\n");
	put(fx, "b", "sandbox", "extends: a\nsandbox: {}\n");
	assert_int_equal(COMPOSE(fx, "a"), -1);
	assert_non_null(strstr(fx->err.msg, "in a circle"));
	put(fx, "m", "mixin", "");
	put(fx, "n", "sandbox", "extends: m\nsandbox: {}\n");
	assert_int_equal(COMPOSE(fx, "n"), -1);
	assert_string_equal(fx->err.msg, "kit n: extends m, which is a mixin");
	put(fx, "l0", "sandbox", "sandbox: {image: base}\nlocked: [sandbox.image, permissions]\n");
	for (int i = 1; i <= 6; i++) {
		char name[8], text[64];

		snprintf(name, sizeof(name), "l%d", i);
		snprintf(text, sizeof(text), "extends: l%d\nsandbox: {}\n", i - 1);
		put(fx, name, "sandbox", text);
	}
	assert_int_equal(COMPOSE(fx, "l5"), 0);
	assert_int_equal(COMPOSE(fx, "l6"), -1);
	assert_string_equal(fx->err.msg, "kit l1: extends l0, the level above 5");
	put(fx, "x", "sandbox", "extends: l0\nsandbox: {image: other}\n");
	assert_int_equal(COMPOSE(fx, "x"), -1);
	assert_string_equal(fx->err.msg, "kit x: sets sandbox.image, which kit l0 has locked");
	put(fx, "y", "sandbox",
		"extends: l1\nsandbox: {}\npermissions: {network: {allow: [a.test]}}\n");
	assert_int_equal(COMPOSE(fx, "y"), -1);
	assert_string_equal(fx->err.msg, "kit y: sets permissions, which kit l0 has locked");
	put(fx, "z", "sandbox", "extends: z2\nsandbox: {}\n");
	put(fx, "z2", "sandbox", "extends: nowhere\nsandbox: {}\n");
	assert_int_equal(COMPOSE(fx, "z"), -1);
	assert_string_equal(fx->err.msg, "nowhere: no such kit");
	put(fx, "w", "sandbox", "mixins: [l0]\nsandbox: {image: base}\n");
	assert_int_equal(COMPOSE(fx, "w"), -1);
	assert_string_equal(fx->err.msg, "kit w: lists l0 as a mixin, which is none");
}

static void test_mixins(void **state)
{
	struct fx *fx = *state;

	put(fx, "s", "sandbox", "sandbox: {image: base}\n");
	put(fx, "t", "mixin",
		"volumes: [{path: /home/agent/c}, {path: /t, type: tmpfs, size: 1m},\n"
		"  {path: /home/agent/s, size: 8m, mode: \"0700\"}]\n"
		"ports: [{container: 80}]\n");
	put(fx, "u", "mixin", "requires: {agent: other}\n");
	assert_int_equal(COMPOSE(fx, "s", "t"), 0);
	assert_int_equal(fx->s.n_ports, 1);
	assert_string_equal(fx->s.ports[0].kit, "t");
	assert_int_equal(fx->s.n_install, 0);
	assert_int_equal(fx->s.n_prepare, 5);
	assert_string_equal(fx->s.prepare[0].user, "1000"); /* the way to it */
	assert_string_equal(fx->s.prepare[1].user, "0");
	assert_string_equal(fx->s.prepare[1].argv.v[4], "/home/agent/c");
	assert_string_equal(fx->s.prepare[1].argv.v[5] + 32, " 0755 1000 0");
	assert_string_equal(fx->s.prepare[2].argv.v[5], "mode=0755,size=1048576,uid=0,gid=0");
	assert_string_equal(fx->s.prepare[4].argv.v[4], "/home/agent/s");
	assert_string_equal(fx->s.prepare[4].argv.v[5] + 32, " 0700 1000 8388608");
	assert_int_equal(COMPOSE(fx, "s", "u"), -1);
	assert_string_equal(fx->err.msg, "kit u: made for agent other, not for s");
	assert_int_equal(COMPOSE(fx, "s", "t", "t"), -1);
	assert_string_equal(fx->err.msg, "kit t: given twice, or another kit has its name");
	assert_int_equal(COMPOSE(fx, "s", "s"), -1);
	put(fx, "v", "mixin", "args: {n: {required: true}}\ndescription: \"${{ kit.args.n }}\"\n");
	assert_int_equal(COMPOSE(fx, "s", "v"), -1);
	assert_int_equal(kit_inputs_add(&fx->in, "v.n=1", &fx->err), 0);
	assert_int_equal(COMPOSE(fx, "s", "v"), 0);
}

/* files/ is filled in, too. */
static void test_files_args(void **state)
{
	struct fx *fx = *state;
	_free_ char *dir = xasprintf("%s/kits/f/files/home", fx->root);
	_free_ char *file = fs_join(dir, "conf");
	static const char good[] = "v=${{ kit.args.v }}!\n", bad[] = "${{ kit.args.w }}\n";
	_buf_ struct buf out = {.max = 1000};

	put(fx, "s", "sandbox", "sandbox: {image: base}\n");
	put(fx, "f", "mixin", "args: {v: {default: \"1\"}}\n");
	assert_int_equal(fs_mkdirs(dir, 0755, NULL), 0);
	assert_int_equal(fs_write_file(AT_FDCWD, file, good, strlen(good), 0644, NULL), 0);
	assert_int_equal(COMPOSE(fx, "s", "f"), 0);
	assert_int_equal(fx->s.n_home_trees, 1);
	assert_string_equal(fx->s.home_trees[0].args.v[0], "v=1");
	assert_int_equal(kit_put_args(&fx->s.home_trees[0].args, good, strlen(good), &out), 0);
	assert_string_equal(buf_cstr(&out), "v=1!\n");
	assert_int_equal(fs_write_file(AT_FDCWD, file, bad, strlen(bad), 0644, NULL), 0);
	assert_int_equal(COMPOSE(fx, "s", "f"), -1);
}

/* "1": a domain for a service of another kit is sent what that kit says. */
static void test_more_domains(void **state)
{
	struct fx *fx = *state;
	_free_ char *file = xasprintf("%s/one.yaml", fx->root);
	static const char one[] =
		ONE "network: {allowedDomains: [b.test], serviceDomains: {b.test: "
		    "svc}}\n";

	put(fx, "s", "sandbox",
		"sandbox: {image: base}\npermissions: {network: {allow: [a.test]}}\n"
		"credentials: [{service: svc, apiKey: {name: K, inject: [{domain: a.test, header: "
		"X, "
		"format: \"t %s\"}]}}]\n");
	assert_int_equal(fs_write_file(AT_FDCWD, file, one, strlen(one), 0644, NULL), 0);
	assert_int_equal(COMPOSE(fx, "s", file), 0);
	assert_int_equal(fx->s.net.n_credentials, 1);
	assert_int_equal(fx->s.net.credentials[0].n_injects, 2);
	assert_string_equal(fx->s.net.credentials[0].injects[1].domain, "b.test");
	assert_string_equal(fx->s.net.credentials[0].injects[1].format, "t %s");
}

#define D3(kind, rest) "schemaVersion: \"3\"\nkind: " kind "\n" rest

static void test_resolve(void **state)
{
	static const struct {
		const char *kits[4], *says; /* NULL: fits */
	} t[] = {
		{{D3("workload", "provides: [\"w@1\"]\n")}, NULL},
		{{D3("mixin", "")}, "kit k0: a mixin, a workload is needed to run it on"},
		{{D3("workload", ""), D3("workload", "")},
			"kit k1: a second workload, k0 is one already"},
		{{D3("set", "kits: [{ref: r.test/a:1}]\n")},
			"kit k0: a set, which becomes a kit when it is published"},
		{{D3("workload", "provides: [\"a@1.10\"]\n"),
			 D3("mixin", "requires: [\"a > 1.9\"]\n")},
			NULL},
		{{D3("workload", "provides: [\"a@1.2\"]\n"),
			 D3("mixin", "requires: [\"a >= 1.2.0\"]\n")},
			"kit k1: does not work with a 1.2 of kit k0"},
		{{D3("workload", "provides: [a]\n"), D3("mixin", "requires: [\"a >= 1\"]\n")},
			"kit k1: does not work with a without a version of kit k0"},
		{{D3("workload", "version: \"2\"\nprovides: [a]\n"),
			 D3("mixin", "requires: [com.docker.kit/a >= 1]\n")},
			NULL},
		{{D3("workload", ""), D3("mixin", "requires: [a]\n")},
			"kit k1: requires a, which no kit here provides"},
		{{D3("workload", ""), D3("mixin", "integrates: [a]\n")}, NULL},
		{{D3("workload", "provides: [\"a@3\"]\n"),
			 D3("mixin", "integrates: [\"a < 3\"]\n")},
			"kit k1: does not work with a 3 of kit k0"},
		{{D3("workload", "provides: [com.example/a]\n"), D3("mixin", "requires: [a]\n")},
			"kit k1: requires a, which no kit here provides"},
		{{D3("workload", "provides: [a]\n"), D3("mixin", "conflicts: [a]\n")},
			"kit k1: conflicts with a, which kit k0 provides"},
		{{D3("workload", "provides: [a]\n"), D3("mixin", "provides: [\"a@2\"]\n")},
			"kit k1: provides a, as kit k0 does"},
		{{D3("workload", ""), D3("mixin", "provides: [a]\nrequires: [b]\n"),
			 D3("mixin", "provides: [b]\nrequires: [a]\n")},
			"kit k1: requires what requires it, in a circle"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct kit kits[4];
		struct err err = {0};
		size_t n = 0;

		for (; n < 4 && t[i].kits[n]; n++) {
			kits[n] = load(t[i].kits[n], NULL);
			free(kits[n].name);
			kits[n].name = xasprintf("k%zu", n);
		}
		assert_int_equal(kit_resolve(kits, n, &err), t[i].says ? -1 : 0);
		assert_string_equal(err.msg, t[i].says ? t[i].says : "");
		while (n > 0)
			kit_done(&kits[--n]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_ports_volumes),
		cmocka_unit_test(test_oauth),
		cmocka_unit_test(test_oauth_file),
		cmocka_unit_test(test_declarations),
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_one),
		cmocka_unit_test(test_one_folds),
		cmocka_unit_test(test_three),
		cmocka_unit_test(test_capabilities),
		cmocka_unit_test(test_three_model),
		cmocka_unit_test_setup_teardown(test_extends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_extends_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mixins, setup, teardown),
		cmocka_unit_test_setup_teardown(test_files_args, setup, teardown),
		cmocka_unit_test_setup_teardown(test_more_domains, setup, teardown),
		cmocka_unit_test(test_resolve),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

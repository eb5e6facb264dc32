/* SPDX-License-Identifier: Apache-2.0 */
/* Kits: every rule of the grammar with good and bad input, the exact message and its place. */
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
#include "kit/kit.h"
#include "kit/ynode.h"

/* What most cases stand on: five lines of a sandbox kit, or three of a mixin. */
#define HEAD    "schemaVersion: \"2\"\nkind: sandbox\nname: k\n"
#define SANDBOX HEAD "sandbox:\n  image: base\n"
#define MIXIN   "schemaVersion: \"2\"\nkind: mixin\nname: m\n"

struct c {
	const char *text;
	const char *says; /* all that is printed; "" for a clean load */
	bool ok;
};

static void run(const struct c *c)
{
	struct kit_errors errs = {0};
	char out[16384] = "";
	FILE *f = fmemopen(out, sizeof(out), "w");
	struct kit k;
	int rc = kit_load_text(c->text, strlen(c->text), "k", NULL, &k, &errs);

	kit_errors_print(&errs, f);
	fclose(f);
	if (strcmp(out, c->says) != 0 || (rc == 0) != c->ok)
		print_error("--- input\n%s\n", c->text);
	assert_string_equal(out, c->says);
	assert_int_equal(rc, c->ok ? 0 : -1);
	if (rc == 0)
		kit_done(&k);
	kit_errors_done(&errs);
}

#define RUN_ALL(cases)                                                                             \
	for (size_t i_ = 0; i_ < ARRAY_SIZE(cases); i_++)                                          \
	run(&(cases)[i_])

static void test_yaml_subset(void **state)
{
	static const struct c t[] = {
		{"", "k:1:1: the file is empty\n"},
		{"# only a comment\n", "k:1:1: the file is empty\n"},
		{"- a\n", "k:1:1: a list, expected a map\n"},
		{"just text\n", "k:1:1: a string, expected a map\n"},
		{SANDBOX "description: &a x\n",
			"k:6:14: description: anchors (&) are not allowed, write the value out\n"},
		{SANDBOX "description: *a\n",
			"k:6:14: description: aliases (*) are not allowed, write the value out\n"},
		{SANDBOX "description: !!str x\n", "k:6:14: description: tags (!) are not allowed, "
						   "quote a value to make it a string\n"},
		{SANDBOX "setup: !x {}\n", "k:6:8: setup: tags (!) are not allowed, "
					   "quote a value to make it a string\n"},
		{SANDBOX "setup: &x\n  install: []\n",
			"k:6:8: setup: anchors (&) are not allowed, write the value out\n"},
		{SANDBOX "<<: {}\n",
			"k:6:1: merge keys (<<) are not allowed, write the keys out\n"},
		{SANDBOX "name: other\n",
			"k:6:1: name: duplicate key, it is already set in line 3\n"},
		{SANDBOX "  image: other\n",
			"k:6:3: sandbox.image: duplicate key, it is already set in line 5\n"},
		{SANDBOX "---\na: b\n", "k:6:1: a second document, one per file is allowed\n"},
		{"%YAML 1.1\n---\n" SANDBOX, "k:1:1: directives (%) are not allowed\n"},
		{SANDBOX "? [a]\n: b\n", "k:6:3: a key must be a string\n"},
		{SANDBOX "? {a: b}\n: b\n", "k:6:3: a key must be a string\n"},
		{SANDBOX "description: \"a\\0b\"\n",
			"k:6:14: description: a NUL character is not allowed\n"},
		{SANDBOX "\"de\\0sc\": b\n", "k:6:1: a NUL character is not allowed\n"},
		{SANDBOX "description: \"open\n",
			"k:7:1: found unexpected end of stream while scanning a quoted scalar\n"},
		{SANDBOX "setup: [[[[[[[[[[[[[[[[[[[[\n",
			"k:6:23: setup[0][0][0][0][0][0][0][0][0][0][0][0][0][0][0]: nested too "
			"deeply\n"},
		{SANDBOX "\tname: x\n", "k:6:1: a tab, indent with blanks\n"},
		{SANDBOX "setup:\n \tinstall: []\n", "k:7:2: a tab, indent with blanks\n"},
		{SANDBOX "description: a: b\tc\n",
			"k:6:15: mapping values are not allowed in this context\n"},
		{"\xef\xbb\xbf" SANDBOX "descripton: x\n",
			"k:6:1: descripton: unknown key, did you mean description?\n"},
		{"\xef\xbb\xbf" SANDBOX, "", true},
		{"\xef\xbb\xbf", "k:1:1: the file is empty\n"},
	};

	RUN_ALL(t);
}

static void test_ceilings(void **state)
{
	struct kit_errors errs = {0};
	size_t len = YNODE_FILE_MAX + 1;
	char *big = xmalloc(len), *p = big;
	struct ynode *n;

	memset(big, ' ', len);
	assert_null(ynode_read(big, len, "k", &errs));
	assert_string_equal(errs.v[0].message, "larger than 1 MiB");
	kit_errors_done(&errs);

	/* One list that is too long. */
	for (int i = 0; i < YNODE_ENTRIES_MAX + 1; i++)
		p += sprintf(p, "- a\n");
	n = ynode_read(big, (size_t)(p - big), "k", &errs);
	assert_int_equal(errs.n_errors, 1);
	assert_string_equal(errs.v[0].message, "more than 4096 entries in one list");
	assert_int_equal(errs.v[0].line, YNODE_ENTRIES_MAX + 1);
	ynode_free(n);
	kit_errors_done(&errs);

	/* Too many values in all: 4000 lists of 20. */
	p = big;
	for (int i = 0; i < 4000; i++)
		p += sprintf(p, "- [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]\n");
	n = ynode_read(big, (size_t)(p - big), "k", &errs);
	assert_int_equal(errs.n_errors, 1);
	assert_string_equal(errs.v[0].message, "too many values in one file");
	ynode_free(n);
	kit_errors_done(&errs);
	free(big);
}

/* Every credential is held against every rule: both are bounded. */
static void test_too_many_entries(void **state)
{
	struct kit_errors errs = {0};
	_buf_ struct buf text = {.max = 1 << 20};
	struct kit k;

	buf_puts(&text, MIXIN "credentials:\n");
	for (int i = 0; i < 65; i++)
		buf_printf(&text, "  - {service: s%d, apiKey: {name: K%d}}\n", i, i);
	assert_int_equal(
		kit_load_text((char *)buf_head(&text), buf_len(&text), "k", NULL, &k, &errs), -1);
	assert_int_equal(errs.n_errors, 1);
	assert_string_equal(errs.v[0].message, "65 entries, expected at most 64");
	kit_errors_done(&errs);

	buf_reset(&text);
	buf_puts(&text, MIXIN "permissions:\n  network:\n    deny:\n");
	for (int i = 0; i < 1025; i++)
		buf_printf(&text, "      - h%d.test\n", i);
	assert_int_equal(
		kit_load_text((char *)buf_head(&text), buf_len(&text), "k", NULL, &k, &errs), -1);
	assert_string_equal(errs.v[0].message, "1025 entries, expected at most 1024");
	kit_errors_done(&errs);
}

static void test_error_list_is_bounded(void **state)
{
	struct kit_errors errs = {0};
	_buf_ struct buf text = {.max = 1 << 20};
	char out[32768];
	FILE *f = fmemopen(out, sizeof(out), "w");
	struct kit k;

	buf_puts(&text, SANDBOX "permissions:\n  network:\n    allow:\n");
	for (int i = 0; i < 250; i++)
		buf_puts(&text, "      - \"bad host\"\n");
	assert_int_equal(
		kit_load_text((char *)buf_head(&text), buf_len(&text), "k", NULL, &k, &errs), -1);
	assert_int_equal(errs.n, KIT_ERRORS_MAX);
	assert_int_equal(errs.n_errors, 250);
	kit_errors_print(&errs, f);
	fclose(f);
	assert_non_null(strstr(out, "\nand 150 more\n"));
	kit_errors_done(&errs);
}

static void test_ssh_agent(void **state)
{
#define HOSTS "hosts: [a.test]}\n"
	static const struct c t[] = {
		{MIXIN "sshAgent: {keys: [x], hosts: [a.test, \"b.test:2222\"]}\n", "", true},
		{MIXIN "sshAgent: {keys: [x], unrestricted: true}\n", "", true},
		{MIXIN "sshAgent: {keys: [x], hosts: "
		       "[\"SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU\"]}\n",
			"", true},
		{MIXIN "sshAgent: {" HOSTS, "k:4:11: sshAgent: keys is missing\n"},
		{MIXIN "sshAgent: {keys: [], " HOSTS, "k:4:11: sshAgent: keys is missing\n"},
		{MIXIN "sshAgent: {keys: [x]}\n",
			"k:4:11: sshAgent: hosts is missing, or unrestricted: true\n"},
		{MIXIN "sshAgent: {keys: [x], unrestricted: false}\n",
			"k:4:11: sshAgent: hosts is missing, or unrestricted: true\n"},
		{MIXIN "sshAgent: {keys: [x], unrestricted: true, " HOSTS,
			"k:4:43: sshAgent.hosts: next to unrestricted, only one of the two\n"},
		{MIXIN "sshAgent: {keys: [\"--any-host\"], " HOSTS,
			"k:4:19: sshAgent.keys[0]: \"--any-host\", expected a fingerprint such as "
			"SHA256:..., or the comment of a key\n"},
		{MIXIN "sshAgent: {keys: [x], hosts: [\"*\"]}\n",
			"k:4:31: sshAgent.hosts[0]: expected a host name, perhaps with a port, or the "
			"fingerprint of a host's key\n"},
		{MIXIN "sshAgent: {keys: [x], hosts: [\"a.test:0\"]}\n",
			"k:4:31: sshAgent.hosts[0]: expected a host name, perhaps with a port, or the "
			"fingerprint of a host's key\n"},
		{MIXIN "sshAgent: {keys: [x], hosts: [\"a.test:99999\"]}\n",
			"k:4:31: sshAgent.hosts[0]: expected a host name, perhaps with a port, or the "
			"fingerprint of a host's key\n"},
		{MIXIN "sshAgent: {keys: [x], hosts: [\"SHA256:abc\"]}\n",
			"k:4:31: sshAgent.hosts[0]: expected a host name, perhaps with a port, or the "
			"fingerprint of a host's key\n"},
		{MIXIN "sshAgent: [x]\n", "k:4:11: sshAgent: a list, expected a map\n"},
	};

	RUN_ALL(t);
}

static void test_version_and_kind(void **state)
{
	static const struct c t[] = {
		{"kind: sandbox\n",
			"k:1:1: schemaVersion is missing, expected schemaVersion: \"2\"\n"},
		{"schemaVersion: 2\n", "k:1:16: schemaVersion: YAML takes 2 for a number, expected "
				       "the string \"2\": quote it, \"2\"\n"},
		{"schemaVersion: \"4\"\n", "k:1:16: schemaVersion: \"4\", expected \"1\", "
					 "\"2\" or \"3\"\n"},
		{"schemaVersion: []\n",
			"k:1:16: schemaVersion: a list, expected the string \"2\"\n"},
		{"schemaVersion: \"2\"\n", "k:1:1: kind is missing\nk:1:1: name is missing\n"},
		{"schemaVersion: \"2\"\nkind: kit\nname: k\n",
			"k:2:7: kind: \"kit\", expected sandbox or mixin\n"},
		{"schemaVersion: \"2\"\nkind: agent\nname: k\n",
			"k:2:7: kind: \"agent\", today it is sandbox\n"},
		{HEAD, "k:1:1: sandbox is missing, kind sandbox needs it\n"},
		{SANDBOX, "", true},
		{MIXIN, "", true},
		{MIXIN "sandbox:\n  image: base\n",
			"k:4:1: sandbox: not allowed in a mixin, only in kind sandbox\n"},
		{MIXIN "extends: shell\n",
			"k:4:1: extends: not allowed in a mixin, only in kind sandbox\n"},
		{SANDBOX "requires:\n  agent: x\n",
			"k:6:1: requires: not allowed in kind sandbox, only in a mixin\n"},
		{MIXIN "requires:\n  agent: shell\n", "", true},
		{MIXIN "requires:\n  agent: [shell]\n",
			"k:5:10: requires.agent: a list, expected a string\n"},
		{MIXIN "requires: {}\n", "k:4:11: requires: agent is missing\n"},
	};

	RUN_ALL(t);
}

static void test_identity(void **state)
{
	static const struct c t[] = {
		{"schemaVersion: \"2\"\nkind: mixin\nname: Bad_Name\n",
			"k:3:7: name: \"Bad_Name\", expected 1 to 64 lower-case letters, digits "
			"and "
			"inner hyphens\n"},
		{"schemaVersion: \"2\"\nkind: mixin\nname: 08\n",
			"k:3:7: name: YAML takes 08 for a number, expected a string: quote it, "
			"\"08\"\n"},
		{"schemaVersion: \"2\"\nkind: mixin\nname: \"08\"\n", "", true},
		{"schemaVersion: \"2\"\nkind: mixin\nname:\n",
			"k:3:6: name: empty, expected a string\n"},
		{"schemaVersion: \"2\"\nkind: mixin\nname: ../x\n",
			"k:3:7: name: \"../x\", expected 1 to 64 lower-case letters, digits and "
			"inner hyphens\n"},
		{MIXIN "version: 1.20\n", "k:4:10: version: YAML takes 1.20 for a number, expected "
					  "a string: quote it, \"1.20\"\n"},
		{MIXIN "version: true\n", "k:4:10: version: YAML takes true for a boolean, "
					  "expected a string: quote it, \"true\"\n"},
		{MIXIN "version: null\n", "k:4:10: version: YAML takes null for null, expected a "
					  "string: quote it, \"null\"\n"},
		{MIXIN "version: 0x1F\n", "k:4:10: version: YAML takes 0x1F for a number, expected "
					  "a string: quote it, \"0x1F\"\n"},
		{MIXIN "version: -1e3\n", "k:4:10: version: YAML takes -1e3 for a number, expected "
					  "a string: quote it, \"-1e3\"\n"},
		{MIXIN "version: .inf\n", "k:4:10: version: YAML takes .inf for a number, expected "
					  "a string: quote it, \".inf\"\n"},
		{MIXIN "version: 1.2.0\n", "", true},
		{MIXIN "version: 1e\n", "", true},
		{MIXIN "version: 2026-01-02\n", "", true},
		{MIXIN "version: yes\n", "", true}, /* a string since YAML 1.2 */
		{MIXIN "version: \"1\\e2\"\n",
			"k:4:10: version: \"1?2\", expected one line of text\n"},
		{MIXIN "displayName: \"A\\nB\"\n",
			"k:4:14: displayName: \"A?B\", expected one line of text\n"},
		{MIXIN "description: |\n  any\n  text\n", "", true},
		{MIXIN "description: {}\n", "k:4:14: description: a map, expected a string\n"},
		{MIXIN "sourceURL: https://example.com/x\n", "", true},
		{MIXIN "sourceURL: file:///etc\n", "k:4:12: sourceURL: \"file:///etc\", expected a "
						   "URL\n"},
		{MIXIN "licenses: [MIT, Apache-2.0]\n", "", true},
		{MIXIN "licenses: [MIT, X, MIT]\n", "k:4:20: licenses[2]: twice in the list\n"},
		{MIXIN "licenses: [\"\"]\n", "k:4:12: licenses[0]: \"\", expected one line of "
					     "text\n"},
		{MIXIN "licenses: MIT\n", "k:4:11: licenses: a string, expected a list of "
					  "strings\n"},
	};

	RUN_ALL(t);
}

static void test_keys(void **state)
{
	static const struct c t[] = {
		{MIXIN "permissions:\n  netwrok:\n    allow: []\n",
			"k:5:3: permissions.netwrok: unknown key, did you mean network?\n"},
		{MIXIN "permissions:\n  network:\n    alow: []\n",
			"k:6:5: permissions.network.alow: unknown key, did you mean allow?\n"},
		{MIXIN "Setup: {}\n", "k:4:1: Setup: unknown key, did you mean setup?\n"},
		{MIXIN "permissions:\n  filesystem: {}\n",
			"k:5:3: permissions.filesystem: unknown key, expected one of network\n"},
		{MIXIN "environment:\n  proxyManaged: [A]\n",
			"k:5:3: environment.proxyManaged: not a key of schemaVersion \"2\", today "
			"it is credentials[].apiKey\n"},
		/* The draft of "2". */
		{MIXIN "caps: {}\ncommands: {}\npublishedPorts: []\nagentContext: x\n",
			"k:4:1: caps: not a key of schemaVersion \"2\", today it is permissions\n"
			"k:5:1: commands: not a key of schemaVersion \"2\", today it is setup\n"
			"k:6:1: publishedPorts: not a key of schemaVersion \"2\", today it is "
			"ports\n"
			"k:7:1: agentContext: not a key of schemaVersion \"2\", today it is "
			"agentInstructions.content\n"},
		{MIXIN "network:\n  allowedDomains: []\nmemory: x\n",
			"k:4:1: network: not a key of schemaVersion \"2\", today it is "
			"permissions.network\n"
			"k:6:1: memory: not a key of schemaVersion \"2\", today it is "
			"agentInstructions.content\n"},
		/* Read, without effect yet. */
		{SANDBOX "ports: [{container: 80}]\nsecurity: {privileged: true}\n",
			"k:7:12: warning: security.privileged: has no effect, the sandbox is a "
			"machine of its own and its root may do everything there\n",
			true},
		{SANDBOX "  build:\n    context: .\n",
			"k:6:3: warning: sandbox.build: is not built, sandbox.image is used as it is\n", true},
		{MIXIN "description: a workflow's ${{ secrets.X }}\n", "", true},
		/* Control characters of a key do not reach the terminal. */
		{MIXIN "\"a\\e[31mb\": x\n",
			"k:4:1: a?[31mb: unknown key, expected one of schemaVersion, kind, name, "
			"version, displayName, description, sourceURL, licenses, locked, security, "
			"args, sandbox, extends, mixins, requires, agentInstructions, permissions, "
			"ports, credentials, sshAgent, environment, setup, volumes\n"},
		/* All in one go, in the order of the file. */
		{HEAD "descripton: x\nsandbox:\n  imaeg: base\nversion: 1.0\npermissions:\n"
		      "  network:\n    allow: [a b]\nsetup:\n  install:\n    - command: [x]\n",
			"k:4:1: descripton: unknown key, did you mean description?\n"
			"k:6:3: sandbox.imaeg: unknown key, did you mean image?\n"
			"k:6:3: sandbox: image is missing\n"
			"k:7:10: version: YAML takes 1.0 for a number, expected a string: quote "
			"it, "
			"\"1.0\"\n"
			"k:10:13: permissions.network.allow[0]: rule has a blank or control "
			"character at position 2: expected HOST, HOST:PORT, HOST:80-443, HOST:*, "
			"*.HOST, **.HOST, 10.0.0.0/8 or **\n"
			"k:13:16: setup.install[0].command: a list, expected a string that sh -c "
			"runs\n"},
	};

	RUN_ALL(t);
}

static void test_sandbox_block(void **state)
{
	static const struct c t[] = {
		{HEAD "sandbox: {}\n", "k:4:10: sandbox: image is missing\n"},
		{HEAD "sandbox: base\n", "k:4:10: sandbox: a string, expected a map\n"},
		{HEAD "sandbox:\n", "k:4:9: sandbox: empty, expected a map\n"},
		{HEAD "sandbox: {image: \"-v\"}\n", "k:4:18: sandbox.image: \"-v\", expected an "
						    "image reference such as base\n"},
		{HEAD "sandbox: {image: registry.example.com:5000/a/b:1@sha256:00}\n", "", true},
		{SANDBOX "  entrypoint: bash\n",
			"k:6:15: sandbox.entrypoint: a string, expected a "
			"list of strings, the program and its arguments\n"},
		{SANDBOX "  entrypoint: []\n",
			"k:6:15: sandbox.entrypoint: an empty list, expected "
			"the program and its arguments\n"},
		{SANDBOX "  entrypoint: [\"\"]\n",
			"k:6:16: sandbox.entrypoint[0]: empty, expected a program\n"},
		{SANDBOX "  entrypoint: [sleep, 5]\n",
			"k:6:23: sandbox.entrypoint[1]: YAML takes 5 for a number, expected a "
			"string: quote it, \"5\"\n"},
		{SANDBOX "  entrypoint: [sleep, \"5\", \"\"]\n", "", true},
		{SANDBOX "  command: [-l]\n", "", true},
		{SANDBOX "  command: -l\n", "k:6:12: sandbox.command: a string, expected a list of "
					    "strings, or a map of default and interactive\n"},
		{SANDBOX "  command: {default: [a], interactive: []}\n", "", true},
		{SANDBOX "  command: {defualt: [a]}\n",
			"k:6:13: sandbox.command.defualt: unknown key, did you mean default?\n"},
		{SANDBOX "  resources: {cpu: 2.5, memory: 4096m}\n", "", true},
		{SANDBOX "  resources: {cpu: 0, memory: 2 GiB}\n", "", true},
		{SANDBOX "  resources: {cpu: \"2\"}\n",
			"k:6:20: sandbox.resources.cpu: expected a number of cores such as 2 or "
			"0.5, without quotes\n"},
		{SANDBOX "  resources: {cpu: -1}\n",
			"k:6:20: sandbox.resources.cpu: expected a number of cores such as 2 or "
			"0.5, without quotes\n"},
		{SANDBOX "  resources: {cpu: 99999}\n",
			"k:6:20: sandbox.resources.cpu: expected a number of cores such as 2 or "
			"0.5, without quotes\n"},
		{SANDBOX "  resources: {memory: lots}\n",
			"k:6:23: sandbox.resources.memory: \"lots\", expected a size such as 512m "
			"or 8g\n"},
		{SANDBOX "  resources: {memory: 512}\n",
			"k:6:23: sandbox.resources.memory: YAML takes 512 for a number, expected a "
			"string: quote it, \"512\"\n"},
		{SANDBOX "  resources: {gpu: all}\n",
			"k:6:15: warning: sandbox.resources.gpu: has no effect\n", true},
		{SANDBOX "  aiFilename: A.md\n", "k:6:3: sandbox.aiFilename: not a key of "
						 "schemaVersion \"2\", today it is "
						 "agentInstructions.filename\n"},
	};

	RUN_ALL(t);
}

static void test_instructions(void **state)
{
	static const struct c t[] = {
		{SANDBOX "agentInstructions:\n  filename: CLAUDE.md\n  content: x\n", "", true},
		{SANDBOX "agentInstructions:\n  filename: ../CLAUDE.md\n",
			"k:7:13: agentInstructions.filename: \"../CLAUDE.md\", expected a file "
			"name "
			"of letters, digits, dots, _ and -\n"},
		{SANDBOX "agentInstructions:\n  filename: ..\n",
			"k:7:13: agentInstructions.filename: \"..\", expected a file name of "
			"letters, digits, dots, _ and -\n"},
		{MIXIN "agentInstructions:\n  filename: A.md\n  content: x\n",
			"k:5:3: warning: agentInstructions.filename: ignored in a mixin, the "
			"sandbox kit names the file\n",
			true},
	};

	RUN_ALL(t);
}

#define NET(hosts) MIXIN "permissions: {network: {allow: [" hosts "]}}\n"

static void test_hosts(void **state)
{
	static const struct c good[] = {
		{NET("example.com, \"example.com:8080\", \"*.example.com\", \"**.example.com\""),
			"", true},
		{NET("\"example.com:80-443\", \"example.com:*\", 10.0.0.0/8, \"**\""), "", true},
		{MIXIN "permissions: {network: {allow: [a.test], deny: [a.test]}}\n", "", true},
		{MIXIN "permissions: {network: {}}\n", "", true},
	};
	static const char *const bad[] = {NET("http://example.com"), NET("\"a..b\""),
		NET("\"example.com:0\""), NET("\"example.com:99999\""), NET("\"a*.b\""),
		NET("10.0.0.0/33"), NET("\"\""), NET("80"), NET("[a]"), NET("{a: b}"),
		MIXIN "permissions: {network: {deny: [-]}}\n",
		MIXIN "permissions: {network: {allow: }}\n",
		MIXIN "permissions: {network: {allow: example.com}}\n"};

	RUN_ALL(good);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct kit_errors errs = {0};
		struct kit k;

		if (kit_load_text(bad[i], strlen(bad[i]), "k", NULL, &k, &errs) == 0)
			fail_msg("accepted: %s", bad[i]);
		assert_int_equal(errs.n_errors, 1);
		assert_int_equal(errs.v[0].line, 4);
		kit_errors_done(&errs);
	}
}

static void test_environment(void **state)
{
	static const struct c t[] = {
		{MIXIN "environment:\n  variables:\n    A: \"1\"\n    _b2: x y\n    C: \"\"\n", "",
			true},
		{MIXIN "environment:\n  variables:\n    A: 1\n",
			"k:6:8: environment.variables.A: YAML takes 1 for a number, expected a "
			"string: quote it, \"1\"\n"},
		{MIXIN "environment:\n  variables:\n    A-B: x\n",
			"k:6:5: environment.variables.A-B: not a variable name, expected letters, "
			"digits and _, not beginning with a digit\n"},
		{MIXIN "environment:\n  variables:\n    2A: x\n    \"\": y\n",
			"k:6:5: environment.variables.2A: not a variable name, expected letters, "
			"digits and _, not beginning with a digit\n"
			"k:7:5: environment.variables.: not a variable name, expected letters, "
			"digits and _, not beginning with a digit\n"},
		{MIXIN "environment:\n  variables: [A]\n",
			"k:5:14: environment.variables: a list, expected a map\n"},
		{MIXIN "environment:\n  variables:\n    HOME: /x\n    no_proxy: a\n    "
		       "HTTPS_PROXY: "
		       "b\n    HUTCH_X: c\n    LD_PRELOAD: d\n    HOMER: e\n",
			"k:6:5: warning: environment.variables.HOME: ignored, Hutch sets this "
			"variable itself\n"
			"k:7:5: warning: environment.variables.no_proxy: ignored, Hutch sets this "
			"variable itself\n"
			"k:8:5: warning: environment.variables.HTTPS_PROXY: ignored, Hutch sets "
			"this variable itself\n"
			"k:9:5: warning: environment.variables.HUTCH_X: ignored, Hutch sets this "
			"variable itself\n"
			"k:10:5: warning: environment.variables.LD_PRELOAD: ignored, Hutch sets "
			"this variable itself\n",
			true},
	};

	RUN_ALL(t);
}

/* Line 4 allows a.test; the credential's inject entry starts in line 8. */
#define CRED(rest)                                                                                 \
	MIXIN "permissions: {network: {allow: [a.test, \"*.b.test:443\", \"c.test:80\"]}}\n"       \
	      "credentials:\n  - service: s\n    apiKey: {name: KEY, inject: [\n{" rest "}]}\n"

#define UNCOVERED                                                                                  \
	"k:8:2: warning: credentials[0].apiKey.inject[0].domain: not allowed by this kit's "       \
	"network rules, so the credential only has an effect when the user or another kit "        \
	"allows the host\n"

static void test_credentials(void **state)
{
	static const struct c t[] = {
		{CRED("domain: a.test, header: X-Key, format: \"%s\""), "", true},
		{CRED("domain: x.b.test, scheme: bearer"), "", true},
		{CRED("domain: \"*.b.test\", scheme: basic, username: u"), "", true},
		{CRED("domain: a.test, username: u"), "", true},
		{CRED("domain: a.test, header: X-Key, scheme: bearer"), "", true},
		{CRED("domain: other.test, scheme: bearer"), UNCOVERED, true},
		{CRED("domain: c.test, scheme: bearer"), UNCOVERED, true},
		{CRED("domain: \"**.b.test\", scheme: bearer"), UNCOVERED, true},
		{CRED("domain: \"**\", scheme: bearer"),
			"k:8:10: credentials[0].apiKey.inject[0].domain: a credential goes to "
			"hosts "
			"by name, expected a host such as api.example.com\n"},
		{CRED("domain: 10.0.0.1, scheme: bearer"),
			"k:8:10: credentials[0].apiKey.inject[0].domain: a credential goes to "
			"hosts "
			"by name, expected a host such as api.example.com\n"},
		{CRED("scheme: bearer"), "k:8:1: credentials[0].apiKey.inject[0]: domain is "
					 "missing\n"},
		{CRED("domain: a.test"), "k:8:1: credentials[0].apiKey.inject[0]: format is "
					 "missing, or scheme\n"},
		{CRED("domain: a.test, header: X"), "k:8:1: credentials[0].apiKey.inject[0]: "
						    "format is missing, or scheme\n"},
		{CRED("domain: a.test, format: \"%s\""), "k:8:1: credentials[0].apiKey.inject[0]: "
							 "header is missing\n"},
		{CRED("domain: a.test, header: X, format: none"),
			"k:8:37: credentials[0].apiKey.inject[0].format: \"none\", expected "
			"exactly "
			"one %s\n"},
		{CRED("domain: a.test, header: X, format: \"%s %s\""),
			"k:8:37: credentials[0].apiKey.inject[0].format: \"%s %s\", expected "
			"exactly one %s\n"},
		{CRED("domain: a.test, header: X, format: \"%s\\r\\nY: 1\""),
			"k:8:37: credentials[0].apiKey.inject[0].format: \"%s??Y: 1\", expected "
			"exactly one %s\n"},
		{CRED("domain: a.test, header: \"X Y\", format: \"%s\""),
			"k:8:26: credentials[0].apiKey.inject[0].header: \"X Y\", expected a "
			"header "
			"name\n"},
		{CRED("domain: a.test, header: host, format: \"%s\""),
			"k:8:26: credentials[0].apiKey.inject[0].header: \"host\", expected a "
			"header that does not steer the connection\n"},
		{CRED("domain: a.test, header: X, format: \"%s\", scheme: bearer"),
			"k:8:43: credentials[0].apiKey.inject[0].scheme: next to format, only one "
			"of the two is allowed\n"},
		{CRED("domain: a.test, scheme: digest"),
			"k:8:26: credentials[0].apiKey.inject[0].scheme: \"digest\", expected "
			"bearer or basic\n"},
		{CRED("domain: a.test, scheme: bearer, username: u"),
			"k:8:34: credentials[0].apiKey.inject[0].username: not allowed with scheme "
			"bearer\n"},
		{CRED("domain: a.test, scheme: basic"),
			"k:8:1: credentials[0].apiKey.inject[0]: username is missing, scheme basic "
			"needs it\n"},
		{CRED("domain: a.test, scheme: basic, username: \"a:b\""),
			"k:8:43: credentials[0].apiKey.inject[0].username: \"a:b\", expected a "
			"user "
			"name without colon\n"},
		{CRED("domain: a.test, header: X, format: \"%s\", username: u"),
			"k:8:43: credentials[0].apiKey.inject[0].username: not allowed with "
			"format, "
			"expected scheme: basic\n"},
		/* Hutch's own kinds. */
		{CRED("domain: a.test, query: key"), "", true},
		{CRED("domain: a.test, placeholder: sk-test-0000, inBody: true"), "", true},
		{CRED("domain: a.test, sign: aws"), "", true},
		{CRED("domain: a.test, registry: true, username: u"), "", true},
		{CRED("domain: a.test, clientCertificate: true"), "", true},
		{CRED("domain: a.test, query: \"a b\""),
			"k:8:25: credentials[0].apiKey.inject[0].query: \"a b\", expected the name "
			"of a parameter\n"},
		{CRED("domain: a.test, placeholder: \"short\""),
			"k:8:31: credentials[0].apiKey.inject[0].placeholder: \"short\", expected 8 "
			"to 256 letters, digits, '-', '.', '_' and '~'\n"},
		{CRED("domain: a.test, sign: gcp"),
			"k:8:24: credentials[0].apiKey.inject[0].sign: \"gcp\", expected aws\n"},
		{CRED("domain: a.test, registry: false"),
			"k:8:28: credentials[0].apiKey.inject[0].registry: expected true, or leave "
			"it out\n"},
		{CRED("domain: a.test, query: key, header: X"),
			"k:8:30: credentials[0].apiKey.inject[0].header: not allowed with query\n"},
		{CRED("domain: a.test, sign: aws, clientCertificate: true"),
			"k:8:29: credentials[0].apiKey.inject[0].clientCertificate: not allowed "
			"with sign\n"},
		{CRED("domain: a.test, header: X, format: \"%s\", inBody: true"),
			"k:8:43: credentials[0].apiKey.inject[0].inBody: only allowed with "
			"placeholder\n"},
		{CRED("domain: a.test, scheme: bearer, insecure: true"),
			"k:8:34: credentials[0].apiKey.inject[0].insecure: only allowed for domain "
			"host.hutch.internal\n"},
		{MIXIN "credentials:\n  - service: s\n", "k:5:5: credentials[0]: apiKey is "
							 "missing, or oauth\n"},
		{MIXIN "credentials:\n  - service: Bad_Name\n    apiKey: {name: K}\n",
			"k:5:14: credentials[0].service: \"Bad_Name\", expected 1 to 64 lower-case "
			"letters, digits and inner hyphens\n"},
		{MIXIN "credentials:\n  - service: s\n    apiKey: {name: 1K}\n",
			"k:6:20: credentials[0].apiKey.name: \"1K\", expected letters, digits and "
			"_, not beginning with a digit\n"},
		{MIXIN "credentials:\n  - service: s\n    apiKey: {name: PATH}\n",
			"k:6:20: credentials[0].apiKey.name: Hutch sets this variable itself, "
			"expected another name\n"},
		{MIXIN "credentials:\n  - service: s\n    apiKey: {}\n",
			"k:6:13: credentials[0].apiKey: name is missing\n"},
		{MIXIN "credentials:\n  - service: s\n    oauth: {}\n",
			"k:6:12: credentials[0].oauth: tokenEndpoint is missing\n"
			"k:6:12: credentials[0].oauth: sentinels is missing, or passthrough: true\n"},
		{MIXIN "credentials:\n  - service: s\n    provider: x\n    required: true\n"
		       "    apiKey: {name: K, proxyManaged: true}\n",
			"k:6:5: warning: credentials[0].provider: has no effect\n", true},
		{MIXIN "credentials:\n  - service: s\n    required: \"true\"\n    apiKey: {name: "
		       "K}\n",
			"k:6:15: credentials[0].required: a string, expected true or false, "
			"without "
			"quotes\n"},
		{MIXIN "credentials:\n  - service: s\n    apiKey: {name: K, proxyManaged: false}\n",
			"k:6:23: warning: credentials[0].apiKey.proxyManaged: has no effect, the "
			"sandbox sees a placeholder in every case\n",
			true},
		{MIXIN "credentials:\n  - {service: s, apiKey: {name: K}}\n"
		       "  - {service: s, apiKey: {name: K}}\n",
			"k:6:15: credentials[1].service: twice in this kit\n"},
		{MIXIN "credentials:\n  - {service: s, apiKey: {name: K}}\n"
		       "  - {service: t, apiKey: {name: K}}\n",
			"k:6:33: credentials[1].apiKey.name: already the variable of service s\n"},
		{MIXIN "credentials:\n  sources: {}\n",
			"k:5:3: credentials: a map, expected a list "
			"of maps\n"},
		{MIXIN "credentials: [x]\n", "k:4:15: credentials[0]: a string, expected a map\n"},
	};

	RUN_ALL(t);
}

static void test_setup(void **state)
{
	static const struct c t[] = {
		{MIXIN "setup:\n  install:\n    - command: apt-get update\n      user: \"0\"\n"
		       "      description: d\n  startup:\n    - command: [a, b]\n      background: "
		       "true\n      user: agent\n",
			"", true},
		{MIXIN "setup: {install: [{command: [a]}]}\n",
			"k:4:29: setup.install[0].command: a list, expected a string that sh -c "
			"runs\n"},
		{MIXIN "setup: {install: [{command: \" \"}]}\n",
			"k:4:29: setup.install[0].command: empty, expected a command\n"},
		{MIXIN "setup: {install: [{}]}\n",
			"k:4:19: setup.install[0]: command is missing\n"},
		{MIXIN "setup: {install: [{command: a, background: true}]}\n",
			"k:4:32: setup.install[0].background: unknown key, expected one of "
			"command, "
			"user, description\n"},
		{MIXIN "setup: {install: [{command: a, user: 0}]}\n",
			"k:4:38: setup.install[0].user: YAML takes 0 for a number, expected a "
			"string: quote it, \"0\"\n"},
		{MIXIN "setup: {install: [{command: a, user: \"-x y\"}]}\n",
			"k:4:38: setup.install[0].user: \"-x y\", expected a user name or "
			"number\n"},
		{MIXIN "setup: {startup: [{command: a b}]}\n",
			"k:4:29: setup.startup[0].command: a string, expected a list of strings, "
			"the program and its arguments\n"},
		{MIXIN "setup: {startup: [{command: []}]}\n",
			"k:4:29: setup.startup[0].command: an empty list, expected the program and "
			"its arguments\n"},
		{MIXIN "setup: {startup: [{command: [a], background: yes}]}\n",
			"k:4:46: setup.startup[0].background: a string, expected true or false, "
			"without quotes\n"},
		{MIXIN "setup: {files: [{path: /a/b, content: x, mode: \"0755\"}, {path: /c}]}\n",
			"", true},
		{MIXIN "setup: {files: [{path: /a, mode: 0644}]}\n",
			"k:4:34: setup.files[0].mode: YAML takes 0644 for a number, expected a "
			"string: quote it, \"0644\"\n"},
		{MIXIN "setup: {files: [{path: /a, mode: \"0888\"}]}\n",
			"k:4:34: setup.files[0].mode: \"0888\", expected an octal file mode such "
			"as "
			"0644\n"},
		{MIXIN "setup: {files: [{path: /a, mode: \"12345\"}]}\n",
			"k:4:34: setup.files[0].mode: \"12345\", expected an octal file mode such "
			"as 0644\n"},
		{MIXIN "setup: {files: [{content: x}]}\n", "k:4:17: setup.files[0]: path is "
							   "missing\n"},
		{MIXIN "setup: {files: [{path: a/b}]}\n",
			"k:4:24: setup.files[0].path: \"a/b\", expected an absolute path without . "
			"and .. in it\n"},
		{MIXIN "setup: {files: [{path: /a/../b}]}\n",
			"k:4:24: setup.files[0].path: \"/a/../b\", expected an absolute path "
			"without . and .. in it\n"},
		{MIXIN "setup: {files: [{path: /a//b}]}\n",
			"k:4:24: setup.files[0].path: \"/a//b\", expected an absolute path without "
			". and .. in it\n"},
		{MIXIN "setup: {files: [{path: /a/}]}\n",
			"k:4:24: setup.files[0].path: \"/a/\", expected an absolute path without . "
			"and .. in it\n"},
		{MIXIN "setup: {files: [{path: /}]}\n",
			"k:4:24: setup.files[0].path: \"/\", expected an absolute path without . "
			"and .. in it\n"},
		{MIXIN "setup: {initFiles: []}\n",
			"k:4:9: setup.initFiles: not a key of schemaVersion \"2\", today it is "
			"setup.files\n"},
	};

	RUN_ALL(t);
}

static void test_model(void **state)
{
	static const char text[] =
		"schemaVersion: \"2\"\nkind: sandbox\nname: full\nversion: \"1.0\"\n"
		"displayName: Full\nsandbox:\n  image: base\n  entrypoint: [a, --b]\n"
		"  command: [-c]\n  resources: {cpu: 1.5, memory: 2gib}\n"
		"agentInstructions: {filename: X.md, content: text}\n"
		"permissions: {network: {allow: [a.test], deny: [b.test]}}\n"
		"credentials:\n  - service: s\n    required: true\n    apiKey:\n      name: K\n"
		"      inject: [{domain: a.test, scheme: basic, username: u},\n"
		"               {domain: a.test, header: X, scheme: bearer}]\n"
		"environment: {variables: {A: \"1\", USER: x, B: two}}\n"
		"setup:\n  install: [{command: i}]\n  startup: [{command: [s, t]}]\n"
		"  files: [{path: /f, content: \"${WORKDIR}\", mode: \"600\", onlyIfMissing: "
		"true},\n"
		"          {path: /g}]\n";
	struct kit_errors errs = {0};
	struct kit k;

	assert_int_equal(kit_load_text(text, strlen(text), "k", NULL, &k, &errs), 0);
	assert_int_equal(k.kind, KIT_SANDBOX);
	assert_int_equal(k.schema, 2);
	assert_string_equal(k.version, "1.0");
	assert_string_equal(k.sandbox.entrypoint.v[1], "--b");
	assert_string_equal(k.sandbox.command_default.v[0], "-c");
	assert_string_equal(k.sandbox.command_interactive.v[0], "-c"); /* falls back */
	assert_true(k.sandbox.cpus > 1.49 && k.sandbox.cpus < 1.51);
	assert_true(k.sandbox.memory_bytes == 2ULL << 30);
	assert_string_equal(k.instructions_filename, "X.md");
	assert_int_equal(k.n_rules, 2);
	assert_true(k.rules[0].allow);
	assert_false(k.rules[1].allow);
	assert_string_equal(k.rules[1].target, "b.test");
	assert_int_equal(k.n_credentials, 1);
	assert_true(k.credentials[0].required);
	assert_string_equal(k.credentials[0].env, "K");
	assert_string_equal(k.credentials[0].injects[0].username, "u");
	assert_string_equal(k.credentials[0].injects[0].header, "Authorization");
	assert_string_equal(k.credentials[0].injects[0].format, "Basic %s");
	assert_string_equal(k.credentials[0].injects[1].header, "X");
	assert_string_equal(k.credentials[0].injects[1].format, "Bearer %s");
	assert_null(k.credentials[0].injects[1].username);
	assert_int_equal(k.n_vars, 2);
	assert_string_equal(k.vars[1].name, "B");
	assert_string_equal(k.install[0].argv.v[0], "sh");
	assert_string_equal(k.install[0].argv.v[2], "i");
	assert_string_equal(k.install[0].user, "0");
	assert_string_equal(k.startup[0].argv.v[1], "t");
	assert_string_equal(k.startup[0].user, "1000");
	assert_string_equal(k.files[0].content, "${WORKDIR}");
	assert_int_equal(k.files[0].mode, 0600);
	assert_true(k.files[0].only_if_missing);
	assert_int_equal(k.files[1].mode, 0644);
	assert_string_equal(k.files[1].content, "");
	assert_int_equal(errs.n, 1); /* USER */
	kit_done(&k);
	kit_errors_done(&errs);
}

static void test_command_forms(void **state)
{
	static const char text[] = SANDBOX "  command: {default: [a, b], interactive: []}\n";
	static const char only_default[] = SANDBOX "  command: {default: [a, b]}\n";
	struct kit_errors errs = {0};
	struct kit k;

	assert_int_equal(kit_load_text(text, strlen(text), "k", NULL, &k, &errs), 0);
	assert_int_equal(k.sandbox.command_default.n, 2);
	assert_int_equal(k.sandbox.command_interactive.n, 0);
	kit_done(&k);
	assert_int_equal(kit_load_text(only_default, strlen(only_default), "k", NULL, &k, &errs), 0);
	assert_int_equal(k.sandbox.command_interactive.n, 2);
	kit_done(&k);
	kit_errors_done(&errs);
}

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {{"0", 0}, {"512", 512}, {"512b", 512}, {"1k", 1024}, {"512m", 512ULL << 20},
		{"8g", 8ULL << 30}, {"8G", 8ULL << 30}, {"2gib", 2ULL << 30}, {"2GB", 2ULL << 30},
		{"1.5g", 1536ULL << 20}, {"4 MiB", 4ULL << 20}, {"1t", 1ULL << 40},
		{"9223372036854775807", INT64_MAX}};
	static const char *const bad[] = {"", "g", "-1", "1x", "1gg", "1.g", ".5g", "1 2",
		"9223372036854775808", "99999999999999999999", "9000000000g", "1e3", "0x10",
		"8191.9999999p9", "1i"};
	uint64_t v;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(kit_parse_size(good[i].text, &v), 0);
		assert_true(v == good[i].bytes);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (kit_parse_size(bad[i], &v) == 0)
			fail_msg("accepted size %s", bad[i]);
}

/* ---- directories ---- */

static char *make_kit_dir(const char *spec)
{
	char *dir = xstrdup("/tmp/hutch-test-kit-XXXXXX");
	_free_ char *file = NULL;

	assert_non_null(mkdtemp(dir));
	file = fs_join(dir, "spec.yaml");
	if (spec)
		assert_int_equal(fs_write_file(AT_FDCWD, file, spec, strlen(spec), 0644, NULL), 0);
	return dir;
}

static void put(const char *dir, const char *name, const char *link)
{
	_free_ char *path = fs_join(dir, name), *parent = xstrdup(path);

	*strrchr(parent, '/') = '\0';
	assert_int_equal(fs_mkdirs(parent, 0755, NULL), 0);
	if (link)
		assert_int_equal(symlink(link, path), 0);
	else
		assert_int_equal(fs_write_file(AT_FDCWD, path, "x", 1, 0644, NULL), 0);
}

static void drop(char *dir)
{
	assert_int_equal(fs_remove_tree(AT_FDCWD, dir, NULL), 0);
	free(dir);
}

static void test_load_dir(void **state)
{
	char *dir = make_kit_dir(MIXIN);
	_free_ char *file = fs_join(dir, "spec.yaml");
	struct kit_errors errs = {0};
	struct err err = {0};
	struct kit k;

	assert_int_equal(kit_load(dir, NULL, &k, &errs, &err), 0);
	assert_string_equal(k.dir, dir);
	assert_string_equal(k.file, file);
	assert_false(k.has_home);
	kit_done(&k);
	put(dir, "files/home/.rc", NULL);
	put(dir, "files/home/bin/tool", "../.rc");
	put(dir, "files/workspace/a/b/c", "../../x/../y");
	assert_int_equal(kit_load(file, NULL, &k, &errs, &err), 0); /* by its file */
	assert_string_equal(k.dir, dir);
	assert_true(k.has_home && k.has_workspace);
	assert_int_equal(errs.n, 0);
	kit_done(&k);
	drop(dir);
}

static void test_load_missing(void **state)
{
	char *dir = make_kit_dir(NULL);
	_free_ char *none = fs_join(dir, "none"), *want = NULL, *spec = fs_join(dir, "spec.yaml");
	struct kit_errors errs = {0};
	struct err err = {0};
	struct kit k;

	assert_int_equal(kit_load(dir, NULL, &k, &errs, &err), -1);
	want = xasprintf("kit %s: no spec.yaml in this directory", dir);
	assert_string_equal(err.msg, want);
	assert_int_equal(err.class, ERR_USER);
	free(want);
	assert_int_equal(kit_load(none, NULL, &k, &errs, &err), -1);
	want = xasprintf("kit %s: no such directory", none);
	assert_string_equal(err.msg, want);
	assert_int_equal(mkdir(spec, 0755), 0);
	assert_int_equal(kit_load(dir, NULL, &k, &errs, &err), -1);
	assert_non_null(strstr(err.msg, "is not a regular file"));
	assert_int_equal(errs.n, 0);
	drop(dir);
}

static void test_load_broken(void **state)
{
	char *dir = make_kit_dir(MIXIN "nmae: x\nversion: 1\n");
	_free_ char *want = xasprintf("kit %s: 2 errors", dir);
	struct kit_errors errs = {0};
	struct err err = {0};
	struct kit k = {.schema = 77};

	assert_int_equal(kit_load(dir, NULL, &k, &errs, &err), -1);
	assert_string_equal(err.msg, want);
	assert_int_equal(errs.n_errors, 2);
	assert_int_equal(k.schema, 77); /* untouched */
	kit_errors_done(&errs);
	drop(dir);
}

static void test_files_tree(void **state)
{
	static const struct {
		const char *name, *link, *says;
	} t[] = {
		{"files/home/l", "/etc/passwd",
			"a link out of the kit, expected a relative one that stays inside"},
		{"files/home/l", "../spec.yaml",
			"a link out of the kit, expected a relative one that stays inside"},
		{"files/home/a/l", "../../x",
			"a link out of the kit, expected a relative one that stays inside"},
		{"files/home/a/l", "b/../../../home/x",
			"a link out of the kit, expected a relative one that stays inside"},
		{"files/home", "/etc", "not a directory"},
		{"files/workspace", NULL, "not a directory"},
		{"files", "/etc", "not a directory"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		char *dir = make_kit_dir(MIXIN);
		_free_ char *path = fs_join(dir, t[i].name);
		struct kit_errors errs = {0};
		struct err err = {0};
		struct kit k;

		put(dir, t[i].name, t[i].link);
		assert_int_equal(kit_load(dir, NULL, &k, &errs, &err), -1);
		assert_int_equal(errs.n, 1);
		assert_string_equal(errs.v[0].file, path);
		assert_string_equal(errs.v[0].message, t[i].says);
		kit_errors_done(&errs);
		drop(dir);
	}
}

static void test_files_tree_odd(void **state)
{
	char *dir = make_kit_dir(MIXIN);
	_free_ char *fifo = fs_join(dir, "files/home/pipe");
	struct kit_errors errs = {0};
	struct err err = {0};
	struct kit k;

	put(dir, "files/other/x", NULL);
	assert_int_equal(kit_load(dir, NULL, &k, &errs, &err), 0);
	assert_int_equal(errs.n, 1);
	assert_true(errs.v[0].warning);
	kit_done(&k);
	kit_errors_done(&errs);

	put(dir, "files/home/x", NULL);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(kit_load(dir, NULL, &k, &errs, &err), -1);
	assert_string_equal(
		errs.v[errs.n - 1].message, "neither a regular file, a directory nor a link");
	kit_errors_done(&errs);
	drop(dir);
}

static void test_files_too_large(void **state)
{
	char *dir = make_kit_dir(MIXIN);
	_free_ char *big = fs_join(dir, "files/home/big");
	struct kit_errors errs = {0};
	struct err err = {0};
	struct kit k;

	put(dir, "files/home/big", NULL);
	assert_int_equal(truncate(big, 257 << 20), 0); /* sparse */
	assert_int_equal(kit_load(dir, NULL, &k, &errs, &err), -1);
	assert_string_equal(errs.v[0].message, "more than 256 MiB of files in one kit");
	kit_errors_done(&errs);
	drop(dir);
}

static void test_validate(void **state)
{
	char *dir = make_kit_dir(MIXIN "environment: {variables: {HOME: x}}\n");
	_free_ char *want = NULL;
	char out[1024] = "";
	struct err err = {0};
	FILE *f = fmemopen(out, sizeof(out), "w");

	assert_int_equal(kit_validate(dir, NULL, false, f, &err), 0);
	fclose(f);
	want = xasprintf(
		"%s/spec.yaml:4:27: warning: environment.variables.HOME: ignored, Hutch "
		"sets this variable itself\n%s/spec.yaml: mixin kit m, schemaVersion 2: ok\n",
		dir, dir);
	assert_string_equal(out, want);
	drop(dir);
}

static void test_shipped_kits(void **state)
{
	static const char *const dirs[] = {"kits/shell", "examples/kits/hello"};

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		struct kit_errors errs = {0};
		struct err err = {0};
		struct kit k;

		assert_int_equal(kit_load(dirs[i], NULL, &k, &errs, &err), 0);
		assert_int_equal(errs.n, 0);
		kit_done(&k);
	}
}

static void test_locate(void **state)
{
	char *dir = make_kit_dir(NULL);
	_free_ char *want = fs_join(dir, "kits/shell");
	struct err err = {0};
	char *got;

	put(dir, "kits/shell/spec.yaml", NULL);
	put(dir, "kits/empty/x", NULL);
	setenv("HUTCH_SHARE", dir, 1);
	got = kit_locate("shell", &err);
	assert_string_equal(got, want);
	free(got);
	got = kit_locate("./shell", &err);
	assert_string_equal(got, "./shell");
	free(got);
	got = kit_locate(".", &err);
	assert_string_equal(got, ".");
	free(got);
	assert_null(kit_locate("empty", &err));
	assert_string_equal(err.msg, "empty: no such kit");
	assert_null(kit_locate("Shell", &err));
	assert_string_equal(err.msg, "Shell: not a kit name");
	assert_string_equal(err.hint, "write ./Shell for a directory");
	unsetenv("HUTCH_SHARE");
	drop(dir);
}

/* ---- composition ---- */

#define CRED_MIXIN(name, service)                                                                  \
	"schemaVersion: \"2\"\nkind: mixin\nname: " name "\ncredentials:\n  - {service: " service  \
	", apiKey: {name: K}}\n"

static void test_sets(void **state)
{
	static const struct {
		const char *kits[3];
		const char *says; /* NULL: fine */
	} t[] = {
		{{SANDBOX}, NULL},
		{{SANDBOX, MIXIN}, NULL},
		{{MIXIN, SANDBOX}, NULL},
		{{SANDBOX, CRED_MIXIN("a", "x"), CRED_MIXIN("b", "y")}, NULL},
		{{SANDBOX, MIXIN "requires: {agent: k}\n"}, NULL},
		{{NULL}, "no kit given"},
		{{MIXIN}, "kit m: a mixin, a sandbox kit is needed to run it on"},
		{{SANDBOX, MIXIN, MIXIN}, "kit m: given twice, or another kit has its name"},
		{{SANDBOX, SANDBOX}, "kit k: a second sandbox kit, k is one already"},
		{{SANDBOX, CRED_MIXIN("a", "x"), CRED_MIXIN("b", "x")},
			"kit b: service x already belongs to kit a"},
		{{SANDBOX, MIXIN "requires: {agent: claude}\n"},
			"kit m: made for agent claude, not for k"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct kit kits[3];
		struct kit_errors errs = {0};
		struct err err = {0};
		size_t n = 0;

		for (; n < 3 && t[i].kits[n]; n++)
			assert_int_equal(kit_load_text(t[i].kits[n], strlen(t[i].kits[n]), "k",
						 NULL, &kits[n], &errs),
				0);
		assert_int_equal(kit_check_set(kits, n, &err), t[i].says ? -1 : 0);
		assert_string_equal(err.msg, t[i].says ? t[i].says : "");
		if (!t[i].says)
			assert_string_equal(kit_base(kits, n)->name, "k");
		while (n > 0)
			kit_done(&kits[--n]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_yaml_subset),
		cmocka_unit_test(test_ceilings),
		cmocka_unit_test(test_too_many_entries),
		cmocka_unit_test(test_error_list_is_bounded),
		cmocka_unit_test(test_ssh_agent),
		cmocka_unit_test(test_version_and_kind),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_sandbox_block),
		cmocka_unit_test(test_instructions),
		cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_credentials),
		cmocka_unit_test(test_setup),
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_command_forms),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_load_dir),
		cmocka_unit_test(test_load_missing),
		cmocka_unit_test(test_load_broken),
		cmocka_unit_test(test_files_tree),
		cmocka_unit_test(test_files_tree_odd),
		cmocka_unit_test(test_files_too_large),
		cmocka_unit_test(test_validate),
		cmocka_unit_test(test_shipped_kits),
		cmocka_unit_test(test_locate),
		cmocka_unit_test(test_sets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

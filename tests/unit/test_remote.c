/* SPDX-License-Identifier: Apache-2.0 */
/* Kits from elsewhere: references, what kits ask for, what is remembered, the cache. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/tree.h"
#include "remote/approve.h"
#include "remote/cache.h"
#include "remote/grants.h"
#include "remote/ref.h"

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define DIGEST "sha256:" COMMIT "0123456789abcdef01234567"

/* ---- references ---- */

static void test_references(void **state)
{
	static const struct {
		const char *text, *pinned, *source;
		bool local;
	} t[] = {
		{"git+https://Example.com/Org/kits.git#ref=" COMMIT "&dir=jq",
			"git+https://example.com/Org/kits.git#ref=" COMMIT "&dir=jq",
			"git+https://example.com/Org/kits.git#dir=jq", false},
		{"git+https://example.com/kits#dir=a/b/&ref=" COMMIT,
			"git+https://example.com/kits#ref=" COMMIT "&dir=a/b",
			"git+https://example.com/kits#dir=a/b", false},
		{"git+ssh://git@example.com:22/kits#ref=" COMMIT,
			"git+ssh://git@example.com:22/kits#ref=" COMMIT,
			"git+ssh://git@example.com:22/kits", false},
		{"git+file:///srv/kits#ref=" COMMIT, "git+file:///srv/kits#ref=" COMMIT,
			"git+file:///srv/kits", true},
		{"git+http://127.0.0.1:80/kits#ref=" COMMIT,
			"git+http://127.0.0.1:80/kits#ref=" COMMIT, "git+http://127.0.0.1:80/kits",
			true},
		{"git+https://example.com/kits#ref=v1.2", NULL, "git+https://example.com/kits",
			false},
		{"git+https://example.com/kits", NULL, "git+https://example.com/kits", false},
		{"oci://registry.example.com/a/b:1.0@" DIGEST,
			"oci://registry.example.com/a/b@" DIGEST, "oci://registry.example.com/a/b",
			false},
		{"oci://localhost:5000/a@" DIGEST, "oci://localhost:5000/a@" DIGEST,
			"oci://localhost:5000/a", true},
		{"oci://localhost/a:latest", NULL, "oci://localhost/a", true},
		{"oci://127.example.com/a", NULL, "oci://127.example.com/a", false},
		{"oci://localhost.example.com/a", NULL, "oci://localhost.example.com/a", false},
		{"./a.zip", NULL, "./a.zip", true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct err err = {0};
		struct ref r;

		assert_true(ref_is_remote(t[i].text));
		if (ref_parse(t[i].text, &r, &err) < 0)
			fail_msg("%s", err.msg);
		assert_string_equal(r.source, t[i].source);
		assert_int_equal(r.local, t[i].local);
		assert_int_equal(r.pin != NULL, t[i].pinned != NULL);
		if (r.pin) {
			_free_ char *pinned = ref_pinned(&r);

			assert_string_equal(pinned, t[i].pinned);
		}
		ref_done(&r);
	}
	assert_false(ref_is_remote("shell"));
	assert_false(ref_is_remote("./git"));
	assert_false(ref_is_remote(".zip"));
}

static void test_bad_references(void **state)
{
	static const char *const t[] = {"git+ext://sh/-c%20id", "git+git://example.com/a",
		"git+http://example.com/a", "git+https://", "git+https:///a",
		"git+https://example.com", "git+https://example.com/",
		"git+https://user:pw@example.com/a", "git+https://example.com/a/../b",
		"git+https://example.com/a//b", "git+https://example.com/%2e%2e/b",
		"git+https://example.com/a?x", "git+ssh://-oProxy/a", "git+ssh://a@-oProxy/a",
		"git+ssh://a@b@c/a", "git+https://../a/b", "git+https://.a/b", "git+https://:80/b",
		"git+ssh://a b@c/d", "oci://../a", "oci://.a/b", "git+file://host/a",
		"git+file://a", "git+https://example.com/a#ref=--upload-pack=x",
		"git+https://example.com/a#ref=a..b",
		"git+https://example.com/a#ref=", "git+https://example.com/a#dir=../x",
		"git+https://example.com/a#dir=/x", "git+https://example.com/a#ref=a&ref=b",
		"git+https://example.com/a#branch=x", "git+https://exa mple.com/a", "oci://",
		"oci:///a", "oci://example.com", "oci://example.com/", "oci://example/a",
		"oci://example.com/A", "oci://example.com/a/../b",
		"oci://example.com/a:", "oci://example.com/a:.x", "oci://example.com/a@sha256:12",
		"oci://example.com/a@md5:12", "oci://u@example.com/a",
		"oci://example.com/a@" DIGEST "0", "oci://example.com/.a"};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct err err = {0};
		struct ref r;

		if (ref_parse(t[i], &r, &err) == 0)
			fail_msg("%s was taken", t[i]);
		assert_true(err.msg[0]);
	}
}

/* ---- grants ---- */

static void load(struct kit *k, const char *text)
{
	struct kit_errors errs = {0};
	_free_ char *whole = xasprintf("schemaVersion: \"2\"\nkind: mixin\nname: a\n%s", text);

	if (kit_load_text(whole, strlen(whole), "spec.yaml", NULL, k, &errs) < 0) {
		kit_errors_print(&errs, stderr);
		fail();
	}
	kit_errors_done(&errs);
	k->source = xstrdup("oci://example.com/a");
	k->digest = xstrdup(COMMIT);
}

static void expect(const struct strv *got, const char *const *want)
{
	size_t n = 0;

	for (; want[n]; n++) {
		if (n >= got->n)
			fail_msg("missing: %s", want[n]);
		assert_string_equal(got->v[n], want[n]);
	}
	assert_int_equal(got->n, n);
}
#define EXPECT(got, ...) expect(got, (const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void test_grants(void **state)
{
	static const char text[] =
		"permissions: {network: {allow: [b.test, a.test], deny: [x.b.test]}}\n"
		"ports: [{container: 8080}]\n"
		"security: {privileged: true}\n"
		"credentials:\n"
		"  - service: hub\n"
		"    apiKey: {name: HUB, inject: [{domain: a.test, header: X-Key, format: "
		"\"%s\"}]}\n";
	static const char ssh[] = "sshAgent: {keys: [me@host], hosts: [git.test]}\n";
	struct kit k = {0}, other = {0};
	struct strv got = {0};

	load(&k, text);
	grants_of(&k, 1, "oci://example.com/a", &got);
	EXPECT(&got, "allow a.test", "allow b.test", "credential hub to a.test in X-Key",
		"deny x.b.test", "port 8080/tcp", "privileged");
	strv_done(&got);
	grants_of(&k, 1, "oci://example.com/b", &got);
	EXPECT(&got);
	grants_of(&other, 1, "oci://example.com/a", &got);
	EXPECT(&got);
	kit_done(&k);
	load(&k, ssh);
	grants_of(&k, 1, "oci://example.com/a", &got);
	EXPECT(&got, "ssh-agent for git.test", "ssh-agent key me@host");
	strv_done(&got);
	kit_done(&k);
}

/* schemaVersion "3": what capabilities say, with the phase that they say it for. */
static void test_grants_of_capabilities(void **state)
{
#define CAP(type, config) "  - type: com.docker.sandbox/" type "\n    config: " config "\n"
	static const char text[] =
		"schemaVersion: \"3\"\nkind: mixin\ncapabilities:\n"
		CAP("network-policy@1", "{install: {allow: [i.test]}, runtime: {allow: [r.test], deny: "
					"[x.r.test]}}")
		CAP("credential@1", "{service: s, phase: [install, runtime], apiKey: {name: K, inject: "
				    "[{domain: r.test, scheme: bearer}]}}")
		CAP("ssh-agent@1", "{phase: install, unrestricted: false, sign: [git], authenticate: "
				   "[git@git.test]}")
		CAP("ssh-agent@1", "{phase: runtime}")
		CAP("host-mount@1", "{path: /shared}") CAP("volume@1", "{path: /v}")
		"  - type: com.docker.sandbox/privileged@1\n"
		"  - type: com.docker.sandbox/git-identity@1\n"
		"  - type: com.docker.sandbox/usb-device@1\n    optional: true\n"
		"    config: {class: hid}\n";
	struct kit_errors errs = {0};
	struct strv got = {0};
	struct kit k = {0};

	assert_int_equal(kit_load_text(text, strlen(text), "a.yaml", NULL, &k, &errs), 0);
	k.source = xstrdup("oci://example.com/a");
	grants_of(&k, 1, "oci://example.com/a", &got);
	EXPECT(&got, "allow i.test:* (during installation)", "allow r.test:*",
		"credential s to r.test in Authorization",
		"credential s to r.test in Authorization (during installation)", "deny x.r.test:*",
		"privileged", "shared folder /shared",
		"ssh-agent for signatures of git (during installation)",
		"ssh-agent to log in at git@git.test (during installation)",
		"ssh-agent, every key, for any signature", "volume /v",
		"your name and address, as git has them");
	strv_done(&got);
	kit_done(&k);
	kit_errors_done(&errs);
}

/* What was asked for first, what now, what is new. */
static void test_widening(void **state)
{
	static const struct {
		const char *old[5], *now[5], *diff[5];
	} t[] = {
		{{"allow a.test"}, {"allow a.test"}, {NULL}},
		{{"allow a.test"}, {NULL}, {NULL}},
		{{"allow a.test"}, {"allow a.test", "allow b.test"}, {"+ allow b.test"}},
		{{"allow **.test"}, {"allow a.test"}, {NULL}},
		{{"allow a.test"}, {"allow a.test:80"}, {"+ allow a.test:80"}},
		{{"allow a.test"}, {"allow **"}, {"+ allow **"}},
		{{"allow a.test", "deny x.a.test"}, {"allow a.test"}, {"- deny x.a.test"}},
		{{"allow a.test"}, {"allow a.test", "deny x.a.test"}, {NULL}},
		{{"allow a.test", "deny x.a.test"}, {"allow a.test", "deny **.a.test"},
			{"- deny x.a.test"}},
		{{NULL}, {"credential hub to a.test"}, {"+ credential hub to a.test"}},
		{{"credential hub to a.test"}, {"credential hub to b.test"},
			{"+ credential hub to b.test"}},
		{{"allow a.test methods GET"}, {"allow a.test"}, {"+ allow a.test"}},
		{{"allow a.test"}, {"allow a.test methods GET"}, {"+ allow a.test methods GET"}},
		{{"allow a.test (during installation)"}, {"allow a.test"}, {"+ allow a.test"}},
		{{"ssh-agent to log in at git.test"}, {"ssh-agent to log in at me@git.test"}, {NULL}},
		{{"ssh-agent to log in at me@git.test"}, {"ssh-agent to log in at git.test"},
			{"+ ssh-agent to log in at git.test"}},
		{{"ssh-agent to log in at git.test"},
			{"ssh-agent to log in at git.test (during installation)"},
			{"+ ssh-agent to log in at git.test (during installation)"}},
		{{NULL}, {"privileged", "port 80/tcp"}, {"+ privileged", "+ port 80/tcp"}},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct strv old = {0}, now = {0}, diff = {0};

		for (size_t m = 0; t[i].old[m]; m++)
			strv_add(&old, t[i].old[m]);
		for (size_t m = 0; t[i].now[m]; m++)
			strv_add(&now, t[i].now[m]);
		grants_widen(&old, &now, &diff);
		expect(&diff, t[i].diff);
		strv_done(&old);
		strv_done(&now);
		strv_done(&diff);
	}
}

/* ---- what is remembered ---- */

static int with_home(void **state)
{
	char *dir = xstrdup("/tmp/hutch-remote-XXXXXX");

	if (!mkdtemp(dir))
		return -1;
	setenv("XDG_CONFIG_HOME", dir, 1);
	setenv("XDG_DATA_HOME", dir, 1);
	*state = dir;
	return 0;
}

static int without_home(void **state)
{
	fs_remove_tree(AT_FDCWD, *state, NULL);
	free(*state);
	return 0;
}

static void test_approvals(void **state)
{
	struct kit first = {0}, wider = {0}, local = {0};
	struct approvals a;
	struct err err;

	load(&first, "permissions: {network: {allow: [a.test]}}\n");
	load(&wider, "permissions: {network: {allow: [a.test, b.test]}}\n");
	load(&local, "permissions: {network: {allow: [c.test]}}\n");
	free(local.source);
	local.source = NULL;

	assert_int_equal(approvals_find(&local, 1, &a, &err), 0);
	assert_int_equal(a.n, 0);
	assert_int_equal(approvals_find(&first, 1, &a, &err), 0);
	assert_int_equal(a.n, 1);
	assert_false(a.v[0].known);
	EXPECT(&a.v[0].diff, "+ allow a.test");
	assert_int_equal(approvals_save(&a.v[0], &err), 0);
	approvals_done(&a);

	assert_int_equal(approvals_find(&first, 1, &a, &err), 0);
	assert_int_equal(a.n, 0);
	assert_int_equal(approvals_find(&wider, 1, &a, &err), 0);
	assert_int_equal(a.n, 1);
	assert_true(a.v[0].known);
	EXPECT(&a.v[0].diff, "+ allow b.test");
	approvals_done(&a);

	/* Two kits of one source are one question, and a kit that asks for nothing is one, too. */
	assert_int_equal(approvals_find((struct kit[]){first, wider}, 2, &a, &err), 0);
	assert_int_equal(a.n, 1);
	approvals_done(&a);
	kit_done(&first);
	kit_done(&wider);
	kit_done(&local);
	load(&first, "");
	free(first.source);
	first.source = xstrdup("oci://example.com/other");
	assert_int_equal(approvals_find(&first, 1, &a, &err), 0);
	assert_int_equal(a.n, 1);
	approvals_done(&a);
	kit_done(&first);
}

static void write_in(int dirfd, const char *name, const char *text)
{
	assert_int_equal(fs_write_file(dirfd, name, text, strlen(text), 0644, NULL), 0);
}

static void test_cache(void **state)
{
	char digest[SHA256_HEX], again[SHA256_HEX];
	_free_ char *path = NULL, *found = NULL, *second = NULL, *file = NULL;
	struct stage s;
	struct err err;

	assert_null(cache_find("oci://a", digest));
	for (int i = 0; i < 2; i++) { /* twice the same: once there */
		assert_int_equal(stage_open(&s, &err), 0);
		assert_int_equal(mkdirat(s.fd, "kit", 0700), 0);
		write_in(s.fd, "kit/spec.yaml", "x");
		free(path);
		path = cache_add(&s, "kit", i ? "oci://b" : "oci://a", digest, &err);
		assert_non_null(path);
		stage_close(&s);
		assert_null(s.path);
	}
	found = cache_find("oci://a", again);
	second = cache_find("oci://b", again);
	assert_string_equal(found, path);
	assert_string_equal(second, path);
	assert_string_equal(again, digest);

	/* A changed byte, a new file, a mode: it is not there any more. */
	file = fs_join(path, "spec.yaml");
	assert_int_equal(chmod(file, 0755), 0);
	assert_null(cache_find("oci://a", again));
	assert_int_equal(chmod(file, 0644), 0);
	free(found);
	found = cache_find("oci://a", again);
	assert_non_null(found);
	write_in(AT_FDCWD, file, "y");
	assert_null(cache_find("oci://a", again));
}

static void test_tree(void **state)
{
	_close_ int top = open(*state, O_RDONLY | O_DIRECTORY);
	_buf_ struct buf text = {.max = 65536};
	char a[SHA256_HEX], b[SHA256_HEX];
	_close_ int from = -1, to = -1;
	struct tree t;
	struct err err;

	assert_int_equal(mkdirat(top, "from", 0755), 0);
	assert_int_equal(mkdirat(top, "to", 0755), 0);
	from = openat(top, "from", O_RDONLY | O_DIRECTORY);
	to = openat(top, "to", O_RDONLY | O_DIRECTORY);
	assert_int_equal(mkdirat(from, ".git", 0755), 0);
	assert_int_equal(mkdirat(from, "d", 0755), 0);
	write_in(from, ".git/x", "left out");
	write_in(from, "d/b", "b");
	write_in(from, "a", "");
	assert_int_equal(fchmodat(from, "d/b", 0700, 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", from, "d/link"), 0);

	assert_int_equal(tree_list(from, &t, &err), 0);
	assert_int_equal(t.n, 3);
	assert_int_equal(tree_text(from, &t, NULL, NULL, &text, &err), 0);
	assert_string_equal(buf_cstr(&text),
		"100644 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 a\n"
		"100755 3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d d/b\n"
		"120000 74acf31844532670be412c65b8251ee55d072549080b1cffdbea6b1a192230a0 d/link\n");
	tree_done(&t);
	assert_int_equal(tree_digest(from, a, &err), 0);
	assert_int_equal(tree_copy(from, to, &err), 0);
	assert_int_equal(tree_digest(to, b, &err), 0);
	assert_string_equal(a, b);
	assert_int_equal(mkfifoat(from, "pipe", 0600), 0);
	assert_int_equal(tree_digest(from, b, &err), -1);
	assert_string_equal(err.msg, "pipe: neither file, directory nor link");
	/* Links are followed nowhere. */
	assert_int_equal(tree_open(from, "d/link", O_RDONLY, 0), -1);
	assert_int_equal(tree_open(from, "../to", O_RDONLY, 0), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_references),
		cmocka_unit_test(test_bad_references),
		cmocka_unit_test(test_grants),
		cmocka_unit_test(test_grants_of_capabilities),
		cmocka_unit_test(test_widening),
		cmocka_unit_test_setup_teardown(test_approvals, with_home, without_home),
		cmocka_unit_test_setup_teardown(test_cache, with_home, without_home),
		cmocka_unit_test_setup_teardown(test_tree, with_home, without_home),
	};

	return cmocka_run_group_tests_name("remote", tests, NULL, NULL);
}

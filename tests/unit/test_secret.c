/* SPDX-License-Identifier: Apache-2.0 */
/* Secret values and their store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "secret/source.h"
#include "secret/store.h"

static char root[64];
static int store;

static int make_store(void **state)
{
	char path[128];
	struct err err = {0};

	snprintf(root, sizeof(root), "/tmp/hutch-secret-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	snprintf(path, sizeof(path), "%s/a/secrets", root);
	store = secret_store_open(path, &err);
	return store < 0 ? -1 : 0;
}

static int drop_store(void **state)
{
	close(store);
	return fs_remove_tree(AT_FDCWD, root, NULL);
}

static void put_file(const char *name, const void *p, size_t len)
{
	_close_ int fd = openat(store, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, p, len), 0);
}

static void set(const char *name, const char *value)
{
	struct err err = {0};
	_secret_ struct secret *s = secret_new(value, strlen(value), &err);

	assert_non_null(s);
	assert_int_equal(secret_store_set(store, name, s, &err), 0);
}

static void assert_value(const char *name, const char *want)
{
	struct err err = {0};
	_secret_ struct secret *got = NULL;

	assert_int_equal(secret_store_get(store, name, &got, &err), 0);
	assert_non_null(got);
	assert_int_equal(secret_len(got), strlen(want));
	assert_memory_equal(secret_bytes(got), want, strlen(want));
}

static void test_names(void **state)
{
	static const struct {
		const char *name;
		bool ok;
	} t[] = {
		{"github", true},
		{"my-api.key_2", true},
		{"A", true},
		{"OPENAI", true},
		{"0", true},
		{"", false},
		{".", false},
		{"..", false},
		{".hidden", false},
		{"a/b", false},
		{"../a", false},
		{"a ", false},
		{"a\n", false},
		{"-a", false},
		{"a-", false},
		{"a.", false},
		{"_a", false},
		{"\xc3\xa4", false},
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", true},
		{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		if (secret_name_valid(t[i].name) != t[i].ok)
			fail_msg("name '%s'", t[i].name);
}

static void test_set_get_replace(void **state)
{
	struct stat st;

	set("github", "first");
	assert_value("github", "first");
	set("github", "second value, longer");
	assert_value("github", "second value, longer");
	assert_int_equal(fstatat(store, "github", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(fstat(store, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
}

static void test_absent_is_no_error(void **state)
{
	struct err err = {0};
	struct secret *got = (struct secret *)&err;
	bool existed = true;

	assert_int_equal(secret_store_get(store, "nothing", &got, &err), 0);
	assert_null(got);
	assert_int_equal(secret_store_remove(store, "nothing", &existed, &err), 0);
	assert_false(existed);
}

static void test_remove_revokes(void **state)
{
	struct err err = {0};
	_secret_ struct secret *got = NULL;
	bool existed = false;

	set("k", "v");
	assert_int_equal(secret_store_remove(store, "k", &existed, &err), 0);
	assert_true(existed);
	assert_int_equal(secret_store_get(store, "k", &got, &err), 0);
	assert_null(got);
}

static void test_one_line_break_is_stripped(void **state)
{
	put_file("a", "value\n", 6);
	assert_value("a", "value");
	put_file("a", "value\r\n", 7);
	assert_value("a", "value");
	put_file("a", "value\n\n", 7);
	assert_value("a", "value\n");
	put_file("a", " value ", 7);
	assert_value("a", " value ");
}

static void test_size_limits(void **state)
{
	struct err err = {0};
	_free_ char *big = xcalloc(1, SECRET_VALUE_MAX + 1);
	_secret_ struct secret *got = NULL;

	memset(big, 'x', SECRET_VALUE_MAX + 1);
	put_file("a", big, SECRET_VALUE_MAX);
	assert_int_equal(secret_store_get(store, "a", &got, &err), 0);
	assert_int_equal(secret_len(got), SECRET_VALUE_MAX);
	secret_free(got);
	got = NULL;
	put_file("a", big, SECRET_VALUE_MAX + 1);
	assert_int_equal(secret_store_get(store, "a", &got, &err), -1);
	assert_null(got);
	put_file("a", "", 0);
	assert_int_equal(secret_store_get(store, "a", &got, &err), -1);
	put_file("a", "\n", 1);
	assert_int_equal(secret_store_get(store, "a", &got, &err), -1);
	assert_null(secret_new(big, 0, &err));
	assert_null(secret_new(big, SECRET_VALUE_MAX + 1, &err));
}

/* A name never leaves the store, whatever it says, and a link planted inside is not followed. */
static void test_no_escape(void **state)
{
	struct err err = {0};
	_secret_ struct secret *got = NULL;
	_secret_ struct secret *v = secret_new("v", 1, &err);
	bool existed;

	assert_int_equal(secret_store_get(store, "../secrets", &got, &err), -1);
	assert_int_equal(secret_store_set(store, "../x", v, &err), -1);
	assert_int_equal(secret_store_set(store, "..", v, &err), -1);
	assert_int_equal(secret_store_remove(store, "../a", &existed, &err), -1);
	assert_int_equal(symlinkat("/etc/hostname", store, "link"), 0);
	assert_int_equal(secret_store_get(store, "link", &got, &err), -1);
	assert_int_equal(mkdirat(store, "dir", 0700), 0);
	assert_int_equal(secret_store_get(store, "dir", &got, &err), -1);
	assert_int_equal(mkfifoat(store, "fifo", 0600), 0);
	assert_int_equal(secret_store_get(store, "fifo", &got, &err), -1);
	assert_null(got);
}

static void test_list(void **state)
{
	struct err err = {0};
	struct strv l = {0};

	set("zeta", "1");
	set("alpha", "2");
	set("Mid.dle", "3");
	put_file(".alpha.77", "left by a crash", 15);
	put_file("bad name", "x", 1);
	assert_int_equal(secret_store_list(store, &l, &err), 0);
	assert_int_equal(l.n, 3);
	assert_string_equal(l.v[0], "Mid.dle");
	assert_string_equal(l.v[1], "alpha");
	assert_string_equal(l.v[2], "zeta");
	/* A second time: the first must not have used up the descriptor's position. */
	assert_int_equal(secret_store_list(store, &l, &err), 0);
	assert_int_equal(l.n, 6);
	strv_done(&l);
}

static void test_open_store(void **state)
{
	struct err err = {0};
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/a/secrets", root);
	assert_int_equal(chmod(path, 0755), 0);
	assert_int_equal(secret_store_open(path, &err), -1);
	assert_non_null(strstr(err.hint, "chmod 700"));
	assert_int_equal(chmod(path, 0700), 0);
	fd = secret_store_open(path, &err);
	assert_true(fd >= 0);
	close(fd);
	snprintf(path, sizeof(path), "%s/file", root);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	assert_int_equal(secret_store_open(path, &err), -1);
}

static void test_memory(void **state)
{
	struct err err = {0};
	_secret_ struct secret *a = secret_new("abcdef", 6, &err);
	_secret_ struct secret *b = secret_new("abcdeX", 6, &err);
	_secret_ struct secret *c = secret_new("abcde", 5, &err);

	assert_false(secret_equal(a, b));
	assert_false(secret_equal(a, c));
	secret_truncate(a, 5);
	assert_true(secret_equal(a, c));
	assert_int_equal(secret_bytes(a)[5], 0);
	secret_truncate(a, 50);
	assert_int_equal(secret_len(a), 5);
	secret_free(NULL);
}

/* AddressSanitizer turns mlock into a no-op that succeeds. */
#if defined(__SANITIZE_ADDRESS__)
#define MLOCK_WORKS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MLOCK_WORKS 0
#endif
#endif
#ifndef MLOCK_WORKS
#define MLOCK_WORKS 1
#endif

/* The pages of a value are locked and left out of core dumps (VmFlags lo, dd). */
static void test_pages_are_protected(void **state)
{
	struct err err = {0};
	_secret_ struct secret *s = secret_new("value", 5, &err);
	uintptr_t at = (uintptr_t)secret_bytes(s);
	bool inside = false, found = false;
	char line[512];
	FILE *f = fopen("/proc/self/smaps", "re");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long from, to;

		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			inside = at >= from && at < to;
		if (inside && strncmp(line, "VmFlags:", 8) == 0) {
			found = true;
			assert_non_null(strstr(line, " dd"));
			if (MLOCK_WORKS && secret_locked(s))
				assert_non_null(strstr(line, " lo"));
		}
	}
	fclose(f);
	if (!found)
		skip(); /* a kernel without VmFlags in smaps */
}

#define STORE_TEST(f) cmocka_unit_test_setup_teardown(f, make_store, drop_store)

/* ---- references ---- */

static void test_reference_round_trip(void **state)
{
	static const struct {
		const char *text;
		unsigned ttl_s;
		enum source_kind kind;
		const char *arg;
	} t[] = {{"env:GH_TOKEN", 300, SOURCE_ENV, "GH_TOKEN"},
		{"file:/run/secrets/x y", 1, SOURCE_FILE, "/run/secrets/x y"},
		{"cmd:op read 'op://a:b/c' | tr -d x", 86400, SOURCE_CMD,
			"op read 'op://a:b/c' | tr -d x"},
		{"keyring:", 7, SOURCE_KEYRING, ""}};
	uint64_t before = 0;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		_source_ struct source in = {0}, out = {0};
		_secret_ struct secret *value = NULL;
		struct err err = {0};

		assert_int_equal(source_parse(t[i].text, t[i].ttl_s, &in, &err), 0);
		assert_int_equal(source_save(store, "ref", &in, &err), 0);
		assert_int_equal(source_find((int[2]){-1, store}, "ref", &out, &value, &err), 0);
		assert_null(value);
		assert_int_equal(out.kind, t[i].kind);
		assert_string_equal(out.arg, t[i].arg);
		assert_int_equal(out.ttl_s, t[i].ttl_s);
		assert_false(out.own);
		assert_true(out.stamp > before);
		before = out.stamp;
	}
}

static void test_reference_refused(void **state)
{
	static const char *const t[] = {"", "env", "env:", "env:1A", "env:A B", "env:A=B", "file:",
		"file:relative", "file:~/x", "cmd:", "cmd: \t ", "cmd:a\nb", "cmd:a\rb", "keyring:x",
		"stored:", "none:", "ENV:A", " env:A", "plain-value"};
	_free_ char *longest = xmalloc(SOURCE_ARG_MAX + 6);
	struct source s = {.arg = NULL};
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		if (source_parse(t[i], 300, &s, &err) != -1)
			fail_msg("'%s'", t[i]);
	assert_int_equal(source_parse("env:A", 0, &s, &err), -1);
	assert_int_equal(source_parse("env:A", SOURCE_TTL_MAX + 1, &s, &err), -1);
	memcpy(longest, "cmd:", 4);
	memset(longest + 4, 'x', SOURCE_ARG_MAX + 1);
	longest[SOURCE_ARG_MAX + 5] = '\0';
	assert_int_equal(source_parse(longest, 300, &s, &err), -1);
	longest[SOURCE_ARG_MAX + 4] = '\0';
	assert_int_equal(source_parse(longest, 300, &s, &err), 0);
	source_done(&s);
}

static void test_value_that_looks_like_a_reference(void **state)
{
	_source_ struct source s = {0};
	_secret_ struct secret *value = NULL;

	set("k", "env:HOME");
	assert_int_equal(source_find((int[2]){store, -1}, "k", &s, &value, NULL), 0);
	assert_int_equal(s.kind, SOURCE_VALUE);
	assert_true(s.own);
	assert_memory_equal(secret_bytes(value), "env:HOME", 8);
}

static void test_damaged_reference(void **state)
{
#define MARK "\0hutch-source\n"
	static const char t[][40] = {MARK "cmd:x", MARK "cmd:x\n300", MARK "cmd:x\n300 1 2",
		MARK "cmd:x\n0 1", MARK "cmd:x\n99999 1", MARK "bad:x\n300 1", MARK "cmd:x\n-1 1",
		MARK "cmd:x\n300 1\ny", MARK "\0cmd:x\n300 1"};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct source s = {0};
		struct secret *value = NULL;
		size_t len = sizeof(t[i]);

		while (!t[i][len - 1])
			len--;
		put_file("k", t[i], len);
		if (source_find((int[2]){store, -1}, "k", &s, &value, NULL) != -1)
			fail_msg("row %zu", i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		STORE_TEST(test_set_get_replace),
		STORE_TEST(test_absent_is_no_error),
		STORE_TEST(test_remove_revokes),
		STORE_TEST(test_one_line_break_is_stripped),
		STORE_TEST(test_size_limits),
		STORE_TEST(test_no_escape),
		STORE_TEST(test_list),
		STORE_TEST(test_reference_round_trip),
		cmocka_unit_test(test_reference_refused),
		STORE_TEST(test_value_that_looks_like_a_reference),
		STORE_TEST(test_damaged_reference),
		STORE_TEST(test_open_store),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_pages_are_protected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

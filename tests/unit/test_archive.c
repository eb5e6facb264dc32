/* SPDX-License-Identifier: Apache-2.0 */
/* Archives of kits: names, and what is made of entries. Whole archives, hostile ones above all, are
 * in tests/func/test_kit_sources.py and in the fuzz target's corpus. */
#include <fcntl.h>
#include <locale.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "archive/extract.h"
#include "archive/names.h"
#include "archive/pack.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/tree.h"

static void test_name(void **state)
{
	static const char *const good[] = {
		"spec.yaml", "files/home/.bashrc", "a/b..c/...", "\xc3\xa9"};
	static const char *const bad[] = {"", "/a", ".", "..", "a/..", "a/../b", "./a", "a//b",
		"a/", "a\\b", "a\nb", "a\x1b[m", "a\x7f", "\xff", "\xc3", "\xc2\x9b"};
	char deep[200] = "", large[2000];

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_int_equal(name_check(good[i], NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (name_check(bad[i], NULL) == 0)
			fail_msg("\"%s\" was taken", bad[i]);
	for (int i = 0; i < 40; i++)
		strcat(deep, i ? "/a" : "a");
	assert_int_equal(name_check(deep, NULL), -1);
	memset(large, 'a', sizeof(large));
	large[256] = '\0';
	assert_int_equal(name_check(large, NULL), -1);
	large[255] = '\0';
	assert_int_equal(name_check(large, NULL), 0);
	large[255] = large[256] = 'a';
	for (size_t i = 100; i < 1100; i += 100)
		large[i] = '/';
	large[1100] = '\0';
	assert_int_equal(name_check(large, NULL), -1);
}

static void test_twice(void **state)
{
	struct names n = {0};

	assert_int_equal(names_add(&n, "files/home", true, NULL), 0);
	assert_int_equal(names_add(&n, "files/home/a", false, NULL), 0);
	assert_int_equal(names_add(&n, "files/home", true, NULL), 0);
	assert_int_equal(names_add(&n, "files/home/a", false, NULL), -1);
	assert_int_equal(names_add(&n, "files/home/A", false, NULL), -1);
	assert_int_equal(names_add(&n, "Files/x", false, NULL), -1);
	assert_int_equal(names_add(&n, "files/home/a/b", false, NULL), -1);
	assert_int_equal(names_add(&n, "files/home/a", true, NULL), -1);
	assert_int_equal(names_add(&n, "files", false, NULL), -1);
	assert_int_equal(names_add(&n, "files/home/b", false, NULL), 0);
	names_done(&n);
}

static void test_link(void **state)
{
	assert_true(name_link_stays("files/home/a", "b"));
	assert_true(name_link_stays("files/home/d/a", "../b"));
	assert_true(name_link_stays("files/workspace/d/e/a", "../../b/./c"));
	assert_false(name_link_stays("files/home/a", "../b"));
	assert_false(name_link_stays("files/home/d/a", "../../b"));
	assert_false(name_link_stays("files/home/d/a", "x/../../../b"));
	assert_false(name_link_stays("files/home/a", "/etc/passwd"));
	assert_false(name_link_stays("files/home/a", ""));
	assert_false(name_link_stays("spec.yaml", "files/home/a"));
	assert_false(name_link_stays("files/home", "x"));
	assert_false(name_link_stays("files/a", "b"));
}

static int with_dirs(void **state)
{
	char *dir = xstrdup("/tmp/hutch-archive-XXXXXX");

	if (!mkdtemp(dir))
		return -1;
	*state = dir;
	return 0;
}

static int without_dirs(void **state)
{
	fs_remove_tree(AT_FDCWD, *state, NULL);
	free(*state);
	return 0;
}

static int open_new(int top, const char *name)
{
	assert_int_equal(mkdirat(top, name, 0755), 0);
	return openat(top, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Pack @from both ways, unpack: what is there again. @kind decides. */
static void round_trip(int top, int from, enum extract_kind kind, const char *name)
{
	_close_ int to = open_new(top, name), first = memfd_create("a", 0),
		    second = memfd_create("b", 0);
	int (*pack)(int, int, struct err *) = kind == EXTRACT_ZIP ? pack_zip : pack_layer;
	struct extract_dir d = {.dirfd = to};
	struct extract_sink sink = extract_dir_sink(&d);
	_buf_ struct buf a = {.max = 1 << 20}, b = {.max = 1 << 20};
	struct err err = {0};

	assert_int_equal(pack(from, first, &err), 0);
	assert_int_equal(pack(from, second, &err), 0);
	lseek(first, 0, SEEK_SET);
	lseek(second, 0, SEEK_SET);
	while (buf_read(&a, first, 65536) > 0)
		;
	while (buf_read(&b, second, 65536) > 0)
		;
	assert_int_equal(buf_len(&a), buf_len(&b));
	assert_memory_equal(buf_head(&a), buf_head(&b), buf_len(&a));
	if (extract(buf_head(&a), buf_len(&a), kind, &sink, &err) < 0)
		fail_msg("%s", err.msg);
	close_and_reset(&d.file);
	/* Every truncation ends in an error, or in less than everything. */
	for (size_t i = 1; i < buf_len(&a); i += kind == EXTRACT_ZIP ? 1 : 7) {
		_close_ int part = -1;

		assert_int_equal(fs_remove_tree(top, "part", NULL), 0);
		part = open_new(top, "part");
		d = (struct extract_dir){.dirfd = part};
		sink = extract_dir_sink(&d);
		if (extract(buf_head(&a), i, kind, &sink, &err) == 0)
			assert_int_equal(
				kind, EXTRACT_LAYER); /* the end of its tar is only padding */
		close_and_reset(&d.file);
	}
}

static void test_round_trip(void **state)
{
	_close_ int top = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		    from = open_new(top, "from");
	_close_ int zip = -1, layer = -1;
	char a[SHA256_HEX], b[SHA256_HEX];
	struct stat st;

	assert_int_equal(fs_write_file(from, "spec.yaml", "x\n", 2, 0644, NULL), 0);
	assert_int_equal(mkdirat(from, "files", 0755), 0);
	assert_int_equal(mkdirat(from, "files/home", 0755), 0);
	assert_int_equal(mkdirat(from, "files/workspace", 0755), 0);
	assert_int_equal(fs_write_file(from, "files/home/run", "#!", 2, 0755, NULL), 0);
	assert_int_equal(fs_write_file(from, "files/workspace/\xc3\xa9", "", 0, 0600, NULL), 0);
	round_trip(top, from, EXTRACT_ZIP, "zip");
	round_trip(top, from, EXTRACT_LAYER, "layer");

	zip = openat(top, "zip", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	layer = openat(top, "layer", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(tree_digest(from, a, NULL), 0);
	assert_int_equal(tree_digest(zip, b, NULL), 0);
	assert_string_equal(a, b);
	assert_int_equal(fstatat(layer, "files/home/run", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	assert_int_equal(fstatat(layer, "files/workspace/\xc3\xa9", &st, 0), 0);
	assert_int_equal(faccessat(layer, "spec.yaml", F_OK, 0), -1);
}

/* A directory that has changed under the reader's hands: nothing is overwritten, no link followed.
 */
static void test_nothing_is_overwritten(void **state)
{
	_close_ int top = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		    to = open_new(top, "to");
	struct extract_dir d = {.dirfd = to};
	struct extract_sink s = extract_dir_sink(&d);

	assert_int_equal(mkdirat(top, "outside", 0755), 0);
	assert_int_equal(symlinkat("../outside", to, "files"), 0);
	assert_int_equal(s.file(&d, "files/x", false, NULL), -1);
	assert_int_equal(s.dir(&d, "files/d", NULL), -1);
	assert_int_equal(s.link(&d, "files/l", "x", NULL), -1);
	assert_int_equal(fs_write_file(to, "a", "old", 3, 0644, NULL), 0);
	assert_int_equal(s.file(&d, "a", false, NULL), -1);
	assert_int_equal(symlinkat("../outside/y", to, "b"), 0);
	assert_int_equal(s.file(&d, "b", false, NULL), -1);
	assert_int_equal(faccessat(top, "outside/y", F_OK, 0), -1);
	assert_int_equal(unlinkat(top, "outside", AT_REMOVEDIR), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_name),
		cmocka_unit_test(test_twice),
		cmocka_unit_test(test_link),
		cmocka_unit_test_setup_teardown(test_round_trip, with_dirs, without_dirs),
		cmocka_unit_test_setup_teardown(
			test_nothing_is_overwritten, with_dirs, without_dirs),
	};

	setlocale(LC_CTYPE, "C.UTF-8");
	umask(022); /* modes are asserted */
	return cmocka_run_group_tests_name("archive", tests, NULL, NULL);
}

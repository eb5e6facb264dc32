/* SPDX-License-Identifier: Apache-2.0 */
/* Layers of images: what is left of them. Whole archives are in tests/func/test_image.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "merge_text.h"

static void check(const char *layers, const char *want)
{
	_free_ char *text = xstrdup(layers);
	struct merge *m = merge_new();
	_buf_ struct buf got = {.max = 1u << 20};
	struct err err;

	if (merge_text(m, text, &err) < 0)
		fail_msg("%s: %s", layers, err.msg);
	merge_finish(m);
	merge_text_dump(m, 8, 64, &got);
	if (strcmp(buf_cstr(&got), want) != 0)
		fail_msg("%s\n   is: %s\nnot: %s", layers, buf_cstr(&got), want);
	merge_free(m);
}

static void refused(const char *layers, const char *why)
{
	_free_ char *text = xstrdup(layers);
	struct merge *m = merge_new();
	struct err err = {0};

	assert_int_equal(merge_text(m, text, &err), -1);
	assert_string_equal(err.msg, why);
	assert_int_equal(err.class, ERR_USER);
	merge_free(m);
}

static void test_paths(void **state)
{
	check("", "");
	check("d ./\nd ./a\nf ./a/b\nf /c\nf d//e", "a/b=f0.2 a=d0.1 c=f0.3 d/e=f0.4 d=d");
	check("f a/b/c", "a/b/c=f0.0 a/b=d a=d");
	/* The directory's entry may come later. */
	check("f a/b\nd a", "a/b=f0.0 a=d0.1");
	check("f a/b\n-\nd a", "a/b=f0.0 a=d1.0");
	check("f ...\nf a..b\nf ..c", "...=f0.0 ..c=f0.2 a..b=f0.1");
	refused("f ../a", "../a: a path with \"..\"");
	refused("f a/../b", "a/../b: a path with \"..\"");
	refused("f ..", "..: a path with \"..\"");
	refused("h a>../b", "../b: a path with \"..\"");
	refused("f ./", "./: not a name");
	refused("l x>", "x: a symbolic link to nothing, or too long a one");
	refused("f a\nf a/b", "a: something lies below it, but it is no directory");
	refused("f \x01\xff/../b", "?\x3f/../b: a path with \"..\"");
}

static void test_replacing(void **state)
{
	check("f a\n-\nf a", "a=f1.0");
	check("f a\nf a", "a=f0.1"); /* twice in a layer: the last */
	check("f a\n-\nl a>b", "a=l1.0");
	check("f a\n-\nd a", "a=d1.0");
	check("d a\nf a/b\n-\nf a", "a=f1.0");
	check("d a\nf a/b\n-\nd a", "a/b=f0.1 a=d1.0"); /* a directory over a directory keeps all */
	check("d a\nf a/b\n-\nl a>c", "a=l1.0");
	check("l a>c\nd c\nf c/x\n-\nd a", "a=d1.0 c/x=f0.2 c=d0.1"); /* not through the link */
	check("o a\n-\no a", "a=o1.0");
}

static void test_whiteouts(void **state)
{
	check("f a\nf b\n-\nf .wh.a", "b=f0.1");
	check("d a\nf a/b\nf a/c/d\n-\nf .wh.a", "");
	check("d a\nf a/b\nf a/c\n-\nf a/.wh.b", "a/c=f0.2 a=d0.0");
	/* Wherever it stands: it is about lower layers. */
	check("f a\n-\nf a\nf .wh.a", "a=f1.0");
	check("f a\n-\nf .wh.a\nf a", "a=f1.1");
	check("d a\nf a/b\n-\nd a\nf a/n\nf .wh.a", "a/n=f1.1 a=d1.0");
	check("f a\nf .wh.a", "a=f0.0");
	check("f .wh.nothing\nf no/.wh.x", "");
	check("d a\nf a/b\nd a/c\nf a/c/d\n-\nf a/.wh..wh..opq", "a=d0.0");
	check("d a\nf a/b\n-\nf a/n\nf a/.wh..wh..opq\nf a/m", "a/m=f1.2 a/n=f1.0 a=d0.0");
	check("d a\nd a/s\nf a/s/b\n-\nf a/s/n\nf a/.wh..wh..opq", "a/s/n=f1.0 a/s=d0.1 a=d0.0");
	check("f a\n-\nf .wh..wh..opq", "");
	check("f .wh..wh.plnk\nf .wh..wh.aufs\nf a", "a=f0.2");
	check("l a>b\nf b\n-\nf .wh.a", "b=f0.1"); /* the link, not what it is to */
	refused("f .wh.", ".wh.: a whiteout of nothing");
	refused("f a/.wh..", "a/.wh..: a whiteout of nothing");
	refused("f .wh...", ".wh...: a whiteout of nothing");
	refused("f .wh.a/b", ".wh.a/b: lies below a whiteout");
}

static void test_hard_links(void **state)
{
	check("f a\nh b>a", "a=f0.0 b=f0.0");
	check("f a\nh b>./a\nh d/c>/b", "a=f0.0 b=f0.0 d/c=f0.0 d=d");
	/* The name that it is to may go, or be replaced: the file stays. */
	check("f a\nh b>a\n-\nf a", "a=f1.0 b=f0.0");
	check("f a\nh b>a\n-\nf .wh.a", "b=f0.0");
	check("f a\n-\nh b>a\nf a", "a=f1.1 b=f0.0");
	check("f a\nh a>a", "a=f0.0");
	check("f a\nh b>a\n-\nh b>a", "a=f0.0 b=f0.0");
	check("l s>x\nh t>s\no n\nh m>n", "m=o0.2 n=o0.2 s=l0.0 t=l0.0");
	check("d a\nf a/b\nh a>a/b", "a=f0.1"); /* in place of the directory that it is in */
	check("l d>e\nf e/f\nh x>d/f", "d=l0.0 e/f=f0.1 e=d x=f0.1");
	refused("h b>a", "b: a hard link to what is not there");
	refused("d a\nh b>a", "b: a hard link to a directory");
	refused("f a\n-\nf .wh.a\nh b>a", "b: a hard link to what is not there");
}

static void test_links_as_parents(void **state)
{
	check("d usr/lib\nl lib>usr/lib\n-\nf lib/x", "lib=l0.1 usr/lib/x=f1.0 usr/lib=d0.0 usr=d");
	check("d usr/lib\nl lib>/usr/lib\n-\nf lib/x/y",
		"lib=l0.1 usr/lib/x/y=f1.0 usr/lib/x=d usr/lib=d0.0 usr=d");
	/* Never out of the tree. */
	check("l out>../../../../etc\nf out/passwd", "etc/passwd=f0.1 etc=d out=l0.0");
	check("l out>/\nf out/x", "out=l0.0 x=f0.1");
	check("d a/b\nl a/b/up>../..\nf a/b/up/x", "a/b/up=l0.1 a/b=d0.0 a=d x=f0.2");
	check("l a>b\nl b>c\nf a/x", "a=l0.0 b=l0.1 c/x=f0.2 c=d");
	check("d d\nf d/x\nl l>d\n-\nf l/.wh.x", "d=d0.0 l=l0.2");
	check("d d\nf d/x\nl l>d\n-\nf l/.wh..wh..opq", "d=d0.0 l=l0.2");
	refused("l a>b\nl b>a\nf a/x", "a: too many symbolic links on the way");
	refused("l a>a/a/a/a\nf a/x", "a: too many symbolic links on the way");
	refused("f f\nl a>f\nf a/x", "a: something lies below it, but it is no directory");
}

static void test_ceilings(void **state)
{
	struct merge *m = merge_new();
	char path[MERGE_PATH + 8];
	struct err err;

	merge_begin_layer(m);
	memset(path, 'a', sizeof(path));
	path[256] = '\0';
	assert_int_equal(
		merge_add(m, &(struct merge_entry){.path = path, .type = MERGE_FILE}, &err), -1);
	assert_string_equal(err.msg, "a path of more than 4095 bytes");
	path[255] = '\0';
	assert_int_equal(
		merge_add(m, &(struct merge_entry){.path = path, .type = MERGE_FILE}, &err), 0);
	for (size_t i = 0; i < sizeof(path); i++)
		path[i] = i % 2 ? '/' : 'd';
	path[MERGE_PATH] = '\0';
	assert_int_equal(
		merge_add(m, &(struct merge_entry){.path = path, .type = MERGE_DIR}, &err), -1);
	merge_free(m);
	/* Deep, through links: the real path counts. */
	m = merge_new();
	merge_begin_layer(m);
	path[2000] = '\0';
	assert_int_equal(
		merge_add(m, &(struct merge_entry){.path = path, .type = MERGE_DIR}, &err), 0);
	assert_int_equal(
		merge_add(m,
			&(struct merge_entry){.path = "l", .type = MERGE_SYMLINK, .target = path},
			&err),
		0);
	path[2001] = '\0';
	memcpy(path, "l", 1);
	assert_int_equal(
		merge_add(m, &(struct merge_entry){.path = path, .type = MERGE_DIR}, &err), 0);
	merge_finish(m);
	merge_free(m);
}

static void test_find(void **state)
{
	char text[] = "d etc/pki\nf etc/pki/bundle\nl etc/ssl>pki\nl etc/pki/cert>bundle\nd d";
	struct merge *m = merge_new();

	assert_int_equal(merge_text(m, text, NULL), 0);
	assert_ptr_equal(merge_find(m, "etc/ssl/cert"), merge_find(m, "/etc/pki/bundle"));
	assert_int_equal(merge_inode_type(merge_find(m, "etc/ssl/cert")), MERGE_FILE);
	assert_int_equal(merge_inode_type(merge_find(m, "d")), MERGE_DIR);
	assert_null(merge_find(m, "etc/none"));
	assert_null(merge_find(m, "etc/pki/bundle/x"));
	merge_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_paths),
		cmocka_unit_test(test_replacing), cmocka_unit_test(test_whiteouts),
		cmocka_unit_test(test_hard_links), cmocka_unit_test(test_links_as_parents),
		cmocka_unit_test(test_ceilings), cmocka_unit_test(test_find)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

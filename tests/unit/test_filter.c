/* SPDX-License-Identifier: Apache-2.0 */
/* Replacing strings in a stream: every way to cut it gives the same, nothing is held without need,
 * and no form of a value passes a mask. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "gate/filter.h"
#include "gate/http1.h"
#include "gate/mask.h"
#include "secret/secret.h"

static void add(struct filter *f, const char *find, const char *with)
{
	assert_int_equal(filter_add(f, find, strlen(find), with, strlen(with)), 0);
}

/* Feed @text in pieces of @step bytes, with @room bytes of output room at a time. */
static char *run(struct filter *f, const char *text, size_t step, size_t room)
{
	size_t len = strlen(text), at = 0;
	_buf_ struct buf all, out;

	buf_init(&all, 1 << 20);
	buf_init(&out, MAX(room, filter_room(f)));
	filter_reset(f);
	while (at < len) {
		size_t n = MIN(step, len - at);
		_free_ char *exact = xmalloc(n);
		size_t used;

		memcpy(exact, text + at, n);
		used = filter_feed(f, exact, n, &out);
		assert_true(used > 0 || buf_len(&out) > 0);
		at += used;
		buf_put(&all, buf_head(&out), buf_len(&out));
		buf_reset(&out);
	}
	while (!filter_flush(f, &out)) {
		assert_true(buf_len(&out) > 0);
		buf_put(&all, buf_head(&out), buf_len(&out));
		buf_reset(&out);
	}
	buf_put(&all, buf_head(&out), buf_len(&out));
	assert_false(all.failed || out.failed);
	return xstrdup(buf_cstr(&all));
}

static void check(struct filter *f, const char *text, const char *expected)
{
	for (size_t step = 1; step <= strlen(text) + 1; step++) {
		for (size_t room = 1; room < 40; room += 6) {
			_free_ char *got = run(f, text, step, room);

			assert_string_equal(got, expected);
		}
	}
}

static void test_replaces_wherever_it_is_cut(void **state)
{
	struct filter *f = filter_new();

	assert_true(filter_is_empty(f));
	add(f, "placeholder", "a much longer value than the other");
	add(f, "gone", "");
	add(f, "abab", "X");
	add(f, "ababac", "Y");
	check(f, "a placeholder, placeholde, placeholderplaceholder",
		"a a much longer value than the other, placeholde, a much longer value than the "
		"othera much longer value than the other");
	check(f, "gonegoongone", "goon");
	check(f, "abababac", "Xabac");
	check(f, "ababac ababa ababab", "Y Xa Xab");
	check(f, "", "");
	check(f, "plain", "plain");
	filter_free(f);
	filter_free(NULL);
}

static void test_limits(void **state)
{
	struct filter *f = filter_new();
	char *big = xcalloc(1, FILTER_MAX + 1);

	assert_int_equal(filter_add(f, "abc", 3, "", 0), -1);
	assert_int_equal(filter_add(f, big, FILTER_MAX + 1, "", 0), -1);
	assert_int_equal(filter_add(f, "abcd", 4, big, FILTER_MAX + 1), -1);
	assert_int_equal(filter_add(f, "abcd", 4, "1", 1), 0);
	assert_int_equal(filter_add(f, "abcd", 4, "2", 1), 0); /* the first stays */
	check(f, "abcd", "1");
	for (unsigned i = 1; i < FILTER_COUNT; i++) {
		char text[8];

		snprintf(text, sizeof(text), "%05u", i);
		assert_int_equal(filter_add(f, text, 5, "", 0), 0);
	}
	assert_int_equal(filter_add(f, "abcd", 4, "3", 1), 0); /* is there */
	assert_false(filter_is_over(f));
	assert_int_equal(filter_add(f, "wxyz", 4, "", 0), -1);
	assert_true(filter_is_over(f));
	free(big);
	filter_free(f);
}

/* Only what may become a string is held back, so events of a stream arrive as they are sent. */
static void test_shares_strings(void **state)
{
	struct filter *a = filter_new(), *b, *c;

	add(a, "alpha", "one");
	b = filter_like(a);
	c = filter_like(b);
	filter_free(a);
	/* A stream of its own: what one holds back the other does not see. */
	{
		_buf_ struct buf out;

		buf_init(&out, 64);
		assert_int_equal(filter_feed(b, "alp", 3, &out), 3);
		assert_int_equal(filter_feed(c, "ha", 2, &out), 2);
		assert_true(filter_flush(c, &out));
		assert_string_equal(buf_cstr(&out), "ha");
	}
	/* What is added later is not in the other. */
	add(b, "beta", "two");
	check(b, "alpha beta gamma", "one two gamma");
	add(c, "gamma", "three");
	check(c, "alpha beta gamma", "one beta three");
	check(b, "alpha beta gamma", "one two gamma");
	filter_free(b);
	check(c, "alpha beta gamma", "one beta three");
	filter_free(c);
}

static void test_holds_no_more_than_it_must(void **state)
{
	struct filter *f = filter_new();
	_buf_ struct buf out;

	buf_init(&out, 1000);
	filter_add_mask(f, "secret-value", 12);
	assert_int_equal(filter_feed(f, "data: x\n\n", 9, &out), 9);
	assert_int_equal(buf_len(&out), 9);
	filter_feed(f, "data: secret-valu", 17, &out);
	assert_int_equal(buf_len(&out), 9 + 6);
	filter_feed(f, "X", 1, &out);
	assert_int_equal(buf_len(&out), 9 + 18);
	filter_feed(f, "secret-v", 8, &out);
	assert_int_equal(buf_len(&out), 9 + 18);
	filter_feed(f, "alue", 4, &out);
	assert_string_equal(buf_cstr(&out), "data: x\n\ndata: secret-valuX************");
	assert_int_equal(filter_hits(f), 1);
	/* The first bytes are not worth a wait. */
	buf_reset(&out);
	filter_feed(f, "..s", 3, &out);
	assert_int_equal(buf_len(&out), 3);
	filter_feed(f, "ec", 2, &out);
	assert_int_equal(buf_len(&out), 5);
	filter_feed(f, "ret-valu", 8, &out);
	assert_int_equal(buf_len(&out), 5);
	filter_feed(f, "e, sec", 6, &out);
	assert_string_equal(buf_cstr(&out), "..sec*********, sec");
	filter_feed(f, "secret-value", 12, &out);
	assert_string_equal(buf_cstr(&out), "..sec*********, sec************");
	assert_true(filter_flush(f, &out));
	filter_free(f);
}

static void test_in_place(void **state)
{
	struct filter *f = filter_new();
	char text[] = "x: token-1, token-2, token-";

	filter_add_mask(f, "token-1", 7);
	filter_add_mask(f, "token-2", 7);
	filter_in_place(f, text, strlen(text));
	assert_string_equal(text, "x: *******, *******, token-");
	filter_in_place(f, text, 0);
	filter_free(f);
}

/* ---- bodies ---- */

/* Send @body as a response with @fields through a filter, @step bytes at a time. */
static char *through(const char *fields, const char *body, enum http1_written written,
	struct filter *f, size_t step)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
	_free_ char *text = xasprintf("HTTP/1.1 200 OK\r\n%s\r\n", fields);
	struct http1_head q, h;
	struct http1_body b;
	_buf_ struct buf all, out;
	size_t at = 0;
	int r = 0;

	http1_request_init(&q);
	assert_int_equal(http1_parse(&q, request, strlen(request), NULL), 1);
	http1_response_init(&h, &q);
	assert_int_equal(http1_parse(&h, text, strlen(text), NULL), 1);
	http1_body_init(&b, &h);
	b.written = written;
	b.filter = f;
	filter_reset(f);
	buf_init(&all, 65536);
	buf_init(&out, 300);
	while (r == 0) {
		size_t n = MIN(step, strlen(body) - at), used;

		r = http1_body_feed(&b, body + at, n, &used, &out, NULL);
		at += used;
		if (r == 0 && used == 0 && buf_len(&out) == 0) {
			assert_int_equal(at, strlen(body));
			assert_true(http1_body_eof(&b));
			r = http1_body_end(&b, &out);
		}
		buf_put(&all, buf_head(&out), buf_len(&out));
		buf_reset(&out);
	}
	assert_int_equal(r, 1);
	http1_body_done(&b);
	return xstrdup(buf_cstr(&all));
}

/* As @masked, but that the first bytes of a string may be those of @plain. */
static void expect_shown(const char *got, const char *masked, const char *plain)
{
	size_t run = 0;

	assert_int_equal(strlen(got), strlen(masked));
	for (size_t i = 0; got[i]; i++) {
		run = got[i] == masked[i] ? 0 : run + 1;
		assert_true(run == 0 || (got[i] == plain[i] && run <= FILTER_LEAD));
	}
}

static void test_bodies(void **state)
{
	struct filter *mask = filter_new(), *longer = filter_new();

	filter_add_mask(mask, "secret", 6);
	add(longer, "name", "a longer name");
	for (size_t step = 1; step < 40; step++) {
		_free_ char
			*plain = through("Content-Length: 12\r\n", "a secret secr", HTTP1_AS_READ,
				mask, step),
			*cut = through("Transfer-Encoding: chunked\r\n",
				"5;x=y\r\na sec\r\n3\r\nret\r\n4\r\nsecr\r\n0\r\nT: secret\r\n\r\n",
				HTTP1_BARE, mask, step),
			*trailer = through("Transfer-Encoding: chunked\r\n",
				"4\r\nsecr\r\n2\r\net\r\n0\r\nT: secret\r\n\r\n", HTTP1_AS_READ,
				mask, 40),
			*end = through("Connection: close\r\n", "my secret, secre", HTTP1_AS_READ,
				mask, step),
			*chunks = through(
				"Content-Length: 9\r\n", "my name na", HTTP1_IN_CHUNKS, longer, 40);

		expect_shown(plain, "a ****** sec", "a secret sec");
		expect_shown(cut, "a ******secr", "a secretsecr");
		assert_string_equal(trailer, "6\r\n******\r\n0\r\nT: ******\r\n\r\n");
		expect_shown(end, "my ******, secre", "my secret, secre");
		assert_string_equal(chunks, "11\r\nmy a longer name \r\n1\r\nn\r\n0\r\n\r\n");
	}
	filter_free(mask);
	filter_free(longer);
}

/* ---- masks ---- */

/* At least @at_least bytes of @echoed are masked. */
static void expect_masked(const char *value, const char *echoed, size_t at_least)
{
	struct filter *f = filter_new();
	_free_ char *text = xasprintf("<%s>", echoed);
	size_t stars = 0;

	mask_value(f, value, strlen(value));
	filter_in_place(f, text, strlen(text));
	for (const char *c = text; *c; c++)
		stars += *c == '*';
	if (stars < at_least)
		fail_msg("%s shows: %s", value, text);
	filter_free(f);
}

static void expect_base64(const char *value, const char *before, const char *after)
{
	_free_ char *all = xasprintf("%s%s%s", before, value, after);
	_buf_ struct buf b;

	buf_init(&b, 4096);
	mask_base64(&b, all, strlen(all));
	/* The outer digits belong to the surroundings as well. */
	expect_masked(value, buf_cstr(&b), strlen(value) * 4 / 3 - 1);
}

static void expect_form(const char *value, const char *form)
{
	expect_masked(value, form, strlen(form));
}

static void test_forms(void **state)
{
	static const char value[] = "p/ss\"w+rd=\\~12 34567";

	expect_form(value, value);
	expect_form(value, "p%2Fss%22w%2Brd%3D%5C~12%2034567");
	expect_form(value, "p%2fss%22w%2brd%3d%5c~12%2034567");
	expect_form(value, "p/ss%22w%2Brd%3D%5C~12%2034567");
	expect_form(value, "p/ss%22w+rd=%5C~12%2034567");
	expect_form(value, "p/ss\\\"w+rd=\\\\~12 34567");
	expect_form(value, "p\\/ss\\\"w+rd=\\\\~12 34567");
	for (size_t n = 1; n < 12; n++) {
		char before[16] = "user:user:user:";

		before[n] = '\0';
		expect_base64(value, before, "");
		expect_base64(value, before, "x");
		expect_base64(value, before, "xy");
	}
	expect_base64(value, "", "");
}

static void test_short_values_are_left_alone(void **state)
{
	struct filter *f = filter_new();

	mask_value(f, "1234567", 7);
	assert_true(filter_is_empty(f));
	mask_value(f, "12345678", 8);
	assert_false(filter_is_empty(f));
	filter_free(f);
}

static void test_adds_all_of_another(void **state)
{
	struct filter *a = filter_new(), *b = filter_new();
	_free_ char *out = NULL;

	add(a, "four", "three");
	filter_add_mask(b, "value-one", 9);
	filter_add_mask(b, "value-two", 9);
	assert_int_equal(filter_add_all(a, b), 0);
	assert_int_equal(filter_add_all(a, a), 0);
	filter_free(b); /* copied, not borrowed */
	out = run(a, "value-one value-two four", 3, 100);
	assert_string_equal(out, "********* ********* three");
	filter_free(a);
}

#define WINDOW 32768u

/* How often the mapping has @needle. Read as a file, through memory that is itself left out. */
static unsigned count(int mem, uintptr_t from, uintptr_t to, struct secret *needle, struct secret *window)
{
	size_t n = secret_len(needle);
	unsigned found = 0;
	ssize_t got;

	for (; from < to; from += (uintptr_t)got - (got > (ssize_t)n ? n - 1 : 0)) {
		const char *at = secret_bytes(window), *end;

		got = pread(mem, secret_bytes(window), MIN(WINDOW, to - from), (off_t)from);
		if (got < (ssize_t)n)
			break;
		for (end = at + got; (at = memmem(at, (size_t)(end - at), secret_bytes(needle), n)); at++)
			found++;
		if (from + (uintptr_t)got >= to)
			break;
	}
	return found;
}

/* In mappings that are left out of core dumps (VmFlags dd, as locked memory of values has), and in others. */
static void find_everywhere(struct secret *needle, unsigned *ret_kept, unsigned *ret_loose)
{
	_secret_ struct secret *window = secret_alloc(WINDOW, NULL);
	FILE *maps = fopen("/proc/self/smaps", "re");
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	unsigned long from = 0, to = 0, hole = (unsigned long)secret_bytes(window);
	char line[512], perms[5] = "";
	unsigned *found;

	assert_non_null(maps);
	assert_true(mem >= 0);
	*ret_kept = *ret_loose = 0;
	while (fgets(line, sizeof(line), maps)) {
		unsigned long a, b;
		char p[5];

		if (sscanf(line, "%lx-%lx %4s", &a, &b, p) == 3 && strlen(p) == 4) {
			from = a;
			to = b;
			memcpy(perms, p, sizeof(perms));
		}
		/* Not what the sanitizers reserve. */
		if (strncmp(line, "VmFlags:", 8) != 0 || perms[1] != 'w' || to - from > 64u << 20)
			continue;
		found = strstr(line, " dd") ? ret_kept : ret_loose;
		/* Around the window, which the kernel may have put into one mapping with others. */
		*found += count(mem, from, MIN(to, hole), needle, window);
		*found += count(mem, MAX(from, hole + WINDOW), to, needle, window);
	}
	close(mem);
	fclose(maps);
}

/* Values and their forms are nowhere else than where values are. */
static void test_forms_are_kept_as_values_are(void **state)
{
	_secret_ struct secret *value = secret_alloc(30, NULL), *form = secret_alloc(40, NULL);
	struct filter *f = filter_new();
	unsigned kept, loose;

	for (size_t i = 0; i < 30; i++) /* no literal, which would be found as well */
		secret_bytes(value)[i] = (char)('!' + (i * 37 + 11) % 90);
	{
		_buf_ struct buf b;

		buf_init(&b, 64);
		mask_base64(&b, secret_bytes(value), 30);
		assert_int_equal(buf_len(&b), 40);
		memcpy(secret_bytes(form), buf_head(&b), 40);
		buf_wipe(&b);
	}
	mask_value(f, secret_bytes(value), 30);
	find_everywhere(value, &kept, &loose);
	assert_int_equal(loose, 0);
	assert_true(kept >= 2); /* the value itself, and the mask */
	find_everywhere(form, &kept, &loose);
	assert_int_equal(loose, 0);
	assert_true(kept >= 2);
	filter_free(f);
	find_everywhere(form, &kept, &loose);
	assert_true(kept == 1 && loose == 0);
}

static void test_base64(void **state)
{
	static const char *const table[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="},
		{"foo", "Zm9v"}, {"foobar", "Zm9vYmFy"}, {"\xff\xfe", "//4="}};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		_buf_ struct buf b;

		buf_init(&b, 64);
		mask_base64(&b, table[i][0], strlen(table[i][0]));
		assert_string_equal(buf_cstr(&b), table[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replaces_wherever_it_is_cut),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_shares_strings),
		cmocka_unit_test(test_holds_no_more_than_it_must),
		cmocka_unit_test(test_in_place),
		cmocka_unit_test(test_bodies),
		cmocka_unit_test(test_forms),
		cmocka_unit_test(test_short_values_are_left_alone),
		cmocka_unit_test(test_adds_all_of_another),
		cmocka_unit_test(test_forms_are_kept_as_values_are),
		cmocka_unit_test(test_base64),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

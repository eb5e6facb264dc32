/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns: RE2's syntax, the whole value, and a bound on the work. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "base/mem.h"
#include "kit/regex.h"

static void test_matches(void **state)
{
	static const struct {
		const char *pattern, *yes, *no; /* @yes, @no: values, separated by | */
	} t[] = {
		{"abc", "abc", "ab|abcd|xabc|"},
		{"", "", "a"},
		{"a|bc", "a;bc", "b;abc"},
		{"^a$", "a", "ba;a\n"},
		{"a*b+c?", "b;aabb;abc", "a;ac;cb"},
		{"(ab)*", ";ab;abab", "a;aba"},
		{"(a|b)*c", "c;abbac", "abab"},
		{"[a-c]+", "abc", "d;abd;-"},
		{"[^a-c]+", "xyz;\xc3\xa9", "xa"},
		{"[]a]+", "]a", "b"},
		{"[a-]+", "a-", "b"},
		{"[\\d_.-]+", "1_2.-", "a"},
		{"\\d{3}", "123", "12;1234;12a"},
		{"\\d{2,}", "12;123456", "1"},
		{"\\d{1,3}", "1;12;123", ";1234"},
		{"a{0}b", "b", "ab"},
		{"a{,3}", "a{,3}", "aaa"}, /* no count: literal, as in RE2 */
		{"x{", "x{", "x"},
		{"(?:a|b){2}", "ab;ba", "a;abc"},
		{"(?P<y>[0-9]+)-(?P<m>[0-9]+)", "2020-10", "2020-"},
		{"(?i)aBc", "abc;ABC", "abd"},
		{"a(?i)b", "ab;aB", "Ab"},
		{"a(?i:b)c", "aBc", "aBC"},
		{"(?i)[a-c]+", "AbC", "d"},
		{"a.c",
			"abc;a\xe2\x82\xac"
			"c",
			"a\nc;ac"},
		{"(?s)a.c", "a\nc", "ac"},
		{"(?m)^a$\n^b$", "a\nb", "a b"},
		{"\\Aab\\z", "ab", "abc"},
		{"\\bab\\b", "ab", "abc"},
		{"a\\Bb", "ab", "a b"},
		{"\\.\\*\\\\", ".*\\", "a"},
		{"\\Qa.b\\E+", "a.b;a.bb", "axb;a.ba.b"},
		{"\\x41\\x{42}\\t", "AB\t", "AB"},
		{"[[:alpha:]]+[[:^digit:]]", "ab;a!", "a1"},
		{"\\w+\\s\\W", "a_1 !", "a b"},
		{"a*?b+?", "aab", "a"},
		{"\xc3\xa9+", "\xc3\xa9\xc3\xa9", "e"},
		{"(((a)))|()", ";a", "b"},
		{"(a*)*", ";aaa", "b"},
		{"(a|)+b", "b;aab", "a"},
		{"^(/[a-z0-9]([a-z0-9-]*[a-z0-9])?){0,2}$", ";/a;/a/b-c", "/a-;/a/b/c;a"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		const char *why = NULL;
		struct regex *re = regex_new(t[i].pattern, &why);

		if (!re)
			fail_msg("%s: %s", t[i].pattern, why);
		for (int want = 1; want >= 0; want--) {
			const char *s = want ? t[i].yes : t[i].no;

			while (s) {
				size_t n = strcspn(s, ";");
				_free_ char *value = xstrndup(s, n);

				if (regex_matches(re, value) != (bool)want)
					fail_msg("%s %s \"%s\"", t[i].pattern,
						want ? "does not match" : "matches", value);
				s = s[n] ? s + n + 1 : NULL;
			}
		}
		regex_free(re);
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *pattern, *why;
	} t[] = {
		{"a**", "repeats a repetition"},
		{"*a", "repeats nothing"},
		{"a|*", "repeats nothing"},
		{"(a", "has a ( without )"},
		{"a)", "has a ) without ("},
		{"[a", "has a [ without ]"},
		{"[b-a]", "has a range that runs backwards"},
		{"[[:nope:]]", "has an unknown [:class:]"},
		{"a{3,2}", "has a repetition that runs backwards"},
		{"a{1001}", "repeats more than 1000 times"},
		{"(a)\\1", "has a back-reference, which RE2 does not know"},
		{"(?=a)", "looks ahead or behind, which RE2 does not know"},
		{"(?<!a)", "looks ahead or behind, which RE2 does not know"},
		{"(?>a)", "has an unknown group (?"},
		{"\\pL", "has \\p, which is not supported: write the characters out"},
		{"\\y", "has an unknown escape"},
		{"\\", "ends with a backslash"},
		{"\\xg", "has a bad \\x escape"},
		{"(((a{100}){100}){100})", "too large"},
		{"((((){1000}){1000}){1000}){1000}", "too large"},
	};
	char deep[300] = "", longer[REGEX_PATTERN_MAX + 2];
	const char *why = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		if (regex_new(t[i].pattern, &why))
			fail_msg("accepted %s", t[i].pattern);
		assert_string_equal(why, t[i].why);
	}
	memset(deep, '(', 100);
	assert_null(regex_new(deep, &why));
	assert_string_equal(why, "nested too deeply");
	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_null(regex_new(longer, &why));
	assert_string_equal(why, "longer than 1024 bytes");
}

/* What blows up matchers that try one way after the other. */
static void test_bounded(void **state)
{
	static const char *const hostile[] = {"(a*)*b", "(a|a)*b", "(a?){200}a{200}b",
		"((a{0,30}){0,30})b", "(.*)*(.*)*(.*)*b", "(a|aa|aaa)*b"};
	char value[4097];
	struct timespec begin, end;

	memset(value, 'a', sizeof(value) - 1);
	value[sizeof(value) - 1] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(hostile); i++) {
		const char *why = NULL;
		struct regex *re = regex_new(hostile[i], &why);

		assert_non_null(re);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
		assert_false(regex_matches(re, value));
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
		if (end.tv_sec - begin.tv_sec > 5)
			fail_msg("%s took %ld s", hostile[i], (long)(end.tv_sec - begin.tv_sec));
		regex_free(re);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matches),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The pattern matcher and the expander of arguments: PATTERN NUL VALUE NUL TEXT. */
#include <stdlib.h>
#include <string.h>

#include "kit/args.h"
#include "kit/regex.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void check_pattern(const char *pattern, const char *value)
{
	const char *why = NULL;
	struct regex *re = regex_new(pattern, &why);

	must(re || why);
	if (re && strlen(value) <= 4096)
		regex_matches(re, value);
	regex_free(re);
	if (strstr(value, "\\E") || strlen(value) > REGEX_PATTERN_MAX - 8)
		return;
	/* A value that is quoted matches itself, and nothing longer. */
	{
		_free_ char *quoted = xasprintf("\\Q%s\\E", value), *more = xasprintf("%sx", value);
		size_t len = strlen(value);

		if (len && value[len - 1] == '\\')
			return; /* \\E would be read as \ and E */
		re = regex_new(quoted, &why);
		must(re && regex_matches(re, value) && !regex_matches(re, more));
		regex_free(re);
	}
}

static void check_text(const char *value, const char *text, size_t len)
{
	_free_ char *arg = xasprintf("a=%s", value);
	char *list[] = {arg, NULL};
	struct strv args = {list, 1};
	_buf_ struct buf out = {.max = ARGS_TEXT_MAX};
	struct args_ref r;
	size_t at = 0, refs = 0;

	for (; args_next_ref(text, len, at, &r); at = r.at + r.len, refs++) {
		must(r.at >= at && r.len >= 12 && r.at + r.len <= len);
		must(r.name >= r.at && r.name + r.name_len <= r.at + r.len);
	}
	if (kit_put_args(&args, text, len, &out) < 0)
		return;
	if (!refs)
		must(buf_len(&out) == len && (!len || memcmp(buf_head(&out), text, len) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *value = memchr(data, 0, size), *text;
	_free_ char *p = NULL, *v = NULL;

	if (!value)
		return 0;
	value++;
	text = memchr(value, 0, size - (size_t)(value - data));
	if (!text)
		return 0;
	p = xstrdup((const char *)data);
	v = xstrdup((const char *)value);
	text++;
	check_pattern(p, v);
	check_text(v, (const char *)text, size - (size_t)(text - data));
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Paths of HTTP requests, and the patterns of rules about them. */
#include "policy/path.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

/* More layers of escapes than this are an attack. */
#define DECODE_ROUNDS 4

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The byte behind the escape at @s, or -1. */
static int escape_at(const char *s, size_t left)
{
	int hi = left > 2 ? hex_value(s[1]) : -1, lo = left > 2 ? hex_value(s[2]) : -1;

	return s[0] == '%' && hi >= 0 && lo >= 0 ? hi * 16 + lo : -1;
}

static bool is_unreserved(int c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '.' || c == '_' || c == '~';
}

static bool is_control(int c)
{
	return (c >= 0 && c < ' ') || c == 0x7f;
}

static int ambiguous(struct err *err, const char *what)
{
	return err_set(err, ERR_USER, "the path can be read in more than one way: %s", what);
}

/* Escapes in one spelling, bytes that belong escaped escaped. @out: room for three times @len. */
static int normalise_escapes(const char *s, size_t len, char *out, size_t *ret_len, struct err *err)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];
		int v = escape_at(s + i, len - i);

		if (c == '%' && v < 0)
			return ambiguous(err, "a '%' without two hexadecimal digits");
		if (is_control(v < 0 ? c : v))
			return ambiguous(err, "a control character");
		if (v >= 0)
			i += 2;
		else if (c >= 0x80 || c == ' ')
			v = c;
		if (v < 0 || is_unreserved(v)) {
			out[n++] = (char)(v < 0 ? c : v);
		} else {
			out[n++] = '%';
			out[n++] = digits[v >> 4];
			out[n++] = digits[v & 15];
		}
	}
	*ret_len = n;
	return 0;
}

size_t policy_path_remove_dots(char *s, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len;) {
		size_t start = ++i, seg; /* behind the '/' */

		while (i < len && s[i] != '/')
			i++;
		seg = i - start;
		if ((seg == 1 && s[start] == '.') ||
			(seg == 2 && s[start] == '.' && s[start + 1] == '.')) {
			while (seg == 2 && n > 0 && s[--n] != '/')
				;
			if (i == len)
				s[n++] = '/';
			continue;
		}
		s[n++] = '/';
		memmove(s + n, s + start, seg);
		n += seg;
	}
	return n;
}

/* RFC 3629: no overlong forms (another way to write '/'), no surrogates, nothing above U+10FFFF. */
static bool is_utf8(const unsigned char *s)
{
	while (*s) {
		unsigned more = *s < 0x80 ? 0 : *s < 0xe0 ? 1 : *s < 0xf0 ? 2 : 3;
		uint32_t v = more ? *s & (0x3fu >> more) : *s;
		static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};

		if ((*s >= 0x80 && *s < 0xc0) || *s >= 0xf8)
			return false;
		for (unsigned i = 1; i <= more; i++) {
			if ((s[i] & 0xc0) != 0x80)
				return false;
			v = v << 6 | (s[i] & 0x3fu);
		}
		if (v < least[more] || v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
			return false;
		s += 1 + more;
	}
	return true;
}

/* Decode every escape of @s in place, once. Whether there was one; -1 when it hides a control
 * character. */
static int decode_once(char *s, struct err *err)
{
	size_t len = strlen(s), n = 0;
	bool any = false;

	for (size_t i = 0; i < len; i++) {
		int v = escape_at(s + i, len - i);

		if (is_control(v))
			return ambiguous(err, "a control character");
		if (v >= 0)
			i += 2;
		any |= v >= 0;
		s[n++] = v >= 0 ? (char)v : s[i];
	}
	s[n] = '\0';
	return any;
}

/* "..", and what some servers take for it. */
static bool is_dots(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (s[i] != '.' && s[i] != ' ')
			return false;
	return len > 0;
}

/* Segments of @s without parameters, one slash between them, in place. */
static int squeeze_segments(char *s, struct err *err)
{
	size_t n = 0;

	for (const char *at = s; *at;) {
		size_t len = strcspn(at, "/\\"), keep = MIN(len, strcspn(at, ";"));

		if (is_dots(at, len) || is_dots(at, keep))
			return ambiguous(err, "a dot segment behind escapes or separators");
		if (keep > 0) {
			/* Never overtakes what is still to be read: a separator went before. */
			if (n > 0 || s != at)
				s[n++] = '/';
			memmove(s + n, at, keep);
			n += keep;
		}
		at += len + (at[len] != '\0');
	}
	if (n == 0)
		s[n++] = '/';
	s[n] = '\0';
	return 0;
}

static int make_loose(const char *exact, char **ret, struct err *err)
{
	_free_ char *s = xstrdup(exact);
	int more = 1;

	for (int i = 0; more == 1 && i <= DECODE_ROUNDS; i++)
		more = decode_once(s, err);
	if (more < 0)
		return -1;
	if (more)
		return ambiguous(err, "escapes within escapes");
	if (!is_utf8((const unsigned char *)s))
		return ambiguous(err, "bytes that are not UTF-8");
	if (squeeze_segments(s, err) < 0)
		return -1;
	*ret = steal_ptr(&s);
	return 0;
}

static int finish(char *exact /* taken */, struct policy_path *ret, struct err *err)
{
	struct policy_path p = {.exact = exact};

	if (make_loose(p.exact, &p.loose, err) < 0) {
		policy_path_done(&p);
		return -1;
	}
	*ret = p;
	return 0;
}

int policy_path_parse(const char *s, size_t len, struct policy_path *ret, struct err *err)
{
	_free_ char *exact = NULL;
	size_t n = 0;

	if (len > POLICY_PATH_MAX)
		return err_set(err, ERR_USER, "the path is longer than %u bytes", POLICY_PATH_MAX);
	exact = xmalloc(3 * len + 2);
	if (len > 0 && s[0] != '/')
		return ambiguous(err, "it does not begin with '/'");
	if (normalise_escapes(s, len, exact, &n, err) < 0)
		return -1;
	n = policy_path_remove_dots(exact, n);
	if (n == 0)
		exact[n++] = '/';
	exact[n] = '\0';
	return finish(steal_ptr(&exact), ret, err);
}

static int check_segment(const char *s, size_t len, bool last, struct err *err)
{
	bool star = memchr(s, '*', len) != NULL;

	if (len == 0 && !last)
		return err_set(err, ERR_USER, "a path pattern has no empty segments");
	if (is_dots(s, len))
		return err_set(err, ERR_USER, "a path pattern has no dot segments");
	if (star && !(len == 1 || (len == 2 && s[1] == '*' && s[0] == '*')))
		return err_set(err, ERR_USER,
			"\"*\" and \"**\" must stand for whole segments of the path");
	for (size_t i = 0; i < len; i++) {
		if (strchr("?#\\;", s[i]))
			return err_set(err, ERR_USER, "a path pattern cannot hold '%c'", s[i]);
		if (escape_at(s + i, len - i) == '*')
			return err_set(err, ERR_USER, "a path pattern cannot hold a literal '*'");
	}
	return 0;
}

int policy_pattern_parse(const char *s, struct policy_path *ret, struct err *err)
{
	_free_ char *exact = NULL;
	size_t len = strlen(s), n = 0;

	if (s[0] != '/')
		return err_set(err, ERR_USER, "a path pattern begins with '/'");
	if (len > POLICY_PATTERN_MAX)
		return err_set(err, ERR_USER, "path pattern is longer than %u characters",
			POLICY_PATTERN_MAX);
	exact = xmalloc(3 * len + 1);
	if (normalise_escapes(s, len, exact, &n, err) < 0)
		return -1;
	exact[n] = '\0';
	for (const char *at = exact; *at;) {
		size_t seg = strcspn(++at, "/");

		if (check_segment(at, seg, at[seg] == '\0', err) < 0)
			return -1;
		at += seg;
	}
	return finish(steal_ptr(&exact), ret, err);
}

void policy_path_done(struct policy_path *p)
{
	free(p->exact);
	free(p->loose);
	*p = (struct policy_path){0};
}

/* The segment behind the one at @s, or NULL. */
static const char *next_segment(const char *s)
{
	s = strchrnul(s, '/');
	return *s ? s + 1 : NULL;
}

static bool is_segment(const char *s, const char *what)
{
	size_t len = strcspn(s, "/");

	return strlen(what) == len && memcmp(s, what, len) == 0;
}

static bool match_segment(const char *p, const char *s, bool fold)
{
	size_t len = strcspn(s, "/");

	if (is_segment(p, "*"))
		return len > 0;
	if (strcspn(p, "/") != len)
		return false;
	return (fold ? strncasecmp(p, s, len) : strncmp(p, s, len)) == 0;
}

/* Only the last "**" is ever tried anew: an earlier one could not do better. */
bool policy_path_match(const char *pattern, const char *path, bool fold)
{
	const char *p = pattern + 1, *s = path + 1, *again_p = NULL, *again_s = NULL;

	if (pattern[0] != '/' || path[0] != '/')
		return false;
	while (s) {
		if (p && is_segment(p, "**")) {
			p = again_p = next_segment(p);
			again_s = s;
		} else if (p && match_segment(p, s, fold)) {
			p = next_segment(p);
			s = next_segment(s);
		} else if (again_s) {
			s = again_s = next_segment(again_s);
			p = again_p;
		} else {
			return false;
		}
	}
	while (p && is_segment(p, "**"))
		p = next_segment(p);
	return !p;
}

bool policy_pattern_covers(const struct policy_path *outer, const struct policy_path *inner)
{
	if (strcmp(outer->exact, "/**") == 0 || strcmp(outer->exact, inner->exact) == 0)
		return true;
	return !strchr(inner->exact, '*') && policy_path_match(outer->exact, inner->exact, false) &&
	       policy_path_match(outer->loose, inner->loose, false);
}

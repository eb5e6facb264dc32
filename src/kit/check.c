/* SPDX-License-Identifier: Apache-2.0 */
/* What single values of kits and settings must look like. */
#include "kit/check.h"

#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "kit/kit.h"
#include "policy/policy.h"
#include "wire/spec.h"

#define LOWER  "abcdefghijklmnopqrstuvwxyz"
#define UPPER  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

static bool only(const char *s, const char *set)
{
	return s[strspn(s, set)] == '\0';
}

static bool has_control(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			return true;
	return false;
}

const char *check_name(const char *s)
{
	return spec_name_valid(s) ? NULL : "1 to 64 lower-case letters, digits and inner hyphens";
}

bool kit_env_name_valid(const char *s)
{
	return *s && only(s, LOWER UPPER DIGITS "_") && !strchr(DIGITS, *s);
}

const char *check_env_name(const char *s)
{
	return kit_env_name_valid(s) ? NULL : "letters, digits and _, not beginning with a digit";
}

const char *check_text(const char *s)
{
	return *s && !has_control(s) ? NULL : "one line of text";
}

const char *check_not_empty(const char *s)
{
	return *s ? NULL : "some text";
}

const char *check_image(const char *s)
{
	return *s && strlen(s) <= 512 && strchr(LOWER UPPER DIGITS, *s) &&
			       only(s, LOWER UPPER DIGITS "._/:@-")
		       ? NULL
		       : "an image reference such as base";
}

const char *check_size(const char *s)
{
	uint64_t v;

	return kit_parse_size(s, &v) == 0 && v > 0 ? NULL : "a size such as 512m or 8g";
}

const char *check_mode(const char *s)
{
	size_t len = strlen(s);

	return only(s, "01234567") && (len == 3 || len == 4 || (len == 5 && *s == '0'))
		       ? NULL
		       : "an octal file mode such as 0644";
}

const char *check_locked(const char *s)
{
	static const char expected[] = "a dotted path such as sandbox.image";

	for (;; s++) {
		if (*s < 'a' || *s > 'z')
			return expected;
		s += strspn(s, LOWER UPPER DIGITS);
		if (!*s)
			return NULL;
		if (*s != '.')
			return expected;
	}
}

/* A built-in kit, a directory, or a remote reference that always means the same bytes. */
const char *check_reference(const char *s)
{
	const char *at;

	if (strncmp(s, "oci://", 6) == 0) {
		at = strstr(s, "@sha256:");
		return at && strlen(at + 8) == 64 && only(at + 8, DIGITS "abcdef")
			       ? NULL
			       : "a pinned reference, oci://HOST/NAME@sha256:<64 hexadecimal "
				 "digits>";
	}
	if (strncmp(s, "git+https://", 12) == 0 || strncmp(s, "git+ssh://", 10) == 0) {
		at = strstr(s, "#ref=");
		return at && strspn(at + 5, DIGITS "abcdef") == 40 && (!at[45] || at[45] == '&')
			       ? NULL
			       : "a pinned reference, git+https://HOST/PATH#ref=<40 hexadecimal "
				 "digits>";
	}
	if (strchr(s, '/'))
		return !has_control(s) && !strstr(s, "://") ? NULL : "a reference to a kit";
	return spec_name_valid(s) ? NULL : "the name of a kit or a pinned reference";
}

const char *check_user(const char *s)
{
	return *s && strlen(s) <= 32 && *s != '-' && only(s, LOWER UPPER DIGITS "_.-")
		       ? NULL
		       : "a user name or number";
}

const char *check_guest_path(const char *s)
{
	static const char expected[] = "an absolute path without . and .. in it";
	const char *p = s;

	if (*s != '/' || !s[1] || has_control(s) || strlen(s) >= 4096)
		return expected;
	while (*p) {
		size_t len = strcspn(++p, "/");

		if (!len || len > 255 || (len == 1 && p[0] == '.') ||
			(len == 2 && p[0] == '.' && p[1] == '.'))
			return expected;
		p += len;
	}
	return NULL;
}

const char *check_filename(const char *s)
{
	return *s && strlen(s) <= 64 && only(s, LOWER UPPER DIGITS "._-") && strcmp(s, ".") &&
			       strcmp(s, "..")
		       ? NULL
		       : "a file name of letters, digits, dots, _ and -";
}

/* Header names are tokens (RFC 9110 5.6.2). Headers that steer the connection itself would let a
 * kit split or redirect requests. */
const char *check_header(const char *s)
{
	static const char *const framing[] = {"Host", "Content-Length", "Transfer-Encoding",
		"Connection", "Upgrade", "TE", "Trailer", "Keep-Alive", "Expect"};

	if (!*s || strlen(s) > 128 || !only(s, LOWER UPPER DIGITS "!#$%&'*+-.^_`|~"))
		return "a header name";
	for (size_t i = 0; i < ARRAY_SIZE(framing); i++)
		if (strcasecmp(s, framing[i]) == 0)
			return "a header that does not steer the connection";
	return NULL;
}

const char *check_format(const char *s)
{
	const char *at = strstr(s, "%s");

	return at && !strstr(at + 2, "%s") && !has_control(s) && strlen(s) <= 256
		       ? NULL
		       : "exactly one %s";
}

const char *check_unreserved(const char *s)
{
	return *s && only(s, LOWER UPPER DIGITS "-._~")
		       ? NULL
		       : "letters, digits, '-', '.', '_' and '~'";
}

const char *check_basic_user(const char *s)
{
	return *s && !has_control(s) && !strchr(s, ':') && strlen(s) <= 256
		       ? NULL
		       : "a user name without colon";
}

const char *check_url(const char *s)
{
	return (strncmp(s, "https://", 8) == 0 || strncmp(s, "http://", 7) == 0) &&
			       !has_control(s) && !strchr(s, ' ')
		       ? NULL
		       : "a URL";
}

bool env_is_reserved(const char *name)
{
	static const char *const ours[] = {
		"HOME", "USER", "SHELL", "PATH", "LD_PRELOAD", "LD_LIBRARY_PATH"};
	static const char *const proxies[] = {
		"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"};

	for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
		if (strcmp(name, ours[i]) == 0)
			return true;
	for (size_t i = 0; i < ARRAY_SIZE(proxies); i++)
		if (strcasecmp(name, proxies[i]) == 0)
			return true;
	return strncmp(name, "HUTCH_", 6) == 0;
}

/* The whole bytes of the fraction with the @n digits @s of a unit of 2^@shift, exactly: digits
 * behind the 60th are none of them. */
static uint64_t fraction_bytes(const char *s, size_t n, unsigned shift)
{
	unsigned char digits[60];
	uint64_t v = 0;

	n = MIN(n, sizeof(digits));
	for (size_t i = 0; i < n; i++)
		digits[i] = (unsigned char)(s[i] - '0');
	for (unsigned bit = 0; bit < shift; bit++) {
		unsigned carry = 0;

		for (size_t i = n; i-- > 0;) {
			carry += 2u * digits[i];
			digits[i] = (unsigned char)(carry % 10);
			carry /= 10;
		}
		v = v << 1 | carry;
	}
	return v;
}

int kit_parse_size(const char *s, uint64_t *ret)
{
	static const char units[] = "kmgtp";
	const char *unit, *fraction = "";
	uint64_t whole = 0, v;
	size_t n_fraction = 0;
	unsigned shift = 0;

	if (*s < '0' || *s > '9')
		return -1;
	for (; *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
			__builtin_add_overflow(whole, (uint64_t)(*s - '0'), &whole))
			return -1;
	if (*s == '.') {
		if (s[1] < '0' || s[1] > '9')
			return -1;
		fraction = s + 1;
		n_fraction = strspn(fraction, "0123456789");
		s = fraction + n_fraction;
	}
	if (*s == ' ')
		s++;
	unit = *s ? strchr(units, *s | 0x20) : NULL;
	if (unit) {
		shift = 10 * (unsigned)(unit - units + 1);
		s++;
		if (*s == 'i' || *s == 'I')
			s++;
	}
	if (*s == 'b' || *s == 'B')
		s++;
	if (*s || whole > ((uint64_t)INT64_MAX >> shift))
		return -1;
	v = (whole << shift) + fraction_bytes(fraction, n_fraction, shift);
	if (v > INT64_MAX)
		return -1;
	*ret = v;
	return 0;
}

void load_size(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	_free_ char *s = NULL;
	struct field text = {f->key, load_string, 0, 0, 0, check_size};

	load_string(l, n, &s, &text);
	if (s)
		kit_parse_size(s, FIELD_AT(base, f, uint64_t));
}

void load_cpus(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	const char *s = n->value;
	double v = 0, place = 1;

	if (ynode_reads_as(n, "a number") && *s >= '0' && *s <= '9') {
		for (; *s >= '0' && *s <= '9' && v < 1e6; s++)
			v = 10 * v + (*s - '0');
		if (*s == '.')
			for (s++; *s >= '0' && *s <= '9'; s++)
				v += (*s - '0') * (place /= 10);
		if (!*s && v <= 1024) {
			*FIELD_AT(base, f, double) = v;
			return;
		}
	}
	if (n->kind != YNODE_BAD)
		load_error(l, n, "expected a number of cores such as 2 or 0.5, without quotes");
}

void load_port_number(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	const char *s = n->value;

	if (ynode_reads_as(n, "a number") && *s >= '1' && *s <= '9' && strlen(s) <= 5 &&
		only(s, DIGITS) && strtoul(s, NULL, 10) <= 65535)
		*FIELD_AT(base, f, unsigned) = (unsigned)strtoul(s, NULL, 10);
	else if (n->kind != YNODE_BAD)
		load_error(l, n, "expected a port number from 1 to 65535, without quotes");
}

const char *load_target(struct load *l, const struct ynode *n, bool named)
{
	const char *s = load_scalar(l, n, "a host");
	struct policy_rule rule;
	struct err err;

	if (!s)
		return NULL;
	if (l->schema == 3 && strcmp(s, "*") == 0)
		s = "**";
	if (policy_host_rule_parse(s, &rule, &err) < 0) {
		load_error(l, n, "%s", err.msg);
		return NULL;
	}
	if (named && (rule.kind == POLICY_ALL || rule.kind == POLICY_CIDR)) {
		load_error(l, n,
			"a credential goes to hosts by name, expected a host such as "
			"api.example.com");
		s = NULL;
	}
	policy_rule_done(&rule);
	return s;
}

void load_targets(struct load *l, const struct ynode *n, void *base, const struct field *f)
{
	struct strv *to = FIELD_AT(base, f, struct strv);

	if (!load_is_list(l, n, "a list of hosts"))
		return;
	for (size_t i = 0; i < n->n; i++) {
		const char *s = load_target(l, n->items[i], false);

		if (s)
			strv_add(to, s);
	}
}

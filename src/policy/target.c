/* SPDX-License-Identifier: Apache-2.0 */
/* The text form of a rule's target: parsing and coverage. */
#include "policy/policy.h"

#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "policy/target.h"

static const char expected[] =
	"expected HOST, HOST:PORT, HOST:80-443, HOST:*, *.HOST, **.HOST, 10.0.0.0/8 or **";

#define METHODS_MAX 16 /* in one rule */

/* Decimal without sign, spaces or leading zeros. */
static int parse_number(const char *s, size_t len, unsigned max, unsigned *ret)
{
	unsigned v = 0;

	if (len < 1 || len > 5 || (s[0] == '0' && len > 1))
		return -1;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -1;
		v = v * 10 + (unsigned)(s[i] - '0');
	}
	if (v > max)
		return -1;
	*ret = v;
	return 0;
}

static int parse_ports(const char *s, struct policy_rule *r, struct err *err)
{
	const char *dash = strchr(s, '-');
	size_t n = dash ? (size_t)(dash - s) : strlen(s);
	unsigned lo, hi;

	r->ports_given = true;
	if (strcmp(s, "*") == 0) {
		r->port_lo = 1;
		r->port_hi = 65535;
		return 0;
	}
	if (parse_number(s, n, 65535, &lo) < 0 || lo == 0)
		return err_set(err, ERR_USER,
			"\"%s\" is not a port: expected 1-65535, a range such "
			"as 80-443, or *",
			s);
	hi = lo;
	if (dash && (parse_number(dash + 1, strlen(dash + 1), 65535, &hi) < 0 || hi < lo))
		return err_set(err, ERR_USER,
			"\"%s\" is not a port range: expected LOW-HIGH within "
			"1-65535",
			s);
	r->port_lo = (uint16_t)lo;
	r->port_hi = (uint16_t)hi;
	return 0;
}

/* An address with an optional /prefix. */
static int parse_net(char *s, struct policy_rule *r, struct err *err)
{
	char *slash = strchr(s, '/'), text[POLICY_ADDR_TEXT];
	struct policy_addr masked;
	unsigned bits;

	if (slash)
		*slash = '\0';
	if (policy_addr_parse(s, strlen(s), &r->net, NULL) < 0)
		return err_set(err, ERR_USER,
			"\"%s\" is not an address: expected four decimal numbers "
			"such as 192.0.2.1, or IPv6",
			s);
	if (!r->net.v6 && strchr(s, ':'))
		return err_set(err, ERR_USER, "write \"%s\" in its IPv4 form %s", s,
			policy_addr_text(&r->net, text));
	bits = r->net.v6 ? 128 : 32;
	r->kind = POLICY_CIDR;
	r->prefix = bits;
	if (!slash)
		return 0;
	if (parse_number(slash + 1, strlen(slash + 1), bits, &r->prefix) < 0)
		return err_set(err, ERR_USER, "\"/%s\" is not a prefix length: expected 0-%u",
			slash + 1, bits);
	masked = r->net;
	for (unsigned i = r->prefix; i < bits; i++)
		masked.b[i / 8] &= (uint8_t) ~(0x80u >> (i % 8));
	if (!policy_addr_equal(&masked, &r->net))
		return err_set(err, ERR_USER, "address has bits set behind the prefix: write %s/%u",
			policy_addr_text(&masked, text), r->prefix);
	return 0;
}

/* Replace "*" labels by "x" for the name check, leaving the pattern in @r->name. */
static int parse_pattern(const char *s, struct policy_rule *r, struct err *err)
{
	char plain[POLICY_TARGET_MAX], canon[POLICY_NAME_MAX + 1];
	size_t len = strlen(s);
	bool star = false;

	if (len >= sizeof(plain))
		return err_set(
			err, ERR_USER, "host name is longer than %d characters", POLICY_NAME_MAX);
	for (size_t i = 0; i <= len; i++) {
		plain[i] = s[i];
		if (s[i] != '*')
			continue;
		if ((i > 0 && s[i - 1] != '.') || s[i + 1] != '.')
			return err_set(err, ERR_USER,
				"\"*\" must stand for one whole label, but not for the last");
		plain[i] = 'x';
		star = true;
	}
	if (policy_name_canon(plain, len, canon, err) < 0)
		return -1;
	len = strlen(canon);
	for (size_t i = 0; i < len; i++)
		r->name[i] = s[i] == '*' ? '*' : canon[i];
	r->name[len] = '\0';
	if (r->name[len - 1] == '*')
		return err_set(err, ERR_USER, "\"*\" cannot stand for the last label");
	if (r->kind != POLICY_DEEP)
		r->kind = star ? POLICY_STAR : POLICY_EXACT;
	return 0;
}

static int parse_host(char *s, struct policy_rule *r, struct err *err)
{
	if (strcmp(s, "**") == 0) {
		r->kind = POLICY_ALL;
		return 0;
	}
	if (strcmp(s, "*") == 0)
		return err_set(
			err, ERR_USER, "\"*\" alone matches nothing: write \"**\" for every host");
	if (*s == '\0')
		return err_set(err, ERR_USER, "no host: %s", expected);
	if (strspn(s, "0123456789./") == strlen(s))
		return parse_net(s, r, err);
	if (strchr(s, '/'))
		return err_set(err, ERR_USER,
			"expected an address such as 10.0.0.0/8, and ports in front of a path");
	if (strncmp(s, "**.", 3) == 0) {
		r->kind = POLICY_DEEP;
		s += 3;
	}
	return parse_pattern(s, r, err);
}

/* Split @s in place into host and ports; *ret_ports is NULL when there are none. */
static int split(char *s, char **ret_host, char **ret_ports, bool *ret_v6, struct err *err)
{
	char *colon = strrchr(s, ':'), *close;

	*ret_host = s;
	*ret_ports = NULL;
	*ret_v6 = false;
	if (*s == '[') {
		close = strchr(s, ']');
		if (!close || (close[1] != '\0' && close[1] != ':'))
			return err_set(err, ERR_USER, "expected [ADDRESS] or [ADDRESS]:PORT");
		*close = '\0';
		*ret_host = s + 1;
		*ret_ports = close[1] ? close + 2 : NULL;
		*ret_v6 = true;
		if (!strchr(s + 1, ':'))
			return err_set(
				err, ERR_USER, "only an IPv6 address is written in brackets");
		return 0;
	}
	if (!colon)
		return 0;
	if (strchr(s, ':') != colon) {
		*ret_v6 = true; /* more than one colon: an IPv6 address, which then has no ports */
		return 0;
	}
	*colon = '\0';
	*ret_ports = colon + 1;
	return 0;
}

/* Where the path of @s begins, or NULL. In an address the first slash is the prefix's. */
static char *find_path(char *s)
{
	size_t n = strcspn(s, "/"), colons = 0;
	char *from = s;

	for (size_t i = 0; i < n; i++)
		colons += s[i] == ':';
	if (*s == '[')
		from = strchr(s, ']');
	else if (colons > 1)
		return NULL; /* an IPv6 address, which then has no ports */
	else if (strspn(s, "0123456789.") == n)
		from = strchr(s, ':');
	return from ? strchr(from, '/') : NULL;
}

static int check_method(const char *s, size_t len, struct err *err)
{
	if (len < 1 || len > 24 || strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") < len)
		return err_set(err, ERR_USER,
			"\"%.*s\" is neither tcp, udp nor an HTTP method in capitals",
			(int)MIN(len, (size_t)40), s);
	return 0;
}

/* The word in front: a protocol or methods. */
static int parse_what(const char *s, struct policy_rule *r, struct err *err)
{
	size_t n = 0;

	if (strcmp(s, "tcp") == 0)
		return 0;
	if (strcmp(s, "udp") == 0) {
		r->protos = POLICY_UDP;
		return 0;
	}
	for (const char *at = s;; at++) {
		size_t len = strcspn(at, ",");

		if (check_method(at, len, err) < 0)
			return -1;
		if (++n > METHODS_MAX)
			return err_set(err, ERR_USER, "more than %d methods", METHODS_MAX);
		at += len;
		if (!*at)
			break;
	}
	r->http = true;
	if (strcmp(s, "ANY") != 0)
		r->methods = xstrdup(s);
	return 0;
}

static int parse_target(char *s, struct policy_rule *r, struct err *err)
{
	char *host, *ports, *path;
	bool v6;

	if (strstr(s, "://"))
		return err_set(err, ERR_USER, "a rule names a host, not a URL: %s", expected);
	path = find_path(s);
	if (path && r->protos == POLICY_UDP)
		return err_set(err, ERR_USER, "a path needs HTTP, not udp");
	if (path) {
		if (policy_pattern_parse(path, &r->path, err) < 0)
			return -1;
		r->http = true;
		*path = '\0';
	}
	if (split(s, &host, &ports, &v6, err) < 0)
		return -1;
	if ((v6 ? parse_net(host, r, err) : parse_host(host, r, err)) < 0)
		return -1;
	return ports ? parse_ports(ports, r, err) : 0;
}

/* @blank: the one that may be there, or NULL. */
static int check_text(const char *target, const char *blank, struct err *err)
{
	size_t len = strnlen(target, POLICY_TARGET_MAX);

	if (len == POLICY_TARGET_MAX)
		return err_set(err, ERR_USER, "rule is longer than %d characters: \"%.40s...\"",
			POLICY_TARGET_MAX - 1, target);
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)target[i];

		if (c >= 0x80)
			return err_set(err, ERR_USER,
				"rule \"%.300s\" is not ASCII: write the host in "
				"punycode (xn--...)",
				target);
		if (c < ' ' || c == 0x7f || (c == ' ' && target + i != blank))
			return err_set(err, ERR_USER,
				"rule has a blank or control character at "
				"position %zu: %s",
				i + 1, expected);
	}
	return 0;
}

int policy_rule_parse(const char *target, struct policy_rule *ret, struct err *err)
{
	struct policy_rule r = {
		.allow = true, .port_lo = 443, .port_hi = 443, .protos = POLICY_TCP};
	_free_ char *s = NULL;
	char *blank, *host;
	int rc = 0;

	if (check_text(target, strchr(target, ' '), err) < 0)
		return -1;
	host = s = xstrdup(target);
	blank = strchr(s, ' ');
	if (blank) {
		*blank = '\0';
		host = blank + 1;
		rc = parse_what(s, &r, err);
	}
	if (rc < 0 || parse_target(host, &r, err) < 0) {
		policy_rule_done(&r);
		return err_wrap(err, "rule \"%.300s\"", target);
	}
	r.text = xstrdup(target);
	r.source = xstrdup("");
	*ret = r;
	return 0;
}

int policy_host_rule_parse(const char *target, struct policy_rule *ret, struct err *err)
{
	struct policy_rule r;

	if (check_text(target, NULL, err) < 0 || policy_rule_parse(target, &r, err) < 0)
		return -1;
	if (r.http) {
		policy_rule_done(&r);
		return err_set(err, ERR_USER,
			"rule \"%.300s\": a path is not part of a rule here: %s", target, expected);
	}
	*ret = r;
	return 0;
}

void policy_rule_done(struct policy_rule *r)
{
	free(r->text);
	free(r->source);
	free(r->methods);
	policy_path_done(&r->path);
	*r = (struct policy_rule){0};
}

int policy_labels_left(const char *pattern, const char *name)
{
	size_t p = strlen(pattern), n = strlen(name);
	int left = 0;

	for (;;) {
		size_t pl = p, nl = n;

		while (pl > 0 && pattern[pl - 1] != '.')
			pl--;
		while (nl > 0 && name[nl - 1] != '.')
			nl--;
		if (p - pl != 1 || pattern[pl] != '*') {
			if (p - pl != n - nl || memcmp(pattern + pl, name + nl, p - pl) != 0)
				return -1;
		}
		if (pl == 0) {
			n = nl;
			break;
		}
		if (nl == 0)
			return -1;
		p = pl - 1;
		n = nl - 1;
	}
	for (size_t i = 0; i < n; i++)
		left += name[i] == '.';
	return left;
}

static bool covers_host(const struct policy_rule *outer, const struct policy_rule *inner)
{
	int left;

	if (inner->kind == POLICY_CIDR || outer->kind == POLICY_CIDR)
		return inner->kind == outer->kind && inner->prefix >= outer->prefix &&
		       policy_addr_in(&inner->net, &outer->net, outer->prefix);
	/* No wildcard allows this machine (policy.c, matches_name). */
	if (outer->allow && outer->kind != POLICY_EXACT && inner->kind == POLICY_EXACT &&
		strcmp(inner->name, POLICY_THIS_HOST) == 0)
		return false;
	if (outer->kind == POLICY_ALL)
		return true;
	if (inner->kind == POLICY_ALL)
		return false;
	left = policy_labels_left(outer->name, inner->name);
	if (outer->kind == POLICY_DEEP)
		return left >= (inner->kind == POLICY_DEEP ? 0 : 1);
	return inner->kind != POLICY_DEEP && left == 0;
}

bool policy_method_in(const char *methods, const char *method, bool fold)
{
	size_t n = strlen(method);

	for (const char *at = methods; *at; at += *at == ',') {
		size_t len = strcspn(at, ",");

		if (len == n && (fold ? strncasecmp(at, method, n) : strncmp(at, method, n)) == 0)
			return true;
		at += len;
	}
	return false;
}

static bool covers_methods(const char *outer, const char *inner)
{
	if (!outer)
		return true;
	for (const char *at = inner; at && *at; at += *at == ',') {
		char one[40];
		size_t len = strcspn(at, ",");

		memcpy(one, at, len);
		one[len] = '\0';
		if (!policy_method_in(outer, one, false))
			return false;
		at += len;
	}
	return inner != NULL;
}

static bool covers_requests(const struct policy_rule *outer, const struct policy_rule *inner)
{
	if (!outer->http)
		return true;
	return inner->http && covers_methods(outer->methods, inner->methods) &&
	       (!outer->path.exact ||
		       (inner->path.exact && policy_pattern_covers(&outer->path, &inner->path)));
}

bool policy_rule_covers_host(const struct policy_rule *outer, const struct policy_rule *inner)
{
	return (inner->protos & ~outer->protos) == 0 && inner->port_lo >= outer->port_lo &&
	       inner->port_hi <= outer->port_hi && covers_host(outer, inner);
}

bool policy_rule_covers(const struct policy_rule *outer, const struct policy_rule *inner)
{
	return policy_rule_covers_host(outer, inner) && covers_requests(outer, inner);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The host's proxy settings. */
#include "gate/upstream.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "gate/mask.h"

#define DEFAULT_PORT 1080u /* curl's */

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decode %XX. False: malformed. */
static bool put_decoded(struct buf *b, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int hi, lo;

		if (s[i] != '%') {
			buf_put_u8(b, (uint8_t)s[i]);
			continue;
		}
		hi = i + 2 < n ? hex_digit(s[i + 1]) : -1;
		lo = i + 2 < n ? hex_digit(s[i + 2]) : -1;
		if (hi < 0 || lo < 0)
			return false;
		buf_put_u8(b, (uint8_t)(hi << 4 | lo));
		i += 2;
	}
	return true;
}

/* user[:password] → Basic … */
static void set_auth(struct upstream_proxy *p, const char *s, size_t n)
{
	const char *colon = memchr(s, ':', n);
	struct buf plain, value;
	bool ok;

	buf_init(&plain, UPSTREAM_URL_MAX);
	buf_init(&value, 2 * UPSTREAM_URL_MAX);
	buf_reserve(&plain, UPSTREAM_URL_MAX); /* so that it never moves */
	buf_reserve(&value, 2 * UPSTREAM_URL_MAX);
	ok = put_decoded(&plain, s, colon ? (size_t)(colon - s) : n);
	/* A colon in the user name would end it elsewhere. */
	ok = ok && !(buf_len(&plain) && memchr(buf_head(&plain), ':', buf_len(&plain)));
	buf_put_u8(&plain, ':');
	if (colon)
		ok = ok && put_decoded(&plain, colon + 1, n - (size_t)(colon + 1 - s));
	buf_puts(&value, "Basic ");
	mask_base64(&value, buf_head(&plain), buf_len(&plain));
	if (ok && !plain.failed && !value.failed)
		p->auth = secret_new(buf_head(&value), buf_len(&value), NULL);
	if (!p->auth)
		snprintf(p->problem, sizeof(p->problem), "its user name or password is malformed");
	buf_wipe(&plain);
	buf_wipe(&value);
}

/* Only HTTP in the clear is spoken to a proxy. */
static const char *strip_scheme(struct upstream_proxy *p, const char *url)
{
	const char *end = strstr(url, "://");

	if (!end)
		return url;
	if (end - url != 4 || strncasecmp(url, "http", 4) != 0)
		snprintf(p->problem, sizeof(p->problem),
			"%.*s proxies are not supported, only http",
			(int)MIN(end - url, (ptrdiff_t)16), url);
	return end + 3;
}

struct upstream_proxy *upstream_parse_url(const char *url)
{
	struct upstream_proxy *p = xcalloc(1, sizeof(*p));
	const char *rest = strip_scheme(p, url), *at;
	size_t n = strcspn(rest, "/?#");
	struct err err;

	if (strlen(url) > UPSTREAM_URL_MAX) {
		snprintf(p->problem, sizeof(p->problem), "the URL is too long");
		return p;
	}
	/* The last one: a password may hold another, by mistake. */
	at = memrchr(rest, '@', n);
	if (at && !p->problem[0])
		set_auth(p, rest, (size_t)(at - rest));
	if (at) {
		n -= (size_t)(at + 1 - rest);
		rest = at + 1;
	}
	if (policy_authority_parse(rest, n, &p->host, &p->port, &err) < 0) {
		snprintf(p->problem, sizeof(p->problem), "the URL has no valid host and port");
		return p;
	}
	p->port = p->port ? p->port : DEFAULT_PORT;
	snprintf(p->text, sizeof(p->text), p->host.is_addr && p->host.addr.v6 ? "[%s]:%u" : "%s:%u",
		p->host.name, p->port);
	return p;
}

/* ---- no_proxy ---- */

/* Take ":port" off the end. False: a port that is none. */
static bool take_port(const char *s, size_t *n, uint16_t *ret)
{
	const char *colon = memrchr(s, ':', *n), *first = memchr(s, ':', *n);
	unsigned long port = 0;

	*ret = 0;
	/* More than one colon: IPv6, whose port comes behind a bracket. */
	if (!colon || (colon != first && (colon == s || colon[-1] != ']')))
		return true;
	for (const char *c = colon + 1; c < s + *n; c++) {
		if (!isdigit((unsigned char)*c) || port > UINT16_MAX)
			return false;
		port = port * 10 + (unsigned long)(*c - '0');
	}
	*n = (size_t)(colon - s);
	*ret = (uint16_t)port;
	return port > 0 && port <= UINT16_MAX;
}

static bool take_prefix(const char *s, size_t *n, long *ret)
{
	const char *slash = memchr(s, '/', *n);
	long bits = 0;

	*ret = -1;
	if (!slash)
		return true;
	if (slash + 1 == s + *n || s + *n - slash > 4)
		return false;
	for (const char *c = slash + 1; c < s + *n; c++) {
		if (!isdigit((unsigned char)*c))
			return false;
		bits = bits * 10 + (*c - '0');
	}
	*n = (size_t)(slash - s);
	*ret = bits;
	return true;
}

/* One entry. False: nothing that could match, as with curl. */
static bool parse_bypass(const char *s, size_t n, struct upstream_bypass *ret)
{
	long prefix;

	*ret = (struct upstream_bypass){.port = 0};
	if (!take_port(s, &n, &ret->port) || !take_prefix(s, &n, &prefix))
		return false;
	if (n >= 2 && s[0] == '[' && s[n - 1] == ']') {
		s++;
		n -= 2;
	}
	if (policy_addr_parse(s, n, &ret->net, NULL) == 0) {
		long bits = ret->net.v6 ? 128 : 32;

		ret->prefix = (unsigned)(prefix < 0 ? bits : prefix);
		return prefix <= bits;
	}
	/* ".example.com" and "*.example.com" are example.com here. */
	if (n && s[0] == '*') {
		s++;
		n--;
	}
	if (n && s[0] == '.') {
		s++;
		n--;
	}
	return prefix < 0 && policy_name_canon(s, n, ret->name, NULL) == 0;
}

static void read_bypass(struct upstream *u, const char *text)
{
	static const char between[] = ", \t\r\n";
	_free_ char *copy = strndup(text, UPSTREAM_BYPASS_TEXT);
	const char *s = copy;

	u->bypass = xcalloc(UPSTREAM_BYPASS_MAX, sizeof(*u->bypass));
	while (s && *s && u->n_bypass < UPSTREAM_BYPASS_MAX) {
		size_t n = strcspn(s, between);

		if (n == 1 && *s == '*')
			u->bypass_all = true;
		else if (n > 0 && parse_bypass(s, n, &u->bypass[u->n_bypass]))
			u->n_bypass++;
		s += n;
		s += strspn(s, between);
	}
}

static bool is_below(const char *name, const char *domain)
{
	size_t n = strlen(name), d = strlen(domain);

	return n >= d && strcmp(name + n - d, domain) == 0 && (n == d || name[n - d - 1] == '.');
}

static bool is_bypassed(const struct upstream *u, const struct policy_query *q)
{
	if (u->bypass_all)
		return true;
	for (size_t i = 0; i < u->n_bypass; i++) {
		const struct upstream_bypass *b = &u->bypass[i];

		if (b->port && b->port != q->port)
			continue;
		if (q->name ? b->name[0] && is_below(q->name, b->name)
			    : !b->name[0] && policy_addr_in(q->addr, &b->net, b->prefix))
			return true;
	}
	return false;
}

/* ---- all of it ---- */

static const char *read_one(
	const char *(*get)(void *arg, const char *name), void *arg, const char *lower)
{
	char upper[16];
	const char *v = get(arg, lower);
	size_t i = 0;

	for (; lower[i]; i++)
		upper[i] = (char)toupper((unsigned char)lower[i]);
	upper[i] = '\0';
	return v ? v : get(arg, upper);
}

void upstream_read(struct upstream *u, const char *(*get)(void *arg, const char *name), void *arg)
{
	static const char *const names[] = {[UPSTREAM_HTTP] = "http_proxy",
		[UPSTREAM_TLS] = "https_proxy",
		[UPSTREAM_OTHER] = "all_proxy"};
	const char *all = read_one(get, arg, "all_proxy"), *bypass = read_one(get, arg, "no_proxy");

	*u = (struct upstream){.bypass_all = false};
	for (int k = 0; k < UPSTREAM_KINDS; k++) {
		const char *v = read_one(get, arg, names[k]);

		v = v ? v : all;
		if (v && *v)
			u->proxy[k] = upstream_parse_url(v);
	}
	if (bypass && *bypass)
		read_bypass(u, bypass);
}

void upstream_done(struct upstream *u)
{
	for (int k = 0; k < UPSTREAM_KINDS; k++) {
		if (u->proxy[k])
			secret_free(u->proxy[k]->auth);
		free(u->proxy[k]);
	}
	free(u->bypass);
	*u = (struct upstream){.bypass_all = false};
}

const struct upstream_proxy *upstream_find(
	const struct upstream *u, enum upstream_kind kind, const struct policy_query *q)
{
	const char *special = q->name ? NULL : policy_addr_special(q->addr);

	if (!u->proxy[kind] || is_bypassed(u, q))
		return NULL;
	if (special && (strcmp(special, "loopback") == 0 || strcmp(special, "link-local") == 0))
		return NULL;
	return u->proxy[kind];
}

bool upstream_any(const struct upstream *u, const struct policy_query *q)
{
	for (int k = 0; k < UPSTREAM_KINDS; k++)
		if (upstream_find(u, (enum upstream_kind)k, q))
			return true;
	return false;
}

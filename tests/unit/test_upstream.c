/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of gate/upstream.c: URLs of proxies, no_proxy, and which proxy counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "gate/upstream.h"

static void urls(void **state)
{
	static const struct {
		const char *url, *text, *auth, *problem;
	} t[] = {
		{"http://proxy.test:3128", "proxy.test:3128", NULL, ""},
		{"HTTP://Proxy.Test:3128/", "proxy.test:3128", NULL, ""},
		{"proxy:8080", "proxy:8080", NULL, ""},
		{"proxy", "proxy:1080", NULL, ""},
		{"http://10.1.2.3:80/path?x#y", "10.1.2.3:80", NULL, ""},
		{"http://[2001:db8::1]:3128", "[2001:db8::1]:3128", NULL, ""},
		{"http://user:pass@p.test:1", "p.test:1", "Basic dXNlcjpwYXNz", ""},
		{"http://user@p.test:1", "p.test:1", "Basic dXNlcjo=", ""},
		{"user:@p.test:1", "p.test:1", "Basic dXNlcjo=", ""},
		{"http://us%65r:p%40s%3as@p.test:1", "p.test:1", "Basic dXNlcjpwQHM6cw==", ""},
		{"http://user:p@ss@p.test:1", "p.test:1", "Basic dXNlcjpwQHNz", ""},
		{"http://u%00r:p@p.test:1", "p.test:1", "Basic dQByOnA=", ""},
		{"http://us%3Aer:p@p.test:1", NULL, NULL, "malformed"},
		{"http://u:p%4@p.test:1", NULL, NULL, "malformed"},
		{"http://u:p%@p.test:1", NULL, NULL, "malformed"},
		{"http://u:p%4x@p.test:1", NULL, NULL, "malformed"},
		{"https://p.test:1", NULL, NULL, "https proxies"},
		{"socks5h://u:p@p.test:1", NULL, NULL, "socks5h proxies"},
		{"http://", NULL, NULL, "no valid host"},
		{"http://u:p@", NULL, NULL, "no valid host"},
		{"http://p.test:0", NULL, NULL, "no valid host"},
		{"http://p.test:99999", NULL, NULL, "no valid host"},
		{"http://p q:1", NULL, NULL, "no valid host"},
		{"http://p\r\nX: y:1", NULL, NULL, "no valid host"},
		{"http:///x", NULL, NULL, "no valid host"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct upstream_proxy *p = upstream_parse_url(t[i].url);

		if (t[i].text) {
			assert_string_equal(p->problem, "");
			assert_string_equal(p->text, t[i].text);
		} else if (!strstr(p->problem, t[i].problem)) {
			fail_msg("%s: %s", t[i].url, p->problem);
		}
		if (t[i].auth) {
			assert_non_null(p->auth);
			assert_int_equal(secret_len(p->auth), strlen(t[i].auth));
			assert_memory_equal(secret_bytes(p->auth), t[i].auth, strlen(t[i].auth));
		} else if (t[i].text) {
			assert_null(p->auth);
		}
		/* No word of a password in what people are shown. */
		assert_null(strstr(p->text, "pass"));
		secret_free(p->auth);
		free(p);
	}
}

static void long_urls(void **state)
{
	char url[UPSTREAM_URL_MAX + 3];
	struct upstream_proxy *p;

	memset(url, 'a', sizeof(url));
	url[sizeof(url) - 1] = '\0';
	p = upstream_parse_url(url);
	assert_non_null(strstr(p->problem, "too long"));
	free(p);
	/* The longest credentials that fit in. */
	memset(url, 'a', UPSTREAM_URL_MAX);
	memcpy(url + UPSTREAM_URL_MAX - 9, "@p.test:1", 9);
	url[UPSTREAM_URL_MAX] = '\0';
	p = upstream_parse_url(url);
	assert_string_equal(p->problem, "");
	assert_int_equal(secret_len(p->auth), 6 + (UPSTREAM_URL_MAX - 9 + 1 + 2) / 3 * 4);
	secret_free(p->auth);
	free(p);
}

/* Pairs of names and values, ended by NULL. */
static const char *get(void *arg, const char *name)
{
	for (const char *const *v = arg; *v; v += 2)
		if (strcmp(v[0], name) == 0)
			return v[1];
	return NULL;
}

static struct upstream read_of(const char *const *vars)
{
	struct upstream u;

	upstream_read(&u, get, (void *)(uintptr_t)vars);
	return u;
}

static const char *found(
	const struct upstream *u, enum upstream_kind kind, const char *host, uint16_t port)
{
	struct policy_addr a;
	bool addr = policy_addr_parse(host, strlen(host), &a, NULL) == 0;
	struct policy_query q = {
		.name = addr ? NULL : host, .addr = addr ? &a : NULL, .port = port};
	const struct upstream_proxy *p = upstream_find(u, kind, &q);

	return p ? p->text : "direct";
}

static void which_one_counts(void **state)
{
	static const char *const none[] = {NULL};
	static const char *const three[] = {"http_proxy", "h:1", "HTTPS_PROXY", "s:2", "ALL_PROXY",
		"a:3", "HTTP_PROXY", "never:9", NULL};
	static const char *const all[] = {"all_proxy", "a:3", NULL};
	static const char *const empty[] = {"all_proxy", "a:3", "http_proxy", "", NULL};
	static const char *const tls[] = {"https_proxy", "s:2", NULL};
	struct upstream u = read_of(none);

	assert_string_equal(found(&u, UPSTREAM_HTTP, "a.test", 80), "direct");
	upstream_done(&u);
	u = read_of(three);
	assert_string_equal(found(&u, UPSTREAM_HTTP, "a.test", 80), "h:1");
	assert_string_equal(found(&u, UPSTREAM_TLS, "a.test", 443), "s:2");
	assert_string_equal(found(&u, UPSTREAM_OTHER, "a.test", 22), "a:3");
	upstream_done(&u);
	u = read_of(all);
	assert_string_equal(found(&u, UPSTREAM_HTTP, "a.test", 80), "a:3");
	assert_string_equal(found(&u, UPSTREAM_TLS, "a.test", 443), "a:3");
	upstream_done(&u);
	u = read_of(empty);
	assert_string_equal(found(&u, UPSTREAM_HTTP, "a.test", 80), "direct");
	assert_string_equal(found(&u, UPSTREAM_TLS, "a.test", 443), "a:3");
	upstream_done(&u);
	u = read_of(tls);
	assert_string_equal(found(&u, UPSTREAM_HTTP, "a.test", 80), "direct");
	assert_string_equal(found(&u, UPSTREAM_OTHER, "a.test", 22), "direct");
	assert_string_equal(found(&u, UPSTREAM_TLS, "a.test", 443), "s:2");
	/* This machine, and its link. */
	assert_string_equal(found(&u, UPSTREAM_TLS, "127.0.0.1", 443), "direct");
	assert_string_equal(found(&u, UPSTREAM_TLS, "169.254.1.1", 443), "direct");
	assert_string_equal(found(&u, UPSTREAM_TLS, "10.0.0.1", 443), "s:2");
	upstream_done(&u);
}

static void no_proxy(void **state)
{
	static const struct {
		const char *list, *host;
		unsigned port;
		bool direct;
	} t[] = {
		{"example.com", "example.com", 443, true},
		{"example.com", "www.example.com", 443, true},
		{"example.com", "notexample.com", 443, false},
		{"example.com", "example.com.test", 443, false},
		{".example.com", "example.com", 443, true},
		{".example.com", "a.b.example.com", 443, true},
		{"*.example.com", "www.example.com", 443, true},
		{"EXAMPLE.com.", "www.example.com", 443, true},
		{"a.test, b.test\tc.test", "b.test", 443, true},
		{"a.test, b.test c.test", "c.test", 443, true},
		{",, ,a.test,,", "a.test", 443, true},
		{"*", "anything.test", 443, true},
		{"*", "192.0.2.1", 443, true},
		{"a.test,*", "b.test", 443, true},
		{"example.com:8080", "example.com", 8080, true},
		{"example.com:8080", "example.com", 443, false},
		{"example.com:0", "example.com", 443, false},
		{"example.com:99999", "example.com", 443, false},
		{"example.com:x", "example.com", 443, false},
		{"192.0.2.1", "192.0.2.1", 443, true},
		{"192.0.2.1", "192.0.2.10", 443, false},
		{"192.0.2.0/24", "192.0.2.200", 443, true},
		{"192.0.2.0/24", "192.0.3.1", 443, false},
		{"192.0.2.0/24:80", "192.0.2.1", 80, true},
		{"192.0.2.0/24:80", "192.0.2.1", 443, false},
		{"0.0.0.0/0", "192.0.2.1", 443, true},
		{"0.0.0.0/0", "a.test", 443, false},
		{"192.0.2.0/33", "192.0.2.1", 443, false},
		{"192.0.2.0/", "192.0.2.0", 443, false},
		{"192.0.2.0/2x", "192.0.2.0", 443, false},
		{"2001:db8::1", "2001:db8::1", 443, true},
		{"[2001:db8::1]", "2001:db8::1", 443, true},
		{"[2001:db8::1]:443", "2001:db8::1", 443, true},
		{"[2001:db8::1]:80", "2001:db8::1", 443, false},
		{"2001:db8::/32", "2001:db8:5::1", 443, true},
		{"2001:db8::/129", "2001:db8::", 443, false},
		{"example.com/8", "example.com", 443, false},
		{":443", "a.test", 443, false},
		{".", "a.test", 443, false},
		{"test", "a.test", 443, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		const char *const vars[] = {"all_proxy", "p:1", "no_proxy", t[i].list, NULL};
		struct upstream u = read_of(vars);
		const char *got = found(&u, UPSTREAM_TLS, t[i].host, (uint16_t)t[i].port);

		if (strcmp(got, t[i].direct ? "direct" : "p:1") != 0)
			fail_msg("no_proxy \"%s\": %s:%u is %s", t[i].list, t[i].host, t[i].port,
				got);
		upstream_done(&u);
	}
}

static void many_entries(void **state)
{
	char *list = calloc(1, 200000);
	const char *const vars[] = {"all_proxy", "p:1", "no_proxy", list, NULL};
	struct upstream u;
	size_t n = 0;

	for (unsigned i = 0; n < 190000; i++)
		n += (size_t)snprintf(list + n, 32, "h%u.test,", i);
	u = read_of(vars);
	assert_int_equal(u.n_bypass, UPSTREAM_BYPASS_MAX);
	assert_string_equal(found(&u, UPSTREAM_TLS, "h100.test", 443), "direct");
	assert_string_equal(found(&u, UPSTREAM_TLS, "h9999.test", 443), "p:1");
	upstream_done(&u);
	free(list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(urls), cmocka_unit_test(long_urls),
		cmocka_unit_test(which_one_counts), cmocka_unit_test(no_proxy),
		cmocka_unit_test(many_entries)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

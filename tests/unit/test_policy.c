/* SPDX-License-Identifier: Apache-2.0 */
/* Rules: what parses, what matches, who wins, and what the user is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "policy/policy.h"

static void test_names(void **state)
{
	static const struct {
		const char *in, *out; /* out NULL: refused */
	} t[] = {
		{"example.com", "example.com"},
		{"EXAMPLE.Com.", "example.com"},
		{"a", "a"},
		{"_acme._tcp.example.com", "_acme._tcp.example.com"},
		{"xn--bcher-kva.example", "xn--bcher-kva.example"},
		{"1.2.3.com", "1.2.3.com"},
		{"0x7f.example", "0x7f.example"},
		{"deadbeef", "deadbeef"},
		{"0xg", "0xg"},
		{"", NULL},
		{".", NULL},
		{"..", NULL},
		{".example.com", NULL},
		{"a..b", NULL},
		{"example.com..", NULL},
		{"-a.com", NULL},
		{"a-.com", NULL},
		{"a b.com", NULL},
		{"a/b", NULL},
		{"a:1", NULL},
		{"a@b", NULL},
		{"a%2eb", NULL},
		{"*.com", NULL},
		{"b\xc3\xbc"
		 "cher.example",
			NULL},
		{"1.2.3", NULL},
		{"1.2.3.4", NULL},
		{"127.1", NULL},
		{"2130706433", NULL},
		{"0x7f.1", NULL},
		{"example.0x", NULL},
		{"example.0X7F", NULL},
		{"example.010", NULL},
		{"1.2.3.4.", NULL},
	};
	char out[POLICY_NAME_MAX + 1], longest[300];
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		int r = policy_name_canon(t[i].in, strlen(t[i].in), out, &err);

		if ((r == 0) != (t[i].out != NULL))
			fail_msg("\"%s\" gave %d", t[i].in, r);
		if (t[i].out)
			assert_string_equal(out, t[i].out);
	}
	assert_int_equal(policy_name_canon("a\0b.com", 7, out, &err), -1);
	/* 63 per label, 253 in all. */
	memset(longest, 'a', sizeof(longest));
	assert_int_equal(policy_name_canon(longest, 63, out, &err), 0);
	assert_int_equal(policy_name_canon(longest, 64, out, &err), -1);
	for (size_t i = 49; i < sizeof(longest); i += 50)
		longest[i] = '.';
	assert_int_equal(policy_name_canon(longest, 253, out, &err), 0);
	assert_int_equal(policy_name_canon(longest, 254, out, &err), -1);
	assert_int_equal(policy_name_canon("b\xc3\xbc.test", 8, out, &err), -1);
	assert_non_null(strstr(err.msg, "punycode"));
}

static void test_hosts(void **state)
{
	static const struct {
		const char *in, *name;
		int port;
		bool addr;
	} t[] = {
		{"example.com", "example.com", 0, false},
		{"Example.COM:8443", "example.com", 8443, false},
		{"10.1.2.3", "10.1.2.3", 0, true},
		{"10.1.2.3:80", "10.1.2.3", 80, true},
		{"[2001:DB8::1]", "2001:db8::1", 0, true},
		{"[2001:db8::1]:443", "2001:db8::1", 443, true},
		{"[::ffff:127.0.0.1]", "127.0.0.1", 0, true},
		{"", NULL, 0, false},
		{":80", NULL, 0, false},
		{"a:", NULL, 0, false},
		{"a:0", NULL, 0, false},
		{"a:080", NULL, 0, false},
		{"a:+80", NULL, 0, false},
		{"a:65536", NULL, 0, false},
		{"a:99999999999999999999", NULL, 0, false},
		{"a:80:80", NULL, 0, false},
		{"user@a", NULL, 0, false},
		{"[10.1.2.3]", NULL, 0, false},
		{"[::1", NULL, 0, false},
		{"[]", NULL, 0, false},
		{"[fe80::1%25eth0]", NULL, 0, false},
		{"2001:db8::1", NULL, 0, false},
		{"010.1.2.3", NULL, 0, false},
		{"10.1.2", NULL, 0, false},
		{"10.1.2.256", NULL, 0, false},
		{"0x0a.1.2.3", NULL, 0, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct policy_host h;
		uint16_t port;
		struct err err;
		int r = policy_authority_parse(t[i].in, strlen(t[i].in), &h, &port, &err);

		if ((r == 0) != (t[i].name != NULL))
			fail_msg("\"%s\" gave %d", t[i].in, r);
		if (r < 0)
			continue;
		assert_string_equal(h.name, t[i].name);
		assert_int_equal(port, t[i].port);
		assert_int_equal(h.is_addr, t[i].addr);
	}
}

static void test_targets(void **state)
{
	static const struct {
		const char *text;
		enum policy_kind kind;
		const char *name;
		unsigned lo, hi, prefix;
	} ok[] = {
		{"example.com", POLICY_EXACT, "example.com", 443, 443, 0},
		{"EXAMPLE.com.:80", POLICY_EXACT, "example.com", 80, 80, 0},
		{"localhost:11434", POLICY_EXACT, "localhost", 11434, 11434, 0},
		{"example.com:80-443", POLICY_EXACT, "example.com", 80, 443, 0},
		{"example.com:*", POLICY_EXACT, "example.com", 1, 65535, 0},
		{"*.Example.com", POLICY_STAR, "*.example.com", 443, 443, 0},
		{"bedrock.*.example.com", POLICY_STAR, "bedrock.*.example.com", 443, 443, 0},
		{"*.*.example.com:8080", POLICY_STAR, "*.*.example.com", 8080, 8080, 0},
		{"**.example.com:*", POLICY_DEEP, "example.com", 1, 65535, 0},
		{"**.*.example.com", POLICY_DEEP, "*.example.com", 443, 443, 0},
		{"**", POLICY_ALL, "", 443, 443, 0},
		{"**:*", POLICY_ALL, "", 1, 65535, 0},
		{"10.0.0.0/8", POLICY_CIDR, "", 443, 443, 8},
		{"0.0.0.0/0:*", POLICY_CIDR, "", 1, 65535, 0},
		{"192.0.2.7:22", POLICY_CIDR, "", 22, 22, 32},
		{"2001:db8::/32", POLICY_CIDR, "", 443, 443, 32},
		{"[2001:db8::/32]:80", POLICY_CIDR, "", 80, 80, 32},
		{"[::1]:8080", POLICY_CIDR, "", 8080, 8080, 128},
		{"::1", POLICY_CIDR, "", 443, 443, 128},
		{"tcp example.com:22", POLICY_EXACT, "example.com", 22, 22, 0},
		{"udp example.com:53", POLICY_EXACT, "example.com", 53, 53, 0},
		{"GET,HEAD example.com", POLICY_EXACT, "example.com", 443, 443, 0},
		{"ANY **.example.com:*", POLICY_DEEP, "example.com", 1, 65535, 0},
		{"example.com/", POLICY_EXACT, "example.com", 443, 443, 0},
		{"example.com:80/a:b/*/c/**", POLICY_EXACT, "example.com", 80, 80, 0},
		{"POST 10.0.0.0/8:80/status", POLICY_CIDR, "", 80, 80, 8},
		{"192.0.2.1:80/x", POLICY_CIDR, "", 80, 80, 32},
		{"[2001:db8::/32]:80/x", POLICY_CIDR, "", 80, 80, 32},
		{"[2001:db8::1]/x", POLICY_CIDR, "", 443, 443, 128},
	};
	static const struct {
		const char *text, *says;
	} bad[] = {
		{"", "no host"},
		{":443", "no host"},
		{"*", "\"**\""},
		{"*:443", "\"**\""},
		{"***", "whole label"},
		{"foo*.example.com", "whole label"},
		{"*foo.example.com", "whole label"},
		{"example.*", "last"},
		{"example.*.", "last"},
		{"**.", "host name"},
		{"a.**.example.com", "whole label"},
		{"**.**.example.com", "whole label"},
		{"**.*", "last"},
		{"example.com:", "port"},
		{"example.com:0", "port"},
		{"example.com:65536", "port"},
		{"example.com:0443", "port"},
		{"example.com:+443", "port"},
		{"example.com:443-80", "range"},
		{"example.com:80-", "range"},
		{"example.com:-80", "port"},
		{"example.com:80-443-500", "range"},
		{"example.com:http", "port"},
		{"https://example.com", "not a URL"},
		{"example.com/a//b", "empty segments"},
		{"example.com/a/../b", "dot segments"},
		{"example.com/a/%2e%2e/b", "dot segments"},
		{"example.com/a*", "whole segments"},
		{"example.com/***", "whole segments"},
		{"example.com/a?b", "'?'"},
		{"example.com/a;b", "';'"},
		{"example.com/a\\b", "'\\'"},
		{"example.com/a%2ab", "literal '*'"},
		{"example.com/a%", "hexadecimal"},
		{"example.com/a%00", "control"},
		{"example.com/%252525252525", "escapes within escapes"},
		{"example.com/%c0%af", "UTF-8"},
		{"example.com:x/a", "port"},
		{"get example.com", "capitals"},
		{"GET,,HEAD example.com", "capitals"},
		{"GET, example.com", "capitals"},
		{"GET HEAD example.com", "blank"},
		{"GET  example.com", "blank"},
		{" example.com", "capitals"},
		{"GET ", "no host"},
		{"TCP10 example.com", "capitals"},
		{"udp example.com/path", "udp"},
		{"sctp example.com", "tcp, udp"},
		{"b\xc3\xbc"
		 "cher.example",
			"punycode"},
		{"exa mple.com", "capitals"},
		{"example.com\n", "blank"},
		{"exa\tmple.com", "blank"},
		{"a..b", "empty label"},
		{"-a.example", "starts or ends"},
		{"a,b", "not allowed"},
		{"user@example.com", "not allowed"},
		{"1.2.3", "address"},
		{"10", "address"},
		{"127.1", "address"},
		{"0x7f.1", "number"},
		{"0x7f000001", "number"},
		{"010.0.0.1", "address"},
		{"10.0.0.1.", "address"},
		{"256.0.0.1", "address"},
		{"10.0.0.1/8", "10.0.0.0/8"},
		{"10.0.0.0/33", "prefix"},
		{"10.0.0.0/08", "prefix"},
		{"10.0.0.0/", "prefix"},
		{"10.0.0.0/-1", "path"},
		{"10.0.0.0/8/8", "prefix"},
		{"10.0.0.0/8/path", "address"},
		{"2001:db8::1/32", "2001:db8::/32"},
		{"2001:db8::/129", "prefix"},
		{"::ffff:10.0.0.1", "IPv4"},
		{"[example.com]:443", "brackets"},
		{"[::1]443", "[ADDRESS]"},
		{"[::1", "[ADDRESS]"},
	};
	struct err err = {0};

	for (size_t i = 0; i < ARRAY_SIZE(ok); i++) {
		struct policy_rule r;

		if (policy_rule_parse(ok[i].text, &r, &err) < 0)
			fail_msg("%s", err.msg);
		assert_string_equal(r.text, ok[i].text);
		assert_int_equal(r.kind, ok[i].kind);
		assert_string_equal(r.name, ok[i].name);
		assert_int_equal(r.port_lo, ok[i].lo);
		assert_int_equal(r.port_hi, ok[i].hi);
		assert_int_equal(r.prefix, ok[i].prefix);
		policy_rule_done(&r);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct policy_rule r;

		err.msg[0] = '\0';
		if (policy_rule_parse(bad[i].text, &r, &err) == 0)
			fail_msg("accepted \"%s\"", bad[i].text);
		if (!strstr(err.msg, bad[i].says))
			fail_msg("\"%s\": %s", bad[i].text, err.msg);
	}
}

static void test_target_length(void **state)
{
	char text[900];
	struct policy_rule r;
	struct err err;

	memset(text, 'a', sizeof(text));
	for (size_t i = 49; i < sizeof(text); i += 50)
		text[i] = '.';
	text[253] = '\0';
	assert_int_equal(policy_rule_parse(text, &r, &err), 0);
	policy_rule_done(&r);
	text[253] = 'a';
	text[254] = '\0';
	assert_int_equal(policy_rule_parse(text, &r, &err), -1);
	text[254] = 'a';
	text[899] = '\0';
	assert_int_equal(policy_rule_parse(text, &r, &err), -1);
}

/* "+" allows, "-" denies, separated by blanks; "|" is the blank in a rule. */
static struct policy make(const char *rules)
{
	struct policy p = {0};
	struct err err;
	char text[64];
	int used;

	while (sscanf(rules, " %63s%n", text, &used) == 1) {
		for (char *bar = text; *bar; bar++)
			*bar = *bar == '|' ? ' ' : *bar;
		if (policy_add(&p, text + 1, text[0] == '+', "test", &err) < 0)
			fail_msg("%s", err.msg);
		rules += used;
	}
	return p;
}

/* @host: a name, or an address, or "name=address". */
static struct policy_verdict ask(const struct policy *p, const char *host, unsigned port)
{
	struct policy_addr addr;
	struct policy_query q = {.port = (uint16_t)port};
	const char *eq = strchr(host, '=');
	char name[256];

	if (eq) {
		snprintf(name, sizeof(name), "%.*s", (int)(eq - host), host);
		q.name = name;
		host = eq + 1;
		assert_int_equal(policy_addr_parse(host, strlen(host), &addr, NULL), 0);
		q.addr = &addr;
	} else if (policy_addr_parse(host, strlen(host), &addr, NULL) == 0) {
		q.addr = &addr;
	} else {
		q.name = host;
	}
	return policy_decide(p, &q);
}

static void test_decide(void **state)
{
	static const struct {
		const char *rules, *host;
		unsigned port;
		bool allowed;
		const char *rule; /* text of the deciding rule, or NULL */
	} t[] = {
		{"", "example.com", 443, false, NULL},
		{"+example.com", "example.com", 443, true, "example.com"},
		{"+example.com", "example.com", 80, false, NULL},
		{"+example.com", "www.example.com", 443, false, NULL},
		{"+example.com", "notexample.com", 443, false, NULL},
		{"+example.com", "example.com.evil.test", 443, false, NULL},
		{"+example.com:80-90", "example.com", 80, true, "example.com:80-90"},
		{"+example.com:80-90", "example.com", 90, true, "example.com:80-90"},
		{"+example.com:80-90", "example.com", 91, false, NULL},
		{"+example.com:80-90", "example.com", 79, false, NULL},
		{"+example.com:*", "example.com", 65535, true, "example.com:*"},
		{"+*.example.com", "a.example.com", 443, true, "*.example.com"},
		{"+*.example.com", "example.com", 443, false, NULL},
		{"+*.example.com", "a.b.example.com", 443, false, NULL},
		{"+*.example.com", "aexample.com", 443, false, NULL},
		{"+**.example.com", "example.com", 443, false, NULL},
		{"+**.example.com", "a.example.com", 443, true, "**.example.com"},
		{"+**.example.com", "a.b.c.example.com", 443, true, "**.example.com"},
		{"+**.example.com", "aexample.com", 443, false, NULL},
		{"+a.*.example.com", "a.b.example.com", 443, true, "a.*.example.com"},
		{"+a.*.example.com", "a.example.com", 443, false, NULL},
		{"+a.*.example.com", "a.b.c.example.com", 443, false, NULL},
		{"+a.*.example.com", "x.a.b.example.com", 443, false, NULL},
		{"+**", "anything.test", 443, true, "**"},
		{"+**", "anything.test", 80, false, NULL},
		{"+**:*", "anything.test", 80, true, "**:*"},
		/* Names and addresses are different things. */
		{"+**:*", "192.0.2.1", 443, false, NULL},
		{"+0.0.0.0/0:*", "192.0.2.1", 22, true, "0.0.0.0/0:*"},
		{"+0.0.0.0/0:*", "example.com", 443, false, NULL},
		{"+0.0.0.0/0:*", "example.com=192.0.2.1", 443, false, NULL},
		{"+0.0.0.0/0:*", "2001:db8::1", 443, false, NULL},
		{"+10.0.0.0/8:22", "10.255.0.1", 22, true, "10.0.0.0/8:22"},
		{"+10.0.0.0/8:22", "11.0.0.1", 22, false, NULL},
		{"+10.1.2.3:22", "::ffff:10.1.2.3", 22, true, "10.1.2.3:22"},
		{"+10.128.0.0/9:22", "10.127.0.1", 22, false, NULL},
		{"+2001:db8::/33", "2001:db8:8000::1", 443, false, NULL},
		{"+2001:db8::/33", "2001:db8:7fff::1", 443, true, "2001:db8::/33"},
		/* Deny wins, whatever is more specific and whatever comes first. */
		{"+example.com -example.com", "example.com", 443, false, "example.com"},
		{"-**.example.com +a.example.com", "a.example.com", 443, false, "**.example.com"},
		{"+a.example.com -**", "a.example.com", 443, false, "**"},
		{"+**:* -example.com", "example.com", 80, true, "**:*"},
		{"+**:* -example.com:*", "example.com", 80, false, "example.com:*"},
		{"+0.0.0.0/0 -**", "192.0.2.1", 443, false, "**"},
		{"+**:* -192.0.2.0/24:*", "example.com=192.0.2.9", 443, false, "192.0.2.0/24:*"},
		{"+**:* -192.0.2.0/24:*", "example.com=198.51.100.9", 443, true, "**:*"},
		{"+**:* -192.0.2.0/24:*", "example.com", 443, true, "**:*"},
		/* The most specific rule is named. */
		{"+** +**.test +*.test +a.test +a.test:1-500", "a.test", 443, true, "a.test"},
		{"+** +**.test +*.test", "a.test", 443, true, "*.test"},
		{"+** +**.test +*.b.test", "a.test", 443, true, "**.test"},
		{"+**.test +**.b.test", "a.b.test", 443, true, "**.b.test"},
		{"+*.*.test +a.*.test", "a.b.test", 443, true, "a.*.test"},
		{"+0.0.0.0/0 +10.0.0.0/8 +10.0.0.0/16", "10.0.0.1", 443, true, "10.0.0.0/16"},
		{"-** -a.test", "a.test", 443, false, "a.test"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct policy p = make(t[i].rules);
		struct policy_verdict v = ask(&p, t[i].host, t[i].port);

		if (v.allowed != t[i].allowed || !v.rule != !t[i].rule ||
			(v.rule && strcmp(v.rule->text, t[i].rule) != 0))
			fail_msg("[%s] %s:%u: %d by %s", t[i].rules, t[i].host, t[i].port,
				v.allowed, v.rule ? v.rule->text : "none");
		policy_done(&p);
	}
}

/* "|" for the blank in a rule. @request: "METHOD path". */
static struct policy_verdict ask_http(const char *rules, const char *request)
{
	static struct policy p;
	_free_ char *text = xstrdup(rules), *method = xstrdup(request);
	char *save = NULL, *path = strchr(method, ' ');
	struct policy_path parsed = {0};
	struct policy_query q = {.name = "a.test", .port = 443, .method = method};
	struct policy_verdict v;
	struct err err;

	policy_done(&p); /* what the verdict points into stays until the next question */
	for (char *r = strtok_r(text, " ", &save); r; r = strtok_r(NULL, " ", &save)) {
		for (char *bar = r; *bar; bar++)
			*bar = *bar == '|' ? ' ' : *bar;
		if (policy_add(&p, r + 1, *r == '+', "test", &err) < 0)
			fail_msg("%s", err.msg);
	}
	*path++ = '\0';
	if (policy_path_parse(path, strlen(path), &parsed, &err) < 0)
		fail_msg("%s: %s", path, err.msg);
	q.path = &parsed;
	v = policy_decide(&p, &q);
	policy_path_done(&parsed);
	return v;
}

static void test_requests(void **state)
{
	static const struct {
		const char *rules, *request;
		bool allowed;
		const char *rule;
	} t[] = {
		{"+GET|a.test", "GET /", true, "GET a.test"},
		{"+GET|a.test", "POST /", false, NULL},
		{"+GET|a.test", "get /", false, NULL},
		{"+GET|a.test", "GETX /", false, NULL},
		{"+GET,HEAD|a.test", "HEAD /x", true, "GET,HEAD a.test"},
		{"+ANY|a.test", "PURGE /x", true, "ANY a.test"},
		{"+GET|b.test", "GET /", false, NULL},
		{"+GET|a.test:80", "GET /", false, NULL},
		{"+a.test/v1/**", "GET /v1", true, "a.test/v1/**"},
		{"+a.test/v1/**", "GET /v1/", true, "a.test/v1/**"},
		{"+a.test/v1/**", "POST /v1/a/b/c", true, "a.test/v1/**"},
		{"+a.test/v1/**", "GET /v10", false, NULL},
		{"+a.test/v1/**", "GET /V1/a", false, NULL},
		{"+a.test/v1/*", "GET /v1/a", true, "a.test/v1/*"},
		{"+a.test/v1/*", "GET /v1", false, NULL},
		{"+a.test/v1/*", "GET /v1/", false, NULL},
		{"+a.test/v1/*", "GET /v1/a/b", false, NULL},
		{"+a.test/v1/*/c", "GET /v1/b/c", true, "a.test/v1/*/c"},
		{"+a.test/**/c", "GET /c", true, "a.test/**/c"},
		{"+a.test/**/c", "GET /a/b/c", true, "a.test/**/c"},
		{"+a.test/**/c", "GET /a/b/c/d", false, NULL},
		{"+a.test/a/**/b/**/c", "GET /a/x/b/b/y/c", true, "a.test/a/**/b/**/c"},
		{"+a.test/a/**/b/**/c", "GET /a/x/c/b", false, NULL},
		{"+a.test/x", "GET /x/", false, NULL},
		{"+a.test/", "GET /", true, "a.test/"},
		{"+a.test/", "GET /x", false, NULL},
		{"+a.test/a%20b/c", "GET /a%20b/c", true, "a.test/a%20b/c"},
		{"+a.test/%61bc", "GET /abc", true, "a.test/%61bc"},
		/* Plain rules know no requests; HTTP rules add to them and take from them. */
		{"+a.test +GET|a.test/x", "POST /y", true, "a.test"},
		{"+a.test +GET|a.test/x", "GET /x", true, "GET a.test/x"},
		{"+a.test -DELETE|a.test", "DELETE /x", false, "DELETE a.test"},
		{"+a.test -DELETE|a.test", "delete /x", false, "DELETE a.test"},
		{"+a.test -DELETE|a.test", "GET /x", true, "a.test"},
		{"+a.test/** -a.test/admin/**", "GET /admin", false, "a.test/admin/**"},
		{"+a.test/** -a.test/admin/**", "GET /Admin/x", false, "a.test/admin/**"},
		{"+a.test/** -a.test/admin/**", "GET /x", true, "a.test/**"},
		{"+a.test/** -a.test", "GET /x", false, "a.test"},
		{"+GET|**:* -POST|**:*", "POST /x", false, "POST **:*"},
		{"+a.test/a/** +a.test/a/b/** +GET|a.test/a/b/**", "GET /a/b/c", true,
			"GET a.test/a/b/**"},
		/* Ways around: both readings of a path have to be allowed, none may be denied. */
		{"+a.test/pub/**", "GET /pub/../secret", false, NULL},
		{"+a.test/pub/**", "GET /pub/%2e%2E/secret", false, NULL},
		{"+a.test/pub/**", "GET /pub/.%2e/pub/x", true, "a.test/pub/**"},
		{"+a.test/pub/**", "GET /../pub/x", true, "a.test/pub/**"},
		{"+a.test/pub/*", "GET /pub/a%2fb", false, NULL},
		{"+a.test/pub/*", "GET /pub/a%5cb", false, NULL},
		{"+a.test/pub/*", "GET /pub/a\\b", false, NULL},
		{"+a.test/pub/*", "GET /pub/a%252Fb", false, NULL},
		{"+a.test/pub/**", "GET /pub/a%2Fb", true, "a.test/pub/**"},
		{"+a.test/@s%2Fp", "GET /@s%2fp", true, "a.test/@s%2Fp"},
		{"+a.test/@s%2Fp", "GET /@s/p", false, NULL},
		{"+a.test/@s/p", "GET /@s%2fp", false, NULL},
		{"+a.test/** -a.test/admin/**", "GET //admin/x", false, "a.test/admin/**"},
		{"+a.test/** -a.test/admin/**", "GET /x/..//admin", false, "a.test/admin/**"},
		{"+a.test/** -a.test/admin/**", "GET /%61dmin/x", false, "a.test/admin/**"},
		{"+a.test/** -a.test/admin/**", "GET /%2561dmin/x", false, "a.test/admin/**"},
		{"+a.test/** -a.test/admin/**", "GET /%2Fadmin/x", false, "a.test/admin/**"},
		{"+a.test/** -a.test/admin/**", "GET /admin;v=1/x", false, "a.test/admin/**"},
		{"+a.test/** -a.test/admin/**", "GET /;/admin", false, "a.test/admin/**"},
		{"+a.test/** -a.test/admin", "GET /admin/", false, "a.test/admin"},
		{"+a.test/** -a.test/admin", "GET /admin/.", false, "a.test/admin"},
		{"+a.test/** -a.test/a/*/c", "GET /a%2Fb%2Fc", false, "a.test/a/*/c"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct policy_verdict v = ask_http(t[i].rules, t[i].request);

		if (v.allowed != t[i].allowed || !v.rule != !t[i].rule ||
			(v.rule && strcmp(v.rule->text, t[i].rule) != 0))
			fail_msg("[%s] %s: %d by %s", t[i].rules, t[i].request, v.allowed,
				v.rule ? v.rule->text : "none");
	}
}

/* What connections hear of HTTP rules: whether they have to be read. */
static void test_inspect(void **state)
{
	static const struct {
		const char *rules, *host;
		bool allowed, inspect;
	} t[] = {
		{"+a.test", "a.test", true, false},
		{"+a.test/x", "a.test", true, true},
		{"+a.test +a.test/x", "a.test", true, true},
		{"+a.test -a.test/x", "a.test", true, true},
		{"-a.test/x", "a.test", false, true},
		{"-a.test +a.test/x", "a.test", false, true},
		{"+a.test +b.test/x", "a.test", true, false},
		{"+a.test +a.test:80/x", "a.test", true, false},
		{"+10.0.0.0/8:443/x", "10.0.0.1", true, true},
		{"+host.hutch.internal/x", "host.hutch.internal", true, true},
		{"+**/x", "host.hutch.internal", false, false},
		{"+**:*", "host.hutch.internal", false, false},
		{"+*.hutch.internal", "host.hutch.internal", false, false},
		{"+host.hutch.internal -**", "host.hutch.internal", false, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct policy p = make(t[i].rules);
		struct policy_verdict v = ask(&p, t[i].host, 443);

		if (v.allowed != t[i].allowed || v.inspect != t[i].inspect)
			fail_msg("[%s] %s: %d %d", t[i].rules, t[i].host, v.allowed, v.inspect);
		policy_done(&p);
	}
}

static void test_paths(void **state)
{
	static const struct {
		const char *path, *exact, *loose;
	} ok[] = {
		{"", "/", "/"},
		{"/", "/", "/"},
		{"/a/b", "/a/b", "/a/b"},
		{"/a/b/", "/a/b/", "/a/b"},
		{"//a", "//a", "/a"},
		{"/a/./b", "/a/b", "/a/b"},
		{"/a/../b", "/b", "/b"},
		{"/../../b", "/b", "/b"},
		{"/a/..", "/", "/"},
		{"/a//../b", "/a/b", "/a/b"},
		{"/%41%2d%7E", "/A-~", "/A-~"},
		{"/a%2fb", "/a%2Fb", "/a/b"},
		{"/a%5cb", "/a%5Cb", "/a/b"},
		{"/a\\b", "/a\\b", "/a/b"},
		{"/a%252fb", "/a%252fb", "/a/b"},
		{"/a%25252fb", "/a%25252fb", "/a/b"},
		{"/a;x=1/b;y", "/a;x=1/b;y", "/a/b"},
		{"/a%3bx/b", "/a%3Bx/b", "/a/b"},
		{"/100%25/x", "/100%25/x", "/100%/x"},
		{"/%C3%A9", "/%C3%A9", "/\xc3\xa9"},
		{"/\xc3\xa9", "/%C3%A9", "/\xc3\xa9"},
		{"/a+b/@c:d", "/a+b/@c:d", "/a+b/@c:d"},
	};
	static const char *const bad[] = {"a", "*", "/%", "/%4", "/%zz", "/%00", "/a%0d%0ab",
		"/%7f", "/a\tb", "/a/..%2fb", "/a/%2e%2e%2fb", "/a/%252e%252e/b", "/a/..;/b",
		"/a/..;x=1/b", "/a/..\\b", "/a\\..\\b", "/a%5c..%5cb", "/a%2f..%2fb", "/a%2f%2e/b",
		"/a/..%20/b", "/a/.../b", "/a/%2500", "/%c0%af", "/%c0%ae%c0%ae/x", "/%e0%80%af",
		"/%ed%a0%80", "/%ff", "/%f8%80%80%80%80", "/%C3", "/%2525252525252525"};
	struct policy_path p;
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(ok); i++) {
		if (policy_path_parse(ok[i].path, strlen(ok[i].path), &p, &err) < 0)
			fail_msg("%s: %s", ok[i].path, err.msg);
		assert_string_equal(p.exact, ok[i].exact);
		assert_string_equal(p.loose, ok[i].loose);
		policy_path_done(&p);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (policy_path_parse(bad[i], strlen(bad[i]), &p, &err) == 0)
			fail_msg("accepted %s as %s", bad[i], p.loose);
}

static void test_reachable(void **state)
{
	static const struct {
		const char *rules, *name;
		bool yes;
	} t[] = {
		{"", "a.test", false},
		{"+a.test:22", "a.test", true},
		{"+a.test:22", "b.test", false},
		{"+0.0.0.0/0:*", "a.test", false},
		{"+a.test -a.test", "a.test", false},
		{"+a.test:* -a.test", "a.test", true},
		{"+**:* -**.test:*", "a.test", false},
		{"+**:* -**.test:*", "test", true},
		{"+a.test:80 +a.test:443 -a.test:80", "a.test", true},
		{"+a.test:80 -a.test:443", "a.test", true},
		{"+a.test -**:*", "a.test", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct policy p = make(t[i].rules);

		if (policy_name_reachable(&p, t[i].name) != t[i].yes)
			fail_msg("[%s] %s", t[i].rules, t[i].name);
		policy_done(&p);
	}
}

static void test_covers(void **state)
{
	static const struct {
		const char *outer, *inner;
		bool yes;
	} t[] = {
		{"a.test", "a.test", true},
		{"a.test", "a.test:80", false},
		{"a.test:*", "a.test:80", true},
		{"a.test:80-90", "a.test:85-91", false},
		{"*.test", "a.test", true},
		{"*.test", "*.test", true},
		{"a.test", "*.test", false},
		{"*.test", "**.test", false},
		{"**.test", "*.test", true},
		{"**.test", "**.test", true},
		{"**.test", "**.a.test", true},
		{"**.a.test", "**.test", false},
		{"**.test", "*.*.test", true},
		{"*.*.test", "a.*.test", true},
		{"a.*.test", "*.*.test", false},
		{"**.*.test", "a.b.test", true},
		{"**.*.test", "*.test", false},
		{"**", "**.test", true},
		{"**.test", "**", false},
		{"**", "host.hutch.internal", false},
		{"*.hutch.internal", "host.hutch.internal", false},
		{"host.hutch.internal:*", "host.hutch.internal", true},
		{"**", "10.0.0.0/8", false},
		{"10.0.0.0/8", "10.1.0.0/16", true},
		{"10.1.0.0/16", "10.0.0.0/8", false},
		{"10.0.0.0/8", "a.test", false},
		{"a.test", "udp a.test", false},
		{"udp a.test:*", "udp a.test:53", true},
		{"a.test", "GET a.test/x", true},
		{"GET a.test", "a.test", false},
		{"GET a.test", "GET a.test/x", true},
		{"GET,HEAD a.test", "HEAD a.test", true},
		{"HEAD a.test", "GET,HEAD a.test", false},
		{"ANY a.test", "GET a.test", true},
		{"ANY a.test", "a.test", false},
		{"a.test/x/**", "a.test/x/y", true},
		{"a.test/x/**", "a.test/x/**", true},
		{"a.test/x/*", "a.test/x/**", false},
		{"a.test/x/y", "a.test/x/*", false},
		{"a.test/**", "GET a.test/x/*", true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct policy_rule outer, inner;

		assert_int_equal(policy_rule_parse(t[i].outer, &outer, NULL), 0);
		assert_int_equal(policy_rule_parse(t[i].inner, &inner, NULL), 0);
		if (policy_rule_covers(&outer, &inner) != t[i].yes)
			fail_msg("%s covers %s", t[i].outer, t[i].inner);
		policy_rule_done(&outer);
		policy_rule_done(&inner);
	}
}

static void test_target_allowed(void **state)
{
	static const struct {
		const char *rules, *target;
		bool yes;
	} t[] = {
		{"", "a.test", false},
		{"+a.test", "a.test", true},
		{"+*.test", "a.test", true},
		{"+*.test -a.test", "a.test", false},
		{"+*.test -a.test", "*.test", true},
		{"+a.test", "*.test", false},
		{"+a.test", "a.test:80", false},
		{"+10.0.0.0/8 -**", "10.0.0.1", false},
		{"+10.0.0.0/8:* -**", "10.0.0.1:80", true},
		{"+GET|a.test/x", "a.test", true},
		{"+a.test -GET|a.test/x", "a.test", true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct policy p = make(t[i].rules);
		struct policy_rule r;

		assert_int_equal(policy_rule_parse(t[i].target, &r, NULL), 0);
		if (policy_target_allowed(&p, &r) != t[i].yes)
			fail_msg("[%s] %s", t[i].rules, t[i].target);
		policy_rule_done(&r);
		policy_done(&p);
	}
}

static void test_special(void **state)
{
	static const struct {
		const char *addr, *what;
	} t[] = {
		{"8.8.8.8", NULL},
		{"2606:4700::1", NULL},
		{"127.0.0.1", "loopback"},
		{"127.255.255.255", "loopback"},
		{"0.0.0.0", "unspecified"},
		{"10.0.0.1", "private"},
		{"172.15.255.255", NULL},
		{"172.16.0.0", "private"},
		{"172.31.255.255", "private"},
		{"172.32.0.0", NULL},
		{"192.168.1.1", "private"},
		{"100.64.0.1", "private (carrier NAT)"},
		{"169.254.1.1", "link-local"},
		{"169.254.169.254", "cloud metadata"},
		{"100.100.100.200", "cloud metadata"},
		{"168.63.129.16", "cloud metadata"},
		{"198.19.255.255", "synthetic"},
		{"224.0.0.1", "multicast"},
		{"255.255.255.255", "reserved"},
		{"::", "unspecified"},
		{"::1", "loopback"},
		{"::127.0.0.1", "reserved"},
		{"::ffff:127.0.0.1", "loopback"},
		{"64:ff9b::7f00:1", "loopback"},
		{"64:ff9b::808:808", NULL},
		{"2002:7f00:1::1", "loopback"},
		{"2002:808:808::1", NULL},
		{"fd00::1", "private"},
		{"fd00:ec2::254", "cloud metadata"},
		{"fd00:ec2::23", "cloud metadata"},
		{"fd00:ec2::24", "private"},
		{"fd20:ce::254", "cloud metadata"},
		{"fd00:c1::a9fe:a9fe", "cloud metadata"},
		{"169.254.170.23", "cloud metadata"},
		{"169.254.170.24", "link-local"},
		{"fe80::1", "link-local"},
		{"ff02::1", "multicast"},
		{"2001::1", "reserved"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct policy_addr a;
		const char *what;

		assert_int_equal(policy_addr_parse(t[i].addr, strlen(t[i].addr), &a, NULL), 0);
		what = policy_addr_special(&a);
		if (!what != !t[i].what || (what && strcmp(what, t[i].what) != 0))
			fail_msg("%s: %s", t[i].addr, what ? what : "none");
	}
}

static void test_names_special(void **state)
{
	static const struct {
		const char *rules, *addr;
		unsigned port;
		bool yes;
	} t[] = {
		{"+**:*", "10.0.0.1", 443, false},
		{"+0.0.0.0/0:*", "10.0.0.1", 443, false},
		{"+0.0.0.0/1:*", "10.0.0.1", 443, false},
		{"+10.0.0.0/7:*", "10.0.0.1", 443, false},
		{"+10.0.0.0/8", "10.0.0.1", 443, true},
		{"+10.0.0.0/8", "10.0.0.1", 80, false},
		{"-10.0.0.0/8", "10.0.0.1", 443, false},
		{"+10.0.0.0/8", "11.0.0.1", 443, false},
		{"+127.0.0.1:*", "127.0.0.1", 5432, true},
		{"+127.0.0.1:*", "127.0.0.2", 5432, false},
		{"+169.254.0.0/16:*", "169.254.1.1", 80, true},
		{"+169.254.0.0/16:*", "169.254.169.254", 80, false},
		{"+169.254.169.254:80", "169.254.169.254", 80, true},
		{"+127.0.0.1:*", "2002:7f00:1::1", 80, false},
		{"+[fd00::/8]:80", "fd00::1", 80, true},
		{"+9.9.9.9:80", "9.9.9.9", 80, true},
		{"+9.9.9.9:80", "9.9.9.9", 81, false},
		{"+9.9.9.8/31:80", "9.9.9.9", 80, false},
		{"+[2a00::1]:80", "2a00::1", 80, true},
		{"+[2a00::/127]:80", "2a00::1", 80, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct policy p = make(t[i].rules);
		struct policy_query q;
		struct policy_addr a;

		assert_int_equal(policy_addr_parse(t[i].addr, strlen(t[i].addr), &a, NULL), 0);
		q = (struct policy_query){.addr = &a, .port = (uint16_t)t[i].port};
		if (policy_names_special(&p, &q) != t[i].yes)
			fail_msg("[%s] %s", t[i].rules, t[i].addr);
		policy_done(&p);
	}
}

static void test_explain(void **state)
{
	struct policy p = {0};
	struct policy_addr a = policy_addr_v4(0xc0000201);
	struct policy_query q = {.name = "api.example.com", .port = 443};
	struct policy_verdict v;
	char buf[POLICY_EXPLAIN_MAX];

	v = policy_decide(&p, &q);
	assert_string_equal(
		policy_explain(&v, &q, buf), "api.example.com:443 is denied: no rule allows it");
	assert_string_equal(policy_remedy(&v, &q, buf),
		"add \"api.example.com:443\" to permissions.network.allow of a kit, or run: "
		"hutch policy allow api.example.com:443");

	assert_int_equal(policy_add(&p, "api.example.com", true, "kit hello", NULL), 0);
	v = policy_decide(&p, &q);
	assert_string_equal(policy_explain(&v, &q, buf),
		"api.example.com:443 is allowed by the rule allow \"api.example.com\" (kit hello)");
	assert_string_equal(policy_remedy(&v, &q, buf), "");

	q.port = 80;
	v = policy_decide(&p, &q);
	assert_string_equal(policy_explain(&v, &q, buf),
		"api.example.com:80 is denied: the rule allow \"api.example.com\" (kit hello) "
		"covers "
		"port 443 only");
	assert_non_null(strstr(policy_remedy(&v, &q, buf), "policy allow api.example.com:80"));

	assert_int_equal(policy_add(&p, "192.0.2.0/24:*", false, "user\nx", NULL), 0);
	q = (struct policy_query){.name = "api.example.com", .addr = &a, .port = 443};
	v = policy_decide(&p, &q);
	assert_string_equal(policy_explain(&v, &q, buf),
		"api.example.com:443 (192.0.2.1) is denied by the rule deny \"192.0.2.0/24:*\" "
		"(user?x)");
	assert_string_equal(policy_remedy(&v, &q, buf),
		"deny wins over every allow: remove \"192.0.2.0/24:*\" "
		"from the deny list of user?x");
	policy_done(&p);
}

static void test_explain_requests(void **state)
{
	struct policy p = {0};
	struct policy_path path;
	struct policy_query q = {.name = "a.test", .port = 443, .method = "POST", .path = &path};
	struct policy_verdict v;
	char buf[POLICY_EXPLAIN_MAX];

	assert_int_equal(policy_add(&p, "GET a.test/x/**", true, "user", NULL), 0);
	assert_int_equal(policy_path_parse("/x/%2fy", 7, &path, NULL), 0);
	v = policy_decide(&p, &q);
	assert_string_equal(policy_explain(&v, &q, buf),
		"POST a.test:443/x/%2Fy is denied: the rule allow \"GET a.test/x/**\" (user) does "
		"not cover this request");
	assert_string_equal(
		policy_remedy(&v, &q, buf), "run: hutch policy allow 'POST a.test:443/x/%2Fy'");
	policy_path_done(&path);
	assert_int_equal(policy_path_parse("/x/*", 4, &path, NULL), 0);
	assert_string_equal(policy_remedy(&v, &q, buf), "");
	q.method = "GET";
	v = policy_decide(&p, &q);
	assert_true(v.allowed);
	q = (struct policy_query){.name = POLICY_THIS_HOST, .port = 80};
	v = policy_decide(&p, &q);
	assert_non_null(strstr(policy_explain(&v, &q, buf), "services of this machine"));
	policy_path_done(&path);
	policy_done(&p);
}

static void test_host_rules(void **state)
{
	static const char *const bad[] = {"GET a.test", "tcp a.test", "udp a.test", "GET a.test/x"};
	struct policy p = {0};
	struct policy_rule r;
	struct err err;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(policy_host_rule_parse(bad[i], &r, &err), -1);
		assert_non_null(strstr(err.msg, "blank"));
	}
	assert_int_equal(policy_host_rule_parse("a.test/x", &r, &err), -1);
	assert_non_null(strstr(err.msg, "path is not part"));
	assert_int_equal(policy_host_rule_parse("10.0.0.0/8:80", &r, &err), 0);
	policy_rule_done(&r);
	assert_int_equal(policy_add(&p, "GET 10.0.0.0/8:80", false, "", &err), -1);
	assert_int_equal(policy_add(&p, "GET 10.0.0.0/8:80", true, "", &err), 0);
	policy_done(&p);
}

/* What the remedy proposes must be a rule, and must work. */
static void test_remedy_works(void **state)
{
	static const char *const hosts[] = {"a.test", "_x.a.test", "192.0.2.1", "2001:db8::1"};

	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		struct policy p = {0};
		struct policy_addr addr;
		struct policy_query q = {.port = 8080};
		struct err err;
		char target[POLICY_TARGET_MAX];

		if (policy_addr_parse(hosts[i], strlen(hosts[i]), &addr, NULL) == 0)
			q.addr = &addr;
		else
			q.name = hosts[i];
		policy_query_text(&q, target);
		if (policy_add(&p, target, true, "", &err) < 0)
			fail_msg("%s", err.msg);
		assert_true(policy_decide(&p, &q).allowed);
		policy_done(&p);
	}
}

static void test_add_fails_clean(void **state)
{
	struct policy p = {0};
	struct err err = {0};

	assert_int_equal(policy_add(&p, "bad host", true, "kit hello", &err), -1);
	assert_int_equal(p.n, 0);
	assert_non_null(strstr(err.msg, "kit hello"));
	assert_int_equal(err.class, ERR_USER);
	for (int i = 0; i < POLICY_RULES_MAX; i++)
		assert_int_equal(policy_add(&p, "a.test", true, NULL, &err), 0);
	assert_int_equal(policy_add(&p, "a.test", true, NULL, &err), -1);
	assert_int_equal(p.n, POLICY_RULES_MAX);
	policy_done(&p);
	policy_done(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_hosts),
		cmocka_unit_test(test_targets),
		cmocka_unit_test(test_target_length),
		cmocka_unit_test(test_decide),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_inspect),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_explain_requests),
		cmocka_unit_test(test_host_rules),
		cmocka_unit_test(test_reachable),
		cmocka_unit_test(test_covers),
		cmocka_unit_test(test_target_allowed),
		cmocka_unit_test(test_special),
		cmocka_unit_test(test_names_special),
		cmocka_unit_test(test_explain),
		cmocka_unit_test(test_remedy_works),
		cmocka_unit_test(test_add_fails_clean),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

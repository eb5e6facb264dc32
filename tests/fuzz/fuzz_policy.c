/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of text as rules and as questions. Properties: what parses is printable and prints as a
 * target that means the same; deny wins; coverage agrees with matching; remedies work. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "policy/policy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void check_verdict(const struct policy *p, const struct policy_query *q)
{
	struct policy_verdict v = policy_decide(p, q);
	char buf[POLICY_EXPLAIN_MAX];
	bool allow = false, deny = false;

	for (size_t i = 0; i < p->n; i++) {
		const struct policy_rule *r = &p->rules[i];

		/* Of a connection, HTTP rules deny nothing yet. */
		if (policy_rule_matches(r, q) && (r->allow || !r->http || q->method))
			*(r->allow ? &allow : &deny) = true;
	}
	require(v.allowed == (v.rule && v.rule->allow));
	require(!(v.allowed && deny));
	/* A request may be allowed by two rules, one for each reading of its path. */
	require(!v.allowed || allow || q->method);
	require(!v.allowed || !v.near);
	if (v.allowed && q->name)
		require(policy_name_reachable(p, q->name));
	for (const char *s = policy_explain(&v, q, buf); *s; s++)
		require((unsigned char)*s >= ' ');
	policy_remedy(&v, q, buf);
}

/* The question's own text serves as a path. */
static void ask_request(const struct policy *p, const struct policy_query *of, const char *text)
{
	_free_ char *path = xasprintf("/%s", text);
	struct policy_path parsed;
	struct policy_query q = *of;
	char target[POLICY_TARGET_MAX];
	struct policy_rule r;

	if (policy_path_parse(path, strlen(path), &parsed, NULL) < 0)
		return;
	q.method = of->port % 2 ? "GET" : "POST";
	q.path = &parsed;
	check_verdict(p, &q);
	if (policy_query_rule(&q, target) == 0) {
		require(policy_rule_parse(target, &r, NULL) == 0);
		require(r.http && policy_rule_matches(&r, &q));
		policy_rule_done(&r);
	}
	policy_path_done(&parsed);
}

static void ask(const struct policy *p, const char *text, uint16_t port)
{
	struct policy_host h, again;
	struct policy_query q = {.port = port};
	char target[POLICY_TARGET_MAX];
	struct policy_rule r;
	uint16_t parsed;

	if (policy_authority_parse(text, strlen(text), &h, &parsed, NULL) < 0)
		return;
	if (!h.is_addr) {
		require(policy_host_parse(h.name, strlen(h.name), &again, NULL) == 0);
		require(strcmp(again.name, h.name) == 0);
	}
	if (parsed)
		q.port = parsed;
	if (h.is_addr)
		q.addr = &h.addr;
	else
		q.name = h.name;
	check_verdict(p, &q);
	require(policy_rule_parse(policy_query_text(&q, target), &r, NULL) == 0);
	require(policy_rule_matches(&r, &q));
	for (size_t i = 0; i < p->n; i++) {
		bool match = policy_rule_matches(&p->rules[i], &q);

		require(policy_rule_covers(&p->rules[i], &r) == (match && !p->rules[i].http));
	}
	policy_rule_done(&r);
	ask_request(p, &q, text);
	if (q.name) {
		struct policy_addr a = policy_addr_v4(0x7f000001u + q.port);

		q.addr = &a;
		policy_names_special(p, &q);
		check_verdict(p, &q);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_free_ char *text = malloc(size + 1);
	struct policy p = {0};
	struct err err;
	char *line, *next;

	if (size > 4096)
		return 0;
	if (size)
		memcpy(text, data, size);
	text[size] = '\0';
	for (line = text; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		if ((*line == '+' || *line == '-') && p.n < 64)
			policy_add(&p, line + 1, *line == '+', "kit", &err);
		else
			ask(&p, line, (uint16_t)(size * 7 + 80));
	}
	for (size_t i = 0; i < p.n; i++) {
		require(policy_rule_covers(&p.rules[i], &p.rules[i]));
		policy_target_allowed(&p, &p.rules[i]);
		for (size_t j = 0; j < p.n; j++) {
			if (policy_rule_covers(&p.rules[i], &p.rules[j]) &&
				policy_rule_covers(&p.rules[j], &p.rules[i]))
				require(p.rules[i].kind == p.rules[j].kind);
		}
	}
	policy_done(&p);
	return 0;
}

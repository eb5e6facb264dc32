/* SPDX-License-Identifier: Apache-2.0 */
/* A set of rules and its decisions. */
#include "policy/policy.h"

#include <string.h>

#include "base/mem.h"
#include "policy/special.h"
#include "policy/target.h"

int policy_add(
	struct policy *p, const char *target, bool allow, const char *source, struct err *err)
{
	struct policy_rule r;

	if (p->n >= POLICY_RULES_MAX)
		return err_set(err, ERR_USER, "more than %d rules", POLICY_RULES_MAX);
	if (policy_rule_parse(target, &r, err) < 0)
		return source && *source ? err_wrap(err, "%s", source) : -1;
	free(r.source);
	r.source = xstrdup(source ? source : "");
	r.allow = allow;
	if (p->n == p->cap) {
		p->cap = MAX(p->cap * 2, (size_t)16);
		p->rules = xrealloc(p->rules, p->cap, sizeof(*p->rules));
	}
	p->rules[p->n++] = r;
	return 0;
}

void policy_done(struct policy *p)
{
	for (size_t i = 0; i < p->n; i++)
		policy_rule_done(&p->rules[i]);
	free(p->rules);
	*p = (struct policy){0};
}

static bool matches_name(const struct policy_rule *r, const char *name)
{
	int left;

	switch (r->kind) {
	case POLICY_ALL:
		return true;
	case POLICY_CIDR:
		return false;
	case POLICY_EXACT:
		return strcmp(r->name, name) == 0;
	case POLICY_STAR:
		return policy_labels_left(r->name, name) == 0;
	case POLICY_DEEP:
		left = policy_labels_left(r->name, name);
		return left >= 1;
	}
	return false;
}

static bool matches_addr(const struct policy_rule *r, const struct policy_addr *addr)
{
	return r->kind == POLICY_CIDR && policy_addr_in(addr, &r->net, r->prefix);
}

/* Host only. An allow rule must match what identifies the destination: the name where there is one.
 * A deny rule also matches the address behind a name, and "**" matches a bare address. */
static bool matches_host(const struct policy_rule *r, const struct policy_query *q, bool deny)
{
	if (q->name && matches_name(r, q->name))
		return true;
	if (q->addr && (deny || !q->name) && matches_addr(r, q->addr))
		return true;
	return deny && !q->name && q->addr && r->kind == POLICY_ALL;
}

static bool matches_port(const struct policy_rule *r, const struct policy_query *q)
{
	unsigned proto = q->proto ? q->proto : POLICY_TCP;

	return (r->protos & proto) && q->port >= r->port_lo && q->port <= r->port_hi;
}

bool policy_rule_matches(const struct policy_rule *r, const struct policy_query *q)
{
	return matches_port(r, q) && matches_host(r, q, false);
}

static unsigned literal_labels(const char *pattern)
{
	unsigned n = 0;

	for (const char *s = pattern; *s; s++)
		n += (s == pattern || s[-1] == '.') && *s != '*';
	return n;
}

/* Whether @a says more about the destination than @b. */
static bool more_specific(const struct policy_rule *a, const struct policy_rule *b)
{
	unsigned la = literal_labels(a->name), lb = literal_labels(b->name);

	if (a->kind != b->kind)
		return a->kind > b->kind;
	if (a->kind == POLICY_CIDR && a->prefix != b->prefix)
		return a->prefix > b->prefix;
	if (la != lb)
		return la > lb;
	return a->port_hi - a->port_lo < b->port_hi - b->port_lo;
}

static void keep_best(const struct policy_rule **best, const struct policy_rule *r)
{
	if (!*best || more_specific(r, *best))
		*best = r;
}

struct policy_verdict policy_decide(const struct policy *p, const struct policy_query *q)
{
	const struct policy_rule *allow = NULL, *deny = NULL, *near = NULL;

	for (size_t i = 0; i < p->n; i++) {
		const struct policy_rule *r = &p->rules[i];

		if (!matches_host(r, q, !r->allow))
			continue;
		if (!r->allow) {
			if (matches_port(r, q))
				keep_best(&deny, r);
		} else if (matches_port(r, q)) {
			keep_best(&allow, r);
		} else {
			keep_best(&near, r);
		}
	}
	if (deny)
		return (struct policy_verdict){.rule = deny};
	if (allow)
		return (struct policy_verdict){.allowed = true, .rule = allow};
	return (struct policy_verdict){.near = near};
}

/* Whether one deny rule takes every port of @r away from @name. */
static bool denied_wholly(const struct policy *p, const struct policy_rule *r, const char *name)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct policy_rule *d = &p->rules[i];

		if (!d->allow && (r->protos & ~d->protos) == 0 && d->port_lo <= r->port_lo &&
			d->port_hi >= r->port_hi && matches_name(d, name))
			return true;
	}
	return false;
}

bool policy_name_reachable(const struct policy *p, const char *name)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct policy_rule *r = &p->rules[i];

		if (r->allow && matches_name(r, name) && !denied_wholly(p, r, name))
			return true;
	}
	return false;
}

bool policy_target_allowed(const struct policy *p, const struct policy_rule *target)
{
	bool allowed = false;

	for (size_t i = 0; i < p->n; i++) {
		const struct policy_rule *r = &p->rules[i];

		/* A denied "**" denies addresses too. */
		if (!policy_rule_covers(r, target) &&
			(r->allow || r->kind != POLICY_ALL || target->kind != POLICY_CIDR ||
				target->port_lo < r->port_lo || target->port_hi > r->port_hi))
			continue;
		if (!r->allow)
			return false;
		allowed = true;
	}
	return allowed;
}

bool policy_names_special(const struct policy *p, const struct policy_addr *a, uint16_t port)
{
	struct policy_query q = {.addr = a, .port = port};

	for (size_t i = 0; i < p->n; i++) {
		const struct policy_rule *r = &p->rules[i];

		if (r->allow && r->kind == POLICY_CIDR && matches_port(r, &q) &&
			policy_net_names(&r->net, r->prefix, a))
			return true;
	}
	return false;
}

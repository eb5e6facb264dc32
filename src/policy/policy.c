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
	if (!allow && r.http && r.kind == POLICY_CIDR) {
		policy_rule_done(&r);
		return err_set(err, ERR_USER,
			"rule \"%.300s\": a deny rule for addresses cannot have methods or paths",
			target);
	}
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

	if (r->allow && r->kind != POLICY_EXACT && strcmp(name, POLICY_THIS_HOST) == 0)
		return false;

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

/* One reading of the path. Deny errs on the wide side: whatever the case. */
static bool matches_reading(const struct policy_rule *r, const struct policy_query *q, bool loose)
{
	const char *pattern = loose ? r->path.loose : r->path.exact;
	const char *path = !q->path ? NULL : loose ? q->path->loose : q->path->exact;

	if (!r->http)
		return true;
	if (r->methods && !policy_method_in(r->methods, q->method, !r->allow))
		return false;
	return !pattern || (path && policy_path_match(pattern, path, !r->allow));
}

bool policy_rule_matches(const struct policy_rule *r, const struct policy_query *q)
{
	return matches_port(r, q) && matches_host(r, q, false) &&
	       (!q->method || (matches_reading(r, q, false) && matches_reading(r, q, true)));
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
	if (a->http != b->http)
		return a->http;
	if (a->path.exact || b->path.exact) {
		size_t pa = a->path.exact ? strlen(a->path.exact) : 0;
		size_t pb = b->path.exact ? strlen(b->path.exact) : 0;

		if (pa != pb)
			return pa > pb;
	}
	if (!a->methods != !b->methods)
		return a->methods != NULL;
	return a->port_hi - a->port_lo < b->port_hi - b->port_lo;
}

static void keep_best(const struct policy_rule **best, const struct policy_rule *r)
{
	if (!*best || more_specific(r, *best))
		*best = r;
}

/* What the rules about a destination amount to. */
struct tally {
	const struct policy_rule *deny, *near;
	const struct policy_rule *exact,
		*loose; /* allow the request's readings; a connection has one */
	bool inspect;
};

static void tally_deny(struct tally *t, const struct policy_rule *r, const struct policy_query *q)
{
	if (!matches_port(r, q))
		return;
	t->inspect |= r->http;
	if (!r->http ||
		(q->method && (matches_reading(r, q, false) || matches_reading(r, q, true))))
		keep_best(&t->deny, r);
}

/* A name server elsewhere is a way out past the rules for names: no range of ports opens it. */
static bool is_dns_by_chance(const struct policy_rule *r, const struct policy_query *q)
{
	return q->proto == POLICY_UDP && q->port == 53 && r->port_lo != r->port_hi;
}

static void tally_allow(struct tally *t, const struct policy_rule *r, const struct policy_query *q)
{
	bool exact, loose;

	if (!matches_port(r, q) || is_dns_by_chance(r, q)) {
		keep_best(&t->near, r);
		return;
	}
	t->inspect |= r->http;
	exact = !q->method || matches_reading(r, q, false);
	loose = !q->method || matches_reading(r, q, true);
	if (exact)
		keep_best(&t->exact, r);
	if (loose)
		keep_best(&t->loose, r);
	if (!exact || !loose)
		keep_best(&t->near, r);
}

struct policy_verdict policy_decide(const struct policy *p, const struct policy_query *q)
{
	struct tally t = {0};

	for (size_t i = 0; i < p->n; i++) {
		const struct policy_rule *r = &p->rules[i];

		if (!matches_host(r, q, !r->allow))
			continue;
		if (r->allow)
			tally_allow(&t, r, q);
		else
			tally_deny(&t, r, q);
	}
	if (t.deny)
		return (struct policy_verdict){.inspect = t.inspect, .rule = t.deny};
	if (t.exact && t.loose)
		return (struct policy_verdict){
			.allowed = true, .inspect = t.inspect, .rule = t.exact};
	return (struct policy_verdict){.inspect = t.inspect, .near = t.near};
}

struct policy_verdict policy_judge(const struct policy *p, struct policy_query *q)
{
	struct policy_query connection = *q;
	struct policy_verdict v;

	connection.method = NULL;
	connection.path = NULL;
	v = policy_decide(p, &connection);
	if (q->method && v.allowed && v.inspect)
		return policy_decide(p, q);
	*q = connection;
	return v;
}

/* Whether one deny rule takes every port of @r away from @name. */
static bool denied_wholly(const struct policy *p, const struct policy_rule *r, const char *name)
{
	for (size_t i = 0; i < p->n; i++) {
		const struct policy_rule *d = &p->rules[i];

		if (!d->allow && !d->http && (r->protos & ~d->protos) == 0 &&
			d->port_lo <= r->port_lo && d->port_hi >= r->port_hi &&
			matches_name(d, name))
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

		if (!r->allow && r->http)
			continue;
		/* A denied "**" denies addresses too. */
		if (!policy_rule_covers_host(r, target) &&
			(r->allow || r->kind != POLICY_ALL || target->kind != POLICY_CIDR ||
				target->port_lo < r->port_lo || target->port_hi > r->port_hi))
			continue;
		if (!r->allow)
			return false;
		allowed = true;
	}
	return allowed;
}

bool policy_names_special(const struct policy *p, const struct policy_query *asked)
{
	struct policy_query q = {.addr = asked->addr, .port = asked->port, .proto = asked->proto};

	for (size_t i = 0; i < p->n; i++) {
		const struct policy_rule *r = &p->rules[i];

		/* Which request it will be is asked elsewhere. */
		if (r->allow && r->kind == POLICY_CIDR && matches_port(r, &q) &&
			policy_net_names(&r->net, r->prefix, q.addr))
			return true;
	}
	return false;
}

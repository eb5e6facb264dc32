/* SPDX-License-Identifier: Apache-2.0 */
/* Verdicts in words. */
#include "policy/policy.h"

#include <stdio.h>
#include <string.h>

const char *policy_query_text(const struct policy_query *q, char buf[static POLICY_TARGET_MAX])
{
	char addr[POLICY_ADDR_TEXT];

	if (q->name)
		snprintf(buf, POLICY_TARGET_MAX, "%s:%u", q->name, q->port);
	else if (q->addr)
		snprintf(buf, POLICY_TARGET_MAX, q->addr->v6 ? "[%s]:%u" : "%s:%u",
			policy_addr_text(q->addr, addr), q->port);
	else
		snprintf(buf, POLICY_TARGET_MAX, "?:%u", q->port);
	return buf;
}

static void ports_text(const struct policy_rule *r, char *buf, size_t size)
{
	if (r->port_lo == 1 && r->port_hi == 65535)
		snprintf(buf, size, "all ports");
	else if (r->port_lo == r->port_hi)
		snprintf(buf, size, "port %u", r->port_lo);
	else
		snprintf(buf, size, "ports %u-%u", r->port_lo, r->port_hi);
}

/* Sources come from kit names and file names: nothing of them may break the line. */
static const char *source_text(const struct policy_rule *r, char buf[static 128])
{
	snprintf(buf, 128, "%s", *r->source ? r->source : "unnamed source");
	for (char *s = buf; *s; s++) {
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			*s = '?';
	}
	return buf;
}

const char *policy_explain(const struct policy_verdict *v, const struct policy_query *q,
	char buf[static POLICY_EXPLAIN_MAX])
{
	char what[POLICY_TARGET_MAX], source[128], ports[32], behind[POLICY_ADDR_TEXT + 8] = "";

	policy_query_text(q, what);
	if (q->name && q->addr) {
		char addr[POLICY_ADDR_TEXT];

		snprintf(behind, sizeof(behind), " (%s)", policy_addr_text(q->addr, addr));
	}
	if (v->rule) {
		snprintf(buf, POLICY_EXPLAIN_MAX, "%s%s is %s by the rule %s \"%s\" (%s)", what,
			behind, v->allowed ? "allowed" : "denied", v->allowed ? "allow" : "deny",
			v->rule->text, source_text(v->rule, source));
	} else if (v->near) {
		ports_text(v->near, ports, sizeof(ports));
		snprintf(buf, POLICY_EXPLAIN_MAX,
			"%s%s is denied: the rule allow \"%s\" (%s) covers %s only", what, behind,
			v->near->text, source_text(v->near, source), ports);
	} else {
		snprintf(
			buf, POLICY_EXPLAIN_MAX, "%s%s is denied: no rule allows it", what, behind);
	}
	return buf;
}

const char *policy_remedy(const struct policy_verdict *v, const struct policy_query *q,
	char buf[static POLICY_EXPLAIN_MAX])
{
	char what[POLICY_TARGET_MAX], source[128];

	buf[0] = '\0';
	if (v->allowed || (!q->name && !q->addr))
		return buf;
	if (v->rule) {
		snprintf(buf, POLICY_EXPLAIN_MAX,
			"deny wins over every allow: remove \"%s\" from the deny list of %s",
			v->rule->text, source_text(v->rule, source));
		return buf;
	}
	policy_query_text(q, what);
	snprintf(buf, POLICY_EXPLAIN_MAX,
		"add \"%s\" to permissions.network.allow of a kit, or run: "
		"hutch run --allow %s …",
		what, what);
	return buf;
}

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

/* Whether the rule grammar can say @s and mean only that. */
static bool is_plain_pattern(const char *s)
{
	return strlen(s) <= POLICY_PATTERN_MAX && !strpbrk(s, "*;\\?#") && !strstr(s, "//") &&
	       !strcasestr(s, "%2A");
}

int policy_query_rule(const struct policy_query *q, char buf[static POLICY_TARGET_MAX])
{
	const char *udp = q->proto == POLICY_UDP ? "udp " : "";
	char what[POLICY_TARGET_MAX];
	struct policy_rule r;
	int n;

	policy_query_text(q, what);
	if (!q->method)
		n = snprintf(buf, POLICY_TARGET_MAX, "%s%s", udp, what);
	else if (!q->path || !is_plain_pattern(q->path->exact))
		return -1;
	else
		n = snprintf(buf, POLICY_TARGET_MAX, "%s %s%s", q->method, what, q->path->exact);
	if (n >= POLICY_TARGET_MAX || policy_rule_parse(buf, &r, NULL) < 0)
		return -1;
	policy_rule_done(&r);
	return 0;
}

static bool near_has_port(const struct policy_rule *r, const struct policy_query *q)
{
	return q->port >= r->port_lo && q->port <= r->port_hi;
}

/* What a rule is about, for a question with which it has only the host in common. */
static void ports_text(
	const struct policy_rule *r, const struct policy_query *q, char *buf, size_t size)
{
	const char *but = q->proto == POLICY_UDP && near_has_port(r, q)
				  ? " but 53, which has to be named,"
				  : "";

	if (!(r->protos & (q->proto ? q->proto : POLICY_TCP)))
		snprintf(buf, size, "%s", r->protos == POLICY_UDP ? "udp" : "tcp");
	else if (r->port_lo == 1 && r->port_hi == 65535)
		snprintf(buf, size, "all ports%s", but);
	else if (r->port_lo == r->port_hi)
		snprintf(buf, size, "port %u", r->port_lo);
	else
		snprintf(buf, size, "ports %u-%u%s", r->port_lo, r->port_hi, but);
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

/* "GET api.example.com:443/path", cut where the path is long. */
static const char *query_words(const struct policy_query *q, char buf[static POLICY_TARGET_MAX])
{
	char what[POLICY_TARGET_MAX];

	policy_query_text(q, what);
	snprintf(buf, POLICY_TARGET_MAX, "%s%.32s%s%.310s%.200s",
		q->proto == POLICY_UDP ? "udp " : "", q->method ? q->method : "",
		q->method ? " " : "", what, q->method && q->path ? q->path->exact : "");
	return buf;
}

const char *policy_explain(const struct policy_verdict *v, const struct policy_query *q,
	char buf[static POLICY_EXPLAIN_MAX])
{
	char what[POLICY_TARGET_MAX], source[128], ports[64], behind[POLICY_ADDR_TEXT + 8] = "";

	query_words(q, what);
	if (q->name && q->addr) {
		char addr[POLICY_ADDR_TEXT];

		snprintf(behind, sizeof(behind), " (%s)", policy_addr_text(q->addr, addr));
	}
	if (v->rule) {
		snprintf(buf, POLICY_EXPLAIN_MAX, "%s%s is %s by the rule %s \"%s\" (%s)", what,
			behind, v->allowed ? "allowed" : "denied", v->allowed ? "allow" : "deny",
			v->rule->text, source_text(v->rule, source));
	} else if (v->near && q->method && v->near->http && near_has_port(v->near, q)) {
		snprintf(buf, POLICY_EXPLAIN_MAX,
			"%s%s is denied: the rule allow \"%s\" (%s) does not cover this request",
			what, behind, v->near->text, source_text(v->near, source));
	} else if (v->near) {
		ports_text(v->near, q, ports, sizeof(ports));
		snprintf(buf, POLICY_EXPLAIN_MAX,
			"%s%s is denied: the rule allow \"%s\" (%s) covers %s only", what, behind,
			v->near->text, source_text(v->near, source), ports);
	} else {
		snprintf(buf, POLICY_EXPLAIN_MAX, "%s%s is denied: no rule allows it%s", what,
			behind,
			q->name && strcmp(q->name, POLICY_THIS_HOST) == 0
				? " (services of this machine need one with this very name)"
				: "");
	}
	return buf;
}

const char *policy_remedy(const struct policy_verdict *v, const struct policy_query *q,
	char buf[static POLICY_EXPLAIN_MAX])
{
	char what[POLICY_TARGET_MAX], source[128];
	const char *quote;

	buf[0] = '\0';
	if (v->allowed || (!q->name && !q->addr))
		return buf;
	if (v->rule) {
		snprintf(buf, POLICY_EXPLAIN_MAX,
			"deny wins over every allow: remove \"%s\" from the deny list of %s",
			v->rule->text, source_text(v->rule, source));
		return buf;
	}
	if (policy_query_rule(q, what) < 0)
		return buf;
	/* A blank in it: the shell has to see one word. */
	quote = strchr(what, ' ') ? "'" : "";
	if (q->method)
		snprintf(buf, POLICY_EXPLAIN_MAX, "run: hutch policy allow %s%s%s", quote, what,
			quote);
	else
		snprintf(buf, POLICY_EXPLAIN_MAX,
			"add \"%s\" to permissions.network.allow of a kit, or run: "
			"hutch policy allow %s%s%s",
			what, quote, what, quote);
	return buf;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What the policy says about a destination, for TCP and UDP alike, and where it really is. */
#include <stdio.h>
#include <string.h>

#include "gate/flow.h"

static bool is_this_host(const struct policy_query *q)
{
	return q->name && strcmp(q->name, POLICY_THIS_HOST) == 0;
}

/* What is refused only now says so: asking the user would not help an installation that has ended. */
static void note_phase(const struct gate *g, const struct policy_query *q,
	const struct policy_verdict *v, struct flow_decision *ret)
{
	struct policy_query again = *q;
	struct policy_verdict other;
	size_t len = strlen(ret->reason);

	if (v->rule || !g->config->other.n)
		return;
	other = policy_judge(&g->config->other, &again);
	if (other.allowed && other.rule)
		snprintf(ret->reason + len, sizeof(ret->reason) - len,
			"; allowed %s only: rule \"%s\" (%s)",
			g->config->phase == SPEC_RUNTIME ? "while kits are installed"
							 : "after the installation",
			other.rule->text, other.rule->source);
}

void gate_decide(const struct gate *g, struct policy_query *q, struct flow_decision *ret)
{
	struct policy_verdict v = policy_judge(&g->config->policy, q);

	*ret = (struct flow_decision){.allowed = v.allowed, .inspect = v.inspect};
	if (v.rule) {
		snprintf(ret->rule, sizeof(ret->rule), "%s", v.rule->text);
		snprintf(ret->source, sizeof(ret->source), "%s", v.rule->source);
	}
	if (v.allowed)
		return;
	policy_explain(&v, q, ret->reason);
	note_phase(g, q, &v, ret);
	policy_remedy(&v, q, ret->remedy);
	if (v.rule || g->config->net.learn || policy_query_rule(q, ret->ask) < 0)
		ret->ask[0] = '\0';
}

const char *gate_check_addr(const struct gate *g, const struct policy_query *q)
{
	static char why[160];
	const struct policy *p = &g->config->policy;
	const char *special = policy_addr_special(q->addr);

	if (!policy_decide(p, q).allowed)
		return "a rule denies this address";
	/* Networks for documentation are nobody's: some machines have mirrors there. */
	if (special && strcmp(special, "documentation") == 0)
		special = NULL;
	/* What listens there may rely on a firewall that does not see connections from here. */
	if (!special && dial_is_own_addr(q->addr))
		special = "this machine's own";
	if (!special || policy_names_special(p, q))
		return NULL;
	snprintf(why, sizeof(why), "%s, which only a rule for that address or network can allow",
		special);
	return why;
}

bool gate_dials_itself(const struct gate *g, const struct policy_query *q)
{
	return is_this_host(q) || (q->name && config_find_resolve(g->config, q->name));
}

void gate_dial(struct gate *g, struct dial *d, const struct policy_query *q, dial_check_fn *check,
	dial_done_fn *done)
{
	static const struct policy_addr loopback = {.b = {127, 0, 0, 1}};
	const struct config_resolve *to = q->name ? config_find_resolve(g->config, q->name) : NULL;
	struct dial_target t = {.name = q->name, .port = q->port, .udp = q->proto == POLICY_UDP};

	if (to) {
		t.name = NULL;
		t.addr = &to->addr;
		t.port = to->port;
		check = NULL;
	} else if (is_this_host(q)) {
		t.name = NULL;
		t.addr = &loopback;
		check = NULL;
	} else if (!q->name) {
		t.addr = q->addr;
	}
	dial_start(g->dialer, d, &t, check, done);
}

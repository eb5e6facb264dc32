/* SPDX-License-Identifier: Apache-2.0 */
/* What holds for a kit whatever grammar it was written in: things that must be unique, and what a
 * credential may reach. */
#include <string.h>

#include "kit/grammar.h"
#include "policy/policy.h"

static bool same(const char *a, const char *b)
{
	return a && b && strcmp(a, b) == 0;
}

/* One service may appear once per phase. */
static void check_service(struct load *l, const struct kit *k, size_t at)
{
	const struct kit_credential *c = &k->credentials[at];
	const struct ynode *name = ynode_get(c->at, "service"), *key = ynode_get(c->at, "apiKey");

	for (size_t i = 0; i < at; i++) {
		const struct kit_credential *o = &k->credentials[i];
		bool apart = c->phase && o->phase && !(c->phase & o->phase);

		if (same(c->service, o->service) && !apart)
			load_error(l, name ? name : c->at, "twice in this kit");
		else if (same(c->env, o->env) && !same(c->service, o->service))
			load_error(l,
				key && ynode_get(key, "name") ? ynode_get(key, "name") : c->at,
				"already the variable of service %s",
				o->service ? o->service : "?");
	}
}

/* A kit's allow rules are what it asks for; a key for another host would never be used, or for a
 * host that somebody else allowed. */
static void check_domains(
	struct load *l, const struct kit_credential *c, const struct policy *policy)
{
	for (size_t i = 0; i < c->n_injects; i++) {
		const struct kit_inject *in = &c->injects[i];
		struct policy_rule rule;

		if (!in->domain || policy_rule_parse(in->domain, &rule, NULL) < 0)
			continue;
		if (!policy_target_allowed(policy, &rule))
			load_warn(l, in->at,
				"not allowed by this kit's network rules, so the credential only "
				"has an effect when the user or another kit allows the host");
		policy_rule_done(&rule);
	}
}

/* A credential goes where the rules of each of its phases allow it. */
static void check_credentials(struct load *l, const struct kit *k)
{
	struct policy policies[KIT_RUNTIME + 1] = {0};

	for (unsigned p = 0; p < ARRAY_SIZE(policies); p++)
		for (size_t i = 0; i < k->n_rules; i++)
			if (!k->rules[i].phase || (k->rules[i].phase & p))
				policy_add(&policies[p], k->rules[i].target, k->rules[i].allow, "", NULL);
	for (size_t i = 0; i < k->n_credentials; i++) {
		const struct kit_credential *c = &k->credentials[i];

		check_service(l, k, i);
		if (!c->phase)
			check_domains(l, c, &policies[KIT_ALWAYS]);
		if (c->phase & KIT_RUNTIME)
			check_domains(l, c, &policies[KIT_RUNTIME]);
		else if (c->phase & KIT_INSTALL)
			check_domains(l, c, &policies[KIT_INSTALL]);
	}
	for (unsigned p = 0; p < ARRAY_SIZE(policies); p++)
		policy_done(&policies[p]);
}

static void check_places(struct load *l, const struct kit *k)
{
	for (size_t i = 0; i < k->n_volumes; i++)
		for (size_t m = 0; m < i; m++)
			if (same(k->volumes[i].path, k->volumes[m].path)) {
				load_error(l, ynode_get(k->volumes[i].at, "path"),
					"twice in this kit");
				break;
			}
	for (size_t i = 0; i < k->n_host_mounts; i++)
		for (size_t m = 0; m < i; m++)
			if (same(k->host_mounts[i].path, k->host_mounts[m].path)) {
				load_error(l, ynode_get(k->host_mounts[i].at, "path"),
					"twice in this kit");
				break;
			}
	for (size_t i = 0; i < k->n_ports; i++)
		for (size_t m = 0; m < i; m++)
			if (k->ports[i].container &&
				k->ports[i].container == k->ports[m].container &&
				k->ports[i].udp == k->ports[m].udp) {
				load_error(l, ynode_get(k->ports[i].at, "container"),
					"twice in this kit");
				break;
			}
}

/* The tree goes away after this. */
static void forget_places(struct kit *k)
{
	for (size_t i = 0; i < k->n_credentials; i++) {
		k->credentials[i].at = NULL;
		for (size_t m = 0; m < k->credentials[i].n_injects; m++)
			k->credentials[i].injects[m].at = NULL;
	}
	for (size_t i = 0; i < k->n_volumes; i++)
		k->volumes[i].at = NULL;
	for (size_t i = 0; i < k->n_ports; i++)
		k->ports[i].at = NULL;
	for (size_t i = 0; i < k->n_capabilities; i++)
		k->capabilities[i].at = NULL;
	for (size_t i = 0; i < k->n_host_mounts; i++)
		k->host_mounts[i].at = NULL;
}

void kit_check(struct load *l, struct kit *k)
{
	check_credentials(l, k);
	check_places(l, k);
	forget_places(k);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What kits from elsewhere ask for. */
#include "remote/grants.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "policy/policy.h"

/* Capabilities of schemaVersion "3" that stay within the sandbox, or have lines of their own. */
static const char *const harmless[] = {"network-policy", "credential", "volume", "port",
	"resources", "long-running", "lifecycle", "agent-context", "agent-sessions",
	"agent-interactive-sessions", "agent-skills", "agent-skill", "acp", "sbx"};

static void join(struct buf *b, const char *before, const struct strv *list)
{
	for (size_t i = 0; i < list->n; i++)
		buf_printf(b, "%s%s", i ? "," : before, list->v[i]);
}

static const char *phase_text(unsigned phase)
{
	return phase == KIT_INSTALL ? " (during installation)" : "";
}

static void add_rules(const struct kit *k, struct strv *ret)
{
	for (size_t i = 0; i < k->n_rules; i++) {
		const struct kit_rule *r = &k->rules[i];
		_buf_ struct buf b = {.max = 65536};

		buf_printf(&b, "%s %s", r->allow ? "allow" : "deny", r->target);
		join(&b, " methods ", &r->methods);
		join(&b, " paths ", &r->paths);
		buf_puts(&b, phase_text(r->phase));
		strv_add(ret, buf_cstr(&b));
	}
}

/* Where a value goes, and in what form: each of these changes who may read it. */
static void add_inject(
	const struct kit_credential *c, const struct kit_inject *in, struct strv *ret)
{
	_buf_ struct buf b = {.max = 65536};

	buf_printf(&b, "credential %s to %s", c->service, in->domain);
	if (in->kind != SPEC_INJECT_HEADER)
		buf_printf(&b, " by %s", spec_inject_name(in->kind));
	if (in->header && *in->header)
		buf_printf(&b, " in %s", in->header);
	if (in->parameter)
		buf_printf(&b, " in parameter %s", in->parameter);
	if (in->in_body)
		buf_puts(&b, " in bodies");
	if (in->insecure)
		buf_puts(&b, " without TLS");
	buf_puts(&b, phase_text(c->phase));
	strv_add(ret, buf_cstr(&b));
}

static void add_credentials(const struct kit *k, struct strv *ret)
{
	for (size_t i = 0; i < k->n_credentials; i++) {
		const struct kit_credential *c = &k->credentials[i];
		const struct kit_oauth *o = &c->oauth;

		for (size_t m = 0; m < c->n_injects; m++)
			add_inject(c, &c->injects[m], ret);
		if (!c->n_injects && !o->given)
			strv_addf(ret, "credential %s%s", c->service, phase_text(c->phase));
		if (!o->given)
			continue;
		strv_addf(ret, "credential %s by OAuth of %s%s%s", c->service,
			o->host ? o->host : "?", o->path ? o->path : "",
			o->passthrough ? ", tokens in the sandbox" : "");
		for (size_t m = 0; m < o->resource_hosts.n; m++)
			strv_addf(ret, "credential %s to %s by OAuth", c->service,
				o->resource_hosts.v[m]);
	}
}

static void add_capabilities(const struct kit *k, struct strv *ret)
{
	for (size_t i = 0; i < k->n_capabilities; i++) {
		const char *type = k->capabilities[i].type, *slash = strrchr(type, '/');
		const char *name = slash ? slash + 1 : type;
		bool is_harmless = false;

		for (size_t m = 0; m < ARRAY_SIZE(harmless); m++)
			is_harmless |= strcspn(name, "@") == strlen(harmless[m]) &&
				       strncmp(name, harmless[m], strlen(harmless[m])) == 0;
		if (!is_harmless && !k->capabilities[i].skipped)
			strv_addf(ret, "capability %s", type);
	}
}

static void add_kit(const struct kit *k, struct strv *ret)
{
	add_rules(k, ret);
	add_credentials(k, ret);
	add_capabilities(k, ret);
	for (size_t i = 0; i < k->n_ports; i++)
		strv_addf(
			ret, "port %u/%s", k->ports[i].container, k->ports[i].udp ? "udp" : "tcp");
	if (k->privileged)
		strv_add(ret, "privileged");
	for (size_t i = 0; i < k->ssh_keys.n; i++)
		strv_addf(ret, "ssh-agent key %s", k->ssh_keys.v[i]);
	for (size_t i = 0; i < k->ssh_hosts.n; i++)
		strv_addf(ret, "ssh-agent for %s", k->ssh_hosts.v[i]);
	if (k->ssh_any_host)
		strv_add(ret, "ssh-agent for any host");
	if (k->extends)
		strv_addf(ret, "kit %s", k->extends);
	for (size_t i = 0; i < k->mixins.n; i++)
		strv_addf(ret, "kit %s", k->mixins.v[i]);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void grants_of(const struct kit *kits, size_t n, const char *source, struct strv *ret)
{
	struct strv all = {0};

	for (size_t i = 0; i < n; i++)
		if (kits[i].source && strcmp(kits[i].source, source) == 0)
			add_kit(&kits[i], &all);
	if (all.n)
		qsort(all.v, all.n, sizeof(*all.v), compare);
	for (size_t i = 0; i < all.n; i++)
		if (!i || strcmp(all.v[i], all.v[i - 1]) != 0)
			strv_add(ret, all.v[i]);
	strv_done(&all);
}

/* The target of an unbounded allow line, or NULL. */
static const char *plain_allow(const char *line)
{
	return strncmp(line, "allow ", 6) == 0 && !strchr(line + 6, ' ') ? line + 6 : NULL;
}

static bool is_covered(const struct policy *old, const char *line)
{
	const char *target = plain_allow(line);
	struct policy_rule rule;
	bool yes;

	if (!target || policy_rule_parse(target, &rule, NULL) < 0)
		return false;
	yes = policy_target_allowed(old, &rule);
	policy_rule_done(&rule);
	return yes;
}

void grants_widen(const struct strv *old, const struct strv *now, struct strv *ret)
{
	struct policy policy = {0};

	for (size_t i = 0; i < old->n; i++)
		if (plain_allow(old->v[i]))
			policy_add(&policy, plain_allow(old->v[i]), true, "", NULL);
	for (size_t i = 0; i < now->n; i++)
		if (!strv_has(old, now->v[i]) && strncmp(now->v[i], "deny ", 5) != 0 &&
			!is_covered(&policy, now->v[i]))
			strv_addf(ret, "+ %s", now->v[i]);
	for (size_t i = 0; i < old->n; i++)
		if (strncmp(old->v[i], "deny ", 5) == 0 && !strv_has(now, old->v[i]))
			strv_addf(ret, "- %s", old->v[i]);
	policy_done(&policy);
}

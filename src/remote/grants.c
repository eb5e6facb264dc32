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
	"agent-interactive-sessions", "agent-skills", "agent-skill", "acp", "sbx", "host-mount",
	"ssh-agent", "git-identity", "privileged"};

static void join(struct buf *b, const char *before, const struct strv *list)
{
	for (size_t i = 0; i < list->n; i++)
		buf_printf(b, "%s%s", i ? "," : before, list->v[i]);
}

static const char *phase_text(unsigned phase)
{
	return phase == KIT_INSTALL ? " (during installation)" : "";
}

/* A line for each phase that is asked for: which of them, is part of what is approved. */
static void add_line(struct strv *ret, unsigned phases, const char *line)
{
	if (phases != KIT_INSTALL)
		strv_add(ret, line);
	if (phases & KIT_INSTALL)
		strv_addf(ret, "%s%s", line, phase_text(KIT_INSTALL));
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
	add_line(ret, c->phase, buf_cstr(&b));
}

static void add_oauth(const struct kit_credential *c, struct strv *ret)
{
	const struct kit_oauth *o = &c->oauth;
	_free_ char *from = xasprintf("credential %s by OAuth of %s%s%s", c->service,
		o->host ? o->host : "?", o->path ? o->path : "",
		o->passthrough ? ", tokens in the sandbox" : "");

	add_line(ret, c->phase, from);
	for (size_t m = 0; m < o->resource_hosts.n; m++) {
		_free_ char *to = xasprintf(
			"credential %s to %s by OAuth", c->service, o->resource_hosts.v[m]);

		add_line(ret, c->phase, to);
	}
}

static void add_credentials(const struct kit *k, struct strv *ret)
{
	for (size_t i = 0; i < k->n_credentials; i++) {
		const struct kit_credential *c = &k->credentials[i];
		const struct kit_oauth *o = &c->oauth;

		for (size_t m = 0; m < c->n_injects; m++)
			add_inject(c, &c->injects[m], ret);
		if (!c->n_injects && !o->given) {
			_free_ char *line = xasprintf("credential %s", c->service);

			add_line(ret, c->phase, line);
		}
		if (o->given)
			add_oauth(c, ret);
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

#define LOGIN "ssh-agent to log in at "

/* What of the user's ssh-agent a kit of "3" asks for. */
static void add_ssh(const struct kit_ssh *s, struct strv *ret)
{
	if (s->unrestricted)
		add_line(ret, s->phase, "ssh-agent, every key, for any signature");
	for (size_t i = 0; i < s->sign.n; i++) {
		_free_ char *line = xasprintf("ssh-agent for signatures of %s", s->sign.v[i]);

		add_line(ret, s->phase, line);
	}
	for (size_t i = 0; i < s->logins.n; i++) {
		_free_ char *line = xasprintf(LOGIN "%s", s->logins.v[i]);

		add_line(ret, s->phase, line);
	}
}

/* What schemaVersion "3" can say besides. */
static void add_descriptor(const struct kit *k, struct strv *ret)
{
	for (size_t i = 0; i < k->n_ssh; i++)
		add_ssh(&k->ssh[i], ret);
	for (size_t i = 0; i < k->n_host_mounts; i++)
		strv_addf(ret, "shared folder %s", k->host_mounts[i].path);
	for (size_t i = 0; i < k->n_volumes && k->schema == 3; i++)
		strv_addf(ret, "volume %s", k->volumes[i].path);
	for (size_t i = 0; i < k->usb_devices.n; i++)
		strv_addf(ret, "USB device %s", k->usb_devices.v[i]);
	if (k->git_identity)
		strv_add(ret, "your name and address, as git has them");
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
	add_descriptor(k, ret);
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

/* Whoever may log in as anybody may log in as somebody. */
static bool is_covered_login(const struct strv *old, const char *line)
{
	const char *at = strncmp(line, LOGIN, strlen(LOGIN)) == 0 ? strchr(line, '@') : NULL;
	_free_ char *any = at ? xasprintf(LOGIN "%s", at + 1) : NULL;

	return any && strv_has(old, any);
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
			!is_covered(&policy, now->v[i]) && !is_covered_login(old, now->v[i]))
			strv_addf(ret, "+ %s", now->v[i]);
	for (size_t i = 0; i < old->n; i++)
		if (strncmp(old->v[i], "deny ", 5) == 0 && !strv_has(now, old->v[i]))
			strv_addf(ret, "- %s", old->v[i]);
	policy_done(&policy);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What the gate enforces. */
#include "gate/config.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "base/mem.h"
#include "gate/escape.h"
#include "gate/http1.h"
#include "secret/store.h"

/* Fields that say how a message is read or where it goes are never a credential. */
static const char *const reserved_headers[] = {"host", "content-length", "transfer-encoding",
	"connection", "upgrade", "te", "trailer", "expect", "keep-alive", "proxy-connection",
	"http2-settings"};

static bool in_force(const struct config *c, enum spec_phase phase)
{
	return phase == SPEC_ALWAYS || phase == c->phase;
}

static int check_format(const char *format, struct err *err)
{
	const char *at = strchr(format, '%');

	if (!at || at[1] != 's' || strchr(at + 2, '%'))
		return err_set(err, ERR_USER, "format '%.80s' must have exactly one %%s", format);
	return 0;
}

static int check_header(const struct spec_inject *i, struct err *err)
{
	for (size_t h = 0; h < ARRAY_SIZE(reserved_headers); h++)
		if (strcasecmp(i->header, reserved_headers[h]) == 0)
			return err_set(err, ERR_USER, "header %s cannot carry a credential",
				reserved_headers[h]);
	if (!http1_header_valid(i->header, "x", 1))
		return err_set(err, ERR_USER, "'%.80s' is no header name", i->header);
	return i->username ? 0 : check_format(i->format, err);
}

/* What no encoding changes, so that it is found in a head and in bodies. */
static bool is_plain(const char *s, size_t min)
{
	for (const char *c = s; *c; c++)
		if (!escape_is_unreserved((uint8_t)*c))
			return false;
	return strlen(s) >= min && strlen(s) <= 256;
}

/* Without TLS a value goes to the machine itself and nowhere else. */
static int check_insecure(const struct config_inject *c, struct err *err)
{
	if (!c->inject->insecure)
		return 0;
	if (c->inject->kind == SPEC_INJECT_CERTIFICATE || c->target.kind != POLICY_EXACT ||
		strcmp(c->target.name, POLICY_THIS_HOST) != 0)
		return err_set(err, ERR_USER, "insecure is for %s only", POLICY_THIS_HOST);
	return 0;
}

static int check_inject(const struct spec_inject *i, struct err *err)
{
	if (i->username && strchr(i->username, ':'))
		return err_set(err, ERR_USER, "a user name cannot contain ':'");
	switch (i->kind) {
	case SPEC_INJECT_HEADER:
		return check_header(i, err);
	case SPEC_INJECT_QUERY:
		return i->parameter && is_plain(i->parameter, 1)
			       ? 0
			       : err_set(err, ERR_USER, "no name of a parameter");
	case SPEC_INJECT_PLACEHOLDER:
		return i->placeholder && is_plain(i->placeholder, 8)
			       ? 0
			       : err_set(err, ERR_USER, "no placeholder");
	case SPEC_INJECT_AWS:
	case SPEC_INJECT_REGISTRY:
	case SPEC_INJECT_CERTIFICATE:
		return 0;
	case SPEC_INJECT_KINDS:
		break;
	}
	return err_set(err, ERR_BUG, "no kind of credential");
}

static int add_injects(struct config *c, const struct spec_credential *cred, struct err *err)
{
	if (!secret_name_valid(cred->service))
		return err_set(err, ERR_USER, "'%.80s' is no service name", cred->service);
	for (size_t i = 0; i < cred->n_injects; i++) {
		struct config_inject *to = &c->injects[c->n_injects];

		if (check_inject(&cred->injects[i], err) < 0 ||
			policy_host_rule_parse(cred->injects[i].domain, &to->target, err) < 0)
			return err_wrap(err, "credential %s", cred->service);
		/* Whether a rule allows the destination is asked for every request: a rule that the
		 * user takes away must not make the rest of the configuration invalid. */
		to->credential = cred;
		to->inject = &cred->injects[i];
		c->n_injects++;
		if (check_insecure(to, err) < 0)
			return err_wrap(err, "credential %s", cred->service);
	}
	return 0;
}

static int check_sentinel(const char *s, struct err *err)
{
	size_t n = strlen(s);

	if (n < 4 || n > 4000 || !http1_header_valid("a", s, n) || strpbrk(s, " \t\"\\"))
		return err_set(err, ERR_USER, "a sentinel has 4 to 4000 characters without blanks");
	return 0;
}

static int add_oauth(struct config *c, const struct spec_credential *cred,
	const struct spec_oauth *o, struct err *err)
{
	struct config_oauth *to = &c->oauths[c->n_oauths];

	if (check_sentinel(o->access_sentinel, err) < 0 ||
		check_sentinel(o->refresh_sentinel, err) < 0 ||
		policy_host_rule_parse(o->host, &to->endpoint, err) < 0)
		return -1;
	to->credential = cred;
	to->oauth = o;
	c->n_oauths++;
	to->resources = xcalloc(o->resource_hosts.n + 1, sizeof(*to->resources));
	for (size_t i = 0; i < o->resource_hosts.n; i++) {
		if (policy_host_rule_parse(o->resource_hosts.v[i], &to->resources[i], err) < 0)
			return -1;
		to->n_resources++;
	}
	return 0;
}

static int add_oauths(struct config *c, struct err *err)
{
	size_t n = 0;

	for (size_t i = 0; i < c->net.n_credentials; i++)
		n += c->net.credentials[i].n_oauth;
	c->oauths = xcalloc(n + 1, sizeof(*c->oauths));
	for (size_t i = 0; i < c->net.n_credentials; i++) {
		const struct spec_credential *cred = &c->net.credentials[i];

		for (size_t k = 0; k < cred->n_oauth; k++)
			if (!cred->oauth[k].passthrough && in_force(c, cred->phase) &&
				add_oauth(c, cred, &cred->oauth[k], err) < 0)
				return err_wrap(err, "credential %s", cred->service);
	}
	return 0;
}

static int add_credentials(struct config *c, struct err *err)
{
	size_t n = 0;

	for (size_t i = 0; i < c->net.n_credentials; i++)
		n += c->net.credentials[i].n_injects;
	c->injects = xcalloc(n + 1, sizeof(*c->injects));
	for (size_t i = 0; i < c->net.n_credentials; i++)
		if (in_force(c, c->net.credentials[i].phase) &&
			add_injects(c, &c->net.credentials[i], err) < 0)
			return -1;
	return add_oauths(c, err);
}

static int parse_endpoint(const char *text, struct config_resolve *to, struct err *err)
{
	const char *colon = strrchr(text, ':'), *from = text;
	size_t len;
	char *end;
	long port;

	if (!colon)
		return err_set(err, ERR_USER, "'%.80s' is not address:port", text);
	len = (size_t)(colon - text);
	if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
		from++;
		len -= 2;
	}
	port = strtol(colon + 1, &end, 10);
	if (colon[1] < '0' || colon[1] > '9' || *end || port < 1 || port > 65535)
		return err_set(err, ERR_USER, "'%.80s' has no valid port", text);
	to->port = (uint16_t)port;
	return policy_addr_parse(from, len, &to->addr, err);
}

static int add_resolves(struct config *c, struct err *err)
{
	c->resolves = xcalloc(c->net.n_resolves + 1, sizeof(*c->resolves));
	for (size_t i = 0; i < c->net.n_resolves; i++) {
		struct config_resolve *to = &c->resolves[c->n_resolves];

		to->name = c->net.resolves[i].name;
		if (parse_endpoint(c->net.resolves[i].address, to, err) < 0)
			return err_wrap(err, "resolve %s", to->name);
		c->n_resolves++;
	}
	return 0;
}

static int add_cas(struct config *c, struct err *err)
{
	c->cas = xcalloc(c->net.n_cas + 1, sizeof(*c->cas));
	for (size_t i = 0; i < c->net.n_cas; i++) {
		struct config_ca *to = &c->cas[c->n_cas];

		to->trust = tls_trust_new(c->net.cas[i].pem, err);
		if (!to->trust)
			return err_wrap(err, "certificates for %s", c->net.cas[i].target);
		c->n_cas++;
		if (policy_host_rule_parse(c->net.cas[i].target, &to->target, err) < 0)
			return -1;
	}
	return 0;
}

static int add_rules(struct config *c, struct err *err)
{
	for (size_t i = 0; i < c->net.n_rules; i++) {
		const struct spec_rule *r = &c->net.rules[i];
		struct policy *to = in_force(c, r->phase) ? &c->policy : &c->other;
		_free_ char *source = r->phase == SPEC_ALWAYS
					      ? xstrdup(r->source)
					      : xasprintf("%s, %s", r->source, spec_phase_name(r->phase));

		if (policy_add(to, r->target, r->allow, source, err) < 0)
			return -1;
	}
	return 0;
}

/* What installs says so; anything else is the sandbox as it is used. */
static int read_phase(struct config *c, const json_t *j, struct err *err)
{
	const char *phase = json_string_value(j);

	c->phase = SPEC_RUNTIME;
	if (!j || (phase && strcmp(phase, "runtime") == 0))
		return 0;
	if (!phase || strcmp(phase, "install") != 0)
		return err_set(err, ERR_PEER, "configure: phase is install or runtime");
	c->phase = SPEC_INSTALL;
	return 0;
}

static int read_json(struct config *c, const json_t *j, struct err *err)
{
	const char *op = json_string_value(json_object_get(j, "op"));
	const char *name = json_string_value(json_object_get(j, "name"));
	const json_t *network = json_object_get(j, "network"), *phase = json_object_get(j, "phase");

	if (!op || strcmp(op, "configure") != 0)
		return err_set(err, ERR_PEER, "unknown control request");
	if (!name || !spec_name_valid(name))
		return err_set(err, ERR_PEER, "configure: no valid sandbox name");
	if (!network || json_object_size(j) != (phase ? 4 : 3))
		return err_set(err, ERR_PEER, "configure: wants op, name, network, perhaps phase");
	if (read_phase(c, phase, err) < 0)
		return -1;
	c->box = xstrdup(name);
	if (spec_net_from_json(network, &c->net, err) < 0 || add_rules(c, err) < 0 ||
		add_credentials(c, err) < 0 || add_cas(c, err) < 0)
		return -1;
	return add_resolves(c, err);
}

struct config *config_parse(const char *line, size_t len, struct err *err)
{
	struct config *c = xcalloc(1, sizeof(*c));
	json_error_t jerr;
	json_t *j = json_loadb(line, len, JSON_REJECT_DUPLICATES, &jerr);
	int r;

	if (j)
		r = read_json(c, j, err);
	else
		r = err_set(err, ERR_PEER, "control request: %s", jerr.text);
	json_decref(j);
	if (r == 0)
		return c;
	config_free(c);
	return NULL;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->n_injects; i++)
		policy_rule_done(&c->injects[i].target);
	free(c->injects);
	for (size_t i = 0; i < c->n_cas; i++) {
		policy_rule_done(&c->cas[i].target);
		tls_trust_free(c->cas[i].trust);
	}
	free(c->cas);
	for (size_t i = 0; i < c->n_oauths; i++) {
		policy_rule_done(&c->oauths[i].endpoint);
		for (size_t k = 0; k < c->oauths[i].n_resources; k++)
			policy_rule_done(&c->oauths[i].resources[k]);
		free(c->oauths[i].resources);
	}
	free(c->oauths);
	free(c->resolves);
	policy_done(&c->policy);
	policy_done(&c->other);
	spec_net_done(&c->net);
	free(c->box);
	free(c);
}

bool config_wants_credential(const struct config *c, const char *name, uint16_t port)
{
	struct policy_query q = {.name = name, .port = port};

	for (size_t i = 0; i < c->n_injects; i++)
		if (policy_rule_matches(&c->injects[i].target, &q))
			return true;
	for (size_t i = 0; i < c->n_oauths; i++) {
		const struct config_oauth *o = &c->oauths[i];

		if (policy_rule_matches(&o->endpoint, &q))
			return true;
		for (size_t k = 0; k < o->n_resources; k++)
			if (policy_rule_matches(&o->resources[k], &q))
				return true;
	}
	return false;
}

const struct tls_trust *config_find_trust(const struct config *c, const char *name, uint16_t port)
{
	struct policy_query q = {.name = name, .port = port};

	for (size_t i = 0; i < c->n_cas; i++)
		if (policy_rule_matches(&c->cas[i].target, &q))
			return c->cas[i].trust;
	return NULL;
}

const struct config_inject *config_find_certificate(
	const struct config *c, const char *name, uint16_t port)
{
	struct policy_query q = {.name = name, .port = port};

	for (size_t i = 0; i < c->n_injects; i++)
		if (c->injects[i].inject->kind == SPEC_INJECT_CERTIFICATE &&
			policy_rule_matches(&c->injects[i].target, &q))
			return &c->injects[i];
	return NULL;
}

const struct config_resolve *config_find_resolve(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->n_resolves; i++)
		if (strcmp(c->resolves[i].name, name) == 0)
			return &c->resolves[i];
	return NULL;
}

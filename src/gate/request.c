/* SPDX-License-Identifier: Apache-2.0 */
/* One HTTP request, whichever version of HTTP carries it. */
#include "gate/request.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

static void on_values(struct values_set *s)
{
	flow_wake(container_of(s, struct request, values)->flow);
}

void request_begin(struct request *r, struct flow *f, const struct http1_head *h)
{
	r->flow = f;
	r->values = (struct values_set){.values = f->gate->values, .ready = on_values};
	r->open = true;
	r->started_ns = loop_now(f->gate->loop);
	r->form = h->form;
	snprintf(r->method, sizeof(r->method), "%.*s", (int)MIN(h->method.n, (size_t)31),
		h->method.p);
	http1_log_path(h, r->path, sizeof(r->path));
	if (h->form == HTTP1_ORIGIN || h->form == HTTP1_ABSOLUTE)
		policy_path_parse(h->path.p, h->path.n, &r->canon, &r->canon_err);
	else
		err_set(&r->canon_err, ERR_USER, "HTTP rules are about this, and it names no path");
}

void request_done(struct request *r)
{
	values_done(&r->values);
	inject_answer_done(&r->answer);
	policy_path_done(&r->canon);
	*r = (struct request){0};
}

void request_query(const struct request *r, struct policy_query *q)
{
	if (!r->open)
		return;
	q->method = r->method;
	q->path = r->canon.exact ? &r->canon : NULL;
}

/* ---- refusals ---- */

bool request_refuse(struct request_refusal *why, int status, const char *code, const char *reason,
	const char *remedy)
{
	snprintf(why->reason, sizeof(why->reason), "%s", reason);
	snprintf(why->remedy, sizeof(why->remedy), "%s", remedy ? remedy : "");
	why->r = (struct refusal){.status = status,
		.code = code,
		.reason = why->reason,
		.remedy = why->remedy[0] ? why->remedy : NULL};
	return false;
}

static bool refuse_policy(
	struct flow *f, const struct flow_decision *d, struct request_refusal *why)
{
	request_refuse(why, 403, "policy", d->reason, d->remedy);
	why->r.box = f->gate->config->box;
	/* The connection has been asked about at its begin. */
	if (d->ask[0])
		why->r.ask = f->allowed ? asks_note(f->gate->asks, d->ask)
					: asks_find(f->gate->asks, d->ask);
	if (d->rule[0]) {
		snprintf(why->rule, sizeof(why->rule), "%s (%s)", d->rule, d->source);
		why->r.rule = why->rule;
	}
	return false;
}

bool request_refuse_unreached(const struct flow *f, struct request_refusal *why)
{
	struct policy_query q = {.addr = &f->dial.peer, .port = f->port};
	char target[POLICY_TARGET_MAX], remedy[POLICY_TARGET_MAX + 80];

	if (f->dial_err.class != ERR_USER)
		return request_refuse(why, 502, "upstream", f->dial_err.msg, NULL);
	snprintf(remedy, sizeof(remedy), "hutch policy allow %s, if this is meant to be reached",
		policy_query_text(&q, target));
	return request_refuse(why, 403, "policy", f->dial_err.msg, remedy);
}

bool request_accepts_json(const struct http1_head *h)
{
	static const char json[] = "application/json";

	for (size_t i = 0; i < h->n_headers; i++) {
		struct http1_slice v = h->headers[i].value;

		if (!http1_slice_is_nocase(h->headers[i].name, "accept"))
			continue;
		for (size_t at = 0; at + sizeof(json) - 1 <= v.n; at++)
			if (strncasecmp(v.p + at, json, sizeof(json) - 1) == 0)
				return true;
	}
	return false;
}

/* ---- judgement ---- */

/* "" when the request's own words agree with the destination of the connection. */
static void check_identity(const struct flow *f, const struct http1_head *h, char *why, size_t size)
{
	why[0] = '\0';
	if (f->identity[0])
		snprintf(why, size, "%s", f->identity);
	else if (!h->has_host && (f->inspect || h->minor > 0))
		snprintf(why, size, "the request has no Host");
	else if (h->has_host && strcmp(h->host.name, f->name) != 0)
		snprintf(why, size, "the connection goes to %s, but the request is for host %s",
			f->name, h->host.name);
	else if (h->port && h->port != f->port)
		snprintf(why, size, "the connection goes to port %u, but the request is for %u",
			f->port, h->port);
	else if (h->https && !f->guest.tls)
		snprintf(why, size, "an https URL was requested over plain HTTP");
}

/* Rules about paths cannot be asked about this request. */
static bool is_ambiguous(const struct flow *f, const struct request *r)
{
	return f->ruled && !r->canon.exact && r->form != HTTP1_ASTERISK;
}

bool request_check(
	struct flow *f, struct request *r, const struct http1_head *h, struct request_refusal *why)
{
	struct flow_decision d;
	char contradiction[700];

	flow_decide(f, r, &d);
	f->ruled = d.inspect;
	if (is_ambiguous(f, r) && (d.allowed || !d.rule[0]))
		return request_refuse(why, 403, "policy", r->canon_err.msg, NULL);
	if (!d.allowed)
		return refuse_policy(f, &d, why);
	if (!f->allowed)
		return request_refuse(why, 403, "policy",
			"this has been allowed since the connection was opened", "connect again");
	if (h->form == HTTP1_AUTHORITY)
		return request_refuse(why, 403, "request",
			"CONNECT is not supported: connect to the destination itself, there is no "
			"proxy here",
			NULL);
	check_identity(f, h, contradiction, sizeof(contradiction));
	if (contradiction[0])
		return request_refuse(why, 403, "identity", contradiction, NULL);
	if (f->credential)
		inject_want(&r->values, f->gate->config, f->name, f->port);
	return true;
}

/* What was judged is what is sent: the path in the form that the rules saw, and no field with which
 * a server would take another method or path for the real one. */
static size_t pin_request(const struct flow *f, const struct request *r, struct http1_head *h,
	struct http1_edit *edits)
{
	static const char *const fields[REQUEST_OVERRIDES] = {"X-HTTP-Method-Override",
		"X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL"};

	if (!f->ruled && !f->credential)
		return 0;
	if (f->ruled && r->canon.exact)
		h->send_path = (struct http1_slice){r->canon.exact, strlen(r->canon.exact)};
	for (size_t i = 0; i < REQUEST_OVERRIDES; i++)
		edits[i] = (struct http1_edit){.name = fields[i]};
	return REQUEST_OVERRIDES;
}

static struct inject_request for_inject(struct flow *f, struct request *r)
{
	return (struct inject_request){.config = f->gate->config,
		.values = &r->values,
		.tokens = f->gate->tokens,
		.name = f->name,
		.port = f->port,
		.secure = f->up.tls && tls_ready(f->up.tls),
		.certified = f->certified,
		.path = r->canon.exact};
}

bool request_wants_body(struct flow *f, struct request *r, const struct http1_head *h)
{
	const struct inject_request q = for_inject(f, r);

	return f->credential && inject_wants_body(&q, h);
}

bool request_prepare(struct flow *f, struct request *r, struct http1_head *h, struct buf *body,
	struct request_changes *ret, struct request_refusal *why)
{
	const struct inject_request q = for_inject(f, r);
	struct inject *in = &ret->inject;
	struct err err;
	int got = 0;

	ret->n = 0;
	*in = (struct inject){0};
	if (is_ambiguous(f, r)) /* the rules have changed while the server was being connected */
		return request_refuse(why, 403, "policy", r->canon_err.msg, NULL);
	ret->n = pin_request(f, r, h, ret->edits);
	if (f->credential)
		got = inject_prepare(in, &q, h, body, &err);
	values_done(&r->values);
	if (got < 0)
		return request_refuse(why, 403, "credential", err.msg, err.hint);
	memcpy(ret->edits + ret->n, in->edits, in->n * sizeof(*in->edits));
	ret->n += in->n;
	r->answer = in->answer;
	in->answer = (struct inject_answer){0};
	snprintf(r->services, sizeof(r->services), "%s", in->services);
	return true;
}

void request_changes_done(struct request_changes *c)
{
	inject_done(&c->inject);
	c->n = 0;
}

/* ---- audit ---- */

void request_audit(struct flow *f, struct request *r, enum audit_verdict verdict, int status,
	const char *reason)
{
	struct flow_decision d;
	struct audit_record a;

	flow_decide(f, r, &d);
	flow_audit_fields(f, &d, &a);
	a.verdict = verdict;
	a.method = r->method[0] ? r->method : NULL;
	a.path = r->path[0] ? r->path : NULL;
	a.status = status;
	a.credential = r->services[0] ? r->services : NULL;
	a.bytes_up = r->bytes_up;
	a.bytes_down = r->bytes_down;
	a.ms = (loop_now(f->gate->loop) - (r->open ? r->started_ns : f->started_ns)) / 1000000;
	a.has_ttfb = r->answered_ns > 0;
	a.ttfb_ms = a.has_ttfb ? (r->answered_ns - r->started_ns) / 1000000 : 0;
	a.reason = reason;
	audit_write(f->gate->audit, &a);
	f->audited = true;
	r->open = false;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials on their way out. */
#include "gate/inject.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "gate/escape.h"
#include "gate/inject_int.h"
#include "gate/mask.h"
#include "gate/oauth.h"

/* A value of 64 KiB in Basic form, and what surrounds it. */
#define VALUE_MAX (2u * SECRET_VALUE_MAX)
/* A query whose new value is escaped. */
#define QUERY_MAX (HTTP1_LINE_MAX + 3u * SECRET_VALUE_MAX)

struct inject_text {
	struct inject_text *next;
	struct buf buf;
};

struct buf *inject_text(struct inject *in, size_t max)
{
	struct inject_text *t = xcalloc(1, sizeof(*t));

	buf_init(&t->buf, max);
	t->next = in->texts;
	in->texts = t;
	return &t->buf;
}

struct http1_slice inject_slice(const struct buf *b)
{
	return (struct http1_slice){buf_len(b) ? (const char *)buf_head(b) : "", buf_len(b)};
}

void inject_note(struct inject *in, const char *service)
{
	size_t used = strlen(in->services), n = strlen(service);

	for (const char *at = in->services; (at = strstr(at, service)) != NULL; at += n)
		if ((at == in->services || at[-1] == ' ') && (!at[n] || at[n] == ','))
			return;
	snprintf(in->services + used, sizeof(in->services) - used, "%s%s", used ? ", " : "",
		service);
}

void inject_mask(struct inject *in, const void *p, size_t n)
{
	if (!in->answer.mask)
		in->answer.mask = filter_new();
	mask_value(in->answer.mask, p, n);
}

void inject_mask_rest(struct inject *in)
{
	if (in->pair)
		inject_mask(in, buf_head(in->pair), buf_len(in->pair));
	in->pair = NULL;
}

void inject_mask_pair(struct inject *in, const struct buf *pair)
{
	inject_mask_rest(in);
	in->pair = pair;
}

/* All forms of a value. */
static const struct filter *forms_of(struct value *v)
{
	if (!v->mask) {
		v->mask = filter_new();
		mask_value(v->mask, secret_bytes(v->secret), secret_len(v->secret));
	}
	return v->mask;
}

/* Those of the pair that it was last part of, too. */
static const struct filter *forms_of_pair(struct value *v, const struct buf *pair)
{
	if (v->pair && secret_is(v->pair, buf_head(pair), buf_len(pair)))
		return v->pair_mask;
	secret_free(v->pair);
	filter_free(v->pair_mask);
	v->pair = secret_room(buf_len(pair));
	memcpy(secret_bytes(v->pair), buf_head(pair), buf_len(pair));
	v->pair_mask = filter_like(forms_of(v));
	mask_value(v->pair_mask, buf_head(pair), buf_len(pair));
	return v->pair_mask;
}

/* What is used of a value; made once for all requests that do the same with it. */
static void mask_used(struct inject *in, struct value *v)
{
	bool pair = in->pair && buf_len(in->pair);
	const struct filter *forms = pair ? forms_of_pair(v, in->pair) : forms_of(v);

	in->pair = NULL;
	if (in->answer.mask)
		filter_add_all(in->answer.mask, forms);
	else
		in->answer.mask = filter_like(forms);
}

static struct http1_edit *find_edit(struct inject *in, const char *header)
{
	for (size_t i = 0; i < in->n; i++)
		if (strcasecmp(in->edits[i].name, header) == 0)
			return &in->edits[i];
	return NULL;
}

int inject_edit(struct inject *in, const char *name, const struct buf *value, struct err *err)
{
	struct http1_edit *e = find_edit(in, name);

	if (!e && in->n == INJECT_MAX)
		return err_set(err, ERR_USER, "more than %d fields for one request", INJECT_MAX);
	if (!e)
		e = &in->edits[in->n++];
	*e = (struct http1_edit){.name = name};
	if (!value)
		return 0;
	if (value->failed ||
		!http1_header_valid(name, (const char *)buf_head(value), buf_len(value)))
		return err_set(err, ERR_USER,
			"the stored value cannot be sent in a header: it is too long or has line "
			"breaks or control characters in it");
	e->value = inject_slice(value).p;
	e->value_len = buf_len(value);
	return 0;
}

/* ---- kinds ---- */

int inject_basic(struct inject *in, const char *header, const char *username, struct secret *value,
	struct err *err)
{
	struct buf *out = inject_text(in, VALUE_MAX), *pair = inject_text(in, VALUE_MAX);

	if (username) {
		buf_puts(pair, username);
		buf_puts(pair, ":");
	}
	buf_put(pair, secret_bytes(value), secret_len(value));
	buf_puts(out, "Basic ");
	mask_base64(out, buf_head(pair), buf_len(pair));
	inject_mask_pair(in, pair);
	return inject_edit(in, header, out, err);
}

/* Where several credentials want one header, the first that has a value gets it. */
static int add_header(struct inject *in, const struct spec_inject *s, const struct http1_head *h,
	struct secret *value, bool *ret_used, struct err *err)
{
	const struct http1_edit *e = find_edit(in, s->header);
	const char *percent = strchr(s->format, '%');
	struct buf *out;

	if (e && e->value) {
		*ret_used = false;
		return 0;
	}
	for (size_t i = 0; !value && i < h->n_headers; i++)
		if (http1_slice_is_nocase(h->headers[i].name, s->header) &&
			inject_has_word(h->headers[i].value, INJECT_PLACEHOLDER))
			return inject_edit(in, s->header, NULL, err);
	if (!value)
		return 0;
	if (s->username)
		return inject_basic(in, s->header, s->username, value, err);
	out = inject_text(in, VALUE_MAX);
	/* config.c has checked: exactly one %s. */
	buf_put(out, s->format, (size_t)(percent - s->format));
	buf_put(out, secret_bytes(value), secret_len(value));
	buf_puts(out, percent + 2);
	return inject_edit(in, s->header, out, err);
}

static int add_query(struct inject *in, const struct spec_inject *s, struct http1_head *h,
	struct secret *value, struct err *err)
{
	struct http1_slice query = h->send_query.p ? h->send_query : h->query;
	struct buf *out;

	if (h->form != HTTP1_ORIGIN && h->form != HTTP1_ABSOLUTE)
		return 0;
	out = inject_text(in, QUERY_MAX);
	if (value)
		query_set(out, query, s->parameter, secret_bytes(value), secret_len(value));
	else
		query_drop(out, query, s->parameter, INJECT_PLACEHOLDER);
	if (out->failed)
		return err_set(err, ERR_USER, "the query is too long");
	h->send_query = inject_slice(out);
	return 0;
}

/* The login, unless the request has a token that the registry issued for it. */
static int add_registry(struct inject *in, const struct spec_inject *s, const struct http1_head *h,
	struct secret *value, bool *ret_used, struct err *err)
{
	const struct http1_header *auth = http1_find(h, "authorization");
	const char *p = secret_bytes(value), *colon = memchr(p, ':', secret_len(value));

	*ret_used = false;
	if (auth && (auth->value.n < 6 || strncasecmp(auth->value.p, "Basic ", 6) != 0))
		return 0;
	if (!s->username && !colon)
		return err_set(err, ERR_USER, "the stored value is not USER:PASSWORD");
	if (!s->username)
		inject_mask(in, colon + 1, secret_len(value) - (size_t)(colon + 1 - p));
	*ret_used = true;
	return inject_basic(in, "Authorization", s->username, value, err);
}

/* What a body's syntax is, by its head. */
static enum oauth_syntax body_syntax(const struct http1_head *h)
{
	const struct http1_header *type = http1_find(h, "content-type");

	return type ? oauth_syntax_of(type->value.p, type->value.n) : OAUTH_PLAIN;
}

static void add_placeholder(struct inject *in, const struct spec_inject *s, struct http1_head *h,
	struct secret *value, bool *ret_used)
{
	*ret_used = inject_replace(in, h, s->placeholder, value);
	if (!s->in_body || h->framing == HTTP1_NO_BODY)
		return;
	if (!in->body)
		in->body = filter_new();
	oauth_replace(in->body, s->placeholder, value, body_syntax(h));
	*ret_used = true; /* perhaps */
}

/* One place of a credential. @value: NULL when there is none. */
static int add_kind(struct inject *in, const struct spec_inject *s, struct http1_head *h,
	struct secret *value, bool *ret_used, struct err *err)
{
	*ret_used = value != NULL;
	switch (s->kind) {
	case SPEC_INJECT_HEADER:
		return add_header(in, s, h, value, ret_used, err);
	case SPEC_INJECT_QUERY:
		return add_query(in, s, h, value, err);
	case SPEC_INJECT_PLACEHOLDER:
		if (value)
			add_placeholder(in, s, h, value, ret_used);
		return 0;
	case SPEC_INJECT_REGISTRY:
		return value ? add_registry(in, s, h, value, ret_used, err) : 0;
	case SPEC_INJECT_AWS:
	case SPEC_INJECT_CERTIFICATE:
	case SPEC_INJECT_KINDS:
		break;
	}
	*ret_used = false;
	return 0;
}

static int get_value(const struct inject_request *q, const struct config_inject *ci,
	struct value **ret, struct err *err)
{
	const char *service = ci->credential->service;

	if (values_get(q->values, service, ret, err) < 0)
		return -1;
	if (*ret || !ci->credential->required)
		return 0;
	/* Its OAuth tokens may do. */
	if (ci->credential->n_oauth)
		return 0;
	err_set(err, ERR_USER, "no value is stored for credential %s", service);
	return err_hint(err, "hutch secret set %s", service);
}

static bool applies(const struct inject_request *q, const struct config_inject *ci)
{
	struct policy_query target = {.name = q->name, .port = q->port};

	return (q->secure || ci->inject->insecure) && policy_rule_matches(&ci->target, &target);
}

/* It belongs to the connection, which lasts; but not longer than the value. */
static int check_certificate(struct inject *in, const struct inject_request *q,
	const struct config_inject *ci, const struct value *value, struct err *err)
{
	if (!value && q->certified) {
		err_set(err, ERR_USER, "credential %s has been removed", ci->credential->service);
		return err_hint(err, "connect again");
	}
	if (q->certified)
		inject_note(in, ci->credential->service);
	return 0;
}

static int add(struct inject *in, const struct inject_request *q, const struct config_inject *ci,
	struct http1_head *h, struct err *err)
{
	struct value *value = NULL;
	bool used;

	if (get_value(q, ci, &value, err) < 0)
		return -1;
	if (ci->inject->kind == SPEC_INJECT_CERTIFICATE)
		return check_certificate(in, q, ci, value, err);
	if (add_kind(in, ci->inject, h, value ? value->secret : NULL, &used, err) < 0)
		return err_wrap(err, "credential %s", ci->credential->service);
	if (!used)
		return 0;
	mask_used(in, value);
	inject_note(in, ci->credential->service);
	return 0;
}

/* Of what is sent, so it comes last. */
static int add_signature(struct inject *in, const struct inject_request *q,
	const struct config_inject *ci, struct http1_head *h, const struct buf *body,
	struct err *err)
{
	struct value *value = NULL;

	if (get_value(q, ci, &value, err) < 0)
		return -1;
	if (value && inject_aws(in, h, body, value->secret, err) < 0)
		return err_wrap(err, "credential %s", ci->credential->service);
	if (value)
		inject_note(in, ci->credential->service);
	return 0;
}

/* Replace in a body that is whole. */
static int replace_body(struct inject *in, struct buf *body, struct err *err)
{
	struct buf out;

	if (!body || !in->body)
		return 0;
	buf_init(&out, 4 * INJECT_BODY_MAX);
	if (filter_feed(in->body, buf_head(body), buf_len(body), &out) < buf_len(body) ||
		!filter_flush(in->body, &out)) {
		buf_wipe(&out);
		return err_set(err, ERR_USER, "the request's body becomes too long");
	}
	buf_wipe(body);
	*body = out;
	filter_free(in->body);
	in->body = NULL;
	return 0;
}

/* Many credentials, with many characters that somebody escapes. */
static int check_masks(const struct inject *in, struct err *err)
{
	if (!in->answer.mask || !filter_is_over(in->answer.mask))
		return 0;
	return err_set(err, ERR_USER,
		"the request has credentials in too many forms for all of them to be kept out of "
		"the answer");
}

/* An answer can be searched only as it is. */
static int ask_for_plain(struct inject *in, struct err *err)
{
	struct buf *identity;

	if (!in->answer.mask && !in->answer.oauth[0])
		return 0;
	identity = inject_text(in, 16);
	buf_puts(identity, "identity");
	return inject_edit(in, "Accept-Encoding", identity, err);
}

/* ---- the whole ---- */

void inject_want(struct values_set *values, const struct config *c, const char *name, uint16_t port)
{
	struct policy_query q = {.name = name, .port = port};

	for (size_t i = 0; i < c->n_injects; i++)
		if (policy_rule_matches(&c->injects[i].target, &q))
			values_want(values, c->injects[i].credential->service);
}

bool inject_wants_body(const struct inject_request *q, const struct http1_head *h)
{
	if (h->framing == HTTP1_NO_BODY)
		return false;
	if (q->secure && inject_oauth_is_endpoint(q))
		return true;
	for (size_t i = 0; i < q->config->n_injects; i++) {
		const struct spec_inject *s = q->config->injects[i].inject;

		if (!applies(q, &q->config->injects[i]))
			continue;
		if (s->kind == SPEC_INJECT_AWS && inject_aws_wants_body(h))
			return true;
		if (s->kind == SPEC_INJECT_PLACEHOLDER && s->in_body &&
			h->framing == HTTP1_LENGTH && h->content_length <= INJECT_BODY_MAX)
			return true;
	}
	return false;
}

int inject_prepare(struct inject *ret, const struct inject_request *q, struct http1_head *h,
	struct buf *body, struct err *err)
{
	const struct config *c = q->config;

	*ret = (struct inject){0};
	for (size_t i = 0; i < c->n_injects; i++)
		if (applies(q, &c->injects[i]) && add(ret, q, &c->injects[i], h, err) < 0)
			return -1;
	if (q->secure && inject_oauth(ret, q, h, body, err) < 0)
		return -1;
	if (replace_body(ret, body, err) < 0 || ask_for_plain(ret, err) < 0)
		return -1;
	for (size_t i = 0; i < c->n_injects; i++)
		if (c->injects[i].inject->kind == SPEC_INJECT_AWS && applies(q, &c->injects[i]) &&
			add_signature(ret, q, &c->injects[i], h, body, err) < 0)
			return -1;
	return check_masks(ret, err) < 0 ? -1 : ask_for_plain(ret, err);
}

void inject_done(struct inject *in)
{
	struct inject_text *t;

	while ((t = in->texts)) {
		in->texts = t->next;
		buf_wipe(&t->buf);
		free(t);
	}
	filter_free(in->body);
	inject_answer_done(&in->answer);
	in->body = NULL;
	in->n = 0;
}

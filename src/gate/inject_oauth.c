/* SPDX-License-Identifier: Apache-2.0 */
/* OAuth in requests and answers: oauth.h's rewriting, and the store of tokens.
 *
 * The store holds one record for each account, named SERVICE, SERVICE.2 and so on, of all sandboxes
 * of the user. A refresh replaces its account's record. A login takes the first place that is free,
 * or whose tokens are good for nothing any more. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/mem.h"
#include "gate/inject_int.h"
#include "gate/oauth.h"
#include "secret/store.h"

/* ---- the store ---- */

static const char *record_name(const char *service, unsigned account, char *buf, size_t size)
{
	if (account <= 1)
		snprintf(buf, size, "%s", service);
	else
		snprintf(buf, size, "%s.%u", service, account);
	return buf;
}

/* Whether there is a record; *ret is to be released then. */
static bool load(int store, const char *service, unsigned account, struct oauth_tokens *ret)
{
	_secret_ struct secret *record = NULL;
	char name[96];

	record_name(service, account, name, sizeof(name));
	return store >= 0 && secret_store_get(store, name, &record, NULL) == 0 && record &&
	       oauth_record_read(record, ret, NULL) == 0;
}

static int save(int store, const char *service, unsigned account, const struct oauth_tokens *t,
	struct err *err)
{
	_secret_ struct secret *record = oauth_record_write(t, err);
	char name[96];

	record_name(service, account, name, sizeof(name));
	return record ? secret_store_set(store, name, record, err) : -1;
}

/* The place of a login. */
static unsigned free_account(int store, const char *service)
{
	for (unsigned a = 1; a < OAUTH_ACCOUNTS_MAX; a++) {
		struct oauth_tokens t;
		bool dead;

		if (!load(store, service, a, &t))
			return a;
		dead = !t.refresh && t.expires_at && t.expires_at < (uint64_t)time(NULL);
		oauth_tokens_done(&t);
		if (dead)
			return a;
	}
	return OAUTH_ACCOUNTS_MAX;
}

/* ---- requests ---- */

static bool is_host(const struct policy_rule *r, const struct inject_request *q)
{
	struct policy_query target = {.name = q->name, .port = q->port};

	return policy_rule_matches(r, &target);
}

/* The next byte of a path as the most lenient server would read it: no case, "\\" and an escaped
 * slash are slashes, several are one, and what stands behind ";" in a segment does not count. */
static char next_of_path(const char **at)
{
	const char *s = *at;
	bool slash = false;

	for (;; slash = true) {
		if (*s == ';')
			s += strcspn(s, "/");
		if (*s == '/' || *s == '\\')
			s++;
		else if (strncasecmp(s, "%2f", 3) == 0 || strncasecmp(s, "%5c", 3) == 0)
			s += 3;
		else
			break;
	}
	if (slash) {
		*at = s;
		return *s ? '/' : '\0'; /* one at the end does not count either */
	}
	*at = *s ? s + 1 : s;
	return (char)(*s >= 'A' && *s <= 'Z' ? *s | 0x20 : *s);
}

/* @path is the endpoint, for some server at least. */
static bool is_path(const char *path, const char *endpoint)
{
	for (;;) {
		char a = next_of_path(&path), b = next_of_path(&endpoint);

		if (a != b)
			return false;
		if (!a)
			return true;
	}
}

bool inject_oauth_is_endpoint(const struct inject_request *q)
{
	for (size_t i = 0; i < q->config->n_oauths; i++) {
		const struct config_oauth *o = &q->config->oauths[i];

		if (is_host(&o->endpoint, q) && q->path && is_path(q->path, o->oauth->path))
			return true;
	}
	return false;
}

/* Let the body's sentinels of an account become tokens. */
static void put_tokens(struct inject *in, const struct inject_request *q,
	const struct config_oauth *o, unsigned account, enum oauth_syntax syntax)
{
	char sentinel[OAUTH_SENTINEL_MAX];
	struct oauth_tokens t;

	if (!load(q->tokens, o->credential->service, account, &t))
		return;
	if (!in->body)
		in->body = filter_new();
	oauth_sentinel(o->oauth->access_sentinel, account, sentinel, sizeof(sentinel));
	oauth_replace(in->body, sentinel, t.access, syntax);
	inject_mask(in, secret_bytes(t.access), secret_len(t.access));
	if (t.refresh) {
		oauth_sentinel(o->oauth->refresh_sentinel, account, sentinel, sizeof(sentinel));
		oauth_replace(in->body, sentinel, t.refresh, syntax);
		inject_mask(in, secret_bytes(t.refresh), secret_len(t.refresh));
	}
	if (account == in->answer.account)
		in->answer.refresh = steal_ptr(&t.refresh);
	oauth_tokens_done(&t);
}

static void to_endpoint(struct inject *in, const struct inject_request *q,
	const struct config_oauth *o, struct http1_head *h, const struct buf *body)
{
	const struct http1_header *type = http1_find(h, "content-type");
	enum oauth_syntax syntax =
		type ? oauth_syntax_of(type->value.p, type->value.n) : OAUTH_PLAIN;

	snprintf(in->answer.oauth, sizeof(in->answer.oauth), "%s", o->credential->service);
	/* With a query nobody knows which of the two the server takes. */
	if (body && h->query.n == 0)
		in->answer.account = oauth_renews(buf_head(body), buf_len(body), syntax,
			o->oauth->refresh_sentinel, o->oauth->refresh_name);
	for (unsigned a = 1; body && a <= OAUTH_ACCOUNTS_MAX; a++)
		put_tokens(in, q, o, a, syntax);
	/* No other spelling of it. */
	h->send_path = (struct http1_slice){o->oauth->path, strlen(o->oauth->path)};
	inject_note(in, o->credential->service);
}

static void to_resource(struct inject *in, const struct inject_request *q,
	const struct config_oauth *o, struct http1_head *h)
{
	char sentinel[OAUTH_SENTINEL_MAX];

	/* "-2" before what it begins with. */
	for (unsigned a = OAUTH_ACCOUNTS_MAX; a > 0; a--) {
		const struct http1_header *auth = http1_find(h, "authorization");
		struct oauth_tokens t;

		oauth_sentinel(o->oauth->access_sentinel, a, sentinel, sizeof(sentinel));
		if (!auth || !inject_has_word(auth->value, sentinel) ||
			!load(q->tokens, o->credential->service, a, &t))
			continue;
		if (inject_replace_field(in, h, "authorization", sentinel, t.access)) {
			inject_mask(in, secret_bytes(t.access), secret_len(t.access));
			inject_note(in, o->credential->service);
		}
		oauth_tokens_done(&t);
		return;
	}
}

int inject_oauth(struct inject *in, const struct inject_request *q, struct http1_head *h,
	const struct buf *body, struct err *err)
{
	for (size_t i = 0; i < q->config->n_oauths; i++) {
		const struct config_oauth *o = &q->config->oauths[i];

		if (is_host(&o->endpoint, q) && !q->path && h->form != HTTP1_ASTERISK)
			return err_set(err, ERR_USER,
				"tokens of %s are issued on this host, and where this request "
				"goes is ambiguous",
				o->credential->service);
		if (is_host(&o->endpoint, q) && q->path && is_path(q->path, o->oauth->path))
			to_endpoint(in, q, o, h, body);
		for (size_t k = 0; k < o->n_resources; k++) {
			if (is_host(&o->resources[k], q)) {
				to_resource(in, q, o, h);
				break;
			}
		}
	}
	return 0;
}

/* ---- answers ---- */

static const struct config_oauth *find(const struct config *c, const char *service)
{
	for (size_t i = 0; i < c->n_oauths; i++)
		if (strcmp(c->oauths[i].credential->service, service) == 0)
			return &c->oauths[i];
	return NULL;
}

/* The account is of no use any more, unless somebody else has refreshed it meanwhile. */
static void forget(const struct inject_answer *a, int tokens)
{
	struct oauth_tokens t;
	char name[96];
	bool existed;

	if (!a->account || !a->refresh || !load(tokens, a->oauth, a->account, &t))
		return;
	if (t.refresh && secret_equal(t.refresh, a->refresh))
		secret_store_remove(tokens, record_name(a->oauth, a->account, name, sizeof(name)),
			&existed, NULL);
	oauth_tokens_done(&t);
}

/* What an answer leaves out stays as it was. */
static void complete(struct oauth_tokens *t, int tokens, const char *service, unsigned account)
{
	struct oauth_tokens old;

	if ((t->access && t->refresh) || !load(tokens, service, account, &old))
		return;
	if (!t->access)
		t->access = steal_ptr(&old.access);
	if (!t->refresh)
		t->refresh = steal_ptr(&old.refresh);
	oauth_tokens_done(&old);
}

static int keep(const struct inject_answer *a, const struct config_oauth *o, int tokens,
	struct buf *body, struct err *err)
{
	const struct spec_oauth *s = o->oauth;
	const struct oauth_names names = {
		s->access_name, s->refresh_name, s->expires_name, s->scope_name};
	unsigned account = a->account ? a->account : free_account(tokens, a->oauth);
	char access[OAUTH_SENTINEL_MAX], refresh[OAUTH_SENTINEL_MAX];
	struct oauth_tokens t;
	struct buf out;
	int r;

	buf_init(&out, 2 * OAUTH_BODY_MAX);
	r = oauth_rewrite(buf_head(body), buf_len(body), &names,
		oauth_sentinel(s->access_sentinel, account, access, sizeof(access)),
		oauth_sentinel(s->refresh_sentinel, account, refresh, sizeof(refresh)),
		(uint64_t)time(NULL), &t, &out, err);
	if (r == 1) {
		if (a->account)
			complete(&t, tokens, a->oauth, account);
		if (!t.access)
			r = err_set(
				err, ERR_PEER, "the token endpoint's answer has no access token");
		else if (tokens < 0)
			r = err_set(err, ERR_ENV, "there is no store for tokens");
		else if (save(tokens, a->oauth, account, &t, err) < 0)
			r = -1;
		oauth_tokens_done(&t);
	}
	if (r == 1) {
		buf_wipe(body);
		*body = out;
		return 0;
	}
	buf_wipe(&out);
	return r;
}

int inject_answer_body(const struct inject_answer *a, const struct config *c, int tokens,
	unsigned status, struct buf *body, struct err *err)
{
	const struct config_oauth *o = find(c, a->oauth);

	if (!o)
		return err_set(err, ERR_USER, "credential %s has been taken away", a->oauth);
	if (status / 100 == 2 && buf_len(body) > 0) {
		if (keep(a, o, tokens, body, err) < 0)
			return err_wrap(err, "credential %s", a->oauth);
	} else if (oauth_is_invalid_grant(buf_head(body), buf_len(body))) {
		forget(a, tokens);
	}
	if (a->mask)
		filter_in_place(a->mask, buf_head(body), buf_len(body));
	return 0;
}

bool inject_answer_is_whole(const struct inject_answer *a, const struct http1_head *h)
{
	return a->oauth[0] && h->status >= 200 && h->framing != HTTP1_NO_BODY;
}

/* It points into bytes of ours. */
static void mask_slice(struct filter *f, struct http1_slice s)
{
	filter_in_place(f, (char *)(uintptr_t)s.p, s.n);
}

static bool is_encoded(const struct http1_head *h)
{
	for (size_t i = 0; i < h->n_headers; i++)
		if (http1_slice_is_nocase(h->headers[i].name, "content-encoding") &&
			!http1_slice_is_nocase(h->headers[i].value, "identity"))
			return true;
	return false;
}

int inject_answer_head(const struct inject_answer *a, struct http1_head *h, struct err *err)
{
	if (!a->mask && !a->oauth[0])
		return 0;
	if (h->framing != HTTP1_NO_BODY && is_encoded(h))
		return err_set(err, ERR_PEER,
			"its answer is compressed although it was asked for a plain one: it cannot "
			"be searched for the credential that was sent");
	if (!a->mask)
		return 0;
	mask_slice(a->mask, h->reason);
	for (size_t i = 0; i < h->n_headers; i++) {
		mask_slice(a->mask, h->headers[i].name);
		mask_slice(a->mask, h->headers[i].value);
	}
	return 0;
}

void inject_answer_done(struct inject_answer *a)
{
	filter_free(a->mask);
	secret_free(a->refresh);
	*a = (struct inject_answer){0};
}

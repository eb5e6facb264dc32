/* SPDX-License-Identifier: Apache-2.0 */
/* OAuth tokens: RFC 6749 sections 5 and 6, in JSON. */
#include "gate/oauth.h"

#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <jansson.h>

#include "base/mem.h"
#include "gate/escape.h"

#define NAME_MAX_LEN 128u
#define LIFETIME_MAX (10ull * 366 * 86400)

static void free_wiped(void *p)
{
	if (p)
		mem_wipe(p, malloc_usable_size(p));
	free(p);
}

void oauth_wipe_json(void)
{
	json_set_alloc_funcs(malloc, free_wiped);
}

void oauth_tokens_done(struct oauth_tokens *t)
{
	secret_free(t->access);
	secret_free(t->refresh);
	free(t->scope);
	*t = (struct oauth_tokens){0};
}

/* ---- the record ---- */

/* A member that is a token. NULL when there is none, or with @err when it is no token. */
static struct secret *read_token(const json_t *v, struct err *err)
{
	if (!json_is_string(v) || json_string_length(v) == 0)
		return NULL;
	for (size_t i = 0; i < json_string_length(v); i++) {
		uint8_t c = (uint8_t)json_string_value(v)[i];

		if (c <= ' ' || c == 0x7f) {
			err_set(err, ERR_PEER, "a token has blanks or control characters in it");
			return NULL;
		}
	}
	return secret_new(json_string_value(v), json_string_length(v), err);
}

int oauth_record_read(struct secret *record, struct oauth_tokens *ret, struct err *err)
{
	json_t *j = json_loadb(secret_bytes(record), secret_len(record), 0, NULL);
	const char *scope = json_string_value(json_object_get(j, "scope"));
	json_int_t expires = json_integer_value(json_object_get(j, "expires_at"));
	int result = 0;

	*ret = (struct oauth_tokens){.expires_at = expires > 0 ? (uint64_t)expires : 0};
	ret->access = read_token(json_object_get(j, "access_token"), NULL);
	ret->refresh = read_token(json_object_get(j, "refresh_token"), NULL);
	ret->scope = scope ? xstrdup(scope) : NULL;
	if (!ret->access) {
		oauth_tokens_done(ret);
		result = err_set(err, ERR_ENV, "the stored OAuth tokens cannot be read");
	}
	json_decref(j);
	return result;
}

static json_t *token_string(struct secret *s)
{
	return s ? json_stringn(secret_bytes(s), secret_len(s)) : NULL;
}

struct secret *oauth_record_write(const struct oauth_tokens *t, struct err *err)
{
	json_t *j = json_object();
	struct secret *record = NULL;
	char *text;

	json_object_set_new(j, "access_token", token_string(t->access));
	if (t->refresh)
		json_object_set_new(j, "refresh_token", token_string(t->refresh));
	if (t->expires_at)
		json_object_set_new(j, "expires_at", json_integer((json_int_t)t->expires_at));
	if (t->scope)
		json_object_set_new(j, "scope", json_string(t->scope));
	text = json_dumps(j, JSON_COMPACT);
	json_decref(j);
	if (!text) {
		err_set(err, ERR_PEER, "the tokens cannot be written as JSON");
		return NULL;
	}
	record = secret_new(text, strlen(text), err);
	free_wiped(text);
	return record;
}

/* ---- sentinels ---- */

const char *oauth_sentinel(const char *sentinel, unsigned account, char *buf, size_t size)
{
	if (account <= 1)
		snprintf(buf, size, "%s", sentinel);
	else
		snprintf(buf, size, "%s-%u", sentinel, account);
	return buf;
}

enum oauth_syntax oauth_syntax_of(const char *content_type, size_t len)
{
	static const char form[] = "application/x-www-form-urlencoded";
	size_t end = 0;

	while (end < len && content_type[end] != ';' && content_type[end] != ' ')
		end++;
	if (end == sizeof(form) - 1 && strncasecmp(content_type, form, end) == 0)
		return OAUTH_FORM;
	if (end >= 4 && strncasecmp(content_type + end - 4, "json", 4) == 0)
		return OAUTH_JSON;
	return OAUTH_PLAIN;
}

static void put_as(struct buf *b, const char *p, size_t n, enum oauth_syntax syntax)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t c = (uint8_t)p[i];

		if (syntax == OAUTH_FORM) {
			escape_put(b, &c, 1);
			continue;
		}
		if (syntax == OAUTH_JSON && (c == '"' || c == '\\'))
			buf_puts(b, "\\");
		buf_put_u8(b, c);
	}
}

void oauth_replace(
	struct filter *f, const char *sentinel, struct secret *token, enum oauth_syntax syntax)
{
	struct buf find, with;

	buf_init(&find, FILTER_MAX);
	buf_init(&with, FILTER_MAX);
	put_as(&find, sentinel, strlen(sentinel), syntax);
	put_as(&with, secret_bytes(token), secret_len(token), syntax);
	if (!find.failed && !with.failed) {
		filter_add(f, buf_head(&find), buf_len(&find), buf_head(&with), buf_len(&with));
		filter_add(f, sentinel, strlen(sentinel), buf_head(&with), buf_len(&with));
	}
	buf_done(&find);
	buf_wipe(&with);
}

/* ---- the request ---- */

/* What of a request says that it renews tokens (RFC 6749, section 6). */
struct renewal {
	const char *sentinel, *name;
	unsigned account; /* whose sentinel the token is, or 0 */
	unsigned n;       /* tokens that are to be renewed */
	bool other;       /* it is for something else, or cannot be told */
};

static bool is_param(struct http1_slice key, const char *name)
{
	return http1_slice_is_nocase(key, "refresh_token") || http1_slice_is_nocase(key, name);
}

static void see(struct renewal *r, struct http1_slice key, struct http1_slice value,
	bool (*is)(struct http1_slice s, const char *text))
{
	char one[OAUTH_SENTINEL_MAX];

	if (http1_slice_is_nocase(key, "grant_type"))
		r->other |= !is(value, "refresh_token");
	if (!is_param(key, r->name))
		return;
	r->n++;
	for (unsigned a = 1; a <= OAUTH_ACCOUNTS_MAX; a++)
		if (is(value, oauth_sentinel(r->sentinel, a, one, sizeof(one))))
			r->account = a;
}

/* Names that some servers read as others are not for us to guess. */
static bool is_plain_name(struct http1_slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!escape_is_unreserved((uint8_t)s.p[i]) || s.p[i] == '.' || s.p[i] == '~')
			return false;
	return true;
}

static void see_form(struct renewal *r, const void *body, size_t len)
{
	struct http1_slice rest = {body, len}, key, value;

	while (query_next(&rest, &key, &value)) {
		r->other |= !is_plain_name(key);
		see(r, key, value, query_is);
	}
}

static void see_json(struct renewal *r, const void *body, size_t len)
{
	json_t *j = json_loadb(body, len, JSON_REJECT_DUPLICATES, NULL), *v;
	const char *key;

	r->other |= !json_is_object(j);
	json_object_foreach(j, key, v)
	{
		const char *text = json_is_string(v) ? json_string_value(v) : "";

		see(r, (struct http1_slice){key, strlen(key)},
			(struct http1_slice){text, strlen(text)}, http1_slice_is);
	}
	json_decref(j);
}

unsigned oauth_renews(const void *body, size_t len, enum oauth_syntax syntax, const char *sentinel,
	const char *name)
{
	const char *dot = name ? strrchr(name, '.') : NULL;
	struct renewal r = {.sentinel = sentinel,
		.name = dot ? dot + 1 : name ? name : "refresh_token",
		.other = syntax == OAUTH_PLAIN};

	if (syntax == OAUTH_FORM)
		see_form(&r, body, len);
	else if (syntax == OAUTH_JSON)
		see_json(&r, body, len);
	return r.other || r.n != 1 ? 0 : r.account;
}

/* ---- the answer ---- */

/* The object that holds @path's last member, and the member's name. NULL without one; jansson looks at
 * the name all the same. */
static json_t *find_holder(json_t *j, const char *path, char name[static NAME_MAX_LEN])
{
	for (const char *dot = strchr(path, '.'); j; dot = strchr(path, '.')) {
		size_t n = dot ? (size_t)(dot - path) : strlen(path);

		if (n >= NAME_MAX_LEN)
			return NULL;
		memcpy(name, path, n);
		name[n] = '\0';
		if (!dot)
			return j;
		j = json_object_get(j, name);
		path = dot + 1;
	}
	return NULL;
}

static json_t *find(json_t *j, const char *path)
{
	char name[NAME_MAX_LEN] = "";

	return json_object_get(find_holder(j, path, name), name);
}

static void set(json_t *j, const char *path, const char *sentinel)
{
	char name[NAME_MAX_LEN] = "";

	json_object_set_new(find_holder(j, path, name), name, json_string(sentinel));
}

static uint64_t lifetime(const json_t *v)
{
	double seconds =
		json_is_string(v) ? strtod(json_string_value(v), NULL) : json_number_value(v);

	return seconds > 0 && seconds <= (double)LIFETIME_MAX ? (uint64_t)seconds : 0;
}

/* header.claims.signature: readable, but no proof of anything to anybody. */
static void blank_id_token(json_t *j)
{
	const char *token = json_string_value(json_object_get(j, "id_token"));
	const char *dot = token ? strrchr(token, '.') : NULL;
	_free_ char *blanked = NULL;

	if (!token)
		return;
	blanked = xasprintf("%.*s.proxy-managed", dot ? (int)(dot - token) : 0, token);
	json_object_set_new(j, "id_token", json_string(blanked));
}

/* The text with the tokens replaced. A new reference, or NULL. */
static json_t *replace_text(struct filter *f, const char *text, size_t len)
{
	struct buf out;
	json_t *j = NULL;

	buf_init(&out, 2 * OAUTH_BODY_MAX);
	filter_reset(f);
	if (filter_feed(f, text, len, &out) == len && filter_flush(f, &out))
		j = json_stringn(buf_len(&out) ? (const char *)buf_head(&out) : "", buf_len(&out));
	buf_wipe(&out);
	return j;
}

/* The tokens may stand in other members as well, and in their names. A new reference, or NULL. */
static json_t *replace_all(struct filter *f, json_t *j)
{
	json_t *copy, *v;
	const char *key;
	size_t i;
	int r = 0;

	if (json_is_string(j))
		return replace_text(f, json_string_value(j), json_string_length(j));
	if (!json_is_array(j) && !json_is_object(j))
		return json_incref(j);
	copy = json_is_array(j) ? json_array() : json_object();
	json_array_foreach(j, i, v)
	{
		r |= json_array_append_new(copy, replace_all(f, v));
	}
	json_object_foreach(j, key, v)
	{
		json_t *name = replace_text(f, key, strlen(key));

		r |= name ? json_object_set_new(copy, json_string_value(name), replace_all(f, v))
			  : -1;
		json_decref(name);
	}
	if (r == 0)
		return copy;
	json_decref(copy);
	return NULL;
}

static void put_without_tokens(json_t *j, const struct oauth_tokens *t, const char *access,
	const char *refresh, struct buf *out)
{
	struct filter *f = filter_new();
	json_t *copy;
	char *text;

	if (t->access)
		filter_add(
			f, secret_bytes(t->access), secret_len(t->access), access, strlen(access));
	if (t->refresh)
		filter_add(f, secret_bytes(t->refresh), secret_len(t->refresh), refresh,
			strlen(refresh));
	copy = replace_all(f, j);
	text = copy ? json_dumps(copy, JSON_COMPACT) : NULL;
	if (!text || buf_puts(out, text) < 0)
		out->failed = true;
	json_decref(copy);
	filter_free(f);
	free_wiped(text);
}

int oauth_rewrite(const void *body, size_t len, const struct oauth_names *names,
	const char *access_sentinel, const char *refresh_sentinel, uint64_t now,
	struct oauth_tokens *ret, struct buf *out, struct err *err)
{
	const char *access = names->access ? names->access : "access_token";
	const char *refresh = names->refresh ? names->refresh : "refresh_token";
	const char *expires_in = names->expires_in ? names->expires_in : "expires_in";
	json_t *j = json_loadb(body, len, JSON_REJECT_DUPLICATES, NULL);
	const char *scope = json_string_value(find(j, names->scope ? names->scope : "scope"));
	struct err why = {0};

	*ret = (struct oauth_tokens){0};
	if (!json_is_object(j)) {
		json_decref(j);
		return err_set(err, ERR_PEER, "the token endpoint's answer is no JSON object");
	}
	ret->access = read_token(find(j, access), &why);
	ret->refresh = read_token(find(j, refresh), &why);
	if (!ret->access && !ret->refresh && !why.class) {
		json_decref(j);
		return 0;
	}
	ret->expires_at = lifetime(find(j, expires_in));
	ret->expires_at += ret->expires_at ? now : 0;
	ret->scope = scope ? xstrdup(scope) : NULL;
	if (ret->access)
		set(j, access, access_sentinel);
	if (ret->refresh)
		set(j, refresh, refresh_sentinel);
	blank_id_token(j);
	put_without_tokens(j, ret, access_sentinel, refresh_sentinel, out);
	json_decref(j);
	if (!why.class && !out->failed)
		return 1;
	oauth_tokens_done(ret);
	return err_set(err, ERR_PEER, "the token endpoint's answer cannot be rewritten%s%s",
		why.class ? ": " : "", why.msg);
}

bool oauth_is_invalid_grant(const void *body, size_t len)
{
	json_t *j = json_loadb(body, len, 0, NULL);
	const json_t *e = json_object_get(j, "error");
	bool result;

	/* Some put it one level down. */
	if (json_is_object(e))
		e = json_object_get(e, "type");
	result = json_is_string(e) && strcmp(json_string_value(e), "invalid_grant") == 0;
	json_decref(j);
	return result;
}

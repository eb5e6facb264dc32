/* SPDX-License-Identifier: Apache-2.0 */
/* AWS Signature Version 4.
 *
 * "Signature Version 4 signing process" of AWS's General Reference: canonical request, string to
 * sign, signing key, signature. S3 encodes the path once, every other service twice. Fields that
 * this proxy rewrites are left out of the signature: the server insists on host and x-amz-* only.
 */
#include "gate/sigv4.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include "base/mem.h"
#include "gate/escape.h"

#define ALGORITHM   "AWS4-HMAC-SHA256"
#define TERMINATOR  "aws4_request"
#define TOKEN_FIELD "x-amz-security-token"
#define TEXT_MAX    (4u * HTTP1_HEAD_MAX) /* a canonical request: percent-encoding triples */
#define PARAMS_MAX  256

static bool is_text(struct http1_slice s, const char *text)
{
	return http1_slice_is(s, text);
}

static bool is_in(struct http1_slice name, const char *const *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (http1_slice_is_nocase(name, list[i]))
			return true;
	return false;
}

static bool starts(struct http1_slice s, const char *text)
{
	return s.n >= strlen(text) && memcmp(s.p, text, strlen(text)) == 0;
}

static struct http1_slice trim(struct http1_slice s)
{
	for (; s.n && (*s.p == ' ' || *s.p == '\t'); s.p++, s.n--)
		;
	for (; s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'); s.n--)
		;
	return s;
}

/* The part before @c (all of it without one); moves @rest behind it. */
static struct http1_slice cut(struct http1_slice *rest, char c)
{
	const char *at = rest->n ? memchr(rest->p, c, rest->n) : NULL;
	struct http1_slice s = {rest->p, at ? (size_t)(at - rest->p) : rest->n};
	size_t skip = at ? s.n + 1 : s.n;

	rest->p += skip;
	rest->n -= skip;
	return s;
}

static const struct http1_header *field(const struct sigv4_request *r, const char *name)
{
	for (size_t i = 0; i < r->n_headers; i++)
		if (http1_slice_is_nocase(r->headers[i].name, name))
			return &r->headers[i];
	return NULL;
}

/* ---- percent-encoding ---- */

/* Escapes in one spelling. @plus: a plus sign is a blank. */
static void put_recoded(struct buf *b, struct http1_slice s, bool keep_slash, bool plus)
{
	for (size_t i = 0; i < s.n; i++) {
		int c = escape_at(s, i);

		if (c >= 0)
			i += 2; /* an escaped slash stays one */
		else if (s.p[i] == '/' && keep_slash)
			c = -1;
		else
			c = s.p[i] == '+' && plus ? ' ' : (uint8_t)s.p[i];
		if (c < 0)
			buf_puts(b, "/");
		else
			escape_put(b, &(uint8_t){(uint8_t)c}, 1);
	}
}

/* The decoded form of a parameter's value, where it has to be read. Cut at @size. */
static void decode(struct http1_slice s, char *ret, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n && n + 1 < size; i++) {
		int c = escape_at(s, i);

		ret[n++] = c >= 0 ? (char)c : s.p[i];
		i += c >= 0 ? 2 : 0;
	}
	ret[n] = '\0';
}

/* ---- what the guest's signature says ---- */

static int bad(struct err *err, const char *why)
{
	return err_set(err, ERR_USER, "AWS signature: %s", why);
}

static bool is_name(struct http1_slice s, size_t size)
{
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			    c == '-' || c == '_' || c == '.'))
			return false;
	}
	return s.n > 0 && s.n < size;
}

/* KEY/DATE/REGION/SERVICE/aws4_request */
static int read_scope(struct http1_slice credential, struct sigv4 *ret, struct err *err)
{
	struct http1_slice rest = credential, date, region, service;

	cut(&rest, '/'); /* the placeholder */
	date = cut(&rest, '/');
	region = cut(&rest, '/');
	service = cut(&rest, '/');
	if (date.n != 8 || memcmp(date.p, ret->time, 8) != 0)
		return bad(err, "the date of its scope differs from X-Amz-Date");
	if (!is_name(region, sizeof(ret->region)) || !is_name(service, sizeof(ret->service)) ||
		!is_text(rest, TERMINATOR))
		return bad(err, "its credential scope cannot be read");
	memcpy(ret->region, region.p, region.n);
	memcpy(ret->service, service.p, service.n);
	return 0;
}

static int read_time(struct http1_slice s, struct sigv4 *ret, struct err *err)
{
	if (s.n != 16 || s.p[8] != 'T' || s.p[15] != 'Z')
		return bad(err, "X-Amz-Date is missing, or not like 20150830T123600Z");
	for (size_t i = 0; i < 15; i++)
		if (i != 8 && (s.p[i] < '0' || s.p[i] > '9'))
			return bad(err, "X-Amz-Date is not like 20150830T123600Z");
	memcpy(ret->time, s.p, 16);
	ret->time[16] = '\0';
	return 0;
}

/* Fields that are rewritten on the way, or never signed. */
static bool is_unsigned(struct http1_slice name)
{
	static const char *const never[] = {"accept-encoding", "authorization", "connection",
		"expect", "keep-alive", "te", "transfer-encoding", "upgrade", "user-agent",
		TOKEN_FIELD};

	return is_in(name, never, ARRAY_SIZE(never));
}

static int read_names(struct http1_slice rest, struct sigv4 *ret, struct err *err)
{
	while (rest.n) {
		struct http1_slice name = cut(&rest, ';');

		if (!name.n || is_unsigned(name) || http1_slice_is_nocase(name, "host"))
			continue;
		if (ret->n_signed == SIGV4_SIGNED_MAX - 2) /* room for host and the token */
			return bad(err, "too many signed fields");
		ret->signed_names[ret->n_signed++] = name;
	}
	return 0;
}

static int read_authorization(
	const struct sigv4_request *r, struct http1_slice rest, struct sigv4 *ret, struct err *err)
{
	const struct http1_header *date = field(r, "x-amz-date");
	struct http1_slice credential = {0}, names = {0};

	if (read_time(date ? trim(date->value) : (struct http1_slice){0}, ret, err) < 0)
		return -1;
	while (rest.n) {
		struct http1_slice part = trim(cut(&rest, ',')), name = cut(&part, '=');

		if (is_text(name, "Credential"))
			credential = part;
		else if (is_text(name, "SignedHeaders"))
			names = part;
	}
	if (!credential.n || !names.n)
		return bad(err, "Authorization has no Credential or no SignedHeaders");
	ret->form = SIGV4_HEADER;
	return read_scope(credential, ret, err) < 0 ? -1 : read_names(names, ret, err);
}

/* The value of the query's parameter. False when it is not there, or more than once. */
static bool parameter(const struct sigv4_request *r, const char *name, struct http1_slice *ret)
{
	struct http1_slice rest = r->query, key, value;
	unsigned found = 0;

	while (query_next(&rest, &key, &value)) {
		if (query_is(key, name)) {
			*ret = value;
			found++;
		}
	}
	return found == 1;
}

/* Names joined by ";", which is escaped in a query. */
static int read_escaped_names(struct http1_slice rest, struct sigv4 *ret, struct err *err)
{
	size_t at = 0;

	for (size_t i = 0; i + 3 <= rest.n; i++) {
		if (strncasecmp(rest.p + i, "%3b", 3) != 0)
			continue;
		if (read_names((struct http1_slice){rest.p + at, i - at}, ret, err) < 0)
			return -1;
		at = i + 3;
	}
	return read_names((struct http1_slice){rest.p + at, rest.n - at}, ret, err);
}

static int read_query(const struct sigv4_request *r, struct sigv4 *ret, struct err *err)
{
	struct http1_slice credential = {0}, date = {0}, names = {0};
	char scope[256];

	if (!parameter(r, "X-Amz-Credential", &credential) || !parameter(r, "X-Amz-Date", &date) ||
		!parameter(r, "X-Amz-SignedHeaders", &names))
		return bad(err, "the presigned URL has not exactly one X-Amz-Credential, "
				"X-Amz-Date and X-Amz-SignedHeaders");
	if (read_time(date, ret, err) < 0)
		return -1;
	decode(credential, scope, sizeof(scope));
	ret->form = SIGV4_QUERY;
	if (read_scope((struct http1_slice){scope, strlen(scope)}, ret, err) < 0)
		return -1;
	return read_escaped_names(names, ret, err);
}

static int read_payload(const struct sigv4_request *r, struct sigv4 *ret, struct err *err)
{
	const struct http1_header *hash = field(r, "x-amz-content-sha256");
	bool s3 = strcmp(ret->service, "s3") == 0;

	if (hash && starts(hash->value, "STREAMING-AWS4-"))
		return bad(err,
			"each chunk of the body is signed on its own, which cannot be "
			"repeated here: let the client sign the whole payload, or none of it");
	if (hash)
		ret->payload = hash->value;
	else if (s3 && ret->form == SIGV4_HEADER)
		return bad(err, "X-Amz-Content-Sha256 is missing");
	else if (s3)
		ret->payload = (struct http1_slice){"UNSIGNED-PAYLOAD", 16};
	else
		ret->wants_hash = true;
	return 0;
}

int sigv4_read(const struct sigv4_request *r, struct sigv4 *ret, struct err *err)
{
	const struct http1_header *auth = field(r, "authorization");
	struct http1_slice value = auth ? auth->value : (struct http1_slice){0}, algorithm;
	int result;

	*ret = (struct sigv4){.form = SIGV4_NONE};
	if (starts(value, ALGORITHM " ")) {
		value.p += strlen(ALGORITHM) + 1;
		value.n -= strlen(ALGORITHM) + 1;
		result = read_authorization(r, value, ret, err);
	} else if (starts(value, "AWS4-")) {
		return bad(err, "only " ALGORITHM " can be repeated");
	} else if (parameter(r, "X-Amz-Algorithm", &algorithm)) {
		if (!is_text(algorithm, ALGORITHM))
			return bad(err, "only " ALGORITHM " can be repeated");
		result = read_query(r, ret, err);
	} else {
		return 0;
	}
	return result < 0 ? -1 : read_payload(r, ret, err);
}

/* ---- signing ---- */

static void to_hex(const uint8_t *p, char ret[static SIGV4_HASH_HEX])
{
	for (size_t i = 0; i < SHA256_DIGEST_LENGTH; i++)
		snprintf(ret + 2 * i, 3, "%02x", p[i]);
}

void sigv4_hash(const void *p, size_t len, char ret[static SIGV4_HASH_HEX])
{
	uint8_t hash[SHA256_DIGEST_LENGTH];

	SHA256(p, len, hash);
	to_hex(hash, ret);
}

/* Segments "", "." and ".." are resolved, except for S3, where a path is a name. */
static void put_path(struct buf *b, const struct sigv4 *s, struct http1_slice path)
{
	_buf_ struct buf norm = {.max = HTTP1_HEAD_MAX};
	struct http1_slice rest = path;
	const char *text;

	if (strcmp(s->service, "s3") == 0) {
		put_recoded(b, path.n ? path : (struct http1_slice){"/", 1}, true, false);
		return;
	}
	while (rest.n) {
		struct http1_slice part = cut(&rest, '/');

		if (is_text(part, "..")) {
			text = buf_len(&norm) ? memrchr(buf_head(&norm), '/', buf_len(&norm))
					      : NULL;
			norm.len = text ? (size_t)((const uint8_t *)text - norm.data) : norm.off;
		} else if (part.n && !is_text(part, ".")) {
			buf_puts(&norm, "/");
			buf_put(&norm, part.p, part.n);
		}
	}
	if (buf_len(&norm) == 0 || path.p[path.n - 1] == '/')
		buf_puts(&norm, "/");
	for (size_t i = 0; i < buf_len(&norm); i++) {
		if (buf_head(&norm)[i] == '/')
			buf_puts(b, "/");
		else
			escape_put(b, buf_head(&norm) + i, 1);
	}
}

/* Encoded "key=value" texts: by key, then by value. "=" would sort behind some key characters. */
static int by_parameter(const void *a, const void *b)
{
	const char *x = *(char *const *)a, *y = *(char *const *)b;
	size_t nx = strcspn(x, "="), ny = strcspn(y, "=");
	int r = memcmp(x, y, MIN(nx, ny));

	if (r)
		return r;
	return nx != ny ? (nx < ny ? -1 : 1) : strcmp(x, y);
}

static void add_parameter(struct strv *l, struct http1_slice name, struct http1_slice value)
{
	struct buf one;

	buf_init(&one, TEXT_MAX);
	put_recoded(&one, name, false, true);
	buf_puts(&one, "=");
	put_recoded(&one, value, false, true);
	strv_add(l, buf_cstr(&one));
	buf_wipe(&one);
}

static struct http1_slice slice(const char *text)
{
	return (struct http1_slice){text, strlen(text)};
}

/* The key's name and where it is good for. */
static char *make_credential(const struct sigv4 *s, const struct sigv4_key *key)
{
	return xasprintf("%s/%.8s/%s/%s/" TERMINATOR, key->id, s->time, s->region, s->service);
}

static bool is_replaced(struct http1_slice name)
{
	return query_is(name, "X-Amz-Signature") || query_is(name, "X-Amz-Credential") ||
	       query_is(name, "X-Amz-Security-Token");
}

/* The canonical query; of a presigned URL with our key in place of the guest's. */
static void put_query(
	struct buf *b, const struct sigv4 *s, struct http1_slice query, const struct sigv4_key *key)
{
	bool presigned = s->form == SIGV4_QUERY;
	struct http1_slice name, value;
	struct strv params = {0};

	while (params.n < PARAMS_MAX && query_next(&query, &name, &value)) {
		if ((name.n || value.n) && !(presigned && is_replaced(name)))
			add_parameter(&params, name, value);
	}
	if (query.n)
		b->failed = true;
	if (presigned) {
		_free_ char *credential = make_credential(s, key);

		add_parameter(&params, slice("X-Amz-Credential"), slice(credential));
		if (key->token)
			add_parameter(&params, slice("X-Amz-Security-Token"), slice(key->token));
	}
	if (params.n)
		qsort(params.v, params.n, sizeof(*params.v), by_parameter);
	for (size_t i = 0; i < params.n; i++) {
		buf_puts(b, i ? "&" : "");
		buf_puts(b, params.v[i]);
		mem_wipe(params.v[i], strlen(params.v[i]));
	}
	strv_done(&params);
}

static int by_name(const void *a, const void *b)
{
	const struct http1_slice *x = a, *y = b;
	int r = strncasecmp(x->p, y->p, MIN(x->n, y->n));

	if (r)
		return r;
	return x->n == y->n ? 0 : x->n < y->n ? -1 : 1;
}

/* Names of the fields that we sign: those of the guest that are there, host, and the token. Sorted,
 * without repetition. @ret: room for SIGV4_SIGNED_MAX. */
static size_t choose_names(const struct sigv4 *s, const struct sigv4_request *r,
	const struct sigv4_key *key, struct http1_slice *ret)
{
	size_t n = 0, kept = 0;

	ret[n++] = slice("host");
	if (key->token && s->form == SIGV4_HEADER)
		ret[n++] = slice(TOKEN_FIELD);
	for (size_t i = 0; i < s->n_signed; i++)
		for (size_t k = 0; k < r->n_headers; k++)
			if (by_name(&r->headers[k].name, &s->signed_names[i]) == 0) {
				ret[n++] = s->signed_names[i];
				break;
			}
	qsort(ret, n, sizeof(*ret), by_name);
	for (size_t i = 0; i < n; i++)
		if (!kept || by_name(&ret[kept - 1], &ret[i]) != 0)
			ret[kept++] = ret[i];
	return kept;
}

static void put_lower(struct buf *b, struct http1_slice s)
{
	for (size_t i = 0; i < s.n; i++)
		buf_put_u8(b, (uint8_t)(s.p[i] >= 'A' && s.p[i] <= 'Z' ? s.p[i] | 0x20 : s.p[i]));
}

/* Without surrounding blanks, runs of blanks as one. */
static void put_value(struct buf *b, struct http1_slice s)
{
	s = trim(s);
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] != ' ' || s.p[i - 1] != ' ')
			buf_put_u8(b, (uint8_t)s.p[i]);
}

static void put_field(struct buf *b, const struct sigv4_request *r, const struct sigv4_key *key,
	struct http1_slice name)
{
	bool first = true;

	put_lower(b, name);
	buf_puts(b, ":");
	if (http1_slice_is_nocase(name, "host")) {
		put_value(b, r->host);
	} else if (http1_slice_is_nocase(name, TOKEN_FIELD)) {
		buf_puts(b, key->token);
	} else {
		for (size_t i = 0; i < r->n_headers; i++) {
			if (by_name(&r->headers[i].name, &name) != 0)
				continue;
			buf_puts(b, first ? "" : ",");
			put_value(b, r->headers[i].value);
			first = false;
		}
	}
	buf_puts(b, "\n");
}

static void put_names(struct buf *b, const struct http1_slice *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		buf_puts(b, i ? ";" : "");
		put_lower(b, names[i]);
	}
}

static void hmac(const void *key, size_t key_len, const void *p, size_t n,
	uint8_t ret[static SHA256_DIGEST_LENGTH])
{
	HMAC(EVP_sha256(), key, (int)key_len, p, n, ret, NULL);
}

static void hmac_text(uint8_t key[static SHA256_DIGEST_LENGTH], const char *text)
{
	uint8_t next[SHA256_DIGEST_LENGTH];

	hmac(key, SHA256_DIGEST_LENGTH, text, strlen(text), next);
	memcpy(key, next, sizeof(next));
	mem_wipe(next, sizeof(next));
}

static void make_signature(const struct sigv4 *s, const struct sigv4_key *key,
	const struct buf *canonical, char ret[static SIGV4_HASH_HEX])
{
	_free_ char *first = xasprintf("AWS4%s", key->secret);
	_free_ char *text = NULL;
	uint8_t k[SHA256_DIGEST_LENGTH];
	char hash[SIGV4_HASH_HEX], date[9];

	sigv4_hash(buf_head(canonical), buf_len(canonical), hash);
	snprintf(date, sizeof(date), "%.8s", s->time);
	text = xasprintf(ALGORITHM "\n%s\n%s/%s/%s/" TERMINATOR "\n%s", s->time, date, s->region,
		s->service, hash);
	hmac(first, strlen(first), date, 8, k);
	hmac_text(k, s->region);
	hmac_text(k, s->service);
	hmac_text(k, TERMINATOR);
	hmac_text(k, text);
	to_hex(k, ret);
	mem_wipe(k, sizeof(k));
	mem_wipe(first, strlen(first));
}

int sigv4_sign(const struct sigv4 *s, const struct sigv4_request *r, const struct sigv4_key *key,
	const char *body_hash, struct buf *out, struct err *err)
{
	struct http1_slice names[SIGV4_SIGNED_MAX];
	size_t n = choose_names(s, r, key, names);
	_free_ char *credential = make_credential(s, key);
	char signature[SIGV4_HASH_HEX];
	struct buf query, text;

	buf_init(&query, TEXT_MAX);
	buf_init(&text, 2 * TEXT_MAX);
	put_query(&query, s, r->query, key);
	buf_put(&text, r->method.p, r->method.n);
	buf_puts(&text, "\n");
	put_path(&text, s, r->path);
	buf_printf(&text, "\n%s\n", buf_cstr(&query));
	for (size_t i = 0; i < n; i++)
		put_field(&text, r, key, names[i]);
	buf_puts(&text, "\n");
	put_names(&text, names, n);
	buf_puts(&text, "\n");
	if (s->wants_hash)
		buf_puts(&text, body_hash);
	else
		buf_put(&text, s->payload.p, s->payload.n);
	make_signature(s, key, &text, signature);
	if (s->form == SIGV4_QUERY) {
		buf_printf(out, "%s&X-Amz-Signature=%s", buf_cstr(&query), signature);
	} else {
		buf_printf(out, ALGORITHM " Credential=%s, SignedHeaders=", credential);
		put_names(out, names, n);
		buf_printf(out, ", Signature=%s", signature);
	}
	if (query.failed || text.failed || out->failed)
		err_set(err, ERR_USER, "AWS signature: the request's head is too long to sign");
	n = query.failed || text.failed || out->failed;
	buf_wipe(&query);
	buf_wipe(&text);
	return n ? -1 : 0;
}

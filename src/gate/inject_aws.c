/* SPDX-License-Identifier: Apache-2.0 */
/* AWS: the key as it is stored, and a request signed with it. */
#include <string.h>

#include <jansson.h>

#include "base/mem.h"
#include "gate/inject_int.h"
#include "gate/sigv4.h"

/* Strings of a key in memory that is wiped. */
struct key {
	char *id, *secret, *token; /* owned; token may be NULL */
};

static void wipe(char *s)
{
	if (s)
		mem_wipe(s, strlen(s));
	free(s);
}

static void key_done(struct key *k)
{
	wipe(k->id);
	wipe(k->secret);
	wipe(k->token);
}

static char *copy_member(const json_t *j, const char *name)
{
	const char *s = json_string_value(json_object_get(j, name));

	return s && *s ? xstrdup(s) : NULL;
}

/* ID:SECRET or ID:SECRET:TOKEN; none of them has a colon. */
static void read_plain(struct key *k, struct secret *value)
{
	const char *p = secret_bytes(value), *end = p + secret_len(value);
	const char *one = memchr(p, ':', (size_t)(end - p));
	const char *two = one ? memchr(one + 1, ':', (size_t)(end - one - 1)) : NULL;

	if (!one)
		return;
	k->id = xstrndup(p, (size_t)(one - p));
	k->secret = xstrndup(one + 1, (size_t)((two ? two : end) - one - 1));
	if (two)
		k->token = xstrndup(two + 1, (size_t)(end - two - 1));
}

static bool is_word(const char *s)
{
	for (const char *c = s; c && *c; c++)
		if (*c <= ' ' || *c >= 0x7f)
			return false;
	return s && *s;
}

static int read_key(struct key *k, struct secret *value, struct err *err)
{
	json_t *j = NULL;

	if (secret_bytes(value)[0] == '{')
		j = json_loadb(secret_bytes(value), secret_len(value), 0, NULL);
	if (j) {
		k->id = copy_member(j, "AccessKeyId");
		k->secret = copy_member(j, "SecretAccessKey");
		k->token = copy_member(j, "SessionToken");
	} else {
		read_plain(k, value);
	}
	json_decref(j);
	if (is_word(k->id) && is_word(k->secret) && (!k->token || is_word(k->token)))
		return 0;
	return err_set(err, ERR_USER,
		"the stored value is not KEY-ID:SECRET, KEY-ID:SECRET:SESSION-TOKEN or the JSON of "
		"'aws configure export-credentials'");
}

static struct sigv4_request as_sent(const struct http1_head *h)
{
	const struct http1_header *host = http1_find(h, "host");

	return (struct sigv4_request){.method = h->method,
		.path = h->send_path.n ? h->send_path : h->path,
		.query = h->send_query.p ? h->send_query : h->query,
		.host = host ? host->value
			     : (struct http1_slice){h->host.name, strlen(h->host.name)},
		.headers = h->headers,
		.n_headers = h->n_headers};
}

bool inject_aws_wants_body(const struct http1_head *h)
{
	struct sigv4_request r = as_sent(h);
	struct sigv4 s;

	return sigv4_read(&r, &s, NULL) == 0 && s.form != SIGV4_NONE && s.wants_hash;
}

static int set_token(struct inject *in, const struct key *k, struct err *err)
{
	struct buf *b;

	if (!k->token)
		return inject_edit(in, "X-Amz-Security-Token", NULL, err);
	b = inject_text(in, SECRET_VALUE_MAX);
	buf_puts(b, k->token);
	return inject_edit(in, "X-Amz-Security-Token", b, err);
}

static int sign(struct inject *in, struct http1_head *h, const struct buf *body,
	const struct key *k, struct err *err)
{
	const struct sigv4_key key = {k->id, k->secret, k->token};
	struct sigv4_request r = as_sent(h);
	char hash[SIGV4_HASH_HEX];
	struct sigv4 s;
	struct buf *out;

	if (sigv4_read(&r, &s, err) < 0)
		return -1;
	if (s.form == SIGV4_NONE)
		return 0;
	out = inject_text(in, 8 * HTTP1_HEAD_MAX);
	sigv4_hash(body ? buf_head(body) : NULL, body ? buf_len(body) : 0, hash);
	if (sigv4_sign(&s, &r, &key, hash, out, err) < 0)
		return -1;
	if (k->token)
		inject_mask(in, k->token, strlen(k->token));
	/* The end of both forms: the signature, in hexadecimal. */
	inject_mask(in, buf_head(out) + buf_len(out) - (SIGV4_HASH_HEX - 1), SIGV4_HASH_HEX - 1);
	if (s.form == SIGV4_QUERY) {
		h->send_query = inject_slice(out);
		return 0;
	}
	return set_token(in, k, err) < 0 ? -1 : inject_edit(in, "Authorization", out, err);
}

int inject_aws(struct inject *in, struct http1_head *h, const struct buf *body,
	struct secret *value, struct err *err)
{
	struct key k = {0};
	int result = read_key(&k, value, err) < 0 ? -1 : sign(in, h, body, &k, err);

	key_done(&k);
	return result;
}

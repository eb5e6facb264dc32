/* SPDX-License-Identifier: Apache-2.0 */
/* A guest's request with every kind of credential, and a server that sends all of it back: the head
 * that goes out can be read again as one request, and no value is in what comes back.
 *
 * Input: a byte that says which services have a value, the request's head, its body. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gate/inject.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NAME "api.test"

static const char configuration[] =
	"{\"op\":\"configure\",\"name\":\"fuzz\",\"network\":{\"rules\":[],\"resolves\":[],"
	"\"credentials\":["
#define CREDENTIAL(service, inject)                                                                \
	"{\"service\":\"" service "\",\"env\":\"X\",\"kit\":\"f\",\"required\":false,\"injects\":["        \
	"{\"domain\":\"" NAME "\"," inject "}]}"
	CREDENTIAL("head", "\"header\":\"X-Key\",\"format\":\"a %s\",\"username\":null") ","
	CREDENTIAL("pair", "\"header\":\"X-Pair\",\"format\":\"\",\"username\":\"me\"") ","
	CREDENTIAL("query", "\"kind\":\"query\",\"parameter\":\"key\",\"header\":\"\","
		"\"format\":\"\",\"username\":null") ","
	CREDENTIAL("word", "\"kind\":\"placeholder\",\"placeholder\":\"PLACE-01\",\"in_body\":true,"
		"\"header\":\"\",\"format\":\"\",\"username\":null") ","
	CREDENTIAL("reg", "\"kind\":\"registry\",\"header\":\"\",\"format\":\"\",\"username\":null") ","
	CREDENTIAL("aws", "\"kind\":\"aws\",\"header\":\"\",\"format\":\"\",\"username\":null")
	"]}}";

static const struct {
	const char *service, *value;
} all[] = {{"head", "h-s3cr3t+value=01"}, {"pair", "p-s3cr3t&value=02"},
	{"query", "q-s3cr3t/value<03>"}, {"word", "w-s3cr3t%value\"04'"},
	{"reg", "user:r-s3cr3t+value==05"}, {"aws", "AKIAFUZZ:a-s3cr3t/value+06:t-s3cr3t=/value07"}};
static const char *const parts[] = {"h-s3cr3t+value=01", "p-s3cr3t&value=02", "q-s3cr3t/value<03>",
	"w-s3cr3t%value\"04'", "r-s3cr3t+value==05", "a-s3cr3t/value+06", "t-s3cr3t=/value07"};

static struct value values[ARRAY_SIZE(all)];
static unsigned there; /* a bit for each that has a value */

static void require(bool ok)
{
	if (!ok)
		abort();
}

/* ---- in place of values.c ---- */

void values_want(struct values_set *s, const char *service)
{
	(void)s, (void)service;
}

int values_get(struct values_set *s, const char *service, struct value **ret, struct err *err)
{
	(void)s, (void)err;
	*ret = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (strcmp(all[i].service, service) == 0 && (there >> i & 1))
			*ret = &values[i];
	return 0;
}

/* ---- properties ---- */

/* All of one, but for bytes at its begin that a mask may show, or that a guest knows. */
static bool holds_value(const void *p, size_t n)
{
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (n && memmem(p, n, parts[i] + FILTER_LEAD + 1, strlen(parts[i]) - FILTER_LEAD - 1))
			return true;
	return false;
}

/* The secret key of AWS signs and is never sent. */
static void check_echo(struct inject *in, const struct buf *sent)
{
	_buf_ struct buf back = {.max = 2 * buf_len(sent) + 2 * FILTER_MAX};
	struct filter *mask = in->answer.mask;
	size_t used = 0;

	require(!memmem(buf_head(sent), buf_len(sent), parts[5], strlen(parts[5])));
	if (!mask) {
		require(!holds_value(buf_head(sent), buf_len(sent)));
		return;
	}
	/* In two pieces. */
	used = filter_feed(mask, buf_head(sent), buf_len(sent) / 3, &back);
	require(used == buf_len(sent) / 3);
	used += filter_feed(mask, buf_head(sent) + used, buf_len(sent) - used, &back);
	require(used == buf_len(sent) && filter_flush(mask, &back));
	require(buf_len(&back) == buf_len(sent) && !holds_value(buf_head(&back), buf_len(&back)));
}

static void check_head(const struct http1_head *h, const struct buf *sent, size_t n)
{
	struct http1_head *again = xcalloc(1, sizeof(*again));
	struct err err;
	int r;

	http1_request_init(again);
	r = http1_parse(again, buf_head(sent), n, &err);
	/* A value may make it too long for anybody. */
	require(r == 1 || (r < 0 && (err.errnum == 414 || err.errnum == 431)));
	if (r == 1) {
		require(again->size == n && again->method.n == h->method.n);
		require(again->framing == h->framing &&
			again->content_length == h->content_length);
		require(!again->has_host || strcmp(again->host.name, h->host.name) == 0);
	}
	free(again);
}

/* What goes out of the body. */
static void put_body(struct inject *in, const void *p, size_t len, struct buf *sent)
{
	if (!in->body) {
		buf_put(sent, p, len);
		return;
	}
	require(filter_feed(in->body, p, len, sent) == len && filter_flush(in->body, sent));
}

static void check_request(const struct config *c, struct http1_head *h, const void *body, size_t len)
{
	struct values_set set = {0};
	const struct inject_request q = {.config = c, .values = &set, .tokens = -1, .name = NAME,
		.port = 443, .secure = true, .path = "/"};
	bool whole = inject_wants_body(&q, h);
	struct buf kept, sent;
	struct inject in;
	struct err err;
	size_t n;

	buf_init(&kept, INJECT_BODY_MAX);
	buf_init(&sent, 8u << 20);
	if (whole)
		buf_put(&kept, body, len);
	if (inject_prepare(&in, &q, h, whole ? &kept : NULL, &err) == 0 &&
		http1_write(h, in.edits, in.n, &sent) == 0) {
		n = buf_len(&sent);
		check_head(h, &sent, n);
		if (h->framing != HTTP1_NO_BODY)
			put_body(&in, whole ? (void *)buf_head(&kept) : body,
				whole ? buf_len(&kept) : len, &sent);
		check_echo(&in, &sent);
	}
	inject_done(&in);
	buf_wipe(&kept);
	buf_wipe(&sent);
}

static const struct config *make(void)
{
	static struct config *c;
	struct err err;

	if (c)
		return c;
	c = config_parse(configuration, strlen(configuration), &err);
	if (!c) {
		fprintf(stderr, "%s\n", err.msg);
		abort();
	}
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		values[i].secret = secret_new(all[i].value, strlen(all[i].value), &err);
	return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct config *c = make();
	struct http1_head *h;
	_free_ uint8_t *head = NULL;
	struct err err;

	if (size < 1 || size > 65536 || holds_value(data, size))
		return 0;
	there = data[0];
	h = xcalloc(1, sizeof(*h));
	head = xmalloc(size);
	memcpy(head, data + 1, size - 1);
	http1_request_init(h);
	if (http1_parse(h, head, size - 1, &err) == 1 && h->form != HTTP1_AUTHORITY)
		check_request(c, h, head + h->size, size - 1 - h->size);
	free(h);
	return 0;
}

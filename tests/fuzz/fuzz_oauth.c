/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a token endpoint's answer. Properties: whatever passes has no token in it, tokens
 * can be kept and read back, and what is not understood does not pass. */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/mem.h"
#include "gate/oauth.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char access_sentinel[] = "<access>", refresh_sentinel[] = "<refresh>";

static void require(bool ok)
{
	if (!ok)
		abort();
}

/* Short ones may be part of anything, and one with a quote in it may look like JSON. */
static bool is_in(const struct buf *out, struct secret *token)
{
	return token && secret_len(token) > 16 &&
	       !memchr(secret_bytes(token), '"', secret_len(token)) &&
	       memmem(buf_head(out), buf_len(out), secret_bytes(token), secret_len(token));
}

static void check_tokens(const struct oauth_tokens *t, const struct buf *out)
{
	struct secret *record;
	struct oauth_tokens back;
	struct err err = {0};
	json_t *j = json_loadb((const char *)buf_head(out), buf_len(out), 0, NULL);

	require(json_is_object(j));
	json_decref(j);
	require(!is_in(out, t->access));
	require(!is_in(out, t->refresh));
	if (!t->access)
		return;
	record = oauth_record_write(t, &err);
	if (!record)
		return; /* larger than a secret */
	require(oauth_record_read(record, &back, &err) == 0);
	require(secret_equal(t->access, back.access));
	require(!t->refresh == !back.refresh);
	oauth_tokens_done(&back);
	secret_free(record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct oauth_names usual, other = {"a.b", "a.c.d", "ttl", "s"};
	struct oauth_tokens t = {0};
	struct err err = {0};
	_buf_ struct buf out = {.max = OAUTH_BODY_MAX};
	int r;

	if (size < 1 || size > OAUTH_BODY_MAX)
		return 0;
	r = oauth_rewrite(data + 1, size - 1, data[0] & 1 ? &other : &usual, access_sentinel,
		refresh_sentinel, 1, &t, &out, &err);
	require(r == 1 ? t.access || t.refresh : !t.access && !t.refresh);
	require(r != 0 || buf_len(&out) == 0);
	if (r == 1)
		check_tokens(&t, &out);
	oauth_tokens_done(&t);
	oauth_is_invalid_grant(data + 1, size - 1);
	for (int syntax = OAUTH_PLAIN; syntax <= OAUTH_JSON; syntax++) {
		unsigned a = oauth_renews(
			data + 1, size - 1, (enum oauth_syntax)syntax, "sentinel", "a.renew");

		require(a <= OAUTH_ACCOUNTS_MAX && (!a || syntax != OAUTH_PLAIN));
	}
	return 0;
}

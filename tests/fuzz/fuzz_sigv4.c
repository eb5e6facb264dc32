/* SPDX-License-Identifier: Apache-2.0 */
/* Any request head as one that AWS would read. Properties: what can be read can be signed, and what
 * comes out is a header value or a query that reads as signed with our key, twice the same. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gate/sigv4.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct sigv4_key key = {"AKIDEXAMPLE", "secret", "token"};
static const char hash[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void check_query(const struct sigv4_request *r, const struct sigv4 *before, struct buf *out)
{
	struct sigv4_request again = *r;
	struct sigv4 s;
	struct err err;

	again.query = (struct http1_slice){(char *)buf_head(out), buf_len(out)};
	require(memmem(again.query.p, again.query.n, "X-Amz-Credential=AKIDEXAMPLE%2F", 31));
	require(sigv4_read(&again, &s, &err) == 0);
	require(s.form == SIGV4_QUERY && strcmp(s.region, before->region) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http1_head h;
	struct sigv4_request r;
	struct sigv4 s;
	struct err err;
	_buf_ struct buf out, twice;

	buf_init(&out, 8 * HTTP1_HEAD_MAX);
	buf_init(&twice, 8 * HTTP1_HEAD_MAX);
	http1_request_init(&h);
	if (http1_parse(&h, data, size, &err) != 1)
		return 0;
	r = (struct sigv4_request){h.method, h.path, h.query, {h.host.name, strlen(h.host.name)},
		h.headers, h.n_headers};
	if (sigv4_read(&r, &s, &err) < 0 || s.form == SIGV4_NONE)
		return 0;
	if (sigv4_sign(&s, &r, &key, hash, &out, &err) < 0)
		return 0;
	require(sigv4_sign(&s, &r, &key, hash, &twice, &err) == 0);
	require(buf_len(&out) == buf_len(&twice));
	require(memcmp(buf_head(&out), buf_head(&twice), buf_len(&out)) == 0);
	if (s.form == SIGV4_QUERY)
		check_query(&r, &s, &out);
	else
		require(http1_header_valid("a", (char *)buf_head(&out), buf_len(&out)));
	return 0;
}

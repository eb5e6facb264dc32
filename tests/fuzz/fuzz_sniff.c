/* SPDX-License-Identifier: Apache-2.0 */
/* Any first bytes. Properties: a verdict stays when more bytes come, there is one at the ceiling,
 * and what is reported is well-formed. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "gate/sniff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

static void check(enum sniff_kind kind, const struct sniff *s)
{
	char canon[POLICY_NAME_MAX + 1];

	require((kind == SNIFF_TLS_BAD) == (s->why != NULL));
	require(s->has_sni == (*s->sni != '\0'));
	if (s->has_sni) {
		require(policy_name_canon(s->sni, strlen(s->sni), canon, NULL) == 0);
		require(strcmp(canon, s->sni) == 0);
	}
	require(s->n_alpn <= SNIFF_ALPN_MAX);
	for (size_t i = 0; i < s->n_alpn; i++)
		require(s->alpn[i].len > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sniff s;
	size_t step = size / 24 + 1; /* coarse: every prefix of a long hello takes too long */
	enum sniff_kind whole = sniff(data, size, &s);

	check(whole, &s);
	require(whole != SNIFF_MORE || size < SNIFF_MAX);
	for (size_t n = 0; n < size; n += step) {
		/* Exact size, so that the sanitizer sees one byte too far. */
		_free_ uint8_t *exact = malloc(n ? n : 1);
		enum sniff_kind kind;

		memcpy(exact, data, n);
		kind = sniff(exact, n, &s);
		check(kind, &s);
		if (kind == SNIFF_MORE)
			continue;
		/* Bytes behind a hello in its record are seen only when they come. */
		require(kind == whole || (kind == SNIFF_TLS && whole == SNIFF_TLS_BAD));
		break;
	}
	return 0;
}

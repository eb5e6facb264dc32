/* SPDX-License-Identifier: Apache-2.0 */
/* Signature bundles: what is read can be written, and reads the same again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sign/bundle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bundle b, again;
	_free_ char *text = NULL;
	struct err err;

	if (bundle_parse((const char *)data, size, &b, &err) < 0)
		return 0;
	text = bundle_text(&b);
	if (!text || bundle_parse(text, strlen(text), &again, &err) < 0 || again.len != b.len ||
		memcmp(again.signature, b.signature, b.len) != 0 ||
		memcmp(again.digest, b.digest, sizeof(b.digest)) != 0)
		abort();
	return 0;
}

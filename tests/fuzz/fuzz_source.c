/* SPDX-License-Identifier: Apache-2.0 */
/* What a file of the secret store holds: a value, or a reference that can be written again. Nothing
 * is fetched. */
#include <stdint.h>

#include "scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const int stores[2] = {scratch_store(), -1};
	struct source a = {0}, b = {0};
	struct secret *value = NULL, *none = NULL;
	struct err err;

	if (size == 0 || size > SECRET_VALUE_MAX)
		return 0;
	scratch_put("x", data, size);
	if (source_find(stores, "x", &a, &value, &err) < 0)
		return 0;
	if (a.kind == SOURCE_VALUE) {
		if (!value || secret_len(value) > size)
			abort();
	} else {
		if (value || !a.arg || !a.ttl_s || a.ttl_s > SOURCE_TTL_MAX ||
			strlen(a.arg) > SOURCE_ARG_MAX || source_save(stores[0], "x", &a, &err) < 0 ||
			source_find(stores, "x", &b, &none, &err) < 0)
			abort();
		if (a.kind != b.kind || strcmp(a.arg, b.arg) != 0 || a.ttl_s != b.ttl_s)
			abort();
	}
	secret_free(value);
	source_done(&a);
	source_done(&b);
	return 0;
}

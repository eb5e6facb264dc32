/* SPDX-License-Identifier: Apache-2.0 */
/* Any JSON into a sandbox; what decodes must encode to the same again. */
#include <stdlib.h>

#include "wire/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *in, *out;
	struct box_spec s;
	struct spec_net n;
	struct spec_rules rules;
	struct err err;

	in = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	if (!in)
		return 0;
	if (spec_from_json(in, &s, &err) == 0) {
		out = spec_to_json(&s);
		if (!out || !json_equal(in, out))
			abort();
		json_decref(out);
	}
	spec_done(&s);
	if (spec_net_from_json(in, &n, &err) == 0) {
		out = spec_net_to_json(&n);
		if (!out || !json_equal(in, out))
			abort();
		json_decref(out);
	}
	spec_net_done(&n);
	if (spec_rules_from_json(in, &rules, &err) == 0) {
		out = spec_rules_to_json(&rules);
		if (!out || !json_equal(in, out))
			abort();
		json_decref(out);
	}
	spec_rules_done(&rules);
	json_decref(in);
	return 0;
}

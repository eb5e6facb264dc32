/* SPDX-License-Identifier: Apache-2.0 */
/* WWW-Authenticate of OCI registries. Pure. */
#pragma once

#include <stdbool.h>

struct challenge {
	bool bearer, basic;
	char realm[512], service[256], scope[512]; /* bearer; "" when not said */
};

/* False: neither of the two, or not to be understood. */
bool challenge_parse(const char *text, struct challenge *ret);

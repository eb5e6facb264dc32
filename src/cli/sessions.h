/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions of an agent, as its kit says that they are begun. */
#pragma once

#include "wire/spec.h"

/* The command for @verb ("prompt", "resume", "continue") with what the user gave for it (@text; or NULL),
 * appended to @ret. ERR_USER when the kit has no such verb. */
int sessions_argv(const struct box_spec *s, const char *verb, const char *text, bool terminal,
	struct strv *ret, struct err *err);

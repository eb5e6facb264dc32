/* SPDX-License-Identifier: Apache-2.0 */
/* Presets: sets of network rules that come with Hutch, share/policy/NAME.yaml.
 *
 *	description: …
 *	allow:
 *	  - rule: "**.example.org"
 *	    reason: …
 *	deny: […] */
#pragma once

#include "base/err.h"
#include "kit/report.h"

struct preset_rule {
	char *rule, *reason;
};

struct preset {
	char *description;
	struct preset_rule *allow, *deny;
	size_t n_allow, n_deny;
};

/* Load preset @name. As kit_load, @errs has what is wrong with the text. */
int preset_load(const char *name, struct preset *ret, struct kit_errors *errs, struct err *err);
int preset_load_text(const char *text, size_t len, const char *file, struct preset *ret,
	struct kit_errors *errs);
void preset_done(struct preset *p);

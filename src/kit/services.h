/* SPDX-License-Identifier: Apache-2.0 */
/* The services that Hutch knows: share/services.yaml.
 *
 *	credentials: […]             as in kits
 *	variables: {GH_TOKEN: github} more names of variables that hold a value */
#pragma once

#include "base/err.h"
#include "kit/kit.h"
#include "kit/report.h"

/* Into a kit that has nothing but credentials and vars; released with kit_done. As kit_load, @errs
 * has what is wrong with the text. *ret is only set on success. */
int services_load(struct kit *ret, struct kit_errors *errs, struct err *err);
int services_load_text(
	const char *text, size_t len, const char *file, struct kit *ret, struct kit_errors *errs);
/* NULL when it is not known. Borrowed. */
const struct kit_credential *services_find(const struct kit *services, const char *name);
/* Whose value the variable @name holds, or NULL. Borrowed. */
const char *services_of_variable(const struct kit *services, const char *name);

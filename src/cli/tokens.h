/* SPDX-License-Identifier: Apache-2.0 */
/* OAuth tokens as the command line sees them: whether there are any, and what a new sandbox is to
 * have in their place. hutch-gate keeps them. */
#pragma once

#include <stdbool.h>

#include <jansson.h>

#include "base/err.h"
#include "wire/spec.h"

/* Whether somebody has logged in to @service. */
bool tokens_exist(const char *service);
/* For a sandbox that is about to be made: the files in which agents look for tokens, with
 * sentinels, for services that somebody has logged in to. Where a service has no key (@has_key),
 * its variable is left out, or an agent would take the placeholder for one. */
void tokens_settle(struct box_spec *s, bool (*has_key)(const char *service, void *arg), void *arg);
/* Print all accounts, or append them to @list. */
int tokens_list(json_t *list, struct err *err);
/* Forget all accounts of @service. */
int tokens_remove(const char *service, bool *ret_existed, struct err *err);

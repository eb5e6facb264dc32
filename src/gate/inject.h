/* SPDX-License-Identifier: Apache-2.0 */
/* Credentials on their way out: which header fields of a request have to be replaced, and by what.
 *
 * The caller vouches for the identity: the policy allows the destination, server name and Host
 * agree with it, and the connection is TLS that was verified for that name. Values come from
 * the request's set (values.h) at this moment and live until inject_done, which wipes them. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "gate/config.h"
#include "gate/http1.h"
#include "gate/values.h"

#define INJECT_MAX         16
#define INJECT_PLACEHOLDER "proxy-managed" /* what the guest has in place of a value */

struct inject {
	struct http1_edit edits[INJECT_MAX];
	struct buf values[INJECT_MAX]; /* owned; where edits[].value points */
	size_t n;
	char services[256]; /* "github, npm": what was added, for the audit log; "" for nothing */
};

/* Start to fetch what a request to @name:@port needs. */
void inject_want(
	struct values_set *values, const struct config *c, const char *name, uint16_t port);
/* Fill *ret for request @h to @name:@port. Nothing in @values is pending.
 * A header of a credential is set, whatever the guest sent in it. A credential without a value
 * takes the guest's placeholder out, or is an error when the kit requires it. -1 with @err
 * (ERR_USER: the user can remedy it); *ret needs inject_done in both cases. */
int inject_prepare(struct inject *ret, const struct config *c, struct values_set *values,
	const char *name, uint16_t port, const struct http1_head *h, struct err *err);
void inject_done(struct inject *in);

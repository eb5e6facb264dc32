/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox's own certificate authority. Its key never leaves this process and the sandbox's
 * directory; the guest trusts its certificate. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct ca;
struct x509_st;
struct evp_pkey_st;

/* Load ca.key and ca.pem from @dirfd, or make them (also when they are damaged, do not match or
 * soon expire). NULL with @err. */
struct ca *ca_open(int dirfd, const char *box, struct err *err);
void ca_free(struct ca *ca);
/* The certificate as PEM text; borrowed until ca_free. */
const char *ca_pem(const struct ca *ca);
/* A server certificate for @name (host name or IPv4 address), and the key for it. Both borrowed
 * until the next ca_leaf call. -1 with @err. */
int ca_leaf(struct ca *ca, const char *name, struct x509_st **ret_cert,
	struct evp_pkey_st **ret_key, struct err *err);

/* SPDX-License-Identifier: Apache-2.0 */
/* What the gate enforces: the JSON of a configure request, checked and made ready for matching. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "gate/tls.h"
#include "policy/policy.h"
#include "wire/spec.h"

/* One place where a credential goes. */
struct config_inject {
	const struct spec_credential *credential; /* borrowed from net */
	const struct spec_inject *inject;         /* borrowed from net */
	struct policy_rule target;
};

/* OAuth of a credential whose tokens stay on the host. */
struct config_oauth {
	const struct spec_credential *credential; /* borrowed from net */
	const struct spec_oauth *oauth;           /* borrowed from net */
	struct policy_rule endpoint;
	struct policy_rule *resources;
	size_t n_resources;
};

struct config_resolve {
	const char *name; /* borrowed from net */
	struct policy_addr addr;
	uint16_t port;
};

struct config_ca {
	struct policy_rule target;
	struct tls_trust *trust; /* owned */
};

struct config {
	char *box; /* sandbox name */
	enum spec_phase phase; /* SPEC_INSTALL or SPEC_RUNTIME: what belongs to the other is not in force */
	struct spec_net net;
	struct policy policy;
	struct policy other; /* rules of the other phase: to explain refusals */
	struct config_inject *injects;
	size_t n_injects;
	struct config_oauth *oauths;
	size_t n_oauths;
	struct config_resolve *resolves;
	size_t n_resolves;
	struct config_ca *cas;
	size_t n_cas;
};

/* Parse one control line ({"op":"configure",…}). NULL with @err when anything in it is wrong:
 * a configuration is in force as a whole or not at all. */
struct config *config_parse(const char *line, size_t len, struct err *err);
void config_free(struct config *c); /* NULL is fine */

/* Whether a credential may have to be added for @name and @port. */
bool config_wants_credential(const struct config *c, const char *name, uint16_t port);
/* Whom to believe about @name besides the host's trust store; NULL: nobody. */
const struct tls_trust *config_find_trust(const struct config *c, const char *name, uint16_t port);
/* The client certificate for connections to @name and @port, or NULL. */
const struct config_inject *config_find_certificate(
	const struct config *c, const char *name, uint16_t port);
const struct config_resolve *config_find_resolve(const struct config *c, const char *name);

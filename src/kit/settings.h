/* SPDX-License-Identifier: Apache-2.0 */
/* The user's own defaults: $XDG_CONFIG_HOME/hutch/settings.yaml. Every key may be left out.
 *
 *	engine: auto
 *	cpus: 2
 *	memory: 4g
 *	disk: 16g
 *	allow: ["**.example.com"]
 *	deny: [tracker.example.com]
 *	credentials: [github]
 *	resolve:
 *	  api.hello.test: 127.0.0.1:8443
 *	kit:
 *	  allowedSources: ["git+https://example.com/kits*", "oci://registry.example.com*"]
 *	  requireSignature: true
 *	  trustedKeys: [/etc/hutch/kits.pub]
 *	network:
 *	  proxy: http://proxy.example.com:3128
 *	  no_proxy: .example.com,10.0.0.0/8
 *	  ca:
 *	    "**.corp.example": /etc/ssl/corp.pem */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "kit/report.h"
#include "wire/spec.h"

/* What is demanded of kits from elsewhere. */
struct settings_kit {
	bool limit_sources;          /* allowedSources was given, be it empty */
	struct strv allowed_sources; /* a reference, or its beginning and '*' */
	bool require_signature;
	struct strv trusted_keys; /* files with a public key */
};

/* Where the certificates for some servers are. */
struct settings_ca {
	char *target, *file; /* checked; the file's path is absolute or begins with "~/" */
};

struct settings {
	enum spec_engine engine;
	unsigned cpus;                     /* 0: not said */
	uint64_t memory_bytes, disk_bytes; /* 0: not said */
	struct strv allow, deny;           /* checked rule targets */
	struct strv credentials;           /* built-in services for every sandbox */
	struct spec_resolve *resolves;     /* checked, names canonical */
	size_t n_resolves;
	struct settings_kit kit;
	/* The host's proxies, instead of what the environment says; NULL: not said. May hold a
	 * password. */
	char *proxy, *no_proxy;
	struct settings_ca *cas;
	size_t n_cas;
};

/* Load @path, or the user's own file when NULL; a user's file that is absent is no error. As
 * kit_load, @errs has what is wrong with the text. *ret is only set on success. */
int settings_load(const char *path, struct settings *ret, struct kit_errors *errs, struct err *err);
int settings_load_text(const char *text, size_t len, const char *file, struct settings *ret,
	struct kit_errors *errs);
void settings_done(struct settings *s);
/* Whether a proxy setting means that there is none. */
bool settings_is_no_proxy(const char *s);

/* "name", "127.0.0.1:8443" or "[::1]:8443" → *ret (owned strings) in canonical form. */
int settings_parse_resolve(
	const char *name, const char *address, struct spec_resolve *ret, struct err *err);

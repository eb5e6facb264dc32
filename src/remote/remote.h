/* SPDX-License-Identifier: Apache-2.0 */
/* Kits from elsewhere: fetched once, kept by content, verified at every use. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"
#include "kit/kit.h"
#include "kit/settings.h"

struct remote {
	const struct settings *settings;  /* borrowed; NULL: nothing is demanded of sources */
	void (*notice)(const char *text); /* one line for the user; may be NULL */
	/* What was fetched already, so that a tag means the same everywhere in one command. */
	struct remote_seen {
		char *text, *pinned; /* owned */
	} * seen;
	size_t n_seen;
};

/* For kit_set_load(). @r must outlive it. */
struct kit_finder remote_finder(struct remote *r);
void remote_done(struct remote *r);

/* The kit that @text refers to: fetched when it is not there yet, its signature checked when the
 * settings demand that. Released with kit_place_done. */
int remote_get(struct remote *r, const char *text, struct kit_place *ret, struct err *err);
/* Push the kit in directory @dir, loaded as @k, to "oci://HOST/NAME[:TAG]". *ret: the pinned
 * reference, owned. */
int remote_push(struct remote *r, const struct kit *k, const char *to, char **ret, struct err *err);
/* @dir as a ZIP file at @to. */
int remote_pack(const char *dir, const char *to, struct err *err);

/* ---- signatures ---- */

#define SIGN_BUNDLE "kit.sig.bundle"
#define SIGN_PLAIN  "kit.sig"

/* What is signed: a line "hutch-kit 1", then one per file, as tree_text() has them: the kit's YAML
 * file and all below files/, and @extra (or NULL). */
int sign_text(int dirfd, const char *extra, struct buf *ret, struct err *err);
/* Sign the kit in @dir with the private key in file @key; makes one of the two files above. */
int sign_make(const char *dir, const char *extra, const char *key, bool plain, struct err *err);
/* Whether a signature in @dir fits one of the public keys in files @keys. *ret_key: which. */
int sign_check(const char *dir, const char *extra, const struct strv *keys, size_t *ret_key,
	struct err *err);
/* The kit's YAML file: spec.yaml, or the only one at the top. NULL: none, or several. Owned. */
char *sign_spec_name(int dirfd);

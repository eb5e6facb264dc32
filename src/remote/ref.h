/* SPDX-License-Identifier: Apache-2.0 */
/* References to kits that are no directories. Pure.
 *
 *	kit.zip                                             a ZIP file
 *	git+https://HOST/PATH[#ref=COMMIT|BRANCH|TAG][&dir=DIR]   also git+ssh, git+file
 *	oci://HOST/NAME[:TAG][@sha256:DIGEST]
 *
 * A reference is pinned when it names a commit by 40 digits, or a manifest by digest. */
#pragma once

#include <stdbool.h>

#include "base/err.h"

enum ref_kind { REF_ZIP, REF_GIT, REF_OCI };

/* All strings are owned. */
struct ref {
	enum ref_kind kind;
	char *source; /* what it is, without what pins it: "git+https://…#dir=…", "oci://HOST/NAME"
		       */
	char *url;    /* git: for git; ZIP: the path */
	char *dir;    /* git: below the top, or "" */
	char *host, *repo; /* OCI */
	char *name;        /* a branch or tag; NULL: none */
	char *pin;         /* 40 digits, or "sha256:…"; NULL: not pinned */
	bool local;        /* from this machine: git+file, loopback addresses */
};

/* Whether @text has the form of one of these: by its beginning, or ".zip" at its end. */
bool ref_is_remote(const char *text);
int ref_parse(const char *text, struct ref *ret, struct err *err);
/* The pinned reference in its one form; owned. @r->pin must be there. */
char *ref_pinned(const struct ref *r);
void ref_done(struct ref *r);

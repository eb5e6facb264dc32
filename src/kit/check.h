/* SPDX-License-Identifier: Apache-2.0 */
/* What single values of kits and settings must look like. Each check returns NULL, or what was
 * expected. */
#pragma once

#include <stdbool.h>

#include "kit/fields.h"

field_check_fn check_name; /* kits, services */
field_check_fn check_env_name;
field_check_fn check_text; /* not empty, no control characters: one line for a terminal */
field_check_fn check_not_empty;
field_check_fn check_image;
field_check_fn check_size;
field_check_fn check_mode; /* 0644, 755 */
field_check_fn check_locked;
field_check_fn check_reference;  /* extends, mixins */
field_check_fn check_user;       /* of the guest, name or number */
field_check_fn check_guest_path; /* absolute, normal, not "/" */
field_check_fn check_filename;   /* one path component */
field_check_fn check_header;     /* a header that a credential may set */
field_check_fn check_format;     /* exactly one %s */
field_check_fn check_basic_user; /* of HTTP Basic */
field_check_fn check_url;
field_check_fn check_unreserved; /* what no encoding changes */

/* A variable that Hutch sets itself, or that would do harm. */
bool env_is_reserved(const char *name);

field_fn load_size;        /* uint64_t, bytes */
field_fn load_cpus;        /* double, a plain number of cores */
field_fn load_port_number; /* unsigned, 1 to 65535 */
field_fn load_targets;     /* struct strv: a list of rule targets */
/* A rule target, borrowed; NULL when it is none (reported). @named: neither "**" nor addresses. */
const char *load_target(struct load *l, const struct ynode *n, bool named);

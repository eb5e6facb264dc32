/* SPDX-License-Identifier: Apache-2.0 */
/* hutch kit: what its files share. */
#pragma once

#include "cli/cli.h"
#include "kit/kit.h"
#include "kit/settings.h"
#include "remote/ref.h"
#include "remote/remote.h"

struct kit_options {
	struct strv refs; /* KIT, then --kit */
	struct kit_inputs inputs;
	struct strv args_files, keys;
	struct strv approved; /* --approve-kit */
	const char *output;
	bool json, plain, list, keep, no_cache;
};

/* A line on stderr. */
void kit_notice(const char *text);
/* The user's settings, and fetching under them. 0, or the exit status; both are to be released. */
int kit_open_remote(struct settings *s, struct remote *r);
/* A kit by name, path or reference. */
int kit_find(struct remote *r, const char *ref, struct kit_place *ret, struct err *err);

/* The subcommands; they return the exit status. */
int kit_pack(struct remote *r, const struct kit_options *o);
int kit_push(struct remote *r, const struct kit_options *o);
int kit_pull(struct remote *r, const struct kit_options *o);
int kit_sign(struct remote *r, const struct kit_options *o);
int kit_verify(struct remote *r, const struct kit_options *o);

/* cmd_kit_mounts.c */
int kit_mounts(struct remote *r, const struct kit_options *o);

/* cmd_kit_test.c */
int kit_test(struct remote *r, struct kit_options *o);

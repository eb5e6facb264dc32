/* SPDX-License-Identifier: Apache-2.0 */
/* Kits: what an agent or an extension wants from its sandbox.
 *
 * A kit is a directory with spec.yaml and an optional files/ tree. The loader forks on
 * schemaVersion; every grammar loads into the one struct kit below, and everything behind the
 * loader (composition, plan) knows only that. A block of a grammar that is not in here yet becomes
 * one more member: ports and volumes beside setup, oauth beside the key of a credential, phases on
 * rules. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "kit/report.h"

enum kit_kind { KIT_SANDBOX, KIT_MIXIN };

struct kit_rule {
	bool allow;
	char *target; /* checked with policy_rule_parse */
};

struct kit_var {
	char *name, *value;
};

struct kit_inject {
	char *domain; /* covered by the kit's own allow rules */
	char *header;
	char *format;   /* exactly one %s */
	char *username; /* not NULL: HTTP Basic */
};

struct kit_credential {
	char *service, *description;
	bool required;
	char *env; /* guest variable that holds the placeholder */
	struct kit_inject *injects;
	size_t n_injects;
};

struct kit_step {
	struct strv argv; /* never empty; ["sh", "-c", …] for install steps */
	char *user; /* never NULL: "0" for install, "1000" for start-up unless said otherwise */
	char *description;
	bool background;
};

struct kit_file {
	char *path;    /* absolute, without "." and ".." */
	char *content; /* ${WORKDIR} is not replaced yet */
	char *description;
	unsigned mode;
	bool only_if_missing;
};

struct kit_sandbox {
	char *image;                                      /* "base" is Hutch's own */
	struct strv entrypoint;                           /* empty: a login shell */
	struct strv command_default, command_interactive; /* the fallback is already applied */
	double cpus;                                      /* 0: not said, as the other resources */
	uint64_t memory_bytes;
};

/* All strings are owned and may be NULL where the kit says nothing. */
struct kit {
	char *dir;  /* absolute; holds spec.yaml and files/ */
	char *file; /* spec.yaml as the user would name it, for messages */
	unsigned schema;
	enum kit_kind kind;
	char *name, *version, *display_name, *description, *source_url;
	struct strv licenses;
	char *requires_agent; /* mixins */
	struct kit_sandbox sandbox;
	char *instructions_filename, *instructions;
	struct kit_rule *rules; /* allow and deny, in the order of the file */
	size_t n_rules;
	struct kit_var *vars; /* unique names; variables that Hutch owns are left out */
	size_t n_vars;
	struct kit_credential *credentials; /* unique services */
	size_t n_credentials;
	struct kit_step *install, *startup;
	size_t n_install, n_startup;
	struct kit_file *files;
	size_t n_files;
	bool has_home, has_workspace; /* dir/files/home, dir/files/workspace */
};

/* Load the kit in directory @path (or whose file is @path). Errors and warnings of the text go to
 * @errs, all in one go; on failure @err is the one-line summary. *ret is only set on success. */
int kit_load(const char *path, struct kit *ret, struct kit_errors *errs, struct err *err);
/* As kit_load, from memory, without looking at files/. For tests and fuzzing. */
int kit_load_text(
	const char *text, size_t len, const char *file, struct kit *ret, struct kit_errors *errs);
void kit_done(struct kit *k);

/* Which directory "shell" or "./my-kit" means: text with a slash, "." and ".." are paths, anything
 * else is a kit that comes with Hutch. Owned, or NULL with @err. */
char *kit_locate(const char *name_or_path, struct err *err);

/* hutch kit validate: everything found and a closing line on @out. 0 when the kit may be used. */
int kit_validate(const char *path, FILE *out, struct err *err);

/* Whether these kits may form one sandbox: exactly one sandbox kit, names and credential services
 * unique, requires.agent met. @kits in the order of the command line. */
int kit_check_set(const struct kit *kits, size_t n, struct err *err);
/* The sandbox kit of a checked set. */
const struct kit *kit_base(const struct kit *kits, size_t n);

/* "512m", "8g", "2gib", "1.5 GB": binary units, at most INT64_MAX. -1 when it is not a size. */
int kit_parse_size(const char *s, uint64_t *ret);
/* ^[A-Za-z_][A-Za-z0-9_]*$ */
bool kit_env_name_valid(const char *s);

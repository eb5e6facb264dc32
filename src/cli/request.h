/* SPDX-License-Identifier: Apache-2.0 */
/* What the user asks of hutch run, create and recreate, up to the plan. */
#pragma once

#include "cli/cli.h"
#include "cli/identity.h"
#include "cli/images.h"
#include "cli/kit.h"

struct request {
	struct plan_request plan;
	struct strv kit_paths; /* the base kit first */
	struct kit_set kits;
	struct kit_inputs inputs;
	struct strv args_files;
	struct strv approved; /* --approve-kit */
	struct remote remote;
	struct settings settings;
	struct kit services;  /* loaded when one is named */
	struct images_wanted image;
	struct identity identity;
	char *made_name;      /* owned; for --rm without --name */
	bool detach, dry_run, json, create_only, no_cache;
	bool set_learn; /* --learn or --no-learn was said */
	const char *again;    /* the sandbox that is made again; or NULL */
	size_t n_kept;        /* then: so many arguments of kits are what it was made with */
	struct strv made_with; /* what was said that makes it what it is, as words of "hutch create" */
	const char *verb, *words; /* --prompt, --resume, --continue; or NULL */
	const char *fixed;    /* a flag that only makes sense for a new sandbox, or NULL */
};

/* The words of a command; argv[0] is its name. 0, or the exit status after a message. */
int request_parse(struct request *r, int argc, char **argv);
/* Settings and kits; the same. */
int request_load_kits(struct request *r);
/* The plan. Only for a sandbox that is still to be made its image is looked up, and with it a network
 * needed. */
int request_plan(struct request *r, struct box_spec *ret, struct err *err);
/* A kit cannot take the ssh-agent, the user gives it: 0, or the exit status after a message. */
int request_check_ssh(const struct request *r, const struct box_spec *s);
void request_done(struct request *r);

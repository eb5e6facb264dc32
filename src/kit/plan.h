/* SPDX-License-Identifier: Apache-2.0 */
/* Kits, flags and settings → struct box_spec: the only place where decisions are made. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "kit/kit.h"
#include "kit/settings.h"
#include "oci/config.h"
#include "wire/spec.h"

/* What the user asked for. Zero and NULL mean "not said". Everything is borrowed. */
struct plan_request {
	const struct kit *kits; /* loaded; the order of --kit */
	size_t n_kits;
	/* The root image, resolved: plan_image() pinned, and what it says of itself. NULL: as the kits
	 * write it. @layers: pinned images to lie on top of it. */
	const char *image;
	const struct image_config *image_config;
	struct strv layers;
	const struct settings *settings;
	const char *name;
	enum spec_engine engine;
	unsigned cpus;
	uint64_t memory_bytes, disk_bytes;
	struct strv env;      /* K=V, or K for the value in our own environment */
	struct strv mounts;   /* PATH[:ro]; none: the current directory */
	bool no_workspace;    /* none at all */
	struct strv args;     /* after the entrypoint */
	struct strv allow;    /* --allow TARGET */
	struct strv credentials; /* --credential NAME */
	const struct kit *services; /* which names there are: kit/services.h */
	struct strv resolves; /* --resolve NAME=ADDRESS:PORT */
	bool ssh_agent;       /* --ssh-agent: grant what kits ask for */
	const char *git_name, *git_email; /* of the user, for kits that ask; or NULL */
	bool inspecting; /* what needs a grant of the user's is shown as it would be with it */
	bool learn;           /* --learn */
	bool remove_on_exit;
	bool strict;
	/* The machine, for tests; 0: this one. */
	unsigned host_cpus;
	uint64_t host_memory_bytes;
};

/* What a credential's variable holds in the sandbox. */
#define PLAN_PLACEHOLDER "proxy-managed"
#define PLAN_HOME        "/home/agent"

/* The image that the kits want, borrowed; NULL: none of them says. */
const char *plan_image(const struct kit *kits, size_t n);
/* The whole plan. Looks at mount paths and the machine, changes nothing. *ret is only set on
 * success, and then to be released with spec_done. */
int plan_make(const struct plan_request *req, struct box_spec *ret, struct err *err);
/* For people: hutch run --dry-run. */
void plan_print(const struct box_spec *s, FILE *out);

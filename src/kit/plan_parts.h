/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of plan_make: private to the folder. Each adds to a half-made spec; on failure the
 * caller releases it. */
#pragma once

#include "kit/plan.h"

/* mounts and workdir. */
int plan_add_mounts(struct box_spec *s, const struct strv *args, struct err *err);
/* Whether @path lies in a mount that is read-only. After plan_add_mounts. */
bool plan_path_read_only(const struct box_spec *s, const char *path);
/* Everything that kits bring: entrypoint, rules, credentials, variables, steps, files, trees. After
 * plan_add_mounts. What the base extends first (the root before its child), then the base, then the
 * others in order. */
int plan_add_kits(struct box_spec *s, const struct plan_request *req, struct err *err);
/* The kits of that order; the list is owned. */
const struct kit **plan_order(const struct kit *kits, size_t n);
/* What runs: each kit of the family says anew what it says at all. */
void plan_add_launch(struct box_spec *s, const struct kit *k);
/* The resolved image: its variables, which those of kits replace, and its entrypoint and command where
 * the kits have none. After plan_add_launch. */
void plan_add_image(struct box_spec *s, const struct plan_request *req);
/* Built-in services that the user grants by name; after plan_add_kits. */
int plan_add_services(struct box_spec *s, const struct plan_request *req, struct err *err);
/* The ssh-agent, as far as kits ask for it and the user grants it. */
void plan_add_ssh(struct box_spec *s, const struct plan_request *req);
/* A credential of @source, with its placeholder. Nobody has one for the service so far. */
void plan_add_credential(
	struct box_spec *s, const char *source, const struct kit_credential *c, bool required);
/* Whether files at @path belong to the agent: its home and the workspace. */
bool plan_is_agents(const struct box_spec *s, const char *path);
/* The steps that make volumes; before any other step. @order: kits as they apply. */
void plan_add_volumes(struct box_spec *s, const struct kit *const *order, size_t n);
/* Note where a single value came from. */
void plan_set_origin(struct box_spec *s, const char *what, const char *from);
/* Set K in the list of K=V. */
void plan_set_env(struct strv *env, const char *name, const char *value);
void plan_add_rule(struct spec_net *n, bool allow, const char *target, const char *source);
/* UTF-8, as JSON needs it. */
bool plan_is_text(const char *s);

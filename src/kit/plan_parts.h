/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of plan_make: private to the folder. Each adds to a half-made spec; on failure the
 * caller releases it. */
#pragma once

#include "kit/plan.h"

/* mounts and workdir. */
int plan_add_mounts(struct box_spec *s, const struct plan_request *req, struct err *err);
/* Whether @path lies in a mount that is read-only. After plan_add_mounts. */
bool plan_path_read_only(const struct box_spec *s, const char *path);
/* Whether @path lies in any of them. */
bool plan_in_mount(const struct box_spec *s, const char *path);
/* Directories that all sandboxes with a kit share. After plan_add_mounts. */
int plan_add_host_mounts(struct box_spec *s, const struct kit *k, struct err *err);
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
/* plan_capabilities.c: kits of schemaVersion "3". */
/* Whether they can run here at all. */
int plan_check_capabilities(const struct kit *kits, size_t n, struct err *err);
/* What only they have, behind all else that kits bring. @order: providers before requirers. */
int plan_add_capabilities(struct box_spec *s, const struct plan_request *req,
	const struct kit *const *order, struct err *err);
/* plan_selection.c: what became of their capabilities, as far as that is known when they are
 * loaded. */
void plan_add_selection(struct box_spec *s, const struct kit *k);
/* The optional ones of @type in @k are not to be had after all. A group is chosen as a whole, and
 * what else is in it has taken effect by now: that is refused. */
int plan_reject(struct box_spec *s, const struct kit *k, const char *type, struct err *err);
/* plan_env.c: variables in their hooks and files; when all variables are known. */
int plan_fill_env(struct box_spec *s, const struct plan_request *req, struct err *err);
/* plan_context.c: their instructions and skills. */
int plan_add_context(
	struct box_spec *s, const struct kit *const *order, size_t n, struct err *err);
/* A step of Hutch's own, run once: a shell script with arguments. */
void plan_add_own_step(struct box_spec *s, const char *kit, const char *user, const char *description,
	const char *script, const char *const *args, size_t n_args);
/* A file of the agent's from a kit of schemaVersion "3". Takes @content. */
void plan_add_agent_file(struct box_spec *s, const char *kit, const char *path, char *content,
	unsigned mode, bool only_if_missing);
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

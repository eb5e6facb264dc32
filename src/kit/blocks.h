/* SPDX-License-Identifier: Apache-2.0 */
/* The blocks that the grammars have in common: their tables and loaders. */
#pragma once

#include "kit/fields.h"
#include "kit/kit.h"

/* Into struct kit_sandbox and its like. */
field_fn load_argv;    /* struct strv: a program and its arguments */
field_fn load_command; /* command_default, command_interactive: a list, or a map of both */
extern const struct shape resources_shape; /* of struct kit_sandbox */

/* Into struct kit. */
field_fn load_allow, load_deny;
field_fn load_vars;
/* Hosts with @phase, appended to k->rules. */
void load_hosts(struct load *l, const struct ynode *n, struct kit *k, bool allow, unsigned phase);
field_fn load_licenses, load_locked;

extern const struct shape install_shape, startup_shape; /* struct kit_step */
extern const struct shape file_shape;                   /* struct kit_file */
extern const struct shape port_shape;                   /* struct kit_port */
extern const struct shape volume_shape;                 /* struct kit_volume */

/* setup.install[].command; v3 takes a list, too. */
field_fn load_shell;
field_fn load_mode; /* unsigned */
/* Whose rights a struct kit_step has where it does not say: in every grammar the same. */
void finish_install_step(struct load *l, const struct ynode *n, void *entry);
void finish_startup_step(struct load *l, const struct ynode *n, void *entry);

/* ---- credentials ---- */

extern const struct shape credential_shape; /* struct kit_credential of "2" */
extern const struct shape oauth1_shape, oauth2_shape, oauth3_shape;
extern const struct shape api_key3_shape;
extern const struct shape ssh_shape; /* sshAgent of "2": struct kit */
/* What "oauth" has in every grammar: check that it is whole. */
void finish_oauth(struct load *l, const struct ynode *n, void *entry);

#define JSON_STRINGS "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}"
#define JSON_STRING  "{\"type\":\"string\"}"
#define JSON_VARS    "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}}"
#define JSON_ANY     "{}"

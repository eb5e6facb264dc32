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

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "kit/report.h"
#include "wire/spec.h"

enum kit_kind {
	KIT_SANDBOX, /* "sandbox"; in schemaVersion "3" "workload" */
	KIT_MIXIN,
	KIT_SET, /* schemaVersion "3", authoring only: published kits merged into one */
};

/* When a rule or a credential is in force. */
enum kit_phase { KIT_ALWAYS, KIT_INSTALL = 1, KIT_RUNTIME = 2 };

struct ynode;

struct kit_rule {
	bool allow;
	char *target;               /* checked with policy_rule_parse */
	unsigned phase;             /* of enum kit_phase */
	struct strv methods, paths; /* requests that an allow rule is bounded to; or empty */
};

struct kit_var {
	char *name, *value;
};

struct kit_inject {
	const struct ynode *at; /* its domain in the text, while loading */
	char *domain;
	enum spec_inject_kind kind;
	char *header, *format; /* exactly one %s; both NULL: as the owner of the service says */
	char *username;        /* not NULL: HTTP Basic */
	char *parameter, *placeholder;
	bool in_body, insecure;
};

struct kit_oauth {
	bool given;
	char *host, *path;
	struct strv resource_hosts; /* empty: where the key would go */
	char *access_sentinel, *refresh_sentinel;
	char *access_name, *refresh_name, *expires_name, *scope_name; /* responseFields */
	char *file, *file_text; /* credentialFile: path, and content with {{.Name}} in it */
	bool file_verbatim;     /* the content is a template, not an encoded structure */
	bool passthrough;
};

struct kit_credential {
	const struct ynode *at; /* in the text, while loading */
	char *service, *description;
	bool required;
	unsigned phase; /* mask of enum kit_phase */
	char *env;      /* guest variable that holds the placeholder; may be NULL */
	struct kit_inject *injects;
	size_t n_injects;
	struct kit_oauth oauth;
	bool adds; /* schemaVersion "1": more domains for a service that another kit owns */
};

struct kit_step {
	struct strv argv; /* never empty; ["sh", "-c", …] for install steps */
	char *user; /* never NULL: "0" for install, "1000" for start-up unless said otherwise */
	char *description;
	struct strv env; /* schemaVersion "3": the variables that an install hook sees */
	bool background;
};

struct kit_file {
	char *path;    /* absolute, without "." and ".." */
	char *content; /* ${WORKDIR} is not replaced yet */
	char *description;
	unsigned mode;
	bool only_if_missing;
};

struct kit_port {
	const struct ynode *at; /* in the text, while loading */
	unsigned container;     /* 1 to 65535 */
	bool udp;
	char *name;
};

struct kit_volume {
	const struct ynode *at; /* in the text, while loading */
	char *path;             /* absolute */
	bool tmpfs;
	uint64_t size_bytes; /* 0: not said */
	unsigned mode;       /* 0: not said */
	bool zero_size, zero_mode; /* but said they were */
};

struct kit_sandbox {
	char *image;            /* "base" is Hutch's own; NULL: that of the parent */
	struct strv entrypoint; /* empty: a login shell */
	struct strv command_default, command_interactive; /* the fallback is already applied */
	bool command_given;
	double cpus; /* 0: not said, as the other resources */
	uint64_t memory_bytes;
};

/* ---- schemaVersion "3" ---- */

/* The user's ssh-agent. */
struct kit_ssh {
	unsigned phase;           /* mask of enum kit_phase */
	bool unrestricted;        /* signs anything; else: */
	struct strv sign, logins; /* namespaces of signatures; [user@]host */
	bool optional;
};

/* A directory of the host's that all sandboxes with this kit share. */
struct kit_host_mount {
	const struct ynode *at; /* in the text, while loading */
	char *path;
	unsigned mode; /* 0: not said */
};

/* A file where an agent looks for instructions. */
struct kit_profile {
	char *directory; /* NULL: beside the workspace */
	char *filename;
};

struct kit_skills {
	char *path;
	bool writable;
};

/* A directory of the image that goes into every directory of skills. */
struct kit_skill {
	char *path, *name;
	bool optional;
};

/* How a session is begun: arguments behind the command; list: a command of its own. */
#define KIT_MARK_PROMPT  "{{.Prompt}}"
#define KIT_MARK_SESSION "{{.SessionID}}"
struct kit_verb {
	bool given;
	struct strv tail;
};
struct kit_sessions {
	struct kit_verb prompt, resume, last, list, fresh, picker;
};

/* A published kit of a set. */
struct kit_member {
	char *ref, *digest; /* as in the text; digest may be NULL */
	struct strv args;   /* NAME=VALUE */
};

/* A program that speaks the Agent Client Protocol. */
struct kit_acp {
	char *agent;
	struct strv command;
};

/* A declared argument and its value. */
struct kit_arg {
	char *name, *description;
	char *fallback; /* default; NULL when required */
	bool required;
	struct strv choices; /* enum */
	char *pattern;
	char *env, *build_arg; /* schemaVersion "3" */
	char *value;           /* NULL: none given, a placeholder stands in */
};

/* provides, requires, integrates, conflicts of schemaVersion "3". */
enum kit_op { KIT_OP_EQ, KIT_OP_GE, KIT_OP_GT, KIT_OP_LE, KIT_OP_LT };

struct kit_relation {
	char *name;    /* with its namespace */
	char *version; /* provides: NULL when not said */
	struct kit_bound {
		enum kit_op op;
		char *version;
	} * bounds;
	size_t n_bounds;
};

struct kit_capability {
	const struct ynode *at; /* in the text, while loading */
	char *type, *label;
	int group; /* -1: none; else those with one number are chosen as a whole */
	size_t item, member; /* its place: capabilities[item], or
				capabilities[item].group.capabilities[member] */
	bool optional;
	bool known;
	bool skipped; /* it, or one of its group, cannot be provided; what it says is not in the kit */
};

/* All strings are owned and may be NULL where the kit says nothing. */
struct kit {
	char *dir;  /* absolute; holds spec.yaml and files/ */
	char *file; /* spec.yaml as the user would name it, for messages */
	/* Of kits from elsewhere; else NULL. */
	char *source, *pin, *digest, *root; /* as in struct kit_place */
	unsigned schema;
	enum kit_kind kind;
	char *name, *version, *display_name, *description, *source_url;
	char *author, *icon_url; /* schemaVersion "3" */
	struct strv licenses;
	struct strv locked; /* dotted paths that kits which extend this one must leave alone */
	struct strv says;   /* dotted paths of all that this kit sets; only of those that extend */
	bool privileged;
	struct kit_arg *args;
	size_t n_args;
	bool placeholders; /* a required argument had no value: for checking only */
	char *extends;
	struct strv mixins;
	bool is_parent;       /* in a set: another kit there extends it */
	char *requires_agent; /* mixins */
	struct kit_sandbox sandbox;
	char *instructions_filename, *instructions;
	char *instructions_file; /* schemaVersion "3": where the text is, below dir */
	struct kit_rule *rules;  /* allow and deny, in the order of the file */
	size_t n_rules;
	struct kit_var *vars; /* unique names; variables that Hutch owns are left out */
	size_t n_vars;
	struct kit_credential *credentials; /* unique services */
	size_t n_credentials;
	struct strv ssh_keys, ssh_hosts; /* sshAgent */
	bool ssh_any_host;
	struct kit_step *install, *startup;
	size_t n_install, n_startup;
	struct kit_file *files;
	size_t n_files;
	struct kit_port *ports;
	size_t n_ports;
	struct kit_volume *volumes; /* unique paths */
	size_t n_volumes;
	bool has_home, has_workspace; /* dir/files/home, dir/files/workspace */
	/* schemaVersion "3" */
	struct kit_relation *provides, *requires, *integrates, *conflicts;
	size_t n_provides, n_requires, n_integrates, n_conflicts;
	struct kit_capability *capabilities;
	size_t n_capabilities;
	struct kit_ssh *ssh;
	size_t n_ssh;
	struct kit_host_mount *host_mounts;
	size_t n_host_mounts;
	struct kit_profile *profiles;
	size_t n_profiles;
	struct kit_skills *skills;
	size_t n_skills;
	struct kit_skill *bundled;
	size_t n_bundled;
	struct kit_sessions sessions, terminal; /* without and on a terminal */
	struct kit_acp *acp;
	size_t n_acp;
	struct strv usb_devices;
	bool long_running, git_identity, sbx;
	bool git_optional;
	struct kit_member *members; /* kind set; once they are loaded beside it, it is a mixin */
	size_t n_members;
	char *recipe;         /* the Dockerfile: its path, or "build" for one inside */
};

/* Values that the user gives to kits' arguments. */
struct kit_inputs {
	struct kit_input {
		char *kit; /* NULL: every kit that declares the name */
		char *name, *value;
		bool from_file; /* the command line wins */
		bool used;
		bool kept; /* said for an earlier set of kits: these need not declare it */
	} * v;
	size_t n;
	/* A required argument without a value is no error: what depends on it is not checked. */
	bool placeholders;
};

/* "[KIT.]NAME=VALUE", as with --kit-arg. */
int kit_inputs_add(struct kit_inputs *in, const char *text, struct err *err);
/* A YAML map of NAME: VALUE and KIT: {NAME: VALUE}, as with --kit-args-file. */
int kit_inputs_add_file(
	struct kit_inputs *in, const char *path, struct kit_errors *errs, struct err *err);
/* Whether each was wanted by a kit that was loaded with these. */
int kit_inputs_check_used(const struct kit_inputs *in, struct err *err);
void kit_inputs_done(struct kit_inputs *in);

/* Load the kit in directory @path (or whose file is @path). Errors and warnings of the text go to
 * @errs, all in one go; on failure @err is the one-line summary. *ret is only set on success. @in
 * may be NULL; what is used of it is marked. */
int kit_load(const char *path, struct kit_inputs *in, struct kit *ret, struct kit_errors *errs,
	struct err *err);
/* As kit_load, from memory, without looking at files/. For tests and fuzzing. */
int kit_load_text(const char *text, size_t len, const char *file, struct kit_inputs *in,
	struct kit *ret, struct kit_errors *errs);
void kit_done(struct kit *k);
void kit_oauth_done(struct kit_oauth *o);

/* Which directory "shell" or "./my-kit" means: text with a slash, "." and ".." are paths, anything
 * else is a kit that comes with Hutch. Owned, or NULL with @err. */
char *kit_locate(const char *name_or_path, struct err *err);

/* hutch kit validate: everything found and a closing line on @out, or all of it as JSON. 0 when the
 * kit may be used. */
int kit_validate(const char *path, struct kit_inputs *in, bool json, FILE *out, struct err *err);

/* Kits that form one sandbox, in the order in which they apply: what the sandbox kit extends (the
 * root first), the sandbox kit, its mixins, then those of the command line. */
struct kit_set {
	struct kit *kits;
	size_t n;
};

/* Where a kit from elsewhere was put. Strings are owned. */
struct kit_place {
	char *path;   /* its directory, or its file */
	char *root;   /* the directory that was fetched: nothing outside belongs to it */
	char *pin;    /* the reference that will always mean the same */
	char *digest; /* of all that is in root */
	char *source; /* what approvals are remembered by; NULL: none needed */
};
void kit_place_done(struct kit_place *p);

/* Finds what is neither a directory nor comes with Hutch. */
struct kit_finder {
	/* 0: *ret is filled, 1: an ordinary reference, -1: @err. @from names it; NULL: the user. */
	int (*find)(void *arg, const char *ref, const struct kit *from, struct kit_place *ret,
		struct err *err);
	void *arg;
};

/* Load @refs (the sandbox kit first) with all that they extend and list as mixins. As kit_load.
 * @finder may be NULL. */
int kit_set_load(const struct strv *refs, struct kit_inputs *in, const struct kit_finder *finder,
	struct kit_set *ret, struct kit_errors *errs, struct err *err);
void kit_set_done(struct kit_set *set);

/* Whether these kits may form one sandbox: exactly one sandbox kit besides its parents, names and
 * credential services unique, requires.agent met, locked paths left alone. */
int kit_check_set(const struct kit *kits, size_t n, struct err *err);
/* The sandbox kit of a checked set. */
const struct kit *kit_base(const struct kit *kits, size_t n);

/* schemaVersion "3": check the set and put providers before requirers. */
int kit_resolve(struct kit *kits, size_t n, struct err *err);

/* The JSON Schema of a grammar, made of the tables that the loader reads with. NULL: no such one.
 */
json_t *kit_schema(unsigned schema);

/* Files below files/ that are larger are copied as they are, references and all. */
#define KIT_EXPAND_MAX (1024 * 1024)
/* Replace the references of a kit's file. @args: NAME=VALUE. -1 when the result is too large. */
int kit_put_args(const struct strv *args, const char *text, size_t len, struct buf *out);

/* "512m", "8g", "2gib", "1.5 GB": binary units, at most INT64_MAX. -1 when it is not a size. */
int kit_parse_size(const char *s, uint64_t *ret);
/* ^[A-Za-z_][A-Za-z0-9_]*$ */
bool kit_env_name_valid(const char *s);

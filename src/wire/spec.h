/* SPDX-License-Identifier: Apache-2.0 */
/* struct box_spec: everything that a sandbox is, after all decisions. The planner (kit/plan.c) makes
 * it, `run --dry-run` prints it, boxes/NAME/spec.json holds it, hutch-box and hutch-gate execute it.
 * No decision is left in it. All pointers are owned. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/err.h"
#include "base/mem.h"

#define SPEC_VERSION 1

enum spec_engine { SPEC_ENGINE_AUTO, SPEC_ENGINE_KVM, SPEC_ENGINE_QEMU };

/* When something is in force: only while the install steps of kits run, or only afterwards. */
enum spec_phase { SPEC_ALWAYS, SPEC_INSTALL, SPEC_RUNTIME, SPEC_PHASES };

struct spec_mount {
	char *host_path, *guest_path; /* absolute; normally equal */
	bool read_only;
	char *kit;     /* NULL: the user's; else a directory that all sandboxes with this kit share */
	unsigned mode; /* such a directory's, when it is made */
};

/* One setup.install or setup.startup entry; argv is ["sh","-c",…] for install steps. */
struct spec_step {
	struct strv argv;
	char *user;	   /* name or number inside the guest */
	char *description; /* may be "" */
	char *kit;	   /* which kit it came from */
	bool background;   /* start-up steps only */
	bool bounded;	   /* of the sandbox's variables it sees those named in env, and no others */
	struct strv env;   /* names; as K=V: with that value */
	bool done;         /* ran in an earlier generation of the sandbox, and is not to run again */
};

/* One setup.files entry or generated file. ${WORKDIR} is already replaced. */
struct spec_file {
	char *path, *content, *kit;
	unsigned mode;
	bool only_if_missing;
	bool as_root; /* owner root instead of agent */
	bool each_start; /* written at every start, before start-up commands; else once */
};

/* A kit's files/home or files/workspace tree, copied to boxes/NAME/files/<dir> at creation. */
struct spec_tree {
	char *dir;  /* "0-home", name below boxes/NAME/files */
	char *dest; /* absolute directory in the guest */
	char *source; /* host directory it is copied from (creation only) */
	char *kit;
	struct strv args; /* NAME=VALUE: put in for ${{ kit.args.NAME }} (creation only) */
};

/* A port that is published on the host's 127.0.0.1. */
struct spec_port {
	unsigned container;
	bool udp;
	char *name;    /* may be "" */
	char *kit;     /* who wants it; "user" */
	unsigned host; /* 0: any */
};

/* What is shown of a volume; prepare holds the steps that make and mount it. */
struct spec_volume {
	char *path, *kit;
	bool tmpfs;
	uint64_t size_bytes;        /* 0: not said */
	unsigned mode;              /* 0: not said */
	bool zero_size, zero_mode;  /* but said they were */
	bool retained; /* of an earlier generation: its content is kept, and not mounted */
};

/* What became of one entry of a kit's capabilities, or of a group of them: all or nothing. */
struct spec_selection {
	char *kit, *path; /* "capabilities[2]" */
	bool optional;
	struct strv types; /* of its members … */
	struct strv
		members; /* … where they are: "capabilities[2].group.capabilities[0]", or path … */
	struct strv rejected; /* … and those for which it is skipped; none: it is selected */
};

/* Where a single value came from: shown to people, never acted upon. */
struct spec_origin {
	char *what; /* "image", "command", "env NAME" */
	char *from; /* "kit hello", "user -e" */
};

struct spec_rule {
	bool allow;
	char *target; /* DESIGN 5 grammar: host[:port], *.host, **.host, CIDR, ** */
	char *source; /* "kit hello", "user", "preset balanced": shown in refusals and the audit log */
	enum spec_phase phase; /* left out in JSON when it is always */
};

/* How a value gets into a request. */
enum spec_inject_kind {
	SPEC_INJECT_HEADER,      /* header, set to format */
	SPEC_INJECT_QUERY,       /* parameter of the query, set */
	SPEC_INJECT_PLACEHOLDER, /* replaced in headers, and with in_body in bodies */
	SPEC_INJECT_AWS,         /* signs the request anew: sigv4.h */
	SPEC_INJECT_REGISTRY,    /* HTTP Basic, where the request carries no issued token */
	SPEC_INJECT_CERTIFICATE, /* client certificate and key (PEM) of the connection */
	SPEC_INJECT_KINDS,
};

/* In JSON, what is NULL, false or SPEC_INJECT_HEADER is left out, but for the first four. */
struct spec_inject {
	char *domain;	/* rule target grammar */
	char *header;	/* canonical spelling as the kit wrote it; "" for other kinds */
	char *format;	/* exactly one %s; "Bearer %s"; "" for other kinds */
	char *username; /* non-NULL: HTTP Basic with this user name; header and format are set too */
	enum spec_inject_kind kind;
	char *parameter, *placeholder; /* or NULL */
	bool in_body;
	bool insecure; /* also without TLS; only for the host's loopback */
};

/* OAuth: the tokens stay on the host, see gate/oauth.h. */
struct spec_oauth {
	char *host, *path;           /* of the token endpoint; the host is a rule target */
	struct strv resource_hosts;  /* rule targets: where the access token is sent */
	char *access_sentinel, *refresh_sentinel;
	/* Names in the endpoint's answer; NULL: the usual ones. */
	char *access_name, *refresh_name, *expires_name, *scope_name;
	char *file, *file_text; /* written into the guest when there are tokens; or NULL */
	bool file_verbatim;     /* file_text is a template, not encoded data */
	bool passthrough;       /* the guest gets the tokens themselves */
};

struct spec_credential {
	char *service; /* name in the secret store */
	char *env;     /* guest variable holding the placeholder, or "" */
	char *kit;
	bool required;
	struct spec_inject *injects;
	size_t n_injects;
	struct spec_oauth *oauth; /* one or none; left out in JSON when there is none */
	size_t n_oauth;
	enum spec_phase phase; /* as of a rule; a service may be there once for each */
};

/* Certificates that are believed for some servers besides the host's own trust store. */
struct spec_ca {
	char *target; /* host[:ports] */
	char *pem;
};

struct spec_resolve {
	char *name;    /* host name, lower case */
	char *address; /* "127.0.0.1:8443" or "[::1]:8443" */
};

/* What hutch-gate enforces. Sent to it as JSON; also inside spec.json as "network". */
struct spec_net {
	struct spec_rule *rules;
	size_t n_rules;
	struct spec_credential *credentials;
	size_t n_credentials;
	struct spec_resolve *resolves;
	size_t n_resolves;
	struct spec_ca *cas;
	size_t n_cas;
	bool learn; /* record names and requests, ask the user nothing; left out in JSON when false */
};

/* The user's rules for all sandboxes: policy.json beside settings.yaml. */
struct spec_rules {
	char *preset; /* where rules with its name as source come from, or "" */
	struct spec_rule *rules;
	size_t n_rules;
};

/* How sessions of the agent are begun and listed: arguments behind the entrypoint and its command, with
 * {{.Prompt}} and {{.SessionID}} in them; list is a command of its own. */
struct spec_session {
	char *verb; /* "prompt", "resume", "continue", "list" */
	bool terminal; /* for one that is used on a terminal */
	struct strv argv;
};

struct box_spec {
	char *name;
	char *agent; /* base kit name, shown by ls */
	struct strv kits;
	enum spec_engine engine;
	unsigned cpus;
	uint64_t memory_bytes, disk_bytes;
	char *image;   /* root image: "base", Hutch's own, or "oci://HOST/NAME@sha256:…" */
	struct strv layers; /* pinned images whose layers lie on top of it, in order */
	char *user;    /* who runs the entrypoint: "agent" */
	char *workdir; /* guest path */
	struct spec_mount *mounts;
	size_t n_mounts;
	struct strv env; /* K=V, placeholders included */
	struct strv entrypoint, command_default, command_interactive, args;
	struct spec_step *prepare, *install, *startup; /* each start, first of all; once; each start */
	size_t n_prepare, n_install, n_startup;
	struct spec_file *files;
	size_t n_files;
	struct spec_tree *home_trees, *workspace_trees;
	size_t n_home_trees, n_workspace_trees;
	struct spec_port *ports;
	size_t n_ports;
	struct spec_volume *volumes;
	size_t n_volumes;
	struct spec_net net;
	struct strv ssh_keys; /* of the user's ssh-agent … */
	bool ssh_any_key;     /* … or all of them; neither: it is not there for the sandbox */
	struct strv ssh_hosts; /* where they may log in: "[user@]name", "[name]:port" or "SHA256:…" */
	struct strv ssh_sign;  /* namespaces of signatures that they may make: "git" */
	enum spec_phase ssh_phase;
	bool ssh_any_host;     /* anywhere, and sign what is no log-in */
	struct spec_session *sessions;
	size_t n_sessions;
	bool remove_on_exit; /* --rm */
	bool strict;	     /* --strict: no start with a layer of isolation missing */
	char *cache_key; /* of the install cache; "": neither read nor written */
	uint64_t generation; /* how often the sandbox was recreated: which layer of the disk is its root */
	struct spec_selection *selection; /* schemaVersion "3" */
	size_t n_selection;
	char *git_name, *git_email; /* the user's, where a kit asks for them; or NULL */
	struct strv made_with; /* words of "hutch create" that would make it again, in … */
	char *made_in;         /* … this directory; or NULL */
	struct spec_origin *origins;
	size_t n_origins;
};

/* New JSON object (a new reference, owned by the caller). */
json_t *spec_to_json(const struct box_spec *s);
json_t *spec_net_to_json(const struct spec_net *n);
json_t *spec_rules_to_json(const struct spec_rules *r);
/* Strict: unknown keys, wrong types and another version are errors. The result must be released
 * with the _done function in both cases. */
int spec_from_json(const json_t *j, struct box_spec *ret, struct err *err);
int spec_net_from_json(const json_t *j, struct spec_net *ret, struct err *err);
int spec_rules_from_json(const json_t *j, struct spec_rules *ret, struct err *err);
/* Whether what the readers complain of is a key too many or too few: another version of Hutch wrote it. */
bool spec_err_is_skew(const struct err *err);
/* The user's file. That there is none is no error; one that cannot be read is: it may deny. */
int spec_rules_load(struct spec_rules *ret, struct err *err);
int spec_rules_save(const struct spec_rules *r, struct err *err);
void spec_rules_done(struct spec_rules *r);
void spec_done(struct box_spec *s);
void spec_net_done(struct spec_net *n);
const char *spec_engine_name(enum spec_engine e);
const char *spec_inject_name(enum spec_inject_kind k);
const char *spec_phase_name(enum spec_phase p); /* "install" */
/* Whether anything of it changes when the installation ends. */
bool spec_net_has_phases(const struct spec_net *n);
/* The file setup-done in the sandbox's directory: the set-up of the generation in it has finished. */
bool spec_is_set_up(int dir_fd, const struct box_spec *s);
int spec_note_set_up(int dir_fd, const struct box_spec *s, struct err *err);
/* Whether set-up runs hooks of kits that have an installation phase. */
bool spec_has_hooks(const struct box_spec *s);
/* A sandbox name: ^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$ */
bool spec_name_valid(const char *name);

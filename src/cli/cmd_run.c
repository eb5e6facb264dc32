/* SPDX-License-Identifier: Apache-2.0 */
/* hutch run, hutch create: from flags and kits to a running sandbox. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/paths.h"
#include "cli/approve.h"
#include "cli/boxes.h"
#include "cli/identity.h"
#include "cli/images.h"
#include "cli/interrupt.h"
#include "cli/kit.h"
#include "cli/rules.h"
#include "cli/secrets.h"
#include "cli/session.h"
#include "cli/sessions.h"
#include "cli/start.h"
#include "kit/plan.h"
#include "kit/services.h"

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
	const char *verb, *words; /* --prompt, --resume, --continue; or NULL */
	const char *fixed;    /* a flag that only makes sense for a new sandbox, or NULL */
};

enum { OPT_NAME = 256, OPT_KIT, OPT_ENGINE, OPT_CPUS, OPT_MEMORY, OPT_DISK, OPT_RM, OPT_DRY_RUN,
	OPT_ALLOW, OPT_RESOLVE, OPT_JSON, OPT_STRICT, OPT_KIT_ARG, OPT_KIT_ARGS_FILE,
	OPT_LEARN, OPT_NO_LEARN, OPT_NO_CACHE, OPT_APPROVE_KIT, OPT_CREDENTIAL,
	OPT_SSH_AGENT, OPT_NO_WORKSPACE, OPT_PROMPT, OPT_RESUME, OPT_CONTINUE };

static const struct option longs[] = {{"name", required_argument, NULL, OPT_NAME},
	{"kit", required_argument, NULL, OPT_KIT}, {"engine", required_argument, NULL, OPT_ENGINE},
	{"cpus", required_argument, NULL, OPT_CPUS}, {"memory", required_argument, NULL, OPT_MEMORY},
	{"disk", required_argument, NULL, OPT_DISK}, {"env", required_argument, NULL, 'e'},
	{"rm", no_argument, NULL, OPT_RM}, {"detach", no_argument, NULL, 'd'},
	{"dry-run", no_argument, NULL, OPT_DRY_RUN}, {"allow", required_argument, NULL, OPT_ALLOW},
	{"resolve", required_argument, NULL, OPT_RESOLVE}, {"json", no_argument, NULL, OPT_JSON},
	{"learn", no_argument, NULL, OPT_LEARN}, {"no-learn", no_argument, NULL, OPT_NO_LEARN},
	{"strict", no_argument, NULL, OPT_STRICT},
	{"kit-arg", required_argument, NULL, OPT_KIT_ARG},
	{"kit-args-file", required_argument, NULL, OPT_KIT_ARGS_FILE},
	{"approve-kit", required_argument, NULL, OPT_APPROVE_KIT},
	{"no-cache", no_argument, NULL, OPT_NO_CACHE},
	{"credential", required_argument, NULL, OPT_CREDENTIAL},
	{"ssh-agent", no_argument, NULL, OPT_SSH_AGENT},
	{"no-workspace", no_argument, NULL, OPT_NO_WORKSPACE},
	{"prompt", required_argument, NULL, OPT_PROMPT},
	{"resume", required_argument, NULL, OPT_RESUME},
	{"continue", no_argument, NULL, OPT_CONTINUE}, {0}};

static int parse_number(const char *cmd, const char *flag, const char *text, unsigned max, unsigned *ret)
{
	char *end;
	unsigned long v;

	errno = 0;
	v = strtoul(text, &end, 10);
	if (errno || *end || text[0] < '0' || text[0] > '9' || v == 0 || v > max)
		return cli_failf("%s: %s %s: not a number from 1 to %u", cmd, flag, text, max);
	*ret = (unsigned)v;
	return 0;
}

static int parse_size(const char *cmd, const char *flag, const char *text, uint64_t min, uint64_t *ret)
{
	if (kit_parse_size(text, ret) < 0)
		return cli_failf("%s: %s %s: not a size; write it like 512m or 8g", cmd, flag, text);
	if (*ret < min)
		return cli_failf("%s: %s %s: too small, at least %llum", cmd, flag, text,
			(unsigned long long)(min >> 20));
	return 0;
}

static int parse_engine(const char *cmd, const char *text, enum spec_engine *ret)
{
	for (int e = SPEC_ENGINE_AUTO; e <= SPEC_ENGINE_QEMU; e++) {
		if (strcmp(spec_engine_name((enum spec_engine)e), text) == 0) {
			*ret = (enum spec_engine)e;
			return 0;
		}
	}
	return cli_failf("%s: --engine %s: not one of auto, kvm, qemu", cmd, text);
}

static int parse_option(struct request *r, const char *cmd, int c)
{
	struct plan_request *p = &r->plan;
	struct err err;

	switch (c) {
	case OPT_NAME:
		p->name = optarg;
		if (!spec_name_valid(optarg))
			return cli_failf("%s: --name %s: not a sandbox name (a-z, 0-9 and -, at most 64)",
				cmd, optarg);
		return 0;
	case OPT_KIT:
		r->fixed = "--kit";
		strv_add(&r->kit_paths, optarg);
		return 0;
	case OPT_KIT_ARG:
		r->fixed = "--kit-arg";
		return kit_inputs_add(&r->inputs, optarg, &err) < 0 ? cli_fail(&err) : 0;
	case OPT_KIT_ARGS_FILE:
		r->fixed = "--kit-args-file";
		strv_add(&r->args_files, optarg);
		return 0;
	case OPT_APPROVE_KIT:
		strv_add(&r->approved, optarg);
		return 0;
	case OPT_ENGINE:
		r->fixed = "--engine";
		return parse_engine(cmd, optarg, &p->engine);
	case OPT_CPUS:
		r->fixed = "--cpus";
		return parse_number(cmd, "--cpus", optarg, 32, &p->cpus);
	case OPT_MEMORY:
		r->fixed = "--memory";
		return parse_size(cmd, "--memory", optarg, 256u << 20, &p->memory_bytes);
	case OPT_DISK:
		r->fixed = "--disk";
		return parse_size(cmd, "--disk", optarg, 256u << 20, &p->disk_bytes);
	case OPT_ALLOW:
		strv_add(&p->allow, optarg);
		return 0;
	case OPT_LEARN:
	case OPT_NO_LEARN:
		p->learn = c == OPT_LEARN;
		r->set_learn = true;
		return 0;
	case OPT_SSH_AGENT:
		r->fixed = "--ssh-agent";
		p->ssh_agent = true;
		return 0;
	case OPT_NO_WORKSPACE:
		r->fixed = "--no-workspace";
		p->no_workspace = true;
		return 0;
	case OPT_CREDENTIAL:
		r->fixed = "--credential";
		strv_add(&p->credentials, optarg);
		return 0;
	case OPT_RESOLVE:
		r->fixed = "--resolve";
		strv_add(&p->resolves, optarg);
		return 0;
	case 'e':
		if (!strchr(optarg, '=') && !getenv(optarg))
			return cli_failf("%s: -e %s: not set here; use -e %s=VALUE", cmd, optarg, optarg);
		strv_add(&p->env, optarg);
		return 0;
	case OPT_PROMPT:
	case OPT_RESUME:
	case OPT_CONTINUE:
		if (r->verb)
			return cli_failf("%s: one of --prompt, --resume and --continue", cmd);
		r->verb = c == OPT_PROMPT ? "prompt" : (c == OPT_RESUME ? "resume" : "continue");
		r->words = optarg;
		return 0;
	case OPT_RM:
		p->remove_on_exit = true;
		return 0;
	case 'd':
		r->detach = true;
		return 0;
	case OPT_NO_CACHE:
		r->fixed = "--no-cache";
		r->no_cache = true;
		return 0;
	case OPT_DRY_RUN:
		r->dry_run = true;
		return 0;
	case OPT_STRICT:
		r->fixed = "--strict";
		p->strict = true;
		return 0;
	case OPT_JSON:
		r->json = true;
		return 0;
	default:
		return CLI_FAILED;
	}
}

static int parse(struct request *r, int argc, char **argv)
{
	int c, i;

	strv_add(&r->kit_paths, ""); /* the agent's place */
	while ((c = cli_getopt(argc, argv, "e:d", longs)) != -1)
		if (parse_option(r, argv[0], c) != 0)
			return CLI_FAILED;
	if (optind >= argc || (optind > 1 && strcmp(argv[optind - 1], "--") == 0))
		return cli_usage(argv[0]);
	free(r->kit_paths.v[0]);
	r->kit_paths.v[0] = xstrdup(argv[optind]);
	for (i = optind + 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (argv[i][0] == '-' && argv[i][1])
			return cli_failf("%s: %s: options go before the agent, its arguments after --",
				argv[0], argv[i]);
		strv_add(&r->plan.mounts, argv[i]);
	}
	for (i++; i < argc; i++)
		strv_add(&r->plan.args, argv[i]);
	if (r->plan.no_workspace && r->plan.mounts.n)
		return cli_failf("%s: --no-workspace, and %s to share", argv[0], r->plan.mounts.v[0]);
	if (r->json && !r->dry_run)
		return cli_failf("%s: --json goes with --dry-run", argv[0]);
	if (r->verb && (r->create_only || r->plan.args.n))
		return cli_failf("%s: --%s goes without arguments of your own", argv[0], r->verb);
	if (r->create_only && (r->detach || r->plan.remove_on_exit || r->plan.args.n))
		return cli_failf("create: -d, --rm and arguments belong to hutch run");
	return 0;
}

static int load_kits(struct request *r)
{
	struct kit_errors errs = {0};
	struct kit_finder finder;
	struct err err;
	int result = 0;

	if (settings_load(NULL, &r->settings, &errs, &err) < 0) {
		kit_errors_print(&errs, stderr);
		return cli_fail(&err);
	}
	r->plan.settings = &r->settings;
	r->remote = (struct remote){.settings = &r->settings, .notice = kit_notice};
	finder = remote_finder(&r->remote);
	for (size_t i = 0; result == 0 && i < r->args_files.n; i++)
		result = kit_inputs_add_file(&r->inputs, r->args_files.v[i], &errs, &err);
	if (result == 0)
		result = kit_set_load(&r->kit_paths, &r->inputs, &finder, &r->kits, &errs, &err);
	if (result == 0 && (r->plan.credentials.n || r->settings.credentials.n)) {
		result = services_load(&r->services, &errs, &err);
		r->plan.services = &r->services;
	}
	kit_errors_print(&errs, stderr); /* warnings, too */
	kit_errors_done(&errs);
	r->plan.kits = r->kits.kits;
	r->plan.n_kits = r->kits.n;
	if (result == 0)
		identity_read(&r->plan, &r->identity);
	return result < 0 ? cli_fail(&err) : 0;
}

/* A kit cannot take the ssh-agent: the user gives it. */
static int check_ssh(const struct request *r, const struct box_spec *s)
{
	const char *agent = getenv("SSH_AUTH_SOCK");

	for (size_t i = 0; i < r->kits.n && !r->plan.ssh_agent; i++)
		if (r->kits.kits[i].ssh_keys.n || r->kits.kits[i].n_ssh)
			fprintf(stderr,
				"hutch: kit %s asks for keys of your ssh-agent; they are left out "
				"(--ssh-agent grants them)\n",
				r->kits.kits[i].name);
	if (r->plan.ssh_agent && !s->ssh_keys.n && !s->ssh_any_key)
		return cli_failf("--ssh-agent: no kit asks for it, or says which keys and hosts");
	if (r->plan.ssh_agent && !(agent && *agent))
		return cli_failf("--ssh-agent: no ssh-agent runs here (SSH_AUTH_SOCK is not set)");
	return 0;
}

static int agent_argv(const struct box_spec *s, const struct request *r, bool interactive, struct strv *ret,
	struct err *err)
{
	const struct strv *args = &r->plan.args;

	if (r->verb)
		return sessions_argv(s, r->verb, r->words, interactive, ret, err);
	strv_copy(ret, &s->entrypoint);
	if (args->n)
		strv_copy(ret, args);
	else
		strv_copy(ret, interactive ? &s->command_interactive : &s->command_default);
	return 0;
}

/* Before anything is made. */
static int check_verb(const struct request *r, const struct box_spec *s)
{
	struct strv argv = {0};
	struct err err;
	bool terminal = !r->detach && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	int result = r->verb ? sessions_argv(s, r->verb, r->words, terminal, &argv, &err) : 0;

	strv_done(&argv);
	return result < 0 ? cli_fail(&err) : 0;
}

static int detach(const struct box_spec *s, const struct request *r, struct box_conn *conn, struct err *err)
{
	struct strv argv = {0};
	json_t *list = json_array();

	if (agent_argv(s, r, false, &argv, err) < 0) {
		strv_done(&argv);
		json_decref(list);
		return -1;
	}
	/* An argument that is no UTF-8 becomes null, which is refused. */
	for (size_t i = 0; i < argv.n; i++)
		if (json_array_append_new(list, json_string(argv.v[i])) < 0)
			json_array_append_new(list, json_null());
	strv_done(&argv);
	if (box_request(conn, json_pack("{s:s, s:o}", "op", "detach", "argv", list), NULL, NULL, err) < 0)
		return -1;
	printf("%s\n", s->name);
	return 0;
}

static int attach(const struct box_spec *s, const struct request *r, struct box_conn *conn, struct err *err)
{
	struct session session = {.user = s->user, .cwd = s->workdir, .input = true};
	int fd, status;

	session.tty = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	if (agent_argv(s, r, session.tty, &session.argv, err) < 0) {
		strv_done(&session.argv);
		return -1;
	}
	if (session.tty)
		strv_addf(&session.env, "TERM=%s", getenv("TERM") ? getenv("TERM") : "xterm");
	for (size_t i = 0; i < r->plan.env.n; i++) {
		const char *e = r->plan.env.v[i];

		if (strchr(e, '='))
			strv_add(&session.env, e);
		else
			strv_addf(&session.env, "%s=%s", e, getenv(e));
	}
	if (box_open(conn, &fd, err) < 0)
		return -1;
	/* Nobody is worse off without: an older supervisor does not know the word. */
	if (box_request(conn, json_pack("{s:s}", "op", "watch"), NULL, NULL, NULL) == 0)
		session.events = conn;
	status = session_run(fd, &session, err);
	strv_done(&session.argv);
	strv_done(&session.env);
	return status;
}

static int go(struct box_spec *s, struct request *r, bool is_new)
{
	struct box_conn conn;
	struct err err = {0};
	int status;

	if (start_box(s, is_new, &conn, &err) < 0) {
		cli_fail(&err);
		return interrupt_signal() ? 128 + interrupt_signal() : CLI_FAILED;
	}
	if (r->create_only) {
		printf("%s\n", s->name);
		status = 0;
	} else if (r->detach) {
		status = detach(s, r, &conn, &err);
	} else {
		status = attach(s, r, &conn, &err);
	}
	if (r->plan.learn && status >= 0 && !s->remove_on_exit)
		fprintf(stderr, "hutch: what was asked for and refused: hutch policy suggest %s\n", s->name);
	if (s->remove_on_exit && !r->detach)
		start_undo(s->name, &conn);
	box_conn_close(&conn);
	return status < 0 ? cli_fail(&err) : status;
}

/* --allow and --learn, for a sandbox that exists. */
static int change_rules(const char *name, const struct request *r, struct err *err)
{
	struct ruleset set;
	int result;

	if (!r->plan.allow.n && !r->set_learn)
		return 0;
	if (ruleset_open(name, &set, err) < 0)
		return -1;
	for (size_t i = 0; i < r->plan.allow.n; i++)
		ruleset_add(&set, true, r->plan.allow.v[i], "user --allow");
	if (r->set_learn)
		set.spec.net.learn = r->plan.learn;
	result = ruleset_commit(&set, err);
	ruleset_close(&set);
	return result;
}

/* The sandbox is there: it keeps what it was made with, so refuse what would be ignored. */
static int reuse(struct request *r, const struct box_spec *planned)
{
	struct box_spec s;
	struct err err;
	int status;

	if (r->create_only) {
		cli_failf("create: the name %s is taken", planned->name);
		fprintf(stderr, "       hutch rm %s, or choose another with --name\n", planned->name);
		return CLI_FAILED;
	}
	if (boxes_spec(planned->name, &s, &err) < 0)
		return cli_fail(&err);
	if (r->fixed) {
		cli_failf("run: sandbox %s exists; %s is decided when it is created", s.name, r->fixed);
		fprintf(stderr, "       hutch rm %s, or choose another name with --name\n", s.name);
		status = CLI_FAILED;
	} else if (s.n_mounts && !s.mounts[0].kit && planned->n_mounts && !planned->mounts[0].kit &&
		   strcmp(s.mounts[0].host_path, planned->mounts[0].host_path) != 0) {
		cli_failf("run: sandbox %s belongs to %s", s.name, s.mounts[0].host_path);
		fprintf(stderr, "       choose another name with --name\n");
		status = CLI_FAILED;
	} else if (strcmp(s.agent, planned->agent) != 0) {
		cli_failf("run: sandbox %s runs the agent %s, not %s", s.name, s.agent, planned->agent);
		fprintf(stderr, "       choose another name with --name\n");
		status = CLI_FAILED;
	} else if (secrets_check(&s, true, &err) < 0 ||
		   change_rules(s.name, r, &err) < 0) {
		status = cli_fail(&err);
	} else {
		status = go(&s, r, false);
	}
	spec_done(&s);
	return status;
}

/* Only a sandbox that is still to be made needs its image looked up, and with it a network. */
static int make_plan(struct request *r, struct box_spec *ret, struct err *err)
{
	if (plan_make(&r->plan, ret, err) < 0)
		return -1;
	if (!r->dry_run && boxes_exists(ret->name))
		return 0;
	if (images_resolve(&r->plan, &r->image, err) == 0 && !r->plan.image)
		return 0;
	spec_done(ret);
	return r->plan.image ? plan_make(&r->plan, ret, err) : -1;
}

static int make(struct request *r, struct box_spec *s, struct err *err)
{
	_close_ int hold = image_hold(err);

	if (hold < 0 || start_check(s, err) < 0 || secrets_check(s, true, err) < 0)
		return -1;
	return boxes_create(s, !r->no_cache, err);
}

static int plan_and_go(struct request *r)
{
	struct box_spec s;
	struct err err;
	int status = 0;

	if (r->plan.remove_on_exit && !r->plan.name)
		r->plan.name = r->made_name = start_name(kit_base(r->plan.kits, r->plan.n_kits)
							? kit_base(r->plan.kits, r->plan.n_kits)->name
							: "hutch");
	if (make_plan(r, &s, &err) < 0)
		return cli_fail(&err);
	secrets_settle(&s);
	if (r->dry_run) {
		json_t *j = spec_to_json(&s);

		/* For people: everything that will be in force. */
		if (!r->json && rules_show(&s.net, &err) < 0) {
			status = cli_fail(&err);
		} else if (r->json) {
			json_dumpf(j, stdout, JSON_INDENT(2));
			printf("\n");
		} else {
			plan_print(&s, stdout);
		}
		json_decref(j);
	} else if (check_verb(r, &s) != 0) {
		status = CLI_FAILED;
	} else if (boxes_exists(s.name)) {
		status = reuse(r, &s);
	} else if (check_ssh(r, &s) != 0) {
		status = CLI_FAILED;
	} else if ((status = approve_kits(r->plan.kits, r->plan.n_kits, &r->approved)) != 0) {
		; /* said already */
	} else if (make(r, &s, &err) < 0) {
		/* Another command may have made it meanwhile. */
		status = err.errnum == EEXIST && boxes_exists(s.name) ? reuse(r, &s) : cli_fail(&err);
	} else {
		status = go(&s, r, true);
	}
	spec_done(&s);
	return status;
}

static int run(int argc, char **argv, bool create_only)
{
	struct request r = {.create_only = create_only};
	int status = parse(&r, argc, argv);

	if (status == 0)
		status = load_kits(&r);
	if (status == 0)
		status = plan_and_go(&r);
	kit_set_done(&r.kits);
	kit_done(&r.services);
	images_wanted_done(&r.image);
	identity_done(&r.identity);
	kit_inputs_done(&r.inputs);
	strv_done(&r.args_files);
	strv_done(&r.approved);
	remote_done(&r.remote);
	free(r.made_name);
	settings_done(&r.settings);
	strv_done(&r.kit_paths);
	strv_done(&r.plan.env);
	strv_done(&r.plan.mounts);
	strv_done(&r.plan.args);
	strv_done(&r.plan.allow);
	strv_done(&r.plan.credentials);
	strv_done(&r.plan.resolves);
	return status;
}

int cmd_run(int argc, char **argv)
{
	return run(argc, argv, false);
}

int cmd_create(int argc, char **argv)
{
	return run(argc, argv, true);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* From the words of hutch run, create and recreate to a plan. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/boxes.h"
#include "cli/request.h"
#include "kit/services.h"

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

/* Of what is said, that which makes the sandbox what it is: "hutch recreate" says it again. */
static void note_option(struct request *r, int c)
{
	static const int passing[] = {OPT_NAME, OPT_RM, 'd', OPT_DRY_RUN, OPT_JSON, OPT_NO_CACHE,
		OPT_APPROVE_KIT, OPT_PROMPT, OPT_RESUME, OPT_CONTINUE};
	const struct option *o = longs;

	for (size_t i = 0; i < ARRAY_SIZE(passing); i++)
		if (c == passing[i])
			return;
	while (o->val != c)
		o++;
	if (!o->has_arg)
		strv_addf(&r->made_with, "--%s", o->name);
	else if (c == 'e' && !strchr(optarg, '='))
		strv_addf(&r->made_with, "--%s=%s=%s", o->name, optarg, getenv(optarg));
	else
		strv_addf(&r->made_with, "--%s=%s", o->name, optarg);
}

int request_parse(struct request *r, int argc, char **argv)
{
	int c, i;

	strv_add(&r->kit_paths, ""); /* the agent's place */
	while ((c = cli_getopt(argc, argv, "e:d", longs)) != -1) {
		if (parse_option(r, argv[0], c) != 0)
			return CLI_FAILED;
		note_option(r, c);
	}
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
	for (int m = optind; m < argc && strcmp(argv[m], "--") != 0; m++)
		strv_add(&r->made_with, argv[m]);
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

int request_load_kits(struct request *r)
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
	for (size_t i = 0; i < r->inputs.n; i++)
		r->inputs.v[i].kept = i < r->n_kept || (r->again && r->inputs.v[i].from_file);
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

int request_check_ssh(const struct request *r, const struct box_spec *s)
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

int request_plan(struct request *r, struct box_spec *ret, struct err *err)
{
	if (plan_make(&r->plan, ret, err) < 0)
		return -1;
	if (!r->dry_run && !r->again && boxes_exists(ret->name))
		return 0;
	if (images_resolve(&r->plan, &r->image, err) == 0 && !r->plan.image)
		return 0;
	spec_done(ret);
	return r->plan.image ? plan_make(&r->plan, ret, err) : -1;
}

void request_done(struct request *r)
{
	kit_set_done(&r->kits);
	kit_done(&r->services);
	images_wanted_done(&r->image);
	identity_done(&r->identity);
	kit_inputs_done(&r->inputs);
	strv_done(&r->args_files);
	strv_done(&r->approved);
	remote_done(&r->remote);
	free(r->made_name);
	settings_done(&r->settings);
	strv_done(&r->kit_paths);
	strv_done(&r->plan.env);
	strv_done(&r->plan.mounts);
	strv_done(&r->plan.args);
	strv_done(&r->plan.allow);
	strv_done(&r->plan.credentials);
	strv_done(&r->plan.resolves);
	strv_done(&r->made_with);
}

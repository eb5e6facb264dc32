/* SPDX-License-Identifier: Apache-2.0 */
/* hutch policy allow, deny, rm, ls, check, init: the rules themselves. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/boxes.h"
#include "cli/policy.h"
#include "cli/question.h"
#include "cli/rules.h"
#include "kit/preset.h"

/* What the command line says. {0} is empty. */
struct words {
	struct strv targets, paths;
	char *methods; /* owned: "GET,HEAD", or NULL */
	const char *box, *protocol;
	bool json;
};

enum { OPT_SANDBOX = 256, OPT_PROTOCOL, OPT_METHOD, OPT_PATH, OPT_JSON };

static const struct option longs[] = {{"sandbox", required_argument, NULL, OPT_SANDBOX},
	{"protocol", required_argument, NULL, OPT_PROTOCOL},
	{"method", required_argument, NULL, OPT_METHOD},
	{"path", required_argument, NULL, OPT_PATH}, {"json", no_argument, NULL, OPT_JSON}, {0}};

static void words_done(struct words *w)
{
	strv_done(&w->targets);
	strv_done(&w->paths);
	free(w->methods);
}

static void add_methods(struct words *w, const char *text)
{
	char *all = xasprintf("%s%s%s", w->methods ? w->methods : "", w->methods ? "," : "", text);

	for (char *c = all; *c; c++)
		*c = *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
	free(w->methods);
	w->methods = all;
}

/* Options may stand before, between and behind the operands. */
static int parse(struct words *w, int argc, char **argv)
{
	while (optind < argc) {
		int c = cli_getopt(argc, argv, "", longs);

		switch (c) {
		case OPT_SANDBOX:
			w->box = optarg;
			break;
		case OPT_PROTOCOL:
			w->protocol = optarg;
			break;
		case OPT_METHOD:
			add_methods(w, optarg);
			break;
		case OPT_PATH:
			strv_add(&w->paths, optarg);
			break;
		case OPT_JSON:
			w->json = true;
			break;
		case -1:
			if (optind < argc)
				strv_add(&w->targets, argv[optind++]);
			break;
		default:
			return CLI_FAILED;
		}
	}
	if (w->box && !boxes_exists(w->box))
		return cli_no_sandbox(w->box);
	return 0;
}

/* Target and options as one rule. Owned, or NULL with @err. */
static char *compose(const struct words *w, const char *target, const char *path, struct err *err)
{
	const char *what = w->protocol ? w->protocol : w->methods;
	_free_ char *text =
		xasprintf("%s%s%s%s", what ? what : "", what ? " " : "", target, path ? path : "");
	struct policy_rule r;

	if (w->protocol && strcmp(w->protocol, "tcp") != 0 && strcmp(w->protocol, "udp") != 0) {
		err_set(err, ERR_USER, "--protocol %s: not one of tcp, udp", w->protocol);
		return NULL;
	}
	if (w->protocol && (w->methods || path)) {
		err_set(err, ERR_USER, "--protocol does not go with --method and --path");
		return NULL;
	}
	/* Else it would be a part of the host's name, or of the path that is there. */
	if (path && (path[0] != '/' || strchr(target, '/'))) {
		err_set(err, ERR_USER, "--path %s: %s", path,
			path[0] != '/' ? "a path begins with /" : "the rule has a path already");
		return NULL;
	}
	if (policy_rule_parse(text, &r, err) < 0)
		return NULL;
	policy_rule_done(&r);
	return steal_ptr(&text);
}

/* All rules that the words make. */
static int compose_all(const struct words *w, struct strv *ret, struct err *err)
{
	for (size_t i = 0; i < w->targets.n; i++) {
		for (size_t k = 0; k < MAX(w->paths.n, (size_t)1); k++) {
			char *rule =
				compose(w, w->targets.v[i], w->paths.n ? w->paths.v[k] : NULL, err);

			if (!rule)
				return -1;
			strv_take(ret, rule);
		}
	}
	return 0;
}

static int check_deny(const struct strv *rules, struct err *err)
{
	struct policy p = {0};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < rules->n; i++)
		rc = policy_add(&p, rules->v[i], false, "", err);
	policy_done(&p);
	return rc;
}

static int add(int argc, char **argv, bool allow)
{
	struct words w = {0};
	struct strv rules = {0};
	struct ruleset set;
	struct err err;
	int status = parse(&w, argc, argv);

	if (status == 0 && (w.targets.n == 0 || w.json))
		status = cli_usage(argv[0]);
	if (status == 0 &&
		(compose_all(&w, &rules, &err) < 0 || (!allow && check_deny(&rules, &err) < 0) ||
			ruleset_open(w.box, &set, &err) < 0))
		status = cli_fail(&err);
	if (status == 0) {
		for (size_t i = 0; i < rules.n; i++)
			ruleset_add(&set, allow, rules.v[i],
				w.box ? RULES_SOURCE_BOX : RULES_SOURCE_ALL);
		if (ruleset_commit(&set, &err) < 0)
			status = cli_fail(&err);
		ruleset_close(&set);
	}
	strv_done(&rules);
	words_done(&w);
	return status;
}

int policy_allow(int argc, char **argv)
{
	return add(argc, argv, true);
}

int policy_deny(int argc, char **argv)
{
	return add(argc, argv, false);
}

static int remove_all(struct ruleset *set, const struct strv *rules)
{
	int status = 0;

	for (size_t i = 0; i < rules->n; i++) {
		size_t kept, found = ruleset_remove(set, rules->v[i], NULL, &kept);

		if (!found)
			status = cli_failf("policy rm: no rule \"%s\" %s%s", rules->v[i],
				set->box ? "in sandbox " : "for all sandboxes",
				set->box ? set->box : "");
		else if (kept == found)
			status = cli_failf("policy rm: \"%s\" belongs to a kit or preset\n"
					   "       hutch policy deny, or hutch policy init",
				rules->v[i]);
	}
	return status;
}

int policy_rm(int argc, char **argv)
{
	struct words w = {0};
	struct strv rules = {0};
	struct ruleset set;
	struct err err;
	int status = parse(&w, argc, argv);

	if (status == 0 && (w.targets.n == 0 || w.json))
		status = cli_usage(argv[0]);
	if (status == 0 &&
		(compose_all(&w, &rules, &err) < 0 || ruleset_open(w.box, &set, &err) < 0))
		status = cli_fail(&err);
	if (status == 0) {
		status = remove_all(&set, &rules);
		if (ruleset_commit(&set, &err) < 0)
			status = cli_fail(&err);
		ruleset_close(&set);
	}
	strv_done(&rules);
	words_done(&w);
	return status;
}

/* ---- ls ---- */

static void show(const char *scope, const struct spec_rule *r, json_t *list)
{
	char line[2048];

	if (list) {
		json_t *o = json_pack("{s:s, s:b, s:s, s:s}", "scope", scope, "allow", r->allow,
			"target", r->target, "source", r->source);

		if (r->phase != SPEC_ALWAYS)
			json_object_set_new(o, "phase", json_string(spec_phase_name(r->phase)));
		json_array_append_new(list, o);
		return;
	}
	snprintf(line, sizeof(line), "%-20s %-5s  %-44s  %s%s%s", scope, r->allow ? "allow" : "deny",
		r->target, r->source, r->phase != SPEC_ALWAYS ? ", " : "",
		r->phase != SPEC_ALWAYS ? spec_phase_name(r->phase) : "");
	cli_print(stdout, line);
	printf("\n");
}

static int show_box(const char *name, json_t *list, struct err *err)
{
	struct box_spec s;
	int rc = boxes_spec(name, &s, err);

	for (size_t i = 0; rc == 0 && i < s.net.n_rules; i++)
		show(name, &s.net.rules[i], list);
	spec_done(&s);
	return rc;
}

static int show_all(const struct words *w, json_t *list, struct err *err)
{
	struct spec_rules user;
	struct strv names = {0};
	int rc = spec_rules_load(&user, err);

	for (size_t i = 0; rc == 0 && i < user.n_rules; i++)
		show("all", &user.rules[i], list);
	spec_rules_done(&user);
	if (w->box)
		strv_add(&names, w->box);
	else if (rc == 0)
		rc = boxes_names(&names, err);
	for (size_t i = 0; rc == 0 && i < names.n; i++)
		rc = show_box(names.v[i], list, err);
	strv_done(&names);
	return rc;
}

int policy_ls(int argc, char **argv)
{
	struct words w = {0};
	json_t *list = NULL;
	struct err err;
	int status = parse(&w, argc, argv);

	if (status == 0 && (w.targets.n || w.methods || w.paths.n || w.protocol))
		status = cli_usage(argv[0]);
	if (status == 0 && w.json)
		list = json_array();
	if (status == 0 && show_all(&w, list, &err) < 0)
		status = cli_fail(&err);
	if (status == 0 && list) {
		json_dumpf(list, stdout, JSON_INDENT(2));
		printf("\n");
	}
	json_decref(list);
	words_done(&w);
	return status;
}

/* ---- check ---- */

static void print_verdict(const struct policy_verdict *v, const struct policy_query *q, bool json)
{
	char reason[POLICY_EXPLAIN_MAX], remedy[POLICY_EXPLAIN_MAX];
	json_t *o;

	policy_explain(v, q, reason);
	policy_remedy(v, q, remedy);
	if (!json) {
		cli_print(stdout, reason);
		printf("\n");
		if (v->allowed && v->inspect && !q->method)
			printf("each request is judged by method and path\n");
		if (remedy[0])
			printf("%s\n", remedy);
		return;
	}
	o = json_pack("{s:b, s:b, s:s, s:s}", "allowed", v->allowed, "inspect", v->inspect,
		"reason", reason, "remedy", remedy);
	if (v->rule)
		json_object_set_new(o, "rule",
			json_pack("{s:b, s:s, s:s}", "allow", v->rule->allow, "target",
				v->rule->text, "source", v->rule->source));
	json_dumpf(o, stdout, JSON_INDENT(2));
	printf("\n");
	json_decref(o);
}

int policy_check(int argc, char **argv)
{
	struct words w = {0};
	struct question k = {0};
	struct policy p = {0};
	struct err err;
	int status = parse(&w, argc, argv);

	if (status == 0 && (w.targets.n != 1 || w.paths.n > 1))
		status = cli_usage(argv[0]);
	if (status == 0 && (question_parse(&k, w.targets.v[0], w.methods,
				    w.paths.n ? w.paths.v[0] : NULL,
				    w.protocol && strcmp(w.protocol, "udp") == 0, &err) < 0 ||
				   rules_policy(w.box, &p, &err) < 0))
		status = cli_fail(&err);
	if (status == 0) {
		struct policy_verdict v = policy_judge(&p, &k.q);

		print_verdict(&v, &k.q, w.json);
		status = v.allowed ? 0 : 1;
	}
	policy_done(&p);
	question_done(&k);
	words_done(&w);
	return status;
}

/* ---- init ---- */

static void put_preset(struct ruleset *set, const char *name, const struct preset *p)
{
	_free_ char *old = xasprintf("preset %s", set->user.preset);
	_free_ char *source = xasprintf("preset %s", name);
	size_t kept;

	ruleset_remove(set, NULL, old, &kept);
	for (size_t i = 0; i < p->n_allow; i++)
		ruleset_add(set, true, p->allow[i].rule, source);
	for (size_t i = 0; i < p->n_deny; i++)
		ruleset_add(set, false, p->deny[i].rule, source);
	free(set->user.preset);
	set->user.preset = xstrdup(name);
}

int policy_init(int argc, char **argv)
{
	struct words w = {0};
	struct kit_errors errs = {0};
	struct preset p = {0};
	struct ruleset set;
	struct err err;
	int status = parse(&w, argc, argv);

	if (status == 0 &&
		(w.targets.n != 1 || w.box || w.methods || w.paths.n || w.protocol || w.json))
		status = cli_usage(argv[0]);
	if (status == 0 && preset_load(w.targets.v[0], &p, &errs, &err) < 0) {
		kit_errors_print(&errs, stderr);
		status = cli_fail(&err);
	}
	if (status == 0 && ruleset_open(NULL, &set, &err) < 0)
		status = cli_fail(&err);
	if (status == 0) {
		put_preset(&set, w.targets.v[0], &p);
		if (ruleset_commit(&set, &err) < 0)
			status = cli_fail(&err);
		else
			printf("%s: %s (%zu rules)\n", w.targets.v[0], p.description,
				p.n_allow + p.n_deny);
		ruleset_close(&set);
	}
	kit_errors_done(&errs);
	preset_done(&p);
	words_done(&w);
	return status;
}

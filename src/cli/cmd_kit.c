/* SPDX-License-Identifier: Apache-2.0 */
/* hutch kit: starting, checking and looking into kits. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "cli/kit.h"
#include "image/cache.h"
#include "kit/inspect.h"
#include "kit/plan.h"
#include "kit/testdata.h"

enum { OPT_KIT = 256, OPT_KIT_ARG, OPT_KIT_ARGS_FILE, OPT_JSON, OPT_KEY,
	OPT_PLAIN, OPT_LIST, OPT_KEEP, OPT_NO_CACHE, OPT_APPROVE_KIT };

static const struct option longs[] = {{"kit", required_argument, NULL, OPT_KIT},
	{"kit-arg", required_argument, NULL, OPT_KIT_ARG},
	{"kit-args-file", required_argument, NULL, OPT_KIT_ARGS_FILE},
	{"json", no_argument, NULL, OPT_JSON}, {"output", required_argument, NULL, 'o'},
	{"key", required_argument, NULL, OPT_KEY}, {"plain", no_argument, NULL, OPT_PLAIN},
	{"list", no_argument, NULL, OPT_LIST}, {"keep", no_argument, NULL, OPT_KEEP},
	{"no-cache", no_argument, NULL, OPT_NO_CACHE},
	{"approve-kit", required_argument, NULL, OPT_APPROVE_KIT}, {0}};

static void options_done(struct kit_options *o)
{
	strv_done(&o->refs);
	strv_done(&o->args_files);
	strv_done(&o->keys);
	strv_done(&o->approved);
	kit_inputs_done(&o->inputs);
}

static int parse_option(struct kit_options *o, int c)
{
	struct err err;

	switch (c) {
	case OPT_KIT:
		strv_add(&o->refs, optarg);
		return 0;
	case OPT_KIT_ARG:
		return kit_inputs_add(&o->inputs, optarg, &err) < 0 ? cli_fail(&err) : 0;
	case OPT_KIT_ARGS_FILE:
		strv_add(&o->args_files, optarg);
		return 0;
	case OPT_JSON:
		o->json = true;
		return 0;
	case OPT_KEY:
		strv_add(&o->keys, optarg);
		return 0;
	case OPT_PLAIN:
		o->plain = true;
		return 0;
	case OPT_LIST:
		o->list = true;
		return 0;
	case OPT_KEEP:
		o->keep = true;
		return 0;
	case OPT_NO_CACHE:
		o->no_cache = true;
		return 0;
	case OPT_APPROVE_KIT:
		strv_add(&o->approved, optarg);
		return 0;
	case 'o':
		o->output = optarg;
		return 0;
	default:
		return CLI_FAILED;
	}
}

/* Options may stand before and behind the kits. */
static int parse(struct kit_options *o, int argc, char **argv)
{
	int c, status = 0;

	optind = 1;
	while (status == 0 && optind < argc) {
		c = cli_getopt(argc, argv, "o:", longs);
		if (c != -1)
			status = parse_option(o, c);
		else
			strv_add(&o->refs, argv[optind++]);
	}
	return status;
}

static int read_args_files(struct kit_options *o, struct kit_errors *errs, struct err *err)
{
	for (size_t i = 0; i < o->args_files.n; i++)
		if (kit_inputs_add_file(&o->inputs, o->args_files.v[i], errs, err) < 0)
			return -1;
	return 0;
}

static int validate(struct remote *r, struct kit_options *o)
{
	struct kit_errors errs = {0};
	struct kit_place place = {0};
	struct err err;
	int result = read_args_files(o, &errs, &err);

	kit_errors_print(&errs, stderr);
	kit_errors_done(&errs);
	if (result < 0)
		return cli_fail(&err);
	if (kit_find(r, o->refs.v[0], &place, &err) < 0)
		return cli_fail(&err);
	o->inputs.placeholders = true;
	result = kit_validate(place.path, &o->inputs, o->json, stdout, &err);
	kit_place_done(&place);
	fflush(stdout);
	return result < 0 ? cli_fail(&err) : 0;
}

/* The kits, and what they amount to when their sandbox is made here: mixins alone make none. */
static int print_set(const struct kit_set *set, bool json)
{
	struct plan_request req = {.kits = set->kits, .n_kits = set->n, .inspecting = true};
	bool runs = kit_base(set->kits, set->n), image = set->kits[0].schema == 3;
	struct box_spec s = {0};
	struct err err;
	json_t *kits = json_array(), *o;

	if (runs && plan_make(&req, &s, &err) < 0) {
		if (!image) {
			json_decref(kits);
			return cli_fail(&err);
		}
		cli_fail(&err); /* what it is can be said all the same */
		runs = false;
	}
	for (size_t i = 0; i < set->n; i++) {
		if (json)
			json_array_append_new(kits, kit_json(&set->kits[i]));
		else
			kit_print(&set->kits[i], stdout);
	}
	if (json) {
		o = json_pack(
			"{s:O, s:o}", "kits", kits, "plan", runs ? spec_to_json(&s) : json_null());
		json_dumpf(o, stdout, JSON_INDENT(2));
		printf("\n");
		json_decref(o);
	} else if (runs) {
		printf("\n");
		plan_print(&s, stdout);
	}
	json_decref(kits);
	spec_done(&s);
	return 0;
}

static int inspect(struct remote *r, struct kit_options *o)
{
	struct kit_finder finder = remote_finder(r);
	struct kit_errors errs = {0};
	struct kit_set set = {0};
	struct err err;
	int result = read_args_files(o, &errs, &err);

	if (result == 0)
		result = kit_set_load(&o->refs, &o->inputs, &finder, &set, &errs, &err);
	kit_errors_print(&errs, stderr);
	kit_errors_done(&errs);
	result = result < 0 ? cli_fail(&err) : print_set(&set, o->json);
	kit_set_done(&set);
	return result;
}

static int schema(const char *which)
{
	json_t *j = strlen(which) == 1 ? kit_schema((unsigned)(which[0] - '0')) : NULL;

	if (strcmp(which, "testdata") == 0)
		j = testdata_schema();
	if (!j)
		return cli_failf("kit schema %s: not one of 1, 2, 3, testdata", which);
	json_dumpf(j, stdout, JSON_INDENT(2));
	printf("\n");
	json_decref(j);
	return 0;
}

/* A mixin that loads, with what most kits need, to be changed. */
static int init(const char *path)
{
	const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	_free_ char *file = NULL, *text = NULL;
	struct err err;

	if (!spec_name_valid(name))
		return cli_failf("kit init %s: not a kit name (a-z, 0-9 and -, at most 64)", path);
	text = xasprintf(
		"# Check with: hutch kit validate ./%s\n"
		"# Use with:   hutch run --kit ./%s shell .\n"
		"schemaVersion: \"2\"\n"
		"kind: mixin\n"
		"name: %s\n"
		"description: What it adds to a sandbox\n"
		"\n"
		"permissions:\n"
		"  network:\n"
		"    allow:\n"
		"      - \"**.debian.org:80\"\n"
		"      - \"**.debian.org:443\"\n"
		"\n"
		"setup:\n"
		"  install:\n"
		"    - command: apt-get update -q && apt-get install -qy --no-install-recommends "
		"jq\n"
		"      description: Install jq\n"
		"\n"
		"agentInstructions:\n"
		"  content: |\n"
		"    What the agent should know about it.\n",
		name, name, name);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return cli_failf("%s: %s", path, strerror(errno));
	file = fs_join(path, "spec.yaml");
	if (fs_exists(file))
		return cli_failf("%s is there already", file);
	if (fs_write_file(AT_FDCWD, file, text, strlen(text), 0644, &err) < 0)
		return cli_fail(&err);
	printf("%s\n", file);
	return 0;
}

/* hutch kit cache ls | rm [KEY...] */
static int cache(struct kit_options *o)
{
	struct err err;
	int result = 0;

	if (strcmp(o->refs.v[0], "ls") == 0 && o->refs.n == 1)
		return image_cache_list(stdout, o->json, &err) < 0 ? cli_fail(&err) : 0;
	if (strcmp(o->refs.v[0], "rm") != 0 || o->json)
		return cli_usage("kit cache");
	if (o->refs.n == 1)
		result = image_cache_remove("", &err);
	for (size_t i = 1; result == 0 && i < o->refs.n; i++)
		result = strlen(o->refs.v[i]) < 4
				 ? err_set(&err, ERR_USER, "%s: at least 4 digits of a key",
					   o->refs.v[i])
				 : image_cache_remove(o->refs.v[i], &err);
	return result < 0 ? cli_fail(&err) : 0;
}

/* Subcommands that take references to kits. */
static int run_on_kits(const char *verb, struct kit_options *o, bool *ret_known)
{
	static const struct verb {
		const char *name;
		size_t operands;
		int (*run)(struct remote *r, const struct kit_options *o);
	} verbs[] = {{"pack", 1, kit_pack}, {"push", 2, kit_push}, {"pull", 1, kit_pull},
		{"sign", 1, kit_sign}, {"verify", 1, kit_verify}};
	struct settings settings = {0};
	struct remote r = {0};
	int status = kit_open_remote(&settings, &r);

	*ret_known = true;
	if (status != 0)
		; /* said already */
	else if (o->refs.n == 1 && strcmp(verb, "validate") == 0)
		status = validate(&r, o);
	else if (o->refs.n >= 1 && strcmp(verb, "inspect") == 0)
		status = inspect(&r, o);
	else if (o->refs.n >= 1 && strcmp(verb, "test") == 0)
		status = kit_test(&r, o);
	else if (o->refs.n >= 1 && strcmp(verb, "mounts") == 0)
		status = kit_mounts(&r, o);
	else
		*ret_known = false;
	for (size_t i = 0; status == 0 && !*ret_known && i < ARRAY_SIZE(verbs); i++)
		if (strcmp(verb, verbs[i].name) == 0 && o->refs.n == verbs[i].operands) {
			*ret_known = true;
			status = verbs[i].run(&r, o);
		}
	remote_done(&r);
	settings_done(&settings);
	return status;
}

static int unknown_verb(const char *verb)
{
	static const char *const verbs[] = {"init", "validate", "inspect", "test", "schema", "cache",
		"mounts", "pack", "push", "pull", "sign", "verify"};
	struct strv names = {0};
	int status;

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		strv_add(&names, verbs[i]);
	if (strv_has(&names, verb)) {
		_free_ char *name = xasprintf("kit %s", verb);

		status = cli_usage(name);
	} else {
		status = *verb ? cli_no_verb("kit", verb, &names) : cli_usage("kit");
	}
	strv_done(&names);
	return status;
}

int cmd_kit(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	_free_ char *name = xasprintf("kit %s", verb); /* for messages */
	struct kit_options o = {0};
	int status = CLI_FAILED;
	bool known;

	if (argc > 2) {
		argv[1] = name;
		status = parse(&o, argc - 1, argv + 1);
	}
	if (argc > 2 && status != 0)
		; /* said already */
	else if (status == 0 && o.refs.n == 1 && strcmp(verb, "schema") == 0)
		status = schema(o.refs.v[0]);
	else if (status == 0 && o.refs.n >= 1 && strcmp(verb, "cache") == 0)
		status = cache(&o);
	else if (status == 0 && o.refs.n == 1 && strcmp(verb, "init") == 0)
		status = init(o.refs.v[0]);
	else if (status == 0 && (status = run_on_kits(verb, &o, &known)) == 0 && known)
		; /* done */
	else if (status == 0 || argc <= 2)
		status = unknown_verb(verb);
	options_done(&o);
	return status;
}

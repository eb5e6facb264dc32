/* SPDX-License-Identifier: Apache-2.0 */
/* hutch recreate: a sandbox made again, with its volumes and its workspace.
 *
 * Its root gets a new layer, on which set-up runs as at the first start; with other kits or
 * arguments it gets another plan as well (recompose.h). spec.json alone says which layer is meant:
 * writing it is the step from the old sandbox to the new one. The old layer stays on the disk until
 * a machine has been set up on the new one, so that a failure leads back. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/box_trees.h"
#include "cli/boxes.h"
#include "cli/cli.h"
#include "cli/recompose.h"
#include "cli/rules.h"
#include "cli/secrets.h"
#include "cli/start.h"
#include "image/use.h"

#define LOCK_TRIES 5 /* of two seconds each */

/* Only now is something lost. */
static int check_stopped(const char *name, bool force, struct err *err)
{
	struct box_conn c = {.fd = -1};

	if (force)
		return box_end(name, false, false, err);
	if (box_find(name, &c, err) == 0)
		return 0;
	box_conn_close(&c);
	err_set(err, ERR_USER, "sandbox %s is running", name);
	return err_hint(err, "hutch stop %s, or hutch recreate -f %s", name, name);
}

static int lock(const char *name, int *ret, struct err *err)
{
	int result = -1;

	for (int i = 0; result < 0 && i < LOCK_TRIES; i++)
		result = boxes_lock(name, ret, err);
	return result;
}

/* Whether the hooks of @kit have run in the life of the sandbox. */
static bool has_run(const struct box_spec *was, bool set_up, const char *kit)
{
	for (size_t i = 0; i < was->n_install; i++)
		if (was->install[i].bounded && strcmp(was->install[i].kit, kit) == 0)
			return set_up || was->install[i].done;
	return false;
}

/* The next generation. Hooks run once in the life of a sandbox; what else kits set up belongs to
 * its root, and is done again. */
static void advance(const struct box_spec *was, struct box_spec *s)
{
	_free_ char *path = boxes_path(was->name, "");
	_close_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool set_up = dir >= 0 && spec_is_set_up(dir, was);

	for (size_t i = 0; i < s->n_install; i++)
		s->install[i].done =
			s->install[i].bounded && has_run(was, set_up, s->install[i].kit);
	free(s->cache_key);
	s->cache_key = xstrdup("");
	s->generation = was->generation + 1;
}

/* From @from, as it is on the disk, to @to. Nobody changes rules meanwhile, and nobody starts it.
 */
static int replace(const struct box_spec *from, const struct box_spec *to, struct err *err)
{
	struct ruleset set;
	_close_ int held = -1;
	int result;

	if (lock(from->name, &held, err) < 0 || ruleset_open(from->name, &set, err) < 0)
		return -1;
	result = set.spec.generation == from->generation
			 ? boxes_save_spec(to, err)
			 : err_set(err, ERR_USER, "sandbox %s was recreated meanwhile", from->name);
	ruleset_close(&set);
	return result;
}

static int start(const struct box_spec *was, struct box_spec *s, struct err *err)
{
	struct box_conn conn = {.fd = -1};
	struct err later;
	int result = start_box(s, false, &conn, err);

	box_conn_close(&conn);
	if (result == 0)
		return 0;
	start_show_logs(s->name, err);
	if (replace(s, was, &later) == 0)
		err_hint(err, "sandbox %s is what it was before", s->name);
	return -1;
}

/* What is to be: the sandbox as it is, or another composition. 0, or the exit status. */
static int plan(const struct box_spec *was, const struct recompose *how, struct box_spec *ret)
{
	struct err err;

	if (was->remove_on_exit)
		return cli_failf("sandbox %s goes with the command that made it (--rm)", was->name);
	if (recompose_wanted(how))
		return recompose(how, was, ret);
	return boxes_spec(was->name, ret, &err) < 0 ? cli_fail(&err) : 0;
}

static int recreate(
	const struct box_spec *was, struct box_spec *s, bool force, bool other, struct err *err)
{
	_close_ int hold = image_hold(err);

	advance(was, s);
	/* Whatever can be known to fail is found out while the old sandbox still runs. */
	if (hold < 0 || start_check(s, err) < 0 || secrets_check(s, true, err) < 0 ||
		check_stopped(s->name, force, err) < 0 || (other && box_trees_add(s, err) < 0) ||
		replace(was, s, err) < 0 || start(was, s, err) < 0)
		return -1;
	box_trees_sweep(s);
	return 0;
}

static int recreate_named(const char *name, const struct recompose *how, bool force)
{
	struct box_spec was = {0}, s = {0};
	struct err err = {0};
	int status;

	if (!boxes_exists(name))
		return cli_no_sandbox(name);
	status = boxes_spec(name, &was, &err) < 0 ? cli_fail(&err) : plan(&was, how, &s);
	if (status == 0)
		status = recreate(&was, &s, force, recompose_wanted(how), &err) < 0 ? cli_fail(&err)
										    : 0;
	if (status == 0)
		printf("%s\n", name);
	spec_done(&was);
	spec_done(&s);
	return status;
}

static const struct option longs[] = {{"force", no_argument, NULL, 'f'},
	{"kit", required_argument, NULL, 'k'}, {"kit-arg", required_argument, NULL, 'a'},
	{"kit-args-file", required_argument, NULL, 'F'},
	{"approve-kit", required_argument, NULL, 'A'}, {0}};

static int parse(struct recompose *how, bool *ret_force, int argc, char **argv)
{
	int c;

	while ((c = cli_getopt(argc, argv, "f", longs)) != -1) {
		switch (c) {
		case 'f':
			*ret_force = true;
			break;
		case 'k':
			strv_add(&how->kits, optarg);
			break;
		case 'a':
			strv_add(&how->kit_args, optarg);
			break;
		case 'F':
			strv_add(&how->args_files, optarg);
			break;
		case 'A':
			strv_add(&how->approved, optarg);
			break;
		default:
			return CLI_FAILED;
		}
	}
	if (argc - optind < 1 || argc - optind > 2)
		return cli_usage("recreate");
	how->agent = argv[optind + 1]; /* or NULL */
	if (how->kits.n && !how->agent)
		return cli_failf("recreate: --kit goes with an agent: all kits are said anew");
	return 0;
}

int cmd_recreate(int argc, char **argv)
{
	struct recompose how = {0};
	bool force = false;
	int status = parse(&how, &force, argc, argv);

	if (status == 0)
		status = recreate_named(argv[optind], &how, force);
	recompose_done(&how);
	return status;
}

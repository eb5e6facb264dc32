/* SPDX-License-Identifier: Apache-2.0 */
/* hutch kit test: a kit in a fresh sandbox, against its own testdata.
 *
 * The sandbox's workspace is a copy of testdata/. Its files in the order of their names: NAME.sh
 * runs there as the agent, NAME.yaml says what to run and to expect (kit/testdata.h); others are
 * there for them. Sandbox and workspace go with this process, whatever ends it, unless they are to be
 * kept. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/tree.h"
#include "cli/approve.h"
#include "cli/images.h"
#include "cli/kit.h"
#include "cli/kit_checks.h"
#include "cli/secrets.h"
#include "cli/start.h"
#include "kit/plan.h"

#define CLEAN_TRIES 300

struct kit_testing {
	struct remote *remote;
	const struct kit_options *options;
	struct kit_errors errs;
	char *dir, *kit; /* owned: the kit's directory, its name */
	struct kit_set set;
	struct testdata_dir tests;
	char *work, *name; /* owned: the workspace, the sandbox */
	pid_t guard;       /* 0: none; cleans up */
	int alive;         /* its end of a pipe */
	struct checks checks;
};

static void testing_done(struct kit_testing *t)
{
	testdata_dir_done(&t->tests);
	free(t->dir);
	free(t->kit);
	free(t->work);
	free(t->name);
	kit_set_done(&t->set);
	kit_errors_done(&t->errs);
	json_decref(t->checks.list);
}

static void say_errors(struct kit_testing *t)
{
	kit_errors_print(&t->errs, stderr);
	kit_errors_done(&t->errs);
	t->errs = (struct kit_errors){0};
}

/* ---- the kit ---- */

/* What @refs must begin with for the kit at @place to be a sandbox's: itself, or what it extends.
 */
static int find_base(struct kit_testing *t, const char *path, struct kit_inputs *inputs,
	struct strv *refs, struct err *err)
{
	struct kit_errors errs = {0}; /* warnings come again */
	struct kit k;
	int result = kit_load(path, inputs, &k, &errs, err);

	if (result < 0)
		kit_errors_print(&errs, stderr);
	kit_errors_done(&errs);
	if (result < 0)
		return -1;
	if (k.schema == 3)
		result = err_set(
			err, ERR_USER, "kit %s: schemaVersion \"3\" cannot be run yet", k.name);
	else if (k.kind == KIT_MIXIN)
		strv_add(refs, k.requires_agent ? k.requires_agent : "shell");
	t->dir = xstrdup(k.dir);
	t->kit = xstrdup(k.name);
	kit_done(&k);
	return result;
}

static int load_kits(struct kit_testing *t, struct kit_inputs *inputs, struct err *err)
{
	struct kit_finder finder = remote_finder(t->remote);
	struct kit_place place = {0};
	struct strv refs = {0};
	int result = kit_find(t->remote, t->options->refs.v[0], &place, err);

	if (result == 0)
		result = find_base(t, place.path, inputs, &refs, err);
	kit_place_done(&place);
	strv_copy(&refs, &t->options->refs);
	if (result == 0)
		result = kit_set_load(&refs, inputs, &finder, &t->set, &t->errs, err);
	strv_done(&refs);
	return result;
}

/* ---- testdata ---- */

/* The tests, and the workspace that they run in. No testdata is fine: that the kit can be installed
 * is checked, too. */
static int load_testdata(struct kit_testing *t, struct err *err)
{
	_free_ char *path = fs_join(t->dir, "testdata");
	_close_ int from = -1, to = -1;

	if (testdata_load_dir(t->dir, &t->tests, &t->errs, err) < 0)
		return -1;
	from = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (from < 0)
		return errno == ENOENT ? 0 : err_errno(err, "%s", path);
	to = open(t->work, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (to < 0)
		return err_errno(err, "%s", t->work);
	return tree_copy(from, to, err) < 0 ? err_wrap(err, "%s", path) : 0;
}

static int make_work(struct kit_testing *t, struct err *err)
{
	const char *tmp = getenv("TMPDIR");

	t->work = xasprintf("%s/hutch-kit-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (mkdtemp(t->work))
		return 0;
	err_errno(err, "%s", t->work);
	free(steal_ptr(&t->work));
	return -1;
}

/* ---- what is left behind ---- */

/* The workspace and the sandbox, which may be about to start or to stop. */
static void clean(const struct kit_testing *t)
{
	const struct timespec pause = {.tv_nsec = 100000000};
	struct err err;

	for (int i = 0; i < CLEAN_TRIES && boxes_exists(t->name); i++) {
		struct box_conn conn;

		if (box_connect(t->name, &conn, NULL) == 0) {
			start_undo(t->name, &conn);
			box_conn_close(&conn);
		} else if (boxes_delete(t->name, &err) < 0) {
			nanosleep(&pause, NULL);
		}
	}
	fs_remove_tree(AT_FDCWD, t->work, &err);
}

/* Whatever ends this process, another one cleans up behind it: it sees the end of a pipe. */
static int guard(struct kit_testing *t, struct err *err)
{
	int pipefd[2];
	char keep;

	if (pipe2(pipefd, O_CLOEXEC) < 0 || (t->guard = fork()) < 0)
		return err_errno(err, "kit test");
	if (t->guard) {
		close(pipefd[0]);
		t->alive = pipefd[1];
		return 0;
	}
	setsid(); /* no signal of the terminal */
	dup2(pipefd[0], 0);
	close_range(1, ~0u, 0);
	open("/dev/null", O_RDWR);
	dup2(1, 2);
	if (read(0, &keep, 1) <= 0)
		clean(t);
	_exit(0);
}

/* Let it do that, unless the sandbox is to be kept. */
static void guard_end(struct kit_testing *t)
{
	struct err err;

	if (t->guard <= 0) {
		if (t->work)
			fs_remove_tree(AT_FDCWD, t->work, &err);
		return;
	}
	if (t->options->keep && boxes_exists(t->name))
		fd_write_all(t->alive, "k", 1);
	close_and_reset(&t->alive);
	waitpid(t->guard, NULL, 0);
}

/* ---- the sandbox ---- */

/* The user's own rules and grants are left out: a kit's test says the same to everybody. */
static int plan(struct kit_testing *t, struct box_spec *ret, struct err *err)
{
	struct settings settings = *t->remote->settings;
	struct plan_request req = {.kits = t->set.kits,
		.n_kits = t->set.n,
		.settings = &settings,
		.remove_on_exit = !t->options->keep};
	struct images_wanted wanted = {0};
	int result;

	settings.allow = settings.deny = settings.credentials = (struct strv){0};
	req.name = t->name;
	strv_add(&req.mounts, t->work);
	result = images_resolve(&req, &wanted, err);
	if (result == 0)
		result = plan_make(&req, ret, err);
	images_wanted_done(&wanted);
	strv_done(&req.mounts);
	for (size_t i = 0; result == 0 && i < ret->net.n_credentials; i++)
		ret->net.credentials[i].required = false;
	return result;
}

static int ask_all(struct kit_testing *t, const struct spec_net *net, struct err *err)
{
	struct policy p = {0};
	int result = 0;

	for (size_t i = 0; result == 0 && i < net->n_rules; i++)
		if (net->rules[i].phase != SPEC_INSTALL)
			result = policy_add(&p, net->rules[i].target, net->rules[i].allow,
				net->rules[i].source, err);
	for (size_t i = 0; result == 0 && i < t->tests.n; i++)
		checks_ask(&t->checks, &t->tests.files[i], &p);
	policy_done(&p);
	return result;
}

/* That it comes up is the first check; when it does not, the last one, too. */
static void run_all(struct kit_testing *t, const struct box_spec *s)
{
	_free_ char *name = xasprintf("kit %s is installed", t->kit);
	struct box_conn conn;
	struct err err = {0};
	int result = 0;

	if (start_box(s, true, &conn, &err) < 0) {
		checks_add(&t->checks, name, xstrdup(err.msg), NULL);
		return;
	}
	checks_add(&t->checks, name, NULL, NULL);
	for (size_t i = 0; result == 0 && !t->checks.signal && i < t->tests.n; i++)
		result = checks_run(&t->checks, &t->tests.files[i], s, &conn);
	box_conn_close(&conn);
}

static int test(struct kit_testing *t, struct err *err)
{
	_free_ char *stem = xasprintf("test-%.40s", t->kit);
	_close_ int hold = -1;
	struct box_spec s;
	int result = make_work(t, err);

	if (result < 0)
		return -1;
	t->name = start_name(stem);
	result = guard(t, err);
	if (result == 0)
		result = load_testdata(t, err);
	say_errors(t);
	if (result < 0 || plan(t, &s, err) < 0)
		return -1;
	if (!t->tests.n)
		fprintf(stderr, "hutch: kit %s has no tests in testdata/\n", t->kit);
	hold = image_hold(err);
	result = hold < 0 ? -1 : start_check(&s, err);
	if (result == 0)
		result = secrets_check(&s, true, err);
	if (result == 0)
		result = ask_all(t, &s.net, err);
	if (result == 0)
		result = boxes_create(&s, !t->options->no_cache, err);
	close_and_reset(&hold);
	if (result == 0)
		run_all(t, &s);
	spec_done(&s);
	return result;
}

static void print_end(const struct kit_testing *t)
{
	const struct checks *c = &t->checks;

	if (t->options->json) {
		json_t *o = json_pack("{s:s, s:i, s:i, s:O}", "kit", t->kit, "passed",
			(int)c->passed, "failed", (int)c->failed, "checks", c->list);

		json_dumpf(o, stdout, JSON_INDENT(2));
		printf("\n");
		json_decref(o);
	} else {
		printf("%u passed, %u failed\n", c->passed, c->failed);
	}
	if (t->options->keep && boxes_exists(t->name))
		fprintf(stderr,
			"hutch: kept %s (%s); hutch exec %s -- sh, at the end hutch rm -f %s\n",
			t->name, t->work, t->name, t->name);
}

int kit_test(struct remote *r, struct kit_options *o)
{
	struct kit_testing t = {.remote = r, .options = o, .alive = -1};
	struct err err;
	int status = 0, result;

	t.checks.list = o->json ? json_array() : NULL;
	result = load_kits(&t, &o->inputs, &err);
	say_errors(&t);
	if (result == 0)
		status = approve_kits(t.set.kits, t.set.n, &o->approved);
	if (result == 0 && status == 0)
		result = test(&t, &err);
	if (result < 0)
		status = cli_fail(&err);
	else if (status == 0) {
		print_end(&t);
		status = t.checks.signal ? 128 + t.checks.signal : t.checks.failed != 0;
	}
	guard_end(&t);
	testing_done(&t);
	return status;
}

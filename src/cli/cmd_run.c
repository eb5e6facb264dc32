/* SPDX-License-Identifier: Apache-2.0 */
/* hutch run, hutch create: from flags and kits to a running sandbox. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/approve.h"
#include "cli/interrupt.h"
#include "cli/request.h"
#include "cli/rules.h"
#include "cli/secrets.h"
#include "cli/session.h"
#include "cli/sessions.h"
#include "cli/start.h"
#include "image/use.h"

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

static int make(struct request *r, struct box_spec *s, struct err *err)
{
	_close_ int hold = image_hold(err);

	if (hold < 0 || start_check(s, err) < 0 || secrets_check(s, true, err) < 0)
		return -1;
	strv_copy(&s->made_with, &r->made_with);
	s->made_in = getcwd(NULL, 0);
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
	if (request_plan(r, &s, &err) < 0)
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
	} else if (request_check_ssh(r, &s) != 0) {
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
	int status = request_parse(&r, argc, argv);

	if (status == 0)
		status = request_load_kits(&r);
	if (status == 0)
		status = plan_and_go(&r);
	request_done(&r);
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

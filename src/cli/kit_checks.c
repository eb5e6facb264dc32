/* SPDX-License-Identifier: Apache-2.0 */
/* hutch kit test: running the checks. */
#include "cli/kit_checks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/child.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/question.h"
#include "cli/session.h"

#define OUTPUT_MAX (1u << 20) /* of one command; what is above counts as not there */
#define SHOW_BYTES 2000

/* ---- results ---- */

/* The end of what a command said, from a whole character on. */
static const char *tail(const char *text)
{
	size_t len = strlen(text);

	if (len > SHOW_BYTES)
		text += len - SHOW_BYTES;
	while (((unsigned char)*text & 0xc0) == 0x80)
		text++;
	return text;
}

/* Each line behind a bar. */
static void show_output(const char *s)
{
	while (*s) {
		size_t n = strcspn(s, "\n");
		_free_ char *line = xstrndup(s, n);

		printf("      | ");
		cli_print(stdout, line);
		printf("\n");
		s += n + (s[n] == '\n');
	}
}

void checks_add(struct checks *c, const char *name, char *why, const char *output)
{
	char safe[1024];

	c->passed += !why;
	c->failed += why != NULL;
	if (c->list) {
		json_t *o = json_pack("{s:s, s:b}", "name", name, "ok", !why);

		if (why)
			json_object_set_new(o, "why",
				json_string(log_safe(safe, sizeof(safe), why, strlen(why))));
		if (why && output &&
			json_object_set_new(o, "output", json_string(tail(output))) < 0)
			json_object_set_new(o, "output", json_string("(not UTF-8)"));
		json_array_append_new(c->list, o);
	} else {
		printf("%-4s  ", why ? "FAIL" : "ok");
		cli_print(stdout, name);
		if (why) {
			printf(": ");
			cli_print(stdout, why);
		}
		printf("\n");
		if (why && output)
			show_output(tail(output));
		fflush(stdout);
	}
	free(why);
}

/* ---- commands ---- */

struct command_result {
	struct capture capture;
	const char *out, *err; /* borrowed; up to the first NUL */
	int status;
};

static void result_done(struct command_result *r)
{
	buf_done(&r->capture.out);
	buf_done(&r->capture.err);
}

/* -1: the sandbox cannot be asked any more. To be released in both cases. */
static int run_command(const struct box_spec *s, struct box_conn *conn, const char *user,
	unsigned timeout_s, char *const *argv, struct command_result *ret, struct err *err)
{
	struct session session = {.user = user, .cwd = s->workdir, .capture = &ret->capture};
	int fd;

	*ret = (struct command_result){.capture.timeout_s = timeout_s};
	buf_init(&ret->capture.out, OUTPUT_MAX);
	buf_init(&ret->capture.err, OUTPUT_MAX);
	if (box_open(conn, &fd, err) < 0)
		return -1;
	for (; *argv; argv++)
		strv_add(&session.argv, *argv);
	ret->status = session_run(fd, &session, err);
	strv_done(&session.argv);
	if (ret->status < 0)
		return -1;
	ret->out = buf_cstr(&ret->capture.out);
	ret->err = buf_cstr(&ret->capture.err);
	return 0;
}

/* Why it cannot be judged by its status, or that the status is wrong. Owned; NULL: fine. */
static char *judge_status(struct checks *c, const struct command_result *r, unsigned wanted)
{
	if (r->capture.signal) {
		c->signal = r->capture.signal;
		return xstrdup("interrupted");
	}
	if (r->capture.timed_out)
		return xasprintf("not done within %u s", r->capture.timeout_s);
	if ((unsigned)r->status != wanted)
		return xasprintf("exit status %d, expected %u", r->status, wanted);
	return NULL;
}

/* "standard output is …", in one line. */
static char *not_expected(const char *out, const char *expected)
{
	char a[200], b[200];

	return xasprintf("standard output is \"%s\", expected \"%s\"",
		log_safe(a, sizeof(a), out, strlen(out)),
		log_safe(b, sizeof(b), expected, strlen(expected)));
}

/* Equal, but for one newline at the end of either. */
static bool same_text(const char *a, const char *b)
{
	size_t na = strlen(a), nb = strlen(b);

	na -= na && a[na - 1] == '\n';
	nb -= nb && b[nb - 1] == '\n';
	return na == nb && memcmp(a, b, na) == 0;
}

/* What of @wanted is not in @text, as a complaint. */
static char *judge_contains(const char *what, const char *text, const struct strv *wanted)
{
	for (size_t i = 0; i < wanted->n; i++)
		if (!strstr(text, wanted->v[i]))
			return xasprintf("%s lacks \"%s\"", what, wanted->v[i]);
	return NULL;
}

static char *judge_output(
	struct checks *c, const struct command_result *r, const struct kit_test *t)
{
	char *why = judge_status(c, r, t->exit);

	if (!why && t->out && !same_text(r->out, t->out))
		why = not_expected(r->out, t->out);
	if (!why)
		why = judge_contains("standard output", r->out, &t->out_contains);
	if (!why)
		why = judge_contains("standard error", r->err, &t->err_contains);
	return why;
}

/* "644 agent\n<content>", as the command below prints it. */
static char *judge_file(const struct kit_test_file *f, const char *said)
{
	char *end;
	unsigned long mode = strtoul(said, &end, 8);
	const char *owner = end + strspn(end, " "), *content;
	size_t len = strcspn(owner, "\n");

	content = owner + len + (owner[len] == '\n');
	if (f->mode && mode != strtoul(f->mode, NULL, 8))
		return xasprintf("%s: mode %04lo, expected %s", f->path, mode, f->mode);
	if (f->owner && (strlen(f->owner) != len || strncmp(f->owner, owner, len) != 0))
		return xasprintf(
			"%s: belongs to %.*s, expected %s", f->path, (int)len, owner, f->owner);
	if (f->content && !same_text(content, f->content))
		return xasprintf("%s: content is not as expected", f->path);
	return judge_contains(f->path, content, &f->contains);
}

static int check_file(const struct kit_test_file *f, const struct box_spec *s,
	struct box_conn *conn, char **ret_why, struct err *err)
{
	static const char script[] =
		"[ -e \"$0\" ] || [ -L \"$0\" ] || exit 3; [ -f \"$0\" ] || exit 4; "
		"stat -Lc '%a %U' -- \"$0\" && exec cat -- \"$0\"";
	char *path = f->path;
	struct command_result r;
	int result = run_command(s, conn, "0", 60, ARGV("sh", "-c", script, path), &r, err);

	if (result == 0 && r.status == 3)
		*ret_why = f->absent ? NULL : xasprintf("%s: is not there", f->path);
	else if (result == 0 && f->absent)
		*ret_why = xasprintf("%s: is there", f->path);
	else if (result == 0 && r.status == 4)
		*ret_why = xasprintf("%s: is no file", f->path);
	else if (result == 0 && r.status != 0)
		*ret_why = xasprintf("%s: cannot be read: %s", f->path, r.err);
	else if (result == 0)
		*ret_why = judge_file(f, r.out);
	result_done(&r);
	return result;
}

static int run_test(struct checks *c, const char *file, const struct kit_test *t,
	const struct box_spec *s, struct box_conn *conn)
{
	struct err err;
	_free_ char *name = xasprintf("%s:%d: %s", file, t->line, t->name), *both = NULL;
	struct command_result r;
	char *why = NULL;
	int result =
		run_command(s, conn, t->user, t->timeout_s, ARGV("sh", "-c", t->run), &r, &err);

	if (result == 0) {
		why = judge_output(c, &r, t);
		both = xasprintf("%s%s", r.out, r.err);
	}
	for (size_t i = 0; result == 0 && !why && i < t->n_files; i++)
		result = check_file(&t->files[i], s, conn, &why, &err);
	if (result < 0)
		why = xstrdup(err.msg);
	checks_add(c, name, why, both);
	result_done(&r);
	return result;
}

static int run_script(
	struct checks *c, const char *file, const struct box_spec *s, struct box_conn *conn)
{
	struct err err;
	_free_ char *both = NULL, *path = xasprintf("./%s", file);
	struct command_result r;
	int result =
		run_command(s, conn, TESTDATA_USER, TESTDATA_TIMEOUT_S, ARGV("sh", path), &r, &err);

	if (result == 0)
		both = xasprintf("%s%s", r.out, r.err);
	checks_add(c, file, result < 0 ? xstrdup(err.msg) : judge_status(c, &r, 0), both);
	result_done(&r);
	return result;
}

int checks_run(struct checks *c, const struct testdata_file *f, const struct box_spec *s,
	struct box_conn *conn)
{
	int result = 0;

	if (f->script)
		return run_script(c, f->name, s, conn);
	for (size_t i = 0; result == 0 && !c->signal && i < f->t.n_tests; i++)
		result = run_test(c, f->name, &f->t.tests[i], s, conn);
	return result;
}

/* ---- network ---- */

void checks_ask(struct checks *c, const struct testdata_file *f, const struct policy *p)
{
	for (size_t i = 0; i < f->t.n_hosts; i++) {
		const struct kit_test_host *h = &f->t.hosts[i];
		_free_ char *name = xasprintf("%s:%d: %s %s", f->name, h->line,
			h->allowed ? "allowed" : "refused", h->target);
		char reason[POLICY_EXPLAIN_MAX], *why = NULL;
		struct question k = {0};
		struct err err;

		if (question_parse(&k, h->target, NULL, NULL, false, &err) < 0) {
			why = xstrdup(err.msg);
		} else {
			struct policy_verdict v = policy_judge(p, &k.q);

			if (v.allowed != h->allowed)
				why = xstrdup(policy_explain(&v, &k.q, reason));
		}
		question_done(&k);
		checks_add(c, name, why, NULL);
	}
}

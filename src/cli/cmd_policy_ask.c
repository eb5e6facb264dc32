/* SPDX-License-Identifier: Apache-2.0 */
/* hutch policy pending, approve, dismiss: what sandboxes ask for.
 *
 * The gate of a sandbox writes its open questions to pending.json. While it runs it is also the one
 * to answer to; of a stopped sandbox the file is all there is. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "cli/boxes.h"
#include "cli/policy.h"
#include "cli/rules.h"

#define FILE_MAX       (1u << 20)
#define APPROVED       "user, approved"
#define QUESTION_WORDS "a question is NAME/NUMBER, as in hutch policy pending"

static const char *text(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s ? s : "";
}

/* The questions of one sandbox: a new reference, or NULL when there is no file, or none of ours. */
static json_t *load(const char *box)
{
	_free_ char *path = boxes_path(box, "gate/pending.json");
	_buf_ struct buf b;
	json_t *j;

	buf_init(&b, FILE_MAX);
	if (fs_read_file(AT_FDCWD, path, &b, NULL) < 0)
		return NULL;
	j = json_loadb((char *)buf_head(&b), buf_len(&b), JSON_REJECT_DUPLICATES, NULL);
	if (json_is_array(json_object_get(j, "questions")))
		return j;
	json_decref(j);
	return NULL;
}

/* ---- pending ---- */

static void print_question(const char *box, const json_t *q)
{
	char id[96], when[40] = "", line[1024];
	time_t last = (time_t)json_integer_value(json_object_get(q, "last"));
	struct tm tm;

	snprintf(id, sizeof(id), "%s/%s", box, text(q, "id"));
	if (localtime_r(&last, &tm))
		strftime(when, sizeof(when), "%F %T", &tm);
	snprintf(line, sizeof(line), "%-32s %s  %4lld times  %s", id, when,
		(long long)json_integer_value(json_object_get(q, "times")), text(q, "rule"));
	cli_print(stdout, line);
	printf("\n");
}

static void list_box(const char *box, json_t *all)
{
	json_t *j = load(box), *q;
	size_t i;

	json_array_foreach(json_object_get(j, "questions"), i, q)
	{
		if (!all) {
			print_question(box, q);
			continue;
		}
		json_object_set_new(q, "box", json_string(box));
		json_array_append(all, q);
	}
	json_decref(j);
}

int policy_pending(int argc, char **argv)
{
	static const struct option longs[] = {{"json", no_argument, NULL, 'j'}, {0}};
	struct strv names = {0};
	json_t *all = NULL;
	struct err err;
	int c;

	while ((c = cli_getopt(argc, argv, "", longs)) != -1) {
		if (c != 'j')
			return CLI_FAILED;
		json_decref(all);
		all = json_array();
	}
	if (optind < argc)
		return cli_usage(argv[0]);
	if (boxes_names(&names, &err) < 0)
		return cli_fail(&err);
	for (size_t i = 0; i < names.n; i++)
		list_box(names.v[i], all);
	if (all) {
		json_dumpf(all, stdout, JSON_INDENT(2));
		printf("\n");
	}
	json_decref(all);
	strv_done(&names);
	return 0;
}

/* ---- answers ---- */

struct found {
	char *box, *id, *rule; /* owned */
};

static void found_done(struct found *f)
{
	free(f->box);
	free(f->id);
	free(f->rule);
}

static int find(const char *word, struct found *ret, struct err *err)
{
	const char *slash = strchr(word, '/');
	_free_ char *box = slash ? xstrndup(word, (size_t)(slash - word)) : NULL;
	json_t *j, *q;
	size_t i;

	if (!box || !boxes_exists(box)) {
		err_set(err, ERR_USER, "%s: no such question", word);
		return err_hint(err, QUESTION_WORDS);
	}
	j = load(box);
	json_array_foreach(json_object_get(j, "questions"), i, q)
	{
		if (strcmp(text(q, "id"), slash + 1) != 0)
			continue;
		*ret = (struct found){.box = xstrdup(box),
			.id = xstrdup(slash + 1),
			.rule = xstrdup(text(q, "rule"))};
		json_decref(j);
		return 0;
	}
	json_decref(j);
	err_set(err, ERR_USER, "%s: no such question, or it has been answered", word);
	return err_hint(err, "hutch policy pending");
}

/* Of a sandbox that does not run: nobody else writes the file. */
static int strike_out(const struct found *f, struct err *err)
{
	_free_ char *path = boxes_path(f->box, "gate/pending.json"), *out = NULL;
	json_t *j = load(f->box), *list = json_object_get(j, "questions");

	for (size_t i = json_array_size(list); i > 0; i--)
		if (strcmp(text(json_array_get(list, i - 1), "id"), f->id) == 0)
			json_array_remove(list, i - 1);
	out = j ? json_dumps(j, JSON_COMPACT) : NULL;
	json_decref(j);
	return out ? fs_write_file(AT_FDCWD, path, out, strlen(out), 0600, err) : 0;
}

/* Tell the gate. *ret_running: whether there is one. */
static int tell(const struct found *f, const char *op, bool *ret_running, struct err *err)
{
	struct box_conn conn;
	int rc;

	*ret_running = box_connect(f->box, &conn, NULL) == 0;
	if (!*ret_running)
		return 0;
	rc = box_request(&conn, json_pack("{s:s, s:s}", "op", op, "id", f->id), NULL, NULL, err);
	box_conn_close(&conn);
	return rc;
}

static int dismiss(const struct found *f, struct err *err)
{
	bool running;

	if (tell(f, "dismiss", &running, err) < 0)
		return -1;
	return running ? 0 : strike_out(f, err);
}

static int approve_once(const struct found *f, struct err *err)
{
	bool running;

	if (tell(f, "approve", &running, err) < 0)
		return -1;
	if (running)
		return 0;
	err_set(err, ERR_USER, "sandbox %s does not run", f->box);
	return err_hint(err, "hutch policy approve --always %s/%s", f->box, f->id);
}

/* The gate drops the question by itself when it hears of the rule. */
static int approve_always(const struct found *f, struct err *err)
{
	struct ruleset set;
	struct box_conn conn;
	int rc;

	if (ruleset_open(f->box, &set, err) < 0)
		return -1;
	ruleset_add(&set, true, f->rule, APPROVED);
	rc = ruleset_commit(&set, err);
	ruleset_close(&set);
	if (rc < 0)
		return -1;
	if (box_connect(f->box, &conn, NULL) < 0)
		return strike_out(f, err);
	box_conn_close(&conn);
	return 0;
}

static int each(int argc, char **argv, int (*answer)(const struct found *f, struct err *err),
	const char *said)
{
	int status = 0;

	if (optind >= argc)
		return cli_usage(argv[0]);
	for (int i = optind; i < argc; i++) {
		struct found f = {0};
		struct err err;

		if (find(argv[i], &f, &err) < 0 || answer(&f, &err) < 0) {
			status = cli_fail(&err);
		} else {
			_free_ char *line = xasprintf("%s: %s", f.rule, said);

			cli_print(stdout, line);
			printf("\n");
		}
		found_done(&f);
	}
	return status;
}

int policy_approve(int argc, char **argv)
{
	static const struct option longs[] = {
		{"always", no_argument, NULL, 'a'}, {"once", no_argument, NULL, 'o'}, {0}};
	bool always = false, once = false;
	int c;

	while ((c = cli_getopt(argc, argv, "", longs)) != -1) {
		if (c == '?')
			return CLI_FAILED;
		always |= c == 'a';
		once |= c == 'o';
	}
	if (always && once)
		return cli_failf("policy approve: --always or --once, not both");
	return always ? each(argc, argv, approve_always, "allowed for this sandbox")
		      : each(argc, argv, approve_once, "allowed until the sandbox stops");
}

int policy_dismiss(int argc, char **argv)
{
	if (cli_getopt(argc, argv, "", (const struct option[]){{0}}) != -1)
		return CLI_FAILED;
	return each(argc, argv, dismiss, "not asked again until the sandbox stops");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* hutch policy log, suggest: what the gates have written. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fs.h"
#include "cli/boxes.h"
#include "cli/policy.h"
#include "cli/rules.h"
#include "wire/chain.h"

#define LINE_BYTES 65536
#define FOLLOW_MS  200

static const char *text(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s ? s : "";
}

static void print_entry(const json_t *j)
{
	const char *host = *text(j, "name") ? text(j, "name") : text(j, "addr");
	const char *verdict = text(j, "verdict");
	char target[300];
	_buf_ struct buf line;

	buf_init(&line, 2 * LINE_BYTES);
	snprintf(target, sizeof(target), "%s:%lld", host,
		(long long)json_integer_value(json_object_get(j, "port")));
	buf_printf(&line, "%-24.24s %-16s %-5s %-32s", text(j, "time"), text(j, "box"), verdict,
		target);
	if (*text(j, "event"))
		buf_printf(&line, " (%s)", text(j, "event"));
	if (*text(j, "method"))
		buf_printf(&line, " %s %s", text(j, "method"), text(j, "path"));
	if (json_integer_value(json_object_get(j, "status")))
		buf_printf(&line, " %lld",
			(long long)json_integer_value(json_object_get(j, "status")));
	if (*text(j, "credential"))
		buf_printf(&line, " +%s", text(j, "credential"));
	if (*text(j, "rule"))
		buf_printf(&line, "  [%s, %s]", text(j, "rule"), text(j, "source"));
	if (*text(j, "reason"))
		buf_printf(&line, "  %s", text(j, "reason"));
	/* One line, whatever a path has in it. */
	for (char *c = buf_cstr(&line); *c; c++)
		if (*c == '\n' || *c == '\t')
			*c = '?';
	cli_print(stdout, buf_cstr(&line));
	printf("\n");
}

struct view {
	bool json, denied, follow, verify;
};

static void print_line(const char *line, const struct view *v)
{
	/* A line cut short by a crash is passed over. */
	json_t *j = json_loads(line, 0, NULL);
	const char *verdict = text(j, "verdict");

	if (!j || (v->denied && strcmp(verdict, "deny") != 0)) {
		json_decref(j);
		return;
	}
	if (v->json)
		fputs(line, stdout);
	else if (v->follow || strcmp(text(j, "event"), "open") != 0)
		print_entry(j); /* the end of a connection says what its beginning said */
	json_decref(j);
}

/* Complete lines from where @f stands. */
static void print_lines(FILE *f, const struct view *v)
{
	_free_ char *line = xmalloc(LINE_BYTES);
	long at = ftell(f);

	while (fgets(line, LINE_BYTES, f)) {
		if (!strchr(line, '\n'))
			break;
		print_line(line, v);
		at = ftell(f);
	}
	/* What is not complete yet is read again. */
	clearerr(f);
	fseek(f, at, SEEK_SET);
}

static void print_file(const char *path, const struct view *v)
{
	FILE *f = fopen(path, "re");

	if (!f)
		return;
	print_lines(f, v);
	fclose(f);
}

/* ---- follow ---- */

struct followed {
	char *path; /* owned */
	FILE *f;    /* NULL: not there yet */
	ino_t ino;
};

static void follow_one(struct followed *o, const struct view *v)
{
	struct stat st;

	if (o->f)
		print_lines(o->f, v);
	if (stat(o->path, &st) < 0 || (o->f && st.st_ino == o->ino))
		return;
	/* A new file; the old one has been read to its end. */
	if (o->f)
		fclose(o->f);
	o->f = fopen(o->path, "re");
	o->ino = st.st_ino;
	if (o->f)
		print_lines(o->f, v);
}

static int follow(const struct strv *names, const struct view *v)
{
	struct timespec pause = {.tv_nsec = FOLLOW_MS * 1000000L};
	struct followed *list = xcalloc(names->n + 1, sizeof(*list));

	for (size_t i = 0; i < names->n; i++)
		list[i].path = boxes_path(names->v[i], "gate/audit.jsonl");
	for (;;) {
		bool any = false;

		for (size_t i = 0; i < names->n; i++) {
			follow_one(&list[i], v);
			any |= boxes_exists(names->v[i]);
		}
		if (fflush(stdout) != 0 || !any)
			break; /* nobody reads it, or nothing will be written any more */
		nanosleep(&pause, NULL);
	}
	for (size_t i = 0; i < names->n; i++) {
		if (list[i].f)
			fclose(list[i].f);
		free(list[i].path);
	}
	free(list);
	return 0;
}

/* ---- verify ---- */

static int verify_file(struct chain_check *c, const char *path, struct err *err)
{
	_free_ char *line = xmalloc(LINE_BYTES);
	FILE *f = fopen(path, "re");
	unsigned long n = 0;
	int rc = 0;

	if (!f)
		return errno == ENOENT ? 0 : err_errno(err, "%s", path);
	while (rc == 0 && fgets(line, LINE_BYTES, f)) {
		size_t len = strlen(line);

		n++;
		/* A NUL ends the string early: then there is no line break either. */
		if (len == 0 || line[len - 1] != '\n')
			rc = err_set(err, ERR_PEER, "cut short");
		else
			rc = chain_check_line(c, line, len - 1, n == 1, err);
		if (rc < 0)
			err_wrap(err, "%s line %lu", path, n);
	}
	fclose(f);
	return rc;
}

static bool read_head(const char *path, struct chain *ret)
{
	_buf_ struct buf text;

	buf_init(&text, CHAIN_HEAD_SIZE);
	return fs_read_file(AT_FDCWD, path, &text, NULL) == 0 &&
	       chain_head_parse((char *)buf_head(&text), buf_len(&text), ret) == 0;
}

/* One look at a log that a gate may be writing to: what the head told before has to be there. */
static int look(const char *name, uint64_t *ret_lines, bool *ret_moved, struct err *err)
{
	_free_ char *old = boxes_path(name, "gate/audit.jsonl.1"),
		    *path = boxes_path(name, "gate/audit.jsonl");
	_free_ char *head_path = boxes_path(name, "gate/audit.head");
	struct chain_check c = {.older = fs_exists(old)};
	struct chain head, later;
	bool has_head = read_head(head_path, &head);
	int rc;

	chain_init(&c.at);
	rc = verify_file(&c, old, err);
	if (rc == 0)
		rc = verify_file(&c, path, err);
	*ret_moved = read_head(head_path, &later) && (!has_head || later.seq != head.seq);
	*ret_lines = c.lines;
	/* The last line is only known of a log that stands still. */
	if (rc == 0 && !(*ret_moved && has_head && c.at.seq >= head.seq))
		rc = chain_check_end(&c, has_head ? &head : NULL, err);
	return rc;
}

static int verify(const char *name, uint64_t *ret_lines, struct err *err)
{
	bool moved = true;
	int rc = -1;

	/* It may have been moved to audit.jsonl.1 between our reading of the two. */
	for (int tries = 0; rc < 0 && moved && tries < 3; tries++)
		rc = look(name, ret_lines, &moved, err);
	return rc < 0 ? err_wrap(err, "%s", name) : 0;
}

static int verify_all(const struct strv *names)
{
	int status = 0;

	for (size_t i = 0; i < names->n; i++) {
		uint64_t lines;
		struct err err;

		if (verify(names->v[i], &lines, &err) == 0) {
			printf("%s: %llu lines, unbroken\n", names->v[i],
				(unsigned long long)lines);
		} else {
			cli_fail(&err);
			status = 1;
		}
	}
	return status;
}

/* ---- log ---- */

enum { OPT_JSON = 256, OPT_FOLLOW, OPT_DENIED, OPT_VERIFY };

static int parse(struct view *v, struct strv *names, int argc, char **argv)
{
	static const struct option longs[] = {{"json", no_argument, NULL, OPT_JSON},
		{"follow", no_argument, NULL, OPT_FOLLOW},
		{"denied", no_argument, NULL, OPT_DENIED},
		{"verify", no_argument, NULL, OPT_VERIFY}, {0}};
	struct err err;

	while (optind < argc) {
		int c = cli_getopt(argc, argv, "f", longs);

		if (c == -1 && optind < argc)
			strv_add(names, argv[optind++]);
		else if (c != -1 && c != 'f' && c < OPT_JSON)
			return CLI_FAILED;
		v->json |= c == OPT_JSON;
		v->follow |= c == OPT_FOLLOW || c == 'f';
		v->denied |= c == OPT_DENIED;
		v->verify |= c == OPT_VERIFY;
	}
	if (names->n > 1 || (v->verify && (v->json || v->follow || v->denied)))
		return cli_usage(argv[0]);
	if (names->n && !boxes_exists(names->v[0]))
		return cli_no_sandbox(names->v[0]);
	if (!names->n && boxes_names(names, &err) < 0)
		return cli_fail(&err);
	return 0;
}

int policy_log(int argc, char **argv)
{
	struct strv names = {0};
	struct view v = {0};
	int status = parse(&v, &names, argc, argv);

	if (status == 0 && v.verify) {
		status = verify_all(&names);
	} else if (status == 0) {
		for (size_t i = 0; i < names.n; i++) {
			_free_ char *old = boxes_path(names.v[i], "gate/audit.jsonl.1");
			_free_ char *path = boxes_path(names.v[i], "gate/audit.jsonl");

			print_file(old, &v);
			if (!v.follow)
				print_file(path, &v);
		}
		if (v.follow)
			status = follow(&names, &v);
	}
	strv_done(&names);
	return status;
}

/* ---- suggest ---- */

/* One destination that was asked for. */
struct asked {
	char *target; /* owned: a rule */
	const char *special; /* what else it would open: an address that is not on the internet; or NULL */
	unsigned long times;
};

struct asks {
	struct asked *v; /* owned */
	size_t n;
};

/* A log can name more destinations than anybody would read. */
#define ASKED_MAX 4096

static void note(struct asks *a, const char *target, const char *special)
{
	for (size_t i = 0; i < a->n; i++) {
		if (strcmp(a->v[i].target, target) == 0) {
			a->v[i].times++;
			return;
		}
	}
	if (a->n == ASKED_MAX)
		return;
	a->v = xrealloc(a->v, a->n + 1, sizeof(*a->v));
	a->v[a->n++] = (struct asked){xstrdup(target), special, 1};
}

/* A line of the log as the narrowest rule for its destination. False: nothing that a rule could
 * help, or that is allowed or denied by one already. */
static bool missing_rule(const json_t *j, const struct policy *p, char ret[static POLICY_TARGET_MAX],
	const char **ret_special)
{
	json_int_t port = json_integer_value(json_object_get(j, "port"));
	const char *name = text(j, "name"), *path = text(j, "path");
	struct policy_query q = {.port = (uint16_t)port};
	struct policy_path parsed = {0};
	struct policy_host host;
	struct policy_verdict v;
	bool ok;

	if (strcmp(text(j, "proto"), "udp") == 0)
		q.proto = POLICY_UDP;
	/* HTTP/3 is only tried: the same comes again over TCP. */
	if (port < 1 || port > 65535 || !*name || (q.proto == POLICY_UDP && port == 443) ||
		strcmp(text(j, "reason"), CHAIN_NO_NAME) == 0)
		return false;
	if (policy_addr_parse(name, strlen(name), &host.addr, NULL) == 0)
		q.addr = &host.addr;
	else if (policy_host_parse(name, strlen(name), &host, NULL) < 0)
		return false;
	else
		q.name = host.name;
	/* A path that the log has cut fails to be a path, or leads to a rule that is too narrow. */
	if (*text(j, "method") && policy_path_parse(path, strlen(path), &parsed, NULL) == 0) {
		q.method = text(j, "method");
		q.path = &parsed;
	}
	*ret_special = q.addr ? policy_addr_special(q.addr) : NULL;
	if (q.name && strcmp(q.name, POLICY_THIS_HOST) == 0)
		*ret_special = "this machine";
	v = policy_judge(p, &q);
	ok = !v.allowed && !v.rule && policy_query_rule(&q, ret) == 0;
	/* Port 443 goes without saying. */
	if (ok && !q.method && q.name && port == 443)
		ret[strlen(ret) - 4] = '\0';
	policy_path_done(&parsed);
	return ok;
}

static void collect(struct asks *a, const char *path, const struct policy *p)
{
	_free_ char *line = xmalloc(LINE_BYTES);
	FILE *f = fopen(path, "re");

	while (f && fgets(line, LINE_BYTES, f)) {
		char target[POLICY_TARGET_MAX];
		json_t *j = json_loads(line, 0, NULL);
		const char *special;

		if (j && missing_rule(j, p, target, &special))
			note(a, target, special);
		json_decref(j);
	}
	if (f)
		fclose(f);
}

static int by_target(const void *a, const void *b)
{
	return strcmp(((const struct asked *)a)->target, ((const struct asked *)b)->target);
}

static void print_fragment(const struct asks *a, const char *name)
{
	if (!a->n) {
		printf("# %s asked for nothing that its rules do not already decide\n", name);
		return;
	}
	printf("# What %s asked for and no rule decides, from its network log\n"
	       "permissions:\n  network:\n    allow:\n",
		name);
	for (size_t i = 0; i < a->n; i++)
		printf("      - \"%s\"  # asked for %lu time%s%s%s\n", a->v[i].target, a->v[i].times,
			a->v[i].times == 1 ? "" : "s", a->v[i].special ? "; careful: " : "",
			a->v[i].special ? a->v[i].special : "");
}

int policy_suggest(int argc, char **argv)
{
	_free_ char *old = NULL, *path = NULL;
	struct asks a = {0};
	struct policy p;
	struct err err;

	if (argc != 2 || argv[1][0] == '-')
		return cli_usage(argv[0]);
	if (rules_policy(argv[1], &p, &err) < 0)
		return cli_fail(&err);
	old = boxes_path(argv[1], "gate/audit.jsonl.1");
	path = boxes_path(argv[1], "gate/audit.jsonl");
	collect(&a, old, &p);
	collect(&a, path, &p);
	if (a.n)
		qsort(a.v, a.n, sizeof(*a.v), by_target);
	print_fragment(&a, argv[1]);
	for (size_t i = 0; i < a.n; i++)
		free(a.v[i].target);
	free(a.v);
	policy_done(&p);
	return 0;
}

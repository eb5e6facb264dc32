/* SPDX-License-Identifier: Apache-2.0 */
/* hutch secret: values that the gate adds to requests and no sandbox ever sees. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "base/fd.h"
#include "base/near.h"
#include "cli/boxes.h"
#include "cli/cli.h"
#include "cli/secrets.h"
#include "cli/tokens.h"
#include "kit/services.h"
#include "secret/store.h"

#define LONG_VALUE 16u /* four characters of so many give little away */

/* What the command line says. {0} is empty. */
struct words {
	struct strv names;
	const char *box, *from;
	unsigned ttl_s; /* 0: not said */
	bool json, no_keyring;
};

enum { OPT_FROM = 256, OPT_TTL, OPT_SANDBOX, OPT_JSON, OPT_NO_KEYRING };

static const struct option longs[] = {{"from", required_argument, NULL, OPT_FROM},
	{"ttl", required_argument, NULL, OPT_TTL},
	{"sandbox", required_argument, NULL, OPT_SANDBOX}, {"json", no_argument, NULL, OPT_JSON},
	{"no-keyring", no_argument, NULL, OPT_NO_KEYRING}, {0}};

/* "90", "30s", "5m", "1h". */
static int parse_ttl(const char *text, unsigned *ret)
{
	static const struct {
		const char *unit;
		unsigned seconds;
	} units[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}};
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	for (size_t i = 0; i < ARRAY_SIZE(units) && text[0] >= '0' && text[0] <= '9'; i++) {
		if (strcmp(end, units[i].unit) != 0 || v == 0 ||
			v > SOURCE_TTL_MAX / units[i].seconds)
			continue;
		*ret = (unsigned)v * units[i].seconds;
		return 0;
	}
	return cli_failf(
		"secret set: --ttl %s: not a time such as 30s, 5m or 1h, at most 24h", text);
}

/* Options may stand before, between and behind the operands. */
static int parse(struct words *w, int argc, char **argv)
{
	while (optind < argc) {
		switch (cli_getopt(argc, argv, "", longs)) {
		case OPT_FROM:
			w->from = optarg;
			break;
		case OPT_TTL:
			if (parse_ttl(optarg, &w->ttl_s) != 0)
				return CLI_FAILED;
			break;
		case OPT_SANDBOX:
			w->box = optarg;
			break;
		case OPT_JSON:
			w->json = true;
			break;
		case OPT_NO_KEYRING:
			w->no_keyring = true;
			break;
		case -1:
			if (optind < argc)
				strv_add(&w->names, argv[optind++]);
			break;
		default:
			return CLI_FAILED;
		}
	}
	return 0;
}

/* ---- set ---- */

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
	interrupted = sig;
}

/* A signal must not leave the terminal without echo: it ends the read, and takes effect after. */
static void catch_signals(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &(struct sigaction){.sa_handler = on_interrupt}, NULL);
}

/* Read standard input to its end (a pipe) or one line (a terminal, without echo). */
static struct secret *read_value(struct err *err)
{
	struct secret *value = NULL;
	struct termios old, quiet;
	bool terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &old) == 0;
	char *text = xmalloc(SECRET_VALUE_MAX + 1);
	size_t len = 0;

	if (terminal) {
		quiet = old;
		quiet.c_lflag &= ~(tcflag_t)ECHO;
		quiet.c_cc[VSUSP] = _POSIX_VDISABLE;
		catch_signals();
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
		fprintf(stderr, "value (not shown): ");
	}
	while (len < SECRET_VALUE_MAX + 1) {
		ssize_t n = read(STDIN_FILENO, text + len, SECRET_VALUE_MAX + 1 - len);

		if (n < 0 && errno == EINTR && !interrupted)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
		if (terminal && text[len - 1] == '\n')
			break;
	}
	if (terminal) {
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
		fprintf(stderr, "\n");
	}
	if (interrupted) {
		mem_wipe(text, SECRET_VALUE_MAX + 1);
		signal(interrupted, SIG_DFL);
		raise(interrupted);
	}
	if (len && text[len - 1] == '\n')
		len--;
	if (len == 0)
		err_set(err, ERR_USER, "the value is empty");
	else
		value = secret_new(text, len, err);
	mem_wipe(text, SECRET_VALUE_MAX + 1);
	free(text);
	return value;
}

/* file:PATH as the user wrote it, from here or from home. Owned. */
static char *absolute(const char *from)
{
	const char *path = from + strlen("file:"), *home = getenv("HOME");
	char here[PATH_MAX];

	if (strncmp(from, "file:", 5) != 0 || path[0] == '/' || !path[0])
		return xstrdup(from);
	if (path[0] == '~' && path[1] == '/' && home)
		return xasprintf("file:%s%s", home, path + 1);
	return getcwd(here, sizeof(here)) ? xasprintf("file:%s/%s", here, path) : xstrdup(from);
}

static int set_reference(const char *service, const struct words *w, struct err *err)
{
	_free_ char *from = absolute(w->from);
	_source_ struct source source = {0};

	if (source_parse(from, w->ttl_s ? w->ttl_s : SOURCE_TTL_DEFAULT, &source, err) < 0)
		return -1;
	return secrets_refer(service, w->box, &source, err);
}

/* A kit may name any service; a mistyped one of ours is never asked for. */
static void note_near(const char *service)
{
	struct kit_errors errs = {0};
	struct strv names = {0};
	struct kit k = {0};
	const char *near;
	struct err err;

	if (services_load(&k, &errs, &err) == 0) {
		for (size_t i = 0; i < k.n_credentials; i++)
			strv_add(&names, k.credentials[i].service);
		near = strv_has(&names, service) ? NULL : near_word(service, &names);
		if (near)
			fprintf(stderr, "hutch: no built-in service is named %s, did you mean %s?\n",
				service, near);
	}
	strv_done(&names);
	kit_errors_done(&errs);
	kit_done(&k);
}

static int set(const struct words *w)
{
	const char *service = w->names.n ? w->names.v[0] : "";
	_secret_ struct secret *value = NULL;
	_close_ int store = -1;
	struct err err;
	bool in_keyring;

	if (w->names.n > 1)
		return cli_failf(
			"secret set: the value is read from standard input, never from the "
			"command line, where every user of this machine could see it");
	if (!secret_name_valid(service))
		return cli_failf(
			"secret set %s: not a service name (letters, digits, . _ -)", service);
	if (w->ttl_s && !w->from)
		return cli_failf("secret set: --ttl goes with --from");
	note_near(service);
	if (w->from)
		return set_reference(service, w, &err) < 0 ? cli_fail(&err) : 0;
	store = secrets_open(w->box, &err); /* before anything is typed */
	if (store < 0)
		return cli_fail(&err);
	value = read_value(&err);
	if (!value) {
		err_wrap(&err, "secret set %s", service);
		return cli_fail(&err);
	}
	if (secrets_keep(service, w->box, !w->no_keyring, value, &in_keyring, &err) < 0)
		return cli_fail(&err);
	if (in_keyring)
		fprintf(stderr, "stored %s in the desktop's keyring\n", service);
	else
		fprintf(stderr, "stored %s in a file only you can read (%s)\n", service,
			w->no_keyring ? "--no-keyring" : "no desktop keyring runs here");
	return 0;
}

/* ---- ls ---- */

/* One stored secret, as people may see it. */
struct row {
	const char *service, *box; /* borrowed; box NULL: for all sandboxes */
	struct source source;
	char tail[5]; /* the end of a long value, or "" */
	long age_s;
};

static int look(int store, struct row *r, struct err *err)
{
	const int stores[2] = {store, -1};
	_secret_ struct secret *value = NULL;
	struct timespec now;
	struct stat st;

	if (source_find(stores, r->service, &r->source, &value, err) < 0)
		return -1;
	if (value && secret_len(value) >= LONG_VALUE)
		memcpy(r->tail, secret_bytes(value) + secret_len(value) - 4, 4);
	clock_gettime(CLOCK_REALTIME, &now);
	if (fstatat(store, r->service, &st, AT_SYMLINK_NOFOLLOW) == 0)
		r->age_s = MAX(now.tv_sec - st.st_mtim.tv_sec, 0l);
	return 0;
}

static json_t *row_json(const struct row *r)
{
	const struct source *s = &r->source;
	_free_ char *from = s->arg ? xasprintf("%s:%s", source_kind_name(s->kind), s->arg)
				   : xstrdup(source_kind_name(s->kind));
	json_t *j = json_pack("{s:s, s:s?, s:s, s:I}", "service", r->service, "sandbox", r->box,
		"source", from, "age_seconds", (json_int_t)r->age_s);

	if (j && s->kind >= SOURCE_CMD)
		json_object_set_new(j, "ttl_seconds", json_integer(s->ttl_s));
	/* A value need not be text. */
	if (j && r->tail[0])
		json_object_set_new(j, "ends_with", json_string(r->tail));
	return j;
}

static void print_row(const struct row *r)
{
	static const struct {
		long seconds;
		const char *unit;
	} units[] = {{86400, "d"}, {3600, "h"}, {60, "m"}, {1, "s"}};
	const struct source *s = &r->source;
	_free_ char *line = NULL, *what = NULL;
	size_t u = 0;

	while (u < ARRAY_SIZE(units) - 1 && r->age_s < 2 * units[u].seconds)
		u++;
	if (s->kind == SOURCE_VALUE)
		what = xasprintf("stored  ********%s", r->tail);
	else if (s->kind == SOURCE_KEYRING)
		what = xstrdup("keyring  ********");
	else
		what = xasprintf("%s:%.100s", source_kind_name(s->kind), s->arg);
	line = xasprintf("%-20s %-16s %4ld%s  %s\n", r->service, r->box ? r->box : "(all)",
		r->age_s / units[u].seconds, units[u].unit, what);
	cli_print(stdout, line);
}

/* Everything in one store: printed, or put into @list. */
static int list_store(const char *box, json_t *list, struct err *err)
{
	_close_ int store = secrets_open(box, err);
	struct strv names = {0};
	int result = store < 0 ? -1 : secret_store_list(store, &names, err);

	for (size_t i = 0; i < names.n && result == 0; i++) {
		struct row r = {.service = names.v[i], .box = box};

		if (look(store, &r, err) < 0)
			result = -1;
		else if (list)
			json_array_append_new(list, row_json(&r));
		else
			print_row(&r);
		source_done(&r.source);
	}
	strv_done(&names);
	return result;
}

static int list(const struct words *w)
{
	struct strv boxes = {0};
	json_t *all = w->json ? json_array() : NULL;
	struct err err;
	int result = list_store(w->box, all, &err);

	if (result == 0 && !w->box)
		result = tokens_list(all, &err);
	if (result == 0 && !w->box)
		result = boxes_names(&boxes, &err);
	for (size_t i = 0; i < boxes.n && result == 0; i++)
		result = list_store(boxes.v[i], all, &err);
	if (result == 0 && all) {
		json_dumpf(all, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
		printf("\n");
	}
	json_decref(all);
	strv_done(&boxes);
	return result < 0 ? cli_fail(&err) : 0;
}

/* ---- the rest ---- */

static int rm(const struct words *w)
{
	int status = 0;
	struct err err;

	for (size_t i = 0; i < w->names.n; i++) {
		const char *name = w->names.v[i];
		bool existed, logged_in = false;

		if (!secret_name_valid(name))
			status = cli_failf("secret rm %s: not a service name", name);
		else if (secrets_remove(name, w->box, &existed, &err) < 0 ||
			 (!w->box && tokens_remove(name, &logged_in, &err) < 0))
			status = cli_fail(&err);
		else if (!existed && !logged_in)
			status = cli_failf("secret rm %s: nothing is stored under that name", name);
	}
	return status;
}

static void print_service(const struct kit_credential *c)
{
	_free_ char *hosts = xstrdup("");

	for (size_t i = 0; i < c->n_injects; i++) {
		const char *domain = c->injects[i].domain;
		char *more = NULL;

		if (i && strcmp(c->injects[i - 1].domain, domain) == 0)
			continue;
		more = xasprintf("%s%s%s", hosts, i ? " " : "", domain);
		free(hosts);
		hosts = more;
	}
	printf("%-14s %-28s %s\n", c->service, c->env, hosts);
}

static int services(void)
{
	struct kit_errors errs = {0};
	struct kit k = {0};
	struct err err;
	int result = services_load(&k, &errs, &err);

	kit_errors_print(&errs, stderr);
	kit_errors_done(&errs);
	for (size_t i = 0; i < k.n_credentials; i++)
		print_service(&k.credentials[i]);
	kit_done(&k);
	return result < 0 ? cli_fail(&err) : 0;
}

static int unknown_verb(const char *name, const char *verb)
{
	static const char *const verbs[] = {"set", "import", "ls", "rm", "services"};
	struct strv names = {0};
	int status;

	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		strv_add(&names, verbs[i]);
	status = strv_has(&names, verb) ? cli_usage(name)
					: cli_no_verb("secret", verb, &names);
	strv_done(&names);
	return status;
}

int cmd_secret(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	_free_ char *name = xasprintf("secret %s", verb); /* for messages */
	struct words w = {0};
	int status;

	if (argc < 2)
		return cli_usage("secret");
	argv[1] = name;
	optind = 1;
	if (strcmp(verb, "import") == 0)
		return secret_import(argc - 1, argv + 1);
	status = parse(&w, argc - 1, argv + 1);
	if (status != 0)
		;
	else if (strcmp(verb, "set") == 0 && w.names.n)
		status = set(&w);
	else if (strcmp(verb, "ls") == 0 && !w.names.n)
		status = list(&w);
	else if (strcmp(verb, "rm") == 0 && w.names.n)
		status = rm(&w);
	else if (strcmp(verb, "services") == 0 && !w.names.n)
		status = services();
	else
		status = unknown_verb(name, verb);
	strv_done(&w.names);
	return status;
}

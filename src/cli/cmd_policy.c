/* SPDX-License-Identifier: Apache-2.0 */
/* hutch policy log: the audit logs of one or all sandboxes. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/boxes.h"
#include "cli/cli.h"

#define LINE_BYTES 65536

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
	buf_printf(&line, "%-24.24s %-16s %-5s %-32s", text(j, "time"), text(j, "box"), verdict, target);
	if (*text(j, "method"))
		buf_printf(&line, " %s %s", text(j, "method"), text(j, "path"));
	if (json_integer_value(json_object_get(j, "status")))
		buf_printf(&line, " %lld", (long long)json_integer_value(json_object_get(j, "status")));
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

static void print_file(const char *path, bool json)
{
	_free_ char *line = xmalloc(LINE_BYTES);
	FILE *f = fopen(path, "re");

	while (f && fgets(line, LINE_BYTES, f)) {
		json_t *j;

		if (json) {
			fputs(line, stdout);
			continue;
		}
		/* A line cut short by a crash is passed over. */
		j = json_loads(line, 0, NULL);
		if (j)
			print_entry(j);
		json_decref(j);
	}
	if (f)
		fclose(f);
}

int cmd_policy(int argc, char **argv)
{
	static const struct option longs[] = {{"json", no_argument, NULL, 'j'}, {0}};
	struct strv names = {0};
	bool json = false;
	struct err err;
	int c;

	if (argc < 2 || strcmp(argv[1], "log") != 0)
		return cli_usage("policy");
	optind = 2;
	/* The option may stand before or behind the name. */
	while (optind < argc) {
		c = cli_getopt(argc, argv, "", longs);
		if (c == 'j')
			json = true;
		else if (c != -1)
			return CLI_FAILED;
		else if (optind < argc)
			strv_add(&names, argv[optind++]);
	}
	if (names.n > 1)
		return cli_usage("policy");
	if (names.n && !boxes_exists(names.v[0]))
		return cli_failf("no sandbox named %s", names.v[0]);
	if (!names.n && boxes_names(&names, &err) < 0)
		return cli_fail(&err);
	for (size_t i = 0; i < names.n; i++) {
		_free_ char *old = boxes_path(names.v[i], "gate/audit.jsonl.1");
		_free_ char *path = boxes_path(names.v[i], "gate/audit.jsonl");

		print_file(old, json);
		print_file(path, json);
	}
	strv_done(&names);
	return 0;
}

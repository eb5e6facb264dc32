/* SPDX-License-Identifier: Apache-2.0 */
/* hutch exec: a command in a sandbox. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/boxes.h"
#include "cli/cli.h"
#include "cli/session.h"
#include "kit/kit.h"

static int add_env(struct strv *env, const char *text)
{
	_free_ char *name = xstrndup(text, strcspn(text, "="));

	if (!kit_env_name_valid(name))
		return cli_failf("exec: -e %s: not a variable name\n"
				 "       -e NAME=VALUE, or -e NAME for the value that it has here", name);
	if (!strchr(text, '=') && !getenv(name))
		return cli_failf("exec: -e %s: not set here; use -e %s=VALUE", name, name);
	if (strchr(text, '='))
		strv_add(env, text);
	else
		strv_addf(env, "%s=%s", name, getenv(name));
	return 0;
}

int cmd_exec(int argc, char **argv)
{
	static const struct option longs[] = {{"interactive", no_argument, NULL, 'i'},
		{"tty", no_argument, NULL, 't'}, {"user", required_argument, NULL, 'u'},
		{"workdir", required_argument, NULL, 'w'}, {"env", required_argument, NULL, 'e'}, {0}};
	struct session s = {.user = "", .cwd = ""};
	struct box_spec spec;
	struct box_conn conn;
	struct err err = {0};
	const char *name;
	int c, fd, status;

	while ((c = cli_getopt(argc, argv, "itu:w:e:", longs)) != -1) {
		switch (c) {
		case 'i':
			s.input = true;
			break;
		case 't':
			s.tty = true;
			break;
		case 'u':
			s.user = optarg;
			break;
		case 'w':
			s.cwd = optarg;
			break;
		case 'e':
			if (add_env(&s.env, optarg) != 0)
				return CLI_FAILED;
			break;
		default:
			return CLI_FAILED;
		}
	}
	if (optind >= argc)
		return cli_usage("exec");
	name = argv[optind++];
	if (optind < argc && strcmp(argv[optind], "--") == 0)
		optind++;
	if (optind >= argc)
		return cli_failf("exec: say which command to run in %s", name);
	for (int i = optind; i < argc; i++)
		strv_add(&s.argv, argv[i]);
	if (s.tty && !isatty(STDIN_FILENO))
		return cli_failf("exec: -t needs a terminal on standard input");
	if (s.tty)
		strv_addf(&s.env, "TERM=%s", getenv("TERM") ? getenv("TERM") : "xterm");
	if (boxes_spec(name, &spec, &err) < 0)
		return cli_fail(&err);
	if (!s.cwd[0])
		s.cwd = spec.workdir;
	if (!s.user[0])
		s.user = spec.user;
	if (box_up_open(name, cli_progress, &conn, &fd, &err) < 0)
		return cli_fail(&err);
	cli_progress(NULL);
	box_conn_close(&conn);
	status = session_run(fd, &s, &err);
	spec_done(&spec);
	strv_done(&s.argv);
	strv_done(&s.env);
	return status < 0 ? cli_fail(&err) : status;
}

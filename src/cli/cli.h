/* SPDX-License-Identifier: Apache-2.0 */
/* What the subcommands share: the table row, how they fail, how they report. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"

#define CLI_REFUSED 2  /* exit status when the user has to approve something first */
#define CLI_DECLINED 124 /* exit status for ERR_REFUSED */
#define CLI_FAILED 125 /* exit status when Hutch failed, as opposed to the command that it ran */

struct command {
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0] is the command's name; returns the exit status */
};

int cmd_run(int argc, char **argv);
int cmd_create(int argc, char **argv);
int cmd_exec(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_start(int argc, char **argv);
int cmd_stop(int argc, char **argv);
int cmd_recreate(int argc, char **argv);
int cmd_rm(int argc, char **argv);
int cmd_logs(int argc, char **argv);
int cmd_ports(int argc, char **argv);
int cmd_policy(int argc, char **argv);
int cmd_secret(int argc, char **argv);
int cmd_kit(int argc, char **argv);
int cmd_image(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_version(int argc, char **argv);

/* Text of a kit, the guest or the network: characters that steer a terminal come out as '?'. */
void cli_print(FILE *to, const char *text);
/* Print "hutch: <message>" and the remedy on stderr; returns CLI_FAILED, or CLI_DECLINED. */
int cli_fail(const struct err *err);
int cli_failf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same about a name that no sandbox has. */
int cli_no_sandbox(const char *name);
/* The same about a subcommand of @command that is none of @verbs. */
int cli_no_verb(const char *command, const char *verb, const struct strv *verbs);
/* Print how @name ("run", "policy", "policy log") is used; returns CLI_FAILED. */
int cli_usage(const char *name);
/* One line of progress on stderr: rewritten in place on a terminal, else a line of its own. NULL
 * clears the line. */
void cli_progress(const char *text);

/* getopt_long for a subcommand: stops at the first word that is no option, prints errors in our form.
 * Returns like getopt_long, '?' after having complained. */
struct option;
int cli_getopt(int argc, char **argv, const char *shorts, const struct option *longs);

/* SPDX-License-Identifier: Apache-2.0 */
/* hutch start: sandboxes that exist, without attaching to them. */
#include <getopt.h>
#include <stdio.h>

#include "cli/boxes.h"
#include "cli/cli.h"
#include "cli/secrets.h"
#include "cli/start.h"

static int start_one(const char *name)
{
	struct box_conn conn = {.fd = -1};
	struct box_spec s = {0};
	struct err err;
	int status = 0;

	if (!boxes_exists(name))
		return cli_no_sandbox(name);
	if (boxes_spec(name, &s, &err) < 0 || secrets_check(&s, true, &err) < 0 ||
		start_box(&s, false, &conn, &err) < 0)
		status = cli_fail(&err);
	else
		printf("%s\n", name);
	box_conn_close(&conn);
	spec_done(&s);
	return status;
}

int cmd_start(int argc, char **argv)
{
	static const struct option longs[] = {{0}};
	int status = 0;

	if (cli_getopt(argc, argv, "", longs) != -1)
		return CLI_FAILED;
	if (optind == argc)
		return cli_usage("start");
	for (int i = optind; i < argc; i++) {
		int one = start_one(argv[i]);

		status = one ? one : status;
	}
	return status;
}

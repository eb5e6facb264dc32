/* SPDX-License-Identifier: Apache-2.0 */
/* hutch inspect: everything that a sandbox is. */
#include <getopt.h>
#include <stdio.h>

#include "cli/boxes.h"
#include "cli/cli.h"
#include "kit/plan.h"

int cmd_inspect(int argc, char **argv)
{
	static const struct option longs[] = {{"json", no_argument, NULL, 'j'}, {0}};
	struct box_spec s = {0};
	bool json = false;
	struct err err;
	int c, status = 0;

	while ((c = cli_getopt(argc, argv, "", longs)) != -1) {
		if (c != 'j')
			return CLI_FAILED;
		json = true;
	}
	if (optind + 1 != argc)
		return cli_usage("inspect");
	if (!boxes_exists(argv[optind]))
		return cli_no_sandbox(argv[optind]);
	if (boxes_spec(argv[optind], &s, &err) < 0) {
		status = cli_fail(&err);
	} else if (json) {
		json_t *j = spec_to_json(&s);

		json_dumpf(j, stdout, JSON_INDENT(2));
		printf("\n");
		json_decref(j);
	} else {
		plan_print(&s, stdout);
	}
	spec_done(&s);
	return status;
}

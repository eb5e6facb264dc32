/* SPDX-License-Identifier: Apache-2.0 */
/* hutch kit: checking kits. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "kit/kit.h"

int cmd_kit(int argc, char **argv)
{
	_free_ char *path = NULL;
	struct err err;

	if (argc != 3 || strcmp(argv[1], "validate") != 0)
		return cli_usage("kit");
	path = kit_locate(argv[2], &err);
	if (!path)
		return cli_fail(&err);
	if (kit_validate(path, stdout, &err) == 0)
		return 0;
	fflush(stdout);
	return cli_fail(&err);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* hutch version */
#include <stdio.h>

#include "cli/cli.h"

int cmd_version(int argc, char **argv)
{
	if (argc > 1)
		return cli_usage(argv[0]);
	printf("hutch %s\n", HUTCH_VERSION);
	return 0;
}

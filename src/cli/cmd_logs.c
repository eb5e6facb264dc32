/* SPDX-License-Identifier: Apache-2.0 */
/* hutch logs: what a sandbox printed while it started and ran. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/boxes.h"
#include "cli/cli.h"

/* Guest output on a terminal: control characters must not reach it. */
static void print_clean(FILE *f)
{
	bool terminal = isatty(STDOUT_FILENO);

	for (int before = 0, c; (c = getc(f)) != EOF; before = c) {
		bool c1 = before == 0xc2 && c >= 0x80 && c < 0xa0; /* in UTF-8 */

		if (terminal && (c == 0x7f || c1 || (c < 0x20 && c != '\n' && c != '\t')))
			continue;
		putchar(c);
	}
}

int cmd_logs(int argc, char **argv)
{
	static const struct option longs[] = {{0}};
	static const char *const files[] = {
		"console.log.1", "console.log", "setup.log", "agent.log", "box.log"};

	if (cli_getopt(argc, argv, "", longs) != -1)
		return CLI_FAILED;
	if (optind + 1 != argc)
		return cli_usage("logs");
	if (!boxes_exists(argv[optind]))
		return cli_no_sandbox(argv[optind]);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_free_ char *path = boxes_path(argv[optind], files[i]);
		FILE *f = fopen(path, "re");

		if (!f)
			continue;
		printf("==> %s\n", files[i]);
		print_clean(f);
		fclose(f);
	}
	return 0;
}

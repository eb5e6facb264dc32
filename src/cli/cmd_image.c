/* SPDX-License-Identifier: Apache-2.0 */
/* hutch image: what sandboxes boot from. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "image/image.h"

static void show(void *arg, const char *what, int percent)
{
	char line[200];

	if (percent >= 0 && isatty(STDERR_FILENO)) {
		char bar[21];

		memset(bar, '.', 20);
		memset(bar, '#', (size_t)MIN(percent, 100) / 5);
		bar[20] = '\0';
		snprintf(line, sizeof(line), "[%s] %3d%%  %s", bar, percent, what);
	} else if (percent > 0 && percent < 100) {
		return; /* not on a terminal: one line per job, not per step */
	} else {
		snprintf(line, sizeof(line), "%s", what);
	}
	cli_progress(line);
}

int cmd_image(int argc, char **argv)
{
	static const struct option longs[] = {
		{"json", no_argument, NULL, 'j'}, {"force", no_argument, NULL, 'f'}, {0}};
	const char *verb = argc > 1 ? argv[1] : "";
	bool json = false, force = false;
	struct err err;
	int c;

	if (strcmp(verb, "ls") != 0 && strcmp(verb, "build") != 0)
		return cli_usage("image");
	optind = 2;
	while ((c = cli_getopt(argc, argv, "", longs)) != -1) {
		if (c == 'j' && verb[0] == 'l')
			json = true;
		else if (c == 'f' && verb[0] == 'b')
			force = true;
		else
			return c == '?' ? CLI_FAILED : cli_usage("image");
	}
	if (optind != argc)
		return cli_usage("image");
	if (verb[0] == 'l')
		return image_list(stdout, json, &err) < 0 ? cli_fail(&err) : 0;
	if (image_build(force, show, NULL, &err) < 0)
		return cli_fail(&err);
	cli_progress(NULL);
	return image_list(stdout, false, &err) < 0 ? cli_fail(&err) : 0;
}

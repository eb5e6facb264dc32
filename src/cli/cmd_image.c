/* SPDX-License-Identifier: Apache-2.0 */
/* hutch image: what sandboxes boot from. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/images.h"

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
	if (image_build(force, images_progress, NULL, &err) < 0)
		return cli_fail(&err);
	cli_progress(NULL);
	return image_list(stdout, false, &err) < 0 ? cli_fail(&err) : 0;
}

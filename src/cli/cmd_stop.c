/* SPDX-License-Identifier: Apache-2.0 */
/* hutch stop, hutch rm: the end of sandboxes. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/mem.h"
#include "cli/boxes.h"
#include "cli/cli.h"

int cmd_stop(int argc, char **argv)
{
	static const struct option longs[] = {{0}};
	int status = 0;
	struct err err;

	if (cli_getopt(argc, argv, "", longs) != -1)
		return CLI_FAILED;
	if (optind == argc)
		return cli_usage("stop");
	for (int i = optind; i < argc; i++) {
		if (!boxes_exists(argv[i]))
			status = cli_no_sandbox(argv[i]);
		else if (box_end(argv[i], false, false, &err) < 0)
			status = cli_fail(&err);
		else
			printf("%s\n", argv[i]);
	}
	return status;
}

/* *ret_gone: there was something to remove. */
static int remove_one(const char *name, bool force, bool *ret_gone, struct err *err)
{
	_free_ char *dir = boxes_path(name, "");
	struct box_conn c = {.fd = -1};

	/* Whatever is left of it: it may be without a spec.json. */
	*ret_gone = fs_exists(dir);
	if (!*ret_gone) {
		if (force)
			return 0;
		err_set(err, ERR_USER, "no sandbox named %s", name);
		return err_hint(err, "hutch ls");
	}
	if (!force && box_find(name, &c, err) != 0) {
		box_conn_close(&c);
		err_set(err, ERR_USER, "sandbox %s is running", name);
		return err_hint(err, "hutch stop %s, or hutch rm -f %s", name, name);
	}
	if (box_end(name, true, true, err) < 0)
		return -1;
	return boxes_delete(name, err);
}

int cmd_rm(int argc, char **argv)
{
	static const struct option longs[] = {{"force", no_argument, NULL, 'f'}, {0}};
	bool force = false, gone;
	int status = 0, c;
	struct err err;

	while ((c = cli_getopt(argc, argv, "f", longs)) != -1) {
		if (c != 'f')
			return CLI_FAILED;
		force = true;
	}
	if (optind == argc)
		return cli_usage("rm");
	for (int i = optind; i < argc; i++) {
		if (!spec_name_valid(argv[i]))
			status = cli_failf("%s: not a sandbox name", argv[i]);
		else if (remove_one(argv[i], force, &gone, &err) < 0)
			status = cli_fail(&err);
		else if (gone)
			printf("%s\n", argv[i]);
	}
	return status;
}

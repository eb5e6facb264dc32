/* SPDX-License-Identifier: Apache-2.0 */
/* hutch policy: network rules and what came of them. */
#include <getopt.h>
#include <stdint.h>
#include <string.h>

#include "cli/policy.h"

static const struct {
	const char *verb, *name;
	int (*run)(int argc, char **argv);
} verbs[] = {
	{"allow", "policy allow", policy_allow},
	{"deny", "policy deny", policy_deny},
	{"rm", "policy rm", policy_rm},
	{"ls", "policy ls", policy_ls},
	{"check", "policy check", policy_check},
	{"init", "policy init", policy_init},
	{"pending", "policy pending", policy_pending},
	{"approve", "policy approve", policy_approve},
	{"dismiss", "policy dismiss", policy_dismiss},
	{"log", "policy log", policy_log},
	{"suggest", "policy suggest", policy_suggest},
};

int cmd_policy(int argc, char **argv)
{
	struct strv names = {0};
	int status;

	if (argc < 2)
		return cli_usage("policy");
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (strcmp(argv[1], verbs[i].verb) != 0)
			continue;
		argv[1] = (char *)(uintptr_t)verbs[i].name; /* for messages */
		optind = 1;
		return verbs[i].run(argc - 1, argv + 1);
	}
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		strv_add(&names, verbs[i].verb);
	status = cli_no_verb("policy", argv[1], &names);
	strv_done(&names);
	return status;
}

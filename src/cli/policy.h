/* SPDX-License-Identifier: Apache-2.0 */
/* What the subcommands of hutch policy share. */
#pragma once

#include "cli/cli.h"

/* argv[0] is "policy allow" and the like. */
int policy_allow(int argc, char **argv);
int policy_deny(int argc, char **argv);
int policy_rm(int argc, char **argv);
int policy_ls(int argc, char **argv);
int policy_check(int argc, char **argv);
int policy_init(int argc, char **argv);
int policy_pending(int argc, char **argv);
int policy_approve(int argc, char **argv);
int policy_dismiss(int argc, char **argv);
int policy_log(int argc, char **argv);
int policy_suggest(int argc, char **argv);

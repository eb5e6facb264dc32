/* SPDX-License-Identifier: Apache-2.0 */
/* How the commands are used, in one table. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

/* The commands and what each is for. */
void help_print_all(FILE *to);
/* How @name ("run", "policy", "policy allow") is used: its words and options, or its subcommands.
 * False when there is no such. */
bool help_print(FILE *to, const char *name);
/* The usage lines of @name alone. */
void help_print_usage(FILE *to, const char *name);

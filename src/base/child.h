/* SPDX-License-Identifier: Apache-2.0 */
/* Child processes with a fixed descriptor table. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/landlock.h"

/* An argument list from literals and strings; lives as long as the enclosing block. */
#define ARGV(...) ((char **)(uintptr_t)(const char *[]){__VA_ARGS__, NULL})

#define CHILD_NULL    (-1) /* /dev/null */
#define CHILD_INHERIT (-2)

struct child_spec {
	const char *path;	 /* execvp: searched in PATH when it has no slash */
	char *const *argv;
	char *const *envp;	 /* NULL: inherit */
	int in, out, errout;	 /* descriptors for 0, 1, 2, or CHILD_NULL, CHILD_INHERIT */
	const int *fds;		 /* become 3, 4, …; -1 leaves a slot closed. Borrowed. */
	size_t nfds;
	bool keep_group;	 /* default: own process group, so that Ctrl-C is ours alone */
	bool outlive_parent;	 /* default: SIGKILL when the parent dies */
	int cwd;		 /* directory descriptor to start in, or 0 for the parent's own */
	unsigned jail;		 /* enum jail_layer given up before exec; see struct child. JAIL_ROOT:
				  * for a root directory in which only @rules are, with JAIL_PID. */
	const struct landlock_rule *rules; /* the files it may reach; none: all. Borrowed. */
	size_t n_rules;
	bool tcp;		 /* with rules: it may still connect and listen */
};

struct child {
	pid_t pid;
	int pidfd; /* owned; readable when the child has ended */
	unsigned jail_missing; /* what of the specification's jail this host refuses */
};

/* Start a program. Everything beyond the table is closed in the child. Failure to execute is
 * reported here (errnum ENOENT: no such program), not as an exit status. */
int child_spawn(const struct child_spec *spec, struct child *ret_child, struct err *err);
/* Reap a child, waiting for it. The status as waitpid() gives it. Closes pidfd. */
int child_wait(struct child *c);
void child_kill(const struct child *c, int sig);
/* Run to completion, collecting up to @max_out bytes of stdout+stderr (more is dropped) in *ret_out
 * (owned string; may be NULL for none). Returns the waitpid status or -1 with @err. */
int child_run(const struct child_spec *spec, char **ret_out, size_t max_out, struct err *err);
/* "exit 3" or "signal 9 (Killed)", for messages. */
const char *child_status_text(int status, char *to, size_t size);

/* SPDX-License-Identifier: Apache-2.0 */
/* Where Hutch keeps things on the host (XDG base directories). */
#pragma once

#include "base/err.h"
#include "base/mem.h"

/* Each returns an owned absolute path, made with mode 0700 where absent, or NULL with @err. */
char *path_data(const char *sub, struct err *err);   /* $XDG_DATA_HOME/hutch/@sub */
char *path_state(const char *sub, struct err *err);  /* $XDG_STATE_HOME/hutch/@sub */
char *path_config(const char *sub, struct err *err); /* $XDG_CONFIG_HOME/hutch/@sub */
/* $XDG_RUNTIME_DIR/hutch, else a 0700 directory of the user's own below /tmp, checked for owner. */
char *path_runtime(struct err *err);
/* All of these, whether they are there or not. */
void path_own(struct strv *ret);
/* The program @name beside the running binary, else in the installed libexec directory. Owned. */
char *path_program(const char *name);
/* The program @name as PATH has it, or NULL. Owned. */
char *path_find(const char *name);
/* The directory that really holds the file @path. Owned. */
char *path_dir(const char *path);
/* Read-only data of the project (kits/, share/): beside the build, else installed. Owned. */
char *path_share(const char *sub);

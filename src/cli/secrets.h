/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets as the command line sees them: where they are kept, and whether there are enough. */
#pragma once

#include "base/err.h"
#include "secret/secret.h"
#include "secret/source.h"
#include "wire/spec.h"

/* The store of sandbox @box, or for all sandboxes when NULL. A directory descriptor owned by the
 * caller, or -1. */
int secrets_open(const char *box, struct err *err);
/* Keep @value: in the desktop's keyring when one runs and @keyring, else in the store. */
int secrets_keep(const char *service, const char *box, bool keyring, struct secret *value,
	bool *ret_in_keyring, struct err *err);
/* Keep where the value is. */
int secrets_refer(const char *service, const char *box, const struct source *s, struct err *err);
/* Also from the keyring. */
int secrets_remove(const char *service, const char *box, bool *ret_existed, struct err *err);
/* A required credential without a value is an error; an optional one is left out, and with @tell so
 * is said. What has to be fetched is only looked at. */
int secrets_check(const struct box_spec *s, bool tell, struct err *err);
/* For a sandbox that is about to be made: files and variables that depend on what there is. */
void secrets_settle(struct box_spec *s);

/* cmd_secret_import.c; argv[0] is "secret import". */
int secret_import(int argc, char **argv);

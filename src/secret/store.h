/* SPDX-License-Identifier: Apache-2.0 */
/* The secret store: a directory of mode 0700 with one file of mode 0600 per service.
 *
 * Writing is atomic, so that a reader (the gate, at the moment of use) sees the old value, the new
 * one or none. Nothing is cached: removing a file revokes the secret. */
#pragma once

#include "base/err.h"
#include "base/mem.h"
#include "secret/secret.h"

/* Whether @name can name a service: [A-Za-z0-9._-], 1 to 64 characters, the first and the last a
 * letter or digit. So no name is ".", "..", hidden or a path. */
bool secret_name_valid(const char *name);

/* Open the store at @path, making it where absent. Refused when someone else owns it or could read
 * it. A directory descriptor owned by the caller, or -1. */
int secret_store_open(const char *path, struct err *err);
/* Replace or create. */
int secret_store_set(int store, const char *name, struct secret *value, struct err *err);
/* The value, without one trailing line break. *ret is owned by the caller, or NULL when nothing is
 * stored under that name, which is no error. */
int secret_store_get(int store, const char *name, struct secret **ret, struct err *err);
/* *ret_existed says whether there was anything to remove. */
int secret_store_remove(int store, const char *name, bool *ret_existed, struct err *err);
/* Names in sorted order, appended to @ret. */
int secret_store_list(int store, struct strv *ret, struct err *err);

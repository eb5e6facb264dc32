/* SPDX-License-Identifier: Apache-2.0 */
/* Registries, through hutch-fetch: who speaks with them has the network, and no other file of the
 * user's than the directory that it is given. */
#pragma once

#include "base/err.h"
#include "image/image.h"

struct json_t;
struct registry_ask {
	const char *op; /* as fetch/main.c has them */
	const char *host, *repo, *reference;
	int dirfd;                   /* -1: none */
	struct json_t *annotations;  /* a new reference, taken; NULL: none */
	image_progress_fn *progress; /* or NULL */
	void *arg;
	const char *what; /* for progress */
};

/* *ret_answer: the answer, a new reference. Logs in with what `docker login` has kept. */
int registry_ask(const struct registry_ask *q, struct json_t **ret_answer, struct err *err);

/* SPDX-License-Identifier: Apache-2.0 */
/* What is wrong with a YAML file: every error and warning, with its place, in one go. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct kit_error {
	bool warning;
	char *file;       /* owned, as all strings here */
	int line, column; /* from 1; 0: the file as a whole */
	char *path;       /* "permissions.network.allow[2]", or "" */
	char *message;    /* "what, what was expected": one line of printable ASCII */
};

/* More than this is counted, not kept. */
#define KIT_ERRORS_MAX 100

/* {0} is empty. */
struct kit_errors {
	struct kit_error *v;
	size_t n;
	size_t n_errors;  /* errors seen, kept or not; warnings do not count */
	size_t n_refused; /* of the errors: a kit requires what is not known here */
	size_t n_dropped; /* not kept */
};

void kit_errors_add(struct kit_errors *e, bool warning, const char *file, int line, int column,
	const char *path, const char *fmt, ...) __attribute__((format(printf, 7, 8)));
/* In the order of the files' text. */
void kit_errors_sort(struct kit_errors *e);
/* One per line: "file:line:column: path: message", warnings with "warning: " before the message. */
void kit_errors_print(const struct kit_errors *e, FILE *out);
void kit_errors_done(struct kit_errors *e);

/* SPDX-License-Identifier: Apache-2.0 */
/* Error objects: the last parameter of everything that can fail. */
#pragma once

#include <stdarg.h>

/* Who has to act. The CLI's exit status and the box's restart policy follow from it. */
enum err_class {
	ERR_NONE = 0,
	ERR_USER, /* what was asked for is wrong: flags, kit, name */
	ERR_REFUSED, /* understood, and not given: a kit requires what is not there, kits that clash */
	ERR_ENV,  /* the machine: disk full, missing program, permission */
	ERR_PEER, /* the other side of a wire broke the protocol or went away */
	ERR_BUG,  /* ours */
};

/* Filled by the function that fails; untouched on success. No ownership, no allocation. */
struct err {
	enum err_class class;
	int errnum;	/* errno value, or 0 */
	char msg[640];	/* one line, without "hutch:" and without a full stop */
	char hint[320]; /* remedy, one line, or "" */
};

/* All of these accept err == NULL and always return -1, so that `return err_set(...)` reads well. */
int err_set(struct err *err, enum err_class class, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* ERR_ENV from errno; the message becomes "<what>: <strerror>". */
int err_errno(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Put "<context>: " in front of the message while unwinding. */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Add the remedy line. */
int err_hint(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

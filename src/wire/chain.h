/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log's chain: a cut or a changed line shows. Pure: no I/O.
 *
 * Each line is a JSON object whose last members are
 *	"seq":N              counts from 1, over all files
 *	"prev":"<hash>"      only in the first line of a file: the hash of the line before it
 *	"hash":"<SHA-256>"   over the hash of the line before it and the line up to this member
 * The hash before line 1 is 64 zeros. A file of its own, the head, holds seq and hash of the last
 * line, so that a cut at the end shows, too. It is written after the lines, a batch at a time: a crash
 * in between leaves a log that is so many lines ahead.
 *
 * This is against accidents, and against whoever edits the log without minding the head. It is no
 * signature: whoever may write all files can write a new chain. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/sha256.h"

/* The reason in a line about an address that only the sandbox's own network has. No rule is about it. */
#define CHAIN_NO_NAME "no name belongs to this address"

#define CHAIN_HEAD_SIZE 110u /* bytes of the head file, always */
#define CHAIN_BATCH_MAX 64u  /* lines that may be written before the head is */

/* Where a chain stands. */
struct chain {
	uint64_t seq; /* of the last line; 0: none yet */
	char hash[SHA256_HEX];
};
void chain_init(struct chain *c);

/* @line: an object without its closing brace and not empty. Appends the members, "}\n", and steps
 * @c on. @first: the line begins a file. */
void chain_seal(struct chain *c, bool first, struct buf *line);

struct chain_line {
	const char *text; /* borrowed; what the hash covers */
	size_t len;
	uint64_t seq;
	bool first;
	char prev[SHA256_HEX], hash[SHA256_HEX];
};
/* One line without its line break. -1 when it is not of that form. */
int chain_parse(const char *line, size_t len, struct chain_line *ret);
/* Whether @l is what comes behind @c. */
bool chain_follows(const struct chain *c, const struct chain_line *l);
void chain_step(struct chain *c, const struct chain_line *l);

/* The head file; NUL-terminated. */
void chain_head_text(const struct chain *c, char ret[static CHAIN_HEAD_SIZE + 1]);
int chain_head_parse(const char *text, size_t len, struct chain *ret);

/* Verification: all lines of the files, the oldest first. */
struct chain_check {
	struct chain at;                        /* the last line */
	struct chain last[CHAIN_BATCH_MAX + 1]; /* it and those before it, by number */
	uint64_t lines;
	bool older; /* an older file has been rotated away, or may have been: begin anywhere */
};
/* @file_start: the first line of a file. -1 with @err says what is wrong with it. */
int chain_check_line(
	struct chain_check *c, const char *line, size_t len, bool file_start, struct err *err);
/* @head: NULL when there is none. */
int chain_check_end(const struct chain_check *c, const struct chain *head, struct err *err);

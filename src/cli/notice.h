/* SPDX-License-Identifier: Apache-2.0 */
/* Words of ours beside the output of an attached command: what the sandbox asks the user.
 *
 * Without a terminal they are lines on stderr. A terminal in raw mode belongs to the command, which
 * may be drawing a full screen or editing a line: nothing of ours may appear in it. There the words
 * go into the window's title, between two escape sequences of the command's, and one line is
 * printed when the command has ended. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct notice {
	bool tty;
	/* private */
	int state_;     /* of the command's escape sequences */
	unsigned more_; /* bytes to come of a UTF-8 character */
	unsigned n_;
	char text_[160]; /* for the title, when it is not the moment for it; else "" */
	bool titled_;
};

void notice_init(struct notice *n, bool tty);
/* The command has written this to the terminal. */
void notice_output(struct notice *n, const void *p, size_t len);
void notice_put(struct notice *n, const char *text);
/* The terminal is ours again. */
void notice_end(struct notice *n);

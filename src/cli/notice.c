/* SPDX-License-Identifier: Apache-2.0 */
/* Words of ours beside the output of an attached command. */
#include "cli/notice.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "cli/cli.h"

/* ECMA-48, as far as it matters where a sequence ends. */
enum { GROUND, ESCAPE, INTERMEDIATE, CSI, STRING, STRING_ESCAPE };

static int step(int state, uint8_t c)
{
	/* CAN and SUB break any sequence off, ESC begins a new one. */
	if (c == 0x18 || c == 0x1a)
		return GROUND;
	switch (state) {
	case ESCAPE:
		if (c == '[')
			return CSI;
		if (c != '\0' && strchr("]P^_X", c))
			return STRING;
		if (c == 0x1b)
			return ESCAPE;
		return c >= 0x20 && c < 0x30 ? INTERMEDIATE : GROUND;
	case INTERMEDIATE:
		if (c == 0x1b)
			return ESCAPE;
		return c >= 0x30 ? GROUND : INTERMEDIATE;
	case CSI:
		if (c == 0x1b)
			return ESCAPE;
		return c >= 0x40 && c < 0x7f ? GROUND : CSI;
	case STRING:
		return c == 0x07 ? GROUND : c == 0x1b ? STRING_ESCAPE : STRING;
	case STRING_ESCAPE:
		return c == '\\' ? GROUND : step(ESCAPE, c);
	default:
		return c == 0x1b ? ESCAPE : GROUND;
	}
}

static void step_utf8(struct notice *n, uint8_t c)
{
	if (c >= 0xc2 && c < 0xf5)
		n->more_ = c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
	else if ((c & 0xc0) == 0x80 && n->more_ > 0)
		n->more_--;
	else
		n->more_ = 0;
}

static void put_title(struct notice *n)
{
	char line[256];
	int len;

	if (!n->text_[0] || n->state_ != GROUND || n->more_)
		return;
	/* The title before is put aside once (XTWINOPS 22), to come back at the end. */
	len = snprintf(line, sizeof(line), "%s\033]0;hutch: %s\007", n->titled_ ? "" : "\033[22;0t",
		n->text_);
	if (fd_write_all(STDOUT_FILENO, line, (size_t)len) == 0)
		n->titled_ = true;
	n->text_[0] = '\0';
}

void notice_init(struct notice *n, bool tty)
{
	*n = (struct notice){.tty = tty};
}

void notice_output(struct notice *n, const void *p, size_t len)
{
	const uint8_t *c = p;

	if (!n->tty)
		return;
	for (size_t i = 0; i < len; i++) {
		n->state_ = step(n->state_, c[i]);
		step_utf8(n, c[i]);
	}
	put_title(n);
}

void notice_put(struct notice *n, const char *text)
{
	const char *term = getenv("TERM");

	n->n_++;
	if (!n->tty) {
		_free_ char *line = xasprintf("hutch: %s\n", text);

		cli_print(stderr, line);
		return;
	}
	if (term && strcmp(term, "dumb") == 0)
		return;
	log_safe(n->text_, sizeof(n->text_), text, strlen(text));
	put_title(n);
}

void notice_end(struct notice *n)
{
	if (n->titled_ && fd_write_all(STDOUT_FILENO, "\033[23;0t", 7) < 0)
		return;
	if (n->tty && n->n_)
		fprintf(stderr, "hutch: %u question%s came up: hutch policy pending\n", n->n_,
			n->n_ == 1 ? "" : "s");
}

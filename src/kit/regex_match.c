/* SPDX-License-Identifier: Apache-2.0 */
/* Matching: all threads of the program advance over the text together. */
#include "kit/regex_int.h"

#include <string.h>

#include "base/mem.h"

/* The next code point; @p moves on. */
uint32_t regex_rune(const char **p)
{
	const unsigned char *s = (const unsigned char *)*p;
	unsigned more = s[0] >= 0xf0 ? 3 : (s[0] >= 0xe0 ? 2 : (s[0] >= 0xc2 ? 1 : 0));
	uint32_t v;

	(*p)++;
	if (s[0] < 0x80)
		return s[0];
	if (!more || s[0] > 0xf4)
		return 0xfffd;
	v = s[0] & (0x3fu >> more);
	for (unsigned i = 1; i <= more; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0xfffd;
		v = v << 6 | (s[i] & 0x3f);
	}
	*p += more;
	return v;
}

/* Threads waiting for a character, in no order: there is nothing to prefer. */
struct threads {
	int at[CODE_MAX];
	int n;
	bool on[CODE_MAX];
};

struct where {
	uint32_t before, after; /* 0: the end of the text */
};

static bool is_word(uint32_t c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	       c == '_';
}

static bool holds(enum assert_kind a, struct where w)
{
	switch (a) {
	case A_TEXT_BEGIN:
		return !w.before;
	case A_TEXT_END:
		return !w.after;
	case A_LINE_BEGIN:
		return !w.before || w.before == '\n';
	case A_LINE_END:
		return !w.after || w.after == '\n';
	case A_WORD:
		return is_word(w.before) != is_word(w.after);
	case A_NOT_WORD:
		return is_word(w.before) == is_word(w.after);
	}
	return false;
}

/* Follow @pc to all instructions that wait for a character. Each is entered once per position, and
 * leaves at most one entry of its own on the stack. */
static void add_thread(
	const struct regex *re, struct threads *t, int *stack, int pc, struct where w)
{
	int n = 0;

	stack[n++] = pc;
	while (n > 0) {
		const struct inst *i;

		pc = stack[--n];
		if (t->on[pc])
			continue;
		t->on[pc] = true;
		i = &re->code[pc];
		if (i->op == OP_JUMP) {
			stack[n++] = i->x;
		} else if (i->op == OP_SPLIT) {
			stack[n++] = i->y;
			stack[n++] = i->x;
		} else if (i->op == OP_ASSERT) {
			if (holds(i->assert, w))
				stack[n++] = pc + 1;
		} else {
			t->at[t->n++] = pc;
		}
	}
}

static bool in_class(const struct regex *re, const struct inst *i, uint32_t c)
{
	for (size_t k = 0; k < i->n; k++)
		if (c >= re->ranges[i->range + k].lo && c <= re->ranges[i->range + k].hi)
			return true;
	return false;
}

bool regex_matches(const struct regex *re, const char *text)
{
	_free_ struct threads *t = xcalloc(2, sizeof(*t));
	_free_ int *stack = xcalloc((size_t)re->n_code * 2 + 2, sizeof(*stack));
	struct threads *now = &t[0], *next = &t[1];
	uint32_t c = 0;

	for (bool first = true;; first = false) {
		const char *ahead = text;
		struct where w = {c, *text ? regex_rune(&ahead) : 0};
		struct threads *swap;

		if (first)
			add_thread(re, now, stack, 0, w);
		if (!*text)
			break;
		c = regex_rune(&text);
		ahead = text;
		w = (struct where){c, *text ? regex_rune(&ahead) : 0};
		next->n = 0;
		memset(next->on, 0, (size_t)re->n_code);
		for (int k = 0; k < now->n; k++) {
			const struct inst *i = &re->code[now->at[k]];

			if (i->op == OP_CLASS && in_class(re, i, c))
				add_thread(re, next, stack, now->at[k] + 1, w);
		}
		swap = now;
		now = next;
		next = swap;
	}
	for (int k = 0; k < now->n; k++)
		if (re->code[now->at[k]].op == OP_MATCH)
			return true;
	return false;
}

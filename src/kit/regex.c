/* SPDX-License-Identifier: Apache-2.0 */
/* Patterns of kit arguments.
 *
 * The pattern comes with a kit, so from a stranger, and so may the value: matching must be bounded
 * whatever they are. A backtracking library is not, RE2 itself is C++, and what a pattern has to do
 * here is little: say yes or no to a whole value. So this is Thompson's construction: the pattern
 * is parsed into a tree, the tree becomes a program, and all threads of the program advance over
 * the text together, each instruction at most once per character. Counted repetition is copied out,
 * under a ceiling on the size of the program.
 *
 * Syntax: RE2's, without \p{…} and \C (refused by name): literals, ".", classes with ranges,
 * [:posix:] and \d \s \w inside, groups, named groups, flags (?imsU), alternation, * + ? {n,m} and
 * their lazy forms (which say nothing about whether a value matches), ^ $ \A \z \b \B, \Q…\E and
 * escapes. Case is folded for ASCII. Characters are code points; a byte that is not UTF-8 counts as
 * U+FFFD. */
#include "kit/regex_int.h"

#include <string.h>

#include "base/mem.h"

#define NODES_MAX  4096
#define DEPTH_MAX  60
#define EMITS_MAX  65536 /* nested repetition of nothing makes no code, but takes time */
#define REPEAT_MAX 1000  /* as RE2 */
#define RUNE_MAX   0x10ffff

/* The tree. */
enum node_kind { N_EMPTY, N_CLASS, N_ASSERT, N_CAT, N_ALT, N_REPEAT };

struct node {
	enum node_kind kind;
	enum assert_kind assert;
	int left, right; /* CAT, ALT; REPEAT: left */
	int min, max;    /* REPEAT; max -1: no limit */
	size_t range, n; /* CLASS: into ranges */
};

struct flags {
	bool fold, multi, dot_nl;
};

struct parser {
	struct regex *re;
	const char *p, *why;
	struct node nodes[NODES_MAX];
	int n_nodes;
	unsigned depth, emits;
	bool quoted; /* between \Q and \E */
};

static int fail(struct parser *s, const char *why)
{
	if (!s->why)
		s->why = why;
	return -1;
}

/* ---- classes ---- */

static void add_range(struct parser *s, uint32_t lo, uint32_t hi)
{
	if (s->re->n_ranges == RANGES_MAX)
		fail(s, "too large");
	else
		s->re->ranges[s->re->n_ranges++] = (struct range){lo, hi};
}

static void add_folded(struct parser *s, uint32_t lo, uint32_t hi, struct flags f)
{
	static const struct range cases[] = {{'a', 'z'}, {'A', 'Z'}};

	add_range(s, lo, hi);
	for (unsigned i = 0; f.fold && i < 2; i++) {
		uint32_t a = MAX(lo, cases[i].lo), b = MIN(hi, cases[i].hi);

		if (a <= b)
			add_range(s, a ^ 0x20, b ^ 0x20);
	}
}

static int by_lo(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return x->lo < y->lo ? -1 : x->lo > y->lo;
}

/* Replace the ranges from @from on by everything else. */
static void negate(struct parser *s, size_t from)
{
	struct range *r = s->re->ranges + from;
	size_t n = s->re->n_ranges - from;
	_free_ struct range *copy = xcalloc(n + 1, sizeof(*copy));
	uint32_t next = 0;

	if (n)
		memcpy(copy, r, n * sizeof(*r));
	qsort(copy, n, sizeof(*copy), by_lo);
	s->re->n_ranges = from;
	for (size_t i = 0; i < n; i++) {
		if (copy[i].lo > next)
			add_range(s, next, copy[i].lo - 1);
		next = MAX(next, copy[i].hi + 1);
	}
	if (next <= RUNE_MAX)
		add_range(s, next, RUNE_MAX);
}

/* \d and the like. False when @c names no class. */
static bool add_perl(struct parser *s, char c)
{
	size_t from = s->re->n_ranges;

	switch (c | 0x20) {
	case 'd':
		add_range(s, '0', '9');
		break;
	case 's':
		add_range(s, '\t', '\n');
		add_range(s, '\f', '\r');
		add_range(s, ' ', ' ');
		break;
	case 'w':
		add_range(s, '0', '9');
		add_range(s, 'A', 'Z');
		add_range(s, '_', '_');
		add_range(s, 'a', 'z');
		break;
	default:
		return false;
	}
	if (c < 'a')
		negate(s, from);
	return true;
}

/* [:alpha:] inside of a class; s->p is behind "[:". */
static bool add_posix(struct parser *s)
{
	static const struct {
		const char *name;
		struct range r[4];
	} t[] = {
		{"alnum:]", {{'0', '9'}, {'A', 'Z'}, {'a', 'z'}}},
		{"alpha:]", {{'A', 'Z'}, {'a', 'z'}}},
		{"ascii:]", {{1, 0x7f}}},
		{"blank:]", {{'\t', '\t'}, {' ', ' '}}},
		{"cntrl:]", {{1, 0x1f}, {0x7f, 0x7f}}},
		{"digit:]", {{'0', '9'}}},
		{"graph:]", {{'!', '~'}}},
		{"lower:]", {{'a', 'z'}}},
		{"print:]", {{' ', '~'}}},
		{"punct:]", {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}}},
		{"space:]", {{'\t', '\r'}, {' ', ' '}}},
		{"upper:]", {{'A', 'Z'}}},
		{"word:]", {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}},
		{"xdigit:]", {{'0', '9'}, {'A', 'F'}, {'a', 'f'}}},
	};
	bool not = *s->p == '^';
	size_t from = s->re->n_ranges;

	s->p += not ;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		if (strncmp(s->p, t[i].name, strlen(t[i].name)) != 0)
			continue;
		s->p += strlen(t[i].name);
		for (unsigned k = 0; k < 4 && t[i].r[k].hi; k++)
			add_range(s, t[i].r[k].lo, t[i].r[k].hi);
		if (not )
			negate(s, from);
		return true;
	}
	return false;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int hex_escape(struct parser *s, uint32_t *ret)
{
	bool braces = *s->p == '{';
	uint32_t v = 0;
	int n = 0;

	s->p += braces;
	for (; hex_digit(*s->p) >= 0 && n < (braces ? 6 : 2); n++)
		v = v << 4 | (uint32_t)hex_digit(*s->p++);
	if (n < (braces ? 1 : 2) || v > RUNE_MAX || v == 0)
		return fail(s, "has a bad \\x escape");
	if (braces && *s->p++ != '}')
		return fail(s, "has a bad \\x escape");
	*ret = v;
	return 0;
}

/* An escape that is one character; s->p is behind the backslash. */
static int char_escape(struct parser *s, uint32_t *ret)
{
	static const char from[] = "afnrtv", to[] = "\a\f\n\r\t\v";
	char c = *s->p;
	const char *at = c ? strchr(from, c) : NULL;

	if (!c)
		return fail(s, "ends with a backslash");
	if (c == 'x') {
		s->p++;
		return hex_escape(s, ret);
	}
	if (at)
		*ret = (uint32_t)to[at - from];
	else if ((unsigned char)c < 0x80 && !(c >= '0' && c <= '9') &&
		 !((c | 0x20) >= 'a' && (c | 0x20) <= 'z'))
		*ret = (uint32_t)c;
	else if (c >= '1' && c <= '9')
		return fail(s, "has a back-reference, which RE2 does not know");
	else if (c == 'p' || c == 'P')
		return fail(s, "has \\p, which is not supported: write the characters out");
	else
		return fail(s, "has an unknown escape");
	s->p++;
	return 0;
}

static int class_char(struct parser *s, uint32_t *ret)
{
	if (*s->p == '\\') {
		s->p++;
		return char_escape(s, ret);
	}
	*ret = regex_rune(&s->p);
	return 0;
}

static int node_new(struct parser *s, struct node n)
{
	if (s->n_nodes == NODES_MAX)
		return fail(s, "too large");
	s->nodes[s->n_nodes] = n;
	return s->n_nodes++;
}

static int class_node(struct parser *s, size_t from)
{
	return s->why ? -1
		      : node_new(s, (struct node){.kind = N_CLASS,
					    .range = from,
					    .n = s->re->n_ranges - from});
}

/* s->p is behind "[". */
static int parse_class(struct parser *s, struct flags f)
{
	size_t from = s->re->n_ranges;
	bool not = *s->p == '^', first = true;

	s->p += not ;
	for (; *s->p && (*s->p != ']' || first); first = false) {
		uint32_t lo, hi;

		if (s->p[0] == '[' && s->p[1] == ':') {
			s->p += 2;
			if (!add_posix(s))
				return fail(s, "has an unknown [:class:]");
			continue;
		}
		if (s->p[0] == '\\' && s->p[1] && add_perl(s, s->p[1])) {
			s->p += 2;
			continue;
		}
		if (class_char(s, &lo) < 0)
			return -1;
		hi = lo;
		if (s->p[0] == '-' && s->p[1] && s->p[1] != ']') {
			s->p++;
			if (class_char(s, &hi) < 0)
				return -1;
			if (hi < lo)
				return fail(s, "has a range that runs backwards");
		}
		add_folded(s, lo, hi, f);
	}
	if (*s->p != ']')
		return fail(s, "has a [ without ]");
	s->p++;
	if (not )
		negate(s, from);
	return class_node(s, from);
}

/* ---- the tree ---- */

static int parse_alt(struct parser *s, struct flags *f);

static int assert_node(struct parser *s, enum assert_kind a)
{
	return node_new(s, (struct node){.kind = N_ASSERT, .assert = a});
}

static int literal(struct parser *s, uint32_t c, struct flags f)
{
	size_t from = s->re->n_ranges;

	add_folded(s, c, c, f);
	return class_node(s, from);
}

/* (?flags), (?flags:…), (?P<name>…); s->p is behind "(?". A group without content changes the flags
 * of what follows it: *ret_rest. */
static int group_head(struct parser *s, struct flags *f, bool *ret_rest)
{
	bool on = true;

	*ret_rest = false;
	if (*s->p == '=' || *s->p == '!' || (*s->p == '<' && (s->p[1] == '=' || s->p[1] == '!')))
		return fail(s, "looks ahead or behind, which RE2 does not know");
	if (strncmp(s->p, "P<", 2) == 0 || *s->p == '<') {
		const char *end = strchr(s->p, '>');

		if (!end || end == strchr(s->p, '<') + 1)
			return fail(s, "has a bad group name");
		s->p = end + 1;
		return 0;
	}
	for (;; s->p++) {
		switch (*s->p) {
		case 'i':
			f->fold = on;
			break;
		case 'm':
			f->multi = on;
			break;
		case 's':
			f->dot_nl = on;
			break;
		case 'U':
			break;
		case '-':
			on = false;
			break;
		case ')':
			*ret_rest = true;
			s->p++;
			return 0;
		case ':':
			s->p++;
			return 0;
		default:
			return fail(s, "has an unknown group (?");
		}
	}
}

/* s->p is behind "(". */
static int parse_group(struct parser *s, struct flags *outer)
{
	struct flags f = *outer;
	bool rest = false;
	int n;

	if (++s->depth > DEPTH_MAX)
		return fail(s, "nested too deeply");
	if (*s->p == '?') {
		s->p++;
		if (group_head(s, &f, &rest) < 0)
			return -1;
	}
	if (rest) {
		*outer = f;
		s->depth--;
		return node_new(s, (struct node){.kind = N_EMPTY});
	}
	n = parse_alt(s, &f);
	if (n < 0)
		return -1;
	if (*s->p != ')')
		return fail(s, "has a ( without )");
	s->p++;
	s->depth--;
	return n;
}

/* s->p is behind the backslash. */
static int parse_escape(struct parser *s, struct flags f)
{
	size_t from = s->re->n_ranges;
	uint32_t c;

	switch (*s->p) {
	case 'A':
		s->p++;
		return assert_node(s, A_TEXT_BEGIN);
	case 'z':
		s->p++;
		return assert_node(s, A_TEXT_END);
	case 'b':
		s->p++;
		return assert_node(s, A_WORD);
	case 'B':
		s->p++;
		return assert_node(s, A_NOT_WORD);
	case 'Q':
		s->p++;
		s->quoted = true;
		return node_new(s, (struct node){.kind = N_EMPTY});
	default:
		break;
	}
	if (*s->p && add_perl(s, *s->p)) {
		s->p++;
		return class_node(s, from);
	}
	if (char_escape(s, &c) < 0)
		return -1;
	return literal(s, c, f);
}

static int parse_atom(struct parser *s, struct flags *f)
{
	size_t from = s->re->n_ranges;

	if (s->quoted) {
		if (s->p[0] == '\\' && s->p[1] == 'E') {
			s->p += 2;
			s->quoted = false;
			return node_new(s, (struct node){.kind = N_EMPTY});
		}
		return literal(s, regex_rune(&s->p), *f);
	}
	switch (*s->p) {
	case '(':
		s->p++;
		return parse_group(s, f);
	case '[':
		s->p++;
		return parse_class(s, *f);
	case '.':
		s->p++;
		add_range(s, 0, f->dot_nl ? RUNE_MAX : '\n' - 1);
		if (!f->dot_nl)
			add_range(s, '\n' + 1, RUNE_MAX);
		return class_node(s, from);
	case '^':
		s->p++;
		return assert_node(s, f->multi ? A_LINE_BEGIN : A_TEXT_BEGIN);
	case '$':
		s->p++;
		return assert_node(s, f->multi ? A_LINE_END : A_TEXT_END);
	case '\\':
		s->p++;
		return parse_escape(s, *f);
	case '*':
	case '+':
	case '?':
		return fail(s, "repeats nothing");
	default:
		return literal(s, regex_rune(&s->p), *f);
	}
}

/* {n}, {n,}, {n,m}. Anything else is a literal brace, as in RE2. */
static bool parse_counts(const char **at, int *min, int *max)
{
	const char *p = *at + 1;
	int v[2] = {0, -1};

	for (int i = 0; i < 2; i++) {
		const char *begin = p;

		for (v[i] = 0; *p >= '0' && *p <= '9'; p++)
			v[i] = MIN(10 * v[i] + (*p - '0'), REPEAT_MAX + 1);
		if (p == begin) {
			if (i == 0)
				return false;
			v[i] = -1;
		}
		if (i == 0 && *p == '}') {
			v[1] = v[0];
			break;
		}
		if (i == 0 && *p++ != ',')
			return false;
	}
	if (*p != '}')
		return false;
	*at = p + 1;
	*min = v[0];
	*max = v[1];
	return true;
}

static int parse_repeat(struct parser *s, struct flags *f)
{
	int n = parse_atom(s, f), min = 0, max = -1;
	bool repeated = false;

	if (s->quoted && s->p[0] == '\\' && s->p[1] == 'E') {
		s->p += 2;
		s->quoted = false; /* what follows may repeat the last character */
	}
	while (n >= 0 && !s->quoted && *s->p) {
		if (*s->p == '*' || *s->p == '+' || *s->p == '?') {
			min = *s->p == '+';
			max = *s->p == '?' ? 1 : -1;
			s->p++;
		} else if (*s->p != '{' || !parse_counts(&s->p, &min, &max)) {
			break;
		}
		if (repeated)
			return fail(s, "repeats a repetition");
		if (min > REPEAT_MAX || max > REPEAT_MAX)
			return fail(s, "repeats more than 1000 times");
		if (max >= 0 && max < min)
			return fail(s, "has a repetition that runs backwards");
		repeated = true;
		s->p += *s->p == '?';
		n = node_new(s, (struct node){.kind = N_REPEAT, .left = n, .min = min, .max = max});
	}
	return n;
}

static int parse_cat(struct parser *s, struct flags *f)
{
	int n = -1;

	while (*s->p && (s->quoted || (*s->p != '|' && *s->p != ')'))) {
		int next = parse_repeat(s, f);

		if (next < 0)
			return -1;
		n = n < 0 ? next
			  : node_new(s, (struct node){.kind = N_CAT, .left = n, .right = next});
		if (n < 0)
			return -1;
	}
	return n < 0 ? node_new(s, (struct node){.kind = N_EMPTY}) : n;
}

static int parse_alt(struct parser *s, struct flags *f)
{
	int n = parse_cat(s, f);

	while (n >= 0 && *s->p == '|') {
		int next;

		s->p++;
		next = parse_cat(s, f);
		if (next < 0)
			return -1;
		n = node_new(s, (struct node){.kind = N_ALT, .left = n, .right = next});
	}
	return n;
}

/* ---- the program ---- */

static int emit_inst(struct parser *s, struct inst i)
{
	if (s->re->n_code == CODE_MAX)
		return fail(s, "too large");
	s->re->code[s->re->n_code] = i;
	return s->re->n_code++;
}

static int emit(struct parser *s, int at);

/* left{min,max}: @min copies, then optional ones or a loop. */
static int emit_repeat(struct parser *s, const struct node *n)
{
	int splits[REPEAT_MAX], n_splits = 0, at;

	for (int i = 0; i < n->min; i++)
		if (emit(s, n->left) < 0)
			return -1;
	if (n->max < 0) {
		at = emit_inst(s, (struct inst){.op = OP_SPLIT, .x = s->re->n_code + 1});
		if (at < 0 || emit(s, n->left) < 0 ||
			emit_inst(s, (struct inst){.op = OP_JUMP, .x = at}) < 0)
			return -1;
		s->re->code[at].y = s->re->n_code;
		return 0;
	}
	for (int i = n->min; i < n->max; i++) {
		at = emit_inst(s, (struct inst){.op = OP_SPLIT, .x = s->re->n_code + 1});
		if (at < 0 || emit(s, n->left) < 0)
			return -1;
		splits[n_splits++] = at;
	}
	while (n_splits > 0)
		s->re->code[splits[--n_splits]].y = s->re->n_code;
	return 0;
}

static int emit_alt(struct parser *s, const struct node *n)
{
	int split = emit_inst(s, (struct inst){.op = OP_SPLIT, .x = s->re->n_code + 1}), jump;

	if (split < 0 || emit(s, n->left) < 0)
		return -1;
	jump = emit_inst(s, (struct inst){.op = OP_JUMP});
	if (jump < 0)
		return -1;
	s->re->code[split].y = s->re->n_code;
	if (emit(s, n->right) < 0)
		return -1;
	s->re->code[jump].x = s->re->n_code;
	return 0;
}

static int emit(struct parser *s, int at)
{
	const struct node *n = &s->nodes[at];

	/* A long pattern is a deep tree to the left. */
	if (++s->emits > EMITS_MAX)
		return fail(s, "too large");
	switch (n->kind) {
	case N_EMPTY:
		return 0;
	case N_CLASS:
		return emit_inst(s, (struct inst){.op = OP_CLASS, .range = n->range, .n = n->n}) < 0
			       ? -1
			       : 0;
	case N_ASSERT:
		return emit_inst(s, (struct inst){.op = OP_ASSERT, .assert = n->assert}) < 0 ? -1
											     : 0;
	case N_CAT:
		return emit(s, n->left) < 0 ? -1 : emit(s, n->right);
	case N_ALT:
		return emit_alt(s, n);
	case N_REPEAT:
		return emit_repeat(s, n);
	}
	return -1;
}

struct regex *regex_new(const char *pattern, const char **ret_why)
{
	_free_ struct parser *s = xcalloc(1, sizeof(*s));
	struct regex *re = xcalloc(1, sizeof(*re));
	struct flags f = {0};
	int root;

	s->re = re;
	s->p = pattern;
	if (strlen(pattern) > REGEX_PATTERN_MAX)
		fail(s, "longer than 1024 bytes");
	root = s->why ? -1 : parse_alt(s, &f);
	if (root >= 0 && *s->p)
		fail(s, "has a ) without (");
	if (!s->why && emit(s, root) == 0)
		emit_inst(s, (struct inst){.op = OP_MATCH});
	if (s->why) {
		*ret_why = s->why;
		free(re);
		return NULL;
	}
	return re;
}

void regex_free(struct regex *re)
{
	free(re);
}

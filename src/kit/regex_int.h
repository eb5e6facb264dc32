/* SPDX-License-Identifier: Apache-2.0 */
/* The program that a pattern becomes: shared by its parser and its matcher. */
#pragma once

#include <stdint.h>

#include "kit/regex.h"

#define CODE_MAX   4096
#define RANGES_MAX 4096

struct range {
	uint32_t lo, hi;
};

/* What an OP_ASSERT wants of its place. */
enum assert_kind { A_TEXT_BEGIN, A_TEXT_END, A_LINE_BEGIN, A_LINE_END, A_WORD, A_NOT_WORD };

enum op { OP_CLASS, OP_ASSERT, OP_SPLIT, OP_JUMP, OP_MATCH };

struct inst {
	enum op op;
	enum assert_kind assert;
	int x, y;
	size_t range, n;
};

struct regex {
	struct inst code[CODE_MAX];
	int n_code;
	struct range ranges[RANGES_MAX];
	size_t n_ranges;
};

/* The next code point of @p, which moves on; a byte that is not UTF-8 counts as U+FFFD. */
uint32_t regex_rune(const char **p);

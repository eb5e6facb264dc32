/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256: published vectors, and the processor's instructions against the plain code. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/sha256.h"
#include "base/sha256_int.h"

static void fill(void *p, size_t n)
{
	for (uint8_t *at = p; n > 0; n--)
		*at++ = (uint8_t)(random() >> 7);
}

/* FIPS 180-4's examples. */
static void test_vectors(void **state)
{
	static const struct {
		const char *text, *hex;
	} t[] = {
		{"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
		{"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
			"248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
		struct sha256 s;
		char hex[SHA256_HEX];

		sha256_init(&s);
		sha256_add(&s, t[i].text, strlen(t[i].text));
		sha256_hex(&s, hex);
		assert_string_equal(hex, t[i].hex);
	}
}

static void test_blocks(void **state)
{
	(void)state;
	if (!sha256_ni_works())
		skip();
	for (int i = 0; i < 20000; i++) {
		uint32_t plain[8], ni[8];
		uint8_t block[65], *at = block + i % 2; /* aligned or not */

		fill(plain, sizeof(plain));
		fill(block, sizeof(block));
		memcpy(ni, plain, sizeof(ni));
		sha256_plain(plain, at);
		sha256_ni(ni, at);
		assert_memory_equal(plain, ni, sizeof(ni));
	}
}

/* The whole, by the plain code alone. */
static void reference(const uint8_t *p, size_t n, char ret[static SHA256_HEX])
{
	struct sha256 s;
	uint8_t end[128] = {0};
	size_t whole = n / 64 * 64, padded = n % 64 < 56 ? 64 : 128;

	sha256_init(&s);
	for (size_t i = 0; i < whole; i += 64)
		sha256_plain(s.h, p + i);
	memcpy(end, p + whole, n - whole);
	end[n - whole] = 0x80;
	for (size_t i = 0; i < 8; i++)
		end[padded - 1 - i] = (uint8_t)((uint64_t)n * 8 >> (8 * i));
	for (size_t i = 0; i < padded; i += 64)
		sha256_plain(s.h, end + i);
	for (size_t i = 0; i < 8; i++)
		snprintf(ret + 8 * i, 9, "%08x", s.h[i]);
}

static void test_lengths(void **state)
{
	static uint8_t data[5000];
	char hex[SHA256_HEX], expected[SHA256_HEX];

	(void)state;
	fill(data, sizeof(data));
	for (size_t n = 0; n < sizeof(data); n += n < 200 ? 1 : (size_t)random() % 97) {
		struct sha256 s;
		size_t done = 0;

		sha256_init(&s);
		while (done < n) { /* in pieces */
			size_t piece = (size_t)random() % 150 + 1;

			piece = MIN(piece, n - done);
			sha256_add(&s, data + done, piece);
			done += piece;
		}
		sha256_hex(&s, hex);
		reference(data, n, expected);
		assert_string_equal(hex, expected);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_blocks),
		cmocka_unit_test(test_lengths),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

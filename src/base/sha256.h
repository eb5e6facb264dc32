/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4), for programs that link no cryptographic library. Not for secrets. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32
#define SHA256_HEX  65 /* lower-case hexadecimal, with NUL */

struct sha256 {
	uint32_t h[8];
	uint64_t len; /* bytes so far */
	uint8_t block[64];
};

void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *p, size_t len);
/* Ends it; init before using it again. */
void sha256_hex(struct sha256 *s, char ret[static SHA256_HEX]);

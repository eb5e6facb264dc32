/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 of one block, by either way. Shared by the sha256*.c files and their test only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

extern const uint32_t sha256_k[64];

void sha256_plain(uint32_t h[static 8], const uint8_t block[static 64]);

/* sha256_ni.c: with the processor's instructions for it, where it has them. */
bool sha256_ni_works(void);
void sha256_ni(uint32_t h[static 8], const uint8_t block[static 64]);

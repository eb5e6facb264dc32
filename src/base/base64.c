/* SPDX-License-Identifier: Apache-2.0 */
/* Base64. */
#include "base/base64.h"

#include "base/mem.h"

const char base64_std[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const char base64_url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

void base64_put(struct buf *b, const uint8_t *p, size_t n, const char *digits)
{
	for (; n > 0; p += MIN(n, (size_t)3), n -= MIN(n, (size_t)3)) {
		uint32_t v = (uint32_t)p[0] << 16 | (n > 1 ? (uint32_t)p[1] << 8 : 0) |
			     (n > 2 ? p[2] : 0u);

		buf_put_u8(b, (uint8_t)digits[v >> 18]);
		buf_put_u8(b, (uint8_t)digits[v >> 12 & 63]);
		buf_put_u8(b, n > 1 ? (uint8_t)digits[v >> 6 & 63] : '=');
		buf_put_u8(b, n > 2 ? (uint8_t)digits[v & 63] : '=');
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Host keys: their fingerprints, and their signatures (RFC 4253, 5656, 8332, 8709). The only file
 * of this process that uses libcrypto. */
#pragma once

#include "ssh/proto.h"

#define SSH_FINGERPRINT 52 /* "SHA256:" and 43 digits, with NUL */

/* As ssh-keygen -l prints it. Returns @to. */
const char *ssh_fingerprint(struct ssh_slice key, char to[SSH_FINGERPRINT]);
/* Whether @signature is one of @key over @data: ssh-ed25519, ecdsa-sha2-nistp256/384/521,
 * rsa-sha2-256 and -512. Anything else is none. */
bool ssh_verify(struct ssh_slice key, struct ssh_slice signature, struct ssh_slice data);
#define SSH_BASE64_MAX 8192u /* digits */
/* Decode @n digits; the length, or 0. @to has room for n / 4 * 3. */
size_t ssh_decode_base64(const char *text, size_t n, uint8_t *to);
/* HMAC-SHA1, for names in known_hosts that are hashed. */
void ssh_hmac_sha1(const void *key, size_t key_len, const char *text, uint8_t out[20]);

/* SPDX-License-Identifier: Apache-2.0 */
/* known_hosts. */
#include "ssh/hosts.h"

#include <fnmatch.h>
#include <string.h>
#include <strings.h>

#include "ssh/verify.h"

/* "|1|SALT|HASH" */
static bool hash_matches(const char *field, size_t n, const char *host)
{
	const char *salt = field + 3, *bar = memchr(salt, '|', n - 3);
	uint8_t salt_bytes[SSH_BASE64_MAX], hash[SSH_BASE64_MAX], own[20];
	size_t salt_len, hash_len;

	if (!bar)
		return false;
	salt_len = ssh_decode_base64(salt, (size_t)(bar - salt), salt_bytes);
	hash_len = ssh_decode_base64(bar + 1, n - (size_t)(bar + 1 - field), hash);
	if (!salt_len || hash_len != sizeof(own))
		return false;
	ssh_hmac_sha1(salt_bytes, salt_len, host, own);
	return memcmp(own, hash, sizeof(own)) == 0;
}

/* Patterns with commas; one with '!' that matches rules the host out. */
static bool list_matches(const char *field, size_t n, const char *host)
{
	_free_ char *list = xstrndup(field, n);
	char *save = NULL;
	bool found = false;

	for (char *p = strtok_r(list, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
		bool not = *p == '!';

		/* Brackets are of the name, not of a pattern. */
		if ((p + not )[0] == '['
				? strcasecmp(p + not, host) == 0
				: fnmatch(p + not, host, FNM_CASEFOLD | FNM_NOESCAPE) == 0) {
			if (not )
				return false;
			found = true;
		}
	}
	return found;
}

static void take_line(const char *line, size_t n, const char *host, struct strv *ret)
{
	const char *end = line + n, *field[3];
	uint8_t key[SSH_BASE64_MAX];
	char text[SSH_FINGERPRINT];
	size_t len[3], key_len;

	for (int i = 0; i < 3; i++) {
		while (line < end && (*line == ' ' || *line == '\t'))
			line++;
		field[i] = line;
		while (line < end && *line != ' ' && *line != '\t' && *line != '\r')
			line++;
		len[i] = (size_t)(line - field[i]);
		if (len[i] == 0)
			return;
	}
	if (*field[0] == '#' || *field[0] == '@')
		return;
	if (len[0] > 3 && memcmp(field[0], "|1|", 3) == 0 ? !hash_matches(field[0], len[0], host)
							  : !list_matches(field[0], len[0], host))
		return;
	key_len = ssh_decode_base64(field[2], len[2], key);
	if (key_len)
		strv_add(ret, ssh_fingerprint((struct ssh_slice){key, key_len}, text));
}

void ssh_hosts_find(const char *text, const char *host, struct strv *ret)
{
	while (*text) {
		size_t n = strcspn(text, "\n");

		take_line(text, n, host, ret);
		text += n + (text[n] == '\n');
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Directories that all sandboxes with one kit share: where they lie on the host. */
#include "kit/host_mounts.h"

#include <limits.h>
#include <string.h>

#include "base/buf.h"
#include "base/sha256.h"

char *host_mount_kit(const struct kit *k)
{
	const char *identity = k->source ? k->source : (k->dir ? k->dir : k->name);
	char hex[SHA256_HEX];
	struct sha256 d;

	sha256_init(&d);
	sha256_add(&d, identity, strlen(identity));
	sha256_hex(&d, hex);
	return xasprintf("%s-%.16s", k->name, hex);
}

/* "home%2Fagent%2F.cache"; also a dot at the beginning: no name is hidden, "." or "..". */
char *host_mount_encode(const char *path)
{
	_buf_ struct buf out = {.max = NAME_MAX};

	for (const char *c = path + 1; *c; c++) {
		if (*c == '/' || *c == '%' || (*c == '.' && c == path + 1))
			buf_printf(&out, "%%%02X", (unsigned)*c);
		else
			buf_put(&out, c, 1);
	}
	return out.failed || !buf_len(&out) ? NULL : xstrdup(buf_cstr(&out));
}

char *host_mount_decode(const char *name)
{
	static const char codes[][4] = {"%2F", "%25", "%2E"};
	_free_ char *again = NULL;
	_buf_ struct buf out = {.max = NAME_MAX + 1};

	buf_puts(&out, "/");
	for (const char *c = name; *c; c++) {
		size_t i = 0;

		while (i < ARRAY_SIZE(codes) && strncmp(c, codes[i], 3) != 0)
			i++;
		buf_put(&out, i == ARRAY_SIZE(codes) ? c : &"/%."[i], 1);
		c += i == ARRAY_SIZE(codes) ? 0 : 2;
	}
	again = out.failed ? NULL : host_mount_encode(buf_cstr(&out));
	return again && strcmp(again, name) == 0 ? xstrdup(buf_cstr(&out)) : NULL;
}

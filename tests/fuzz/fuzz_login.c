/* SPDX-License-Identifier: Apache-2.0 */
/* What config.json and docker-credential programs say: the first byte chooses. A login is a token
 * or base64, never both nor empty; what a program says is "user:password" in base64. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/mem.h"
#include "image/login.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool good)
{
	if (!good)
		abort();
}

static void check(const struct login *l)
{
	must(!l->auth || !l->token);
	must(!l->auth || *l->auth);
	must(!l->token || *l->token);
	must(!l->lacks);
	must(!l->auth || !strpbrk(l->auth, " \t\r\n\"\\:"));
}

/* Whether what @coded says has a colon, and not first. */
static bool has_colon(const char *coded)
{
	unsigned bits = 0, n = 0, at = 0;

	for (; *coded && *coded != '='; coded++) {
		const char *digit = strchr(base64_std, *coded);

		must(digit != NULL);
		bits = bits << 6 | (unsigned)(digit - base64_std);
		n += 6;
		if (n < 8)
			continue;
		n -= 8;
		if ((bits >> n & 0xff) == ':')
			return at > 0;
		at++;
	}
	return false;
}

static void check_answer(const char *text)
{
	struct login l = {0};

	if (login_parse(text, &l) < 0)
		must(!l.auth && !l.token);
	check(&l);
	if (l.auth) {
		must(strlen(l.auth) % 4 == 0 && has_colon(l.auth));
	}
	login_done(&l);
}

static void check_config(const char *text, const char *host)
{
	struct login l = {0};
	_free_ char *helper = login_parse_config(text, host, &l);

	must(!helper || *helper);
	check(&l);
	login_done(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_free_ char *text = size ? xstrndup((const char *)data + 1, size - 1) : NULL;

	if (size && *data == 'a') {
		check_answer(text);
	} else if (size) {
		check_config(text, "docker.io");
		check_config(text, "r.example:5000");
	}
	return 0;
}

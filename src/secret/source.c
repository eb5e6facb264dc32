/* SPDX-License-Identifier: Apache-2.0 */
/* References to values that the store does not hold. */
#include "secret/source.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "secret/store.h"

/* The mark: a NUL comes first, which no header and no command line could carry. The text behind it
 * is "kind:arg\nttl stamp". */
static const char mark[] = "\0hutch-source\n";
#define MARK_LEN (sizeof(mark) - 1)

static const char *const kind_names[] = {"none", "stored", "env", "file", "cmd", "keyring"};
_Static_assert(ARRAY_SIZE(kind_names) == SOURCE_KINDS, "a name for every source_kind");

const char *source_kind_name(enum source_kind k)
{
	return kind_names[k];
}

void source_done(struct source *s)
{
	free(s->arg);
	*s = (struct source){0};
}

static bool is_variable(const char *s)
{
	if (!*s || (*s >= '0' && *s <= '9'))
		return false;
	for (; *s; s++)
		if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
			    (*s >= '0' && *s <= '9') || *s == '_'))
			return false;
	return true;
}

static int check_arg(enum source_kind kind, const char *arg, struct err *err)
{
	if (strlen(arg) > SOURCE_ARG_MAX || strpbrk(arg, "\n\r"))
		return err_set(
			err, ERR_USER, "one line of at most %u bytes is expected", SOURCE_ARG_MAX);
	if (kind == SOURCE_ENV && !is_variable(arg))
		return err_set(err, ERR_USER, "'%.80s' is no name of a variable", arg);
	if (kind == SOURCE_FILE && arg[0] != '/')
		return err_set(err, ERR_USER, "'%.80s' is no absolute path", arg);
	if (kind == SOURCE_CMD && !arg[strspn(arg, " \t")])
		return err_set(err, ERR_USER, "the command is empty");
	if (kind == SOURCE_KEYRING && arg[0])
		return err_set(err, ERR_USER, "nothing follows keyring:");
	return 0;
}

int source_parse(const char *text, unsigned ttl_s, struct source *ret, struct err *err)
{
	const char *colon = strchr(text, ':');

	if (ttl_s < 1 || ttl_s > SOURCE_TTL_MAX)
		return err_set(err, ERR_USER, "a time to live has 1 to %u seconds", SOURCE_TTL_MAX);
	for (enum source_kind k = SOURCE_ENV; colon && k < SOURCE_KINDS; k++) {
		size_t n = strlen(kind_names[k]);

		if ((size_t)(colon - text) != n || memcmp(text, kind_names[k], n) != 0)
			continue;
		if (check_arg(k, colon + 1, err) < 0)
			return -1;
		*ret = (struct source){.kind = k, .arg = xstrdup(colon + 1), .ttl_s = ttl_s};
		return 0;
	}
	return err_set(err, ERR_USER, "'%.80s' does not begin with env:, file: or cmd:", text);
}

int source_save(int store, const char *name, const struct source *s, struct err *err)
{
	struct timespec now = {0};
	_free_ char *text = NULL;
	_secret_ struct secret *file = NULL;

	clock_gettime(CLOCK_REALTIME, &now);
	text = xasprintf("%s:%s\n%u %llu", kind_names[s->kind], s->arg, s->ttl_s,
		(unsigned long long)now.tv_sec * 1000000000ull + (unsigned long long)now.tv_nsec);
	file = secret_alloc(MARK_LEN + strlen(text), err);
	if (!file)
		return -1;
	memcpy(secret_bytes(file), mark, MARK_LEN);
	memcpy(secret_bytes(file) + MARK_LEN, text, strlen(text));
	return secret_store_set(store, name, file, err);
}

static int decode(struct secret *file, struct source *ret, struct err *err)
{
	_free_ char *text = xstrndup(secret_bytes(file) + MARK_LEN, secret_len(file) - MARK_LEN);
	char *line = strchr(text, '\n');
	unsigned long long stamp;
	unsigned ttl_s;
	int used = 0;

	if (strlen(text) != secret_len(file) - MARK_LEN || !line ||
		sscanf(line + 1, "%9u %19llu%n", &ttl_s, &stamp, &used) != 2 || line[1 + used])
		return err_set(err, ERR_ENV, "a damaged reference");
	*line = '\0';
	if (source_parse(text, ttl_s, ret, err) < 0)
		return -1;
	ret->stamp = stamp;
	return 0;
}

int source_find(const int stores[2], const char *name, struct source *ret,
	struct secret **ret_value, struct err *err)
{
	struct source found = {.kind = SOURCE_NONE};
	_secret_ struct secret *value = NULL;
	int i = 0;

	for (; i < 2 && !value; i++)
		if (stores[i] >= 0 && secret_store_get(stores[i], name, &value, err) < 0)
			return -1;
	if (value && secret_len(value) >= MARK_LEN &&
		memcmp(secret_bytes(value), mark, MARK_LEN) == 0) {
		if (decode(value, &found, err) < 0)
			return err_wrap(err, "secret %s", name);
	} else if (value) {
		found.kind = SOURCE_VALUE;
		*ret_value = steal_ptr(&value);
	}
	found.own = i == 1 && found.kind != SOURCE_NONE;
	*ret = found;
	return 0;
}

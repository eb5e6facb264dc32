/* SPDX-License-Identifier: Apache-2.0 */
/* A secret value in locked memory. */
#include "secret/secret.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"

/* Lives at the start of its own mapping, the value right behind it: one page for an ordinary key.
 */
struct secret {
	size_t map_len, len;
	bool locked;
	char value[];
};

struct secret *secret_alloc(size_t len, struct err *err)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t map_len = (sizeof(struct secret) + len + page - 1) / page * page;
	struct secret *s;

	if (len == 0 || len > SECRET_VALUE_MAX) {
		err_set(err, ERR_USER, "a secret value has 1 to %u bytes, this one %zu",
			SECRET_VALUE_MAX, len);
		return NULL;
	}
	s = mmap(NULL, map_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s == MAP_FAILED) {
		err_errno(err, "memory for a secret value");
		return NULL;
	}
	madvise(s, map_len, MADV_DONTDUMP);
	madvise(s, map_len, MADV_WIPEONFORK);
	s->map_len = map_len;
	s->len = len;
	s->locked = mlock(s, map_len) == 0;
	return s;
}

struct secret *secret_new(const void *p, size_t len, struct err *err)
{
	struct secret *s = secret_alloc(len, err);

	if (s)
		memcpy(s->value, p, len);
	return s;
}

bool secret_trim(struct secret *s)
{
	size_t n = s->len;

	if (n > 0 && s->value[n - 1] == '\n')
		n--;
	if (n > 0 && s->value[n - 1] == '\r')
		n--;
	secret_truncate(s, n);
	return n > 0;
}

struct secret *secret_read(int fd, struct err *err)
{
	_secret_ struct secret *s = secret_alloc(SECRET_VALUE_MAX, err);
	size_t n = 0;
	char extra;

	if (!s)
		return NULL;
	while (n < SECRET_VALUE_MAX) {
		ssize_t got = read(fd, secret_bytes(s) + n, SECRET_VALUE_MAX - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0) {
			err_errno(err, "read");
			return NULL;
		}
		if (got == 0)
			break;
		n += (size_t)got;
	}
	if (n == SECRET_VALUE_MAX && read(fd, &extra, 1) > 0) {
		err_set(err, ERR_USER, "longer than %u bytes", SECRET_VALUE_MAX);
		return NULL;
	}
	secret_truncate(s, n);
	if (!secret_trim(s)) {
		err_set(err, ERR_USER, "empty");
		return NULL;
	}
	return steal_ptr(&s);
}

void secret_free(struct secret *s)
{
	if (!s)
		return;
	mem_wipe(s->value, s->map_len - sizeof(*s));
	munmap(s, s->map_len); /* unlocks */
}

char *secret_bytes(struct secret *s)
{
	return s->value;
}

size_t secret_len(const struct secret *s)
{
	return s->len;
}

bool secret_locked(const struct secret *s)
{
	return s->locked;
}

void secret_truncate(struct secret *s, size_t len)
{
	if (len >= s->len)
		return;
	mem_wipe(s->value + len, s->len - len);
	s->len = len;
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
	unsigned char diff = 0;

	if (a->len != b->len)
		return false;
	for (size_t i = 0; i < a->len; i++)
		diff |= (unsigned char)(a->value[i] ^ b->value[i]);
	return diff == 0;
}

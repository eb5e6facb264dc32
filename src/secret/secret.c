/* SPDX-License-Identifier: Apache-2.0 */
/* A secret value in locked memory. */
#include "secret/secret.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

/* Lives at the start of its own mapping, the value right behind it: one page for an ordinary key.
 */
struct secret {
	size_t map_len, len;
	bool locked;
	char value[];
};

static struct secret *map(size_t len)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t map_len = (sizeof(struct secret) + len + page - 1) / page * page;
	struct secret *s;

	s = mmap(NULL, map_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (s == MAP_FAILED)
		return NULL;
	madvise(s, map_len, MADV_DONTDUMP);
	madvise(s, map_len, MADV_WIPEONFORK);
	s->map_len = map_len;
	s->len = len;
	s->locked = mlock(s, map_len) == 0;
	return s;
}

struct secret *secret_alloc(size_t len, struct err *err)
{
	struct secret *s;

	if (len == 0 || len > SECRET_VALUE_MAX) {
		err_set(err, ERR_USER, "a secret value has 1 to %u bytes, this one %zu",
			SECRET_VALUE_MAX, len);
		return NULL;
	}
	s = map(len);
	if (!s)
		err_errno(err, "memory for a secret value");
	return s;
}

struct secret *secret_room(size_t len)
{
	return mem_check(map(len));
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

/* Up to @max bytes; false with @err. *ret_more: there are more. */
static bool read_some(int fd, struct secret *s, size_t max, bool *ret_more, struct err *err)
{
	size_t n = 0;
	ssize_t got = 0;
	char extra;

	while (n < max) {
		got = read(fd, secret_bytes(s) + n, max - n);
		if (got == 0)
			break;
		if (got > 0)
			n += (size_t)got;
		else if (errno != EINTR)
			return err_errno(err, "read") == 0;
	}
	*ret_more = n == max && read(fd, &extra, 1) > 0;
	secret_truncate(s, n);
	return true;
}

struct secret *secret_read(int fd, struct err *err)
{
	_secret_ struct secret *s = NULL;
	size_t max = SECRET_VALUE_MAX;
	struct stat st;
	bool more = false;

	/* Locked memory costs by the page. */
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0)
		max = MIN((size_t)st.st_size, max);
	s = secret_alloc(max, err);
	if (!s || !read_some(fd, s, max, &more, err))
		return NULL;
	if (more && max == SECRET_VALUE_MAX) {
		err_set(err, ERR_USER, "longer than %u bytes", SECRET_VALUE_MAX);
		return NULL;
	}
	if (more) {
		err_set(err, ERR_ENV, "it is being written");
		return NULL;
	}
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

bool secret_is(const struct secret *s, const void *p, size_t len)
{
	const unsigned char *b = p;
	unsigned char diff = 0;

	if (s->len != len)
		return false;
	for (size_t i = 0; i < len; i++)
		diff |= (unsigned char)((unsigned char)s->value[i] ^ b[i]);
	return diff == 0;
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
	return secret_is(a, b->value, b->len);
}

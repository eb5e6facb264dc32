/* SPDX-License-Identifier: Apache-2.0 */
/* Name ⇄ synthetic address: an array in order of arrival, and a hash index over it. */
#include "gate/names.h"

#include <string.h>

#include "base/mem.h"

#define INDEX_MIN 64u

struct names {
	uint64_t k0, k1;
	char **list; /* owned strings; the address of list[i] is NAMES_BASE + 1 + i */
	size_t n, cap;
	size_t n_unreachable; /* how many of them came without a rule */
	uint32_t *index;      /* open addressing; i + 1, 0 is free */
	size_t index_size;    /* power of two, more than twice n */
};

static uint64_t rotl(uint64_t v, int by)
{
	return (v << by) | (v >> (64 - by));
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] = rotl(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] = rotl(v[2], 32);
}

static uint64_t load_le64(const char *p, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++)
		v |= (uint64_t)(uint8_t)p[i] << (8 * i);
	return v;
}

/* SipHash-1-3: keyed, so that nobody can choose names that collide. */
static uint64_t hash(const struct names *n, const char *s)
{
	uint64_t v[4] = {n->k0 ^ 0x736f6d6570736575u, n->k1 ^ 0x646f72616e646f6du,
		n->k0 ^ 0x6c7967656e657261u, n->k1 ^ 0x7465646279746573u};
	size_t len = strlen(s), left = len;
	uint64_t m;

	for (; left >= 8; s += 8, left -= 8) {
		m = load_le64(s, 8);
		v[3] ^= m;
		sip_round(v);
		v[0] ^= m;
	}
	m = load_le64(s, left) | (uint64_t)len << 56;
	v[3] ^= m;
	sip_round(v);
	v[0] ^= m;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The slot that holds @name, or the free one where it belongs. */
static uint32_t *slot(const struct names *n, const char *name)
{
	size_t i = (size_t)hash(n, name) & (n->index_size - 1);

	while (n->index[i] && strcmp(n->list[n->index[i] - 1], name) != 0)
		i = (i + 1) & (n->index_size - 1);
	return &n->index[i];
}

static void grow_index(struct names *n)
{
	free(n->index);
	n->index_size *= 2;
	n->index = xcalloc(n->index_size, sizeof(*n->index));
	for (size_t i = 0; i < n->n; i++)
		*slot(n, n->list[i]) = (uint32_t)i + 1;
}

struct names *names_new(const uint8_t key[static 16])
{
	struct names *n = xcalloc(1, sizeof(*n));

	n->k0 = load_le64((const char *)key, 8);
	n->k1 = load_le64((const char *)key + 8, 8);
	n->index_size = INDEX_MIN;
	n->index = xcalloc(n->index_size, sizeof(*n->index));
	return n;
}

void names_free(struct names *n)
{
	if (!n)
		return;
	for (size_t i = 0; i < n->n; i++)
		free(n->list[i]);
	free(n->list);
	free(n->index);
	free(n);
}

size_t names_count(const struct names *n)
{
	return n->n;
}

uint32_t names_addr(struct names *n, const char *name, bool reachable)
{
	uint32_t *s = slot(n, name);

	if (*s)
		return NAMES_BASE + *s;
	if (n->n >= NAMES_MAX || (!reachable && n->n_unreachable >= NAMES_MAX / 2))
		return 0;
	if (n->n == n->cap) {
		n->cap = MAX(n->cap * 2, (size_t)INDEX_MIN);
		n->list = xrealloc(n->list, n->cap, sizeof(*n->list));
	}
	n->list[n->n++] = xstrdup(name);
	n->n_unreachable += !reachable;
	*s = (uint32_t)n->n;
	if (n->n * 2 >= n->index_size)
		grow_index(n);
	return NAMES_BASE + (uint32_t)n->n;
}

const char *names_name(const struct names *n, uint32_t addr)
{
	uint32_t i = addr - NAMES_BASE;

	return i >= 1 && i <= n->n ? n->list[i - 1] : NULL;
}

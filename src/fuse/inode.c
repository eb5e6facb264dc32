/* SPDX-License-Identifier: Apache-2.0 */
/* Inode table: ids, identities, references, remembered names. */
#include "fuse/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct inode *inode_at(const struct fuse_server *s, uint32_t index)
{
	return &s->chunks[index / NODE_CHUNK][index % NODE_CHUNK];
}

uint64_t inode_id(const struct inode *n)
{
	return (uint64_t)n->gen << 32 | n->index;
}

struct inode *inode_by_id(const struct fuse_server *s, uint64_t id)
{
	uint32_t index = (uint32_t)id;
	struct inode *n;

	if (index == NODE_NONE || index / NODE_CHUNK >= s->n_chunks)
		return NULL;
	n = inode_at(s, index);
	/* An inode that only children or handles need is no longer the guest's to name. */
	if (!n->used || n->gen != (uint32_t)(id >> 32) || !n->nlookup)
		return NULL;
	return n;
}

/* --- slots --- */

static int chunk_add(struct fuse_server *s)
{
	unsigned c = s->n_chunks;

	if (c >= (s->max_inodes + NODE_CHUNK - 1) / NODE_CHUNK)
		return -ENOMEM;
	s->chunks[c] = xcalloc(NODE_CHUNK, sizeof(struct inode));
	s->n_chunks++;
	return 0;
}

/* One that was freed, or the next one: memory is not touched before it is needed. */
static struct inode *slot_take(struct fuse_server *s)
{
	uint32_t index = s->free_inode;
	struct inode *n;

	if (s->n_inodes >= s->max_inodes)
		return NULL;
	if (!index) {
		index = s->n_slots + 1; /* index 0 stays unused */
		if (index / NODE_CHUNK >= s->n_chunks && chunk_add(s) < 0)
			return NULL;
		s->n_slots++;
	}
	n = inode_at(s, index);
	if (index == s->free_inode)
		s->free_inode = n->hash_next;
	s->n_inodes++;
	*n = (struct inode){.index = index, .gen = n->gen, .used = true, .fd = -1};
	return n;
}

static uint32_t *hash_slot(const struct fuse_server *s, unsigned export, dev_t dev, uint64_t ino)
{
	uint64_t h = (ino ^ (uint64_t)dev << 40 ^ (uint64_t)export << 56) * 0x9e3779b97f4a7c15ull;

	return &s->hash[h >> 32 & (HASH_SIZE - 1)];
}

static void unhash(struct fuse_server *s, struct inode *n)
{
	uint32_t *p = hash_slot(s, n->export, n->dev, n->ino);

	if (!n->hashed)
		return;
	while (*p != n->index)
		p = &inode_at(s, *p)->hash_next;
	*p = n->hash_next;
	n->hashed = false;
}

/* --- references --- */

void inode_ref(struct inode *n)
{
	n->refs++;
}

/* Frees @n and then every ancestor that only its children kept. A loop: chains may be long. */
void inode_gc(struct fuse_server *s, struct inode *n)
{
	while (n->index != NODE_ROOT && !n->nlookup && !n->refs) {
		uint32_t parent = n->parent;

		unhash(s, n);
		inode_drop_fd(s, n);
		free(n->name);
		n->name = NULL;
		n->used = false;
		n->gen++;
		n->hash_next = s->free_inode;
		s->free_inode = n->index;
		s->n_inodes--;
		if (parent == NODE_NONE)
			return;
		n = inode_at(s, parent);
		n->refs--;
	}
}

void inode_unref(struct fuse_server *s, struct inode *n)
{
	n->refs--;
	inode_gc(s, n);
}

void inode_forget(struct fuse_server *s, struct inode *n, uint64_t nlookup)
{
	if (n->index == NODE_ROOT)
		return;
	n->nlookup -= MIN(nlookup, n->nlookup);
	inode_gc(s, n);
}

/* --- names --- */

bool inode_named(const struct inode *n, const struct inode *parent, const char *name)
{
	return n->parent == parent->index && n->name && strcmp(n->name, name) == 0;
}

static void name_drop(struct fuse_server *s, struct inode *n)
{
	uint32_t parent = n->parent;

	free(n->name);
	n->name = NULL;
	n->parent = NODE_NONE;
	if (parent != NODE_NONE)
		inode_unref(s, inode_at(s, parent));
}

void inode_detach(struct fuse_server *s, struct inode *n)
{
	if (n->export_root)
		return;
	name_drop(s, n);
	inode_pin(s, n);
}

/* Moves on the host can make remembered names contradict: a/b is remembered, then b/a is seen.
 * Before @n goes below @parent, whatever claims on that chain to be @n's child loses its name. */
static void break_cycle(struct fuse_server *s, const struct inode *n, struct inode *parent)
{
	struct inode *p = parent;

	for (;;) {
		struct inode *up;

		if (p->parent == NODE_NONE)
			return;
		up = inode_at(s, p->parent);
		if (up == n) {
			inode_detach(s, p);
			return;
		}
		p = up;
	}
}

void inode_rename(struct fuse_server *s, struct inode *n, struct inode *parent, const char *name)
{
	if (n->export_root || n == parent || inode_named(n, parent, name))
		return;
	if (n->parent != parent->index) {
		inode_ref(n); /* the child that loses its name may be all that keeps it */
		if (n->type == S_IFDIR && n->refs > 1)
			break_cycle(s, n, parent);
		inode_ref(parent); /* before the old one goes: it may be above @parent */
		name_drop(s, n);
		n->parent = parent->index;
		n->refs--; /* the caller adds a reference, or frees it */
	}
	free(n->name);
	n->name = xstrdup(name);
	inode_unpin(s, n);
}

/* --- identity --- */

bool inode_same(const struct inode *n, const struct statx *st)
{
	if (n->dev != host_dev(st) || n->ino != st->stx_ino || n->type != (st->stx_mode & S_IFMT))
		return false;
	/* Numbers of deleted files are reused; the birth time tells the files apart. */
	return !n->has_btime || !(st->stx_mask & STATX_BTIME) ||
	       (n->btime_sec == st->stx_btime.tv_sec && n->btime_nsec == st->stx_btime.tv_nsec);
}

static struct inode *find_number(
	const struct fuse_server *s, unsigned export, dev_t dev, uint64_t ino)
{
	uint32_t i = *hash_slot(s, export, dev, ino);

	while (i) {
		struct inode *n = inode_at(s, i);

		if (n->export == export && n->dev == dev && n->ino == ino)
			return n;
		i = n->hash_next;
	}
	return NULL;
}

struct inode *inode_find(const struct fuse_server *s, unsigned export, const struct statx *st)
{
	struct inode *n = find_number(s, export, host_dev(st), st->stx_ino);

	return n && inode_same(n, st) ? n : NULL;
}

static struct inode *inode_make(struct fuse_server *s, unsigned export, const struct statx *st)
{
	struct inode *n = find_number(s, export, host_dev(st), st->stx_ino);
	uint32_t *slot;

	if (n) {
		/* Another file has got the number; the old one is gone. Its id stays valid and
		 * answers ESTALE, because its name no longer verifies. */
		unhash(s, n);
		inode_detach(s, n);
		inode_gc(s, n);
	}
	n = slot_take(s);
	if (!n)
		return NULL;
	n->export = (uint16_t)export;
	n->dev = host_dev(st);
	n->ino = st->stx_ino;
	n->type = st->stx_mode & S_IFMT;
	n->has_btime = st->stx_mask & STATX_BTIME;
	n->btime_sec = st->stx_btime.tv_sec;
	n->btime_nsec = st->stx_btime.tv_nsec;
	slot = hash_slot(s, export, n->dev, n->ino);
	n->hash_next = *slot;
	*slot = n->index;
	n->hashed = true;
	return n;
}

int inode_get(struct fuse_server *s, unsigned export, struct inode *parent, const char *name,
	const struct statx *st, struct inode **ret)
{
	struct inode *n = inode_find(s, export, st);

	if (!n)
		n = inode_make(s, export, st);
	if (!n)
		return -ENOMEM;
	if (name)
		inode_rename(s, n, parent, name);
	*ret = n;
	return 0;
}

int inode_get_export(struct fuse_server *s, unsigned export, struct statx *st, struct inode **ret)
{
	int r = host_stat(s->exports[export].dirfd, "", st);

	if (r < 0)
		return r;
	r = inode_get(s, export, NULL, NULL, st, ret);
	if (r < 0)
		return r;
	if (!(*ret)->export_root) {
		/* Known as a directory inside itself (bind mount)? That name is void. */
		inode_detach(s, *ret);
		inode_drop_fd(s, *ret);
		(*ret)->export_root = true;
	}
	return 0;
}

uint64_t inode_number(struct fuse_server *s, dev_t dev, uint64_t ino)
{
	unsigned i = 0;

	while (i < s->n_devs && s->devs[i] != dev)
		i++;
	if (i == s->n_devs && i < DEVS_MAX)
		s->devs[s->n_devs++] = dev;
	/* The guest sees one file system. The first device keeps its numbers. */
	return ino ^ (uint64_t)i << 56;
}

/* --- the table --- */

static void root_make(struct fuse_server *s)
{
	struct inode *n = slot_take(s);

	n->gen = 0; /* FUSE_ROOT_ID */
	n->type = S_IFDIR;
	n->nlookup = 1;
	n->export = FUSE_EXPORTS_MAX;
}

int inodes_init(struct fuse_server *s)
{
	s->hash = calloc(HASH_SIZE, sizeof(*s->hash));
	s->chunks = calloc(FUSE_INODES_MAX / NODE_CHUNK + 1, sizeof(*s->chunks));
	if (!s->hash || !s->chunks)
		return -ENOMEM;
	root_make(s);
	return 0;
}

void inodes_reset(struct fuse_server *s)
{
	/* Children keep parents: without lookups and names nothing keeps anything. */
	for (uint32_t i = NODE_ROOT + 1; i <= s->n_slots; i++) {
		struct inode *n = inode_at(s, i);

		if (!n->used)
			continue;
		n->nlookup = 0;
		name_drop(s, n);
		inode_gc(s, n);
	}
}

void inodes_done(struct fuse_server *s)
{
	if (s->chunks && s->hash)
		inodes_reset(s);
	for (unsigned i = 0; i < s->n_chunks; i++)
		free(s->chunks[i]);
	free(s->chunks);
	free(s->hash);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory: the only place that turns a guest address into a pointer. */
#include "virtio/gmem.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether [a, a+len) and [b, b+blen) share a byte. Neither wraps (checked on entry). */
static bool overlap(uint64_t a, uint64_t len, uint64_t b, uint64_t blen)
{
	return a < b + blen && b < a + len;
}

static int check_new(
	const struct gmem *m, uint64_t gpa, uint64_t len, uint64_t uva, struct err *err)
{
	if (m->n == GMEM_REGIONS_MAX)
		return err_set(err, ERR_PEER, "more than %d memory regions", GMEM_REGIONS_MAX);
	if (len == 0 || len > SIZE_MAX / 2 || gpa > UINT64_MAX - len || uva > UINT64_MAX - len)
		return err_set(err, ERR_PEER, "memory region wraps or is empty");
	for (unsigned i = 0; i < m->n; i++)
		if (overlap(gpa, len, m->regions[i].gpa, m->regions[i].len))
			return err_set(err, ERR_PEER, "memory regions overlap");
	return 0;
}

int gmem_add_fd(struct gmem *m, uint64_t gpa, uint64_t len, uint64_t uva, int fd, uint64_t offset,
	struct err *err)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), start = offset & ~(page - 1);
	struct gmem_region r = {.gpa = gpa, .len = len, .uva = uva, .offset = offset};
	struct stat st;

	if (check_new(m, gpa, len, uva, err) < 0)
		return -1;
	if (fstat(fd, &st) < 0)
		return err_errno(err, "guest memory");
	/* Pages beyond the end of the file would raise SIGBUS. */
	if (offset > INT64_MAX - len || st.st_size < 0 || (uint64_t)st.st_size < offset + len)
		return err_set(err, ERR_PEER, "memory region exceeds its file");
	r.map_len = (size_t)(len + (offset - start));
	r.map = mmap(NULL, r.map_len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)start);
	if (r.map == MAP_FAILED)
		return err_errno(err, "map guest memory");
	/* A core dump of ours must not hold the guest. */
	madvise(r.map, r.map_len, MADV_DONTDUMP);
	r.host = (uint8_t *)r.map + (offset - start);
	r.dev = st.st_dev;
	r.ino = st.st_ino;
	m->regions[m->n++] = r;
	return 0;
}

int gmem_add_host(struct gmem *m, uint64_t gpa, uint64_t len, void *host, struct err *err)
{
	if (check_new(m, gpa, len, 0, err) < 0)
		return -1;
	m->regions[m->n++] = (struct gmem_region){.gpa = gpa, .len = len, .host = host};
	return 0;
}

bool gmem_adopt(struct gmem *m, struct gmem *from, uint64_t gpa, uint64_t len, uint64_t uva, int fd,
	uint64_t offset)
{
	struct stat st;

	if (check_new(m, gpa, len, uva, NULL) < 0 || fstat(fd, &st) < 0)
		return false;
	for (unsigned i = 0; i < from->n; i++) {
		struct gmem_region *r = &from->regions[i];

		if (!r->map || r->gpa != gpa || r->len != len || r->uva != uva ||
			r->offset != offset || r->dev != st.st_dev || r->ino != st.st_ino)
			continue;
		m->regions[m->n++] = *r;
		*r = from->regions[--from->n];
		return true;
	}
	return false;
}

void gmem_clear(struct gmem *m)
{
	for (unsigned i = 0; i < m->n; i++)
		if (m->regions[i].map)
			munmap(m->regions[i].map, m->regions[i].map_len);
	*m = (struct gmem){0};
}

void *gmem_ptr(const struct gmem *m, uint64_t gpa, uint64_t len)
{
	if (len == 0)
		return NULL;
	for (unsigned i = 0; i < m->n; i++) {
		const struct gmem_region *r = &m->regions[i];

		if (gpa >= r->gpa && gpa - r->gpa < r->len && len <= r->len - (gpa - r->gpa))
			return r->host + (gpa - r->gpa);
	}
	return NULL;
}

void *gmem_ptr_uva(const struct gmem *m, uint64_t uva, uint64_t len)
{
	if (len == 0)
		return NULL;
	for (unsigned i = 0; i < m->n; i++) {
		const struct gmem_region *r = &m->regions[i];

		if (r->uva && uva >= r->uva && uva - r->uva < r->len &&
			len <= r->len - (uva - r->uva))
			return r->host + (uva - r->uva);
	}
	return NULL;
}

bool gmem_discard_ptr(const struct gmem *m, void *p, size_t len)
{
	uintptr_t at = (uintptr_t)p, page = (uintptr_t)sysconf(_SC_PAGESIZE);
	bool inside = false;

	for (unsigned i = 0; i < m->n && !inside; i++) {
		uintptr_t start = (uintptr_t)m->regions[i].host;

		inside = at >= start && at - start < m->regions[i].len &&
			 len <= m->regions[i].len - (at - start);
	}
	if (!inside || len == 0 || at % page || len % page)
		return false;
	/* A shared mapping keeps its pages in the file, where only a hole frees them; a private one
	 * refuses that and has pages of its own. */
	return madvise(p, len, MADV_REMOVE) == 0 || madvise(p, len, MADV_DONTNEED) == 0;
}

bool gmem_discard(const struct gmem *m, uint64_t gpa, uint64_t len)
{
	void *p = gmem_ptr(m, gpa, len);

	return p && gmem_discard_ptr(m, p, (size_t)len);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* A kernel of 30 MiB is most of what happens before a virtual CPU's first run: its pages are cleared, then
 * filled. Both are memory's own speed, which one processor does not use up; and the set-up of the machine,
 * which waits for the host's kernel again and again, goes on meanwhile.
 *
 * Read, although mapping the files copy-on-write would cost nothing here: file pages are of 4 KiB, and the
 * guest then faults on each of ten thousand, while what is read lies in the memory's own 2 MiB pages.
 * Pieces end where such a page ends, and those of one page belong to one thread: two that touch it first
 * at once would both clear one. */
#include "vmm/place.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"

#define HUGE        (2u << 20)
#define THREADS_MAX 4u /* more add nothing: the memory is busy */

struct piece {
	struct place_part p;
	bool follows; /* in the page of the piece before it, and done with that */
};

struct placer {
	struct piece *pieces; /* owned */
	size_t n;
	pthread_t thread[THREADS_MAX];
	unsigned n_threads;
	/* Shared by the threads. */
	_Atomic size_t next;
	atomic_bool failed; /* whoever sets it writes @err, which is read when all have ended */
	struct err err;
};

static int read_all(const struct place_part *p, uint64_t off, uint64_t len, struct err *err)
{
	uint8_t *to = p->to + (off - p->off);

	/* Our own touch takes the page with a lock on this mapping alone (Linux 6.4); the read's would lock
	 * the address space while the page is cleared, and who maps anything meanwhile waits. */
	*(volatile uint8_t *)to = 0;
	while (len) {
		ssize_t n = pread(p->fd, to, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, "read kernel");
		if (n == 0)
			return err_set(err, ERR_ENV, "kernel: the file is cut short");
		off += (uint64_t)n;
		to += n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* Holes of the file, a fifth of a stock kernel, are left out: this memory is new and zero. */
static int place_piece(const struct place_part *p, struct err *err)
{
	uint64_t off = p->off, end = off + p->len;

	while (off < end) {
		off_t data = lseek(p->fd, (off_t)off, SEEK_DATA), hole = -1;

		if (data < 0 && errno == ENXIO)
			break;
		if (data >= 0)
			hole = lseek(p->fd, data, SEEK_HOLE);
		if (data < 0 || hole <= data) /* no such thing here */
			data = (off_t)off, hole = (off_t)end;
		if ((uint64_t)data >= end)
			break;
		if (read_all(p, (uint64_t)data, MIN((uint64_t)hole, end) - (uint64_t)data, err) < 0)
			return -1;
		off = (uint64_t)hole;
	}
	return 0;
}

/* Piece @i and those that follow it. */
static int place_page(const struct placer *p, size_t i, struct err *err)
{
	do
		if (place_piece(&p->pieces[i].p, err) < 0)
			return -1;
	while (++i < p->n && p->pieces[i].follows);
	return 0;
}

/* Pieces until there are no more. */
static void work(struct placer *p)
{
	size_t i;
	struct err err;

	while ((i = atomic_fetch_add(&p->next, 1)) < p->n && !atomic_load(&p->failed))
		if (!p->pieces[i].follows && place_page(p, i, &err) < 0 &&
			!atomic_exchange(&p->failed, true))
			p->err = err;
}

static void *run(void *arg)
{
	work(arg);
	return NULL;
}

static uintptr_t page_of(const uint8_t *to)
{
	return (uintptr_t)to / HUGE;
}

static void cut(struct placer *p, const struct place_part *parts, unsigned n)
{
	size_t room = 0;

	for (unsigned i = 0; i < n; i++)
		room += parts[i].len / HUGE + 2;
	p->pieces = xcalloc(room, sizeof(*p->pieces));
	for (unsigned i = 0; i < n; i++) {
		struct place_part rest = parts[i];

		while (rest.len) {
			uint64_t len = MIN(rest.len, HUGE - (uintptr_t)rest.to % HUGE);
			struct piece *to = &p->pieces[p->n];

			*to = (struct piece){.p = rest,
				.follows = p->n && page_of(to[-1].p.to) == page_of(rest.to)};
			to->p.len = len;
			p->n++;
			rest.off += len;
			rest.to += len;
			rest.len -= len;
		}
	}
}

struct placer *place_begin(const struct place_part *parts, unsigned n)
{
	struct placer *p = xcalloc(1, sizeof(*p));
	cpu_set_t cpus;
	unsigned wanted = 1;

	cut(p, parts, n);
	if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
		wanted = MIN((unsigned)CPU_COUNT(&cpus), THREADS_MAX);
	for (; p->n_threads < wanted; p->n_threads++)
		if (pthread_create(&p->thread[p->n_threads], NULL, run, p) != 0)
			break; /* place_finish() does the work then */
	return p;
}

int place_finish(struct placer *p, struct err *err)
{
	int result = 0;

	if (!p)
		return 0;
	work(p);
	for (unsigned i = 0; i < p->n_threads; i++)
		pthread_join(p->thread[i], NULL);
	if (atomic_load(&p->failed)) {
		if (err)
			*err = p->err;
		result = -1;
	}
	free(p->pieces);
	free(p);
	return result;
}

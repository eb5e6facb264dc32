/* SPDX-License-Identifier: Apache-2.0 */
/* A guest whose memory is used up must notice it.
 *
 * The kernel's out-of-memory killer runs for an allocation that may wait for file systems
 * (__GFP_FS). One that may not, as the reading of a squashfs block makes (GFP_NOIO), tries again
 * for ever and leaves the killing to others. With one busy program there are no others: it faults
 * on a page of its own text, which was evicted for its data, and reads it with such an allocation.
 * Its sandbox then stands still, for minutes or hours, until anything else happens to want memory.
 *
 * We are that anything else. PID 1 lives in the initramfs, which is never evicted, so it runs even
 * then. When the kernel reports that tasks have waited for memory half of a second (PSI), it
 * allocates a little and gives it back. Whether something is killed for it stays the kernel's
 * decision: where there is anything to reclaim, nothing is. */
#include "guest/init.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"

/* Linux, Documentation/accounting/psi.rst: microseconds of stall in a window of microseconds.
 * Watched by the kernel only while tasks stall, so an idle machine stays idle. */
#define TRIGGER "some 500000 1000000"
/* More than the pages that the kernel keeps ready for each processor. */
#define POKE_BYTES (4 << 20)

static void on_pressure(struct loop *l, struct loop_watch *w, uint32_t events)
{
	void *p;

	if (events & EPOLLERR) {
		loop_del(l, w);
		return;
	}
	p = mmap(NULL, POKE_BYTES, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (p != MAP_FAILED)
		munmap(p, POKE_BYTES);
}

void pressure_watch(struct loop *l, struct loop_watch *w)
{
	int fd = open("/proc/pressure/memory", O_RDWR | O_NONBLOCK | O_CLOEXEC);

	/* A kernel without PSI: as it was. The trigger includes its final zero. */
	if (fd < 0)
		return;
	if (write(fd, TRIGGER, sizeof(TRIGGER)) < 0 ||
		loop_add(l, w, fd, EPOLLPRI, on_pressure) < 0)
		close(fd);
}

uint32_t pressure_kills(void)
{
	static const char key[] = "\noom_kill ";
	static uint32_t told;
	struct buf b;
	uint32_t total = told, n;
	const char *at;

	buf_init(&b, 64 << 10);
	if (file_read("/proc/vmstat", &b, NULL) == 0 && (at = strstr(buf_cstr(&b), key)) != NULL)
		total = (uint32_t)strtoul(at + strlen(key), NULL, 10);
	buf_done(&b);
	n = total - told;
	told = total;
	return n;
}

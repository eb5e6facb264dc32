/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's serial console: copied to console.log, which a guest that prints for ever cannot
 * grow beyond two files of CONSOLE_MAX bytes. */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>

#include "base/fd.h"
#include "base/log.h"
#include "box/box.h"

#define CONSOLE_MAX (1u << 20)

static void open_log(struct box *b)
{
	close_and_reset(&b->console_log);
	b->console_log = openat(b->dir_fd, "console.log",
		O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (b->console_log < 0)
		log_warn("console.log: cannot be opened");
	b->console_written = 0;
}

static void on_console(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct box *b = container_of(w, struct box, console_w);
	char chunk[4096];
	ssize_t n = read(b->console_fd, chunk, sizeof(chunk));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		loop_del(l, w);
		return;
	}
	if (b->console_written + (size_t)n > CONSOLE_MAX) {
		renameat(b->dir_fd, "console.log", b->dir_fd, "console.log.1");
		open_log(b);
	}
	if (b->console_log >= 0 && fd_write_all(b->console_log, chunk, (size_t)n) < 0)
		log_limited(LOG_WARN, "console.log: write failed");
	b->console_written += (size_t)n;
}

void console_start(struct box *b, int fd)
{
	b->console_log = -1;
	b->console_fd = fd;
	open_log(b);
	fd_set_nonblock(fd, true);
	if (loop_add(b->loop, &b->console_w, fd, EPOLLIN, on_console) < 0)
		log_warn("console: cannot be watched");
}

void console_stop(struct box *b)
{
	if (b->console_fd < 0)
		return;
	/* What the guest printed last is what one wants to read. */
	for (int i = 0; i < 64 && b->console_w.fd >= 0; i++)
		on_console(b->loop, &b->console_w, EPOLLIN);
	loop_del(b->loop, &b->console_w);
	close_and_reset(&b->console_fd);
	close_and_reset(&b->console_log);
}

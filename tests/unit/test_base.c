/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of src/base: buffers, reader, errors, loop, descriptors, children, files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/child.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "base/rd.h"

/* Memory and buffers. */

static void strv_is_terminated(void **state)
{
	struct strv l = {0}, copy = {0};

	strv_add(&l, "a");
	strv_addf(&l, "%d-%s", 7, "b");
	strv_take(&l, xstrdup(""));
	strv_copy(&copy, &l);
	strv_done(&l);
	assert_null(l.v);
	assert_int_equal(copy.n, 3);
	assert_string_equal(copy.v[1], "7-b");
	assert_null(copy.v[3]);
	assert_true(strv_has(&copy, ""));
	assert_false(strv_has(&copy, "7-"));
	assert_false(strv_has(&l, "a"));
	strv_done(&copy);
	strv_done(&copy);
}

static void buf_keeps_its_ceiling(void **state)
{
	_buf_ struct buf b;

	buf_init(&b, 8);
	assert_int_equal(buf_put(&b, "12345678", 8), 0);
	assert_int_equal(buf_room(&b), 0);
	assert_int_equal(buf_put(&b, "9", 1), -1);
	assert_true(b.failed);
	/* All or nothing, and failure sticks although there would be room again. */
	assert_int_equal(buf_len(&b), 8);
	buf_consume(&b, 4);
	assert_int_equal(buf_puts(&b, "x"), -1);
	assert_string_equal(buf_cstr(&b), "5678");
	buf_reset(&b);
	assert_int_equal(buf_puts(&b, "x"), 0);
	assert_int_equal(buf_put(&b, "12345678", SIZE_MAX), -1);
}

/* Any interleaving of puts and consumes must read back as a queue. */
static void buf_is_a_queue(void **state)
{
	_buf_ struct buf b;
	uint8_t in = 0, out = 0;
	unsigned seed = 1;

	buf_init(&b, 1000);
	for (int i = 0; i < 20000; i++) {
		size_t n;

		seed = seed * 1103515245u + 12345u;
		n = (seed >> 16) % 400;
		if (seed & 0x80000000u) {
			n = MIN(n, buf_room(&b));
			for (size_t k = 0; k < n; k++)
				assert_int_equal(buf_put_u8(&b, in++), 0);
		} else {
			n = MIN(n, buf_len(&b));
			for (size_t k = 0; k < n; k++)
				assert_int_equal(buf_head(&b)[k], out++);
			buf_consume(&b, n);
		}
		assert_true(b.off <= b.len && b.len <= b.cap && buf_len(&b) <= b.max);
	}
	buf_consume(&b, SIZE_MAX);
	assert_int_equal(buf_len(&b), 0);
}

static void buf_cstr_always_has_room_for_the_end(void **state)
{
	for (size_t n = 0; n < 600; n++) {
		_buf_ struct buf b;
		uint8_t *at;

		buf_init(&b, n);
		at = buf_reserve(&b, n);
		assert_non_null(at);
		memset(at, 'x', n);
		buf_commit(&b, n);
		assert_int_equal(strlen(buf_cstr(&b)), n);
		buf_consume(&b, n / 2);
		assert_int_equal(strlen(buf_cstr(&b)), n - n / 2);
	}
}

static void buf_integers_and_text(void **state)
{
	static const uint8_t want[] = {1, 3, 2, 7, 6, 5, 4, 8, 7, 6, 5, 4, 3, 2, 1, 2, 3, 4, 5, 6, 7, 'n', '=', '5'};
	_buf_ struct buf b;

	buf_init(&b, 64);
	buf_put_u8(&b, 1);
	buf_put_le16(&b, 0x0203);
	buf_put_le32(&b, 0x04050607);
	buf_put_le64(&b, 0x0102030405060708);
	buf_put_be16(&b, 0x0203);
	buf_put_be32(&b, 0x04050607);
	buf_printf(&b, "n=%d", 5);
	assert_int_equal(buf_len(&b), sizeof(want));
	assert_memory_equal(buf_head(&b), want, sizeof(want));
	buf_wipe(&b);
	buf_wipe(&b);
	assert_int_equal(b.max, 64);
}

static void buf_reads_and_writes(void **state)
{
	_buf_ struct buf b;
	int p[2];

	assert_int_equal(pipe(p), 0);
	assert_int_equal(write(p[1], "hello world", 11), 11);
	buf_init(&b, 8);
	assert_int_equal(buf_read(&b, p[0], 3), 3);
	assert_int_equal(buf_read(&b, p[0], 100), 5);
	assert_int_equal(buf_read(&b, p[0], 100), -1);
	assert_int_equal(errno, ENOBUFS);
	assert_string_equal(buf_cstr(&b), "hello wo");
	buf_consume(&b, 6);
	assert_int_equal(buf_write(&b, p[1]), 2);
	assert_int_equal(buf_write(&b, p[1]), 0);
	close(p[1]);
	assert_int_equal(buf_read(&b, p[0], 100), 5);
	assert_int_equal(buf_read(&b, p[0], 100), 0);
	assert_string_equal(buf_cstr(&b), "rldwo");
	close(p[0]);
}

static void rd_never_reads_past_the_end(void **state)
{
	static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
	struct rd r = rd_make(bytes, sizeof(bytes)), sub;
	uint8_t to[4] = {9, 9, 9, 9};

	assert_int_equal(rd_u8(&r), 1);
	assert_int_equal(rd_be16(&r), 0x0203);
	sub = rd_sub(&r, 4);
	assert_int_equal(rd_be24(&sub), 0x040506);
	assert_false(rd_done(&sub));
	assert_int_equal(rd_u8(&sub), 7);
	assert_true(rd_done(&sub));
	assert_int_equal(rd_le16(&sub), 0);
	assert_false(rd_ok(&sub));
	assert_int_equal(rd_left(&r), 2);
	rd_copy(&r, to, 4);
	assert_memory_equal(to, "\0\0\0\0", 4);
	/* Bad sticks, although two bytes are left. */
	assert_int_equal(rd_u8(&r), 0);
	assert_int_equal(rd_left(&r), 0);
	assert_false(rd_done(&r));

	r = rd_make(bytes, sizeof(bytes));
	assert_null(rd_bytes(&r, SIZE_MAX));
	assert_false(rd_ok(&r));
	sub = rd_sub(&r, 0);
	assert_false(rd_ok(&sub));

	r = rd_make(NULL, 0);
	rd_copy(&r, NULL, 0);
	assert_true(rd_done(&r));
	assert_int_equal(rd_le64(&r), 0);
	assert_false(rd_ok(&r));
}

static void err_messages_are_cut_not_lost(void **state)
{
	char longer[2000];
	struct err err;

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	errno = ENOENT;
	assert_int_equal(err_errno(&err, "%s", "/no/such"), -1);
	assert_string_equal(err.msg, "/no/such: No such file or directory");
	assert_int_equal(err.errnum, ENOENT);
	assert_int_equal(err.class, ERR_ENV);
	err_hint(&err, "try %d", 1);
	err_wrap(&err, "kit %s", "k");
	assert_string_equal(err.msg, "kit k: /no/such: No such file or directory");
	assert_string_equal(err.hint, "try 1");
	/* The reason survives a long name, the context a long reason. */
	errno = ENOENT;
	err_errno(&err, "%s", longer);
	assert_non_null(strstr(err.msg, "x: No such file or directory"));
	err_set(&err, ERR_USER, "%.500s!", longer);
	err_wrap(&err, "context");
	assert_memory_equal(err.msg, "context: xxx", 12);
	assert_int_equal(strlen(err.msg), 9 + 501);
	assert_string_equal(err.hint, "");
	assert_int_equal(err.errnum, 0);
	err_wrap(&err, "%s", longer);
	err_wrap(&err, "%s", longer);
	err_set(&err, ERR_USER, "%s", longer);
	err_wrap(&err, "%s", longer);
	err_hint(&err, "%s", longer);
	assert_true(strlen(err.msg) < sizeof(err.msg));
	assert_true(strlen(err.hint) < sizeof(err.hint));
	assert_int_equal(err_set(NULL, ERR_BUG, "x"), -1);
	assert_int_equal(err_errno(NULL, "x"), -1);
	assert_int_equal(err_wrap(NULL, "x"), -1);
	assert_int_equal(err_hint(NULL, "x"), -1);
}

static void log_safe_leaves_nothing_that_steers(void **state)
{
	char to[8];

	assert_string_equal(log_safe(to, sizeof(to), "a\033[2J\n", 6), "a?[2J?");
	assert_string_equal(log_safe(to, sizeof(to), "\x7f\xc2\x9b\0x", 5), "????x");
	assert_string_equal(log_safe(to, sizeof(to), "0123456789", 10), "0123456");
	assert_string_equal(log_safe(to, 1, "abc", 3), "");
	assert_string_equal(log_safe(to, sizeof(to), NULL, 0), "");
}

/* A day of somebody who provokes the line all the time, at most 5 times a second. */
static void log_lines_are_few_in_the_long_run(void **state)
{
	struct log_limit l = {0};
	unsigned allowed = 0, first_minute = 0, suppressed = 0, dropped;

	for (long now = 1000; now < 1000 + 86400; now++) {
		for (int i = 0; i < 5; i++) {
			if (!log_allowed_at(&l, 5, now, &dropped))
				continue;
			allowed++;
			first_minute += now < 1060;
			suppressed += dropped;
		}
	}
	assert_in_range(allowed, LOG_RESERVE, LOG_RESERVE + 86400 / LOG_REFILL_S + 1);
	assert_in_range(first_minute, LOG_RESERVE, LOG_RESERVE + 2);
	assert_int_equal(suppressed + l.dropped, 5 * 86400 - allowed);
	/* After a quiet time all is as at the beginning: 5 in one second. */
	allowed = 0;
	for (int i = 0; i < 100; i++)
		allowed += log_allowed_at(&l, 5, 200000, &dropped);
	assert_int_equal(allowed, 5);
}

/* The loop. */

struct pipe_watch {
	struct loop_watch w;
	int fd[2];
	int calls;
	struct pipe_watch *victim; /* removed, closed and freed by the callback */
};

static struct pipe_watch *pipe_watch_new(struct loop *l, loop_fn *fn)
{
	struct pipe_watch *p = xcalloc(1, sizeof(*p));

	assert_int_equal(pipe(p->fd), 0);
	assert_int_equal(write(p->fd[1], "x", 1), 1);
	assert_int_equal(loop_add(l, &p->w, p->fd[0], EPOLLIN, fn), 0);
	return p;
}

static void pipe_watch_free(struct loop *l, struct pipe_watch *p)
{
	loop_del(l, &p->w);
	close(p->fd[0]);
	close(p->fd[1]);
	free(p);
}

static int total_calls;

static void on_pipe(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct pipe_watch *p = container_of(w, struct pipe_watch, w);

	total_calls++;
	p->calls++;
	if (p->victim)
		pipe_watch_free(l, p->victim);
	p->victim = NULL;
}

static void on_pipe_free_self(struct loop *l, struct loop_watch *w, uint32_t events)
{
	total_calls++;
	pipe_watch_free(l, container_of(w, struct pipe_watch, w));
}

/* Both are ready in the same wake-up; whichever is served first frees the other. */
static void loop_callback_may_free_any_watch(void **state)
{
	struct loop *l = loop_new(NULL);
	struct pipe_watch *a = pipe_watch_new(l, on_pipe), *b = pipe_watch_new(l, on_pipe);
	struct pipe_watch *left;

	total_calls = 0;
	a->victim = b;
	b->victim = a;
	assert_int_equal(loop_once(l, 1000, NULL), 0);
	assert_int_equal(total_calls, 1);
	left = a; /* events come in the order of readiness */
	assert_int_equal(left->calls, 1);
	pipe_watch_free(l, left);

	for (int i = 0; i < 5; i++)
		pipe_watch_new(l, on_pipe_free_self);
	total_calls = 0;
	assert_int_equal(loop_once(l, 1000, NULL), 0);
	assert_int_equal(total_calls, 5);
	assert_int_equal(loop_once(l, 0, NULL), 0);
	assert_int_equal(total_calls, 5);
	loop_free(l);
	loop_free(NULL);
}

static void loop_interest_and_inactive_watches(void **state)
{
	struct loop_watch zero = {0}, off = {.fd = -1};
	struct loop *l = loop_new(NULL);
	struct pipe_watch *p = pipe_watch_new(l, on_pipe);

	loop_del(l, &zero);
	loop_del(l, &off);
	assert_int_equal(loop_mod(l, &off, EPOLLIN), 0);
	assert_int_equal(loop_mod(l, &p->w, 0), 0);
	loop_once(l, 0, NULL);
	assert_int_equal(p->calls, 0);
	assert_int_equal(loop_mod(l, &p->w, EPOLLIN), 0);
	loop_once(l, 0, NULL);
	assert_int_equal(p->calls, 1);
	assert_int_equal(loop_add(l, &off, 9999, EPOLLIN, on_pipe), -1);
	assert_int_equal(off.fd, -1);
	loop_del(l, &p->w);
	loop_del(l, &p->w);
	pipe_watch_free(l, p);
	loop_free(l);
}

struct ticker {
	struct loop_timer t;
	struct ticker *stop;
	char name;
};
static char ticks[16];

static void on_tick(struct loop *l, struct loop_timer *t)
{
	struct ticker *k = container_of(t, struct ticker, t);

	ticks[strlen(ticks)] = k->name;
	if (k->stop)
		loop_timer_stop(l, &k->stop->t);
	if (k->name == 'z')
		loop_stop(l, 42);
}

static void on_tick_rearm(struct loop *l, struct loop_timer *t)
{
	on_tick(l, t);
	if (strlen(ticks) < 4)
		loop_timer_start(l, t, 0, on_tick_rearm);
}

static void loop_timers_in_order(void **state)
{
	struct ticker a = {.name = 'a'}, b = {.name = 'b'}, c = {.name = 'c'}, z = {.name = 'z'};
	struct loop *l = loop_new(NULL);

	memset(ticks, 0, sizeof(ticks));
	loop_timer_start(l, &z.t, 40, on_tick);
	loop_timer_start(l, &c.t, 20, on_tick);
	loop_timer_start(l, &a.t, 500000, on_tick);
	loop_timer_start(l, &b.t, 10, on_tick);
	loop_timer_start(l, &a.t, 0, on_tick); /* again: only once in the list */
	b.stop = &c;			       /* due before it would fire */
	assert_int_equal(loop_run(l, NULL), 42);
	assert_string_equal(ticks, "abz");
	assert_int_equal(c.t.due_ns, 0);
	loop_timer_stop(l, &c.t);

	/* A timer that stops another one due in the same wake-up. */
	memset(ticks, 0, sizeof(ticks));
	loop_timer_start(l, &b.t, 0, on_tick);
	loop_timer_start(l, &c.t, 0, on_tick);
	for (int i = 0; i < 3; i++)
		loop_once(l, 0, NULL);
	assert_string_equal(ticks, "b");

	/* One that re-arms itself does not starve the loop: it comes back on a later wake-up. */
	memset(ticks, 0, sizeof(ticks));
	loop_timer_start(l, &a.t, 0, on_tick_rearm);
	loop_once(l, 0, NULL);
	assert_true(strlen(ticks) <= 1);
	for (int i = 0; i < 20; i++)
		loop_once(l, 5, NULL);
	assert_string_equal(ticks, "aaaa");
	loop_free(l);
}

/* Descriptors. */

static unsigned open_fds(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void fds_are_passed(void **state)
{
	int s[2], p[2], got[FD_PASS_MAX], many[FD_PASS_MAX + 1];
	char text[8] = "";
	size_t n;
	unsigned before;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s), 0);
	assert_int_equal(pipe(p), 0);
	before = open_fds();
	assert_int_equal(fd_send(s[0], "two", 3, p, 2), 3);
	assert_int_equal(fd_recv(s[1], text, sizeof(text), got, &n), 3);
	assert_int_equal(n, 2);
	assert_string_equal(text, "two");
	assert_true(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(got[1], "y", 1), 1);
	assert_int_equal(read(p[0], text, 1), 1);
	close(got[0]);
	close(got[1]);

	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = p[0];
	assert_int_equal(fd_send(s[0], "x", 1, many, FD_PASS_MAX + 1), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(fd_send(s[0], "x", 1, many, FD_PASS_MAX), 1);
	assert_int_equal(fd_recv(s[1], text, sizeof(text), got, &n), 1);
	assert_int_equal(n, FD_PASS_MAX);
	for (size_t i = 0; i < n; i++)
		close(got[i]);

	/* A message that is too long, or has too many descriptors, leaves none behind. */
	assert_int_equal(fd_send(s[0], "longer than 8", 13, p, 2), 13);
	assert_int_equal(fd_recv(s[1], text, sizeof(text), got, &n), -1);
	assert_int_equal(errno, EMSGSIZE);
	assert_int_equal(n, 0);
	assert_int_equal(open_fds(), before);
	close(s[0]);
	assert_int_equal(fd_recv(s[1], text, sizeof(text), got, &n), 0);
	assert_int_equal(fd_send(s[1], "x", 1, NULL, 0), -1); /* and no SIGPIPE */
	close(s[1]);
	close(p[0]);
	close(p[1]);
}

static void too_many_fds_are_truncated_without_a_leak(void **state)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * 20)];
	} ctl = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)"x", .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl.space,
		.msg_controllen = sizeof(ctl.space)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int s[2], got[FD_PASS_MAX], fds[20];
	unsigned before;
	char text[8];
	size_t n;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	for (size_t i = 0; i < 20; i++)
		fds[i] = s[0];
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	before = open_fds();
	assert_int_equal(sendmsg(s[0], &msg, 0), 1);
	assert_int_equal(fd_recv(s[1], text, sizeof(text), got, &n), -1);
	assert_int_equal(errno, EMSGSIZE);
	assert_int_equal(open_fds(), before);
	close(s[0]);
	close(s[1]);
}

static void whole_reads_and_writes(void **state)
{
	char text[4];
	int p[2];

	assert_int_equal(pipe(p), 0);
	assert_int_equal(fd_write_all(p[1], "abc", 3), 0);
	close(p[1]);
	assert_int_equal(fd_read_all(p[0], text, 2), 0);
	assert_int_equal(fd_read_all(p[0], text, 2), -1);
	assert_int_equal(errno, EPIPE);
	close(p[0]);
	assert_int_equal(fd_set_nonblock(-1, true), -1);
}

/* Children. */

static char *shell(const char *script, const int *fds, size_t nfds, int *ret_status)
{
	char *out = NULL;

	*ret_status = child_run(&(struct child_spec){.path = "sh",
					.argv = ARGV("sh", "-c", script),
					.in = CHILD_NULL,
					.fds = fds,
					.nfds = nfds},
		&out, 4096, NULL);
	return out;
}

static void child_has_its_table_and_nothing_else(void **state)
{
	_free_ char *out = NULL;
	int a[2], b[2], swapped[3], status;

	assert_int_equal(pipe(a), 0);
	assert_int_equal(pipe(b), 0);
	/* Slots that overlap with where the sources are, in the wrong order, and a closed one. */
	swapped[0] = a[1];
	swapped[1] = -1;
	swapped[2] = a[0];
	assert_int_equal(write(a[1], "in the pipe\n", 12), 12);
	/* No pipeline: the shell has descriptors of its own for one. */
	out = shell("read -r x <&5; echo \"$x\"; echo back >&3; ls /proc/$$/fd", swapped, 3, &status);
	assert_int_equal(status, 0);
	assert_non_null(strstr(out, "in the pipe\n"));
	for (char *c = out; *c; c++)
		*c = *c == '\n' ? ' ' : *c;
	assert_null(strstr(out, " 4 "));
	assert_null(strstr(out, " 6 "));
	assert_non_null(strstr(out, "0 1 "));
	assert_non_null(strstr(out, "3 5 "));
	close(a[1]);
	close(a[0]);
	close(b[0]);
	close(b[1]);
}

static void child_failures_are_told_at_once(void **state)
{
	struct child_spec spec = {.path = "/no/such/program",
		.argv = ARGV("x"),
		.in = CHILD_NULL,
		.out = CHILD_NULL,
		.errout = CHILD_NULL};
	struct rlimit lim, low;
	unsigned before = open_fds();
	struct child c;
	struct err err;

	assert_int_equal(child_spawn(&spec, &c, &err), -1);
	assert_int_equal(err.errnum, ENOENT);
	assert_non_null(strstr(err.msg, "/no/such/program"));
	spec.path = "/";
	assert_int_equal(child_spawn(&spec, &c, &err), -1);
	assert_int_equal(err.errnum, EACCES);
	spec.nfds = 1000;
	assert_int_equal(child_spawn(&spec, &c, &err), -1);
	assert_int_equal(err.class, ERR_BUG);

	/* A table that cannot be laid out: no program with holes in its table. */
	spec.nfds = 0;
	spec.path = "true";
	spec.in = 0;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
	low = lim;
	low.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	assert_int_equal(child_spawn(&spec, &c, &err), -1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
	assert_int_equal(open_fds(), before);
}

static void child_output_and_status(void **state)
{
	_free_ char *big = NULL, *signalled = NULL, *both = NULL;
	char text[64];
	int status;

	both = shell("echo out; echo err >&2; exit 3", NULL, 0, &status);
	assert_string_equal(both, "out\nerr\n");
	assert_string_equal(child_status_text(status, text, sizeof(text)), "exit 3");
	signalled = shell("kill -KILL $$", NULL, 0, &status);
	assert_string_equal(child_status_text(status, text, sizeof(text)), "signal 9 (Killed)");
	/* More than the ceiling is dropped, and does not block the child. */
	big = shell("head -c 300000 /dev/zero | tr '\\0' x", NULL, 0, &status);
	assert_int_equal(status, 0);
	assert_int_equal(strlen(big), 4096);
}

static void child_dies_with_its_parent(void **state)
{
	int p[2];
	char byte;
	pid_t middle;

	assert_int_equal(pipe(p), 0);
	middle = fork();
	if (middle == 0) {
		struct child c;

		/* The grandchild holds the writing end as its descriptor 3. */
		if (child_spawn(&(struct child_spec){.path = "sleep",
					.argv = ARGV("sleep", "600"),
					.in = CHILD_NULL,
					.out = CHILD_NULL,
					.errout = CHILD_NULL,
					.fds = &p[1],
					.nfds = 1},
			    &c, NULL) < 0)
			_exit(1);
		_exit(0);
	}
	close(p[1]);
	assert_int_equal(waitpid(middle, NULL, 0), middle);
	alarm(120);
	assert_int_equal(read(p[0], &byte, 1), 0);
	alarm(0);
	close(p[0]);
}

/* Files. */

static char dir[] = "/tmp/test_base.XXXXXX";

static int make_dir(void **state)
{
	return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int drop_dir(void **state)
{
	return fs_remove_tree(AT_FDCWD, dir, NULL);
}

static void files_whole_or_not_at_all(void **state)
{
	_buf_ struct buf b;
	struct stat st;
	struct err err;

	assert_int_equal(fs_write_file(AT_FDCWD, "f", "old", 3, 0640, &err), 0);
	assert_int_equal(stat("f", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	/* A failure leaves the old content and no temporary file. */
	assert_int_equal(mkdir("busy", 0700), 0);
	assert_int_equal(mkdir("busy/x", 0700), 0);
	assert_int_equal(fs_write_file(AT_FDCWD, "busy", "new", 3, 0600, &err), -1);
	assert_int_equal(fs_write_file(AT_FDCWD, "f", "newer", 5, 0600, &err), 0);
	assert_int_equal(fs_write_file(AT_FDCWD, "absent/f", "x", 1, 0600, &err), -1);
	assert_int_equal(err.errnum, ENOENT);
	buf_init(&b, 5);
	assert_int_equal(fs_read_file(AT_FDCWD, "f", &b, &err), 0);
	assert_string_equal(buf_cstr(&b), "newer");
	/* Appending would pass the ceiling. */
	assert_int_equal(fs_read_file(AT_FDCWD, "f", &b, &err), -1);
	assert_int_equal(err.class, ERR_USER);
	buf_reset(&b);
	b.max = 4;
	assert_int_equal(fs_read_file(AT_FDCWD, "f", &b, &err), -1);
	assert_int_equal(fs_read_file(AT_FDCWD, "absent", &b, &err), -1);
	assert_int_equal(err.errnum, ENOENT);
	{
		int status;
		_free_ char *tmp = shell("ls -A | grep -c tmp", NULL, 0, &status);

		assert_string_equal(tmp, "0\n");
	}
}

static void directories_are_made_and_removed(void **state)
{
	struct stat st;
	struct err err;

	assert_int_equal(fs_mkdirs("a/b/c", 0700, &err), 0);
	assert_int_equal(fs_mkdirs("a/b/c", 0755, &err), 0);
	assert_int_equal(stat("a/b/c", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(fs_write_file(AT_FDCWD, "a/file", "", 0, 0600, NULL), 0);
	assert_int_equal(fs_mkdirs("a/file", 0700, &err), -1);
	assert_int_equal(fs_mkdirs("a/file/below", 0700, &err), -1);

	/* Links are removed, not followed; unwritable directories go too. */
	assert_int_equal(fs_mkdirs("keep", 0700, NULL), 0);
	assert_int_equal(fs_write_file(AT_FDCWD, "keep/me", "", 0, 0600, NULL), 0);
	assert_int_equal(symlink("../keep", "a/link"), 0);
	assert_int_equal(symlink("absent", "a/dangling"), 0);
	assert_int_equal(fs_write_file(AT_FDCWD, "a/b/c/deep", "", 0, 0400, NULL), 0);
	assert_int_equal(chmod("a/b/c", 0500), 0);
	assert_int_equal(chmod("a/b", 0), 0);
	assert_int_equal(fs_remove_tree(AT_FDCWD, "a", &err), 0);
	assert_false(fs_exists("a"));
	assert_true(fs_exists("keep/me"));
	assert_int_equal(symlink("keep", "link"), 0);
	assert_int_equal(fs_remove_tree(AT_FDCWD, "link", &err), 0);
	assert_true(fs_exists("keep/me"));
	assert_int_equal(fs_remove_tree(AT_FDCWD, "absent", &err), 0);
}

static void copies_keep_their_holes(void **state)
{
	static const off_t size = 64 << 20;
	_close_ int from = open("sparse", O_RDWR | O_CREAT | O_EXCL, 0600);
	_close_ int to = open("copy", O_RDWR | O_CREAT | O_EXCL, 0600);
	char text[8] = "";
	struct stat st;
	struct err err;

	assert_int_equal(ftruncate(from, size), 0);
	assert_int_equal(pwrite(from, "begin", 5, 0), 5);
	assert_int_equal(pwrite(from, "middle", 6, size / 2 - 3), 6);
	assert_int_equal(pwrite(to, "what was there before", 21, size - 100), 21);
	assert_int_equal(ftruncate(to, 0), 0);
	assert_int_equal(fs_copy_sparse(from, to, &err), 0);
	assert_int_equal(fstat(to, &st), 0);
	assert_int_equal(st.st_size, size);
	assert_true(st.st_blocks * 512 < 4 << 20);
	assert_int_equal(pread(to, text, 6, size / 2 - 3), 6);
	assert_string_equal(text, "middle");
	assert_int_equal(pread(to, text, 5, 0), 5);
	assert_memory_equal(text, "begin", 5);
	assert_int_equal(ftruncate(from, 0), 0);
	assert_int_equal(fs_copy_sparse(from, to, &err), 0);
	assert_int_equal(fstat(to, &st), 0);
	assert_int_equal(st.st_size, 0);
	assert_int_equal(fs_copy_sparse(-1, to, &err), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(strv_is_terminated),
		cmocka_unit_test(buf_keeps_its_ceiling),
		cmocka_unit_test(buf_is_a_queue),
		cmocka_unit_test(buf_cstr_always_has_room_for_the_end),
		cmocka_unit_test(buf_integers_and_text),
		cmocka_unit_test(buf_reads_and_writes),
		cmocka_unit_test(rd_never_reads_past_the_end),
		cmocka_unit_test(err_messages_are_cut_not_lost),
		cmocka_unit_test(log_safe_leaves_nothing_that_steers),
		cmocka_unit_test(log_lines_are_few_in_the_long_run),
		cmocka_unit_test(loop_callback_may_free_any_watch),
		cmocka_unit_test(loop_interest_and_inactive_watches),
		cmocka_unit_test(loop_timers_in_order),
		cmocka_unit_test(fds_are_passed),
		cmocka_unit_test(too_many_fds_are_truncated_without_a_leak),
		cmocka_unit_test(whole_reads_and_writes),
		cmocka_unit_test(child_has_its_table_and_nothing_else),
		cmocka_unit_test(child_failures_are_told_at_once),
		cmocka_unit_test(child_output_and_status),
		cmocka_unit_test(child_dies_with_its_parent),
		cmocka_unit_test(files_whole_or_not_at_all),
		cmocka_unit_test(directories_are_made_and_removed),
		cmocka_unit_test(copies_keep_their_holes),
	};

	return cmocka_run_group_tests(tests, make_dir, drop_dir);
}

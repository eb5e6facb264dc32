/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log. */
#include "gate/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "wire/chain.h"

#define AUDIT_FILE       "audit.jsonl"
#define AUDIT_FILE_OLD   "audit.jsonl.1"
#define AUDIT_FILE_MAX   (64u << 20)
#define AUDIT_STRING_MAX 512u /* bytes of one hostile string that are kept */
#define AUDIT_FILE_HEAD  "audit.head"
/* A dozen strings, each byte at most six characters. */
#define AUDIT_LINE_MAX  (16u * 6u * AUDIT_STRING_MAX)
#define AUDIT_CHAIN_MAX 256u /* bytes that sealing adds to a line */
/* Lines of one turn of the loop are written together, so that many clients cost no call for each:
 * up to CHAIN_BATCH_MAX of them and this many bytes, all of which adopt_lines() sees again. */
#define AUDIT_BATCH_MAX 32768u
_Static_assert(AUDIT_BATCH_MAX <= AUDIT_LINE_MAX, "a batch fits into the tail");

static const char *const verdict_names[] = {
	[AUDIT_ALLOW] = "allow", [AUDIT_DENY] = "deny", [AUDIT_ERROR] = "error"};
_Static_assert(ARRAY_SIZE(verdict_names) == AUDIT_VERDICTS, "a name for every verdict");

static const char *const proto_names[] = {[AUDIT_TCP] = "tcp",
	[AUDIT_TLS] = "tls",
	[AUDIT_HTTP] = "http",
	[AUDIT_HTTPS] = "https",
	[AUDIT_DNS] = "dns",
	[AUDIT_UDP] = "udp"};
_Static_assert(ARRAY_SIZE(proto_names) == AUDIT_PROTOS, "a name for every protocol");

struct audit {
	struct loop *loop;           /* borrowed */
	int dirfd;                   /* borrowed */
	int fd;                      /* owned; -1 until the first line */
	int head_fd;                 /* owned; -1 until then, too */
	uint64_t size;               /* of the file */
	struct chain chain, written; /* with the lines that wait, without them */
	struct buf lines;            /* that wait to be written together */
	unsigned n_lines;
	struct loop_timer timer;
	time_t second; /* what it is as text: */
	char second_text[40];
	char box[80];
};

struct audit *audit_new(struct loop *l, int dirfd, const char *box)
{
	struct audit *a = xcalloc(1, sizeof(*a));

	a->loop = l;
	a->dirfd = dirfd;
	a->fd = a->head_fd = -1;
	buf_init(&a->lines, AUDIT_BATCH_MAX + AUDIT_LINE_MAX);
	snprintf(a->box, sizeof(a->box), "%s", box);
	return a;
}

void audit_free(struct audit *a)
{
	if (!a)
		return;
	audit_flush(a);
	buf_done(&a->lines);
	close_and_reset(&a->fd);
	close_and_reset(&a->head_fd);
	free(a);
}

static void put_key(struct buf *b, const char *key)
{
	buf_puts(b, buf_head(b)[buf_len(b) - 1] == '{' ? "\"" : ",\"");
	buf_puts(b, key);
	buf_puts(b, "\":");
}

static bool is_plain(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static void put_string(struct buf *b, const char *key, const char *s)
{
	size_t n = 0, plain;

	if (!s)
		return;
	put_key(b, key);
	buf_put_u8(b, '"');
	while (s[n] && n < AUDIT_STRING_MAX) {
		for (plain = n; plain < AUDIT_STRING_MAX && is_plain((unsigned char)s[plain]);)
			plain++;
		buf_put(b, s + n, plain - n);
		n = plain;
		if (n == AUDIT_STRING_MAX || !s[n])
			break;
		if (s[n] == '"' || s[n] == '\\')
			buf_printf(b, "\\%c", s[n]);
		else
			buf_printf(b, "\\u%04x", (unsigned char)s[n]);
		n++;
	}
	buf_puts(b, s[n] ? "...\"" : "\"");
}

static void put_number(struct buf *b, const char *key, uint64_t v)
{
	char digits[20], *at = digits + sizeof(digits);

	put_key(b, key);
	do
		*--at = (char)('0' + v % 10);
	while (v /= 10);
	buf_put(b, at, (size_t)(digits + sizeof(digits) - at));
}

/* Most lines have the second of the one before. */
static void put_time(struct buf *b, struct audit *a)
{
	struct timespec ts;
	unsigned ms;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (ts.tv_sec != a->second || !a->second_text[0]) {
		gmtime_r(&ts.tv_sec, &tm);
		strftime(a->second_text, sizeof(a->second_text), "\"%Y-%m-%dT%H:%M:%S.", &tm);
		a->second = ts.tv_sec;
	}
	ms = (unsigned)(ts.tv_nsec / 1000000);
	put_key(b, "time");
	buf_puts(b, a->second_text);
	buf_put(b,
		(char[]){(char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10)},
		3);
	buf_puts(b, "Z\"");
}

static void format_line(struct buf *b, struct audit *a, const struct audit_record *r)
{
	buf_puts(b, "{");
	put_time(b, a);
	put_string(b, "box", a->box);
	put_string(b, "verdict", verdict_names[r->verdict]);
	put_string(b, "proto", proto_names[r->proto]);
	put_string(b, "name", r->name);
	if (r->port)
		put_number(b, "port", r->port);
	put_string(b, "addr", r->addr);
	put_string(b, "proxy", r->proxy);
	put_string(b, "method", r->method);
	put_string(b, "path", r->path);
	if (r->status)
		put_number(b, "status", (uint64_t)r->status);
	put_string(b, "rule", r->rule);
	put_string(b, "source", r->source);
	put_string(b, "credential", r->credential);
	if (r->open) {
		put_string(b, "event", "open");
	} else {
		put_number(b, "bytes_up", r->bytes_up);
		put_number(b, "bytes_down", r->bytes_down);
		put_number(b, "ms", r->ms);
	}
	if (r->has_ttfb)
		put_number(b, "ttfb_ms", r->ttfb_ms);
	put_string(b, "reason", r->reason);
}

/* ---- the file ---- */

/* Bytes behind the last line break are of a line that a crash has cut: nobody will complete it. */
static int drop_torn_line(struct audit *a, struct buf *tail)
{
	const char *nl = buf_len(tail) ? memrchr(buf_head(tail), '\n', buf_len(tail)) : NULL;
	size_t keep = nl ? (size_t)(nl + 1 - (char *)buf_head(tail)) : 0,
	       torn = buf_len(tail) - keep;

	if (!torn || (!nl && a->size > buf_len(tail)))
		return 0;
	a->size -= torn;
	tail->len -= torn;
	return ftruncate(a->fd, (off_t)a->size);
}

/* The lines of @tail that follow the head and that it does not know yet. */
static void adopt_lines(struct audit *a, const struct buf *tail)
{
	const char *text = (const char *)buf_head(tail), *nl;
	size_t left = buf_len(tail);
	struct chain_line l;

	for (; left && (nl = memchr(text, '\n', left)); text = nl + 1) {
		size_t len = (size_t)(nl - text);

		if (chain_parse(text, len, &l) == 0 && chain_follows(&a->chain, &l))
			chain_step(&a->chain, &l);
		left -= len + 1;
	}
}

static int read_tail(struct audit *a, struct buf *tail)
{
	size_t want = (size_t)MIN(a->size, (uint64_t)AUDIT_LINE_MAX);
	uint8_t *at = buf_reserve(tail, want);
	ssize_t n = at ? pread(a->fd, at, want, (off_t)(a->size - want)) : -1;

	if (n < 0 || (size_t)n != want)
		return -1;
	buf_commit(tail, want);
	return 0;
}

static int rotate(struct audit *a);

/* Go on where the head says. A log that says something else is evidence: its lines stay, and the
 * next one does not follow them, which hutch policy log --verify finds. */
static int resume(struct audit *a)
{
	char head[CHAIN_HEAD_SIZE + 1];
	_buf_ struct buf tail = {.max = AUDIT_LINE_MAX};
	ssize_t n;

	a->head_fd =
		openat(a->dirfd, AUDIT_FILE_HEAD, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (a->head_fd < 0)
		return -1;
	n = pread(a->head_fd, head, sizeof(head), 0);
	if (n < 0 || chain_head_parse(head, (size_t)n, &a->chain) < 0) {
		chain_init(&a->chain);
		/* Without a head, or from before there was one: not this chain. */
		return a->size > 0 ? rotate(a) : 0;
	}
	if (read_tail(a, &tail) < 0 || drop_torn_line(a, &tail) < 0)
		return -1;
	adopt_lines(a, &tail);
	return 0;
}

static int open_file(struct audit *a)
{
	struct stat st;

	a->fd = openat(a->dirfd, AUDIT_FILE,
		O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (a->fd < 0)
		return -1;
	if (fstat(a->fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close_and_reset(&a->fd);
		errno = EINVAL;
		return -1;
	}
	a->size = (uint64_t)st.st_size;
	return 0;
}

static int rotate(struct audit *a)
{
	close_and_reset(&a->fd);
	if (renameat(a->dirfd, AUDIT_FILE, a->dirfd, AUDIT_FILE_OLD) < 0)
		return -1;
	return open_file(a);
}

static int open_log(struct audit *a)
{
	if (open_file(a) < 0)
		return -1;
	if (a->head_fd >= 0 || resume(a) == 0)
		return 0;
	close_and_reset(&a->fd);
	close_and_reset(&a->head_fd);
	return -1;
}

/* Write what waits, and the head behind it. When that fails the lines are lost, and the next ones
 * follow what is in the file. */
static int flush(struct audit *a)
{
	char head[CHAIN_HEAD_SIZE + 1];
	size_t len = buf_len(&a->lines);
	struct chain next = a->chain;
	ssize_t n;

	if (!len)
		return 0;
	n = write(a->fd, buf_head(&a->lines), len);
	buf_done(&a->lines);
	buf_init(&a->lines, AUDIT_BATCH_MAX + AUDIT_LINE_MAX);
	a->n_lines = 0;
	a->chain = a->written;
	if (n < 0)
		return -1;
	if ((size_t)n < len) {
		/* The disk is full. Half a line would break the chain. */
		if (ftruncate(a->fd, (off_t)a->size) < 0)
			close_and_reset(&a->fd);
		errno = ENOSPC;
		return -1;
	}
	a->size += len;
	a->chain = a->written = next;
	chain_head_text(&a->chain, head);
	return pwrite(a->head_fd, head, CHAIN_HEAD_SIZE, 0) == CHAIN_HEAD_SIZE ? 0 : -1;
}

/* A file that takes @len bytes more, behind what waits. */
static int make_room(struct audit *a, size_t len)
{
	if (a->fd < 0) {
		if (open_log(a) < 0)
			return -1;
		a->written = a->chain;
	}
	if (buf_len(&a->lines) && buf_len(&a->lines) + len > AUDIT_BATCH_MAX && flush(a) < 0)
		return -1;
	if (a->size + buf_len(&a->lines) + len <= AUDIT_FILE_MAX)
		return 0;
	return flush(a) < 0 || rotate(a) < 0 ? -1 : 0;
}

static int append(struct audit *a, struct buf *line)
{
	if (make_room(a, buf_len(line) + AUDIT_CHAIN_MAX) < 0)
		return -1;
	chain_seal(&a->chain, a->size + buf_len(&a->lines) == 0, line);
	buf_put(&a->lines, buf_head(line), buf_len(line));
	if (++a->n_lines >= CHAIN_BATCH_MAX)
		return flush(a);
	return 0;
}

static void report(void)
{
	log_limited(LOG_ERROR, "audit log cannot be written: %s", strerror(errno));
}

void audit_flush(struct audit *a)
{
	loop_timer_stop(a->loop, &a->timer);
	if (flush(a) < 0)
		report();
}

static void on_timer(struct loop *l, struct loop_timer *t)
{
	audit_flush(container_of(t, struct audit, timer));
}

void audit_write(struct audit *a, const struct audit_record *r)
{
	_buf_ struct buf line;

	buf_init(&line, AUDIT_LINE_MAX);
	format_line(&line, a, r);
	if (append(a, &line) < 0)
		report();
	if (a->n_lines && !a->timer.due_ns)
		loop_timer_start(a->loop, &a->timer, 0, on_timer);
}

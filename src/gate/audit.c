/* SPDX-License-Identifier: Apache-2.0 */
/* The audit log. */
#include "gate/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"

#define AUDIT_FILE       "audit.jsonl"
#define AUDIT_FILE_OLD   "audit.jsonl.1"
#define AUDIT_FILE_MAX   (64u << 20)
#define AUDIT_STRING_MAX 512u /* bytes of one hostile string that are kept */
/* A dozen strings, each byte at most six characters. */
#define AUDIT_LINE_MAX (16u * 6u * AUDIT_STRING_MAX)

static const char *const verdict_names[] = {
	[AUDIT_ALLOW] = "allow", [AUDIT_DENY] = "deny", [AUDIT_ERROR] = "error"};
_Static_assert(ARRAY_SIZE(verdict_names) == AUDIT_VERDICTS, "a name for every verdict");

static const char *const proto_names[] = {[AUDIT_TCP] = "tcp",
	[AUDIT_TLS] = "tls",
	[AUDIT_HTTP] = "http",
	[AUDIT_HTTPS] = "https",
	[AUDIT_DNS] = "dns"};
_Static_assert(ARRAY_SIZE(proto_names) == AUDIT_PROTOS, "a name for every protocol");

struct audit {
	int dirfd; /* borrowed */
	int fd;    /* owned; -1 until the first line */
	uint64_t size;
	char box[80];
};

struct audit *audit_new(int dirfd, const char *box)
{
	struct audit *a = xcalloc(1, sizeof(*a));

	a->dirfd = dirfd;
	a->fd = -1;
	snprintf(a->box, sizeof(a->box), "%s", box);
	return a;
}

void audit_free(struct audit *a)
{
	if (!a)
		return;
	close_and_reset(&a->fd);
	free(a);
}

static void put_key(struct buf *b, const char *key)
{
	buf_printf(b, "%s\"%s\":", buf_head(b)[buf_len(b) - 1] == '{' ? "" : ",", key);
}

static void put_string(struct buf *b, const char *key, const char *s)
{
	size_t n = 0;

	if (!s)
		return;
	put_key(b, key);
	buf_put_u8(b, '"');
	for (; s[n] && n < AUDIT_STRING_MAX; n++) {
		unsigned char c = (unsigned char)s[n];

		if (c == '"' || c == '\\')
			buf_printf(b, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			buf_printf(b, "\\u%04x", c);
		else
			buf_put_u8(b, c);
	}
	buf_puts(b, s[n] ? "...\"" : "\"");
}

static void put_number(struct buf *b, const char *key, uint64_t v)
{
	put_key(b, key);
	buf_printf(b, "%" PRIu64, v);
}

static void put_time(struct buf *b)
{
	char text[40];
	struct timespec ts;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	put_key(b, "time");
	buf_printf(b, "\"%s.%03ldZ\"", text, ts.tv_nsec / 1000000);
}

static void format_line(struct buf *b, const struct audit *a, const struct audit_record *r)
{
	buf_puts(b, "{");
	put_time(b);
	put_string(b, "box", a->box);
	put_string(b, "verdict", verdict_names[r->verdict]);
	put_string(b, "proto", proto_names[r->proto]);
	put_string(b, "name", r->name);
	if (r->port)
		put_number(b, "port", r->port);
	put_string(b, "addr", r->addr);
	put_string(b, "method", r->method);
	put_string(b, "path", r->path);
	if (r->status)
		put_number(b, "status", (uint64_t)r->status);
	put_string(b, "rule", r->rule);
	put_string(b, "source", r->source);
	put_string(b, "credential", r->credential);
	put_number(b, "bytes_up", r->bytes_up);
	put_number(b, "bytes_down", r->bytes_down);
	put_number(b, "ms", r->ms);
	put_string(b, "reason", r->reason);
	buf_puts(b, "}\n");
}

static int open_log(struct audit *a)
{
	struct stat st;

	a->fd = openat(a->dirfd, AUDIT_FILE,
		O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
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
	return open_log(a);
}

static int append(struct audit *a, const void *line, size_t len)
{
	ssize_t n;

	if (a->fd < 0 && open_log(a) < 0)
		return -1;
	if (a->size + len > AUDIT_FILE_MAX && rotate(a) < 0)
		return -1;
	n = write(a->fd, line, len);
	if (n < 0)
		return -1;
	a->size += (uint64_t)n;
	if ((size_t)n == len)
		return 0;
	errno = ENOSPC;
	return -1;
}

void audit_write(struct audit *a, const struct audit_record *r)
{
	_buf_ struct buf line;

	buf_init(&line, AUDIT_LINE_MAX);
	format_line(&line, a, r);
	if (append(a, buf_head(&line), buf_len(&line)) < 0)
		log_limited(LOG_ERROR, "audit log cannot be written: %s", strerror(errno));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Logging of the long-lived processes. */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

static const char *worker_name = "hutch", *box_name = "-";
static enum log_level min_level = LOG_INFO;

void log_init(const char *worker, const char *box, enum log_level min)
{
	worker_name = worker;
	box_name = box;
	min_level = min;
	tzset(); /* reads a file, which may not be possible any more at the first line */
}

void log_at(enum log_level level, const char *fmt, ...)
{
	static const char *const names[] = {"debug", "info", "warn", "error"};
	char line[1024];
	struct timespec ts;
	struct tm tm;
	va_list ap;
	size_t n;
	int r;

	if (level < min_level)
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%S", &tm);
	r = snprintf(line + n, sizeof(line) - n, ".%03ldZ %s %s box=%s ", ts.tv_nsec / 1000000,
		names[level], worker_name, box_name);
	n = MIN(n + (size_t)MAX(r, 0), sizeof(line) - 2);
	va_start(ap, fmt);
	r = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	n = MIN(n + (size_t)MAX(r, 0), sizeof(line) - 2);
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0)
		return;
}

bool log_allowed_at(struct log_limit *l, unsigned burst, long now_s, unsigned *ret_dropped)
{
	long since = now_s - l->refilled;

	if (atomic_exchange(&l->second, now_s) != now_s)
		l->n = 0;
	if (since >= LOG_REFILL_S) {
		l->spent -= MIN(l->spent, (unsigned)MIN(since / LOG_REFILL_S, (long)LOG_RESERVE));
		l->refilled = now_s - since % LOG_REFILL_S;
	}
	if (l->n >= burst || l->spent >= LOG_RESERVE) {
		l->dropped++;
		return false;
	}
	l->n++;
	l->spent++;
	*ret_dropped = atomic_exchange(&l->dropped, 0);
	return true;
}

bool log_allowed(struct log_limit *l, unsigned burst)
{
	struct timespec ts;
	unsigned dropped;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	if (!log_allowed_at(l, burst, ts.tv_sec, &dropped))
		return false;
	if (dropped)
		log_warn("suppressed=%u similar lines", dropped);
	return true;
}

char *log_safe(char *to, size_t size, const void *from, size_t len)
{
	const unsigned char *c = from;
	size_t n = MIN(len, size - 1);

	for (size_t i = 0; i < n; i++)
		to[i] = c[i] >= 0x20 && c[i] < 0x7f ? (char)c[i] : '?';
	to[n] = '\0';
	return to;
}

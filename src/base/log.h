/* SPDX-License-Identifier: Apache-2.0 */
/* Logging of the long-lived processes: one line, key=value, on stderr.
 *
 * Libraries do not log (they return struct err). Values that a guest chose go through %s only after
 * log_safe(), so that a guest cannot write line breaks or escapes into the log. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* @worker ("gate") and @box (sandbox name) prefix every line; borrowed for ever. */
void log_init(const char *worker, const char *box, enum log_level min);
void log_at(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)

/* For lines that hostile input can trigger: per call site, which several threads may share, at most
 * @burst lines in a second, and in the long run one in LOG_REFILL_S seconds, so that a sandbox that
 * runs for months cannot fill the disk with them. */
#define LOG_RESERVE  200u /* lines before the long run begins */
#define LOG_REFILL_S 30
struct log_limit {
	_Atomic long second, refilled;
	_Atomic unsigned n, spent, dropped;
};
bool log_allowed(struct log_limit *l, unsigned burst);
/* The same at a time, for tests. *ret_dropped: lines that were left out before this one. */
bool log_allowed_at(struct log_limit *l, unsigned burst, long now_s, unsigned *ret_dropped);
#define log_limited(level, ...)                                                                    \
	do {                                                                                       \
		static struct log_limit limit_;                                                    \
		if (log_allowed(&limit_, 5))                                                       \
			log_at(level, __VA_ARGS__);                                                \
	} while (0)

/* Copy @len hostile bytes into @to as printable ASCII ('?' for the rest), NUL-terminated, cut to
 * fit. Returns @to. */
char *log_safe(char *to, size_t size, const void *from, size_t len);

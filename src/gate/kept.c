/* SPDX-License-Identifier: Apache-2.0 */
/* Values that are kept for a moment. */
#include "gate/kept.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

struct entry {
	struct kept *kept;
	struct entry *next;
	struct loop_timer timer;
	struct value *value; /* a reference, or NULL */
	char *service;       /* owned */
};

struct kept {
	struct loop *loop;
	int broker;           /* borrowed */
	int pending, changed; /* owned; -1: nothing is kept */
	struct loop_watch watch;
	struct entry *entries;
	uint64_t turn; /* changes so far */
};

static void entry_free(struct entry *e)
{
	struct entry **at = &e->kept->entries;

	while (*at != e)
		at = &(*at)->next;
	*at = e->next;
	loop_timer_stop(e->kept->loop, &e->timer);
	value_unref(e->value);
	free(e->service);
	free(e);
}

static void forget(struct kept *k)
{
	k->turn++;
	while (k->entries)
		entry_free(k->entries);
}

/* Take what has been written to @changed. */
static void take_changes(struct kept *k)
{
	uint64_t times;
	ssize_t n = read(k->changed, &times, sizeof(times));

	if (n == sizeof(times))
		forget(k);
	else if (n >= 0 || (errno != EAGAIN && errno != EINTR))
		kept_stop(k); /* not what it should be */
}

/* So that what is revoked goes at once, and not with the next request. */
static void on_changed(struct loop *l, struct loop_watch *w, uint32_t events)
{
	take_changes(container_of(w, struct kept, watch));
}

static void on_old(struct loop *l, struct loop_timer *t)
{
	entry_free(container_of(t, struct entry, timer));
}

uint64_t kept_look(struct kept *k)
{
	struct pollfd p[] = {{.fd = k->pending, .events = POLLIN}, {.fd = k->broker}};

	if (k->pending < 0)
		return k->turn;
	/* First the one, then the other: what has left the first has reached the second. */
	if (poll(p, ARRAY_SIZE(p), 0) != 0)
		forget(k);
	take_changes(k);
	return k->turn;
}

bool kept_find(const struct kept *k, const char *service, struct value **ret)
{
	for (const struct entry *e = k->entries; e; e = e->next) {
		if (strcmp(e->service, service) != 0)
			continue;
		*ret = e->value;
		return true;
	}
	return false;
}

void kept_put(struct kept *k, const char *service, struct value *value, uint64_t asked)
{
	struct value *old;
	struct entry *e;

	if (k->pending < 0 || asked != k->turn || kept_find(k, service, &old))
		return;
	e = xcalloc(1, sizeof(*e));
	e->kept = k;
	e->value = value_ref(value);
	e->service = xstrdup(service);
	e->next = k->entries;
	k->entries = e;
	loop_timer_start(k->loop, &e->timer, KEPT_MS, on_old);
}

struct kept *kept_new(struct loop *l, int broker)
{
	struct kept *k = xcalloc(1, sizeof(*k));

	k->loop = l;
	k->broker = broker;
	k->pending = k->changed = k->watch.fd = -1;
	return k;
}

int kept_watch(struct kept *k, int pending, int changed)
{
	if (k->pending >= 0 || fd_set_nonblock(changed, true) < 0 ||
		loop_add(k->loop, &k->watch, changed, EPOLLIN, on_changed) < 0) {
		close(pending);
		close(changed);
		return -1;
	}
	k->pending = pending;
	k->changed = changed;
	return 0;
}

void kept_stop(struct kept *k)
{
	forget(k);
	loop_del(k->loop, &k->watch);
	close_and_reset(&k->pending);
	close_and_reset(&k->changed);
}

void kept_free(struct kept *k)
{
	if (k)
		kept_stop(k);
	free(k);
}

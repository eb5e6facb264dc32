/* SPDX-License-Identifier: Apache-2.0 */
/* Values of credentials: asked of hutch-secret.
 *
 * There is at most one question under way for a service; requests that come meanwhile wait for the
 * same answer, each gets a copy. hutch-secret is expected to answer within its own time limit;
 * should it not, or be gone, the requests fail and say so: none goes out without its credential. */
#include "gate/values.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "wire/broker.h"

#define ANSWER_MS 35000u /* hutch-secret gives up after 30 s */

/* One service of one set. */
struct values_item {
	struct values_set *set;
	struct values_item *next; /* in the set */
	char service[BROKER_NAME_MAX + 1];
	/* While it is pending: */
	struct fetch *fetch;
	struct values_item *next_waiting;
	/* Then, when it was fetched: the value, or why there is none. */
	bool fetched;
	struct secret *value;                /* owned */
	char failure[BROKER_REASON_MAX + 1]; /* "" for none */
};

/* A question that hutch-secret has not answered yet. */
struct fetch {
	struct values *values;
	struct fetch *next;
	struct loop_timer timer;
	uint32_t id;
	char service[BROKER_NAME_MAX + 1];
	struct values_item *waiting;
};

struct values {
	struct loop *loop;
	int broker; /* owned; -1: there is none, or none any more */
	struct loop_watch watch;
	struct secret *packet; /* owned: where answers arrive; NULL without a broker */
	struct fetch *fetches;
	uint32_t last_id;
};

static struct values_item *find_item(const struct values_set *s, const char *service)
{
	for (struct values_item *it = s->items; it; it = it->next)
		if (strcmp(it->service, service) == 0)
			return it;
	return NULL;
}

static void item_fail(struct values_item *it, const char *reason)
{
	it->fetched = true;
	snprintf(it->failure, sizeof(it->failure), "%.*s", BROKER_REASON_MAX, reason);
}

static void item_unwait(struct values_item *it)
{
	struct values_item **at = it->fetch ? &it->fetch->waiting : NULL;

	while (at && *at && *at != it)
		at = &(*at)->next_waiting;
	if (at && *at)
		*at = it->next_waiting;
	it->fetch = NULL;
}

/* ---- questions under way ---- */

static void fetch_unlink(struct fetch *f)
{
	struct fetch **at = &f->values->fetches;

	while (*at && *at != f)
		at = &(*at)->next;
	if (*at)
		*at = f->next;
	loop_timer_stop(f->values->loop, &f->timer);
}

/* Hand the answer to all who wait. Sets may end meanwhile, and with them their items. */
static void fetch_end(struct fetch *f, const void *value, size_t len, const char *failure)
{
	struct values_item *it;

	fetch_unlink(f);
	while ((it = f->waiting)) {
		struct values_set *s = it->set;
		struct err err = {0};

		f->waiting = it->next_waiting;
		it->fetch = NULL;
		it->fetched = true;
		if (len)
			it->value = secret_new(value, len, &err);
		if (failure || (len && !it->value))
			item_fail(it, failure ? failure : err.msg);
		if (!values_pending(s))
			s->ready(s);
	}
	free(f);
}

static void broker_lost(struct values *v)
{
	log_error("values: hutch-secret has gone");
	loop_del(v->loop, &v->watch);
	close_and_reset(&v->broker);
	while (v->fetches)
		fetch_end(v->fetches, NULL, 0, "the process that fetches credentials has ended");
}

static void on_late(struct loop *l, struct loop_timer *t)
{
	struct fetch *f = container_of(t, struct fetch, timer);

	fetch_end(f, NULL, 0, "the value could not be fetched in time");
}

static void take_answer(struct values *v, const struct broker_msg *m, const char *data)
{
	char reason[BROKER_REASON_MAX + 1];
	struct fetch *f = v->fetches;

	while (f && f->id != m->id)
		f = f->next;
	if (!f) {
		log_limited(LOG_WARN, "values: an answer that nobody waits for");
		return;
	}
	if (m->type == BROKER_FAILED)
		snprintf(reason, sizeof(reason), "%.*s", (int)m->len, data);
	fetch_end(f, data, m->type == BROKER_VALUE ? m->len : 0,
		m->type == BROKER_FAILED ? reason : NULL);
}

static void on_broker(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct values *v = container_of(w, struct values, watch);
	/* The value passes through nothing but locked memory and the kernel. */
	char *data = secret_bytes(v->packet);
	struct broker_msg m;
	struct iovec iov[2] = {{&m, sizeof(m)}, {data, SECRET_VALUE_MAX}};
	struct msghdr h = {.msg_iov = iov, .msg_iovlen = 2};
	ssize_t n;

	n = recvmsg(v->broker, &h, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || (h.msg_flags & MSG_TRUNC) || !broker_check(&m, data, (size_t)n, false))
		broker_lost(v);
	else
		take_answer(v, &m, data);
	if (n > 0)
		mem_wipe(data, MIN((size_t)n, (size_t)SECRET_VALUE_MAX));
}

/* ---- what one request needs ---- */

static struct fetch *fetch_start(struct values *v, const char *service)
{
	struct broker_msg m = {.type = BROKER_GET, .len = (uint32_t)strlen(service)};
	uint8_t packet[sizeof(m) + BROKER_NAME_MAX];
	struct fetch *f = v->fetches;

	while (f && strcmp(f->service, service) != 0)
		f = f->next;
	if (f || v->broker < 0)
		return f;
	m.id = ++v->last_id;
	memcpy(packet, &m, sizeof(m));
	memcpy(packet + sizeof(m), service, m.len);
	if (send(v->broker, packet, sizeof(m) + m.len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return NULL;
	f = xcalloc(1, sizeof(*f));
	f->values = v;
	f->id = m.id;
	memcpy(f->service, service, m.len);
	f->next = v->fetches;
	v->fetches = f;
	loop_timer_start(v->loop, &f->timer, ANSWER_MS, on_late);
	return f;
}

void values_want(struct values_set *s, const char *service)
{
	struct values_item *it;

	if (strlen(service) > BROKER_NAME_MAX || find_item(s, service))
		return;
	it = xcalloc(1, sizeof(*it));
	it->set = s;
	it->next = s->items;
	s->items = it;
	snprintf(it->service, sizeof(it->service), "%s", service);
	it->fetch = fetch_start(s->values, service);
	if (!it->fetch) {
		item_fail(it, "the process that fetches credentials does not answer");
		return;
	}
	it->next_waiting = it->fetch->waiting;
	it->fetch->waiting = it;
}

bool values_pending(const struct values_set *s)
{
	for (const struct values_item *it = s->items; it; it = it->next)
		if (!it->fetched)
			return true;
	return false;
}

int values_get(struct values_set *s, const char *service, struct secret **ret, struct err *err)
{
	const struct values_item *it = find_item(s, service);
	struct secret *copy;

	if (!it || !it->fetched)
		return err_set(err, ERR_BUG, "credential %s: was not asked for", service);
	if (it->failure[0])
		return err_set(err, ERR_USER, "credential %s: %s", it->service, it->failure);
	if (!it->value) {
		*ret = NULL;
		return 0;
	}
	copy = secret_new(secret_bytes(it->value), secret_len(it->value), err);
	if (!copy)
		return -1;
	*ret = copy;
	return 0;
}

void values_done(struct values_set *s)
{
	struct values_item *it;

	while ((it = s->items)) {
		s->items = it->next;
		item_unwait(it);
		secret_free(it->value);
		free(it);
	}
}

/* ---- the gate's ---- */

struct values *values_new(struct loop *l, int broker, struct err *err)
{
	struct values *v = xcalloc(1, sizeof(*v));

	v->loop = l;
	v->broker = broker;
	v->watch.fd = -1;
	if (broker < 0)
		return v;
	v->packet = secret_alloc(SECRET_VALUE_MAX, err);
	if (v->packet && loop_add(l, &v->watch, broker, EPOLLIN, on_broker) == 0)
		return v;
	if (v->packet)
		err_errno(err, "watch hutch-secret");
	values_free(v);
	return NULL;
}

void values_free(struct values *v)
{
	if (!v)
		return;
	while (v->fetches) {
		struct fetch *f = v->fetches;

		fetch_unlink(f);
		free(f);
	}
	loop_del(v->loop, &v->watch);
	close_and_reset(&v->broker);
	secret_free(v->packet);
	free(v);
}

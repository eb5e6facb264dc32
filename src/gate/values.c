/* SPDX-License-Identifier: Apache-2.0 */
/* Values of credentials: asked of hutch-secret.
 *
 * There is at most one question under way for a service. Requests that come meanwhile are not
 * served by its answer, which may be older than they are, but share the next question; unless that
 * answer lasts. hutch-secret is expected to answer within its own time limit; should it not, or be
 * gone, the requests fail and say so: none goes out without its credential. */
#include "gate/values.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "gate/filter.h"
#include "gate/kept.h"
#include "wire/broker.h"

#define ANSWER_MS 35000u /* hutch-secret gives up after 30 s */

static const char no_answer[] = "the process that fetches credentials does not answer";

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
	struct value *value;                 /* a reference, or NULL */
	char failure[BROKER_REASON_MAX + 1]; /* "" for none */
};

/* A question that hutch-secret has not answered yet, or that waits until it has answered the one
 * before. */
struct fetch {
	struct values *values;
	struct fetch *next;
	struct loop_timer timer;
	uint32_t id;    /* 0: not sent yet */
	uint64_t asked; /* kept_look at the time */
	char service[BROKER_NAME_MAX + 1];
	struct values_item *waiting;
};

struct values {
	struct loop *loop;
	int broker; /* owned; -1: there is none, or none any more */
	struct loop_watch watch;
	struct secret *packet; /* owned: where answers arrive; NULL without a broker */
	struct kept *kept;     /* owned */
	struct fetch *fetches;
	uint32_t last_id;
};

struct value *value_new(struct secret *s)
{
	struct value *v = xcalloc(1, sizeof(*v));

	v->refs = 1;
	v->secret = s;
	return v;
}

struct value *value_ref(struct value *v)
{
	if (v)
		v->refs++;
	return v;
}

void value_unref(struct value *v)
{
	if (!v || --v->refs)
		return;
	secret_free(v->secret);
	filter_free(v->mask);
	secret_free(v->pair);
	filter_free(v->pair_mask);
	free(v);
}

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

static void fetch_next(struct values *v, const char *service);
static void on_late(struct loop *l, struct loop_timer *t);

/* Hand the answer to all who wait. Sets may end meanwhile, and with them their items. */
static void fetch_end(struct fetch *f, struct value *value, const char *failure)
{
	struct values_item *it;

	fetch_unlink(f);
	while ((it = f->waiting)) {
		struct values_set *s = it->set;

		f->waiting = it->next_waiting;
		it->fetch = NULL;
		it->fetched = true;
		it->value = value_ref(value);
		if (failure)
			item_fail(it, failure);
		if (!values_pending(s))
			s->ready(s);
	}
	fetch_next(f->values, f->service);
	free(f);
}

static struct fetch *find_fetch(const struct values *v, const char *service, bool sent)
{
	struct fetch *f = v->fetches;

	while (f && ((f->id > 0) != sent || strcmp(f->service, service) != 0))
		f = f->next;
	return f;
}

static bool fetch_send(struct fetch *f, uint64_t now)
{
	struct broker_msg m = {.type = BROKER_GET, .len = (uint32_t)strlen(f->service)};
	uint8_t packet[sizeof(m) + BROKER_NAME_MAX];
	struct values *v = f->values;

	if (v->broker < 0)
		return false;
	v->last_id += v->last_id == UINT32_MAX ? 2 : 1; /* 0 is no number of a question */
	m.id = v->last_id;
	memcpy(packet, &m, sizeof(m));
	memcpy(packet + sizeof(m), f->service, m.len);
	if (send(v->broker, packet, sizeof(m) + m.len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return false;
	f->id = m.id;
	f->asked = now;
	loop_timer_start(v->loop, &f->timer, ANSWER_MS, on_late);
	return true;
}

/* The question before has its answer: ask the next one, if that is still necessary. */
static void fetch_next(struct values *v, const char *service)
{
	struct fetch *f = find_fetch(v, service, false);
	struct value *known;
	uint64_t now;

	if (!f || find_fetch(v, service, true))
		return;
	now = kept_look(v->kept);
	if (!f->waiting) {
		fetch_unlink(f);
		free(f);
	} else if (kept_find(v->kept, service, &known)) {
		known = value_ref(known);
		fetch_end(f, known, NULL);
		value_unref(known);
	} else if (!fetch_send(f, now)) {
		fetch_end(f, NULL, no_answer);
	}
}

static void broker_lost(struct values *v)
{
	log_error("values: hutch-secret has gone");
	kept_stop(v->kept);
	loop_del(v->loop, &v->watch);
	close_and_reset(&v->broker);
	while (v->fetches)
		fetch_end(v->fetches, NULL, "the process that fetches credentials has ended");
}

static void on_late(struct loop *l, struct loop_timer *t)
{
	struct fetch *f = container_of(t, struct fetch, timer);

	fetch_end(f, NULL, "the value could not be fetched in time");
}

static void take_answer(struct values *v, const struct broker_msg *m, const char *data)
{
	char reason[BROKER_REASON_MAX + 1];
	struct secret *secret = NULL;
	struct value *value = NULL;
	struct fetch *f = v->fetches;
	struct err err;

	while (f && f->id != m->id)
		f = f->next;
	if (!f) {
		log_limited(LOG_WARN, "values: an answer that nobody waits for");
		return;
	}
	reason[0] = '\0';
	if (m->type == BROKER_FAILED)
		snprintf(reason, sizeof(reason), "%.*s", (int)m->len, data);
	if (m->type == BROKER_VALUE || m->type == BROKER_LASTING) {
		secret = secret_new(data, m->len, &err);
		if (secret)
			value = value_new(secret);
		else
			snprintf(reason, sizeof(reason), "%.*s", BROKER_REASON_MAX, err.msg);
	}
	if (!reason[0] && m->type != BROKER_VALUE)
		kept_put(v->kept, f->service, value, f->asked);
	fetch_end(f, value, reason[0] ? reason : NULL);
	value_unref(value);
}

/* The descriptors that came with a message, of which only one may have any. Whether all is well. */
static bool take_fds(struct values *v, const struct broker_msg *m, struct msghdr *h)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(h);
	int fds[2] = {-1, -1};
	size_t len = 0;

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
		len = MIN(c->cmsg_len - CMSG_LEN(0), sizeof(fds));
		memcpy(fds, CMSG_DATA(c), len);
	}
	if (m && m->type == BROKER_WATCH && len == sizeof(fds))
		return kept_watch(v->kept, fds[0], fds[1]) == 0;
	close_and_reset(&fds[0]);
	close_and_reset(&fds[1]);
	return m && len == 0 && m->type != BROKER_WATCH;
}

static void on_broker(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct values *v = container_of(w, struct values, watch);
	/* The value passes through nothing but locked memory and the kernel. */
	char *data = secret_bytes(v->packet);
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))];
	struct broker_msg m;
	struct iovec iov[2] = {{&m, sizeof(m)}, {data, SECRET_VALUE_MAX}};
	struct msghdr h = {.msg_iov = iov,
		.msg_iovlen = 2,
		.msg_control = control,
		.msg_controllen = sizeof(control)};
	bool good;
	ssize_t n;

	n = recvmsg(v->broker, &h, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	good = n > 0 && !(h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) &&
	       broker_check(&m, data, (size_t)n, false);
	good = n < 0 || (take_fds(v, good ? &m : NULL, &h) && good);
	if (n <= 0 || !good)
		broker_lost(v);
	else if (m.type != BROKER_WATCH)
		take_answer(v, &m, data);
	if (n > 0)
		mem_wipe(data, MIN((size_t)n, (size_t)SECRET_VALUE_MAX));
}

/* ---- what one request needs ---- */

/* The question that a request which comes now can share, or a new one. NULL: nobody answers. */
static struct fetch *fetch_start(struct values *v, const char *service, uint64_t now)
{
	struct fetch *f = find_fetch(v, service, false);

	if (f)
		return f;
	f = xcalloc(1, sizeof(*f));
	f->values = v;
	snprintf(f->service, sizeof(f->service), "%s", service);
	if (!find_fetch(v, service, true) && !fetch_send(f, now)) {
		free(f);
		return NULL;
	}
	f->next = v->fetches;
	v->fetches = f;
	return f;
}

void values_want(struct values_set *s, const char *service)
{
	struct values_item *it;
	struct value *known;
	uint64_t now;

	if (strlen(service) > BROKER_NAME_MAX || find_item(s, service))
		return;
	now = kept_look(s->values->kept);
	it = xcalloc(1, sizeof(*it));
	it->set = s;
	it->next = s->items;
	s->items = it;
	snprintf(it->service, sizeof(it->service), "%s", service);
	if (kept_find(s->values->kept, service, &known)) {
		it->value = value_ref(known);
		it->fetched = true;
		return;
	}
	it->fetch = fetch_start(s->values, service, now);
	if (!it->fetch) {
		item_fail(it, no_answer);
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

int values_get(struct values_set *s, const char *service, struct value **ret, struct err *err)
{
	const struct values_item *it = find_item(s, service);

	if (!it || !it->fetched)
		return err_set(err, ERR_BUG, "credential %s: was not asked for", service);
	if (it->failure[0])
		return err_set(err, ERR_USER, "credential %s: %s", it->service, it->failure);
	*ret = it->value;
	return 0;
}

void values_done(struct values_set *s)
{
	struct values_item *it;

	while ((it = s->items)) {
		s->items = it->next;
		item_unwait(it);
		value_unref(it->value);
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
	v->kept = kept_new(l, broker);
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
	kept_free(v->kept);
	loop_del(v->loop, &v->watch);
	close_and_reset(&v->broker);
	secret_free(v->packet);
	free(v);
}

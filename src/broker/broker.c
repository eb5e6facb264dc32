/* SPDX-License-Identifier: Apache-2.0 */
/* The services of one sandbox and their values.
 *
 * Values of commands and of the keyring are kept for the reference's time to live, in locked
 * memory, and forgotten early when the reference changes: the stores are watched, and looked at
 * again for every question. A failure is kept for RETRY_MS, so that a guest cannot make the host
 * run commands as fast as it can send requests. Variables and files are read each time. What can
 * change only with the stores, or here, lasts (wire/broker.h); files do not. */
#include "broker/broker.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "broker/fetch.h"
#include "secret/source.h"

#define RETRY_MS    2000u
#define WAITING_MAX 16u /* questions for one service: the gate has one at a time */

struct entry {
	struct broker *broker;
	const char *service;
	struct source source; /* what follows came from, or comes from, this */
	struct fetch *fetch;  /* under way, or NULL */
	/* kept until the timer: a value, a failure, or (neither) that there is none */
	bool kept;
	struct secret *value;
	char failure[BROKER_REASON_MAX + 1];
	struct loop_timer timer;
	uint32_t waiting[WAITING_MAX];
	size_t n_waiting;
};

struct broker {
	struct loop *loop;
	int stores[2];
	const char *box;
	struct entry *entries;
	size_t n;
	broker_send_fn *send;
	broker_old_fn *old;
	void *arg;
};

/* ---- answers ---- */

/* Whether the gate may use it again without a question. Nobody watches the files of others. */
static bool lasts(const struct entry *e)
{
	return e->source.kind != SOURCE_FILE;
}

static void answer(
	struct broker *b, uint32_t id, struct secret *value, bool lasting, const char *failure)
{
	struct broker_msg m = {.type = BROKER_NONE, .id = id};
	char reason[BROKER_REASON_MAX];
	const void *data = NULL;

	if (failure) {
		/* Printable, whatever an error message quotes. */
		m.type = BROKER_FAILED;
		m.len = (uint32_t)MIN(strlen(failure), sizeof(reason) - 1);
		data = log_safe(reason, sizeof(reason), failure, m.len);
	} else if (value) {
		m.type = lasting ? BROKER_LASTING : BROKER_VALUE;
		m.len = (uint32_t)secret_len(value);
		data = secret_bytes(value);
	}
	b->send(b->arg, &m, data);
}

static void answer_waiting(struct entry *e, struct secret *value, const char *failure)
{
	for (size_t i = 0; i < e->n_waiting; i++)
		answer(e->broker, e->waiting[i], value, lasts(e), failure);
	e->n_waiting = 0;
}

/* ---- what is kept ---- */

static void forget(struct entry *e)
{
	if (e->kept && !e->failure[0])
		e->broker->old(e->broker->arg);
	loop_timer_stop(e->broker->loop, &e->timer);
	secret_free(e->value);
	e->value = NULL;
	e->failure[0] = '\0';
	e->kept = false;
}

static void on_old(struct loop *l, struct loop_timer *t)
{
	forget(container_of(t, struct entry, timer));
}

static void keep(struct entry *e, struct secret *value /* taken */, const char *failure)
{
	forget(e);
	e->kept = true;
	e->value = value;
	snprintf(e->failure, sizeof(e->failure), "%s", failure ? failure : "");
	loop_timer_start(
		e->broker->loop, &e->timer, value ? e->source.ttl_s * 1000ull : RETRY_MS, on_old);
}

static bool same_source(const struct source *a, const struct source *b)
{
	return a->kind == b->kind && a->own == b->own && a->ttl_s == b->ttl_s &&
	       a->stamp == b->stamp && a->arg && b->arg && strcmp(a->arg, b->arg) == 0;
}

/* ---- questions ---- */

static void on_fetched(void *arg, struct secret *value /* taken */, const char *failure);

/* What is kept under the name now. *ret_value is for a stored value, owned by the caller. Forgets
 * and ends what belongs to another reference. -1 with @err. */
static int look(struct entry *e, struct secret **ret_value, struct err *err)
{
	struct source now = {0};
	int result = source_find(e->broker->stores, e->service, &now, ret_value, err);

	if (result == 0 && same_source(&now, &e->source)) {
		source_done(&now);
		return 0;
	}
	forget(e);
	fetch_cancel(e->fetch);
	e->fetch = NULL;
	source_done(&e->source);
	e->source = now;
	return result;
}

/* Answer all who wait, at once or when the value has been fetched. */
static void serve(struct entry *e)
{
	struct broker *b = e->broker;
	_secret_ struct secret *value = NULL;
	struct err err;

	if (look(e, &value, &err) < 0) {
		answer_waiting(e, NULL, err.msg);
	} else if (e->kept) {
		answer_waiting(e, e->value, e->failure[0] ? e->failure : NULL);
	} else if (e->source.kind <= SOURCE_VALUE) {
		answer_waiting(e, value, NULL);
	} else if (e->source.kind <= SOURCE_FILE) {
		int result = fetch_now(&e->source, &value, &err);

		answer_waiting(e, value, result < 0 ? err.msg : NULL);
	} else if (!e->fetch) {
		e->fetch = fetch_start(b->loop, &e->source, e->service,
			e->source.own ? b->box : NULL, on_fetched, e, &err);
		if (!e->fetch) {
			log_error("service=%s: %s", e->service, err.msg);
			keep(e, NULL, "its command cannot be started");
			answer_waiting(e, NULL, e->failure);
		}
	}
}

static void on_fetched(void *arg, struct secret *value, const char *failure)
{
	struct entry *e = arg;

	e->fetch = NULL;
	log_info("service=%s fetched: %s", e->service, failure ? failure : value ? "yes" : "none");
	keep(e, value, failure);
	/* Looks again: the reference may have changed meanwhile. */
	if (e->n_waiting)
		serve(e);
}

static struct entry *find(struct broker *b, const char *name, size_t len)
{
	for (size_t i = 0; i < b->n; i++)
		if (strlen(b->entries[i].service) == len &&
			memcmp(b->entries[i].service, name, len) == 0)
			return &b->entries[i];
	return NULL;
}

bool broker_packet(struct broker *b, const void *packet, size_t size)
{
	const char *name = (const char *)packet + sizeof(struct broker_msg);
	struct broker_msg m;
	struct entry *e;

	if (size < sizeof(m))
		return false;
	memcpy(&m, packet, sizeof(m));
	if (!broker_check(&m, name, size, true))
		return false;
	e = find(b, name, m.len);
	if (!e) {
		answer(b, m.id, NULL, false, "this sandbox has no such credential");
	} else if (e->n_waiting == WAITING_MAX) {
		answer(b, m.id, NULL, false, "too many questions at once");
	} else {
		e->waiting[e->n_waiting++] = m.id;
		serve(e);
	}
	return true;
}

void broker_recheck(struct broker *b)
{
	for (size_t i = 0; i < b->n; i++) {
		struct entry *e = &b->entries[i];
		_secret_ struct secret *value = NULL;

		if (e->n_waiting)
			serve(e);
		else if (e->kept)
			look(e, &value, NULL);
	}
}

/* ---- the whole ---- */

struct broker *broker_new(struct loop *l, const int stores[2], const char *box,
	char *const *services, broker_send_fn *send, broker_old_fn *old, void *arg, struct err *err)
{
	struct broker *b = xcalloc(1, sizeof(*b));

	b->loop = l;
	b->stores[0] = stores[0];
	b->stores[1] = stores[1];
	b->box = box;
	b->send = send;
	b->old = old;
	b->arg = arg;
	while (services[b->n])
		b->n++;
	b->entries = xcalloc(b->n + 1, sizeof(*b->entries));
	for (size_t i = 0; i < b->n; i++)
		b->entries[i] = (struct entry){.broker = b, .service = services[i]};
	return b;
}

void broker_free(struct broker *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->n; i++) {
		struct entry *e = &b->entries[i];

		fetch_cancel(e->fetch);
		forget(e);
		source_done(&e->source);
	}
	free(b->entries);
	free(b);
}

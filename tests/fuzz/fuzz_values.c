/* SPDX-License-Identifier: Apache-2.0 */
/* The gate's end: packets in place of hutch-secret's answers. A request gets the value of a
 * well-formed answer to its own question, or none; malformed ones end the link, and with it the
 * wait. The next request gets the same at once if the answer lasts, there is a watch and it tells
 * of no change. Input: packets, each behind its length (2 bytes); the last byte says what the watch
 * does. */
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"
#include "gate/values.h"
#include "wire/broker.h"

#define SERVICES 2

enum { WATCH = 1, CHANGED = 2, PENDING = 4 };

static const char *const services[SERVICES] = {"one", "two"};
static unsigned n_ready;

static void on_ready(struct values_set *s)
{
	if (values_pending(s))
		abort();
	n_ready++;
}

/* The first well-formed answer to question @id before the first malformed packet, or NULL. A watch
 * without descriptors is malformed. */
static const uint8_t *expected(const uint8_t *p, size_t size, uint32_t id, struct broker_msg *ret)
{
	while (size >= 2) {
		size_t len = MIN((size_t)p[0] | (size_t)p[1] << 8, size - 2);

		p += 2;
		size -= 2;
		if (len < sizeof(*ret))
			return NULL;
		memcpy(ret, p, sizeof(*ret));
		if (!broker_check(ret, p + sizeof(*ret), len, false) || ret->type == BROKER_WATCH)
			return NULL;
		if (ret->id == id)
			return p + sizeof(*ret);
		p += len;
		size -= len;
	}
	return NULL;
}

/* Whether some packet ends the link. */
static bool broken(const uint8_t *p, size_t size)
{
	while (size >= 2) {
		size_t len = MIN((size_t)p[0] | (size_t)p[1] << 8, size - 2);
		struct broker_msg m;

		if (len < sizeof(m))
			return true;
		memcpy(&m, p + 2, sizeof(m));
		if (!broker_check(&m, p + 2 + sizeof(m), len, false) || m.type == BROKER_WATCH)
			return true;
		p += 2 + len;
		size -= 2 + len;
	}
	return false;
}

static void check(
	struct values_set *s, const char *service, const uint8_t *data, const struct broker_msg *m)
{
	struct value *value = NULL;
	int r = values_get(s, service, &value, NULL);

	if (!data || m->type == BROKER_FAILED) {
		if (r == 0)
			abort();
	} else if (m->type == BROKER_NONE) {
		if (r < 0 || value)
			abort();
	} else if (r < 0 || secret_len(value->secret) != m->len ||
		   memcmp(secret_bytes(value->secret), data, m->len) != 0) {
		abort();
	}
}

static void feed(int fd, const uint8_t *data, size_t size, struct loop *loop)
{
	while (size >= 2) {
		size_t len = MIN((size_t)data[0] | (size_t)data[1] << 8, size - 2);

		/* Fails when the gate has closed its end. */
		if (send(fd, data + 2, len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			return;
		loop_once(loop, 0, NULL);
		data += 2 + len;
		size -= 2 + len;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void give_watch(int sock, const int fds[2])
{
	const struct broker_msg m = {.type = BROKER_WATCH};

	if (fd_send(sock, &m, sizeof(m), fds, 2) < 0)
		abort();
}

/* The next request, while hutch-secret is still there. */
static void ask_again(struct values *v, const uint8_t *data, size_t size, unsigned flags)
{
	bool alive = !broken(data, size);

	for (uint32_t i = 0; i < SERVICES; i++) {
		struct values_set set = {.values = v, .ready = on_ready};
		struct broker_msg m;
		const uint8_t *answer = expected(data, size, i + 1, &m);
		bool lasts = answer && (m.type == BROKER_LASTING || m.type == BROKER_NONE);

		values_want(&set, services[i]);
		if (flags == WATCH && alive && lasts) {
			if (values_pending(&set))
				abort();
			check(&set, services[i], answer, &m);
		} else if (alive && !values_pending(&set)) {
			abort();
		}
		values_done(&set);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct loop *loop;
	struct values_set set = {.ready = on_ready};
	unsigned flags = size ? data[size - 1] & 7u : 0;
	int pair[2], watch[2] = {eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};

	if (!loop)
		loop = loop_new(NULL);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) < 0)
		return 0;
	n_ready = 0;
	set.values = values_new(loop, pair[0], NULL);
	if (flags & WATCH)
		give_watch(pair[1], watch);
	loop_once(loop, 0, NULL);
	for (int i = 0; i < SERVICES; i++)
		values_want(&set, services[i]);
	feed(pair[1], data, size, loop);
	if (flags & PENDING)
		eventfd_write(watch[0], 1);
	if (flags & CHANGED)
		eventfd_write(watch[1], 1);
	ask_again(set.values, data, size, flags);
	close(pair[1]);
	loop_once(loop, 0, NULL); /* those who still wait hear of it */
	if (values_pending(&set) || n_ready != 1)
		abort();
	for (uint32_t i = 0; i < SERVICES; i++) {
		struct broker_msg m;
		const uint8_t *answer = expected(data, size, i + 1, &m);

		check(&set, services[i], answer, &m);
	}
	values_done(&set);
	values_free(set.values);
	close(watch[0]);
	close(watch[1]);
	return 0;
}

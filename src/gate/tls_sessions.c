/* SPDX-License-Identifier: Apache-2.0 */
/* TLS sessions with servers. */
#include "gate/tls_sessions.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "policy/name.h"

#define EACH_MAX 4u /* of one server */

struct entry {
	SSL_SESSION *session; /* owned; NULL: free */
	uint64_t age;         /* the larger, the newer */
	uint16_t port;
	char name[POLICY_NAME_MAX + 1];
};

struct tls_sessions {
	struct entry entries[TLS_SESSIONS_MAX];
	uint64_t clock;
};

struct tls_sessions *tls_sessions_new(void)
{
	return xcalloc(1, sizeof(struct tls_sessions));
}

static void drop(struct entry *e)
{
	SSL_SESSION_free(e->session);
	e->session = NULL;
}

void tls_sessions_clear(struct tls_sessions *s)
{
	for (size_t i = 0; i < TLS_SESSIONS_MAX; i++)
		drop(&s->entries[i]);
}

void tls_sessions_free(struct tls_sessions *s)
{
	if (!s)
		return;
	tls_sessions_clear(s);
	free(s);
}

static bool is_for(const struct entry *e, const char *name, uint16_t port)
{
	return e->session && e->port == port && strcmp(e->name, name) == 0;
}

/* The oldest of this server when it has enough, else a free one, else the oldest. */
static struct entry *place(struct tls_sessions *s, const char *name, uint16_t port)
{
	struct entry *oldest = &s->entries[0], *own = NULL;
	unsigned n = 0;

	for (size_t i = 0; i < TLS_SESSIONS_MAX; i++) {
		struct entry *e = &s->entries[i];

		if (is_for(e, name, port)) {
			n++;
			if (!own || e->age < own->age)
				own = e;
		}
		if (!e->session || (oldest->session && e->age < oldest->age))
			oldest = e;
	}
	return n >= EACH_MAX ? own : oldest;
}

void tls_sessions_put(struct tls_sessions *s, const char *name, uint16_t port, SSL_SESSION *session)
{
	struct entry *e = place(s, name, port);

	drop(e);
	e->session = session;
	e->age = ++s->clock;
	e->port = port;
	snprintf(e->name, sizeof(e->name), "%s", name);
}

static bool is_fresh(const SSL_SESSION *session)
{
	X509 *cert = SSL_SESSION_get0_peer((SSL_SESSION *)(uintptr_t)session);
	time_t age = time(NULL) - (time_t)SSL_SESSION_get_time(session);

	return SSL_SESSION_is_resumable(session) && age >= 0 && age < TLS_SESSION_S &&
	       age < SSL_SESSION_get_timeout(session) && cert &&
	       X509_cmp_current_time(X509_get0_notAfter(cert)) > 0;
}

SSL_SESSION *tls_sessions_take(struct tls_sessions *s, const char *name, uint16_t port)
{
	struct entry *newest = NULL;
	SSL_SESSION *session;

	for (size_t i = 0; i < TLS_SESSIONS_MAX; i++) {
		struct entry *e = &s->entries[i];

		if (!is_for(e, name, port))
			continue;
		if (!is_fresh(e->session))
			drop(e);
		else if (!newest || e->age > newest->age)
			newest = e;
	}
	if (!newest)
		return NULL;
	session = newest->session;
	newest->session = NULL;
	return session;
}

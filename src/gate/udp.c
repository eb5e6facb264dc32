/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams of the guest. */
#include "gate/udp.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/mem.h"
#include "gate/flow.h"
#include "wire/chain.h"

#define BUCKETS        1024u /* power of two */
#define IDLE_MS        60000u
#define IDLE_BOTH_MS   180000u /* when datagrams have gone both ways */
#define SWEEP_MS       5000u
#define WAIT_MAX       (64u << 10) /* bytes of one flow that wait for its socket */
#define WAIT_ALL_MAX   (4u << 20)
#define BATCH          16 /* datagrams from one socket before others get their turn */
#define REFUSALS       64u
#define REFUSAL_NS     10000000000ull /* a line for the same destination */
#define REFUSAL_GAP_NS 100000000ull   /* between two lines in the long run … */
#define REFUSAL_BURST  50u            /* … and at once */
#define QUIC_PORT      443u

/* Who is meant, and who asks. */
struct udp_key {
	uint32_t addr; /* as the guest knows it */
	uint16_t port, guest_port;
};

struct udp_flow {
	struct udp *udp;
	struct udp_flow *hash_next, *next, *prev;
	struct udp_key key;
	char name[POLICY_NAME_MAX + 1]; /* or the address as text */
	bool is_addr, answered;
	struct policy_addr addr; /* with is_addr */
	struct dial dial;
	struct loop_watch watch; /* fd owned; -1: still dialling */
	struct buf wait;         /* datagrams for the socket to come, each behind its size */
	uint64_t started_ns, last_ns, bytes_up, bytes_down;
	char peer[POLICY_ADDR_TEXT + 8];
};

struct refusal {
	struct udp_key key; /* guest_port 0 */
	uint64_t at_ns;
};

struct udp {
	struct gate *gate;
	struct udp_flow *flows, *buckets[BUCKETS];
	unsigned n;
	size_t wait_all;
	struct loop_timer sweep;
	struct refusal refusals[REFUSALS]; /* that have a line in the log, a ring */
	unsigned refusal_at;
	uint64_t refusal_ns; /* when the next line would find its bucket empty */
	uint8_t data[LINK_DATA_MAX];
};

struct udp *udp_new(struct gate *g)
{
	struct udp *u = xcalloc(1, sizeof(*u));

	u->gate = g;
	return u;
}

static bool same_key(const struct udp_key *a, const struct udp_key *b)
{
	return a->addr == b->addr && a->port == b->port && a->guest_port == b->guest_port;
}

/* A guest that makes its flows collide slows its own datagrams, by UDP_FLOWS_MAX steps at most. */
static struct udp_flow **bucket(struct udp *u, const struct udp_key *k)
{
	uint32_t h = (k->addr ^ (uint32_t)k->port << 16 ^ k->guest_port) * 2654435761u;

	return &u->buckets[h >> 16 & (BUCKETS - 1)];
}

static struct udp_flow *find(struct udp *u, const struct udp_key *k)
{
	struct udp_flow *f = *bucket(u, k);

	while (f && !same_key(&f->key, k))
		f = f->hash_next;
	return f;
}

static struct policy_query query(const struct udp_flow *f)
{
	return (struct policy_query){.name = f->is_addr ? NULL : f->name,
		.addr = f->is_addr ? &f->addr : NULL,
		.port = f->key.port,
		.proto = POLICY_UDP};
}

static void refuse(struct udp *u, const struct udp_key *k)
{
	link_send_to(u->gate, LINK_UDP_REFUSE, k->guest_port, k->addr, k->port, NULL, 0);
}

/* ---- audit ---- */

static void audit_flow(struct udp_flow *f, enum audit_verdict verdict, const char *reason)
{
	struct gate *g = f->udp->gate;
	struct policy_query q = query(f);
	struct flow_decision d;

	gate_decide(g, &q, &d);
	audit_write(g->audit, &(struct audit_record){.verdict = verdict,
				      .proto = AUDIT_UDP,
				      .name = f->name,
				      .addr = f->peer[0] ? f->peer : NULL,
				      .port = f->key.port,
				      .rule = d.rule[0] ? d.rule : NULL,
				      .source = d.source[0] ? d.source : NULL,
				      .bytes_up = f->bytes_up,
				      .bytes_down = f->bytes_down,
				      .ms = (loop_now(g->loop) - f->started_ns) / 1000000,
				      .reason = reason});
}

/* Clients try a refused destination again and again: one line for it in a while. */
static bool may_audit_refusal(struct udp *u, const struct udp_key *key)
{
	uint64_t now = loop_now(u->gate->loop);
	struct udp_key k = {.addr = key->addr, .port = key->port};

	for (unsigned i = 0; i < REFUSALS; i++)
		if (u->refusals[i].at_ns && same_key(&u->refusals[i].key, &k) &&
			now - u->refusals[i].at_ns < REFUSAL_NS)
			return false;
	u->refusal_ns = MAX(u->refusal_ns, now);
	if (u->refusal_ns - now > REFUSAL_BURST * REFUSAL_GAP_NS) {
		log_limited(LOG_WARN, "datagrams refused, too many to record");
		return false;
	}
	u->refusal_ns += REFUSAL_GAP_NS;
	u->refusals[u->refusal_at++ % REFUSALS] = (struct refusal){k, now};
	return true;
}

/* ---- flows ---- */

/* Frees @f. @reason: NULL for an ordinary end. */
static void end_flow(struct udp_flow *f, enum audit_verdict verdict, const char *reason)
{
	struct udp *u = f->udp;
	struct udp_flow **at = bucket(u, &f->key);
	int fd = f->watch.fd;

	audit_flow(f, verdict, reason);
	while (*at != f)
		at = &(*at)->hash_next;
	*at = f->hash_next;
	if (f->prev)
		f->prev->next = f->next;
	else
		u->flows = f->next;
	if (f->next)
		f->next->prev = f->prev;
	u->n--;
	u->wait_all -= buf_len(&f->wait);
	dial_cancel(&f->dial);
	loop_del(u->gate->loop, &f->watch);
	if (fd >= 0)
		close(fd);
	buf_done(&f->wait);
	free(f);
}

void udp_free(struct udp *u)
{
	if (!u)
		return;
	while (u->flows)
		end_flow(u->flows, AUDIT_ALLOW, NULL);
	loop_timer_stop(u->gate->loop, &u->sweep);
	free(u);
}

static void on_sweep(struct loop *l, struct loop_timer *t)
{
	struct udp *u = container_of(t, struct udp, sweep);

	for (struct udp_flow *f = u->flows, *next; f; f = next) {
		uint64_t limit_ms = f->answered ? IDLE_BOTH_MS : IDLE_MS;

		next = f->next;
		if (loop_now(l) - f->last_ns >= limit_ms * 1000000ull)
			end_flow(f, AUDIT_ALLOW, NULL);
	}
	if (u->flows)
		loop_timer_start(l, t, SWEEP_MS, on_sweep);
}

/* An earlier datagram found nobody (ICMP): the guest is told, as on its own network. */
static void tell_unreachable(struct udp_flow *f)
{
	refuse(f->udp, &f->key);
}

static void put(struct udp_flow *f, const uint8_t *p, size_t len)
{
	ssize_t n = send(f->watch.fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	if (n < 0 && errno == ECONNREFUSED) {
		tell_unreachable(f);
		n = send(f->watch.fd, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	if (n < 0 && errno == EMSGSIZE)
		log_limited(LOG_INFO, "datagram of %zu bytes is too long for its way", len);
	f->bytes_up += n > 0 ? (size_t)n : 0;
}

/* Returns whether there may be more. */
static bool get(struct udp_flow *f)
{
	struct udp *u = f->udp;
	ssize_t n = recv(f->watch.fd, u->data, sizeof(u->data), MSG_DONTWAIT);

	if (n < 0 && (errno == ECONNREFUSED || errno == EHOSTUNREACH || errno == ENETUNREACH)) {
		tell_unreachable(f);
		return true;
	}
	if (n < 0)
		return false;
	f->answered = true;
	f->last_ns = loop_now(u->gate->loop);
	f->bytes_down += (size_t)n;
	/* What a VMM that does not read would make us keep is dropped. */
	if (link_has_room(u->gate))
		link_send_to(u->gate, LINK_UDP_IN, f->key.guest_port, f->key.addr, f->key.port,
			u->data, (size_t)n);
	return true;
}

static void on_socket(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct udp_flow *f = container_of(w, struct udp_flow, watch);

	for (int i = 0; i < BATCH; i++)
		if (!get(f))
			break;
}

static void send_waiting(struct udp_flow *f)
{
	uint16_t len;

	f->udp->wait_all -= buf_len(&f->wait);
	while (buf_len(&f->wait) > 0) {
		memcpy(&len, buf_head(&f->wait), sizeof(len));
		put(f, buf_head(&f->wait) + sizeof(len), len);
		buf_consume(&f->wait, sizeof(len) + len);
	}
	buf_done(&f->wait);
	buf_init(&f->wait, 0);
}

static void on_dialled(struct dial *d, int fd, const struct err *err)
{
	struct udp_flow *f = container_of(d, struct udp_flow, dial);
	char text[POLICY_ADDR_TEXT];

	if (fd >= 0 && loop_add(f->udp->gate->loop, &f->watch, fd, EPOLLIN, on_socket) == 0) {
		snprintf(f->peer, sizeof(f->peer), d->peer.v6 ? "[%s]:%u" : "%s:%u",
			policy_addr_text(&d->peer, text), d->port);
		send_waiting(f);
		return;
	}
	if (fd >= 0)
		close(fd);
	refuse(f->udp, &f->key);
	end_flow(f, err->class == ERR_USER ? AUDIT_DENY : AUDIT_ERROR,
		fd >= 0 ? "too many sockets" : err->msg);
}

static const char *check_addr(struct dial *d, const struct policy_addr *a)
{
	struct udp_flow *f = container_of(d, struct udp_flow, dial);
	struct policy_query q = query(f);

	q.addr = a;
	return gate_check_addr(f->udp->gate, &q);
}

static void keep_waiting(struct udp_flow *f, const uint8_t *p, uint16_t len)
{
	struct udp *u = f->udp;
	size_t need = sizeof(len) + len;

	if (u->wait_all + need > WAIT_ALL_MAX || need > buf_room(&f->wait))
		return;
	buf_put(&f->wait, &len, sizeof(len));
	buf_put(&f->wait, p, len);
	u->wait_all += need;
}

/* ---- a new one ---- */

/* What the guest's address stands for. False: nothing. */
static bool identify(struct udp_flow *f, char text[static POLICY_ADDR_TEXT])
{
	uint32_t addr = f->key.addr;
	const char *name = names_is_synthetic(addr) ? names_name(f->udp->gate->names, addr) : NULL;

	f->addr = policy_addr_v4(addr);
	f->is_addr = !name;
	snprintf(f->name, sizeof(f->name), "%s", name ? name : policy_addr_text(&f->addr, text));
	return name || !(names_is_synthetic(addr) || addr == GATE_GATEWAY);
}

/* Whether a flow may begin; else why not, in the log and for the user. */
static bool admit(struct udp_flow *f)
{
	struct gate *g = f->udp->gate;
	char text[POLICY_ADDR_TEXT];
	const char *why = CHAIN_NO_NAME;
	struct flow_decision d = {0};
	bool known = identify(f, text);
	struct policy_query q = query(f);

	if (known)
		gate_decide(g, &q, &d);
	if (d.allowed && f->udp->n < UDP_FLOWS_MAX)
		return true;
	if (known)
		why = d.allowed ? "too many flows of datagrams at once" : d.reason;
	if (may_audit_refusal(f->udp, &f->key))
		audit_flow(f, d.allowed ? AUDIT_ERROR : AUDIT_DENY, why);
	/* Every client that knows HTTP/3 tries it first and goes on with TCP: nothing to ask for.
	 */
	if (d.ask[0] && f->key.port != QUIC_PORT)
		asks_note(g->asks, d.ask);
	return false;
}

static struct udp_flow *begin(struct udp *u, const struct udp_key *key)
{
	struct udp_flow *f = xcalloc(1, sizeof(*f)), **at = bucket(u, key);
	struct loop *l = u->gate->loop;
	struct policy_query q;

	f->udp = u;
	f->key = *key;
	f->watch.fd = -1;
	f->started_ns = f->last_ns = loop_now(l);
	if (!admit(f)) {
		free(f);
		return NULL;
	}
	buf_init(&f->wait, WAIT_MAX);
	f->hash_next = *at;
	*at = f;
	f->next = u->flows;
	if (f->next)
		f->next->prev = f;
	u->flows = f;
	u->n++;
	if (!u->sweep.due_ns)
		loop_timer_start(l, &u->sweep, SWEEP_MS, on_sweep);
	q = query(f);
	gate_dial(u->gate, &f->dial, &q, check_addr, on_dialled);
	return f;
}

void udp_send(struct udp *u, const struct link_packet *p)
{
	struct udp_key key = {p->m.addr, p->m.port, (uint16_t)p->m.id};
	struct udp_flow *f;

	if (p->m.id == 0 || p->m.id > UINT16_MAX || key.port == 0) {
		log_limited(LOG_WARN, "link: a datagram without ports");
		return;
	}
	f = find(u, &key);
	if (!f)
		f = begin(u, &key);
	if (!f) {
		refuse(u, &key);
		return;
	}
	f->last_ns = loop_now(u->gate->loop);
	if (f->watch.fd < 0)
		keep_waiting(f, p->data, (uint16_t)p->m.len);
	else
		put(f, p->data, p->m.len);
}

void udp_recheck_all(struct udp *u)
{
	for (struct udp_flow *f = u->flows, *next; f; f = next) {
		struct policy_query q = query(f);
		struct flow_decision d;

		next = f->next;
		gate_decide(u->gate, &q, &d);
		if (!d.allowed) {
			refuse(u, &f->key);
			end_flow(f, AUDIT_DENY, d.reason);
		}
	}
}

void udp_cut_all(struct udp *u, const char *why)
{
	while (u->flows) {
		refuse(u, &u->flows->key);
		end_flow(u->flows, AUDIT_DENY, why);
	}
}

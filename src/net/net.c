/* SPDX-License-Identifier: Apache-2.0 */
/* The stack as a whole: flow table, what is owed and when, and the one place that writes frames.
 *
 * Flows live in a table of fixed size and refer to each other by slot. Three chains run through it:
 * by addresses (hash of a secret key, so that a guest cannot aim at one bucket), by id, and the out
 * list: flows that owe the guest a frame, in the order of asking. A freed flow that is still on the
 * out list stays there and is passed over.
 *
 * Timers are per flow; net.due_ms is a lower bound of all of them. Acknowledgements push a flow's
 * timer further away without touching the bound, so a busy stack walks the table once per timeout
 * at most, not once per packet. */
#include "net/net_int.h"

static uint32_t bucket_of(const struct net *n, uint32_t addr, uint16_t port, uint16_t guest_port)
{
	uint8_t k[8];

	put32(k, addr);
	put16(k + 4, port);
	put16(k + 6, guest_port);
	return (uint32_t)siphash(n->config.key, k, sizeof(k)) & (n->n_buckets - 1);
}

struct net *net_new(const struct net_owner_ops *ops, void *arg, const struct net_config *config)
{
	struct net *n = xcalloc(1, sizeof(*n));

	n->ops = ops;
	n->arg = arg;
	n->config = *config;
	n->caps.mtu = 1500;
	n->n_buckets = 1;
	while (n->n_buckets < config->flows_max)
		n->n_buckets *= 2;
	n->flows = xcalloc(config->flows_max, sizeof(*n->flows));
	n->buckets = xcalloc(n->n_buckets, sizeof(*n->buckets));
	n->ids = xcalloc(n->n_buckets, sizeof(*n->ids));
	n->replies = xcalloc(REPLIES_MAX, sizeof(*n->replies));
	n->udp_ring = xcalloc(1, NET_UDP_QUEUE);
	for (uint32_t i = 0; i < n->n_buckets; i++)
		n->buckets[i] = n->ids[i] = NO_SLOT;
	n->free_head = NO_SLOT;
	n->out_head = n->out_tail = NO_SLOT;
	n->icmp_tokens = ICMP_PER_SEC;
	return n;
}

void net_free(struct net *n)
{
	if (!n)
		return;
	net_reset(n);
	free(n->flows);
	free(n->buckets);
	free(n->ids);
	free(n->replies);
	free(n->udp_ring);
	free(n);
}

void net_link(struct net *n, const struct net_link_ops *ops, void *arg)
{
	n->link = ops;
	n->link_arg = arg;
}

void net_link_caps(struct net *n, const struct net_link_caps *caps)
{
	n->caps = *caps;
	n->caps.csum |= caps->tso;
	if (n->caps.mtu < 576)
		n->caps.mtu = 576;
}

void net_get_stats(const struct net *n, struct net_stats *ret)
{
	*ret = n->stats;
}

static uint32_t slot_of(const struct net *n, const struct flow *f)
{
	return (uint32_t)(f - n->flows);
}

struct net_flow flow_name(const struct net *n, const struct flow *f)
{
	return (struct net_flow){.id = f->id, .slot = slot_of(n, f)};
}

struct flow *flow_lookup(struct net *n, uint32_t addr, uint16_t port, uint16_t guest_port)
{
	uint32_t at = n->buckets[bucket_of(n, addr, port, guest_port)];

	for (; at != NO_SLOT; at = n->flows[at].hash_next) {
		struct flow *f = &n->flows[at];

		if (f->addr == addr && f->port == port && f->guest_port == guest_port)
			return f;
	}
	return NULL;
}

bool net_flow_find(const struct net *n, uint32_t id, struct net_flow *ret)
{
	uint32_t at = n->ids[id & (n->n_buckets - 1)];

	for (; at != NO_SLOT; at = n->flows[at].id_next) {
		if (n->flows[at].id == id) {
			*ret = (struct net_flow){.id = id, .slot = at};
			return true;
		}
	}
	return false;
}

/* The flow that @name means, or NULL when it is gone. */
static struct flow *named(struct net *n, struct net_flow name)
{
	if (name.id == 0 || name.slot >= n->config.flows_max || n->flows[name.slot].id != name.id)
		return NULL;
	return &n->flows[name.slot];
}

bool net_flow_target(
	const struct net *n, struct net_flow name, uint32_t *ret_addr, uint16_t *ret_port)
{
	if (name.slot >= n->config.flows_max || name.id == 0 || n->flows[name.slot].id != name.id)
		return false;
	*ret_addr = n->flows[name.slot].addr;
	*ret_port = n->flows[name.slot].port;
	return true;
}

/* The table is full: a flow that is only remembered may go. */
static void recycle(struct net *n)
{
	if (n->stats.flows < n->config.flows_max)
		return;
	for (uint32_t i = 0; i < n->config.flows_max; i++) {
		struct flow *f = &n->flows[(n->linger_scan + i) % n->config.flows_max];

		if (f->state == FLOW_LINGER) {
			n->linger_scan = slot_of(n, f) + 1;
			flow_free(n, f);
			return;
		}
	}
}

struct flow *flow_alloc(struct net *n, uint32_t addr, uint16_t port, uint16_t guest_port)
{
	uint32_t *bucket = &n->buckets[bucket_of(n, addr, port, guest_port)];
	struct net_flow taken;
	uint32_t slot, out_next;
	struct flow *f;
	bool queued;

	recycle(n);
	if (n->stats.flows == n->config.flows_max)
		return NULL;
	do
		n->last_id++;
	while (n->last_id == 0 || net_flow_find(n, n->last_id, &taken));
	slot = n->free_head != NO_SLOT ? n->free_head : n->n_used++;
	f = &n->flows[slot];
	if (slot == n->free_head)
		n->free_head = f->hash_next;
	queued = f->queued;
	out_next = f->out_next;
	*f = (struct flow){
		.id = n->last_id,
		.addr = addr,
		.port = port,
		.guest_port = guest_port,
		.queued = queued,
		.out_next = out_next,
		.hash_next = *bucket,
		.id_next = n->ids[n->last_id & (n->n_buckets - 1)],
	};
	*bucket = slot;
	n->ids[n->last_id & (n->n_buckets - 1)] = slot;
	n->stats.flows++;
	return f;
}

static bool half_open(enum flow_state s)
{
	return s == FLOW_ASKED || s == FLOW_SYN_RCVD;
}

void flow_set_state(struct net *n, struct flow *f, enum flow_state state)
{
	n->stats.half_open += (unsigned)half_open(state) - (unsigned)half_open(f->state);
	f->state = state;
	f->due_ms = 0;
	f->tries = 0;
}

void flow_free(struct net *n, struct flow *f)
{
	uint32_t slot = slot_of(n, f),
		 *at = &n->buckets[bucket_of(n, f->addr, f->port, f->guest_port)];

	while (*at != slot)
		at = &n->flows[*at].hash_next;
	*at = f->hash_next;
	at = &n->ids[f->id & (n->n_buckets - 1)];
	while (*at != slot)
		at = &n->flows[*at].id_next;
	*at = f->id_next;
	flow_set_state(n, f, FLOW_FREE);
	f->id = 0;
	f->hash_next = n->free_head;
	n->free_head = slot;
	n->stats.flows--;
}

void flow_queue(struct net *n, struct flow *f)
{
	uint32_t slot = slot_of(n, f);

	if (f->queued)
		return;
	f->queued = true;
	f->out_next = NO_SLOT;
	if (n->out_head == NO_SLOT)
		n->out_head = slot;
	else
		n->flows[n->out_tail].out_next = slot;
	n->out_tail = slot;
}

/* Back to the front: the link had no room for it. */
static void flow_requeue_first(struct net *n, struct flow *f)
{
	f->queued = true;
	f->out_next = n->out_head;
	n->out_head = slot_of(n, f);
	if (f->out_next == NO_SLOT)
		n->out_tail = n->out_head;
}

static struct flow *flow_dequeue(struct net *n)
{
	struct flow *f = &n->flows[n->out_head];

	n->out_head = f->out_next;
	f->queued = false;
	return f;
}

void flow_arm(struct net *n, struct flow *f, uint64_t after_ms)
{
	f->due_ms = n->ops->now_ms(n->arg) + after_ms;
	if (n->due_ms && n->due_ms <= f->due_ms)
		return;
	n->due_ms = f->due_ms;
	n->ops->wake_at(n->arg, n->due_ms);
}

void net_timer(struct net *n)
{
	uint64_t now = n->ops->now_ms(n->arg), next = UINT64_MAX;

	if (!n->due_ms)
		return;
	/* Flows that are armed from here lower the bound themselves. */
	n->due_ms = UINT64_MAX;
	for (uint32_t i = 0; i < n->n_used; i++) {
		struct flow *f = &n->flows[i];

		if (f->due_ms && f->due_ms <= now) {
			f->due_ms = 0;
			tcp_timeout(n, f);
		}
		if (f->due_ms)
			next = MIN(next, f->due_ms);
	}
	n->due_ms = next == UINT64_MAX ? 0 : next;
	if (n->due_ms)
		n->ops->wake_at(n->arg, n->due_ms);
}

uint8_t *reply_begin(struct net *n)
{
	if (n->n_replies == REPLIES_MAX) {
		n->stats.dropped++;
		return NULL;
	}
	return n->replies[(n->reply_at + n->n_replies) % REPLIES_MAX].frame;
}

void reply_commit(struct net *n, size_t len)
{
	n->replies[(n->reply_at + n->n_replies) % REPLIES_MAX].len = (uint32_t)len;
	n->n_replies++;
}

/* Write the replies that fit. False: the link has no room for all. */
static bool flush_replies(struct net *n)
{
	static const struct net_tx plain = {0};
	struct iovec iov[NET_IOV_MAX];
	unsigned n_iov;

	for (; n->n_replies; n->n_replies--) {
		struct reply *r = &n->replies[n->reply_at];

		if (n->link->tx_begin(n->link_arg, r->len, 0, iov, &n_iov) < 0)
			return false;
		n->link->tx_commit(n->link_arg, r->frame, r->len, 0, &plain);
		n->stats.frames_out++;
		n->reply_at = (n->reply_at + 1) % REPLIES_MAX;
	}
	return true;
}

void net_flush(struct net *n)
{
	if (!n->link)
		return;
	if (flush_replies(n) && udp_flush(n)) {
		while (n->out_head != NO_SLOT) {
			struct flow *f = flow_dequeue(n);
			enum tcp_out r = f->state == FLOW_FREE ? TCP_OUT_DONE : tcp_output(n, f);

			if (r == TCP_OUT_STUCK) {
				flow_requeue_first(n, f);
				break;
			}
			if (r == TCP_OUT_MORE)
				flow_queue(n, f);
		}
	}
	n->link->tx_flush(n->link_arg);
}

void net_input(struct net *n, const struct iovec *frame, unsigned n_iov, bool csum_ok)
{
	eth_input(n, frame, n_iov, csum_ok);
}

void net_reset(struct net *n)
{
	for (uint32_t i = 0; i < n->n_used; i++) {
		struct flow *f = &n->flows[i];

		if (f->state == FLOW_ASKED || f->state == FLOW_SYN_RCVD || f->state == FLOW_OPEN)
			n->ops->close(n->arg, flow_name(n, f));
		if (f->state != FLOW_FREE)
			flow_free(n, f);
	}
	while (n->out_head != NO_SLOT)
		flow_dequeue(n);
	n->n_replies = 0;
	n->udp_at = n->udp_used = 0;
	memset(n->dns, 0, sizeof(n->dns));
}

void net_flow_accept(struct net *n, struct net_flow name)
{
	struct flow *f = named(n, name);

	if (!f || f->state != FLOW_ASKED)
		return;
	flow_set_state(n, f, FLOW_SYN_RCVD);
	f->bits |= TCP_ACK_OWED;
	flow_queue(n, f);
}

void net_flow_refuse(struct net *n, struct net_flow name)
{
	struct flow *f = named(n, name);

	if (!f || f->state != FLOW_ASKED)
		return;
	n->stats.refused++;
	tcp_kill(n, f);
}

void net_flow_reset(struct net *n, struct net_flow name)
{
	struct flow *f = named(n, name);

	if (f && (f->state == FLOW_ASKED || f->state == FLOW_SYN_RCVD || f->state == FLOW_OPEN))
		tcp_kill(n, f);
}

void net_flow_readable(struct net *n, struct net_flow name)
{
	struct flow *f = named(n, name);

	/* Before the guest's ACK it is only remembered. */
	if (!f || (f->state != FLOW_OPEN && f->state != FLOW_SYN_RCVD) || (f->bits & TCP_EOF))
		return;
	f->bits |= TCP_READABLE;
	if (f->state == FLOW_OPEN)
		flow_queue(n, f);
}

void net_flow_writable(struct net *n, struct net_flow name)
{
	struct flow *f = named(n, name);

	if (!f || f->state != FLOW_OPEN)
		return;
	tcp_settle(n, f);
	if (f->state == FLOW_OPEN && !(f->bits & TCP_GUEST_FIN) && tcp_window_gain(n, f)) {
		f->bits |= TCP_ACK_OWED;
		flow_queue(n, f);
	}
}

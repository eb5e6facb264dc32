/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of src/net only. */
#pragma once

#include "base/mem.h"
#include "base/rd.h"
#include "net/net.h"

#define ETH_LEN       14u
#define IP_LEN        20u
#define TCP_LEN       20u
#define UDP_LEN       8u
#define IP_PAYLOAD_AT (ETH_LEN + IP_LEN)
#define ETHERTYPE_IP  0x0800u
#define ETHERTYPE_ARP 0x0806u
#define PROTO_ICMP    1u
#define PROTO_TCP     6u
#define PROTO_UDP     17u

#define NO_SLOT        UINT32_MAX
#define REPLIES_MAX    32u /* frames that belong to no flow and wait for room */
#define REPLY_BYTES    (NET_DNS_MAX + 64u)
#define DNS_SLOTS      256u /* questions under way */
#define ICMP_PER_SEC   200u /* unreachables, and how many may come in a burst */

/* Life of a flow. Every change goes through flow_set_state() or flow_free(). */
enum flow_state {
	/* Not in the hash; every other field is meaningless except `queued`, `out_next`. */
	FLOW_FREE,
	/* The owner was asked. Nothing may be sent; only its answer or the guest's RST ends it. */
	FLOW_ASKED,
	/* The owner accepted; the SYN-ACK is owed or unanswered. No bytes yet in either direction:
	 * data that comes with the SYN is not taken. */
	FLOW_SYN_RCVD,
	/* Bytes flow. Each direction ends on its own (TCP_GUEST_FIN, TCP_EOF). */
	FLOW_OPEN,
	/* Both directions ended, we first: the owner's side is closed, a late FIN is still
	 * acknowledged (a short TIME_WAIT). A new SYN may take the place. */
	FLOW_LINGER,
	/* A RST is owed; the owner's side is closed. Freed when the RST is out. */
	FLOW_DYING,
	FLOW_STATES,
};

/* What has happened, or is owed, in a flow. */
enum {
	TCP_ACK_OWED = 1 << 0,  /* an ACK (in SYN_RCVD: the SYN-ACK) is owed to the guest */
	TCP_READABLE = 1 << 1,  /* peek() may have something */
	TCP_EOF = 1 << 2,       /* peek() came to the end: our FIN has sequence number fin_seq */
	TCP_FIN_ACKED = 1 << 3, /* ... and the guest has it */
	TCP_WE_FIRST = 1 << 4,  /* our FIN went out before the guest's came in */
	TCP_GUEST_FIN = 1 << 5, /* the guest's FIN came, with everything before it */
	TCP_SHUT = 1 << 6,      /* ... and the owner knows */
	TCP_FORCE = 1 << 7,     /* send one byte into a closed window */
	TCP_WSCALE = 1 << 8,    /* window scaling is on, both ways */
};

struct flow {
	uint32_t id; /* 0: free */
	enum flow_state state;
	bool queued;         /* in the out list; survives flow_free */
	uint8_t guest_shift; /* of the windows that the guest announces */
	uint8_t dup_acks, tries;
	unsigned bits;
	uint16_t guest_port, port, mss; /* mss: the guest's */
	uint32_t addr;
	uint32_t rcv_nxt, rcv_adv;          /* next byte from the guest; right edge we announced */
	uint32_t snd_una, snd_nxt, snd_max; /* oldest unacknowledged, next, highest sent */
	uint32_t snd_wnd, snd_wl1, snd_wl2, wnd_max;
	uint32_t fin_seq;
	uint64_t due_ms; /* timer; 0: not armed */
	uint32_t hash_next, id_next, out_next;
};

struct dns_slot {
	uint32_t id; /* 0: free */
	uint16_t guest_port;
};

struct reply {
	uint32_t len;
	uint8_t frame[REPLY_BYTES];
};

struct net {
	const struct net_owner_ops *ops; /* borrowed */
	void *arg;
	const struct net_link_ops *link; /* borrowed; NULL: no guest */
	void *link_arg;
	struct net_link_caps caps;
	struct net_config config;

	struct flow *flows;      /* owned, config.flows_max */
	uint32_t *buckets, *ids; /* owned, n_buckets each: by addresses, by id */
	uint32_t n_buckets;      /* power of two */
	uint32_t n_used;         /* flows from here on were never used: their memory is not even touched */
	uint32_t free_head;      /* those that were, through hash_next */
	uint32_t out_head, out_tail;
	uint32_t last_id, last_dns;
	uint64_t due_ms;      /* no timer is due before; 0: none armed */
	uint32_t linger_scan; /* where to look for a flow to recycle */

	struct reply *replies; /* owned, REPLIES_MAX */
	unsigned reply_at, n_replies;
	struct dns_slot dns[DNS_SLOTS];
	uint8_t *udp_ring; /* owned, NET_UDP_QUEUE: frames, each behind its length; see udp.c */
	size_t udp_at, udp_used;
	unsigned icmp_tokens;
	uint64_t icmp_ms;
	struct net_stats stats;
};

/* One IPv4 packet from the guest, headers checked. */
struct ip_in {
	uint32_t src, dst;
	uint8_t proto;
	bool csum_ok;
	uint8_t head[60 + 8]; /* IP header and up to 8 bytes more, for ICMP errors */
	size_t head_len;
	struct iovec iov[NET_IOV_MAX]; /* what follows the IP header */
	unsigned n;
	size_t len;
};

/* sum.c: the Internet checksum over pieces of any length, and keyed hashing. */
struct sum {
	uint64_t acc;
	bool odd;
};
void sum_bytes(struct sum *s, const void *p, size_t len);
void sum_iov(struct sum *s, const struct iovec *iov, unsigned n, size_t len);
/* The 12 bytes that TCP and UDP put in front of themselves. Addresses in host order. */
void sum_pseudo(struct sum *s, uint32_t src, uint32_t dst, uint8_t proto, size_t len);
/* Folded and complemented, in memory order: store with memcpy; 0 over data that has its checksum.
 */
uint16_t sum_done(const struct sum *s);
/* Folded and not complemented: what an unfinished checksum starts from. */
uint16_t sum_partial(const struct sum *s);
uint64_t siphash(const uint8_t key[static 16], const void *p, size_t len);

static inline void put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
static inline void put32(uint8_t *p, uint32_t v)
{
	put16(p, (uint16_t)(v >> 16));
	put16(p + 2, (uint16_t)v);
}

/* Copy @len bytes at @off of @iov to @to; returns what was there. */
size_t net_iov_read(const struct iovec *iov, unsigned n, size_t off, void *to, size_t len);
/* The part [@off, @off + @len) of @in as pieces of its own (@out: as many as @n). */
unsigned net_iov_slice(
	struct iovec *out, const struct iovec *in, unsigned n, size_t off, size_t len);

/* ip.c */
void eth_input(struct net *n, const struct iovec *frame, unsigned n_iov, bool csum_ok);
/* Write Ethernet and IPv4 headers of a packet to the guest whose IP payload has @len bytes. */
void ip_header(uint8_t *p, uint32_t src, uint8_t proto, size_t len);
/* Destination unreachable for @in, rate-limited. */
void icmp_unreachable(struct net *n, const struct ip_in *in, uint8_t code);

/* net.c: frames without a flow. A slot to fill and reply_commit, or NULL: too many wait. */
uint8_t *reply_begin(struct net *n);
void reply_commit(struct net *n, size_t len);
struct flow *flow_lookup(struct net *n, uint32_t addr, uint16_t port, uint16_t guest_port);
/* A free flow, entered in the tables, or NULL: the table is full. */
struct flow *flow_alloc(struct net *n, uint32_t addr, uint16_t port, uint16_t guest_port);
void flow_set_state(struct net *n, struct flow *f, enum flow_state state);
void flow_free(struct net *n, struct flow *f);
/* Put it on the list of flows that net_flush serves. */
void flow_queue(struct net *n, struct flow *f);
void flow_arm(struct net *n, struct flow *f, uint64_t after_ms);
struct net_flow flow_name(const struct net *n, const struct flow *f);

/* udp.c, tcp.c, tcp_out.c */
void udp_input(struct net *n, struct ip_in *in);
/* Write the datagrams that fit. False: the link has no room for all. */
bool udp_flush(struct net *n);
void tcp_input(struct net *n, struct ip_in *in);
void tcp_timeout(struct net *n, struct flow *f);
/* The owner is told, the guest gets a RST. */
void tcp_kill(struct net *n, struct flow *f);
/* Tell the owner about the guest's end, and end what is finished. */
void tcp_settle(struct net *n, struct flow *f);
/* A RST that answers a segment without a flow. */
void tcp_stray(struct net *n, uint32_t addr, uint16_t port, uint16_t guest_port, uint32_t seq,
	uint32_t ack, bool with_ack);
enum tcp_out {
	TCP_OUT_DONE,  /* nothing more to send now */
	TCP_OUT_MORE,  /* there is more, others first */
	TCP_OUT_STUCK, /* the link has no room */
};
enum tcp_out tcp_output(struct net *n, struct flow *f);
/* How far the right edge would move if it were announced now. */
uint32_t tcp_window_gain(struct net *n, struct flow *f);

#define TCP_RTO_MS     1000u
#define TCP_RTO_MAX_MS 30000u
#define TCP_TRIES_MAX  12u
#define TCP_LINGER_MS  1000u
#define TCP_ASKED_MS   150000u /* longer than any connect() of the guest waits */
#define TCP_SHIFT      5u      /* of the windows that we announce */
#define TCP_WND_STEP   65536u  /* announce room in such steps */

#define TCPF_FIN 0x01u
#define TCPF_SYN 0x02u
#define TCPF_RST 0x04u
#define TCPF_PSH 0x08u
#define TCPF_ACK 0x10u

/* Sequence numbers wrap: a comes before b when the way forward from a to b is the shorter one. */
static inline bool seq_lt(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}
static inline bool seq_le(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) <= 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's only network peer: Ethernet, ARP, IPv4, ICMP, UDP and TCP, bytes in and bytes out.
 *
 * No descriptor, no clock, no allocation after net_new. Two neighbours, each a table of functions:
 * the *link* carries frames to the guest (dev/net.c), the *owner* holds the far end of every TCP
 * flow, answers DNS questions and carries datagrams (vmm/netgate.c). Functions of these tables must
 * not call back into net_*, except where it says so.
 *
 * Frames are written only by net_flush(). Everything else marks what is owed, in the fixed flow
 * table or in a bounded ring, so a guest without receive buffers delays itself and costs nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#define NET_GUEST_IP   0x0a00020fu /* 10.0.2.15 */
#define NET_GATEWAY_IP 0x0a000202u /* 10.0.2.2, DNS too */
#define NET_MTU        65520u      /* offered to the guest; see dev/net.c for why so large */
#define NET_IOV_MAX    288u        /* pieces of one frame */
#define NET_DNS_MAX    4096u       /* bytes of one DNS message over UDP */
#define NET_UDP_QUEUE  262144u     /* bytes of datagrams that wait for the guest's buffers */

extern const uint8_t net_gateway_mac[6], net_guest_mac[6];

struct net;

/* Names one TCP flow: the slot in a table of flows_max, and an id that is never used twice (in four
 * billion flows). A name whose flow is gone is harmless: functions that take one do nothing. */
struct net_flow {
	uint32_t id; /* never 0 */
	uint32_t slot;
};

/* What the guest's driver can take. */
struct net_link_caps {
	bool csum;    /* frames with unfinished checksums */
	bool tso;     /* TCP frames larger than its MTU (implies csum) */
	uint16_t mtu; /* of the interface, when TSO is off */
};

/* How to mark one frame in its virtio_net_hdr. */
struct net_tx {
	bool partial;      /* TCP checksum holds the pseudo header only */
	uint16_t gso_size; /* 0: one segment */
};

struct net_link_ops {
	/* Find room for one frame: @hdr_len bytes that come with tx_commit, and up to @want bytes
	 * of payload, to be written to iov[0 .. *ret_n) before it. Returns the payload bytes that
	 * fit (0 only when @want is 0), or -1: no room, net_flush() when there is. A frame begun
	 * and not committed leaves no trace. */
	ssize_t (*tx_begin)(void *arg, size_t hdr_len, size_t want, struct iovec iov[NET_IOV_MAX],
		unsigned *ret_n);
	void (*tx_commit)(void *arg, const uint8_t *hdr, size_t hdr_len, size_t payload_len,
		const struct net_tx *tx);
	/* A batch of frames is complete. */
	void (*tx_flush)(void *arg);
};

#define NET_AGAIN (-2)

struct net_owner_ops {
	/* The guest asks for @addr:@port (host order). False refuses at once; otherwise answer with
	 * net_flow_accept or net_flow_refuse, later and not from here. */
	bool (*open)(void *arg, struct net_flow f, uint32_t addr, uint16_t port);
	/* Bytes that the owner will surely take from now on, whatever their packaging. */
	size_t (*room)(void *arg, struct net_flow f);
	/* Take bytes from the guest. Returns how many, or -1 when the far end is gone for good.
	 * Never less than what room() promised; what is not taken the guest sends again, slowly. */
	ssize_t (*write)(void *arg, struct net_flow f, const struct iovec *iov, unsigned n);
	/* The guest has sent its last byte. False: bytes are still under way; asked again after
	 * net_flow_writable(). */
	bool (*shut)(void *arg, struct net_flow f);
	/* Copy bytes towards the guest, beginning @off bytes after the last discarded one, without
	 * consuming them. Returns their number, 0 at the end, NET_AGAIN when there are none yet
	 * (net_flow_readable() follows), or -1 when the far end broke. */
	ssize_t (*peek)(
		void *arg, struct net_flow f, size_t off, const struct iovec *iov, unsigned n);
	/* The guest has acknowledged @n bytes: they are not asked for again. */
	void (*discard)(void *arg, struct net_flow f, size_t n);
	/* The flow is over; @f is no longer used. Exactly once per flow that open() took. */
	void (*close)(void *arg, struct net_flow f);
	/* A DNS question; answer with net_dns_answer. False: dropped, the guest asks again. */
	bool (*dns)(void *arg, uint32_t id, const uint8_t *msg, size_t len);
	/* A datagram of @len bytes for @addr:@port; the bytes may change meanwhile. Answer with
	 * net_udp_answer as often as there is something, or net_udp_refuse. False: dropped. */
	bool (*udp)(void *arg, uint16_t guest_port, uint32_t addr, uint16_t port,
		const struct iovec *iov, unsigned n, size_t len);
	/* A monotonic clock. */
	uint64_t (*now_ms)(void *arg);
	/* Call net_timer() at @due_ms. A later call replaces an earlier one. */
	void (*wake_at)(void *arg, uint64_t due_ms);
};

struct net_config {
	uint8_t key[16];        /* secret: initial sequence numbers, table buckets */
	unsigned flows_max;     /* 1 .. 65536 */
	unsigned half_open_max; /* flows that wait for the owner or the guest's first ACK */
};

struct net_stats {
	uint64_t frames_in, frames_out, dropped, retransmits, refused;
	unsigned flows, half_open;
};

/* @ops, @arg are borrowed. */
struct net *net_new(const struct net_owner_ops *ops, void *arg, const struct net_config *config);
/* Closes all flows. */
void net_free(struct net *n);
/* Attach the link (borrowed), or detach it with NULL. Without one nothing is written. */
void net_link(struct net *n, const struct net_link_ops *ops, void *arg);
/* What the driver negotiated. */
void net_link_caps(struct net *n, const struct net_link_caps *caps);

/* One Ethernet frame from the guest. @csum_ok: its TCP or UDP checksum needs no check (the guest
 * left it unfinished because the link cannot corrupt it). The bytes may change meanwhile. */
void net_input(struct net *n, const struct iovec *frame, unsigned n_iov, bool csum_ok);
/* Write what is owed as far as the link has room. Call after each batch of other calls. */
void net_flush(struct net *n);
void net_timer(struct net *n);
/* The guest's driver is gone: close all flows, forget everything owed. */
void net_reset(struct net *n);

void net_flow_accept(struct net *n, struct net_flow f);
void net_flow_refuse(struct net *n, struct net_flow f);
/* End a flow with a reset, whether it was accepted or not. The owner's close() is called from here.
 */
void net_flow_reset(struct net *n, struct net_flow f);
/* There may be something to peek(), the end included; there may be room() again. */
void net_flow_readable(struct net *n, struct net_flow f);
void net_flow_writable(struct net *n, struct net_flow f);
/* The flow with @id, or false. */
bool net_flow_find(const struct net *n, uint32_t id, struct net_flow *ret);
/* Where the guest wants to go. False: the flow is gone. */
bool net_flow_target(
	const struct net *n, struct net_flow f, uint32_t *ret_addr, uint16_t *ret_port);

void net_dns_answer(struct net *n, uint32_t id, const uint8_t *msg, size_t len);

/* A datagram to the guest's port, from @addr:@port. Dropped when too many wait, or when it is
 * larger than the guest's interface takes. */
void net_udp_answer(struct net *n, uint16_t guest_port, uint32_t addr, uint16_t port,
	const uint8_t *msg, size_t len);
/* Nobody is at @addr:@port. */
void net_udp_refuse(struct net *n, uint16_t guest_port, uint32_t addr, uint16_t port);

void net_get_stats(const struct net *n, struct net_stats *ret);

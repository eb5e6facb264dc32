/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between the processes of one sandbox, on SOCK_SEQPACKET pairs made by hutch-box.
 *
 * One message is one packet: struct link_msg (host byte order, same machine) followed by @len bytes
 * of data, and at most one descriptor. The receiver checks type, length and descriptor count with
 * link_check() before it believes a field: a VMM taken over by its guest can send anything. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINK_DATA_MAX 65507u /* bytes after the header: the largest datagram of IPv4 */

enum link_type {
	/* box -> vmm */
	LINK_EXPORT = 1,  /* + directory fd; data: child name; arg: 1 = read-only */
	LINK_CONNECT,	  /* + stream fd; arg: guest vsock port. The fd becomes that connection; it is
			   * closed at once when the guest refuses. */
	LINK_SEAL,	  /* no more exports follow: confine yourself to these and begin to serve */
	/* vmm -> box */
	LINK_READY,	  /* jailed and serving; arg: mask of missing enum jail_layer */
	LINK_CONTROL,	  /* + stream fd: the guest's agent opened its control stream */
	/* vmm -> gate */
	LINK_TCP_OPEN,	  /* + stream fd; id: flow; addr, port: destination as the guest wrote it */
	LINK_DNS_QUERY,	  /* id: question; data: DNS message */
	/* gate -> vmm */
	LINK_TCP_ACCEPT,  /* id: flow. The guest's SYN is answered now. */
	LINK_TCP_REFUSE,  /* id: flow. Answered with a reset. The gate has closed its end. */
	LINK_TCP_RESET,	  /* id: flow. An accepted flow ends with a reset instead of a FIN. */
	LINK_DNS_ANSWER,  /* id: question; data: DNS message */
	/* Datagrams. id: the guest's port; addr, port: the other end, as the guest knows it */
	LINK_UDP_OUT,	  /* vmm -> gate; data: what the guest sent, perhaps nothing */
	LINK_UDP_IN,	  /* gate -> vmm; data: what came back */
	LINK_UDP_REFUSE,  /* gate -> vmm: nobody is there for the guest */
	LINK_SSH_AGENT,	  /* vmm -> box -> hutch-ssh; + stream fd: the guest wants the ssh-agent */
	LINK_TYPES,
};

struct link_msg {
	uint16_t type; /* enum link_type */
	uint16_t port; /* host order */
	uint32_t id;
	uint32_t addr; /* IPv4, host order */
	uint32_t arg;
	uint32_t len;  /* bytes of data that follow */
};

struct link_packet {
	struct link_msg m;
	uint8_t data[LINK_DATA_MAX];
};

/* Whether a packet of @size bytes with @nfds descriptors is well-formed for its type. */
bool link_check(const struct link_packet *p, size_t size, size_t nfds);
const char *link_type_name(uint16_t type);

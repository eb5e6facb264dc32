/* SPDX-License-Identifier: Apache-2.0 */
/* What a client's first bytes are: TLS with its server name, HTTP/1, HTTP/2, or something else.
 * Pure function of the bytes; call again with more (from the start) while it says SNIFF_MORE. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/name.h"

#define SNIFF_MAX      16384u /* SNIFF_MORE is never returned for this many bytes */
#define SNIFF_ALPN_MAX 16

enum sniff_kind {
	SNIFF_MORE, /* not decided yet. A server-speaks-first protocol stays here: use a timeout */
	SNIFF_TLS,  /* a complete ClientHello; struct sniff is filled */
	SNIFF_TLS_BAD, /* looks like TLS, but broken, too long or ambiguous: refuse. why is set */
	SNIFF_HTTP1, /* request line of HTTP/0.9, 1.0 or 1.1; the strict parser has the last word */
	SNIFF_HTTP2, /* HTTP/2 with prior knowledge */
	SNIFF_OTHER,
};

struct sniff {
	const char *why; /* SNIFF_TLS_BAD: static text */
	bool has_sni;
	char sni[POLICY_NAME_MAX + 1]; /* canonical; "" without has_sni */
	bool ech;        /* encrypted_client_hello present: the real name may be hidden */
	bool early_data; /* TLS 1.3 0-RTT offered */
	bool alpn_h2, alpn_http11;
	uint16_t max_version; /* 0x0303 TLS 1.2, 0x0304 TLS 1.3; highest offered, GREASE ignored */
	size_t n_alpn;        /* at most SNIFF_ALPN_MAX are kept */
	struct sniff_alpn {
		uint8_t len;
		uint8_t name[255];
	} alpn[SNIFF_ALPN_MAX];
};

enum sniff_kind sniff(const void *data, size_t len, struct sniff *ret);
/* Whether a server's first bytes are, or can become, its SETTINGS of HTTP/2 (RFC 9113, 3.4): it may send
 * them before the client has said that this is what it speaks. */
bool sniff_http2_settings(const void *data, size_t len);

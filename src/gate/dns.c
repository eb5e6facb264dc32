/* SPDX-License-Identifier: Apache-2.0 */
/* DNS towards the guest: one question in, at most one record out. */
#include "gate/dns.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rd.h"

#define CLASS_IN       1
#define FLAG_QR        0x8000u
#define FLAG_TC        0x0200u
#define FLAG_RD        0x0100u
#define FLAG_RA        0x0080u
#define TYPE_IXFR      251
#define TYPE_AXFR      252
#define EDNS_UDP_SIZE  1232
#define WIRE_NAME_MAX  255
#define ADDITIONAL_MAX 4
#define HEADER_LEN     12

/* Read an uncompressed name; its wire form goes to @wire (room for WIRE_NAME_MAX), its length is
 * returned, 0 on any error. Compression has no place in a question. */
static size_t read_wire_name(struct rd *r, uint8_t *wire)
{
	size_t n = 0;

	for (;;) {
		uint8_t len = rd_u8(r);
		const uint8_t *label = rd_bytes(r, len);

		if (!rd_ok(r) || len > 63 || n + 1 + len > WIRE_NAME_MAX)
			return 0;
		wire[n++] = len;
		if (len == 0)
			return n;
		memcpy(wire + n, label, len);
		n += len;
	}
}

/* Wire form to canonical text. False when it is no host name. The root becomes "". */
static bool name_text(const uint8_t *wire, char ret[POLICY_NAME_MAX + 1])
{
	char text[WIRE_NAME_MAX + 1];
	size_t n = 0;

	ret[0] = '\0';
	if (wire[0] == 0)
		return true;
	for (const uint8_t *p = wire; *p; p += 1 + *p) {
		/* A dot inside a label would look like two labels. */
		if (memchr(p + 1, '.', *p))
			return false;
		memcpy(text + n, p + 1, *p);
		n += *p;
		text[n++] = '.';
	}
	return policy_name_canon(text, n, ret, NULL) == 0;
}

/* The additional section: nothing of it is used but the presence of EDNS. */
static int parse_additional(struct rd *r, unsigned count, struct dns_query *q)
{
	int rcode = DNS_NOERROR;

	for (unsigned i = 0; i < count; i++) {
		uint8_t name[WIRE_NAME_MAX];
		size_t name_len = read_wire_name(r, name);
		uint16_t type = rd_be16(r);

		rd_be16(r); /* class; for OPT the UDP size: our answers are short enough for any */
		uint32_t ttl = rd_be32(r);
		rd_bytes(r, rd_be16(r));
		if (!rd_ok(r) || name_len == 0)
			return DNS_FORMERR;
		if (type != DNS_OPT)
			continue;
		if (q->edns || name_len != 1)
			return DNS_FORMERR;
		q->edns = true;
		if (((ttl >> 16) & 0xff) != 0)
			rcode = DNS_BADVERS;
	}
	return rd_done(r) ? rcode : DNS_FORMERR;
}

int dns_parse(const void *msg, size_t len, struct dns_query *ret)
{
	struct rd r = rd_make(msg, len);
	uint16_t flags, counts[4], class;
	size_t name_len;
	int rcode;

	*ret = (struct dns_query){0};
	ret->id = rd_be16(&r);
	flags = rd_be16(&r);
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		counts[i] = rd_be16(&r);
	if (!rd_ok(&r) || len > DNS_QUERY_MAX || (flags & FLAG_QR))
		return -1;
	ret->opcode = (flags >> 11) & 0xf;
	ret->rd = flags & FLAG_RD;
	if (ret->opcode != 0)
		return DNS_NOTIMP;
	if ((flags & FLAG_TC) || counts[0] != 1 || counts[1] != 0 || counts[2] != 0 ||
		counts[3] > ADDITIONAL_MAX)
		return DNS_FORMERR;
	name_len = read_wire_name(&r, ret->question);
	rd_copy(&r, ret->question + name_len, 4);
	if (!rd_ok(&r) || name_len == 0)
		return DNS_FORMERR;
	ret->question_len = name_len + 4;
	ret->type = (uint16_t)(ret->question[name_len] << 8 | ret->question[name_len + 1]);
	class = (uint16_t)(ret->question[name_len + 2] << 8 | ret->question[name_len + 3]);
	rcode = parse_additional(&r, counts[3], ret);
	if (rcode != DNS_NOERROR)
		return rcode;
	if (class != CLASS_IN || ret->type == TYPE_AXFR || ret->type == TYPE_IXFR)
		return DNS_REFUSED;
	return name_text(ret->question, ret->name) ? DNS_NOERROR : DNS_NXDOMAIN;
}

/* An answer with at most one record of @type and the data in @rdata. All or nothing. */
static int build(const struct dns_query *q, int rcode, uint16_t type, const void *rdata,
	size_t rdata_len, struct buf *out)
{
	size_t need = HEADER_LEN + q->question_len + (rdata_len ? 12 + rdata_len : 0) + 11;

	if (buf_room(out) < need)
		return -1;
	buf_put_be16(out, q->id);
	buf_put_be16(out, (uint16_t)(FLAG_QR | FLAG_RA | (unsigned)q->opcode << 11 |
				     (q->rd ? FLAG_RD : 0) | ((unsigned)rcode & 0xf)));
	buf_put_be16(out, q->question_len ? 1 : 0);
	buf_put_be16(out, rdata_len ? 1 : 0);
	buf_put_be16(out, 0);
	buf_put_be16(out, q->edns ? 1 : 0);
	buf_put(out, q->question, q->question_len);
	if (rdata_len) {
		buf_put_be16(out, 0xc000 | HEADER_LEN); /* the question's name */
		buf_put_be16(out, type);
		buf_put_be16(out, CLASS_IN);
		buf_put_be32(out, DNS_TTL);
		buf_put_be16(out, (uint16_t)rdata_len);
		buf_put(out, rdata, rdata_len);
	}
	if (q->edns) {
		buf_put_u8(out, 0);
		buf_put_be16(out, DNS_OPT);
		buf_put_be16(out, EDNS_UDP_SIZE);
		buf_put_be32(out, (uint32_t)rcode >> 4 << 24);
		buf_put_be16(out, 0);
	}
	return out->failed ? -1 : 0;
}

int dns_build(const struct dns_query *q, int rcode, uint32_t addr, struct buf *out)
{
	struct policy_addr a = policy_addr_v4(addr);

	return build(q, rcode, DNS_A, a.b, rcode == DNS_NOERROR && addr ? 4 : 0, out);
}

int dns_build_ptr(const struct dns_query *q, const char *target, struct buf *out)
{
	uint8_t wire[WIRE_NAME_MAX + 1];
	size_t n = 0;

	while (*target) {
		size_t len = strcspn(target, ".");

		if (len == 0 || len > 63 || n + len + 2 > WIRE_NAME_MAX)
			return build(q, DNS_SERVFAIL, 0, NULL, 0, out);
		wire[n++] = (uint8_t)len;
		memcpy(wire + n, target, len);
		n += len;
		target += len + (target[len] == '.');
	}
	wire[n++] = 0;
	return build(q, DNS_NOERROR, DNS_PTR, wire, n, out);
}

/* Whether @name is @zone or below it. */
static bool in_zone(const char *name, const char *zone)
{
	size_t n = strlen(name), z = strlen(zone);

	return n >= z && strcmp(name + n - z, zone) == 0 && (n == z || name[n - z - 1] == '.');
}

/* "4.3.2.1.in-addr.arpa" is 1.2.3.4 (host order); 0: not of that form. */
static uint32_t reverse_addr(const char *name)
{
	static const char zone[] = ".in-addr.arpa";
	size_t n = strlen(name), z = sizeof(zone) - 1;
	struct policy_addr a;

	if (n <= z || strcmp(name + n - z, zone) != 0 ||
		policy_addr_parse(name, n - z, &a, NULL) < 0 || a.v6)
		return 0;
	return (uint32_t)a.b[3] << 24 | (uint32_t)a.b[2] << 16 | (uint32_t)a.b[1] << 8 | a.b[0];
}

int dns_local(
	const struct dns_query *q, int rcode, struct names *names, bool reachable, struct buf *out)
{
	const char *name;
	uint32_t addr;

	if (rcode != DNS_NOERROR || !*q->name)
		return dns_build(q, rcode, 0, out);
	addr = reverse_addr(q->name);
	if (q->type == DNS_PTR && addr) {
		name = addr >> 24 == 127 ? "localhost" : names_name(names, addr);
		if (name)
			return dns_build_ptr(q, name, out);
	}
	if (in_zone(q->name, "localhost"))
		return dns_build(q, DNS_NOERROR, q->type == DNS_A ? 0x7f000001u : 0, out);
	if (in_zone(q->name, "invalid") || in_zone(q->name, "arpa"))
		return dns_build(q, DNS_NXDOMAIN, 0, out);
	if (!reachable && (in_zone(q->name, "local") || in_zone(q->name, "onion")))
		return dns_build(q, DNS_NXDOMAIN, 0, out);
	if (q->type != DNS_A)
		return dns_build(q, DNS_NOERROR, 0, out);
	addr = names_addr(names, q->name, reachable);
	return dns_build(q, addr ? DNS_NOERROR : DNS_SERVFAIL, addr, out);
}

int dns_tcp_next(
	const void *data, size_t len, const uint8_t **ret_msg, size_t *ret_len, size_t *ret_used)
{
	struct rd r = rd_make(data, len);
	uint16_t n = rd_be16(&r);

	if (!rd_ok(&r))
		return 0;
	if (n == 0 || n > DNS_QUERY_MAX)
		return -1;
	if (rd_left(&r) < n)
		return 0;
	*ret_msg = r.p;
	*ret_len = n;
	*ret_used = 2u + n;
	return 1;
}

int dns_tcp_put(struct buf *out, const struct buf *answer)
{
	size_t n = buf_len(answer);

	if (n > UINT16_MAX || buf_room(out) < n + 2)
		return -1;
	buf_put_be16(out, (uint16_t)n);
	return buf_put(out, buf_head(answer), n);
}

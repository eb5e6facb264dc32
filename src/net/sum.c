/* SPDX-License-Identifier: Apache-2.0 */
/* The Internet checksum (RFC 1071), SipHash-2-4, and scattered bytes. */
#include <endian.h>

#include "net/net_int.h"

/* The one's complement sum does not care for byte order as long as it is the same throughout, so
 * words are added as they lie in memory; a piece that begins at an odd offset is added swapped. */
void sum_bytes(struct sum *s, const void *p, size_t len)
{
	const uint8_t *at = p;
	uint64_t acc = 0;
	bool swap = s->odd;

	if (len & 1)
		s->odd = !s->odd;
	for (; len >= 4; at += 4, len -= 4) {
		uint32_t w;

		memcpy(&w, at, 4);
		acc += w;
	}
	if (len) {
		uint8_t rest[4] = {0};
		uint32_t w;

		memcpy(rest, at, len);
		memcpy(&w, rest, 4);
		acc += w;
	}
	while (acc >> 16)
		acc = (acc & 0xffff) + (acc >> 16);
	if (swap)
		acc = (acc & 0xff) << 8 | acc >> 8;
	s->acc += acc;
}

void sum_iov(struct sum *s, const struct iovec *iov, unsigned n, size_t len)
{
	for (unsigned i = 0; i < n && len; i++) {
		size_t k = MIN(len, iov[i].iov_len);

		sum_bytes(s, iov[i].iov_base, k);
		len -= k;
	}
}

void sum_pseudo(struct sum *s, uint32_t src, uint32_t dst, uint8_t proto, size_t len)
{
	uint8_t p[12] = {0};

	put32(p, src);
	put32(p + 4, dst);
	p[9] = proto;
	put16(p + 10, (uint16_t)len);
	sum_bytes(s, p, sizeof(p));
}

uint16_t sum_partial(const struct sum *s)
{
	uint64_t acc = s->acc;

	while (acc >> 16)
		acc = (acc & 0xffff) + (acc >> 16);
	return (uint16_t)acc;
}

uint16_t sum_done(const struct sum *s)
{
	return (uint16_t)~sum_partial(s);
}

static uint64_t rotl(uint64_t v, unsigned by)
{
	return v << by | v >> (64 - by);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

uint64_t siphash(const uint8_t key[static 16], const void *p, size_t len)
{
	const uint8_t *at = p;
	uint64_t k[2], v[4], last = (uint64_t)len << 56, m;

	memcpy(k, key, 16);
	k[0] = le64toh(k[0]);
	k[1] = le64toh(k[1]);
	v[0] = k[0] ^ 0x736f6d6570736575u;
	v[1] = k[1] ^ 0x646f72616e646f6du;
	v[2] = k[0] ^ 0x6c7967656e657261u;
	v[3] = k[1] ^ 0x7465646279746573u;
	for (; len >= 8; at += 8, len -= 8) {
		memcpy(&m, at, 8);
		m = le64toh(m);
		v[3] ^= m;
		sip_round(v);
		sip_round(v);
		v[0] ^= m;
	}
	for (size_t i = 0; i < len; i++)
		last |= (uint64_t)at[i] << (8 * i);
	v[3] ^= last;
	sip_round(v);
	sip_round(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

size_t net_iov_read(const struct iovec *iov, unsigned n, size_t off, void *to, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		size_t k;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		k = MIN(len - done, iov[i].iov_len - off);
		memcpy((uint8_t *)to + done, (const uint8_t *)iov[i].iov_base + off, k);
		done += k;
		off = 0;
	}
	return done;
}

unsigned net_iov_slice(
	struct iovec *out, const struct iovec *in, unsigned n, size_t off, size_t len)
{
	unsigned k = 0;

	for (unsigned i = 0; i < n && len; i++) {
		struct iovec v = in[i];

		if (off >= v.iov_len) {
			off -= v.iov_len;
			continue;
		}
		v.iov_base = (uint8_t *)v.iov_base + off;
		v.iov_len = MIN(v.iov_len - off, len);
		off = 0;
		len -= v.iov_len;
		out[k++] = v;
	}
	return k;
}

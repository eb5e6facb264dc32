/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a question. Properties: the answer is at most DNS_ANSWER_MAX, echoes id and
 * question, reads as a DNS message, and names keep their addresses. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rd.h"
#include "gate/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
	if (!ok)
		abort();
}

/* Read back what dns_local wrote. */
static void check_answer(const struct dns_query *q, const struct buf *out)
{
	struct rd r = rd_make(buf_head(out), buf_len(out));
	uint16_t flags, qd, an, ns, ar;

	require(buf_len(out) <= DNS_ANSWER_MAX);
	require(rd_be16(&r) == q->id);
	flags = rd_be16(&r);
	require(flags & 0x8000);
	qd = rd_be16(&r);
	an = rd_be16(&r);
	ns = rd_be16(&r);
	ar = rd_be16(&r);
	require(qd == (q->question_len > 0) && an <= 1 && ns == 0 && ar == q->edns);
	if (qd)
		require(memcmp(rd_bytes(&r, q->question_len), q->question, q->question_len) == 0);
	if (an) {
		require(rd_be16(&r) == 0xc00c);
		rd_bytes(&r, 8);
		rd_bytes(&r, rd_be16(&r));
	}
	if (ar)
		require(rd_bytes(&r, 11) != NULL);
	require(rd_done(&r));
}

static void one_message(struct names *names, const uint8_t *msg, size_t len, bool reachable)
{
	struct dns_query q;
	_buf_ struct buf out;
	int rcode = dns_parse(msg, len, &q);
	uint32_t addr;

	buf_init(&out, DNS_ANSWER_MAX);
	if (rcode < 0)
		return;
	require(dns_local(&q, rcode, names, reachable, &out) == 0);
	check_answer(&q, &out);
	if (rcode != DNS_NOERROR || !*q.name)
		return;
	require(strlen(q.name) <= POLICY_NAME_MAX);
	addr = names_addr(names, q.name, reachable);
	require(names_is_synthetic(addr));
	require(strcmp(names_name(names, addr), q.name) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t key[16];
	struct names *names = names_new(key);
	const uint8_t *msg;
	size_t len, used, at = 0;

	one_message(names, data, size, size & 1);
	while (dns_tcp_next(data + at, size - at, &msg, &len, &used) == 1) {
		require(used <= size - at && msg + len == data + at + used);
		one_message(names, msg, len, true);
		at += used;
	}
	names_free(names);
	return 0;
}

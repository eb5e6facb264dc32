/* SPDX-License-Identifier: Apache-2.0 */
/* A guest that talks to hutch-ssh, an agent that answers what it likes, and the text of
 * known_hosts. A host's signature cannot be guessed, so nothing is signed for a sandbox that is
 * bounded to hosts but what begins as a signature of its namespace; with any host only with keys that
 * the agent has under the name. Input: a byte of flags, then messages, each behind its length (2 bytes). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "ssh/filter.h"
#include "ssh/hosts.h"
#include "ssh/verify.h"

enum { FLAG_ANY_HOST = 1, FLAG_WILD_AGENT = 2, FLAG_NAMESPACE = 4 };

static const uint8_t *wild;
static size_t wild_len;
static unsigned n_signed;

static int agent(void *arg, const struct buf *request, struct buf *answer)
{
	const uint8_t flags = *(const uint8_t *)arg;
	struct ssh_sign s;

	if (*buf_head(request) == SSH_AGENTC_SIGN_REQUEST) {
		if (!ssh_get_sign(rd_make(buf_head(request) + 1, buf_len(request) - 1), &s))
			abort();
		if (!(flags & FLAG_WILD_AGENT) && !ssh_slice_is(s.key, "key"))
			abort();
		if (s.data.n < 13 || memcmp(s.data.p, "SSHSIG\0\0\0\3git", 13) != 0)
			n_signed++;
		else if (!(flags & (FLAG_NAMESPACE | FLAG_ANY_HOST)))
			abort();
	} else if (buf_len(request) != 1 || *buf_head(request) != SSH_AGENTC_REQUEST_IDENTITIES) {
		abort();
	}
	if (flags & FLAG_WILD_AGENT) {
		buf_put(answer, wild, wild_len);
	} else if (*buf_head(request) == SSH_AGENTC_SIGN_REQUEST) {
		buf_put_u8(answer, SSH_AGENT_SIGN_RESPONSE);
	} else {
		buf_put_u8(answer, SSH_AGENT_IDENTITIES_ANSWER);
		buf_put_be32(answer, 2);
		ssh_put_string(answer, "key", 3);
		ssh_put_string(answer, "name", 4);
		ssh_put_string(answer, "other", 5);
		ssh_put_string(answer, "else", 4);
	}
	return 0;
}

static void feed(struct ssh_conn *c, const uint8_t *p, size_t len)
{
	uint8_t *exact = xmalloc(len ? len : 1); /* ASan sees what is read beyond */
	struct buf reply;

	if (len)
		memcpy(exact, p, len);
	buf_init(&reply, SSH_MESSAGE_MAX);
	wild = exact;
	wild_len = len;
	ssh_conn_message(c, exact, len, &reply);
	if (buf_len(&reply) == 0 || reply.failed)
		abort();
	buf_done(&reply);
	/* The same bytes as a key with its signature, and as known_hosts. */
	if (len > 8) {
		size_t cut = len / 2;

		ssh_verify((struct ssh_slice){exact, cut},
			(struct ssh_slice){exact + cut, len - cut}, (struct ssh_slice){exact, 8});
	}
	free(exact);
}

static void read_hosts(const uint8_t *p, size_t len)
{
	_free_ char *text = xstrndup((const char *)p, len);
	struct strv out = {0};

	ssh_hosts_find(text, "git.example", &out);
	ssh_hosts_find(text, "[git.example]:2222", &out);
	for (size_t i = 0; i < out.n; i++)
		if (strlen(out.v[i]) != 50 || strncmp(out.v[i], "SHA256:", 7) != 0)
			abort();
	strv_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ssh_rules rules = {0};
	struct ssh_conn c = {.rules = &rules, .ask = agent};
	uint8_t flags;

	if (size == 0)
		return 0;
	flags = *data++;
	size--;
	read_hosts(data, size);
	strv_add(&rules.keys, "name");
	rules.any_host = flags & FLAG_ANY_HOST;
	if (flags & FLAG_NAMESPACE)
		strv_add(&rules.namespaces, "git");
	c.arg = &flags;
	n_signed = 0;
	while (size >= 2) {
		size_t len = MIN((size_t)data[0] | (size_t)data[1] << 8, size - 2);

		feed(&c, data + 2, len);
		data += 2 + len;
		size -= 2 + len;
	}
	if (n_signed && !rules.any_host)
		abort();
	strv_done(&rules.keys);
	strv_done(&rules.namespaces);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The SSH agent protocol. */
#include "ssh/proto.h"

#include <string.h>

#define SESSION_MAX 128u /* bytes of a session identifier; a hash */

enum { SSH_MSG_USERAUTH_REQUEST = 50 };

bool ssh_slice_eq(struct ssh_slice a, struct ssh_slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

bool ssh_slice_is(struct ssh_slice a, const char *text)
{
	return a.n == strlen(text) && memcmp(a.p, text, a.n) == 0;
}

struct ssh_slice ssh_get_string(struct rd *r)
{
	size_t n = rd_be32(r);
	const uint8_t *p = rd_bytes(r, n);

	return p ? (struct ssh_slice){p, n} : (struct ssh_slice){NULL, 0};
}

void ssh_put_string(struct buf *b, const void *p, size_t n)
{
	buf_put_be32(b, (uint32_t)n);
	buf_put(b, p, n);
}

bool ssh_get_sign(struct rd r, struct ssh_sign *ret)
{
	ret->key = ssh_get_string(&r);
	ret->data = ssh_get_string(&r);
	ret->flags = rd_be32(&r);
	return rd_done(&r) && ret->key.n > 0;
}

static bool is_flag(struct rd *r, bool *ret)
{
	uint8_t v = rd_u8(r);

	*ret = v == 1;
	return v <= 1;
}

bool ssh_get_login(struct ssh_slice data, struct ssh_login *ret)
{
	struct rd r = rd_make(data.p, data.n);
	struct ssh_slice service, method;
	bool signs, hostbound;
	uint8_t type;

	*ret = (struct ssh_login){.session = ssh_get_string(&r)};
	type = rd_u8(&r);
	ret->user = ssh_get_string(&r);
	service = ssh_get_string(&r);
	method = ssh_get_string(&r);
	if (!is_flag(&r, &signs))
		return false;
	ret->algorithm = ssh_get_string(&r);
	ret->key = ssh_get_string(&r);
	if (!rd_ok(&r))
		return false;
	hostbound = ssh_slice_is(method, "publickey-hostbound-v00@openssh.com");
	if (hostbound)
		ret->host_key = ssh_get_string(&r);
	else if (!ssh_slice_is(method, "publickey"))
		return false;
	return rd_done(&r) && type == SSH_MSG_USERAUTH_REQUEST && signs &&
	       ssh_slice_is(service, "ssh-connection") && ret->session.n > 0 &&
	       ret->session.n <= SESSION_MAX && (!hostbound || ret->host_key.n > 0);
}

bool ssh_get_namespace(struct ssh_slice data, struct ssh_slice *ret)
{
	struct rd r = rd_make(data.p, data.n);
	const uint8_t *magic = rd_bytes(&r, 6);
	struct ssh_slice hash;

	if (!magic || memcmp(magic, "SSHSIG", 6) != 0)
		return false;
	*ret = ssh_get_string(&r);
	ssh_get_string(&r); /* reserved */
	ssh_get_string(&r); /* algorithm */
	hash = ssh_get_string(&r);
	return rd_done(&r) && ret->n > 0 && hash.n > 0;
}

bool ssh_get_bind(struct rd r, struct ssh_bind *ret)
{
	ret->host_key = ssh_get_string(&r);
	ret->session = ssh_get_string(&r);
	ret->signature = ssh_get_string(&r);
	return is_flag(&r, &ret->forwarding) && rd_done(&r) && ret->host_key.n > 0 &&
	       ret->session.n > 0 && ret->session.n <= SESSION_MAX;
}

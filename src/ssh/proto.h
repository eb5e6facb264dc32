/* SPDX-License-Identifier: Apache-2.0 */
/* The SSH agent protocol (draft-miller-ssh-agent), as far as we read it: pure. Slices point into
 * the message. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/rd.h"

#define SSH_MESSAGE_MAX (256u * 1024u) /* bytes behind the length, as OpenSSH has it */

enum ssh_agent_type {
	SSH_AGENT_FAILURE = 5,
	SSH_AGENT_SUCCESS = 6,
	SSH_AGENTC_REQUEST_IDENTITIES = 11,
	SSH_AGENT_IDENTITIES_ANSWER = 12,
	SSH_AGENTC_SIGN_REQUEST = 13,
	SSH_AGENT_SIGN_RESPONSE = 14,
	SSH_AGENTC_EXTENSION = 27,
};

struct ssh_slice {
	const uint8_t *p;
	size_t n;
};
bool ssh_slice_eq(struct ssh_slice a, struct ssh_slice b);
bool ssh_slice_is(struct ssh_slice a, const char *text);

/* "string" of RFC 4251: bad when it does not fit. */
struct ssh_slice ssh_get_string(struct rd *r);
void ssh_put_string(struct buf *b, const void *p, size_t n);

/* SSH_AGENTC_SIGN_REQUEST behind its type. False: malformed. */
struct ssh_sign {
	struct ssh_slice key, data;
	uint32_t flags;
};
bool ssh_get_sign(struct rd r, struct ssh_sign *ret);

/* What a client signs to log in: RFC 4252, 7, or publickey-hostbound-v00@openssh.com. False: it is
 * something else. */
struct ssh_login {
	struct ssh_slice session, user, algorithm, key;
	struct ssh_slice host_key; /* {NULL}: not hostbound */
};
bool ssh_get_login(struct ssh_slice data, struct ssh_login *ret);

/* What "ssh-keygen -Y sign" has signed (OpenSSH's PROTOCOL.sshsig): the namespace that the signature is
 * good for. False: it is something else. */
bool ssh_get_namespace(struct ssh_slice data, struct ssh_slice *ret);

/* session-bind@openssh.com behind the extension's name. False: malformed. */
struct ssh_bind {
	struct ssh_slice host_key, session, signature;
	bool forwarding;
};
bool ssh_get_bind(struct rd r, struct ssh_bind *ret);

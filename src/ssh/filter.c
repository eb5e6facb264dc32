/* SPDX-License-Identifier: Apache-2.0 */
/* What of an ssh-agent one connection of the guest may use. */
#include "ssh/filter.h"

#include <stdio.h>
#include <string.h>

#include "ssh/verify.h"

#define KEYS_MAX 2048u /* as OpenSSH has it */

static bool is_named(const struct ssh_rules *rules, struct ssh_slice key, struct ssh_slice comment)
{
	char print[SSH_FINGERPRINT];

	if (rules->any_key)
		return true;
	ssh_fingerprint(key, print);
	for (size_t i = 0; i < rules->keys.n; i++)
		if (strcmp(rules->keys.v[i], print) == 0 || ssh_slice_is(comment, rules->keys.v[i]))
			return true;
	return false;
}

/* Ask for the agent's identities. With @reply, the named ones go there; returns whether @key (with
 * p) is one of them. -1: the agent does not answer as it should. */
static int identities(struct ssh_conn *c, struct ssh_slice key, struct buf *reply)
{
	_buf_ struct buf request = {.max = 16}, answer = {.max = SSH_MESSAGE_MAX};
	_buf_ struct buf list = {.max = SSH_MESSAGE_MAX - 16};
	struct rd r;
	uint32_t n, kept = 0;
	bool found = false;

	buf_put_u8(&request, SSH_AGENTC_REQUEST_IDENTITIES);
	if (c->ask(c->arg, &request, &answer) < 0)
		return -1;
	r = rd_make(buf_head(&answer), buf_len(&answer));
	if (rd_u8(&r) != SSH_AGENT_IDENTITIES_ANSWER)
		return -1;
	n = rd_be32(&r);
	for (uint32_t i = 0; i < n && n <= KEYS_MAX; i++) {
		struct ssh_slice blob = ssh_get_string(&r), comment = ssh_get_string(&r);

		if (!rd_ok(&r))
			return -1;
		if (!is_named(c->rules, blob, comment))
			continue;
		ssh_put_string(&list, blob.p, blob.n);
		ssh_put_string(&list, comment.p, comment.n);
		kept++;
		found |= key.p && ssh_slice_eq(blob, key);
	}
	if (!rd_done(&r) || n > KEYS_MAX || list.failed)
		return -1;
	if (reply) {
		buf_put_u8(reply, SSH_AGENT_IDENTITIES_ANSWER);
		buf_put_be32(reply, kept);
		buf_put(reply, buf_head(&list), buf_len(&list));
	}
	return found;
}

static bool is_host(const struct ssh_rules *rules, const char *host_key, struct ssh_slice user)
{
	for (size_t i = 0; i < rules->host_keys.n; i++) {
		const char *entry = rules->host_keys.v[i], *at = strchr(entry, '@');
		size_t n = at ? (size_t)(at - entry) : 0;

		if (strcmp(at ? at + 1 : entry, host_key) == 0 &&
			(!at || (user.n == n && memcmp(user.p, entry, n) == 0)))
			return true;
	}
	return false;
}

static const char *check_namespace(const struct ssh_rules *rules, struct ssh_slice name)
{
	for (size_t i = 0; i < rules->namespaces.n; i++)
		if (ssh_slice_is(name, rules->namespaces.v[i]))
			return NULL;
	return "refused: not a signature of this sandbox";
}

/* NULL when the session and what is signed go together, else what is wrong. */
static const char *check_login(const struct ssh_conn *c, const struct ssh_sign *s)
{
	struct ssh_slice session = {c->session, c->session_len};
	struct ssh_slice name;
	struct ssh_login login;
	char print[SSH_FINGERPRINT];

	if (ssh_get_namespace(s->data, &name))
		return check_namespace(c->rules, name);
	if (c->spoiled)
		return "refused: a session that could not be bound";
	if (!c->host_key[0])
		return "refused: the client did not say where it logs in";
	if (!ssh_get_login(s->data, &login))
		return "refused: not a log-in";
	if (!ssh_slice_eq(login.session, session) || !ssh_slice_eq(login.key, s->key))
		return "refused: a log-in of another session or key";
	if (login.host_key.p && strcmp(ssh_fingerprint(login.host_key, print), c->host_key) != 0)
		return "refused: a log-in at another host";
	if (!is_host(c->rules, c->host_key, login.user))
		return "refused: not a host of this sandbox";
	return NULL;
}

static const char *sign(
	struct ssh_conn *c, struct rd r, const uint8_t *message, size_t len, struct buf *reply)
{
	_buf_ struct buf request = {.max = SSH_MESSAGE_MAX}, answer = {.max = SSH_MESSAGE_MAX};
	struct ssh_sign s;
	const char *wrong;
	int named;

	if (!ssh_get_sign(r, &s))
		return "refused: malformed";
	wrong = c->rules->any_host ? NULL : check_login(c, &s);
	if (wrong)
		return wrong;
	named = identities(c, s.key, NULL);
	if (named <= 0)
		return named < 0 ? "refused: the agent does not answer"
				 : "refused: not a key of this sandbox";
	buf_put(&request, message, len);
	if (c->ask(c->arg, &request, &answer) < 0)
		return "refused: the agent does not answer";
	/* A signature or a failure, nothing else of the agent's. */
	if (buf_len(&answer) == 0 || *buf_head(&answer) != SSH_AGENT_SIGN_RESPONSE)
		return "refused: by the agent";
	buf_put(reply, buf_head(&answer), buf_len(&answer));
	return "signed";
}

static const char *bind(struct ssh_conn *c, struct rd r, struct buf *reply)
{
	struct ssh_bind b;

	/* Whatever goes wrong here is wrong for the rest of the connection. */
	if (!ssh_get_bind(r, &b) || b.forwarding || c->n_binds == SSH_BINDS_MAX ||
		!ssh_verify(b.host_key, b.signature, b.session)) {
		c->spoiled = true;
		return "refused: a session that cannot be bound";
	}
	c->n_binds++;
	memcpy(c->session, b.session.p, b.session.n);
	c->session_len = b.session.n;
	ssh_fingerprint(b.host_key, c->host_key);
	buf_put_u8(reply, SSH_AGENT_SUCCESS);
	return "bound";
}

static const char *answer(struct ssh_conn *c, const uint8_t *message, size_t len, struct buf *reply)
{
	static const struct ssh_slice none = {NULL, 0};
	struct rd r = rd_make(message, len);

	switch (rd_u8(&r)) {
	case SSH_AGENTC_REQUEST_IDENTITIES:
		if (!rd_done(&r))
			return "refused: malformed";
		return identities(c, none, reply) < 0 ? "refused: the agent does not answer"
						      : "listed";
	case SSH_AGENTC_SIGN_REQUEST:
		return sign(c, r, message, len, reply);
	case SSH_AGENTC_EXTENSION:
		if (!ssh_slice_is(ssh_get_string(&r), "session-bind@openssh.com"))
			return "refused: an extension";
		return bind(c, r, reply);
	default:
		return "refused: not something that a sandbox may do";
	}
}

const char *ssh_conn_message(
	struct ssh_conn *c, const uint8_t *message, size_t len, struct buf *reply)
{
	const char *what = answer(c, message, len, reply);

	if (buf_len(reply) == 0 || reply->failed) {
		buf_reset(reply);
		buf_put_u8(reply, SSH_AGENT_FAILURE);
	}
	return what;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What of an ssh-agent one connection of the guest may use: pure but for asking the agent.
 *
 * Listed are the named keys. One is used for a signature of a named kind ("ssh-keygen -Y sign", git),
 * or to log in at a named host: the client
 * says first which session it is in (session-bind@openssh.com), with the host's signature over the
 * session; what is signed then has to be a log-in of that very session with that key. Adding,
 * removing and locking are refused, and so is everything else. */
#pragma once

#include <stdbool.h>

#include "base/mem.h"
#include "ssh/proto.h"

#define SSH_BINDS_MAX 16

/* Borrowed. */
struct ssh_rules {
	struct strv keys;      /* "SHA256:…", or the comment that the agent has for a key */
	bool any_key;
	struct strv host_keys; /* fingerprints; "user@SHA256:…" where it is to be that user */
	struct strv namespaces; /* of signatures that are no log-ins */
	bool any_host;         /* anything may be signed with them */
};

struct ssh_conn {
	const struct ssh_rules *rules;
	/* Send @request (without its length) to the real agent; its answer goes to @answer. -1:
	 * there is none. */
	int (*ask)(void *arg, const struct buf *request, struct buf *answer);
	void *arg;
	/* The last session that was bound. A connection with a binding that failed signs nothing.
	 */
	uint8_t session[128];
	size_t session_len;
	char host_key[64]; /* its fingerprint; "" while there is none */
	unsigned n_binds;
	bool spoiled;
};

/* Answer one message (without its length) in @reply (empty, room for SSH_MESSAGE_MAX). Anything
 * gets an answer. Returns a word for the log: "listed", "signed", "refused: …". */
const char *ssh_conn_message(
	struct ssh_conn *c, const uint8_t *message, size_t len, struct buf *reply);

/* SPDX-License-Identifier: Apache-2.0 */
/* A TCP connection of the guest, from its SYN to its end. */
#pragma once

#include "gate/gate.h"
#include "gate/stream.h"

struct request;

/* What reads HTTP between the guest and a server, one for each version of it. */
struct proxy_ops {
	bool (*step)(struct flow *f);
	void (*timeout)(struct flow *f); /* the deadline has passed */
	void (*recheck)(struct flow *f); /* other rules: end the requests that they deny */
	/* The flow ends: write the audit lines of requests that are under way. */
	void (*end)(struct flow *f);
	void (*free)(struct flow *f);
};

/* First member of a proxy's own structure. */
struct proxy {
	const struct proxy_ops *ops;
};

/* What may happen in each state; flow.c alone changes it, through the functions below. */
enum flow_state {
	/* Accepted. The guest's first bytes decide what follows; a destination that is allowed is
	 * being dialled meanwhile, and a server that speaks first decides it, too. */
	FLOW_SNIFF,
	/* The guest's TLS hello is in guest.in, unanswered: which protocol we choose depends on the
	 * server, with whom we shake hands first (intercept.c). */
	FLOW_MIRROR,
	/* Bytes pass untouched, each direction ends on its own. `up` may still be connecting. */
	FLOW_TUNNEL,
	/* HTTP is read in both directions (http1_proxy.c, http2_proxy.c); TLS towards the guest is
	 * ours. Also the state in which a refusal is worded. */
	FLOW_PROXY,
	/* Questions to the name server, over TCP. No `up`. */
	FLOW_DNS,
	/* The last answer is on its way to the guest; `up` is gone; input is thrown away. */
	FLOW_CLOSING,
	/* The VMM has been told to reset. Our socket stays open until it lets go of its own, or an
	 * orderly end could reach the guest before the reset. `up` is gone. */
	FLOW_RESET,
	/* Freed before control returns to the loop. Nothing may be called. */
	FLOW_DEAD,
};

struct via;

struct flow {
	struct gate *gate;
	struct flow *next, *prev;
	enum flow_state state;
	uint32_t id; /* on the link */

	/* Destination, as the guest's address identifies it. */
	char name[POLICY_NAME_MAX + 1]; /* canonical name, or the address as text */
	bool is_addr;
	struct policy_addr addr; /* with is_addr */
	uint16_t port;
	bool allowed;     /* by the policy, when it was opened */
	bool credential;  /* a credential may have to be added */
	bool ruled;       /* HTTP rules are about it */
	bool inspect;     /* either: never pass it on unread */
	bool intercepted; /* TLS towards the guest is ours, so it is towards the server */
	struct values_set certificate; /* a client certificate for `up`, until it has it */
	bool certified;                /* it has one */
	bool offers_h2, offers_http11; /* FLOW_MIRROR: the guest, in its hello */
	char identity[640]; /* not "": its own bytes contradict the destination, and how */

	struct stream guest, up;
	struct dial dial;
	struct via *via;                      /* owned; the dial goes through the host's proxy */
	const struct upstream_proxy *proxied; /* that proxy, also when it is over */
	bool late;        /* FLOW_SNIFF: dialled when it is known which proxy that is */
	bool hello_begun; /* FLOW_SNIFF: its time limit runs */
	bool dial_failed;
	struct err dial_err;
	char peer[POLICY_ADDR_TEXT + 8]; /* dialled address, for the audit log */

	struct proxy *proxy; /* owned; FLOW_PROXY, and after an upgrade; else NULL */

	/* For the audit line of the connection; request.c writes lines for requests. */
	enum audit_proto proto;
	enum audit_verdict verdict;
	char reason[640];
	bool audited;
	uint64_t bytes_up, bytes_down;
	uint64_t started_ns;
	uint64_t answered_ns; /* the server's first byte; 0: none yet */
	uint64_t deadline_ns; /* 0: none */
};

/* The server is there, and where TLS is due it is verified: requests may be sent. */
static inline bool flow_is_connected(const struct flow *f)
{
	return f->up.fd >= 0 && (f->up.tls ? tls_ready(f->up.tls) : !f->intercepted);
}

/* What the policy says now about a connection, or about the request that is under way on it where
 * HTTP rules matter. Text only: outlives the policy. */
struct flow_decision {
	bool allowed;
	bool inspect;                              /* HTTP rules are about this destination */
	char rule[POLICY_TARGET_MAX], source[128]; /* "" without a rule */
	char reason[POLICY_EXPLAIN_MAX];           /* when denied */
	char remedy[POLICY_EXPLAIN_MAX];           /* when denied; may be "" */
	char ask[POLICY_TARGET_MAX]; /* the rule that would allow it, when none decides; else "" */
};
/* @r: NULL for the connection as such. */
void flow_decide(const struct flow *f, const struct request *r, struct flow_decision *ret);

/* decide.c: the same for any destination. Method and path are taken out of @q where no rule is
 * about them. */
void gate_decide(const struct gate *g, struct policy_query *q, struct flow_decision *ret);
/* Why @q->addr, which its name leads to, must not be dialled; NULL: it may. Static text. */
const char *gate_check_addr(const struct gate *g, const struct policy_query *q);
/* Whether the user has said where it is, or it is this machine: nobody else needs to be asked. */
bool gate_dials_itself(const struct gate *g, const struct policy_query *q);
void gate_dial(struct gate *g, struct dial *d, const struct policy_query *q, dial_check_fn *check,
	dial_done_fn *done);

/* LINK_TCP_OPEN. Takes @fd. */
void flow_open(struct gate *g, const struct link_msg *m, int fd);
/* The rules have changed: end what is no longer allowed. */
void flow_recheck_all(struct gate *g);
/* Reset every connection that was allowed. */
void flow_cut_all(struct gate *g, const char *why);
void flow_end_all(struct gate *g);

/* Called by proxies, intercept.c and tunnel.c while they are being stepped. */
/* Pass everything on from now on. */
void flow_tunnel(struct flow *f, enum audit_proto proto);
/* End with what is in guest.out. */
void flow_close(struct flow *f);
/* End at once, the guest sees a reset. @fmt is the reason for the audit log. */
void flow_reset(struct flow *f, enum audit_verdict verdict, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Something that it waits for has come: go on. May free @f. Called by the loop only. */
void flow_wake(struct flow *f);
/* The server of a tunnel could not be dialled: say so in HTTP where the guest speaks TLS, else
 * reset. */
void flow_explain_unreached(struct flow *f);
/* What the audit log says of a guest that was not able to ask anything. */
void flow_note_guest_error(struct flow *f);
void flow_deadline(struct flow *f, unsigned ms); /* 0: none */
/* Fields that every audit line of this connection has. */
void flow_audit_fields(
	const struct flow *f, const struct flow_decision *d, struct audit_record *ret);

/* tunnel.c: move bytes in both directions. Whether anything moved. */
bool tunnel_step(struct flow *f);

/* intercept.c: TLS at both ends. @s: the guest's hello, which is still in guest.in. */
struct sniff;
void intercept_start(struct flow *f, const struct sniff *s);
bool intercept_step(struct flow *f);
/* The connection to the server is there: start TLS on it. */
void intercept_connected(struct flow *f);
/* The deadline has passed. */
void intercept_timeout(struct flow *f);

/* Read requests from now on: of HTTP/1, in http1_proxy.c; of HTTP/2, in http2_proxy.c. */
void proxy_start_http1(struct flow *f);
void proxy_start_http2(struct flow *f);

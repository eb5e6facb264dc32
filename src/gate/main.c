/* SPDX-License-Identifier: Apache-2.0 */
/* hutch-gate: the only way from a sandbox to the network.
 *
 * Descriptors: 3 control (stream, JSON lines, from hutch-box), 4 link to the VMM (SOCK_SEQPACKET),
 * 5 its directory in the sandbox's, 6 hutch-secret (SOCK_SEQPACKET), 7 the store of OAuth tokens; the
 * last two may be closed.
 *
 * Trusts: fd 3, 5 to 7. Hostile: everything on fd 4 and in the streams that come with it, everything
 * that servers and name servers answer. The process needs the real network, the resolver's files
 * and the host's certificates, so it keeps network and mount namespace; it gives up privileges, all
 * other files and most system calls instead (seal.c).
 *
 * Ends with 0 as soon as the box or the VMM is gone. What the loop serves: the control stream and
 * the link (here and link.c), the two sockets of every connection (flow.c), connecting sockets and
 * those of the resolver (dial.c). */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <jansson.h>

#include "base/fd.h"
#include "base/jail.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/probe.h"
#include "gate/flow.h"
#include "gate/gate.h"
#include "gate/oauth.h"
#include "gate/seal.h"
#include "gate/udp.h"

enum { FD_CONTROL = 3, FD_LINK, FD_BOX, FD_BROKER, FD_TOKENS, FD_END };

#define CONTROL_MAX (16u << 20) /* bytes of one configuration */
#define FDS_SPARE   128u        /* everything but connections */

/* Every descriptor we were given is close-on-exec, everything else is closed. */
static int tidy_descriptors(struct err *err)
{
	for (int fd = FD_CONTROL; fd < FD_BROKER; fd++)
		if (fd_set_cloexec(fd, true) < 0)
			return err_errno(err, "descriptor %d", fd);
	for (int fd = FD_BROKER; fd < FD_END; fd++)
		fd_set_cloexec(fd, true);
	close_range(FD_END, ~0u, 0);
	if (fd_set_nonblock(FD_LINK, true) < 0)
		return err_errno(err, "descriptor %d", FD_LINK);
	return 0;
}

/* No core dump may hold a secret; as many connections as the host lets us have. */
static unsigned limit_resources(void)
{
	struct rlimit core = {0}, files;

	setrlimit(RLIMIT_CORE, &core);
	prctl(PR_SET_DUMPABLE, TRACEABLE, 0, 0, 0);
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return 256;
	files.rlim_cur = MIN(files.rlim_max, (rlim_t)(2 * GATE_FLOWS_MAX + UDP_FLOWS_MAX + FDS_SPARE));
	setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur < 2 * FDS_SPARE)
		return FDS_SPARE / 4;
	/* Datagrams get their share only where there is plenty. */
	if (files.rlim_cur > 8 * UDP_FLOWS_MAX)
		files.rlim_cur -= UDP_FLOWS_MAX;
	return (unsigned)(files.rlim_cur - FDS_SPARE) / 2;
}

static const char *variable(void *arg, const char *name)
{
	return getenv(name);
}

/* The host's proxies, and then out of memory with the text: it may hold a password. */
static void read_proxies(struct gate *g)
{
	extern char **environ;

	upstream_read(&g->upstream, variable, NULL);
	for (char **e = environ; *e; e++) {
		char *value = strchr(*e, '=');

		if (value && value - *e >= 6 && strncasecmp(value - 6, "_proxy", 6) == 0)
			mem_wipe(value + 1, strlen(value + 1));
	}
	for (int k = 0; k < UPSTREAM_KINDS; k++)
		if (g->upstream.proxy[k] && g->upstream.proxy[k]->problem[0])
			log_warn("proxy settings: %s", g->upstream.proxy[k]->problem);
}

static int jail(struct gate *g, struct err *err)
{
	return jail_enter(JAIL_NEWPRIVS | JAIL_CAPS, &g->jail_missing, err);
}

/* ---- control ---- */

static void control_send(struct gate *g, const char *event, const char *key, const char *text)
{
	json_t *o = json_pack("{s:s, s:s, s:i, s:s}", "event", event, key, text, "jail_missing",
		(int)g->jail_missing, "phase",
		spec_phase_name(g->config ? g->config->phase : SPEC_ALWAYS));
	char *line = o ? json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
	_free_ char *with_nl = line ? xasprintf("%s\n", line) : NULL;

	json_decref(o);
	free(line);
	if (!with_nl || send(FD_CONTROL, with_nl, strlen(with_nl), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_error("control: cannot answer");
}

static void on_question(void *arg, const char *id, const char *rule)
{
	struct gate *g = arg;
	_free_ char *text = xasprintf(
		"asks for %s: hutch policy approve %s/%s", rule, g->config->box, id);

	control_send(g, "question", "text", text);
}

/* In force as a whole or not at all. The first one has to be right. An installation ends once, and
 * with it every connection that was made while it ran. */
static int configure(struct gate *g, const char *line, size_t len, struct err *err)
{
	struct config *c = config_parse(line, len, err);
	bool installed = g->config && g->config->phase == SPEC_RUNTIME, ends;

	if (!c)
		return -1;
	if (installed && c->phase == SPEC_INSTALL) {
		config_free(c);
		return err_set(err, ERR_PEER, "the installation has ended for good");
	}
	ends = g->config && !installed && c->phase == SPEC_RUNTIME;
	if (!g->ca) {
		g->ca = ca_open(FD_BOX, c->box, err);
		g->audit = audit_new(g->loop, FD_BOX, c->box);
		g->asks = asks_new(g->loop, FD_BOX, on_question, g);
	}
	if (!g->ca) {
		config_free(c);
		return -1;
	}
	config_free(g->config);
	g->config = c;
	asks_apply(g->asks, &c->policy);
	if (link_start(g, FD_LINK) < 0)
		return err_errno(err, "watch the link");
	tls_shared_forget(g->tls);
	if (ends) {
		log_info("the installation has ended");
		flow_cut_all(g, "the installation has ended");
		udp_cut_all(g->udp, "the installation has ended");
	}
	flow_recheck_all(g);
	udp_recheck_all(g->udp);
	log_info("configured: rules=%zu credentials=%zu", c->policy.n, c->net.n_credentials);
	control_send(g, "ready", "ca", ca_pem(g->ca));
	return 0;
}

static void on_line(struct gate *g, const char *line, size_t len)
{
	bool first = !g->config;
	struct err err;

	if ((!first && asks_answer(g->asks, line, len, &g->config->policy)) ||
		configure(g, line, len, &err) == 0)
		return;
	log_error("configure: %s", err.msg);
	if (!first)
		err_wrap(&err, "the new network rules are not in force");
	control_send(g, first ? "error" : "notice", "text", err.msg);
	if (first)
		loop_stop(g->loop, 1);
}

static void on_control(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct gate *g = container_of(w, struct gate, control);
	struct buf *in = &g->control_in;
	uint8_t *at = buf_reserve(in, MIN(buf_room(in), (size_t)65536));
	ssize_t n = at ? recv(FD_CONTROL, at, MIN(buf_room(in), (size_t)65536), MSG_DONTWAIT) : 0;
	char *nl;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || buf_room(in) == 0) {
		log_info("control: the box has gone");
		loop_stop(l, 0);
		return;
	}
	buf_commit(in, (size_t)n);
	while (buf_len(in) > 0 && (nl = memchr(buf_head(in), '\n', buf_len(in)))) {
		size_t len = (size_t)(nl - (char *)buf_head(in));

		on_line(g, (char *)buf_head(in), len);
		buf_consume(in, len + 1);
	}
}

/* ---- process ---- */

static int start(struct gate *g, struct err *err)
{
	uint8_t key[16];

	if (getrandom(key, sizeof(key), 0) != sizeof(key))
		return err_errno(err, "random numbers");
	g->loop = loop_new(err);
	g->names = names_new(key);
	g->udp = udp_new(g);
	g->tls = tls_shared_new(err);
	if (!g->loop || !g->tls)
		return -1;
	g->dialer = dialer_new(g->loop, err);
	g->values = values_new(g->loop, g->broker, err);
	if (!g->dialer || !g->values)
		return -1;
	buf_init(&g->control_in, CONTROL_MAX);
	if (loop_add(g->loop, &g->control, FD_CONTROL, EPOLLIN, on_control) < 0)
		return err_errno(err, "watch the control stream");
	json_object_seed(0); /* reads a device file */
	oauth_wipe_json();
	if (gate_seal(FD_BOX, g->tokens, &g->jail_missing, err) < 0)
		return -1;
	jail_probe("gate");
	return 0;
}

static void stop(struct gate *g)
{
	flow_end_all(g);
	udp_free(g->udp);
	values_free(g->values);
	dialer_free(g->dialer);
	tls_shared_free(g->tls);
	ca_free(g->ca);
	audit_free(g->audit);
	asks_free(g->asks);
	names_free(g->names);
	upstream_done(&g->upstream);
	config_free(g->config);
	buf_done(&g->control_in);
	buf_done(&g->link_out);
	loop_free(g->loop);
}

static int given(int fd)
{
	return fcntl(fd, F_GETFD) < 0 ? -1 : fd;
}

int main(int argc, char **argv)
{
	struct gate g = {.control = {.fd = -1}, .link = {.fd = -1}};
	struct err err = {0};
	int status = -1;

	/* Before anything is opened that could take its number. */
	g.broker = given(FD_BROKER);
	g.tokens = given(FD_TOKENS);
	log_init("gate", argc > 1 ? argv[1] : "-", LOG_INFO);
	signal(SIGPIPE, SIG_IGN);
	read_proxies(&g);
	g.http2_budget.max = GATE_HTTP2_MAX;
	g.max_flows = limit_resources();
	if (tidy_descriptors(&err) == 0 && jail(&g, &err) == 0 && start(&g, &err) == 0)
		status = loop_run(g.loop, &err);
	if (status < 0)
		log_error("%s", err.msg);
	stop(&g);
	return status < 0 ? 1 : status;
}

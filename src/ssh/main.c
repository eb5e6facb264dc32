/* SPDX-License-Identifier: Apache-2.0 */
/* hutch-ssh NAME [--any-key|--key KEY]... [--any-host|--host [USER@]HOST]... [--sign NAMESPACE]...: the user's ssh-agent, as far as a
 * sandbox may use it.
 *
 * Descriptors: 3 link to hutch-box (SOCK_SEQPACKET, wire/link.h: connections of the guest), 4 a
 * connection to the user's agent. Hostile: the bytes of the guest's connections; the agent is
 * trusted. All that filter.c lets through it has read itself, and the agent is asked one thing at a
 * time, so the answer goes to who asked. While the agent asks its user to confirm, the sandbox's
 * other questions wait.
 *
 * Reads known_hosts at its start, then gives up files, network, and nearly all system calls
 * (seal.c). Ends with the box. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/loop.h"
#include "ssh/filter.h"
#include "ssh/hosts.h"
#include "ssh/seal.h"
#include "wire/link.h"

enum { FD_BOX = 3, FD_AGENT, FD_END };

#define CONNECTIONS_MAX 16u
#define KNOWN_HOSTS_MAX (4u << 20)
#define GUEST_SECONDS   5 /* for a guest that does not read its answer */
#define READ_BYTES      65536u

struct process {
	struct loop *loop;
	struct loop_watch box;
	struct ssh_rules rules;
	unsigned n_connections;
	bool agent_lost;
};

/* One connection of the guest. */
struct connection {
	struct process *process;
	struct loop_watch w;
	int fd; /* owned */
	struct buf in;
	struct ssh_conn ssh;
};

static void connection_free(struct connection *c)
{
	loop_del(c->process->loop, &c->w);
	close_and_reset(&c->fd);
	buf_done(&c->in);
	c->process->n_connections--;
	free(c);
}

static int send_message(int fd, const struct buf *b)
{
	uint8_t size[4] = {(uint8_t)(buf_len(b) >> 24), (uint8_t)(buf_len(b) >> 16),
		(uint8_t)(buf_len(b) >> 8), (uint8_t)buf_len(b)};

	return fd_write_all(fd, size, 4) < 0 || fd_write_all(fd, buf_head(b), buf_len(b)) < 0 ? -1
											      : 0;
}

/* ssh_conn.ask */
static int ask_agent(void *arg, const struct buf *request, struct buf *answer)
{
	struct process *p = arg;
	uint8_t size[4], *to = NULL;
	size_t len;

	if (p->agent_lost)
		return -1;
	if (send_message(FD_AGENT, request) == 0 && fd_read_all(FD_AGENT, size, 4) == 0) {
		len = (size_t)size[0] << 24 | (size_t)size[1] << 16 | (size_t)size[2] << 8 |
		      size[3];
		if (len > 0 && len <= SSH_MESSAGE_MAX)
			to = buf_reserve(answer, len);
		if (to && fd_read_all(FD_AGENT, to, len) == 0) {
			buf_commit(answer, len);
			return 0;
		}
	}
	/* Nothing that follows could be told from the rest of this answer. */
	log_error("the agent has gone");
	p->agent_lost = true;
	return -1;
}

/* One whole message, if there is one. False: the connection has to end. */
static bool take_message(struct connection *c, bool *ret_more)
{
	struct rd r = rd_make(buf_head(&c->in), buf_len(&c->in));
	size_t len = rd_be32(&r);
	_buf_ struct buf reply = {.max = SSH_MESSAGE_MAX};
	const uint8_t *message;
	const char *what;

	*ret_more = false;
	if (!rd_ok(&r))
		return true;
	if (len == 0 || len > SSH_MESSAGE_MAX)
		return false;
	message = rd_bytes(&r, len);
	if (!message)
		return true;
	what = ssh_conn_message(&c->ssh, message, len, &reply);
	if (strncmp(what, "refused", 7) == 0)
		log_limited(LOG_WARN, "%s host=%s", what, c->ssh.host_key);
	else
		log_limited(LOG_INFO, "%s host=%s", what, c->ssh.host_key);
	buf_consume(&c->in, 4 + len);
	*ret_more = true;
	return send_message(c->fd, &reply) == 0;
}

static void on_guest(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct connection *c = container_of(w, struct connection, w);
	size_t room = MIN(buf_room(&c->in), (size_t)READ_BYTES);
	uint8_t *at = buf_reserve(&c->in, room);
	ssize_t n = at ? recv(c->fd, at, room, MSG_DONTWAIT) : 0;
	bool more = true;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		connection_free(c);
		return;
	}
	buf_commit(&c->in, (size_t)n);
	while (more) {
		if (!take_message(c, &more)) {
			connection_free(c);
			return;
		}
	}
}

static void add_connection(struct process *p, int fd /* taken */)
{
	struct timeval limit = {.tv_sec = GUEST_SECONDS};
	struct connection *c;

	if (p->n_connections == CONNECTIONS_MAX) {
		log_limited(LOG_WARN, "more than %u connections", CONNECTIONS_MAX);
		close(fd);
		return;
	}
	c = xcalloc(1, sizeof(*c));
	c->process = p;
	c->fd = fd;
	c->w.fd = -1;
	c->ssh = (struct ssh_conn){.rules = &p->rules, .ask = ask_agent, .arg = p};
	buf_init(&c->in, SSH_MESSAGE_MAX + 4);
	p->n_connections++;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (loop_add(p->loop, &c->w, fd, EPOLLIN, on_guest) < 0)
		connection_free(c);
}

static void on_box(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct process *p = container_of(w, struct process, box);
	static struct link_packet packet;
	int fds[FD_PASS_MAX];
	size_t n_fds;
	ssize_t n = fd_recv(FD_BOX, &packet, sizeof(packet), fds, &n_fds);

	if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == EMSGSIZE))
		return;
	if (n <= 0) {
		log_info("the box has gone");
		loop_stop(l, 0);
		return;
	}
	if (link_check(&packet, (size_t)n, n_fds) && packet.m.type == LINK_SSH_AGENT) {
		add_connection(p, fds[0]);
		return;
	}
	for (size_t i = 0; i < n_fds; i++)
		close(fds[i]);
}

/* ---- start ---- */

/* What known_hosts says of a host; for [user@]host, bounded to that user. */
static void add_host(struct ssh_rules *rules, const char *text)
{
	const char *at = strchr(text, '@'), *host = at ? at + 1 : text;
	struct strv keys = {0};
	_free_ char *user = xasprintf("%s/.ssh/known_hosts", getenv("HOME") ? getenv("HOME") : "");
	const char *const files[] = {user, "/etc/ssh/ssh_known_hosts"};

	if (strncmp(host, "SHA256:", 7) == 0) {
		strv_add(&rules->host_keys, host);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_buf_ struct buf content;

		buf_init(&content, KNOWN_HOSTS_MAX);
		if (fs_read_file(AT_FDCWD, files[i], &content, NULL) == 0)
			ssh_hosts_find(buf_cstr(&content), host, &keys);
	}
	for (size_t i = 0; i < keys.n; i++)
		strv_addf(&rules->host_keys, "%.*s%s", (int)(host - text), text, keys.v[i]);
	log_info("host=%s keys=%zu", text, keys.n);
	strv_done(&keys);
}

static int parse(struct process *p, int argc, char **argv)
{
	static const struct option longs[] = {{"key", required_argument, NULL, 'k'},
		{"host", required_argument, NULL, 'h'}, {"any-host", no_argument, NULL, 'a'},
		{"any-key", no_argument, NULL, 'y'}, {"sign", required_argument, NULL, 's'}, {0}};
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'k')
			strv_add(&p->rules.keys, optarg);
		else if (c == 'h')
			add_host(&p->rules, optarg);
		else if (c == 's')
			strv_add(&p->rules.namespaces, optarg);
		else if (c == 'a')
			p->rules.any_host = true;
		else if (c == 'y')
			p->rules.any_key = true;
		else
			return -1;
	}
	return optind == argc - 1 ? 0 : -1;
}

static int start(struct process *p, struct err *err)
{
	struct link_msg ready = {.type = LINK_READY};

	fd_set_cloexec(FD_BOX, true);
	fd_set_cloexec(FD_AGENT, true);
	close_range(FD_END, ~0u, 0);
	fd_set_nonblock(FD_BOX, true);
	p->loop = loop_new(err);
	if (!p->loop)
		return -1;
	if (loop_add(p->loop, &p->box, FD_BOX, EPOLLIN, on_box) < 0)
		return err_errno(err, "watch the box");
	if (ssh_seal(&ready.arg, err) < 0)
		return -1;
	return fd_send(FD_BOX, &ready, sizeof(ready), NULL, 0) < 0 ? err_errno(err, "box") : 0;
}

int main(int argc, char **argv)
{
	struct process p = {.box.fd = -1};
	struct err err = {0};
	int status = -1;

	log_init("ssh", argc > 1 ? argv[argc - 1] : "-", LOG_INFO);
	signal(SIGPIPE, SIG_IGN);
	if (parse(&p, argc, argv) < 0)
		err_set(&err, ERR_USER, "usage: hutch-ssh OPTIONS NAME (started by hutch-box)");
	else if (start(&p, &err) == 0)
		status = loop_run(p.loop, &err);
	if (status < 0)
		log_error("%s", err.msg);
	loop_free(p.loop);
	strv_done(&p.rules.keys);
	strv_done(&p.rules.host_keys);
	strv_done(&p.rules.namespaces);
	return status < 0 ? 1 : status;
}

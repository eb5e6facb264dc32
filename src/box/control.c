/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket: clients of the same user ask for state, streams and the end.
 *
 * One JSON object per line in, one per line out; the answer to "open" carries a descriptor. A client
 * that does not read its answers is dropped. Clients come from a directory only this user can enter,
 * and are checked for it once more. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "box/box.h"
#include "box/ports.h"

#define LINE_MAX_BYTES (256u << 10)
#define CLIENTS_MAX    64u
#define UNHELD_MS      10000u

struct client {
	struct control *server;
	struct loop_watch w;
	int fd; /* owned */
	struct buf in;
	int passed;   /* owned: the last descriptor that came along, or -1 */
	bool waiting; /* wants progress and the final word */
	bool waits_for_start; /* so since before anybody wanted it to end */
	bool watching; /* wants to hear of questions to the user */
	bool holds;   /* --rm: the sandbox goes when this client does */
	bool stopping; /* asked for the end: told when it is over, or the sandbox removed */
	bool dead;
	struct client *next;
};

struct control {
	struct box *box;
	struct loop_watch w;
	int fd; /* owned */
	struct client *clients;
	unsigned n_clients;
	struct loop_timer unheld; /* --rm: until somebody holds */
};

static void client_free(struct client *c)
{
	struct control *s = c->server;

	for (struct client **at = &s->clients; *at; at = &(*at)->next) {
		if (*at == c) {
			*at = c->next;
			break;
		}
	}
	s->n_clients--;
	loop_del(s->box->loop, &c->w);
	close(c->fd);
	close_and_reset(&c->passed);
	buf_done(&c->in);
	free(c);
}

/* Send one line, with a descriptor or -1. */
static void reply(struct client *c, json_t *j /* taken */, int fd)
{
	char *text = json_dumps(j, JSON_COMPACT);
	_free_ char *line = NULL;

	json_decref(j);
	if (!text || c->dead) {
		free(text);
		return;
	}
	line = xasprintf("%s\n", text);
	free(text);
	if (fd_send(c->fd, line, strlen(line), &fd, fd >= 0 ? 1 : 0) != (ssize_t)strlen(line))
		c->dead = true; /* noticed and freed at its next event */
}

/* Text of a kit or a path, which may be no UTF-8 or be cut within a character. */
static json_t *text_json(const char *text)
{
	json_t *j = json_string(text);
	char safe[640];

	return j ? j : json_string(log_safe(safe, sizeof(safe), text, strlen(text)));
}

static json_t *error_json(const struct err *err)
{
	return json_pack("{s:b, s:o, s:o, s:b}", "ok", 0, "error", text_json(err->msg), "hint",
		text_json(err->hint), "again", err->errnum == EAGAIN);
}

static void reply_state(struct client *c)
{
	struct box *b = c->server->box;

	reply(c,
		json_pack("{s:b, s:s, s:s, s:s, s:i}", "ok", 1, "state", box_state_name(b->state),
			"engine", spec_engine_name(b->engine), "kernel", b->guest_kernel ? b->guest_kernel : "",
			"jail_missing", (int)workers_missing(b)),
		-1);
}

/* The final word for somebody who waits for readiness. */
static void reply_waiter(struct client *c)
{
	struct box *b = c->server->box;
	struct err err;

	if (!b->failed && b->stopped_early && c->waits_for_start) {
		err_set(&err, ERR_USER, "sandbox %s was stopped while it started", b->name);
		reply(c, error_json(&err), -1);
	} else if (b->failed) {
		reply(c, error_json(&b->failure), -1);
	} else {
		reply_state(c);
	}
	c->waiting = false;
}

/* The client will speak with the guest's agent: both say which version of that they are. */
static int open_stream(struct box *b, const json_t *j, int *ret_fd, struct err *err)
{
	if (json_integer_value(json_object_get(j, "agent")) != AGENT_VERSION) {
		err_set(err, ERR_ENV, "sandbox %s was started by another version of hutch", b->name);
		return err_hint(err, "hutch stop %s && hutch start %s", b->name, b->name);
	}
	if (b->state != BOX_READY) {
		err_set(err, ERR_ENV, "sandbox %s is %s", b->name, box_state_name(b->state));
		err->errnum = EAGAIN;
		return err_hint(err, "once more: the command then starts it anew");
	}
	return workers_open_stream(b, ret_fd, err);
}

static void op_open(struct client *c, const json_t *j)
{
	_close_ int fd = -1;
	struct err err;

	if (open_stream(c->server->box, j, &fd, &err) < 0)
		reply(c, error_json(&err), -1);
	else
		reply(c, json_pack("{s:b, s:i}", "ok", 1, "agent", AGENT_VERSION), fd);
}

static void op_detach(struct client *c, const json_t *j)
{
	struct box *b = c->server->box;
	const json_t *list = json_object_get(j, "argv"), *v;
	struct strv argv = {0};
	struct err err;
	size_t i;

	json_array_foreach(list, i, v)
		if (json_is_string(v))
			strv_add(&argv, json_string_value(v));
	if (b->state != BOX_READY || argv.n == 0 || argv.n != json_array_size(list))
		err_set(&err, ERR_USER, "detach: not possible now");
	else if (setup_detach(b, &argv, &err) == 0) {
		strv_done(&argv);
		reply(c, json_pack("{s:b}", "ok", 1), -1);
		return;
	}
	strv_done(&argv);
	reply(c, error_json(&err), -1);
}

static unsigned number(const json_t *j, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(j, key));

	return v > 0 && v <= 65535 ? (unsigned)v : 0;
}

/* "publish" comes with a bound socket. */
static void op_ports(struct client *c, const json_t *j, const char *op)
{
	struct box *b = c->server->box;
	unsigned container = number(j, "container");
	const char *protocol = json_string_value(json_object_get(j, "protocol"));
	bool udp = protocol && strcmp(protocol, "udp") == 0;
	struct err err;
	int result = 0;

	if (b->state >= BOX_STOPPING)
		result = err_set(&err, ERR_ENV, "sandbox %s is %s", b->name, box_state_name(b->state));
	else if (strcmp(op, "publish") == 0)
		result = ports_publish(
			b, container, udp, number(j, "port"), steal_fd(&c->passed), &err);
	else if (strcmp(op, "unpublish") == 0)
		result = ports_unpublish(b, container, udp, &err);
	reply(c, result < 0 ? error_json(&err) : json_pack("{s:b, s:o}", "ok", 1, "ports", ports_json(b)),
		-1);
}

static void serve_line(struct client *c, const char *line)
{
	struct box *b = c->server->box;
	json_t *j = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
	const char *op = json_string_value(json_object_get(j, "op"));
	struct err err;

	if (!op)
		op = "";
	if (strcmp(op, "status") == 0) {
		reply_state(c);
	} else if (strcmp(op, "wait") == 0) {
		c->waiting = true;
		c->waits_for_start = b->state < BOX_STOPPING;
		if (b->state == BOX_READY || b->state == BOX_ENDED)
			reply_waiter(c);
	} else if (strcmp(op, "open") == 0) {
		op_open(c, j);
	} else if (strcmp(op, "hold") == 0) {
		c->holds = true;
		loop_timer_stop(b->loop, &c->server->unheld);
		reply(c, json_pack("{s:b}", "ok", 1), -1);
	} else if (strcmp(op, "reload") == 0) {
		reply(c, workers_reload(b, &err) < 0 ? error_json(&err) : json_pack("{s:b}", "ok", 1),
			-1);
	} else if (strcmp(op, "watch") == 0) {
		c->watching = true;
		reply(c, json_pack("{s:b}", "ok", 1), -1);
	} else if (strcmp(op, "approve") == 0 || strcmp(op, "dismiss") == 0) {
		const char *id = json_string_value(json_object_get(j, "id"));

		reply(c, workers_answer(b, op, id ? id : "", &err) < 0 ? error_json(&err)
									: json_pack("{s:b}", "ok", 1),
			-1);
	} else if (strcmp(op, "ports") == 0 || strcmp(op, "publish") == 0 ||
		   strcmp(op, "unpublish") == 0) {
		op_ports(c, j, op);
	} else if (strcmp(op, "detach") == 0) {
		op_detach(c, j);
	} else if (strcmp(op, "stop") == 0) {
		c->stopping = true;
		box_stop(b, json_is_true(json_object_get(j, "kill")),
			json_is_true(json_object_get(j, "remove")));
	} else {
		err_set(&err, ERR_USER, "unknown request");
		reply(c, error_json(&err), -1);
	}
	json_decref(j);
}

static void client_gone(struct client *c)
{
	struct box *b = c->server->box;
	bool holds = c->holds;

	client_free(c);
	if (holds && b->spec.remove_on_exit)
		box_stop(b, true, true);
}

/* Bytes, and the last descriptor that came along. As read(). */
static ssize_t receive(struct client *c)
{
	size_t room = MIN(buf_room(&c->in), (size_t)65536), nfds = 0;
	uint8_t *to = room ? buf_reserve(&c->in, room) : NULL;
	int fds[FD_PASS_MAX];
	ssize_t n;

	if (!to) {
		errno = ENOBUFS;
		return -1;
	}
	n = fd_recv(c->fd, to, room, fds, &nfds);
	if (n > 0)
		buf_commit(&c->in, (size_t)n);
	for (size_t i = 0; n >= 0 && i < nfds; i++) {
		close_and_reset(&c->passed);
		c->passed = fds[i];
	}
	return n;
}

static void on_client(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct client *c = container_of(w, struct client, w);
	ssize_t n = receive(c);
	char *nl;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	while (n > 0 && !c->dead && buf_len(&c->in) &&
		(nl = memchr(buf_head(&c->in), '\n', buf_len(&c->in)))) {
		size_t len = (size_t)(nl + 1 - (char *)buf_head(&c->in));

		*nl = '\0';
		serve_line(c, (const char *)buf_head(&c->in));
		if (c->server->box->state == BOX_ENDED)
			return; /* the loop ends; control_stop frees everybody */
		buf_consume(&c->in, len);
	}
	if (n <= 0 || c->dead)
		client_gone(c);
}

static void on_listen(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct control *s = container_of(w, struct control, w);
	_close_ int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred cred;
	socklen_t len = sizeof(cred);
	struct client *c;

	if (fd < 0)
		return;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ||
		(cred.uid != geteuid() && cred.uid != 0)) {
		log_limited(LOG_WARN, "control: refused a client of another user");
		return;
	}
	if (s->n_clients >= CLIENTS_MAX) {
		log_limited(LOG_WARN, "control: too many clients");
		return;
	}
	c = xcalloc(1, sizeof(*c));
	c->server = s;
	c->fd = fd;
	c->passed = -1;
	buf_init(&c->in, LINE_MAX_BYTES);
	if (loop_add(l, &c->w, fd, EPOLLIN, on_client) < 0) {
		free(c);
		return;
	}
	steal_fd(&fd);
	c->next = s->clients;
	s->clients = c;
	s->n_clients++;
}

/* The command that was to hold has been killed before it could say so. */
static void on_unheld(struct loop *l, struct loop_timer *t)
{
	struct control *s = container_of(t, struct control, unheld);

	if (s->n_clients)
		loop_timer_start(l, t, UNHELD_MS, on_unheld);
	else
		box_stop(s->box, true, true);
}

int control_start(struct box *b, int listen_fd, struct err *err)
{
	struct control *s = xcalloc(1, sizeof(*s));

	s->box = b;
	s->fd = listen_fd;
	b->control_server = s;
	if (loop_add(b->loop, &s->w, listen_fd, EPOLLIN, on_listen) < 0)
		return err_errno(err, "watch control socket");
	if (b->spec.remove_on_exit)
		loop_timer_start(b->loop, &s->unheld, UNHELD_MS, on_unheld);
	return 0;
}

void control_progress(struct box *b, const char *fmt, ...)
{
	_free_ char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	/* One line: a step without a description is shown as its command, a whole script perhaps. */
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < 0x20)
			*c = ' ';
	log_info("progress: %s", text);
	if (!b->control_server)
		return;
	for (struct client *c = b->control_server->clients; c; c = c->next)
		if (c->waiting)
			reply(c, json_pack("{s:s, s:o}", "event", "progress", "text", text_json(text)),
				-1);
}

void control_question(struct box *b, const char *text)
{
	for (struct client *c = b->control_server ? b->control_server->clients : NULL; c; c = c->next)
		if (c->watching)
			reply(c, json_pack("{s:s, s:o}", "event", "question", "text", text_json(text)),
				-1);
}

void control_removed(struct box *b)
{
	for (struct client *c = b->control_server ? b->control_server->clients : NULL; c; c = c->next) {
		if (c->stopping)
			reply(c, json_pack("{s:b}", "ok", 1), -1);
		c->stopping = false;
	}
}

void control_state(struct box *b)
{
	if (!b->control_server)
		return;
	if (b->state == BOX_ENDED)
		control_removed(b);
	for (struct client *c = b->control_server->clients; c; c = c->next) {
		/* A failure is told when its leftovers are gone. */
		if (c->waiting && (b->state == BOX_READY || b->state == BOX_ENDED))
			reply_waiter(c);
	}
}

void control_stop(struct box *b)
{
	struct control *s = b->control_server;

	if (!s)
		return;
	while (s->clients)
		client_free(s->clients);
	loop_timer_stop(b->loop, &s->unheld);
	loop_del(b->loop, &s->w);
	close(s->fd);
	free(s);
	b->control_server = NULL;
}

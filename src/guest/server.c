/* SPDX-License-Identifier: Apache-2.0 */
/* The agent server: accepting streams and handing them to their operation. */
#include "guest/server_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* linux/vm_sockets.h wants sockaddr from its own world with some C libraries, hence after. */
#include <linux/vm_sockets.h>

#include "base/fd.h"

static int first_frame(struct stream *s, uint8_t type, struct rd payload)
{
	switch (type) {
	case AGENT_EXEC:
		return exec_start(s->srv, s, payload);
	case AGENT_PUT:
		return put_start(s->srv, s, payload);
	case AGENT_DIAL:
		return dial_start(s->srv, s, payload);
	case AGENT_DIAL_UDP:
		return udp_start(s->srv, s, payload);
	default:
		return -1;
	}
}

static void first_end(struct stream *s)
{
	stream_free(s);
}

static const struct stream_ops first_ops = {.frame = first_frame, .end = first_end};

struct server *server_new(struct loop *l, const struct server_config *config)
{
	struct server *srv = xcalloc(1, sizeof(*srv));

	srv->loop = l;
	srv->config = *config;
	srv->listen_fd = srv->listen_w.fd = srv->ssh_fd = srv->ssh_w.fd = -1;
	return srv;
}

void server_free(struct server *srv)
{
	if (!srv)
		return;
	loop_del(srv->loop, &srv->listen_w);
	close_and_reset(&srv->listen_fd);
	loop_del(srv->loop, &srv->ssh_w);
	close_and_reset(&srv->ssh_fd);
	execs_free(srv);
	dials_free(srv);
	udp_flows_free(srv);
	while (srv->streams)
		stream_free(srv->streams);
	free(srv);
}

void server_adopt(struct server *srv, int fd)
{
	struct stream *s = stream_new(srv->loop, fd, &first_ops, NULL);

	if (!s)
		return;
	s->srv = srv;
	s->next = srv->streams;
	if (s->next)
		s->next->prev = s;
	srv->streams = s;
	srv->n_streams++;
}

void server_unlink(struct stream *s)
{
	struct server *srv = s->srv;

	if (!srv)
		return;
	if (s->prev)
		s->prev->next = s->next;
	else
		srv->streams = s->next;
	if (s->next)
		s->next->prev = s->prev;
	srv->n_streams--;
	server_room(srv);
}

static void accept_one(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct server *srv = container_of(w, struct server, listen_w);
	struct sockaddr_vm peer = {0};
	socklen_t len = sizeof(peer);
	int fd = accept4(srv->listen_fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);

	(void)events;
	if (fd < 0)
		return;
	/* Programs inside the guest can reach this port too, over vsock's loopback. */
	if (peer.svm_family != AF_VSOCK || peer.svm_cid != VMADDR_CID_HOST) {
		close(fd);
		return;
	}
	server_adopt(srv, fd);
	if (srv->n_streams + srv->n_dials >= STREAMS_MAX)
		loop_del(l, &srv->listen_w);
}

void server_room(struct server *srv)
{
	if (srv->listen_fd >= 0 && srv->listen_w.fd < 0 &&
		srv->n_streams + srv->n_dials < STREAMS_MAX)
		loop_add(srv->loop, &srv->listen_w, srv->listen_fd, EPOLLIN, accept_one);
}

int server_listen(struct server *srv, uint32_t port, struct err *err)
{
	struct sockaddr_vm any = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};

	srv->listen_fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (srv->listen_fd < 0 || bind(srv->listen_fd, (struct sockaddr *)&any, sizeof(any)) < 0 ||
		listen(srv->listen_fd, 64) < 0)
		return err_errno(err, "agent: listen on vsock port %u", port);
	server_room(srv);
	return 0;
}

void server_reaped(struct server *srv, pid_t pid, int status)
{
	exec_reaped(srv, pid, status);
}

int stream_fail(struct stream *s, int errnum, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	agent_put_error(&s->out, (uint32_t)errnum, text);
	stream_finish(s);
	return STREAM_GONE;
}

void child_reset(void)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL); /* no effect on SIGKILL, SIGSTOP and libc's own */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

int child_keep_fd(int fd)
{
	/* Descriptors of other commands, held open here, would keep their readers from seeing the
	 * end of file. */
	if (fd != 3 && dup3(fd, 3, O_CLOEXEC) < 0)
		return -1;
	return (int)syscall(SYS_close_range, 4u, ~0u, 0u) < 0 ? -1 : 3;
}

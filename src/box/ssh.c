/* SPDX-License-Identifier: Apache-2.0 */
/* The user's ssh-agent for a sandbox that may use it: hutch-ssh stands between the guest and the
 * agent, we hand it the guest's connections. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/fd.h"
#include "base/jail.h"
#include "base/log.h"
#include "base/paths.h"
#include "box/box.h"
#include "box/environ.h"
#include "wire/link.h"

static void on_link(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct box *b = container_of(w, struct box, ssh_w);
	struct link_msg m;
	ssize_t n = recv(b->ssh_link, &m, sizeof(m), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == (ssize_t)sizeof(m) && m.type == LINK_READY && !b->ssh_ready) {
		b->jail_missing[WORKER_SSH] |= m.arg;
		b->ssh_ready = true;
	} else {
		ssh_stop(b); /* its end is reported by the pidfd */
	}
	box_advance(b);
}

void ssh_stop(struct box *b)
{
	loop_del(b->loop, &b->ssh_w);
	close_and_reset(&b->ssh_link);
	b->ssh_ready = true; /* nobody waits for it any more */
}

/* A connection to the agent of whoever starts the sandbox. */
static int connect_agent(struct err *err)
{
	const char *path = getenv("SSH_AUTH_SOCK");
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (!path || !*path || strlen(path) >= sizeof(addr.sun_path))
		return err_set(err, ERR_ENV, "no ssh-agent runs here (SSH_AUTH_SOCK)");
	memcpy(addr.sun_path, path, strlen(path) + 1);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_errno(err, "ssh-agent at %s", path);
	return steal_fd(&fd);
}

static void put_options(const struct box_spec *s, struct strv *argv)
{
	strv_add(argv, "hutch-ssh");
	for (size_t i = 0; i < s->ssh_keys.n; i++)
		strv_addf(argv, "--key=%s", s->ssh_keys.v[i]);
	if (s->ssh_any_key)
		strv_add(argv, "--any-key");
	for (size_t i = 0; i < s->ssh_sign.n; i++)
		strv_addf(argv, "--sign=%s", s->ssh_sign.v[i]);
	for (size_t i = 0; i < s->ssh_hosts.n; i++)
		strv_addf(argv, "--host=%s", s->ssh_hosts.v[i]);
	if (s->ssh_any_host)
		strv_add(argv, "--any-host");
	strv_add(argv, "--");
	strv_add(argv, s->name);
}

int ssh_start(struct box *b, struct err *err)
{
	_free_ char *path = path_program("hutch-ssh");
	_close_ int agent = -1, ours = -1, theirs = -1;
	struct strv argv = {0}, env = {0};
	int pair[2], result;

	b->ssh_ready = true;
	if (!b->spec.ssh_keys.n && !b->spec.ssh_any_key)
		return 0;
	if (b->spec.ssh_phase == SPEC_INSTALL && b->phase == SPEC_RUNTIME)
		return 0; /* that is over */
	agent = connect_agent(err);
	if (agent < 0) {
		/* As with an optional credential: the sandbox starts without. */
		log_warn("%s", err->msg);
		control_progress(b, "%s: the sandbox starts without it", err->msg);
		return 0;
	}
	/* A guest can open connections faster than hutch-ssh takes them: those are dropped, and we never wait. */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(err, "socketpair");
	ours = pair[0];
	theirs = pair[1];
	put_options(&b->spec, &argv);
	environ_pick(ENVIRON_HOST, &env);
	result = worker_spawn(b, WORKER_SSH,
		&(struct child_spec){.path = path,
			.argv = argv.v,
			.envp = env.v,
			.in = CHILD_NULL,
			.out = CHILD_NULL,
			.errout = CHILD_INHERIT,
			.fds = (const int[]){theirs, agent},
			.nfds = 2,
			.jail = JAIL_PID},
		err);
	strv_done(&argv);
	strv_done(&env);
	if (result < 0)
		return -1;
	b->ssh_link = steal_fd(&ours);
	b->ssh_ready = false;
	if (loop_add(b->loop, &b->ssh_w, b->ssh_link, EPOLLIN, on_link) < 0)
		return err_errno(err, "watch hutch-ssh");
	return 0;
}

void ssh_connection(struct box *b, int fd /* taken */)
{
	struct link_msg m = {.type = LINK_SSH_AGENT};

	if (b->ssh_link >= 0 && b->spec.ssh_phase == SPEC_RUNTIME && b->phase == SPEC_INSTALL)
		log_limited(LOG_WARN, "a connection to the ssh-agent, which is not for install steps");
	else if (b->ssh_link < 0 || fd_send(b->ssh_link, &m, sizeof(m), &fd, 1) < 0)
		log_limited(LOG_WARN, "a connection to the ssh-agent, which is not there or busy");
	close(fd);
}

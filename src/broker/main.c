/* SPDX-License-Identifier: Apache-2.0 */
/* hutch-secret NAME SERVICE...: gives the gate credentials, from the secret store or what that
 * refers to.
 *
 * hutch-gate talks to the network, so it may run no program and read no file of the user's, the
 * store included. This process may, with the user's own rights and the environment of the command
 * that started the sandbox: commands need no less. Its only peer is the gate, and all that the gate
 * can make it do is to fetch one of the services that are named on its command line, which the
 * sandbox may use anyway.
 *
 * Descriptors: 3 the gate (SOCK_SEQPACKET, wire/broker.h), 4 the secret store, 5 the sandbox's own
 * secrets; the last two may be closed. Trusts: 4 and 5, and what the user wrote into them. Hostile:
 * 3, as if the gate had been taken over. Ends with the gate.
 *
 * It has no jail, for the reason above. It cannot be dumped or traced, values are in locked memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <linux/magic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/vfs.h>

#include "base/fd.h"
#include "base/jail.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/broker.h"

enum { FD_GATE = 3, FD_SECRETS, FD_OWN_SECRETS, FD_END };

#define SEND_SECONDS 5 /* for a gate that does not read */

struct process {
	struct loop *loop;
	struct broker *broker;
	struct loop_watch gate, changes;
	int inotify;          /* owned */
	int pending, changed; /* owned; what the gate is given (gate/kept.h), or -1 */
};

static void on_gate(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct process *p = container_of(w, struct process, gate);
	uint8_t packet[sizeof(struct broker_msg) + BROKER_NAME_MAX + 1];
	ssize_t n = recv(FD_GATE, packet, sizeof(packet), MSG_DONTWAIT | MSG_TRUNC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		log_info("the gate has gone");
		loop_stop(l, 0);
	} else if ((size_t)n > sizeof(packet) || !broker_packet(p->broker, packet, (size_t)n)) {
		log_error("the gate sends nonsense");
		loop_stop(l, 1);
	}
}

static void send_answer(void *arg, const struct broker_msg *m, const void *data)
{
	struct iovec iov[] = {
		{(void *)(uintptr_t)m, sizeof(*m)}, {(void *)(uintptr_t)data, m->len}};
	struct msghdr h = {.msg_iov = iov, .msg_iovlen = m->len ? 2 : 1};

	/* Blocking, for a while: the gate always reads. */
	if (sendmsg(FD_GATE, &h, MSG_NOSIGNAL) < 0)
		log_limited(LOG_WARN, "an answer was lost");
}

static void tell_gate(void *arg)
{
	struct process *p = arg;

	/* Fails only when it has been told so often that it is readable for ever. */
	if (p->changed >= 0 && eventfd_write(p->changed, 1) < 0)
		log_limited(LOG_WARN, "the gate reads no changes");
}

static void on_change(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct process *p = container_of(w, struct process, changes);
	char sink[4096] __attribute__((aligned(8)));

	tell_gate(p); /* first: see gate/kept.h */
	while (read(p->inotify, sink, sizeof(sink)) > 0)
		;
	broker_recheck(p->broker);
}

/* Whether the kernel itself makes all changes there, and so tells of each. */
static bool is_local(int dir)
{
	static const long types[] = {EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC,
		F2FS_SUPER_MAGIC, TMPFS_MAGIC, OVERLAYFS_SUPER_MAGIC};
	struct statfs fs;

	if (fstatfs(dir, &fs) < 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (fs.f_type == types[i])
			return true;
	return false;
}

/* Whether nothing can happen there unseen. */
static bool watch_store(const struct process *p, int store)
{
	char path[32];

	if (store < 0)
		return true;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", store);
	if (inotify_add_watch(p->inotify, path,
		    IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | IN_MOVE | IN_DELETE |
			    IN_DELETE_SELF) >= 0)
		return is_local(store);
	log_warn("the secret store cannot be watched");
	return false;
}

/* Hand over what lets the gate use an answer again. It learns that something has changed in a
 * store, not what: of the descriptor that has the names it gets only one that watches it. */
static int give_watch(struct process *p, struct err *err)
{
	struct epoll_event ev = {.events = EPOLLIN};
	const struct broker_msg m = {.type = BROKER_WATCH};

	p->pending = epoll_create1(EPOLL_CLOEXEC);
	p->changed = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (p->pending < 0 || p->changed < 0 ||
		epoll_ctl(p->pending, EPOLL_CTL_ADD, p->inotify, &ev) < 0 ||
		fd_send(FD_GATE, &m, sizeof(m), (int[]){p->pending, p->changed}, 2) < 0)
		return err_errno(err, "watch the secret store");
	return 0;
}

/* What is kept is compared with the store for every question; the watch makes that happen at once,
 * and tells the gate when it has to ask again. */
static int watch_stores(struct process *p, const int stores[2], struct err *err)
{
	bool all_seen = true;

	p->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (p->inotify < 0 || loop_add(p->loop, &p->changes, p->inotify, EPOLLIN, on_change) < 0)
		return 0;
	for (int i = 0; i < 2; i++)
		all_seen = watch_store(p, stores[i]) && all_seen;
	return all_seen ? give_watch(p, err) : 0;
}

static int given(int fd)
{
	return fcntl(fd, F_GETFD) < 0 ? -1 : fd;
}

static int start(struct process *p, const char *box, char **services, struct err *err)
{
	const int stores[2] = {given(FD_OWN_SECRETS), given(FD_SECRETS)};
	struct timeval limit = {.tv_sec = SEND_SECONDS};
	struct rlimit core = {0};

	for (int fd = FD_GATE; fd < FD_END; fd++)
		fd_set_cloexec(fd, true);
	close_range(FD_END, ~0u, 0);
	setrlimit(RLIMIT_CORE, &core);
	prctl(PR_SET_DUMPABLE, TRACEABLE, 0, 0, 0);
	setsockopt(FD_GATE, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	p->loop = loop_new(err);
	if (!p->loop)
		return -1;
	p->broker = broker_new(p->loop, stores, box, services, send_answer, tell_gate, p, err);
	if (!p->broker || loop_add(p->loop, &p->gate, FD_GATE, EPOLLIN, on_gate) < 0)
		return p->broker ? err_errno(err, "watch the gate") : -1;
	return watch_stores(p, stores, err);
}

int main(int argc, char **argv)
{
	struct process p = {
		.inotify = -1, .pending = -1, .changed = -1, .gate.fd = -1, .changes.fd = -1};
	const char *home = getenv("HOME");
	struct err err = {0};
	int status = -1;

	if (argc < 2) {
		fprintf(stderr, "usage: hutch-secret NAME SERVICE... (started by hutch-box)\n");
		return 125;
	}
	log_init("secret", argv[1], LOG_INFO);
	signal(SIGPIPE, SIG_IGN);
	/* Commands run in the same place whoever starts the sandbox, from wherever. */
	if (!home || chdir(home) < 0)
		log_info("commands run in the directory of the start");
	if (start(&p, argv[1], argv + 2, &err) == 0)
		status = loop_run(p.loop, &err);
	if (status < 0)
		log_error("%s", err.msg);
	broker_free(p.broker);
	if (p.loop)
		loop_free(p.loop);
	close_and_reset(&p.inotify);
	close_and_reset(&p.pending);
	close_and_reset(&p.changed);
	return status < 0 ? 1 : status;
}

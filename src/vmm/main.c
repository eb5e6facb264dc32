/* SPDX-License-Identifier: Apache-2.0 */
/* hutch-vmm --serve NAME: the devices of one sandbox, offered to qemu over vhost-user.
 *
 * It parses every byte that a hostile guest sends to its devices, and holds nothing worth having:
 * before the first of them it gives up its namespaces, its root directory and its capabilities, and
 * keeps only the descriptors of its table (ARCHITECTURE.md). Two threads that share no state but the
 * file server's export list: one serves files, the other the network, vsock and the links. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/jail.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/mem.h"
#include "dev/fs.h"
#include "dev/net.h"
#include "dev/vsock.h"
#include "fuse/fuse.h"
#include "virtio/vhost_user.h"
#include "vmm/netgate.h"
#include "wire/agent.h"
#include "wire/link.h"

/* FD_NET listens: qemu's network device connects to it by path. */
enum { FD_BOX = 3, FD_GATE, FD_FS, FD_NET, FD_VSOCK };

#define GUEST_CID 3
#define AGENT_ID  1000 /* who the host user's files belong to inside */

struct vmm {
	struct loop *loop;
	struct loop_watch box_w, net_w;
	struct fuse_server *files;
	struct vsock *vsock;
	struct netgate *netgate;
};

/* A front end that hung up or broke the protocol: the virtual machine is gone. */
static void on_frontend_gone(struct vhost_user *vu, void *arg)
{
	const char *why = vhost_user_error(vu)->msg;

	log_info("device=%s front end gone%s%s", (const char *)arg, *why ? ": " : "", why);
	_exit(0);
}

static void on_gate_gone(void *arg)
{
	log_info("gate link closed");
	_exit(0);
}

static int accept_stream(void *arg, uint32_t port)
{
	struct link_packet p = {.m = {.type = LINK_CONTROL}};
	int fd[2], ours;

	if (port != AGENT_CONTROL_PORT || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
		return -1;
	ours = fd[0];
	if (fd_send(FD_BOX, &p, sizeof(p.m), &fd[1], 1) < 0)
		close_and_reset(&ours);
	close(fd[1]);
	return ours;
}

static const struct vsock_host vsock_ops = {.accept = accept_stream};

static void box_message(struct vmm *v, struct link_packet *p, int fds[], size_t nfds)
{
	char name[64];
	struct err err;

	switch (p->m.type) {
	case LINK_EXPORT:
		if (p->m.len == 0 || p->m.len >= sizeof(name))
			break;
		memcpy(name, p->data, p->m.len);
		name[p->m.len] = '\0';
		if (fuse_export_add(v->files, name, steal_fd(&fds[0]), p->m.arg != 0, &err) < 0)
			log_error("export %s: %s", name, err.msg);
		break;
	case LINK_CONNECT:
		vsock_connect(v->vsock, steal_fd(&fds[0]), p->m.arg);
		break;
	default:
		log_limited(LOG_WARN, "box: unexpected %s", link_type_name(p->m.type));
	}
	for (size_t i = 0; i < nfds; i++)
		close_and_reset(&fds[i]);
}

static void on_box(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct vmm *v = container_of(w, struct vmm, box_w);
	static struct link_packet p; /* 4 KiB, off the stack */
	int fds[FD_PASS_MAX];
	size_t nfds;
	ssize_t n = fd_recv(FD_BOX, &p, sizeof(p), fds, &nfds);

	if (n < 0 && (errno == EAGAIN || errno == EMSGSIZE))
		return;
	if (n <= 0)
		_exit(0); /* the supervisor is gone */
	if (!link_check(&p, (size_t)n, nfds)) {
		for (size_t i = 0; i < nfds; i++)
			close(fds[i]);
		return;
	}
	box_message(v, &p, fds, nfds);
}

static void *serve_files(void *arg)
{
	struct fuse_server *files = arg;
	struct err err;
	struct loop *loop = loop_new(&err);
	struct fsdev *dev = fsdev_new(files);

	if (!loop || !vhost_user_new(loop, FD_FS, fsdev_vdev(dev), on_frontend_gone,
			     (void *)(uintptr_t)"fs", &err) ||
		loop_run(loop, &err) < 0)
		log_error("files: %s", err.msg);
	_exit(1);
}

/* A share with many files needs many descriptors; take what the hard limit allows. */
static unsigned raise_fd_limit(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0)
		return 1024;
	lim.rlim_cur = MIN(lim.rlim_max, (rlim_t)65536);
	setrlimit(RLIMIT_NOFILE, &lim);
	return (unsigned)lim.rlim_cur;
}

static void on_net_connect(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct vmm *v = container_of(w, struct vmm, net_w);
	int fd = accept4(FD_NET, NULL, NULL, SOCK_CLOEXEC);
	struct vdev *net = netdev_vdev(netgate_device(v->netgate));
	struct err err;

	if (fd < 0)
		return;
	/* One front end for life. */
	loop_del(l, w);
	close(FD_NET);
	if (!vhost_user_new(l, fd, net, on_frontend_gone, (void *)(uintptr_t)"net", &err)) {
		log_error("net: %s", err.msg);
		_exit(1);
	}
}

static int serve_network(struct vmm *v, struct err *err)
{
	struct netgate_config config = {.gate_fd = FD_GATE, .on_close = on_gate_gone};

	if (getrandom(config.key, sizeof(config.key), 0) != (ssize_t)sizeof(config.key))
		return err_errno(err, "getrandom");
	v->netgate = netgate_new(v->loop, &config, err);
	if (!v->netgate)
		return -1;
	v->vsock = vsock_new(v->loop, GUEST_CID, &vsock_ops, v);
	if (!vhost_user_new(v->loop, FD_VSOCK, vsock_vdev(v->vsock), on_frontend_gone,
		    (void *)(uintptr_t)"vsock", err))
		return -1;
	if (loop_add(v->loop, &v->net_w, FD_NET, EPOLLIN, on_net_connect) < 0)
		return err_errno(err, "net socket");
	fd_set_nonblock(FD_BOX, true);
	if (loop_add(v->loop, &v->box_w, FD_BOX, EPOLLIN, on_box) < 0)
		return err_errno(err, "box link");
	return 0;
}

static int serve(const char *name, struct err *err)
{
	struct link_packet ready = {.m = {.type = LINK_READY}};
	struct vmm v = {0};
	pthread_t thread;
	unsigned fds;

	log_init("vmm", name, LOG_INFO);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	umask(0); /* the guest applies its own */
	fds = raise_fd_limit();
	if (jail_enter(JAIL_USERNS | JAIL_NET | JAIL_IPC | JAIL_ROOT | JAIL_NEWPRIVS | JAIL_CAPS,
		    &ready.m.arg, err) < 0)
		return -1;
	v.loop = loop_new(err);
	if (!v.loop)
		return -1;
	v.files = fuse_server_new(&(struct fuse_config){.guest_uid = AGENT_ID,
					  .guest_gid = AGENT_ID,
					  .max_fds = fds / 2,
					  .xattr = true},
		err);
	if (!v.files || serve_network(&v, err) < 0)
		return -1;
	if (pthread_create(&thread, NULL, serve_files, v.files) != 0)
		return err_errno(err, "thread");
	if (fd_send(FD_BOX, &ready, sizeof(ready.m), NULL, 0) < 0)
		return err_errno(err, "box link");
	return loop_run(v.loop, err);
}

int main(int argc, char **argv)
{
	struct err err = {0};

	if (argc != 3 || strcmp(argv[1], "--serve") != 0) {
		fprintf(stderr, "usage: hutch-vmm --serve NAME (started by hutch-box)\n");
		return 125;
	}
	if (serve(argv[2], &err) < 0) {
		log_error("%s", err.msg);
		return 1;
	}
	return 0;
}

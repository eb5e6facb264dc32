/* SPDX-License-Identifier: Apache-2.0 */
/* hutch-vmm: the devices of one sandbox, and with --kvm the virtual machine as well.
 *
 *   hutch-vmm --serve NAME                        devices for a qemu that runs the vCPUs
 *   hutch-vmm --kvm NAME CPUS MEMORY CMDLINE      everything, on the kernel's KVM interface
 *
 * It parses every byte that a hostile guest sends to its devices, and holds nothing worth having:
 * before the first of them it gives up its namespaces, its root directory and its capabilities, keeps
 * only the descriptors of its table (ARCHITECTURE.md), and each thread only the system calls of its
 * list (seal.c). */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/jail.h"
#include "base/log.h"
#include "base/mem.h"
#include "dev/vsock.h"
#include "vmm/machine.h"
#include "vmm/netgate.h"
#include "vmm/vmm.h"
#include "wire/agent.h"
#include "wire/link.h"

#define GUEST_CID 3
#define AGENT_ID  1000 /* who the host user's files belong to inside */

static void on_gate_gone(void *arg)
{
	log_info("gate link closed");
	_exit(0);
}

static int accept_stream(void *arg, uint32_t port)
{
	struct link_msg m = {.type = port == AGENT_SSH_PORT ? LINK_SSH_AGENT : LINK_CONTROL};
	int fd[2], ours;

	if ((port != AGENT_CONTROL_PORT && port != AGENT_SSH_PORT) ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
		return -1;
	ours = fd[0];
	if (fd_send(VMM_FD_BOX, &m, sizeof(m), &fd[1], 1) < 0)
		close_and_reset(&ours);
	close(fd[1]);
	return ours;
}

static const struct vsock_host vsock_ops = {.accept = accept_stream};

static void add_export(struct vmm *v, const struct link_packet *p, int fd /* taken */)
{
	struct seal_export export = {.fd = fd, .read_only = p->m.arg != 0};
	char name[64];
	struct err err;

	if (p->m.len == 0 || p->m.len >= sizeof(name)) {
		close(fd);
		return;
	}
	memcpy(name, p->data, p->m.len);
	name[p->m.len] = '\0';
	if (fuse_export_add(v->files, name, fd, export.read_only, &err) < 0)
		log_error("export %s: %s", name, err.msg);
	else
		v->exports[v->n_exports++] = export; /* there is room: the server has the same limit */
}

static void box_message(struct vmm *v, struct link_packet *p, int fds[], size_t nfds)
{
	switch (p->m.type) {
	case LINK_EXPORT:
		if (!v->all_exports) {
			add_export(v, p, steal_fd(&fds[0]));
			break;
		}
		log_limited(LOG_WARN, "box: export refused, the file server is confined already");
		break;
	case LINK_SEAL:
		v->all_exports = true;
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

static void read_box(struct vmm *v)
{
	static struct link_packet p; /* large, off the stack */
	int fds[FD_PASS_MAX];
	size_t nfds;
	ssize_t n = fd_recv(VMM_FD_BOX, &p, sizeof(p), fds, &nfds);

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

static void on_box(struct loop *l, struct loop_watch *w, uint32_t events)
{
	read_box(container_of(w, struct vmm, box_w));
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

/* The devices' host sides, which do not care how the guest reaches them. */
static int open_devices(struct vmm *v, unsigned fds, struct err *err)
{
	struct netgate_config config = {.gate_fd = VMM_FD_GATE, .on_close = on_gate_gone};

	v->loop = loop_new(err);
	if (!v->loop)
		return -1;
	v->files = fuse_server_new(&(struct fuse_config){.guest_uid = AGENT_ID,
					   .guest_gid = AGENT_ID,
					   .max_fds = fds / 2,
					   .xattr = true},
		err);
	if (!v->files)
		return -1;
	if (getrandom(config.key, sizeof(config.key), 0) != (ssize_t)sizeof(config.key))
		return err_errno(err, "getrandom");
	v->netgate = netgate_new(v->loop, &config, err);
	if (!v->netgate)
		return -1;
	v->vsock = vsock_new(v->loop, GUEST_CID, &vsock_ops, v);
	while (!v->all_exports)
		read_box(v);
	fd_set_nonblock(VMM_FD_BOX, true);
	if (loop_add(v->loop, &v->box_w, VMM_FD_BOX, EPOLLIN, on_box) < 0)
		return err_errno(err, "box link");
	return 0;
}

/* @machine: NULL for --serve. */
static int run(const struct machine_config *machine, struct err *err)
{
	struct link_msg ready = {.type = LINK_READY};
	struct hv *hv = NULL;
	static struct vmm v; /* the threads have it */
	unsigned fds;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	umask(0); /* the guest applies its own */
	fds = raise_fd_limit();
	if (machine && !(hv = hv_open(err)))
		return -1;
	if (jail_enter(JAIL_USERNS | JAIL_NET | JAIL_IPC | JAIL_ROOT | JAIL_NEWPRIVS | JAIL_CAPS,
		    &ready.arg, err) < 0)
		return -1;
	/* First, for it goes on beside everything else; not before the jail, for whoever has threads gets no
	 * user namespace. */
	if (machine && machine_load(machine, err) < 0)
		return -1;
	if (open_devices(&v, fds, err) < 0 || fuse_start_closer(v.files, seal_closer, err) < 0 ||
		(machine ? machine_start(&v, hv, err) : serve_start(&v, err)) < 0 ||
		seal_main(&ready.arg, err) < 0)
		return -1;
	if (machine)
		machine_go();
	if (fd_send(VMM_FD_BOX, &ready, sizeof(ready), NULL, 0) < 0)
		return err_errno(err, "box link");
	return loop_run(v.loop, err);
}

static bool parse_machine(char **argv, struct machine_config *c)
{
	char *end;

	c->cpus = (unsigned)strtoul(argv[0], &end, 10);
	if (*end || c->cpus == 0 || c->cpus > HV_VCPUS_MAX)
		return false;
	errno = 0;
	c->memory = strtoull(argv[1], &end, 10);
	c->cmdline = argv[2];
	return !*end && !errno;
}

int main(int argc, char **argv)
{
	static struct machine_config machine; /* the machine has it */
	struct timespec begin;
	struct err err = {0};
	bool kvm = argc == 6 && strcmp(argv[1], "--kvm") == 0;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	machine.begin_ns = (uint64_t)begin.tv_sec * 1000000000u + (uint64_t)begin.tv_nsec;
	if (!(argc == 3 && strcmp(argv[1], "--serve") == 0) &&
		!(kvm && parse_machine(argv + 3, &machine))) {
		fprintf(stderr, "usage: hutch-vmm --serve NAME | --kvm NAME CPUS MEMORY CMDLINE "
				"(started by hutch-box)\n");
		return 125;
	}
	log_init("vmm", argv[2], LOG_INFO);
	if (run(kvm ? &machine : NULL, &err) < 0) {
		log_error("%s", err.msg);
		return 1;
	}
	return 0;
}

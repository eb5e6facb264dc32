/* SPDX-License-Identifier: Apache-2.0 */
/* The children of the supervisor: socket pairs between them, their descriptor tables, their ends.
 *
 * The order does not matter: every process waits for its peers on sockets that exist before any of
 * them starts, so all three start at once. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/fs.h"
#include "base/jail.h"
#include "base/log.h"
#include "base/paths.h"
#include "box/box.h"
#include "box/environ.h"
#include "image/cache.h"
#include "image/virt.h"
#include "wire/link.h"

static const char *const worker_names[] = {"hutch-gate", "hutch-vmm", "qemu",
	"hutch-secret", "hutch-ssh"};
_Static_assert(ARRAY_SIZE(worker_names) == WORKERS, "a name for every worker");

enum { DEV_FS, DEV_VSOCK, DEVS };

#define QEMU_RULES_MAX (LANDLOCK_PROGRAMS + 7)

/* One socketpair: [0] and [1] are owned until stolen. */
struct pair {
	int fd[2];
};

static void pair_cleanup(struct pair *p)
{
	close_and_reset(&p->fd[0]);
	close_and_reset(&p->fd[1]);
}
#define _pair_ __attribute__((cleanup(pair_cleanup)))

static int pair_make(struct pair *p, int type, struct err *err)
{
	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, p->fd) < 0) {
		*p = (struct pair){{-1, -1}};
		return err_errno(err, "socketpair");
	}
	return 0;
}

static void on_exit_event(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct worker *k = container_of(w, struct worker, w);
	struct box *b = k->box;
	enum worker_id id = (enum worker_id)(k - b->workers);
	char text[64];
	int status;

	loop_del(l, w);
	status = child_wait(&k->child);
	log_info("worker=%s ended: %s", worker_names[id],
		child_status_text(status, text, sizeof(text)));
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		log_error("worker=%s killed by SIGSYS: it made a system call that its filter forbids",
			worker_names[id]);
	box_worker_ended(b, id, status);
}

int worker_spawn(struct box *b, enum worker_id id, const struct child_spec *spec, struct err *err)
{
	struct worker *k = &b->workers[id];

	k->box = b;
	if (child_spawn(spec, &k->child, err) < 0)
		return -1;
	if (loop_add(b->loop, &k->w, k->child.pidfd, EPOLLIN, on_exit_event) < 0)
		return err_errno(err, "watch %s", worker_names[id]);
	log_info("worker=%s pid=%d started", worker_names[id], (int)k->child.pid);
	b->jail_missing[id] = k->child.jail_missing;
	return 0;
}

static void vmm_message(struct box *b, const struct link_packet *p, int fds[], size_t nfds)
{
	if (p->m.type == LINK_READY && !b->vmm_ready) {
		b->vmm_ready = true;
		b->jail_missing[WORKER_VMM] |= p->m.arg;
	} else if (p->m.type == LINK_CONTROL && b->control.fd < 0 && !b->guest_hello) {
		guest_accept_control(b, steal_fd(&fds[0]));
	} else if (p->m.type == LINK_SSH_AGENT) {
		ssh_connection(b, steal_fd(&fds[0]));
	} else {
		log_limited(LOG_WARN, "vmm: unexpected %s", link_type_name(p->m.type));
	}
	for (size_t i = 0; i < nfds; i++)
		close_and_reset(&fds[i]);
}

static void on_vmm(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct box *b = container_of(w, struct box, vmm_w);
	static struct link_packet p; /* large, off the stack */
	int fds[FD_PASS_MAX];
	size_t nfds;
	ssize_t n = fd_recv(b->vmm_link, &p, sizeof(p), fds, &nfds);

	if (n < 0 && (errno == EAGAIN || errno == EMSGSIZE))
		return;
	if (n <= 0) {
		loop_del(l, w); /* its end is reported by the pidfd */
		return;
	}
	if (!link_check(&p, (size_t)n, nfds)) {
		log_limited(LOG_WARN, "vmm: malformed message");
		for (size_t i = 0; i < nfds; i++)
			close(fds[i]);
		return;
	}
	vmm_message(b, &p, fds, nfds);
	box_advance(b);
}

static void gate_line(struct box *b, const char *line)
{
	json_error_t jerr;
	json_t *j = json_loads(line, JSON_REJECT_DUPLICATES, &jerr);
	const char *event = json_string_value(json_object_get(j, "event"));
	const char *text = json_string_value(json_object_get(j, "text"));
	const char *ca = json_string_value(json_object_get(j, "ca"));
	const char *phase = json_string_value(json_object_get(j, "phase"));
	struct err err;

	if (event && strcmp(event, "ready") == 0 && ca) {
		free(b->ca_pem);
		b->ca_pem = xstrdup(ca);
		b->gate_ready = true;
		b->jail_missing[WORKER_GATE] |=
			(unsigned)json_integer_value(json_object_get(j, "jail_missing"));
		if (phase && strcmp(phase, "runtime") == 0)
			setup_phase_ended(b);
	} else if (event && strcmp(event, "notice") == 0 && text) {
		control_progress(b, "%s", text);
		if (b->state == BOX_SETUP)
			setup_phase_failed(b, text);
	} else if (event && strcmp(event, "question") == 0 && text) {
		control_question(b, text);
	} else if (event && strcmp(event, "error") == 0 && text) {
		err_set(&err, ERR_ENV, "gate: %s", text);
		box_fail(b, &err);
	}
	json_decref(j);
	box_advance(b);
}

static void on_gate(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct box *b = container_of(w, struct box, gate_w);
	ssize_t n = buf_read(&b->gate_in, b->gate_control, 65536);
	char *nl;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		loop_del(l, w);
		return;
	}
	while ((nl = memchr(buf_head(&b->gate_in), '\n', buf_len(&b->gate_in)))) {
		size_t len = (size_t)(nl + 1 - (char *)buf_head(&b->gate_in));

		*nl = '\0';
		gate_line(b, (const char *)buf_head(&b->gate_in));
		buf_consume(&b->gate_in, len);
		if (buf_len(&b->gate_in) == 0)
			break;
	}
}

/* The sandbox's own network section, and behind it the user's rules for all sandboxes. */
static json_t *network_json(const struct box *b, struct err *err)
{
	struct spec_rules user;
	json_t *net = NULL, *rules = NULL;

	if (spec_rules_load(&user, err) == 0) {
		net = spec_net_to_json(&b->spec.net);
		rules = spec_rules_to_json(&user);
		if (!net || !rules ||
			json_array_extend(json_object_get(net, "rules"),
				json_object_get(rules, "rules")) < 0) {
			err_set(err, ERR_BUG, "gate configuration cannot be encoded");
			json_decref(net);
			net = NULL;
		}
	}
	json_decref(rules);
	spec_rules_done(&user);
	return net;
}

static int gate_send(struct box *b, json_t *msg /* taken */, struct err *err)
{
	char *line = msg ? json_dumps(msg, JSON_COMPACT) : NULL;
	_free_ char *with_nl = NULL;
	int result = 0;

	json_decref(msg);
	if (!line)
		return err_set(err, ERR_BUG, "a message to the gate cannot be encoded");
	with_nl = xasprintf("%s\n", line);
	free(line);
	/* Blocking, but the gate always reads its control socket. */
	fd_set_nonblock(b->gate_control, false);
	if (fd_write_all(b->gate_control, with_nl, strlen(with_nl)) < 0)
		result = err_errno(err, "gate");
	fd_set_nonblock(b->gate_control, true);
	return result;
}

static int gate_configure(struct box *b, struct err *err)
{
	json_t *net = network_json(b, err);

	if (!net)
		return -1;
	return gate_send(b,
		json_pack("{s:s, s:s, s:s, s:o}", "op", "configure", "name", b->spec.name, "phase",
			spec_phase_name(b->phase), "network", net),
		err);
}

int workers_end_install(struct box *b, struct err *err)
{
	b->phase = SPEC_RUNTIME;
	if (b->spec.ssh_phase == SPEC_INSTALL && b->ssh_link >= 0)
		ssh_stop(b); /* hutch-ssh ends with its link, and its connections with it */
	return gate_configure(b, err);
}

int workers_answer(struct box *b, const char *op, const char *id, struct err *err)
{
	if (b->gate_control < 0)
		return err_set(err, ERR_ENV, "the gate does not run");
	return gate_send(b, json_pack("{s:s, s:s}", "op", op, "id", id), err);
}

/* The gate's own part of the sandbox: it must not write the plan that the next start reads. */
static int open_gate_dir(struct box *b, struct err *err)
{
	int fd;

	if (mkdirat(b->dir_fd, "gate", 0700) < 0 && errno != EEXIST)
		return err_errno(err, "%s/gate", b->dir);
	fd = openat(b->dir_fd, "gate", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? err_errno(err, "%s/gate", b->dir) : fd;
}

/* The secrets for all sandboxes, and those of this one, which go with its directory. */
static int open_secrets(struct box *b, int *ret_all, int *ret_own, struct err *err)
{
	_free_ char *all = path_data("secrets", err);

	if (!all)
		return -1;
	if (mkdirat(b->dir_fd, "secrets", 0700) < 0 && errno != EEXIST)
		return err_errno(err, "%s/secrets", b->dir);
	*ret_all = open(all, O_PATH | O_DIRECTORY | O_CLOEXEC);
	*ret_own = openat(b->dir_fd, "secrets", O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return *ret_own < 0 ? err_errno(err, "%s/secrets", b->dir) : 0;
}

/* Tokens that OAuth endpoints have issued, to be written by the gate. Apart from the secrets: those
 * can name commands. -1 for none; *err says whether that is a failure. */
static int open_tokens(struct box *b, struct err *err)
{
	_free_ char *path = NULL;
	bool wanted = false;
	int fd;

	for (size_t i = 0; i < b->spec.net.n_credentials; i++)
		wanted = wanted || b->spec.net.credentials[i].n_oauth > 0;
	if (!wanted)
		return -1;
	path = path_data("tokens", err);
	if (!path || fs_mkdirs(path, 0700, err) < 0)
		return -1;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? err_errno(err, "%s", path) : fd;
}

/* Started first, with the whole environment of the command that starts the sandbox; then that is
 * forgotten here. */
static int start_secret(struct box *b, struct pair *gate, struct err *err)
{
	_free_ char *path = path_program("hutch-secret");
	_close_ int all = -1, own = -1;
	struct strv argv = {0};
	int fds[3], result = 0;

	strv_add(&argv, "hutch-secret");
	strv_add(&argv, b->spec.name);
	for (size_t i = 0; i < b->spec.net.n_credentials; i++)
		strv_add(&argv, b->spec.net.credentials[i].service);
	if (b->spec.net.n_credentials)
		result = open_secrets(b, &all, &own, err);
	fds[0] = gate->fd[0];
	fds[1] = all;
	fds[2] = own;
	if (result == 0 && b->spec.net.n_credentials)
		result = worker_spawn(b, WORKER_SECRET,
			&(struct child_spec){.path = path,
				.argv = argv.v,
				.in = CHILD_NULL,
				.out = CHILD_NULL,
				.errout = CHILD_INHERIT,
				.fds = fds,
				.nfds = ARRAY_SIZE(fds)},
			err);
	strv_done(&argv);
	environ_forget();
	return result;
}

static int start_gate(struct box *b, struct pair *control, struct pair *link, struct pair *secret,
	struct err *err)
{
	_free_ char *path = path_program("hutch-gate");
	_close_ int tokens = -1, dir_fd = open_gate_dir(b, err);
	char **argv = ARGV("hutch-gate", b->spec.name);
	struct strv env = {0};
	struct err why = {0};
	int fds[5], result;

	if (dir_fd < 0)
		return -1;
	tokens = open_tokens(b, &why);
	if (why.class) {
		*err = why;
		return -1;
	}
	fds[0] = control->fd[1];
	fds[1] = link->fd[1];
	fds[2] = dir_fd;
	fds[3] = b->spec.net.n_credentials ? secret->fd[1] : -1;
	fds[4] = tokens;
	environ_pick(ENVIRON_NETWORK, &env);
	result = worker_spawn(b, WORKER_GATE,
		    &(struct child_spec){.path = path,
			    .argv = argv,
			    .envp = env.v,
			    .in = CHILD_NULL,
			    .out = CHILD_NULL,
			    .errout = CHILD_INHERIT,
			    .fds = fds,
			    .nfds = ARRAY_SIZE(fds),
			    .jail = JAIL_PID | JAIL_IPC},
		    err);
	strv_done(&env);
	if (result < 0)
		return -1;
	b->gate_control = steal_fd(&control->fd[0]);
	if (gate_configure(b, err) < 0)
		return -1;
	if (loop_add(b->loop, &b->gate_w, b->gate_control, EPOLLIN, on_gate) < 0)
		return err_errno(err, "watch gate");
	return 0;
}

static int watch_vmm(struct box *b, struct pair *link, struct err *err)
{
	b->vmm_link = steal_fd(&link->fd[0]);
	if (exports_send(b, err) < 0)
		return -1;
	fd_set_nonblock(b->vmm_link, true);
	if (loop_add(b->loop, &b->vmm_w, b->vmm_link, EPOLLIN, on_vmm) < 0)
		return err_errno(err, "watch vmm");
	return 0;
}

static int spawn_vmm(struct box *b, char *const *argv, const int *fds, size_t nfds, struct err *err)
{
	_free_ char *path = path_program("hutch-vmm");
	struct strv env = {0};
	int result;

	environ_pick(ENVIRON_NOBODY, &env);
	result = worker_spawn(b, WORKER_VMM,
		&(struct child_spec){.path = path,
			.argv = argv,
			.envp = env.v,
			.in = CHILD_NULL,
			.out = CHILD_NULL,
			.errout = CHILD_INHERIT,
			.fds = fds,
			.nfds = nfds,
			.jail = JAIL_PID},
		err);
	strv_done(&env);
	return result;
}

/* Only a first start installs, and only where steps are to run that others have not run for it. */
static enum spec_phase first_phase(const struct box *b, bool first_start)
{
	bool phases = spec_net_has_phases(&b->spec.net) || b->spec.ssh_phase != SPEC_ALWAYS;

	return first_start && !b->installed && spec_has_hooks(&b->spec) && phases ? SPEC_INSTALL
										 : SPEC_RUNTIME;
}

static int open_disk(struct box *b, struct err *err)
{
	_free_ char *path = fs_join(b->dir, "disk.img");
	bool first_start = !spec_is_set_up(b->dir_fd, &b->spec);
	int fd;

	/* A first start that did not finish left a disk in an unknown state: begin anew. Later ones have
	 * volumes there, and only their layer is made anew (guest/layer.c). */
	if (first_start && !b->spec.generation) {
		int kept = 0;

		unlinkat(b->dir_fd, "disk.img", 0);
		if (b->spec.cache_key[0])
			kept = image_cache_restore(b->spec.cache_key, path, err);
		if (kept < 0)
			return -1;
		b->installed = kept > 0;
	}
	b->phase = first_phase(b, first_start);
	if (faccessat(b->dir_fd, "disk.img", F_OK, 0) < 0 &&
		image_disk_create(path, b->spec.disk_bytes, err) < 0)
		return -1;
	fd = openat(b->dir_fd, "disk.img", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_errno(err, "%s", path);
	return fd;
}

/* What a virtual machine is started with, whatever the engine. */
struct boot_files {
	struct kernel_pack pack;
	char *root_path;
	int root_fd, disk_fd, console_wr; /* owned */
};

static void boot_files_done(struct boot_files *f)
{
	kernel_pack_done(&f->pack);
	free(f->root_path);
	close_and_reset(&f->root_fd);
	close_and_reset(&f->disk_fd);
	close_and_reset(&f->console_wr);
}
#define _boot_files_ __attribute__((cleanup(boot_files_done)))

static int open_boot_files(struct box *b, struct boot_files *f, struct err *err)
{
	_free_ char *pinned = NULL;
	int pipefd[2];

	if (image_kernel(&f->pack, err) < 0 ||
		image_find(b->spec.image, &b->spec.layers, &f->root_path, &pinned, err) < 0)
		return -1;
	exports_add_modules(b, &f->pack);
	f->root_fd = open(f->root_path, O_RDONLY | O_CLOEXEC);
	if (f->root_fd < 0)
		return err_errno(err, "%s", f->root_path);
	f->disk_fd = open_disk(b, err);
	if (f->disk_fd < 0)
		return -1;
	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return err_errno(err, "pipe");
	console_start(b, pipefd[0]);
	f->console_wr = pipefd[1];
	return 0;
}

/* The programs and libraries of the host, what boots, and nothing of anybody's. @dir: where the program
 * is, when not in a place like any. */
static size_t qemu_rules(const struct box *b, const struct kernel_pack *pack, const char *dir,
	struct landlock_rule rules[static QEMU_RULES_MAX])
{
	static const char *const more[] = {"/sys/devices/system", "/dev/urandom", "/proc/meminfo"};
	size_t n = landlock_programs(rules);

	for (size_t i = 0; i < ARRAY_SIZE(more); i++)
		rules[n++] = (struct landlock_rule){.path = more[i], .access = LANDLOCK_LOOK};
	rules[n++] = (struct landlock_rule){.path = dir, .access = LANDLOCK_LOOK | LANDLOCK_RUN};
	rules[n++] = (struct landlock_rule){.path = pack->kernel, .access = LANDLOCK_LOOK};
	rules[n++] = (struct landlock_rule){.path = pack->initrd, .access = LANDLOCK_LOOK};
	rules[n++] = (struct landlock_rule){.path = b->net_socket, .access = LANDLOCK_LOOK};
	return n;
}

/* Kernel parameters besides the engine's. Owned. */
static char *kernel_args(const struct box *b)
{
	const struct box_spec *s = &b->spec;
	const char *debugging = getenv("HUTCH_KERNEL_ARGS"); /* such as hutch.trace */
	bool loop = false;

	for (size_t i = 0; i < s->n_volumes; i++)
		loop |= !s->volumes[i].tmpfs &&
			(s->volumes[i].size_bytes || s->volumes[i].zero_size);
	return xasprintf("%s hutch.generation=%llu%s %s", loop ? "hutch.loop" : "",
		(unsigned long long)s->generation,
		spec_is_set_up(b->dir_fd, s) ? "" : " hutch.fresh", debugging ? debugging : "");
}

static int start_qemu(struct box *b, const struct boot_files *boot, struct pair dev[], struct err *err)
{
	static const char name[] = "qemu-system-x86_64";
	_free_ char *args = kernel_args(b), *program = path_find(name);
	_free_ char *dir = path_dir(program ? program : "/");
	/* Its root directory has no /proc to tell it where its own files are. */
	struct engine_files files = {.program = program ? program : name,
		.kernel = boot->pack.kernel,
		.initrd = boot->pack.initrd,
		.net_socket = b->net_socket,
		.kernel_args = args,
		.tsc_khz = engine_qemu_clock_khz(&b->clock)};
	int fds[] = {dev[DEV_FS].fd[1], dev[DEV_VSOCK].fd[1], boot->root_fd, boot->disk_fd};
	struct landlock_rule rules[QEMU_RULES_MAX];
	struct strv argv = {0}, env = {0};
	int result;

	environ_pick(ENVIRON_HOST, &env);
	engine_qemu_argv(&b->spec, &files, &argv);
	result = worker_spawn(b, WORKER_QEMU,
		&(struct child_spec){.path = files.program,
			.argv = argv.v,
			.envp = env.v,
			.in = CHILD_NULL,
			.out = boot->console_wr,
			.errout = CHILD_INHERIT,
			.fds = fds,
			.nfds = ARRAY_SIZE(fds),
			.jail = JAIL_USERNS | JAIL_PID | JAIL_NET | JAIL_IPC | JAIL_ROOT |
				JAIL_CAPS | JAIL_NEWPRIVS,
			.rules = rules,
			.n_rules = qemu_rules(b, &boot->pack, dir, rules)},
		err);
	if (result < 0 && err->errnum == ENOENT) {
		err_set(err, ERR_ENV, "%s is not installed", name);
		err_hint(err, "apt install qemu-system-x86");
	}
	strv_done(&argv);
	strv_done(&env);
	return result;
}

/* A socket file beside the control socket; the supervisor's directory may be too deep for one. */
static int listen_net(struct box *b, struct err *err)
{
	_free_ char *runtime = path_runtime(err);
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	_close_ int fd = -1;

	if (!runtime)
		return -1;
	b->net_socket = xasprintf("%s/%s.net", runtime, b->name);
	if (strlen(b->net_socket) >= sizeof(addr.sun_path))
		return err_set(err, ERR_USER, "%s: too long for a socket name", b->net_socket);
	memcpy(addr.sun_path, b->net_socket, strlen(b->net_socket) + 1);
	unlink(b->net_socket);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 1) < 0)
		return err_errno(err, "%s", b->net_socket);
	return steal_fd(&fd);
}

/* qemu runs the vCPUs, hutch-vmm the devices. */
static int start_engine_qemu(struct box *b, const struct boot_files *boot, struct pair *vmm_link,
	struct pair *gate_link, struct err *err)
{
	_pair_ struct pair fs = {{-1, -1}}, vsock = {{-1, -1}};
	_close_ int net_listener = listen_net(b, err);
	char **argv = ARGV("hutch-vmm", "--serve", b->spec.name);
	struct pair dev[DEVS];

	if (net_listener < 0 || pair_make(&fs, SOCK_STREAM, err) < 0 ||
		pair_make(&vsock, SOCK_STREAM, err) < 0)
		return -1;
	dev[DEV_FS] = fs;
	dev[DEV_VSOCK] = vsock;
	if (start_qemu(b, boot, dev, err) < 0)
		return -1;
	int fds[] = {vmm_link->fd[1], gate_link->fd[0], fs.fd[0], net_listener, vsock.fd[0]};

	return spawn_vmm(b, argv, fds, ARRAY_SIZE(fds), err);
}

/* hutch-vmm runs all of it. */
static int start_engine_kvm(struct box *b, const struct boot_files *boot, struct pair *vmm_link,
	struct pair *gate_link, struct err *err)
{
	_close_ int kernel = open(boot->pack.kernel, O_RDONLY | O_CLOEXEC);
	_close_ int initrd = open(boot->pack.initrd, O_RDONLY | O_CLOEXEC);
	int fds[] = {vmm_link->fd[1], gate_link->fd[0], kernel, initrd, boot->root_fd, boot->disk_fd,
		boot->console_wr};
	_free_ char *args = kernel_args(b);
	struct strv argv = {0};
	int result;

	if (kernel < 0 || initrd < 0)
		return err_errno(err, "%s", kernel < 0 ? boot->pack.kernel : boot->pack.initrd);
	engine_kvm_argv(&b->spec, args, &argv);
	result = spawn_vmm(b, argv.v, fds, ARRAY_SIZE(fds), err);
	strv_done(&argv);
	return result;
}

int workers_start(struct box *b, struct err *err)
{
	_pair_ struct pair gate_ctl = {{-1, -1}}, gate_link = {{-1, -1}}, vmm_link = {{-1, -1}};
	_pair_ struct pair secret = {{-1, -1}};
	_boot_files_ struct boot_files boot = {.root_fd = -1, .disk_fd = -1, .console_wr = -1};
	bool kvm;

	/* Before there is a guest, rather than when everybody has reported. */
	if (b->spec.strict) {
		b->jail_missing[WORKERS] = jail_refused();
		if (workers_jailed(b, err) < 0)
			return -1;
	}
	buf_init(&b->gate_in, 256 << 10);
	if (pair_make(&gate_ctl, SOCK_STREAM, err) < 0 ||
		pair_make(&gate_link, SOCK_SEQPACKET, err) < 0 ||
		pair_make(&vmm_link, SOCK_SEQPACKET, err) < 0 ||
		pair_make(&secret, SOCK_SEQPACKET, err) < 0 || open_boot_files(b, &boot, err) < 0 ||
		ssh_start(b, err) < 0 || start_secret(b, &secret, err) < 0 ||
		virt_engine(b->spec.engine, &boot.pack, &b->engine, err) < 0)
		return -1;
	kvm = b->engine == SPEC_ENGINE_KVM;
	if ((kvm ? start_engine_kvm(b, &boot, &vmm_link, &gate_link, err) :
		   start_engine_qemu(b, &boot, &vmm_link, &gate_link, err)) < 0 ||
		watch_vmm(b, &vmm_link, err) < 0 || 
		start_gate(b, &gate_ctl, &gate_link, &secret, err) < 0)
		return -1;
	keep_prepare(b);
	guest_prepare(b, boot.root_path);
	return 0;
}

unsigned workers_missing(const struct box *b)
{
	unsigned all = 0;

	for (int i = 0; i <= WORKERS; i++)
		all |= b->jail_missing[i];
	return all;
}

int workers_jailed(struct box *b, struct err *err)
{
	unsigned all = workers_missing(b);
	char text[160];

	for (int i = 0; i <= WORKERS; i++)
		if (b->jail_missing[i])
			log_warn("%s: this host refuses isolation layers: %s",
				i < WORKERS ? worker_names[i] : "hutch-box",
				jail_layers_text(b->jail_missing[i], text, sizeof(text)));
	if (!all || !b->spec.strict)
		return 0;
	err_set(err, ERR_ENV, "this host refuses isolation layers: %s",
		jail_layers_text(all, text, sizeof(text)));
	return err_hint(err, "hutch doctor says how to get them; without --strict it runs with less");
}

void workers_tell_missing(struct box *b)
{
	unsigned all = workers_missing(b);
	char text[160];

	if (all)
		control_progress(b, "this host refuses isolation layers: %s (see hutch doctor)",
			jail_layers_text(all, text, sizeof(text)));
}

void workers_kill(struct box *b)
{
	for (int i = 0; i < WORKERS; i++)
		child_kill(&b->workers[i].child, SIGKILL);
}

bool workers_running(const struct box *b)
{
	for (int i = 0; i < WORKERS; i++)
		if (b->workers[i].child.pid > 0)
			return true;
	return false;
}

int workers_reload(struct box *b, struct err *err)
{
	struct box_spec s;
	int result = box_read_spec(b, &s, err);

	if (result == 0) {
		struct spec_net old = b->spec.net;

		b->spec.net = s.net;
		s.net = old;
		result = gate_configure(b, err);
	}
	spec_done(&s);
	return result;
}

int workers_open_stream(struct box *b, int *ret_fd, struct err *err)
{
	struct link_msg m = {.type = LINK_CONNECT, .arg = AGENT_PORT};
	_pair_ struct pair s = {{-1, -1}};

	if (pair_make(&s, SOCK_STREAM, err) < 0)
		return -1;
	if (fd_send(b->vmm_link, &m, sizeof(m), &s.fd[1], 1) < 0)
		return err_errno(err, "open stream");
	*ret_fd = steal_fd(&s.fd[0]);
	return 0;
}

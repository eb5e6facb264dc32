/* SPDX-License-Identifier: Apache-2.0 */
/* Published ports: listening sockets and the connections behind them.
 *
 * A sealed supervisor makes no sockets. What the specification publishes is bound before; a port
 * that is published later comes as a descriptor from the command line. */
#include "box/ports.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"

#define LISTENERS_MAX 128u
#define RELAYS_MAX    256u
#define RETRY_MS      1000

struct listener {
	struct ports *ports;
	struct loop_watch w;
	int fd; /* owned */
	unsigned container, host;
	bool udp;
	struct listener *next;
};

struct ports {
	struct box *box;
	struct listener *list;
	struct relay *relays[RELAYS_MAX];
	unsigned n_listeners, n_relays;
	struct udp *udp; /* owned */
	bool started;
	struct strv lost;        /* what could not be bound, to be told when somebody listens */
	struct loop_timer retry; /* after a pause: too many connections, or no descriptor */
};

static const char *protocol(bool udp)
{
	return udp ? "udp" : "tcp";
}

static struct ports *get(struct box *b)
{
	if (!b->ports) {
		b->ports = xcalloc(1, sizeof(*b->ports));
		b->ports->box = b;
		b->ports->udp = udp_new(b);
	}
	return b->ports;
}

/* ---- connections ---- */

static void on_listener(struct loop *l, struct loop_watch *w, uint32_t events);

static void watch_all(struct ports *p)
{
	for (struct listener *li = p->list; li; li = li->next)
		if (li->w.fd < 0)
			loop_add(p->box->loop, &li->w, li->fd, EPOLLIN, on_listener);
}

static void on_retry(struct loop *l, struct loop_timer *t)
{
	watch_all(container_of(t, struct ports, retry));
}

static void pause_all(struct ports *p)
{
	for (struct listener *li = p->list; li; li = li->next)
		if (!li->udp)
			loop_del(p->box->loop, &li->w);
	loop_timer_start(p->box->loop, &p->retry, RETRY_MS, on_retry);
}

static void relay_gone(void *arg, struct relay *r)
{
	struct ports *p = arg;

	for (unsigned i = 0; i < p->n_relays; i++) {
		if (p->relays[i] != r)
			continue;
		p->relays[i] = p->relays[--p->n_relays];
		break;
	}
}

static void on_listener(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct listener *li = container_of(w, struct listener, w);
	struct ports *p = li->ports;
	struct relay *r;
	int fd;

	if (li->udp) {
		udp_receive(p->udp, li->fd, li->container);
		return;
	}
	if (p->n_relays == RELAYS_MAX) {
		log_limited(LOG_WARN, "ports: %u connections, the next ones wait", RELAYS_MAX);
		pause_all(p);
		return;
	}
	fd = accept4(li->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0) {
		if (errno != EAGAIN && errno != ECONNABORTED && errno != EINTR) {
			log_limited(LOG_WARN, "ports: accept: %s", strerror(errno));
			pause_all(p);
		}
		return;
	}
	r = relay_new(p->box, fd, li->container, relay_gone, p);
	if (r)
		p->relays[p->n_relays++] = r;
}

/* ---- listening sockets ---- */

static void listener_free(struct listener *li)
{
	loop_del(li->ports->box->loop, &li->w);
	if (li->udp)
		udp_forget(li->ports->udp, li->fd);
	close_and_reset(&li->fd);
	free(li);
}

static bool drop(struct ports *p, unsigned container, bool udp)
{
	for (struct listener **at = &p->list; *at; at = &(*at)->next) {
		struct listener *li = *at;

		if (li->container != container || li->udp != udp)
			continue;
		*at = li->next;
		p->n_listeners--;
		listener_free(li);
		return true;
	}
	return false;
}

int ports_publish(
	struct box *b, unsigned container, bool udp, unsigned host, int fd, struct err *err)
{
	struct ports *p = get(b);
	_close_ int own = fd;
	struct listener *li;

	if (container < 1 || container > 65535 || host < 1 || host > 65535 || fd < 0)
		return err_set(err, ERR_USER, "publish: not a port");
	if (p->n_listeners == LISTENERS_MAX)
		return err_set(err, ERR_USER, "more than %u published ports", LISTENERS_MAX);
	if (fd_set_nonblock(fd, true) < 0)
		return err_errno(err, "publish");
	drop(p, container, udp);
	li = xcalloc(1, sizeof(*li));
	li->ports = p;
	li->w.fd = -1;
	li->fd = steal_fd(&own);
	li->container = container;
	li->udp = udp;
	li->host = host;
	li->next = p->list;
	p->list = li;
	p->n_listeners++;
	log_info("port=%u/%s published=127.0.0.1:%u", container, protocol(udp), host);
	if (p->started)
		watch_all(p);
	return 0;
}

int ports_unpublish(struct box *b, unsigned container, bool udp, struct err *err)
{
	if (!drop(get(b), container, udp))
		return err_set(err, ERR_USER, "port %u/%s is not published", container, protocol(udp));
	return 0;
}

/* 0: any. The port that it is, or -1 with errno. */
static int listen_on(unsigned host, bool udp, int *ret_fd)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)host),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	_close_ int fd = socket(
		AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t len = sizeof(a);
	int one = 1;

	if (fd < 0)
		return -1;
	if (!udp) { /* with UDP two sockets could have one port */
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* accepted ones too */
	}
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || (!udp && listen(fd, 64) < 0) ||
		getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		return -1;
	*ret_fd = steal_fd(&fd);
	return ntohs(a.sin_port);
}

void ports_prepare(struct box *b)
{
	/* Those that the user has chosen before those that are any. */
	for (int chosen = 1; chosen >= 0; chosen--) {
		for (size_t i = 0; i < b->spec.n_ports; i++) {
			const struct spec_port *sp = &b->spec.ports[i];
			int fd = -1, host;

			if ((sp->host != 0) != chosen)
				continue;
			host = listen_on(sp->host, sp->udp, &fd);
			if (host < 0)
				strv_addf(&get(b)->lost,
					"port %u/%s is not published at 127.0.0.1:%u: %s",
					sp->container, protocol(sp->udp), sp->host,
					strerror(errno));
			else
				ports_publish(b, sp->container, sp->udp, (unsigned)host, fd, NULL);
		}
	}
}

void ports_start(struct box *b)
{
	struct ports *p = get(b);

	p->started = true;
	watch_all(p);
	for (size_t i = 0; i < p->lost.n; i++)
		control_progress(b, "%s", p->lost.v[i]);
}

void ports_stop(struct box *b)
{
	struct ports *p = b->ports;

	if (!p)
		return;
	loop_timer_stop(b->loop, &p->retry);
	while (p->list)
		drop(p, p->list->container, p->list->udp);
	while (p->n_relays)
		relay_free(p->relays[--p->n_relays]);
	udp_free(p->udp);
	strv_done(&p->lost);
	free(p);
	b->ports = NULL;
}

json_t *ports_json(const struct box *b)
{
	json_t *list = json_array();

	for (const struct listener *li = b->ports ? b->ports->list : NULL; li; li = li->next)
		json_array_append_new(list,
			json_pack("{s:i, s:s, s:i}", "container", (int)li->container, "protocol",
				protocol(li->udp), "port", (int)li->host));
	return list;
}

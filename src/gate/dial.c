/* SPDX-License-Identifier: Apache-2.0 */
/* Real connections to the world. */
#include "gate/dial.h"

#include <ares.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/mem.h"

#define DIAL_ONE_MS  5000u
#define DIAL_ALL_MS  10000u
#define LOOKUP_MS    2000 /* first try; c-ares lengthens the next ones */
#define LOOKUP_TRIES 2
/* Questions on their way, those included whose connection is gone already. */
#define LOOKUPS_MAX 4096u
#define RESOLV_CONF "/etc/resolv.conf"

/* A socket of c-ares in our loop. */
struct lookup_sock {
	struct loop_watch watch;
	struct dialer *dialer;
	struct lookup_sock *next;
};

struct dialer {
	struct loop *loop;
	ares_channel channel; /* NULL: none yet */
	struct lookup_sock *socks;
	struct loop_timer timer;
	unsigned n_lookups;
	struct timespec conf_time; /* of RESOLV_CONF when the channel was made */
};

/* What a dial needs until it ends. */
struct dial_work {
	struct policy_addr addrs[DIAL_ADDRS_MAX];
	unsigned n_addrs, at;
	struct err err;
	char name[POLICY_NAME_MAX + 1];
};

struct lookup {
	struct dialer *dialer;
	struct dial *dial; /* NULL: cancelled */
};

/* ---- c-ares in the loop ---- */

static void on_lookup_timer(struct loop *l, struct loop_timer *t);

static void rearm(struct dialer *dr)
{
	struct timeval tv, *next = ares_timeout(dr->channel, NULL, &tv);

	if (!next)
		loop_timer_stop(dr->loop, &dr->timer);
	else
		loop_timer_start(dr->loop, &dr->timer,
			(uint64_t)next->tv_sec * 1000 + (uint64_t)next->tv_usec / 1000 + 1,
			on_lookup_timer);
}

static void on_lookup_timer(struct loop *l, struct loop_timer *t)
{
	struct dialer *dr = container_of(t, struct dialer, timer);

	ares_process_fd(dr->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	rearm(dr);
}

static void on_lookup_sock(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct dialer *dr = container_of(w, struct lookup_sock, watch)->dialer;
	int fd = w->fd;

	/* May free the watch. */
	ares_process_fd(dr->channel,
		events & (EPOLLIN | EPOLLHUP | EPOLLERR) ? fd : ARES_SOCKET_BAD,
		events & EPOLLOUT ? fd : ARES_SOCKET_BAD);
	rearm(dr);
}

static void on_sock_state(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct dialer *dr = arg;
	struct lookup_sock **at = &dr->socks, *s;
	uint32_t events = (readable ? EPOLLIN : 0u) | (writable ? EPOLLOUT : 0u);

	while (*at && (*at)->watch.fd != fd)
		at = &(*at)->next;
	s = *at;
	if (s && !events) {
		loop_del(dr->loop, &s->watch);
		*at = s->next;
		free(s);
	} else if (s) {
		loop_mod(dr->loop, &s->watch, events);
	} else if (events) {
		s = xcalloc(1, sizeof(*s));
		s->dialer = dr;
		/* When it fails the question times out, which is answered. */
		if (loop_add(dr->loop, &s->watch, fd, events, on_lookup_sock) < 0) {
			free(s);
			return;
		}
		s->next = dr->socks;
		dr->socks = s;
	}
}

/* The host may have moved to another network: read its settings again when they have changed and no
 * question is on its way. */
static int ready_channel(struct dialer *dr, struct err *err)
{
	static char lookups[] = "fb";
	struct ares_options opt = {.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES,
		.timeout = LOOKUP_MS,
		.tries = LOOKUP_TRIES,
		.lookups = lookups,
		.sock_state_cb = on_sock_state,
		.sock_state_cb_data = dr};
	struct stat st = {0};
	int r;

	stat(RESOLV_CONF, &st);
	if (dr->channel &&
		(dr->n_lookups > 0 || (st.st_mtim.tv_sec == dr->conf_time.tv_sec &&
					      st.st_mtim.tv_nsec == dr->conf_time.tv_nsec)))
		return 0;
	if (dr->channel)
		ares_destroy(dr->channel);
	dr->channel = NULL;
	dr->conf_time = st.st_mtim;
	r = ares_init_options(&dr->channel, &opt,
		ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
			ARES_OPT_SOCK_STATE_CB);
	if (r != ARES_SUCCESS) {
		dr->channel = NULL;
		return err_set(err, ERR_ENV, "resolver: %s", ares_strerror(r));
	}
	return 0;
}

struct dialer *dialer_new(struct loop *l, struct err *err)
{
	struct dialer *dr;
	int r = ares_library_init(ARES_LIB_INIT_ALL);

	if (r != ARES_SUCCESS) {
		err_set(err, ERR_ENV, "resolver: %s", ares_strerror(r));
		return NULL;
	}
	dr = xcalloc(1, sizeof(*dr));
	dr->loop = l;
	return dr;
}

void dialer_free(struct dialer *dr)
{
	if (!dr)
		return;
	if (dr->channel)
		ares_destroy(dr->channel);
	loop_timer_stop(dr->loop, &dr->timer);
	ares_library_cleanup();
	free(dr);
}

/* ---- one dial ---- */

static void next_addr(struct dial *d);

static void finish(struct dial *d, int fd)
{
	struct err err = d->work_->err;

	loop_timer_stop(d->dialer_->loop, &d->timer_);
	free(steal_ptr(&d->work_));
	d->done_(d, fd, &err);
}

static void on_finish_timer(struct loop *l, struct loop_timer *t)
{
	struct dial *d = container_of(t, struct dial, timer_);

	finish(d, -1);
}

/* Failures may be noticed inside dial_start: they are told from the loop. */
static void finish_later(struct dial *d)
{
	loop_timer_start(d->dialer_->loop, &d->timer_, 0, on_finish_timer);
}

static void drop_socket(struct dial *d)
{
	loop_del(d->dialer_->loop, &d->watch_);
	close_and_reset(&d->fd_);
	loop_timer_stop(d->dialer_->loop, &d->timer_);
}

static void set_connect_error(struct dial *d, int errnum)
{
	char text[POLICY_ADDR_TEXT];

	err_set(&d->work_->err, ERR_PEER, "connect to %s port %u: %s",
		policy_addr_text(&d->peer, text), d->port, strerror(errnum));
}

static void on_connect(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct dial *d = container_of(w, struct dial, watch_);
	socklen_t len = sizeof(int);
	int error = 0, one = 1, fd;

	if (getsockopt(d->fd_, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error) {
		set_connect_error(d, error);
		drop_socket(d);
		next_addr(d);
		return;
	}
	loop_del(l, &d->watch_);
	fd = steal_fd(&d->fd_);
	if (!d->udp_) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	}
	finish(d, fd);
}

static void on_connect_timeout(struct loop *l, struct loop_timer *t)
{
	struct dial *d = container_of(t, struct dial, timer_);

	set_connect_error(d, ETIMEDOUT);
	drop_socket(d);
	next_addr(d);
}

union sock_addr {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static socklen_t sock_addr(const struct policy_addr *a, uint16_t port, union sock_addr *ret)
{
	*ret = (union sock_addr){.v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)}};
	memcpy(&ret->v6.sin6_addr, a->b, 16);
	if (a->v6)
		return sizeof(ret->v6);
	*ret = (union sock_addr){.v4 = {.sin_family = AF_INET, .sin_port = htons(port)}};
	memcpy(&ret->v4.sin_addr, a->b, 4);
	return sizeof(ret->v4);
}

static bool can_bind(const struct policy_addr *a)
{
	union sock_addr sa;
	socklen_t len = sock_addr(a, 0, &sa);
	_close_ int fd = socket(sa.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd >= 0 && bind(fd, &sa.any, len) == 0;
}

bool dial_is_own_addr(const struct policy_addr *a)
{
	/* Reserved and "discard only": nobody has these. */
	static const struct policy_addr nobodys[] = {
		{.b = {240, 0, 0, 1}}, {.v6 = true, .b = {0x01, [15] = 1}}};

	return can_bind(a) && !can_bind(&nobodys[a->v6]);
}

static int connect_to(struct dial *d, const struct policy_addr *a)
{
	union sock_addr sa;
	socklen_t len = sock_addr(a, d->port, &sa);
	int r;

	d->fd_ = socket(sa.any.sa_family,
		(d->udp_ ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (d->fd_ < 0)
		return -1;
	do
		r = connect(d->fd_, &sa.any, len);
	while (r < 0 && errno == EINTR);
	if ((r == 0 || errno == EINPROGRESS) &&
		loop_add(d->dialer_->loop, &d->watch_, d->fd_, EPOLLOUT, on_connect) == 0)
		return 0;
	close_and_reset(&d->fd_);
	return -1;
}

/* Try the next address; without one, fail with what the last one said. */
static void next_addr(struct dial *d)
{
	struct loop *l = d->dialer_->loop;
	uint64_t now = loop_now(l);

	while (d->work_->at < d->work_->n_addrs && now < d->give_up_ns_) {
		const struct policy_addr *a = &d->work_->addrs[d->work_->at++];
		const char *why = d->check_ ? d->check_(d, a) : NULL;
		char text[POLICY_ADDR_TEXT];

		d->peer = *a;
		if (why) {
			err_set(&d->work_->err, ERR_USER, "%s is the address %s: %s",
				d->work_->name, policy_addr_text(a, text), why);
			continue;
		}
		if (connect_to(d, a) == 0) {
			loop_timer_start(l, &d->timer_,
				MIN((uint64_t)DIAL_ONE_MS, (d->give_up_ns_ - now) / 1000000 + 1),
				on_connect_timeout);
			return;
		}
		set_connect_error(d, errno);
	}
	finish_later(d);
}

static void take_family(struct dial *d, const struct ares_addrinfo *ai, int family)
{
	for (const struct ares_addrinfo_node *n = ai->nodes; n; n = n->ai_next) {
		struct policy_addr a;

		if (n->ai_family != family || d->work_->n_addrs == DIAL_ADDRS_MAX)
			continue;
		if (family == AF_INET) {
			struct sockaddr_in sin;

			memcpy(&sin, n->ai_addr, sizeof(sin));
			a = policy_addr_v4(ntohl(sin.sin_addr.s_addr));
		} else {
			struct sockaddr_in6 sin6;

			memcpy(&sin6, n->ai_addr, sizeof(sin6));
			a = policy_addr_v6(sin6.sin6_addr.s6_addr);
		}
		d->work_->addrs[d->work_->n_addrs++] = a;
	}
}

static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *ai)
{
	struct lookup *q = arg;
	struct dial *d = q->dial;

	q->dialer->n_lookups--;
	free(q);
	if (d) {
		d->lookup_ = NULL;
		err_set(&d->work_->err, ERR_ENV, "look up %s: %s", d->work_->name,
			status == ARES_SUCCESS ? "no address" : ares_strerror(status));
		if (status == ARES_SUCCESS) {
			take_family(d, ai, AF_INET);
			take_family(d, ai, AF_INET6);
		}
		d->give_up_ns_ = loop_now(d->dialer_->loop) + DIAL_ALL_MS * 1000000ull;
		next_addr(d);
	}
	if (ai)
		ares_freeaddrinfo(ai);
}

static void look_up(struct dialer *dr, struct dial *d)
{
	struct ares_addrinfo_hints hints = {
		.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = ARES_AI_NOSORT};
	struct lookup *q;

	if (dr->n_lookups >= LOOKUPS_MAX) {
		err_set(&d->work_->err, ERR_ENV, "look up %s: too many look-ups at once",
			d->work_->name);
		finish_later(d);
		return;
	}
	if (ready_channel(dr, &d->work_->err) < 0) {
		finish_later(d);
		return;
	}
	q = xcalloc(1, sizeof(*q));
	q->dialer = dr;
	q->dial = d;
	d->lookup_ = q;
	dr->n_lookups++;
	/* May answer at once, from /etc/hosts; connect errors are told later all the same. */
	ares_getaddrinfo(dr->channel, d->work_->name, NULL, &hints, on_answer, q);
	rearm(dr);
}

void dial_start(struct dialer *dr, struct dial *d, const struct dial_target *to,
	dial_check_fn *check, dial_done_fn *done)
{
	char text[POLICY_ADDR_TEXT];

	*d = (struct dial){.port = to->port,
		.udp_ = to->udp,
		.dialer_ = dr,
		.check_ = check,
		.done_ = done,
		.watch_ = {.fd = -1},
		.fd_ = -1,
		.work_ = xcalloc(1, sizeof(*d->work_))};
	snprintf(d->work_->name, sizeof(d->work_->name), "%s",
		to->name ? to->name : policy_addr_text(to->addr, text));
	if (to->name) {
		look_up(dr, d);
		return;
	}
	d->work_->addrs[d->work_->n_addrs++] = *to->addr;
	d->give_up_ns_ = loop_now(dr->loop) + DIAL_ALL_MS * 1000000ull;
	next_addr(d);
}

void dial_cancel(struct dial *d)
{
	if (!d->work_)
		return;
	free(steal_ptr(&d->work_));
	if (d->lookup_)
		d->lookup_->dial = NULL;
	d->lookup_ = NULL;
	drop_socket(d);
}

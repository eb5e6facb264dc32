/* SPDX-License-Identifier: Apache-2.0 */
/* hutch ports: which ports of a sandbox are published on this machine, and where. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "cli/boxes.h"
#include "cli/cli.h"
#include "cli/ports.h"
#include "cli/rules.h"

enum { OPT_PUBLISH = 256, OPT_UNPUBLISH, OPT_JSON };

static const struct option longs[] = {{"publish", required_argument, NULL, OPT_PUBLISH},
	{"unpublish", required_argument, NULL, OPT_UNPUBLISH},
	{"json", no_argument, NULL, OPT_JSON}, {0}};

struct wish {
	unsigned host, container; /* host 0: any */
	bool udp, away;
};

struct request {
	const char *name;
	struct wish *wishes; /* owned */
	size_t n_wishes;
	bool json;
};

#define ADDRESS "127.0.0.1:"

/* The port at the front of *@at, which moves behind it. 0: none. */
static unsigned parse_port(const char **at)
{
	unsigned long n;
	char *end;

	if (**at < '0' || **at > '9')
		return 0;
	errno = 0;
	n = strtoul(*at, &end, 10);
	*at = end;
	return errno || n > 65535 ? 0 : (unsigned)n;
}

/* "[127.0.0.1:][HOST:]CONTAINER[/PROTOCOL]" */
static int parse_wish(const char *at, struct wish *ret)
{
	struct wish w = {0};

	if (strncmp(at, ADDRESS, strlen(ADDRESS)) == 0)
		at += strlen(ADDRESS);
	w.container = parse_port(&at);
	if (w.container && *at == ':') {
		at++;
		w.host = w.container;
		w.container = parse_port(&at);
	}
	w.udp = strcmp(at, "/udp") == 0;
	if (!w.container || (*at && !w.udp && strcmp(at, "/tcp") != 0))
		return -1;
	*ret = w;
	return 0;
}

/* Options may stand before and behind the name. */
static int parse(struct request *r, int argc, char **argv)
{
	while (optind < argc) {
		int c = cli_getopt(argc, argv, "", longs);
		struct wish w;

		if (c == OPT_JSON) {
			r->json = true;
		} else if (c == OPT_PUBLISH || c == OPT_UNPUBLISH) {
			if (parse_wish(optarg, &w) < 0)
				return cli_failf("ports: %s: expected "
						 "[127.0.0.1:][HOST:]CONTAINER[/udp], ports from "
						 "1 to 65535",
					optarg);
			w.away = c == OPT_UNPUBLISH;
			r->wishes = xrealloc(r->wishes, r->n_wishes + 1, sizeof(*r->wishes));
			r->wishes[r->n_wishes++] = w;
		} else if (c != -1) {
			return CLI_FAILED;
		} else if (r->name) {
			return cli_usage("ports");
		} else {
			r->name = argv[optind++];
		}
	}
	return r->name ? 0 : cli_usage("ports");
}

/* ---- changing ---- */

static struct spec_port *find(struct box_spec *s, const struct wish *w)
{
	for (size_t i = 0; i < s->n_ports; i++)
		if (s->ports[i].container == w->container && s->ports[i].udp == w->udp)
			return &s->ports[i];
	return NULL;
}

static int listen_on(unsigned *host, bool udp, struct err *err)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
		.sin_port = htons((uint16_t)*host),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	_close_ int fd = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(a);
	int one = 1;

	if (fd < 0)
		return err_errno(err, "socket");
	if (!udp) { /* with UDP two sockets could have one port */
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	}
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || (!udp && listen(fd, 64) < 0) ||
		getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		return err_errno(err, "127.0.0.1:%u", *host);
	*host = ntohs(a.sin_port);
	return steal_fd(&fd);
}

/* Whether the sandbox serves @w already: its own socket would be in the way of a new one. */
static bool is_served(struct box_conn *conn, const struct spec_port *p, const struct wish *w)
{
	json_t *answer = NULL;
	bool yes;

	if (!p || !w->host ||
		box_request(conn, json_pack("{s:s}", "op", "ports"), &answer, NULL, NULL) < 0)
		return false;
	yes = ports_where(json_object_get(answer, "ports"), p) == w->host;
	json_decref(answer);
	return yes;
}

static int publish(struct box_spec *s, struct box_conn *conn, const struct wish *w, struct err *err)
{
	struct spec_port *p = find(s, w);
	_close_ int fd = -1;
	unsigned host = w->host;

	if (conn && !is_served(conn, p, w)) {
		fd = listen_on(&host, w->udp, err);
		if (fd < 0 || box_pass(conn,
				      json_pack("{s:s, s:i, s:s, s:i}", "op", "publish",
					      "container", (int)w->container, "protocol",
					      w->udp ? "udp" : "tcp", "port", (int)host),
				      fd, err) < 0)
			return -1;
	}
	if (!p) {
		s->ports = xrealloc(s->ports, s->n_ports + 1, sizeof(*s->ports));
		p = &s->ports[s->n_ports++];
		*p = (struct spec_port){.container = w->container,
			.udp = w->udp,
			.name = xstrdup(""),
			.kit = xstrdup("user")};
	}
	p->host = w->host;
	return 0;
}

static int unpublish(
	struct box_spec *s, struct box_conn *conn, const struct wish *w, struct err *err)
{
	struct spec_port *p = find(s, w);

	if (!p || (w->host && p->host && p->host != w->host))
		return err_set(err, ERR_USER, "port %u/%s is not published", w->container,
			w->udp ? "udp" : "tcp");
	/* One that could not be bound is not there to be taken away. */
	if (conn)
		box_request(conn,
			json_pack("{s:s, s:i, s:s}", "op", "unpublish", "container",
				(int)w->container, "protocol", w->udp ? "udp" : "tcp"),
			NULL, NULL, NULL);
	free(p->name);
	free(p->kit);
	*p = s->ports[--s->n_ports];
	return 0;
}

/* In the plan, and where the sandbox runs, at once. */
static int change(const struct request *r, struct err *err)
{
	struct ruleset set; /* holds other commands off */
	struct box_conn conn;
	bool running;
	int result = 0;

	if (ruleset_open(r->name, &set, err) < 0)
		return -1;
	running = box_connect(r->name, &conn, NULL) == 0;
	for (size_t i = 0; result == 0 && i < r->n_wishes; i++)
		result = (r->wishes[i].away ? unpublish : publish)(
			&set.spec, running ? &conn : NULL, &r->wishes[i], err);
	if (boxes_save_spec(&set.spec, result == 0 ? err : NULL) < 0)
		result = -1;
	if (running)
		box_conn_close(&conn);
	ruleset_close(&set);
	return result;
}

/* ---- showing ---- */

static void show_table(const struct box_spec *s, const json_t *live)
{
	if (s->n_ports)
		printf("%-11s %-21s %-16s %s\n", "CONTAINER", "HOST", "NAME", "FROM");
	for (size_t i = 0; i < s->n_ports; i++) {
		const struct spec_port *p = &s->ports[i];
		_free_ char *container = xasprintf("%u/%s", p->container, p->udp ? "udp" : "tcp");
		unsigned port = ports_where(live, p);
		_free_ char *host = port ? xasprintf("127.0.0.1:%u", port) : xstrdup("-");
		_free_ char *line = xasprintf("%-11s %-21s %-16s %s\n", container, host,
			p->name[0] ? p->name : "-", p->kit);

		cli_print(stdout, line);
	}
}

static int show(const struct request *r, struct err *err)
{
	struct box_conn conn;
	struct box_spec s;
	json_t *answer = NULL;
	int result = boxes_spec(r->name, &s, err);

	if (result == 0 && box_connect(r->name, &conn, NULL) == 0) {
		result = box_request(&conn, json_pack("{s:s}", "op", "ports"), &answer, NULL, err);
		box_conn_close(&conn);
	}
	if (result == 0 && r->json) {
		json_t *list = ports_list(&s, json_object_get(answer, "ports"));

		json_dumpf(list, stdout, JSON_INDENT(2));
		printf("\n");
		json_decref(list);
	} else if (result == 0) {
		show_table(&s, json_object_get(answer, "ports"));
	}
	json_decref(answer);
	spec_done(&s);
	return result;
}

static bool publishes(const struct request *r)
{
	for (size_t i = 0; i < r->n_wishes; i++)
		if (!r->wishes[i].away)
			return true;
	return false;
}

int cmd_ports(int argc, char **argv)
{
	struct request r = {0};
	struct err err;
	int status = parse(&r, argc, argv), result = 0;

	if (status == 0) {
		if (r.n_wishes)
			result = change(&r, &err);
		/* Which port it became is news. */
		if (result == 0 && (r.json || !r.n_wishes || publishes(&r)))
			result = show(&r, &err);
		status = result < 0 ? cli_fail(&err) : 0;
	}
	free(r.wishes);
	return status;
}

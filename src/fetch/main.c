/* SPDX-License-Identifier: Apache-2.0 */
/* hutch-fetch: kits from and to OCI registries, images from them.
 *
 * The request is one JSON object on standard input:
 *
 *	{"op": "resolve"|"pull"|"push"|"inspect"|"image", "host": "registry.example.com", "repo": "a/b",
 *	 "reference": "1.0" | "sha256:…", "auth": "<base64>", "token": "…",
 *	 "annotations": {…}}
 *
 * Descriptor 3 is the directory that parts of the kit come from or go to (resolve has none), or that of
 * the blobs of images. The answer is {"digest": "sha256:…"} on standard output, or one line on stderr and
 * the remedy in another. Of an image, inspect fetches all but the layers; the answer has "manifest", too,
 * and lines "progress DONE TOTAL" come before it.
 *
 * Hostile: all that the registry sends. The process keeps the network; of files it reaches the
 * directory, and what the resolver and the trust store read. It never parses an archive or YAML. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <curl/curl.h>
#include <jansson.h>

#include "base/fd.h"
#include "base/jail.h"
#include "base/mem.h"
#include "base/paths.h"
#include "base/probe.h"
#include "fetch/filters.h"
#include "fetch/image.h"
#include "fetch/registry.h"

/* No UNIX sockets (see gate/seal.c): name services that the C library would ask through one are
 * passed over, as if they did not run. */
/* syscalls(fetch): +libc +fd socket(AF_INET|AF_INET6|AF_NETLINK) connect bind getsockname
 *	getpeername getsockopt setsockopt shutdown sendto recvfrom sendmmsg readv writev ftruncate poll ppoll
 *	select pselect6 ioctl(FIONREAD|FIONBIO) socketpair(AF_UNIX) eventfd2 pipe2 openat open
 *	newfstatat stat lstat fstat statx access faccessat faccessat2 readlink lseek pread64
 *	getdents64 renameat rename unlinkat unlink fsync fchmod umask uname sysinfo getuid geteuid
 *	getgid getegid sched_getaffinity prlimit64 clone(+CLONE_THREAD) set_tid_address
 *	epoll_create1 +attack */

enum { FD_DIR = 3 };

static const char *const read_paths[] = {"/etc", "/run/systemd/resolve", "/run/NetworkManager",
	"/run/resolvconf", "/usr/lib/ssl", "/usr/share/ca-certificates",
	"/usr/local/share/ca-certificates", "/usr/share/zoneinfo", "/dev/urandom"};

static int jail(struct err *err)
{
	_free_ char *resolv = path_dir("/etc/resolv.conf"), *hosts = path_dir("/etc/hosts");
	const char *ca = getenv("SSL_CERT_FILE");
	_free_ char *bundle = ca && *ca ? path_dir(ca) : NULL;
	struct landlock_rule rules[ARRAY_SIZE(read_paths) + 4];
	size_t n = 0;
	unsigned missing = 0;

	if (fcntl(FD_DIR, F_GETFD) >= 0) /* nothing to fetch where a tag is only looked up */
		rules[n++] = (struct landlock_rule){
			.fd = FD_DIR, .access = LANDLOCK_LOOK | LANDLOCK_MODIFY};
	for (size_t i = 0; i < ARRAY_SIZE(read_paths); i++)
		rules[n++] = (struct landlock_rule){
			.path = read_paths[i], .fd = -1, .access = LANDLOCK_LOOK};
	rules[n++] = (struct landlock_rule){.path = resolv, .fd = -1, .access = LANDLOCK_LOOK};
	rules[n++] = (struct landlock_rule){.path = hosts, .fd = -1, .access = LANDLOCK_LOOK};
	if (bundle)
		rules[n++] =
			(struct landlock_rule){.path = bundle, .fd = -1, .access = LANDLOCK_LOOK};
	jail_limit(RLIMIT_CORE, 0);
	if (jail_enter(JAIL_CAPS | JAIL_NEWPRIVS, &missing, err) < 0)
		return -1;
	if (jail_seal(&(struct jail_seal){.rules = rules,
			      .n_rules = n,
			      .more = LANDLOCK_ALONE,
			      .filter = &filter_fetch},
		    &missing, err) < 0)
		return -1;
	jail_probe("fetch");
	return 0;
}

static int serve(const json_t *request, struct err *err)
{
	const char *op, *host, *repo, *reference, *auth = NULL, *token = NULL;
	const json_t *annotations = NULL;
	char digest[OCI_DIGEST];
	struct image_blobs image = {0};
	struct registry r;
	int result;

	if (json_unpack((json_t *)(uintptr_t)request, "{s:s, s:s, s:s, s:s, s?s, s?s, s?o}", "op",
		    &op, "host", &host, "repo", &repo, "reference", &reference, "auth", &auth,
		    "token", &token, "annotations", &annotations) < 0)
		return err_set(err, ERR_BUG, "hutch-fetch: not a request");
	r = (struct registry){http_new(host, auth, token, err), host, repo};
	if (!r.http)
		return -1;
	if (strcmp(op, "pull") == 0)
		result = registry_pull(&r, reference, FD_DIR, digest, err);
	else if (strcmp(op, "push") == 0)
		result = registry_push(&r, reference, FD_DIR, annotations, digest, err);
	else if (strcmp(op, "image") == 0 || strcmp(op, "inspect") == 0)
		result = image_pull(&r, reference, FD_DIR, strcmp(op, "image") == 0, &image, err);
	else
		result = registry_resolve(&r, reference, digest, err);
	http_free(r.http);
	if (result == 0 && image.top[0])
		printf("{\"digest\": \"%s\", \"manifest\": \"%s\"}\n", image.top, image.manifest);
	else if (result == 0)
		printf("{\"digest\": \"%s\"}\n", digest);
	return result;
}

static int run(struct err *err)
{
	json_t *request;
	int result;

	signal(SIGPIPE, SIG_IGN);
	if (curl_global_init(CURL_GLOBAL_ALL) != 0)
		return err_set(err, ERR_ENV, "libcurl cannot start");
	request = json_loadf(stdin, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(request)) {
		json_decref(request);
		return err_set(err, ERR_USER, "hutch-fetch is started by hutch");
	}
	result = jail(err) < 0 ? -1 : serve(request, err);
	json_decref(request);
	curl_global_cleanup();
	return result;
}

int main(void)
{
	struct err err;

	if (run(&err) == 0)
		return fflush(stdout) == 0 ? 0 : 1;
	fprintf(stderr, "%s%s%s\n", err.msg, err.hint[0] ? "\n" : "", err.hint);
	return 1;
}

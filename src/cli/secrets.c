/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets as the command line sees them. */
#include "cli/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/child.h"
#include "base/fd.h"
#include "base/fs.h"
#include "base/paths.h"
#include "cli/boxes.h"
#include "cli/tokens.h"
#include "secret/store.h"

enum { KEYRING_DONE = 0, KEYRING_NONE = 3, KEYRING_ABSENT = 4 };

int secrets_open(const char *box, struct err *err)
{
	_free_ char *path = NULL;

	if (box && (!spec_name_valid(box) || !boxes_exists(box))) {
		err_set(err, ERR_USER, "no sandbox named %s", box);
		return err_hint(err, "hutch ls");
	}
	path = box ? boxes_path(box, "secrets") : path_data("secrets", err);
	return path ? secret_store_open(path, err) : -1;
}

/* ---- the keyring ---- */

/* Run hutch-keyring, with @input (or NULL) on its standard input. Its exit status; a host without
 * the program has no keyring. */
static int keyring(const char *verb, const char *service, const char *box, struct secret *input)
{
	_free_ char *path = path_program("hutch-keyring");
	_close_ int rd = -1, wr = -1;
	char **argv = ARGV("hutch-keyring", verb, service, box);
	struct child child;
	int pipefd[2], status;

	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return -1;
	rd = pipefd[0];
	wr = pipefd[1];
	if (child_spawn(&(struct child_spec){.path = path,
				.argv = argv,
				.in = rd,
				.out = CHILD_NULL,
				.errout = CHILD_INHERIT},
		    &child, NULL) < 0)
		return KEYRING_ABSENT;
	close_and_reset(&rd);
	signal(SIGPIPE, SIG_IGN); /* it ends early when there is no keyring */
	if (input && fd_write_all(wr, secret_bytes(input), secret_len(input)) < 0)
		errno = 0;
	close_and_reset(&wr);
	status = child_wait(&child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool is_in_keyring(int store, const char *service)
{
	const int stores[2] = {store, -1};
	_source_ struct source source = {0};
	_secret_ struct secret *value = NULL;

	/* One that cannot be read can be replaced or removed all the same. */
	return source_find(stores, service, &source, &value, NULL) == 0 &&
	       source.kind == SOURCE_KEYRING;
}

static int drop_from_keyring(const char *service, const char *box, struct err *err)
{
	int status = keyring("rm", service, box, NULL);

	if (status == KEYRING_DONE || status == KEYRING_NONE)
		return 0;
	return err_set(err, ERR_ENV,
		"the old value of %s is not used any more, but still in the keyring, which cannot "
		"be reached",
		service);
}

int secrets_keep(const char *service, const char *box, bool use_keyring, struct secret *value,
	bool *ret_in_keyring, struct err *err)
{
	_close_ int store = secrets_open(box, err);
	_source_ struct source source = {0};
	bool was_in_keyring;

	*ret_in_keyring = false;
	if (store < 0)
		return -1;
	if (memchr(secret_bytes(value), '\0', secret_len(value)))
		return err_set(err, ERR_USER, "the value has NUL bytes in it");
	was_in_keyring = is_in_keyring(store, service);
	if (!use_keyring || keyring("set", service, box, value) != KEYRING_DONE) {
		if (secret_store_set(store, service, value, err) < 0)
			return -1;
		return was_in_keyring ? drop_from_keyring(service, box, err) : 0;
	}
	*ret_in_keyring = true;
	if (source_parse("keyring:", SOURCE_TTL_DEFAULT, &source, err) < 0)
		return -1;
	return source_save(store, service, &source, err);
}

int secrets_refer(const char *service, const char *box, const struct source *s, struct err *err)
{
	_close_ int store = secrets_open(box, err);
	bool was_in_keyring;

	if (store < 0)
		return -1;
	was_in_keyring = is_in_keyring(store, service);
	if (source_save(store, service, s, err) < 0)
		return -1;
	return was_in_keyring && s->kind != SOURCE_KEYRING ? drop_from_keyring(service, box, err)
							   : 0;
}

int secrets_remove(const char *service, const char *box, bool *ret_existed, struct err *err)
{
	_close_ int store = secrets_open(box, err);
	bool was_in_keyring;

	if (store < 0)
		return -1;
	was_in_keyring = is_in_keyring(store, service);
	if (secret_store_remove(store, service, ret_existed, err) < 0)
		return -1;
	return was_in_keyring ? drop_from_keyring(service, box, err) : 0;
}

/* ---- what a start needs ---- */

/* NULL when there is a value, as far as can be said without fetching it; else why not. Owned. */
static char *missing(const struct source *s, bool running)
{
	if (s->kind == SOURCE_NONE)
		return xstrdup("has no value");
	/* The variables of a sandbox that runs are those of its start. */
	if (s->kind == SOURCE_ENV && !running && !(getenv(s->arg) && *getenv(s->arg)))
		return xasprintf("is in the variable %s, which is not set here", s->arg);
	if (s->kind == SOURCE_FILE && access(s->arg, R_OK) < 0)
		return xasprintf("is in the file %s: %s", s->arg, strerror(errno));
	return NULL;
}

static int check_one(const int stores[2], const struct spec_credential *c, bool tell, bool running,
	struct err *err)
{
	/* What does not come from a kit says so by a name that no kit can have. */
	const char *kit = spec_name_valid(c->kit) ? "kit " : "";
	_source_ struct source source = {0};
	_secret_ struct secret *value = NULL;
	_free_ char *why = NULL;

	if (source_find(stores, c->service, &source, &value, err) < 0)
		return -1;
	why = missing(&source, running);
	/* The agent logs in itself, inside. */
	if (why && c->n_oauth) {
		if (tell && !tokens_exist(c->service))
			fprintf(stderr,
				"hutch: %s%s: the credential %s %s; log in inside the sandbox, "
				"or: hutch secret set %s\n",
				kit, c->kit, c->service, why, c->service);
		return 0;
	}
	if (why && c->required) {
		err_set(err, ERR_REFUSED, "%s%s needs the credential %s, which %s", kit, c->kit,
			c->service, why);
		return source.kind == SOURCE_NONE ? err_hint(err, "hutch secret set %s", c->service)
						  : -1;
	}
	if (why && tell)
		fprintf(stderr,
			"hutch: %s%s: the optional credential %s %s; %s (hutch secret set %s)\n",
			kit, c->kit, c->service, why,
			source.kind == SOURCE_FILE ? "requests that need it fail"
						   : "it is left out",
			c->service);
	return 0;
}

struct stores {
	int own, all;
};

static bool has_key(const char *service, void *arg)
{
	const struct stores *stores = arg;
	_source_ struct source source = {0};
	_secret_ struct secret *value = NULL;

	return source_find((const int[2]){stores->own, stores->all}, service, &source, &value,
		       NULL) == 0 &&
	       source.kind != SOURCE_NONE;
}

void secrets_settle(struct box_spec *s)
{
	_free_ char *path = path_data("secrets", NULL);
	_close_ int all = path ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	struct stores stores = {-1, all};

	tokens_settle(s, has_key, &stores);
}

int secrets_check(const struct box_spec *s, bool tell, struct err *err)
{
	_close_ int all = secrets_open(NULL, err);
	_close_ int own = -1;
	struct box_conn conn;
	bool running = box_connect(s->name, &conn, NULL) == 0;
	_free_ char *path = boxes_path(s->name, "");
	_close_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool installed = (dir >= 0 && spec_is_set_up(dir, s)) || !spec_has_hooks(s);

	if (running)
		box_conn_close(&conn);
	if (all < 0)
		return -1;
	if (boxes_exists(s->name)) {
		own = secrets_open(s->name, err);
		if (own < 0)
			return -1;
	}
	for (size_t i = 0; i < s->net.n_credentials; i++)
		if ((s->net.credentials[i].phase != SPEC_INSTALL || !installed) &&
			check_one((const int[2]){own, all}, &s->net.credentials[i], tell, running,
			    err) < 0)
			return -1;
	return 0;
}

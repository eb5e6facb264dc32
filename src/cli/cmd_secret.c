/* SPDX-License-Identifier: Apache-2.0 */
/* hutch secret: values that the gate adds to requests and no sandbox ever sees. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/paths.h"
#include "cli/cli.h"
#include "secret/store.h"

static int open_store(struct err *err)
{
	_free_ char *path = path_data("secrets", err);

	return path ? secret_store_open(path, err) : -1;
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
	interrupted = sig;
}

/* A signal must not leave the terminal without echo: it ends the read, and takes effect after. */
static void catch_signals(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &(struct sigaction){.sa_handler = on_interrupt}, NULL);
}

/* Read standard input to its end (a pipe) or one line (a terminal, without echo). */
static struct secret *read_value(struct err *err)
{
	struct secret *value = NULL;
	struct termios old, quiet;
	bool terminal = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &old) == 0;
	char *text = xmalloc(SECRET_VALUE_MAX + 1);
	size_t len = 0;

	if (terminal) {
		quiet = old;
		quiet.c_lflag &= ~(tcflag_t)ECHO;
		quiet.c_cc[VSUSP] = _POSIX_VDISABLE;
		catch_signals();
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
		fprintf(stderr, "value (not shown): ");
	}
	while (len < SECRET_VALUE_MAX + 1) {
		ssize_t n = read(STDIN_FILENO, text + len, SECRET_VALUE_MAX + 1 - len);

		if (n < 0 && errno == EINTR && !interrupted)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
		if (terminal && text[len - 1] == '\n')
			break;
	}
	if (terminal) {
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
		fprintf(stderr, "\n");
	}
	if (interrupted) {
		mem_wipe(text, SECRET_VALUE_MAX + 1);
		signal(interrupted, SIG_DFL);
		raise(interrupted);
	}
	if (len && text[len - 1] == '\n')
		len--;
	if (len == 0)
		err_set(err, ERR_USER, "the value is empty");
	else
		value = secret_new(text, len, err);
	mem_wipe(text, SECRET_VALUE_MAX + 1);
	free(text);
	return value;
}

static int set(const char *service)
{
	struct secret *value;
	struct err err;
	int result;
	_close_ int store = -1;

	if (!secret_name_valid(service))
		return cli_failf("secret set %s: not a service name (letters, digits, . _ -)", service);
	store = open_store(&err);
	if (store < 0)
		return cli_fail(&err);
	value = read_value(&err);
	if (!value) {
		err_wrap(&err, "secret set %s", service);
		return cli_fail(&err);
	}
	result = secret_store_set(store, service, value, &err);
	secret_free(value);
	if (result < 0)
		return cli_fail(&err);
	fprintf(stderr, "stored %s in a file only you can read (no keyring is used)\n", service);
	return 0;
}

static int list(void)
{
	struct strv names = {0};
	struct err err;
	_close_ int store = open_store(&err);

	if (store < 0 || secret_store_list(store, &names, &err) < 0)
		return cli_fail(&err);
	for (size_t i = 0; i < names.n; i++)
		printf("%-24s ********\n", names.v[i]);
	strv_done(&names);
	return 0;
}

static int rm(int argc, char **argv)
{
	int status = 0;
	struct err err;
	_close_ int store = open_store(&err);

	if (store < 0)
		return cli_fail(&err);
	for (int i = 0; i < argc; i++) {
		bool existed;

		if (!secret_name_valid(argv[i]))
			status = cli_failf("secret rm %s: not a service name", argv[i]);
		else if (secret_store_remove(store, argv[i], &existed, &err) < 0)
			status = cli_fail(&err);
		else if (!existed)
			status = cli_failf("secret rm %s: nothing is stored under that name", argv[i]);
	}
	return status;
}

int cmd_secret(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	if (strcmp(verb, "set") == 0 && argc == 4)
		return cli_failf("secret set: the value is read from standard input, never from the "
				 "command line, where every user of this machine could see it");
	if (strcmp(verb, "set") == 0 && argc == 3)
		return set(argv[2]);
	if (strcmp(verb, "ls") == 0 && argc == 2)
		return list();
	if (strcmp(verb, "rm") == 0 && argc > 2)
		return rm(argc - 2, argv + 2);
	return cli_usage("secret");
}

/* SPDX-License-Identifier: Apache-2.0 */
/* hutch secret import: values that people have already, in a .env file or in their environment. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/cli.h"
#include "cli/secrets.h"
#include "kit/services.h"

enum { OPT_SANDBOX = 256, OPT_FROM_ENV, OPT_NO_KEYRING };

static const struct option longs[] = {{"sandbox", required_argument, NULL, OPT_SANDBOX},
	{"from-env", no_argument, NULL, OPT_FROM_ENV},
	{"no-keyring", no_argument, NULL, OPT_NO_KEYRING}, {0}};

struct import {
	struct kit services;
	const char *file, *box; /* NULL: standard input; for all sandboxes */
	bool from_env, no_keyring;
	struct strv done; /* services that have got a value */
	size_t n_unknown;
};

/* The first value for a service counts: a file may name it twice. */
static int keep(struct import *im, const char *variable, const char *p, size_t len)
{
	const char *service = services_of_variable(&im->services, variable);
	_secret_ struct secret *value = NULL;
	bool in_keyring;
	struct err err;

	if (!service) {
		im->n_unknown++;
		return 0;
	}
	if (len == 0 || strv_has(&im->done, service))
		return 0;
	value = secret_new(p, len, &err);
	if (!value ||
		secrets_keep(service, im->box, !im->no_keyring, value, &in_keyring, &err) < 0) {
		err_wrap(&err, "secret import: %s", variable);
		return cli_fail(&err);
	}
	strv_add(&im->done, service);
	printf("%-20s from %s, %s\n", service, variable,
		in_keyring ? "in the desktop's keyring" : "in a file only you can read");
	return 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

/* One line of a .env file: [export] NAME=VALUE, the value in quotes or not. Nothing is expanded. */
static int import_line(struct import *im, const char *p, const char *end)
{
	_free_ char *name = NULL;
	const char *eq;

	while (p < end && is_blank(*p))
		p++;
	while (end > p && is_blank(end[-1]))
		end--;
	if (p == end || *p == '#')
		return 0;
	if (end - p > 7 && memcmp(p, "export ", 7) == 0)
		p += 7;
	eq = memchr(p, '=', (size_t)(end - p));
	if (!eq)
		return 0;
	name = xstrndup(p, (size_t)(eq - p));
	p = eq + 1;
	if (end - p >= 2 && (*p == '"' || *p == '\'') && end[-1] == *p) {
		p++;
		end--;
	}
	return keep(im, name, p, (size_t)(end - p));
}

static int import_text(struct import *im)
{
	bool named = im->file && strcmp(im->file, "-") != 0;
	_close_ int fd = named ? open(im->file, O_RDONLY | O_CLOEXEC) : dup(STDIN_FILENO);
	_secret_ struct secret *text = NULL;
	struct err err;
	const char *p, *end;
	int status = 0;

	if (fd < 0) {
		err_errno(&err, "secret import: %s", im->file ? im->file : "standard input");
		return cli_fail(&err);
	}
	if (!named && isatty(fd))
		fprintf(stderr, "lines of NAME=VALUE, then Ctrl-D:\n");
	text = secret_read(fd, &err);
	if (!text) {
		err_wrap(&err, "secret import: %s", im->file ? im->file : "standard input");
		return cli_fail(&err);
	}
	p = secret_bytes(text);
	end = p + secret_len(text);
	while (p < end && status == 0) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));

		status = import_line(im, p, nl ? nl : end);
		p = nl ? nl + 1 : end;
	}
	return status;
}

static int import_env(struct import *im)
{
	const struct kit *k = &im->services;
	int status = 0;

	for (size_t i = 0; i < k->n_credentials + k->n_vars && status == 0; i++) {
		const char *name = i < k->n_credentials ? k->credentials[i].env
							: k->vars[i - k->n_credentials].name;
		const char *value = getenv(name);

		if (value)
			status = keep(im, name, value, strlen(value));
	}
	return status;
}

static int parse(struct import *im, int argc, char **argv)
{
	while (optind < argc) {
		switch (cli_getopt(argc, argv, "", longs)) {
		case OPT_SANDBOX:
			im->box = optarg;
			break;
		case OPT_FROM_ENV:
			im->from_env = true;
			break;
		case OPT_NO_KEYRING:
			im->no_keyring = true;
			break;
		case -1:
			if (optind < argc && im->file)
				return cli_usage("secret import");
			if (optind < argc)
				im->file = argv[optind++];
			break;
		default:
			return CLI_FAILED;
		}
	}
	if (im->file && im->from_env)
		return cli_failf("secret import: a file, or --from-env, not both");
	return 0;
}

int secret_import(int argc, char **argv)
{
	struct import im = {0};
	struct kit_errors errs = {0};
	struct err err;
	int status = parse(&im, argc, argv);

	if (status == 0 && services_load(&im.services, &errs, &err) < 0) {
		kit_errors_print(&errs, stderr);
		status = cli_fail(&err);
	}
	if (status == 0)
		status = im.from_env ? import_env(&im) : import_text(&im);
	if (status == 0 && im.n_unknown)
		fprintf(stderr, "hutch: %zu other variable%s: no built-in service has such a one\n",
			im.n_unknown, im.n_unknown == 1 ? "" : "s");
	if (status == 0 && !im.done.n)
		status =
			cli_failf("secret import: no value for a built-in service was found (hutch "
				  "secret services)");
	kit_errors_done(&errs);
	kit_done(&im.services);
	strv_done(&im.done);
	return status;
}

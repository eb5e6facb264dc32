/* SPDX-License-Identifier: Apache-2.0 */
/* hutch: the command line. One file per subcommand. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/near.h"
#include "cli/cli.h"
#include "cli/help.h"

static const struct command commands[] = {
	{"run", cmd_run},
	{"create", cmd_create},
	{"exec", cmd_exec},
	{"ls", cmd_ls},
	{"inspect", cmd_inspect},
	{"start", cmd_start},
	{"stop", cmd_stop},
	{"recreate", cmd_recreate},
	{"rm", cmd_rm},
	{"logs", cmd_logs},
	{"ports", cmd_ports},
	{"policy", cmd_policy},
	{"secret", cmd_secret},
	{"kit", cmd_kit},
	{"image", cmd_image},
	{"doctor", cmd_doctor},
	{"version", cmd_version},
};

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

int cli_usage(const char *name)
{
	help_print_usage(stderr, name);
	return CLI_FAILED;
}

void cli_print(FILE *to, const char *text)
{
	unsigned char before = 0;

	for (const unsigned char *c = (const unsigned char *)text; *c; before = *c++) {
		bool c1 = before == 0xc2 && *c < 0xa0; /* U+0080 to U+009F in UTF-8 */

		putc((*c < 0x20 && *c != '\n' && *c != '\t') || *c == 0x7f || c1 ? '?' : *c, to);
	}
}

int cli_fail(const struct err *err)
{
	cli_failf("%s%s%s", err->msg, err->hint[0] ? "\n       " : "", err->hint);
	return err->class == ERR_REFUSED ? CLI_DECLINED : CLI_FAILED;
}

int cli_no_sandbox(const char *name)
{
	return cli_failf("no sandbox named %s\n       hutch ls", name);
}

int cli_failf(const char *fmt, ...)
{
	_free_ char *text = NULL;
	va_list ap;

	cli_progress(NULL);
	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	fprintf(stderr, "hutch: ");
	cli_print(stderr, text);
	fprintf(stderr, "\n");
	return CLI_FAILED;
}

void cli_progress(const char *text)
{
	static bool shown;
	struct winsize ws = {.ws_col = 80};
	_free_ char *line = NULL;

	if (!isatty(STDERR_FILENO)) {
		line = xasprintf("hutch: %s\n", text ? text : "");
		if (text)
			cli_print(stderr, line);
		return;
	}
	if (!text && !shown)
		return;
	ioctl(STDERR_FILENO, TIOCGWINSZ, &ws);
	line = xasprintf("%.*s", MAX((int)ws.ws_col - 1, 20), text ? text : "");
	fprintf(stderr, "\r\033[K");
	cli_print(stderr, line);
	fflush(stderr);
	shown = text != NULL;
}

/* Says so, and what may have been meant. False when nothing is near. */
static bool no_such(const char *context, const char *word, const char *what, const struct strv *words)
{
	const char *near = near_word(word, words);

	cli_failf("%s%s%s: no such %s%s%s%s", context, *context ? " " : "", word, what,
		near ? ", did you mean " : "", near ? near : "", near ? "?" : "");
	return near != NULL;
}

int cli_no_verb(const char *command, const char *verb, const struct strv *verbs)
{
	return no_such(command, verb, "command", verbs) ? CLI_FAILED : cli_usage(command);
}

static bool is_help(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static void unknown_option(const char *context, const char *given, const struct option *longs)
{
	struct strv names = {0};

	if (is_help(given)) {
		cli_failf("%s: --help goes first: hutch %s --help", context, context);
		return;
	}
	for (const struct option *o = longs; o->name; o++)
		strv_addf(&names, "--%s", o->name);
	no_such(context, given, "option", &names);
	strv_done(&names);
}

int cli_getopt(int argc, char **argv, const char *shorts, const struct option *longs)
{
	_free_ char *spec = xasprintf("+:%s", shorts);
	int c, at;

	opterr = 0;
	at = optind ? optind : 1;
	c = getopt_long(argc, argv, spec, longs, NULL);
	if (c == ':')
		cli_failf("%s: %s needs a value", argv[0], argv[optind - 1]);
	else if (c == '?' && optopt && optopt < 128)
		cli_failf("%s: unknown option -%c", argv[0], optopt);
	else if (c == '?')
		unknown_option(argv[0], argv[at < argc ? at : argc - 1], longs);
	return c == ':' ? '?' : c;
}

/* Descriptors 0 to 2 may be closed: no file of ours must get one of these numbers. */
static void open_missing(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= STDERR_FILENO && fcntl(fd, F_SETFD, 0) == 0);
	if (fd > STDERR_FILENO)
		close(fd);
}

/* What could not be printed is a failure; nobody reading it any more is none. */
static int output_failed(int status)
{
	if (fflush(stdout) == 0 || errno == EPIPE)
		return status;
	return status ? status : cli_failf("standard output: %s", strerror(errno));
}

/* "hutch policy --help", "hutch policy allow --help". */
static bool helped(int argc, char **argv)
{
	_free_ char *verb = argc > 3 ? xasprintf("%s %s", argv[1], argv[2]) : NULL;

	if (argc > 2 && is_help(argv[2]))
		return help_print(stdout, argv[1]);
	return argc > 3 && is_help(argv[3]) && help_print(stdout, verb);
}

static int no_command(const char *name)
{
	struct strv names = {0};

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		strv_add(&names, commands[i].name);
	if (!no_such("", name, "command", &names))
		fprintf(stderr, "       hutch --help\n");
	strv_done(&names);
	return CLI_FAILED;
}

/* "hutch help", "hutch help policy", "hutch help policy allow". */
static int help(int argc, char **argv)
{
	_free_ char *verb = argc > 3 ? xasprintf("%s %s", argv[2], argv[3]) : NULL;

	if (argc < 3)
		help_print_all(stdout);
	else if (!help_print(stdout, verb ? verb : argv[2]))
		return no_command(verb ? verb : argv[2]);
	return output_failed(0);
}

int main(int argc, char **argv)
{
	const struct command *c;

	open_missing();
	setvbuf(stdout, NULL, isatty(STDOUT_FILENO) ? _IOLBF : _IOFBF, 1 << 16);
	if (argc < 2) {
		help_print_all(stderr);
		return CLI_FAILED;
	}
	if (strcmp(argv[1], "help") == 0)
		return help(argc, argv);
	if (is_help(argv[1]))
		return help(1, argv);
	c = find(strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
	if (!c)
		return no_command(argv[1]);
	if (helped(argc, argv))
		return output_failed(0);
	return output_failed(c->run(argc - 1, argv + 1));
}

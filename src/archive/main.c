/* SPDX-License-Identifier: Apache-2.0 */
/* hutch-archive: reads and writes archives of kits, merges layers of images.
 *
 *	hutch-archive extract zip|tar|layer	descriptor 3: archive, 4: an empty directory
 *	hutch-archive pack zip|layer		descriptor 3: a directory, 4: an empty file
 *	hutch-archive merge DIGEST DIFFID ...	descriptor 3: the directory of these blobs, 4: a pipe for
 *						the tar, 5: an empty file for the CA bundle
 *
 * Hostile: the archive. The process has no network, no root directory, no capability and a short
 * list of system calls; of files it reaches what is below the directory and the other descriptors.
 * The reason of a failure is one line on stderr; exit status 3 means that a blob is damaged. merge tells
 * how far it is in lines "progress DONE TOTAL" on stdout. */
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "archive/extract.h"
#include "archive/filters.h"
#include "archive/flatten.h"
#include "archive/pack.h"
#include "base/fd.h"
#include "base/jail.h"
#include "base/mem.h"
#include "base/probe.h"

/* syscalls(archive): +libc +fd openat openat2 newfstatat fstat lseek getdents64 mkdirat symlinkat
 *	readlinkat pwrite64 ioctl umask getuid geteuid +attack */

enum { FD_FROM = 3, FD_TO, FD_CA };

#define ZIP_MAX     (64u << 20)
#define TAR_MAX     (320u << 20) /* the files of a tree, and headers */
#define MEMORY_MAX  (1ULL << 30)
#define CPU_SECONDS 120 /* for what is slow to read on purpose */
#define MERGE_CPU_SECONDS 7200
#define DAMAGED 3

/* @dirfd: the only directory. */
static int jail(int dirfd, bool write, unsigned cpu_seconds, struct err *err)
{
	struct landlock_rule rule = {
		.fd = dirfd, .access = LANDLOCK_LOOK | (write ? LANDLOCK_MODIFY : 0)};
	unsigned missing = 0;

	umask(022);
	/* Loaded while files can be read; a ZIP's times are local times. */
	setlocale(LC_CTYPE, "C.UTF-8");
	setenv("TZ", "UTC0", 1);
	tzset();
	jail_limit(RLIMIT_CORE, 0);
	jail_limit(RLIMIT_CPU, cpu_seconds);
#ifndef HUTCH_TEST_HOOKS /* whose sanitizers map terabytes */
	jail_limit(RLIMIT_AS, MEMORY_MAX);
#endif
	if (jail_enter(JAIL_USERNS | JAIL_NET | JAIL_IPC | JAIL_ROOT | JAIL_CAPS | JAIL_NEWPRIVS,
		    &missing, err) < 0)
		return -1;
	jail_limit(RLIMIT_NPROC, 0);
	if (jail_seal(&(struct jail_seal){.rules = &rule,
			      .n_rules = 1,
			      .more = LANDLOCK_NO_TCP | LANDLOCK_ALONE,
			      .filter = &filter_archive},
		    &missing, err) < 0)
		return -1;
	jail_probe("archive");
	return 0;
}

static int run_extract(enum extract_kind kind, struct err *err)
{
	struct extract_dir to = {.dirfd = FD_TO};
	struct extract_sink sink = extract_dir_sink(&to);
	struct stat st;
	void *data;
	int result;

	if (jail(FD_TO, true, CPU_SECONDS, err) < 0)
		return -1;
	if (fstat(FD_FROM, &st) < 0)
		return err_errno(err, "archive");
	if (st.st_size == 0)
		return err_set(err, ERR_USER, "an empty file");
	if ((uint64_t)st.st_size > (kind == EXTRACT_TAR ? TAR_MAX : ZIP_MAX))
		return err_set(err, ERR_USER, "an archive of more than 64 MiB");
	data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, FD_FROM, 0);
	if (data == MAP_FAILED)
		return err_errno(err, "archive");
	result = extract(data, (size_t)st.st_size, kind, &sink, err);
	close_and_reset(&to.file);
	munmap(data, (size_t)st.st_size);
	return result;
}

/* A line for each hundredth. */
static void tell(uint64_t done, uint64_t total)
{
	static uint64_t last;
	uint64_t step = total / 100 + 1;

	if (done / step == last / step)
		return;
	last = done;
	printf("progress %llu %llu\n", (unsigned long long)done, (unsigned long long)total);
	fflush(stdout);
}

static int run_merge(char **digests, size_t n, struct err *err)
{
	_free_ struct layer_name *layers = xcalloc(n / 2 + 1, sizeof(*layers));
	struct flatten f = {.dir = FD_FROM,
		.layers = layers,
		.n_layers = n / 2,
		.out = FD_TO,
		.ca = FD_CA,
		.progress = tell};

	for (size_t i = 0; i < n; i++)
		if (n % 2 || strlen(digests[i]) != 64 ||
			strspn(digests[i], "0123456789abcdef") != 64)
			return err_set(err, ERR_BUG, "%.80s: not a pair of digests", digests[i]);
	for (size_t i = 0; i < n / 2; i++)
		layers[i] = (struct layer_name){digests[2 * i], digests[2 * i + 1]};
	if (jail(FD_FROM, false, MERGE_CPU_SECONDS, err) < 0 || flatten(&f, err) < 0)
		return f.damaged ? -DAMAGED : -1;
	return 0;
}

static int run(const char *verb, const char *kind, struct err *err)
{
	static const char *const kinds[] = {"zip", "tar", "layer"};

	for (unsigned k = 0; k < ARRAY_SIZE(kinds) && strcmp(verb, "extract") == 0; k++)
		if (strcmp(kind, kinds[k]) == 0)
			return run_extract((enum extract_kind)k, err);
	if (strcmp(verb, "pack") == 0 && strcmp(kind, "zip") == 0)
		return jail(FD_FROM, false, CPU_SECONDS, err) < 0 ? -1 : pack_zip(FD_FROM, FD_TO, err);
	if (strcmp(verb, "pack") == 0 && strcmp(kind, "layer") == 0)
		return jail(FD_FROM, false, CPU_SECONDS, err) < 0 ? -1 : pack_layer(FD_FROM, FD_TO, err);
	return err_set(err, ERR_BUG, "hutch-archive %s %s: not known", verb, kind);
}

int main(int argc, char **argv)
{
	struct err err;

	int result = -1;

	err_set(&err, ERR_USER, "hutch-archive is started by hutch");
	if (argc >= 3 && strcmp(argv[1], "merge") == 0)
		result = run_merge(argv + 2, (size_t)argc - 2, &err);
	else if (argc == 3)
		result = run(argv[1], argv[2], &err);
	if (result == 0)
		return 0;
	fprintf(stderr, "%s\n", err.msg);
	return result == -DAMAGED ? DAMAGED : 1;
}

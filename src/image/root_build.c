/* SPDX-License-Identifier: Apache-2.0 */
/* Making the base root image: mmdebstrap writes a tar, sqfstar turns it into squashfs on the fly.
 *
 * Nothing is unpacked on the host by us and no privilege is needed: mmdebstrap works in a user
 * namespace, sqfstar keeps the tar's owners. Package sources and proxies are those of the host's own
 * apt. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/fs.h"
#include "image/internal.h"

#define PACKAGES                                                                                   \
	"bash,sudo,git,curl,ca-certificates,openssh-client,procps,iproute2,python3,nodejs,npm,"    \
	"less,nano-tiny"

/* Its number grows when a base image must be made anew for another reason. 2: without sqfstar's search
 * for equal files (squash.c). */
#define RECIPE "2 " PACKAGES "\n"

#define CA_NAME	     "ca-certificates.crt"
#define SPACE_NEEDED (400ull << 20)

/* Run inside the image's directory ($1) when all packages are there. */
static const char *const hooks[] = {
	"chroot \"$1\" useradd --create-home --uid 1000 --shell /bin/bash agent",
	"printf 'agent ALL=(ALL:ALL) NOPASSWD: ALL\\n' > \"$1\"/etc/sudoers.d/agent",
	"chmod 440 \"$1\"/etc/sudoers.d/agent",
	"printf 'APT::Sandbox::User \"root\";\\nAcquire::Languages \"none\";\\n"
	"Dpkg::Use-Pty \"0\";\\n' > \"$1\"/etc/apt/apt.conf.d/90hutch",
	"rm -f \"$1\"/etc/resolv.conf \"$1\"/etc/hostname \"$1\"/etc/machine-id; "
	": > \"$1\"/etc/machine-id",
};

struct stage {
	const char *line;
	int percent;
	const char *text;
};
static const struct stage stages[] = {
	{"I: running apt-get update", 5, "base image: reading package lists"},
	{"I: downloading packages", 12, "base image: downloading packages"},
	{"I: extracting archives", 35, "base image: unpacking"},
	{"I: installing essential", 45, "base image: installing essential packages"},
	{"I: installing remaining", 55, "base image: installing packages"},
	{"I: running --customize-hook", 90, "base image: adding the agent user"},
	{"I: cleaning", 92, "base image: cleaning up"},
	{"I: creating tarball", 94, "base image: writing the image"},
};

struct report {
	image_progress_fn *progress;
	void *arg;
	bool no_ids; /* the user has no subordinate ids */
	bool no_space; /* mmdebstrap or one of its children met a full disk */
};

static void on_line(void *arg, const char *line)
{
	struct report *r = arg;

	for (size_t i = 0; i < ARRAY_SIZE(stages); i++)
		if (strncmp(line, stages[i].line, strlen(stages[i].line)) == 0)
			r->progress(r->arg, stages[i].text, stages[i].percent);
	if (strstr(line, "/etc/subuid") || strstr(line, "newuidmap"))
		r->no_ids = true;
	if (strstr(line, "No space left on device"))
		r->no_space = true;
}

/* The suite and the sources of the host's Debian; on another system mmdebstrap's own defaults. */
static void host_sources(struct strv *argv, const char *out)
{
	static const char *const files[] = {
		"/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"};
	const char *named = getenv("HUTCH_APT_SOURCES");
	char codename[64] = "bookworm", line[256];
	FILE *f = fopen("/etc/os-release", "re");
	bool debian = false;

	while (f && fgets(line, sizeof(line), f)) {
		debian |= strncmp(line, "ID=debian", 9) == 0;
		sscanf(line, "VERSION_CODENAME=%63[a-z]", codename);
	}
	if (f)
		fclose(f);
	strv_add(argv, debian ? codename : "bookworm");
	strv_add(argv, out);
	if (named && *named) {
		strv_add(argv, named);
		return;
	}
	for (size_t i = 0; debian && i < ARRAY_SIZE(files); i++) {
		struct stat st;

		if (stat(files[i], &st) == 0 && st.st_size > 0) {
			strv_add(argv, files[i]);
			return;
		}
	}
}

static void mmdebstrap_argv(const char *images, struct strv *argv)
{
	strv_add(argv, "mmdebstrap");
	strv_add(argv, "--variant=minbase");
	strv_add(argv, "--include=" PACKAGES);
	strv_add(argv, "--dpkgopt=path-exclude=/usr/share/man/*");
	strv_add(argv, "--dpkgopt=path-exclude=/usr/share/locale/*");
	strv_add(argv, "--dpkgopt=path-exclude=/usr/share/doc/*");
	strv_add(argv, "--dpkgopt=path-include=/usr/share/doc/*/copyright");
	strv_add(argv, "--aptopt=Acquire::Languages \"none\"");
	/* Keep the package lists: an emulated CPU takes minutes to read them anew. */
	strv_add(argv, "--skip=cleanup/apt/lists");
	for (size_t i = 0; i < ARRAY_SIZE(hooks); i++)
		strv_addf(argv, "--customize-hook=%s", hooks[i]);
	/* What the image trusts already need not be sent to each guest: see image_ca. */
	strv_addf(argv, "--customize-hook=copy-out /etc/ssl/certs/" CA_NAME " \"%s\"", images);
	host_sources(argv, "-");
}

static int bootstrap(const char *images, const char *tmp, struct report *r, struct err *err)
{
	struct strv argv = {0};
	struct err sq_err;
	struct squash sq;
	int tar[2], result, sq_result;

	if (pipe2(tar, O_CLOEXEC) < 0)
		return err_errno(err, "pipe");
	result = squash_start(tmp, tar[0], &sq, err);
	close(tar[0]);
	if (result < 0) {
		close(tar[1]);
		return -1;
	}
	mmdebstrap_argv(images, &argv);
	result = job_run(&(struct job){.what = "base image",
				 .argv = argv.v,
				 .in = CHILD_NULL,
				 .out = tar[1],
				 .line = on_line,
				 .arg = r},
		err);
	strv_done(&argv);
	close(tar[1]);
	sq_result = squash_end(&sq, "base image", &sq_err);
	/* A full disk ends sqfstar first; mmdebstrap's broken pipe is only its echo. */
	if (sq_result < 0 && (result == 0 || sq_err.errnum == ENOSPC))
		*err = sq_err;
	if (result < 0 && r->no_space) {
		errno = ENOSPC;
		err_errno(err, "base image");
	}
	return result < 0 ? result : sq_result;
}

/* mmdebstrap works for a minute before it writes the first byte: say what will fail now. */
static int check_space(const char *images, struct err *err)
{
	struct statvfs st;

	if (statvfs(images, &st) < 0)
		return err_errno(err, "%s", images);
	if ((uint64_t)st.f_bavail * st.f_frsize >= SPACE_NEEDED)
		return 0;
	errno = ENOSPC;
	return err_errno(err, "base image");
}

static void explain(const struct report *r, struct err *err)
{
	if (r->no_ids)
		err_hint(err, "apt install uidmap, then: sudo usermod --add-subuids 100000-165535 "
			      "--add-subgids 100000-165535 $USER");
	else if (strstr(err->msg, "mmdebstrap: No such file"))
		err_hint(err, "apt install mmdebstrap");
	else if (err->errnum == ENOSPC)
		err_hint(err, "free about 2 GiB, or set XDG_DATA_HOME to a larger disk");
}

bool root_is_current(const char *images)
{
	_free_ char *path = fs_join(images, "base.recipe");
	_buf_ struct buf b;

	buf_init(&b, 4096);
	return fs_read_file(AT_FDCWD, path, &b, NULL) == 0 && strcmp(buf_cstr(&b), RECIPE) == 0;
}

int root_build(const char *images, image_progress_fn *progress, void *arg, struct err *err)
{
	_free_ char *tmp = fs_join(images, ".base.tmp"), *path = NULL, *ref = NULL;
	_free_ char *ca = fs_join(images, CA_NAME), *ca_path = NULL;
	_free_ char *recipe = fs_join(images, "base.recipe");
	struct report r = {.progress = progress, .arg = arg};
	char digest[65];
	int result = -1;

	unlink(tmp);
	progress(arg, "base image: starting", 0);
	if (check_space(images, err) < 0 || bootstrap(images, tmp, &r, err) < 0) {
		explain(&r, err);
		goto out;
	}
	if (file_digest(tmp, digest, err) < 0)
		goto out;
	path = xasprintf("%s/%s.img", images, digest);
	ca_path = xasprintf("%s/%s.ca", images, digest);
	ref = fs_join(images, "base.ref");
	if (rename(ca, ca_path) < 0) {
		err_errno(err, "%s", ca);
		goto out;
	}
	if (chmod(tmp, 0444) < 0 || file_publish(tmp, path, err) < 0)
		goto out;
	if (fs_write_file(AT_FDCWD, ref, digest, strlen(digest), 0600, err) < 0)
		goto out;
	result = fs_write_file(AT_FDCWD, recipe, RECIPE, strlen(RECIPE), 0600, err);
	if (result == 0)
		progress(arg, "base image ready", 100);
out:
	unlink(tmp);
	unlink(ca);
	return result;
}

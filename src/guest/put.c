/* SPDX-License-Identifier: Apache-2.0 */
/* PUT: files, directories and symbolic links from the host. Runs in a process of its own with
 * blocking I/O, as root. Each file appears whole, by rename. Existing directories are left as they
 * are. */
#include "guest/server_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/fd.h"
#include "guest/init.h"

#define FUSE_MAGIC 0x65735546

/* The entry being received. */
struct put {
	struct agent_entry entry;
	int fd;    /* owned: temporary file; -1: data is skipped */
	char *tmp; /* owned: its path */
	uint64_t left;
};

static void put_drop(struct put *p)
{
	close_and_reset(&p->fd);
	if (p->tmp)
		unlink(p->tmp);
	free(p->tmp);
	p->tmp = NULL;
	agent_entry_done(&p->entry);
}

static char *temp_beside(const char *path)
{
	int dir = (int)(strrchr(path, '/') - path);

	return xasprintf("%.*s/.hutch-put.%d", dir, path, (int)getpid());
}

/* Set owner, then mode (a change of owner clears set-id bits). On a shared folder the host decides
 * about owners, and refusing to change them is no failure. */
static int set_owner_mode(const char *path, const struct agent_entry *e)
{
	struct statfs fs;

	if (lchown(path, e->uid, e->gid) < 0) {
		int errnum = errno;

		if (statfs(path, &fs) < 0 || fs.f_type != FUSE_MAGIC) {
			errno = errnum;
			return -1;
		}
	}
	if (e->kind != AGENT_ENTRY_SYMLINK && chmod(path, e->mode & 07777) < 0)
		return -1;
	return 0;
}

static int put_dir(const struct agent_entry *e, struct err *err)
{
	struct stat st;

	if (mkdir(e->path, 0700) == 0)
		return set_owner_mode(e->path, e) < 0 ? err_errno(err, "%s", e->path) : 0;
	if (errno == EEXIST && stat(e->path, &st) == 0 && S_ISDIR(st.st_mode))
		return 0;
	return err_errno(err, "%s", e->path);
}

/* The temporary is complete: give it its owner and name. */
static int put_commit(struct put *p, struct err *err)
{
	if (set_owner_mode(p->tmp, &p->entry) < 0 || rename(p->tmp, p->entry.path) < 0)
		return err_errno(err, "%s", p->entry.path);
	free(p->tmp);
	p->tmp = NULL;
	put_drop(p);
	return 0;
}

static int put_begin(struct put *p, struct rd payload, struct err *err)
{
	struct agent_entry *e = &p->entry;
	struct stat st;

	if (agent_get_entry(payload, e) < 0 || !path_is_plain(e->path) ||
		e->kind < AGENT_ENTRY_FILE || e->kind > AGENT_ENTRY_SYMLINK ||
		(e->size && e->kind != AGENT_ENTRY_FILE))
		return err_set(err, ERR_PEER, "malformed entry");
	p->left = e->size;
	if ((e->flags & AGENT_ENTRY_ONLY_IF_MISSING) && lstat(e->path, &st) == 0) {
		if (!p->left)
			put_drop(p);
		return 0;
	}
	if (dirs_make_parent(e->path, e->uid, e->gid, err) < 0)
		return -1;
	if (e->kind == AGENT_ENTRY_DIR) {
		if (put_dir(e, err) < 0)
			return -1;
		put_drop(p);
		return 0;
	}
	p->tmp = temp_beside(e->path);
	unlink(p->tmp);
	if (e->kind == AGENT_ENTRY_SYMLINK) {
		if (symlink(e->target, p->tmp) < 0)
			return err_errno(err, "%s", e->path);
		return put_commit(p, err);
	}
	p->fd = open(p->tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (p->fd < 0)
		return err_errno(err, "%s", e->path);
	return p->left ? 0 : put_commit(p, err);
}

static int put_data(struct put *p, struct rd payload, struct err *err)
{
	size_t n = rd_left(&payload);

	if (!p->entry.path || n > p->left)
		return err_set(err, ERR_PEER, "more data than announced");
	if (p->fd >= 0 && fd_write_all(p->fd, rd_bytes(&payload, n), n) < 0)
		return err_errno(err, "%s", p->entry.path);
	p->left -= n;
	if (p->left)
		return 0;
	if (p->fd >= 0)
		return put_commit(p, err);
	put_drop(p);
	return 0;
}

/* 1: the operation is complete. */
static int put_frame(struct put *p, uint8_t type, struct rd payload, struct err *err)
{
	bool open_entry = p->entry.path != NULL;

	if (type == AGENT_ENTRY && !open_entry)
		return put_begin(p, payload, err);
	if (type == AGENT_DATA)
		return put_data(p, payload, err);
	if (type == AGENT_END && !open_entry && rd_done(&payload))
		return 1;
	return err_set(err, ERR_PEER, "unexpected frame %u", type);
}

/* Read until a frame is complete and hand it on. */
static int put_next(int fd, struct buf *in, struct put *p, struct err *err)
{
	for (;;) {
		struct rd payload;
		uint8_t type;
		int r = agent_next(in, &type, &payload);
		ssize_t n;

		if (r < 0)
			return err_set(err, ERR_PEER, "malformed frame");
		if (r > 0) {
			r = put_frame(p, type, payload, err);
			agent_consume(in);
			return r;
		}
		n = buf_read(in, fd, AGENT_PAYLOAD_MAX);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_set(err, ERR_PEER, "the host broke off");
	}
}

int put_serve(int fd, struct buf *in)
{
	struct put p = {.fd = -1};
	struct err err = {0};
	_buf_ struct buf out;
	int r;

	buf_init(&out, AGENT_HEADER + AGENT_PAYLOAD_MAX);
	do
		r = put_next(fd, in, &p, &err);
	while (r == 0);
	put_drop(&p);
	if (r < 0)
		agent_put_error(&out, (uint32_t)err.errnum, err.msg);
	else
		agent_put(&out, AGENT_DONE, NULL, 0);
	if (fd_write_all(fd, buf_head(&out), buf_len(&out)) < 0)
		return 1;
	/* Closing with input unread could reset the connection before the answer is read. */
	shutdown(fd, SHUT_WR);
	buf_reset(in);
	while (r < 0 && buf_read(in, fd, AGENT_PAYLOAD_MAX) > 0)
		buf_reset(in);
	return r < 0;
}

int put_start(struct server *srv, struct stream *s, struct rd payload)
{
	pid_t pid;

	(void)srv;
	if (!rd_done(&payload))
		return -1;
	pid = fork();
	if (pid < 0)
		return stream_fail(s, errno, "start copy: %s", strerror(errno));
	if (pid == 0) {
		int fd;

		child_reset();
		signal(SIGPIPE, SIG_IGN);
		umask(022);
		fd = child_keep_fd(s->fd);
		if (fd < 0 || fd_set_nonblock(fd, false) < 0)
			_exit(1);
		agent_consume(&s->in);
		_exit(put_serve(fd, &s->in));
	}
	stream_free(s);
	return STREAM_GONE;
}

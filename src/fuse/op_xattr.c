/* SPDX-License-Identifier: Apache-2.0 */
/* Extended attributes of regular files and directories: "user." only. Other name spaces mean
 * something to the host (security.capability, system.posix_acl_access) and stay out of reach. */
#include "fuse/server.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/mem.h"

static int xattr_name(struct req *r, const char **ret)
{
	return req_string(r, ret, NAME_MAX_);
}

static bool is_user(const char *name)
{
	return strncmp(name, "user.", 5) == 0 && name[5];
}

/* A descriptor that the f*xattr calls accept; *tmp is closed by the caller. */
static int xattr_fd(struct req *r, int *tmp)
{
	struct inode *n = r->node;
	struct statx st;
	int fd;

	if (n->index == NODE_ROOT || (n->type != S_IFREG && n->type != S_IFDIR))
		return -EOPNOTSUPP;
	fd = handle_any(r->s, n, false);
	if (fd >= 0)
		return fd;
	if (n->type == S_IFREG)
		fd = inode_open(r->s, n, O_RDONLY, &st);
	else if ((fd = inode_fd(r->s, n)) >= 0)
		fd = host_open(fd, ".", O_RDONLY | O_DIRECTORY, 0);
	if (fd >= 0)
		*tmp = fd;
	return fd;
}

int op_setxattr(struct req *r)
{
	uint32_t size = rd_le32(&r->args), flags = rd_le32(&r->args);
	_close_ int tmp = -1;
	const uint8_t *value;
	const char *name;
	int fd, err;

	if ((err = xattr_name(r, &name)) < 0)
		return err;
	if (size > XATTR_MAX || (flags & ~(unsigned)(XATTR_CREATE | XATTR_REPLACE)))
		return -EINVAL;
	value = rd_bytes(&r->args, size);
	if ((err = req_end(r)) < 0)
		return err;
	if (!is_user(name))
		return -EOPNOTSUPP;
	if ((fd = xattr_fd(r, &tmp)) < 0)
		return fd;
	return fsetxattr(fd, name, value, size, (int)flags) < 0 ? host_err(errno) : 0;
}

/* The answer to a value or a list of @len bytes: its size when the guest gave no room. */
static int reply_sized(struct req *r, uint32_t size, size_t len)
{
	struct fuse_getxattr_out o = {.size = (uint32_t)len};

	if (size == 0)
		return reply_put(r, &o, sizeof(o));
	if (len > size)
		return -ERANGE;
	return reply_put(r, r->s->reply, len);
}

int op_getxattr(struct req *r)
{
	uint32_t size = rd_le32(&r->args);
	_close_ int tmp = -1;
	const char *name;
	ssize_t len;
	int fd, err;

	rd_le32(&r->args);
	if ((err = xattr_name(r, &name)) < 0 || (err = req_end(r)) < 0)
		return err;
	if (!is_user(name))
		return -EOPNOTSUPP;
	if ((fd = xattr_fd(r, &tmp)) < 0)
		return fd;
	len = fgetxattr(fd, name, r->s->reply, XATTR_MAX);
	return len < 0 ? host_err(errno) : reply_sized(r, size, (size_t)len);
}

/* Drop all names but "user." ones from the list in @list; returns what is left. */
static size_t filter_names(char *list, size_t len)
{
	size_t out = 0;

	for (size_t at = 0; at < len;) {
		size_t n = strnlen(list + at, len - at) + 1;

		if (n > len - at)
			break;
		if (is_user(list + at)) {
			memmove(list + out, list + at, n);
			out += n;
		}
		at += n;
	}
	return out;
}

int op_listxattr(struct req *r)
{
	uint32_t size = rd_le32(&r->args);
	_close_ int tmp = -1;
	ssize_t len;
	int fd;

	rd_le32(&r->args);
	if (req_end(r) < 0)
		return -EINVAL;
	fd = xattr_fd(r, &tmp);
	if (fd == -EOPNOTSUPP)
		return reply_sized(r, size, 0); /* has none */
	if (fd < 0)
		return fd;
	len = flistxattr(fd, (char *)r->s->reply, XATTR_MAX);
	if (len < 0)
		return host_err(errno);
	return reply_sized(r, size, filter_names((char *)r->s->reply, (size_t)len));
}

int op_removexattr(struct req *r)
{
	_close_ int tmp = -1;
	const char *name;
	int fd, err;

	if ((err = xattr_name(r, &name)) < 0 || (err = req_end(r)) < 0)
		return err;
	if (!is_user(name))
		return -EOPNOTSUPP;
	if ((fd = xattr_fd(r, &tmp)) < 0)
		return fd;
	return fremovexattr(fd, name) < 0 ? host_err(errno) : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The guest agent protocol: frames on vsock streams between the host side and hutch-init.
 *
 * Frame: le32 payload length (at most AGENT_PAYLOAD_MAX), u8 type, payload. Integers are little
 * endian; a string is le32 length and bytes without NUL inside; a list is le32 count and strings.
 * Every payload must be consumed exactly. Both sides treat the other's bytes as hostile.
 *
 * Control stream: opened by hutch-init to the host (CID 2, AGENT_CONTROL_PORT), once per boot.
 *     guest: HELLO            host: CA* SETUP        guest: READY | ERROR
 *     later the host may send EXPORT (guest: DONE | ERROR), CLOCK and SHUTDOWN.
 *     The stream's end means that the supervisor is gone: the guest powers off.
 *
 * Operation streams: opened by the host to the guest (AGENT_PORT), one per operation; the first
 * frame says which.
 *     EXEC: host  EXEC (STDIN* STDIN_EOF? RESIZE* SIGNAL*)
 *           guest STARTED (STDOUT* STDERR* STDIN_ACK*) EXIT, or ERROR
 *           At most AGENT_STDIN_WINDOW bytes of STDIN may be unacknowledged, so a signal is never
 *           stuck behind input that nobody reads. A stream that ends before EXIT kills the
 *           command's process group (SIGHUP, then SIGKILL).
 *     PUT:  host  PUT (ENTRY DATA*)* END           guest DONE | ERROR
 *     DIAL: host  DIAL   guest DONE | ERROR, after which the stream carries raw bytes.
 *     DIAL_UDP: host  DIAL_UDP DATAGRAM*   guest DATAGRAM* | ERROR
 *           One peer of a UDP port. Either side drops what it cannot pass on at once.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/rd.h"

/* Raised with every change that the other side would not understand. */
#define AGENT_VERSION	   2
#define AGENT_PORT	   1024u
#define AGENT_CONTROL_PORT 1024u
#define AGENT_SSH_PORT	   1025u /* of the host, too: the user's ssh-agent, if the sandbox has it */
#define AGENT_SSH_SOCKET   "/run/hutch-ssh-agent.sock"
#define AGENT_STORE	   "/var/lib/hutch/store" /* volumes, on the bare disk; root's */
#define AGENT_PAYLOAD_MAX  (64u << 10)
#define AGENT_HEADER	   5u
#define AGENT_DATA_MAX	   (32u << 10) /* bytes of stream data in one frame that we send */
#define AGENT_STDIN_WINDOW (256u << 10)
#define AGENT_LIST_MAX	   4096u /* strings in one list */
#define AGENT_DATAGRAM_MAX 65507u /* what UDP over IPv4 carries */

enum agent_type {
	/* control stream */
	AGENT_HELLO = 1,   /* guest: le32 version, string kernel release */
	AGENT_CA,	   /* host: PEM text, appended to what came before */
	AGENT_SETUP,	   /* host: struct agent_setup */
	AGENT_READY,	   /* guest: empty */
	AGENT_EXPORT,	   /* host: struct agent_export */
	AGENT_CLOCK,	   /* host: le64 nanoseconds since the epoch */
	AGENT_SHUTDOWN,	   /* host: empty; sync, unmount, power off */
	/* any stream */
	AGENT_ERROR = 32,  /* guest: le32 errno (0: none), string text */
	AGENT_DONE,	   /* guest: empty */
	/* operations */
	AGENT_EXEC = 64,   /* host: struct agent_exec */
	AGENT_STARTED,	   /* guest: le32 pid */
	AGENT_STDIN,	   /* host: bytes */
	AGENT_STDIN_EOF,   /* host: empty */
	AGENT_STDIN_ACK,   /* guest: le32 bytes written to the command */
	AGENT_STDOUT,	   /* guest: bytes (terminal output too) */
	AGENT_STDERR,	   /* guest: bytes */
	AGENT_RESIZE,	   /* host: le16 rows, le16 columns */
	AGENT_SIGNAL,	   /* host: le32 signal number, to the foreground process group */
	AGENT_EXIT,	   /* guest: le32 exit code, le32 signal (0: exited), le32 programs that were killed for
			    * want of memory, where that may be why */
	AGENT_PUT = 96,	   /* host: empty */
	AGENT_ENTRY,	   /* host: struct agent_entry */
	AGENT_DATA,	   /* host: bytes of the last ENTRY */
	AGENT_END,	   /* host: empty */
	AGENT_DIAL = 112,  /* host: le16 TCP port on the guest's loopback */
	AGENT_DIAL_UDP,	   /* host: le16 UDP port on the guest's loopback */
	AGENT_DATAGRAM,	   /* both: the bytes of one datagram, perhaps none */
};

/* One shared folder: child @name of the virtio-fs root, mounted at @path. */
struct agent_export {
	char *name, *path; /* owned */
	bool read_only;
};

struct agent_setup {
	char *hostname;		     /* owned */
	uint64_t clock_ns;	     /* wall clock at sending */
	struct agent_export *exports; /* owned array */
	size_t n_exports;
	struct strv env; /* K=V for every command and login shell */
};

enum {
	AGENT_EXEC_TTY = 1 << 0,
	/* Of the sandbox's variables the command sees PATH, HOME and those that env names (without a
	 * value) and no others. */
	AGENT_EXEC_BOUNDED = 1 << 1,
};

struct agent_exec {
	uint32_t flags;
	uint16_t rows, cols;
	char *user; /* owned: name or number, "" for agent */
	char *cwd;  /* owned: "" for the user's home */
	struct strv argv, env;
};

enum agent_entry_kind { AGENT_ENTRY_FILE = 1, AGENT_ENTRY_DIR, AGENT_ENTRY_SYMLINK };
enum { AGENT_ENTRY_ONLY_IF_MISSING = 1 << 0 };

struct agent_entry {
	uint8_t kind;	   /* enum agent_entry_kind */
	uint8_t flags;
	uint16_t mode;	   /* permission bits */
	uint32_t uid, gid; /* new parent directories get them too */
	uint64_t size;	   /* of the DATA that follows; files only */
	char *path;	   /* owned, absolute */
	char *target;	   /* owned, symlinks */
};

/* Begin a frame in @b and return a mark for agent_frame_end, which fills in the length. A frame
 * over the ceiling marks the buffer failed. */
size_t agent_frame_begin(struct buf *b, enum agent_type type);
void agent_frame_end(struct buf *b, size_t mark);
/* A whole frame in one go. */
int agent_put(struct buf *b, enum agent_type type, const void *payload, size_t len);
void agent_put_string(struct buf *b, const char *s);
void agent_put_strv(struct buf *b, const struct strv *l);

void agent_put_setup(struct buf *b, const struct agent_setup *s);
void agent_put_export(struct buf *b, const struct agent_export *e);
void agent_put_exec(struct buf *b, const struct agent_exec *e);
void agent_put_entry(struct buf *b, const struct agent_entry *e);
void agent_put_error(struct buf *b, uint32_t errnum, const char *text);
void agent_put_exit(struct buf *b, uint32_t code, uint32_t sig, uint32_t starved);
void agent_put_port(struct buf *b, enum agent_type type, uint16_t port);

/* The next whole frame at the front of @b: 1 and type + payload reader (valid until the buffer
 * changes; consume AGENT_HEADER + payload length with agent_consume), 0 when more bytes are
 * needed, -1 when the peer broke the protocol (length over the ceiling). */
int agent_next(const struct buf *b, uint8_t *ret_type, struct rd *ret_payload);
void agent_consume(struct buf *b);

/* Readers: 0, or -1 when the payload is not exactly one such value. Filled structures must be
 * released with the _done function in both cases. */
char *agent_get_string(struct rd *r); /* owned, or NULL with r->bad */
int agent_get_strv(struct rd *r, struct strv *l);
int agent_get_setup(struct rd r, struct agent_setup *s);
int agent_get_export(struct rd r, struct agent_export *e);
int agent_get_exec(struct rd r, struct agent_exec *e);
int agent_get_entry(struct rd r, struct agent_entry *e);
int agent_get_error(struct rd r, uint32_t *ret_errnum, char **ret_text);
int agent_get_exit(struct rd r, uint32_t *ret_code, uint32_t *ret_sig, uint32_t *ret_starved);
int agent_get_port(struct rd r, uint16_t *ret);
void agent_setup_done(struct agent_setup *s);
void agent_export_done(struct agent_export *e);
void agent_exec_done(struct agent_exec *e);
void agent_entry_done(struct agent_entry *e);
